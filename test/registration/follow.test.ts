import { execFileSync } from 'node:child_process';
import { readFile, readdir } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { proposeUpdate } from '../../runner/registration/propose.js';
import { runChecks } from '../../runner/warehouse/checks.js';
import type { Settings } from '../../runner/base/settings.js';
import { writeDimensionFile } from '../../runner/registration/files.js';
import { TidemarkError } from '../../runner/base/errors.js';
import { migrateDimensions } from '../../runner/warehouse/migrate.js';
import { extractTables } from '../../runner/extract/tables.js';
import type { UpdateOptions } from '../../runner/registration/options.js';
import { parseTableName } from '../../runner/source/catalog.js';
import { tableArgument } from '../../runner/base/sql-text.js';
import { runCli } from '../support/cli.js';
import {
  createWarehouseDatabase,
  preparePipeline,
  type PreparedPipeline,
  type TestPipeline,
} from '../support/databases.js';
import { withDimensionsFolder } from '../support/registered.js';
import { asOwner } from '../support/roles.js';
import { loadTables } from '../../runner/load/tables.js';

/** How a registered table follows its source: tidemark.add_dimension_column, tidemark.rename_source_column, and tidemark.retire_source_column. */

let prepared: PreparedPipeline;
let pipeline: TestPipeline;
let settings: Settings;
beforeAll(async () => {
  prepared = await preparePipeline(async (first) => {
    settings = await withDimensionsFolder(first);
    await first.source`insert into customers (id, full_name, email, updated_at, created_at) values (1, 'Ada', 'a@x', '2026-02-01 09:00+00', '2026-02-01 09:00+00'), (2, 'Bo', 'b@x', '2026-02-01 09:00+00', '2026-02-01 09:00+00')`;
    await flow();
  });
});
afterAll(() => prepared.drop());
beforeEach(async () => {
  pipeline = await prepared.begin();
});
afterEach(async () => {
  await pipeline.drop();
});

const extract = (full = false) => extractTables({ settings, tables: ['customers'], full });
const load = () => loadTables({ settings, tables: ['customers'] });
async function flow(full = false) {
  await extract(full);
  return load();
}

const NOTHING_SAID: UpdateOptions = { track: [], untracked: [], ignore: [], retire: [], rename: new Map() };
const propose = (said: Partial<UpdateOptions> = {}, table = 'customers') =>
  proposeUpdate(settings, parseTableName(table), undefined, { ...NOTHING_SAID, ...said });

/** Writes the migration that follows the source, and runs it. */
async function follow(said: Partial<UpdateOptions> = {}): Promise<string> {
  const proposed = await propose(said);
  if (proposed === undefined) throw new Error('there was nothing to follow');
  await writeDimensionFile(settings.dimensions_dir, proposed.words, proposed.text);
  await migrateDimensions(asOwner(settings.warehouse), settings.dimensions_dir);
  return proposed.text;
}

const versions = (columns: string) =>
  pipeline.warehouse.unsafe<Record<string, unknown>[]>(
    `select customer_key, ${columns} from dim_customers_history order by customer_key, valid_from`,
  );
const touch = (id: number, change: string, minute: number) =>
  pipeline.source.unsafe(
    `update customers set ${change}, updated_at = '2026-02-01 09:${String(minute).padStart(2, '0')}+00' where id = ${String(id)}`,
  );
const files = async () =>
  (await readdir(path.join(settings.cdc_log_dir, 'customers'))).filter((name) => name.startsWith('changes_'));
const violations = async () =>
  (await runChecks(pipeline.warehouse, ['pipeline', 'scd2'])).filter((result) => result.violations > 0);

describe('the name of a table in a command that a message gives', () => {
  it.each([
    ['public', 'customers', 'public.customers'],
    ['public', 'Order Items', "'public.Order Items'"],
    ['a.b', 'it\'s "x"', `'"a.b"."it'\\''s ""x"""'`],
  ])('%s, %s goes through a shell and is the same table', (schema, name, argument) => {
    expect(tableArgument(schema, name)).toBe(argument);
    const read = execFileSync('bash', ['-c', `printf %s ${argument}`]).toString();
    expect(parseTableName(read)).toEqual({ schema, table: name });
  });
});

describe('a column that is added at the source', () => {
  beforeEach(async () => {
    await pipeline.source`alter table customers add column phone text default 'none', add column "Nick Name" text`;
  });

  it('is warned of with the command that adds it, and history goes on without it', async () => {
    await touch(1, "city = 'Rome'", 10);
    const extracted = await runCli(['extract', '--table', 'customers'], pipeline.env);
    expect(extracted.stderr).toMatch(/not mapped to history.*npx tidemark add --update public\.customers/);
    expect(extracted.stderr).toContain('phone');
    expect(extracted.code).toBe(0);
    expect(await load()).toMatchObject([{ inserted_versions: 1 }]);
  });

  it('is added by one migration, which versions no row that did not change', async () => {
    const text = await follow({ untracked: ['Nick Name'] });
    expect(text).toContain('alter table public.dim_customers_history add column phone text;');
    expect(text).toContain("p_role => 'untracked'");
    expect(await flow(true)).toMatchObject([{ inserted_versions: 0, absorbed_changes: 2 }]);
    expect(await versions('phone')).toEqual([
      { customer_key: 1, phone: 'none' },
      { customer_key: 2, phone: 'none' },
    ]);
    expect(await pipeline.warehouse`select phone from dim_customers_current where customer_key = 1`).toEqual([
      { phone: 'none' },
    ]);
    await touch(1, "phone = '1'", 10);
    expect(await flow()).toMatchObject([{ inserted_versions: 1, closed_versions: 1 }]);
    await touch(1, '"Nick Name" = \'Addie\'', 11);
    expect(await flow()).toMatchObject([{ inserted_versions: 0, absorbed_changes: 1 }]);
    expect(await versions('phone, "Nick Name"')).toMatchObject([
      { phone: 'none' },
      { phone: '1', 'Nick Name': 'Addie' },
      { phone: 'none' },
    ]);
    expect(await propose()).toBeUndefined();
    expect(await violations()).toEqual([]);
  });

  it('is left out for good when that is said, and is never warned of again', async () => {
    const text = await follow({ ignore: ['phone', 'Nick Name'] });
    expect(text).toContain("p_source_columns => array['phone', 'Nick Name']");
    const { stderr } = await runCli(['extract', '--table', 'customers'], pipeline.env);
    expect(stderr).not.toContain('not mapped');
    expect(await propose()).toBeUndefined();
  });

  it('takes another name in history where that is said, or where its own is taken', async () => {
    await pipeline.source`alter table customers add column batch_id integer`;
    const proposed = await propose({ rename: new Map([['phone', 'telephone']]) });
    expect(proposed?.update.added.map(({ source, history }) => [source, history])).toEqual([
      ['phone', 'telephone'],
      ['Nick Name', 'Nick Name'],
      ['batch_id', 'source_batch_id'],
    ]);
  });
});

describe('a table that is renamed at the source', () => {
  it('stops extraction with the command that follows, and goes on from where it was under its own name', async () => {
    await pipeline.source.unsafe(
      'create schema crm; alter table customers set schema crm; alter table crm.customers rename to clients',
    );
    await expect(extract()).rejects.toMatchObject({
      message: 'source table public.customers does not exist',
      hint: expect.stringContaining('npx tidemark add --update public.customers --source') as string,
    });
    const { code, stdout, stderr } = await runCli(
      ['add', '--update', 'customers', '--source', 'crm.clients', '--json'],
      {
        ...pipeline.env,
        DIMENSIONS_DIR: settings.dimensions_dir,
      },
    );
    expect(code, stderr).toBe(0);
    expect(stdout).toContain('select tidemark.move_source(');
    await migrateDimensions(asOwner(settings.warehouse), settings.dimensions_dir);
    expect(await extract()).toMatchObject([{ table: 'customers', changes: 0 }]);
    await pipeline.source`update crm.clients set city = 'Rome', updated_at = '2026-02-01 09:10+00' where id = 1`;
    expect(await flow()).toMatchObject([{ inserted_versions: 1, closed_versions: 1 }]);
    expect(await violations()).toEqual([]);
    expect((await runCli(['add', 'crm.clients', '--source', 'crm.clients'], pipeline.env)).code).toBe(2);
  });
});

describe('a column that is renamed at the source', () => {
  beforeEach(async () => {
    await touch(2, "full_name = 'Bob'", 5);
    await extract();
    await pipeline.source`alter table customers rename full_name to name`;
  });

  it('stops extraction before anything is written, and is followed by one readable migration', async () => {
    const before = await files();
    await expect(extract()).rejects.toMatchObject({
      message: 'source table public.customers lacks columns that its mapping names: full_name',
      hint: expect.stringContaining('add --update public.customers --rename full_name=<its new name>') as string,
    });
    expect(await files()).toEqual(before);
    await expect(propose()).rejects.toMatchObject({
      message: 'columns of public.customers are gone at the source: full_name',
      hint: expect.stringContaining('--rename full_name=<its new name>') as string,
    });
    const text = await follow({ rename: new Map([['full_name', 'name']]) });
    expect(
      text
        .split('\n')
        .filter((line) => !line.startsWith('--'))
        .join('\n'),
    ).toContain(
      "select tidemark.rename_source_column(\n    p_dimension_name => 'customers',\n    p_from => 'full_name',\n    p_to => 'name'\n);",
    );
    // The batch that was waiting still has the old name.
    expect(await load()).toMatchObject([{ inserted_versions: 1, closed_versions: 1 }]);
    await touch(1, "name = 'Ada L.'", 10);
    expect(await flow()).toMatchObject([{ inserted_versions: 1, closed_versions: 1 }]);
    expect(await versions('full_name')).toEqual([
      { customer_key: 1, full_name: 'Ada' },
      { customer_key: 1, full_name: 'Ada L.' },
      { customer_key: 2, full_name: 'Bo' },
      { customer_key: 2, full_name: 'Bob' },
    ]);
    expect(await violations()).toEqual([]);
  });

  it('may be renamed again before the batches of either name are loaded', async () => {
    await follow({ rename: new Map([['full_name', 'name']]) });
    await touch(1, "name = 'Ada L.'", 10);
    await extract();
    await pipeline.source`alter table customers rename name to whole_name`;
    await follow({ rename: new Map([['name', 'whole_name']]) });
    expect(await load()).toMatchObject([{ batches: 2, inserted_versions: 2 }]);
    expect(await versions('full_name')).toHaveLength(4);
  });
});

describe('a name that is given to another column', () => {
  it('after a rename means that one, when the renamed column is retired too, and batches of each time load right in any order', async () => {
    await touch(1, "full_name = 'Ada 1'", 1);
    await extract();
    await pipeline.source`alter table customers rename full_name to name`;
    await follow({ rename: new Map([['full_name', 'name']]) });
    await touch(1, "name = 'Ada 2'", 2);
    await extract();
    await pipeline.source`alter table customers add full_name text`;
    await follow();
    await touch(1, "name = 'Ada 3', full_name = 'new 3'", 3);
    await extract();
    await pipeline.source`alter table customers drop column name`;
    await follow({ retire: ['name'] });
    await touch(1, "full_name = 'new 4'", 4);
    await extract();
    // Four batches wait, with the columns full_name; name; name and full_name; full_name, which is another one by now.
    const documents = await Promise.all(
      (await files()).sort().map((name) => readFile(path.join(settings.cdc_log_dir, 'customers', name), 'utf8')),
    );
    expect(documents).toHaveLength(4);
    for (const document of documents.reverse())
      await pipeline.warehouse`select * from tidemark.apply_batch(p_batch => ${document}::text::json)`;
    expect((await versions('full_name, source_full_name')).filter(({ customer_key: key }) => key === 1)).toEqual([
      { customer_key: 1, full_name: 'Ada', source_full_name: null },
      { customer_key: 1, full_name: 'Ada 1', source_full_name: null },
      // Not versioned for the new column: its first value is taken in place.
      { customer_key: 1, full_name: 'Ada 2', source_full_name: null },
      { customer_key: 1, full_name: 'Ada 3', source_full_name: 'new 3' },
      { customer_key: 1, full_name: null, source_full_name: 'new 4' },
    ]);
    expect(await violations()).toEqual([]);
    // A warehouse made anew follows every rename after every batch was extracted: no clock tells what a name meant, the batch does.
    const anew = await createWarehouseDatabase();
    await migrateDimensions(anew.settings, settings.dimensions_dir);
    for (const document of documents.reverse())
      await anew.sql`select * from tidemark.apply_batch(p_batch => ${document}::text::json)`;
    expect(await anew.sql`select full_name, source_full_name from dim_customers_history order by valid_from`).toEqual([
      { full_name: 'Ada 1', source_full_name: null },
      { full_name: 'Ada 2', source_full_name: null },
      { full_name: 'Ada 3', source_full_name: 'new 3' },
      { full_name: null, source_full_name: 'new 4' },
    ]);
    await anew.drop();
  });

  it('at the same time as the rename is followed by one migration', async () => {
    await pipeline.source`alter table customers rename full_name to name`;
    await pipeline.source`alter table customers add full_name text`;
    const text = await follow({ rename: new Map([['full_name', 'name']]) });
    expect(text).toMatch(/rename_source_column[\s\S]*add column source_full_name text/);
    await touch(1, "full_name = 'new'", 1);
    await flow();
    expect((await versions('full_name, source_full_name')).at(0)).toEqual({
      customer_key: 1,
      full_name: 'Ada',
      source_full_name: 'new',
    });
  });

  it('is not taken for the former one in a document from elsewhere that was captured since', async () => {
    await pipeline.source`alter table customers rename full_name to name`;
    await follow({ rename: new Map([['full_name', 'name']]) });
    await pipeline.source`alter table customers add full_name text`;
    await follow();
    const document = (at: string) =>
      JSON.stringify({
        batch_metadata: { batch_id: `by_hand_${at}`, table: 'customers', extracted_at: at, change_count: 1 },
        changes: [
          {
            id: 9,
            full_name: at,
            email: 'x',
            city: 'y',
            loyalty_tier: 'basic',
            operation_type: 'INSERT',
            cdc_timestamp: at,
            extracted_at: at,
          },
        ],
      });
    const later = new Date(Date.now() + 60_000).toISOString();
    for (const at of ['2026-02-01T10:00:00Z', later])
      await pipeline.warehouse`select * from tidemark.apply_batch(p_batch => ${document(at)}::text::json)`;
    expect((await versions('full_name, source_full_name')).filter(({ customer_key: key }) => key === 9)).toEqual([
      { customer_key: 9, full_name: '2026-02-01T10:00:00Z', source_full_name: later },
    ]);
  });
});

describe('a document from elsewhere', () => {
  it('has the names of the time at which each change was captured, whatever the document says of itself', async () => {
    await pipeline.source`alter table customers rename full_name to name`;
    await follow({ rename: new Map([['full_name', 'name']]) });
    await pipeline.source`alter table customers add full_name text`;
    await follow();
    const [early, later] = ['2026-02-01T10:00:00Z', new Date(Date.now() + 60_000).toISOString()];
    const document = (id: number, extractedAt: string, captured: string) =>
      JSON.stringify({
        batch_metadata: {
          ...{ batch_id: `by_hand_${String(id)}`, table: 'customers', extracted_at: extractedAt, change_count: 1 },
        },
        changes: [
          {
            ...{ id, full_name: captured, email: 'x', city: 'y', loyalty_tier: 'basic' },
            ...{ operation_type: 'INSERT', cdc_timestamp: early, extracted_at: captured },
          },
        ],
      });
    for (const text of [document(8, later, early), document(9, early, later)])
      await pipeline.warehouse`select * from tidemark.apply_batch(p_batch => ${text}::text::json)`;
    expect((await versions('full_name, source_full_name')).filter(({ customer_key: key }) => Number(key) > 7)).toEqual([
      { customer_key: 8, full_name: early, source_full_name: null },
      { customer_key: 9, full_name: null, source_full_name: later },
    ]);
  });
});

describe('columns that change places at the source', () => {
  it('are followed where that is said: a value stays with its column, in batches that wait too', async () => {
    await touch(1, "full_name = 'Ada 1', city = 'Rome 1'", 1);
    await extract();
    await pipeline.source.unsafe(
      'alter table customers rename full_name to aside; alter table customers rename city to full_name; alter table customers rename aside to city',
    );
    const text = await follow({
      rename: new Map([
        ['full_name', 'city'],
        ['city', 'full_name'],
      ]),
    });
    expect(text.match(/rename_source_column/g)).toHaveLength(3);
    await touch(1, "city = 'Ada 2', full_name = 'Rome 2'", 2);
    await flow();
    expect((await versions('full_name, city')).slice(0, 3)).toMatchObject([
      { full_name: 'Ada' },
      { full_name: 'Ada 1', city: 'Rome 1' },
      { full_name: 'Ada 2', city: 'Rome 2' },
    ]);
    expect(await propose()).toBeUndefined();
    expect(await violations()).toEqual([]);
  });
});

describe('a column that is dropped at the source', () => {
  it('is retired by one migration: history keeps what it has, batches from before still load, no row is versioned', async () => {
    await touch(1, "city = 'Rome'", 5);
    await extract();
    await pipeline.source`alter table customers drop column city`;
    await expect(extract()).rejects.toThrow('lacks columns that its mapping names: city');
    const text = await follow({ retire: ['city'] });
    expect(text).toContain('alter table public.dim_customers_history alter column city drop not null;');
    expect(await load()).toMatchObject([{ inserted_versions: 1 }]);
    expect(await flow(true)).toMatchObject([{ inserted_versions: 0, absorbed_changes: 2 }]);
    await touch(1, "email = 'ada@x'", 10);
    expect(await flow()).toMatchObject([{ inserted_versions: 1 }]);
    expect((await versions('city'))[1]).toEqual({ customer_key: 1, city: 'Rome' });
    await pipeline.source`alter table customers add column city text`;
    expect((await propose())?.update).toMatchObject({ added: [], returned: ['city'] });
    await follow();
    await touch(2, "city = 'Oslo'", 11);
    await flow();
    expect(await pipeline.warehouse`select city from dim_customers_current where customer_key = 2`).toEqual([
      { city: 'Oslo' },
    ]);
    expect(await violations()).toEqual([]);
  });

  it('cannot be retired if history hangs on it', async () => {
    await pipeline.source`alter table customers rename updated_at to changed_at`;
    await expect(propose({ retire: ['updated_at'] })).rejects.toMatchObject({
      message: 'updated_at, the effective time of public.customers, is gone at the source',
      hint: expect.stringContaining('--rename updated_at=') as string,
    });
    await follow({ rename: new Map([['updated_at', 'changed_at']]) });
    await pipeline.source`update customers set city = 'Rome', changed_at = '2026-02-01 10:00+00' where id = 1`;
    expect(await flow()).toMatchObject([{ inserted_versions: 1 }]);
  });
});

describe('a column that gets another type at the source', () => {
  it('that history holds as well goes on without a word', async () => {
    await pipeline.source`alter table customers alter column full_name type varchar(200)`;
    await touch(1, "full_name = 'Ada L.'", 10);
    expect(await flow()).toMatchObject([{ inserted_versions: 1 }]);
  });

  it('that does not fit stops extraction before anything is written, until a migration makes room', async () => {
    await pipeline.source`insert into products (id, title, category, unit_price) values (1, 'Tea', 'kitchen', 1.50)`;
    await extractTables({ settings, tables: ['products'] });
    await loadTables({ settings, tables: ['products'] });
    await pipeline.source`alter table products alter column unit_price type numeric(12, 4), alter column stock type bigint`;
    await pipeline.source`update products set unit_price = 1.2345, stock = 5000000000, last_updated = now()`;
    const log = path.join(settings.cdc_log_dir, 'products');
    const before = await readdir(path.join(log, 'checkpoints'));
    await expect(extractTables({ settings, tables: ['products'] })).rejects.toMatchObject({
      message: 'columns of public.products have another type now, which does not fit into history',
      detail: expect.stringContaining(
        'unit_price was numeric(10,2) and is numeric(12,4), history column unit_price is numeric(10,2); stock was integer and is bigint',
      ) as string,
      hint: expect.stringContaining('npx tidemark add --update public.products') as string,
    });
    expect(await readdir(path.join(log, 'checkpoints'))).toEqual(before);
    const proposed = await propose({}, 'products');
    // 1.50 would print as 1.5000 there, and be another value: only text holds both as they were.
    expect(proposed?.update.retyped).toEqual([
      { history: 'unit_price', from: 'numeric(10,2)', type: 'text' },
      { history: 'stock', from: 'integer', type: 'bigint' },
    ]);
    await writeDimensionFile(settings.dimensions_dir, 'widen', proposed?.text ?? '');
    await migrateDimensions(asOwner(settings.warehouse), settings.dimensions_dir);
    await extractTables({ settings, tables: ['products'] });
    expect(await loadTables({ settings, tables: ['products'] })).toMatchObject([
      { inserted_versions: 1, closed_versions: 1 },
    ]);
    expect(
      await pipeline.warehouse`select unit_price, stock::text as stock from dim_products_history order by valid_from`,
    ).toEqual([
      { unit_price: '1.50', stock: '0' },
      { unit_price: '1.2345', stock: '5000000000' },
    ]);
    expect(await pipeline.warehouse`select unit_price from dim_products_current`).toEqual([{ unit_price: '1.2345' }]);
    expect(await violations()).toEqual([]);
  });
});

describe('an effective time that gets the other kind of timestamp at the source', () => {
  it('stops extraction and update alike, and both say what to do; done, it goes on', async () => {
    await pipeline.source`alter table customers alter column updated_at type timestamp using updated_at at time zone 'UTC'`;
    await touch(1, "city = 'Rome'", 10);
    const hint =
      /undo it at the source: (alter table public\.customers alter column updated_at type timestamp with time zone using updated_at at time zone 'UTC').*; or begin a new history beside this one: npx tidemark add public\.customers --name customers_2/;
    await expect(propose()).rejects.toMatchObject({
      message: expect.stringContaining(
        'updated_at, the effective time of public.customers, was timestamp with time zone and is timestamp without time zone',
      ) as string,
      hint: expect.stringMatching(hint) as string,
    });
    const failure = await extract().catch((error: unknown) => error as TidemarkError);
    if (!(failure instanceof TidemarkError)) throw new Error('extraction went on');
    const [, statement = ''] = hint.exec(failure.hint ?? '') ?? [];
    await pipeline.source.unsafe(statement);
    expect(await flow()).toMatchObject([{ inserted_versions: 1, closed_versions: 1 }]);
    expect(await propose()).toBeUndefined();
  });
});

describe('add --update refuses', () => {
  it.each<[string, Partial<UpdateOptions>, string]>([
    ['to track what is mapped', { track: ['city'] }, 'public.customers has no new column city'],
    ['to ignore what is mapped', { ignore: ['city'] }, 'column city is mapped to history'],
    ['to retire what is there', { retire: ['city'] }, '--retire city: it is no mapped column that is gone'],
    [
      'to rename what is neither new nor mapped',
      { rename: new Map([['town', 'city']]) },
      '--rename town=city: neither was town renamed',
    ],
    [
      'a new name that the source does not have',
      { rename: new Map([['city', 'town']]) },
      '--rename city=town: the source has no column town',
    ],
    [
      'a new name that another column has and keeps',
      { rename: new Map([['city', 'email']]) },
      '--rename city=email: email is mapped to history itself',
    ],
    [
      'a rename that changes nothing',
      { rename: new Map([['city', 'city']]) },
      '--rename city=city: both names are the same',
    ],
  ])('%s', async (_, said, message) => {
    await expect(propose(said)).rejects.toMatchObject({
      exitCode: 2,
      message: expect.stringContaining(message) as string,
      hint: expect.any(String) as string,
    });
  });

  it('a table that is not registered, and one that several dimensions follow', async () => {
    await pipeline.source`create table strangers (id integer primary key, updated_at timestamptz)`;
    await expect(propose({}, 'strangers')).rejects.toMatchObject({
      exitCode: 2,
      message: 'no dimension follows public.strangers',
    });
    const { code, stderr } = await runCli(['add', 'customers', '--update', '--key', 'email'], pipeline.env);
    expect({ code, stderr }).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('--update cannot change --key') as string,
    });
    expect((await runCli(['add', 'customers', '--retire', 'city'], pipeline.env)).code).toBe(2);
  });

  it('nothing where there is nothing to follow: it says so', async () => {
    const { code, stdout } = await runCli(['add', 'public.customers', '--update'], pipeline.env);
    expect({ code, stdout }).toEqual({
      code: 0,
      stdout: 'nothing to update: history knows every column of the source\n',
    });
  });
});
