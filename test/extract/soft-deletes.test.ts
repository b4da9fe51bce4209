import { readFile, readdir } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { proposeUpdate } from '../../runner/registration/propose.js';
import { runChecks } from '../../runner/warehouse/checks.js';
import type { Settings } from '../../runner/base/settings.js';
import { writeDimensionFile } from '../../runner/registration/files.js';
import { examine } from '../../runner/operate/doctor.js';
import { migrateDimensions } from '../../runner/warehouse/migrate.js';
import { extractTables } from '../../runner/extract/tables.js';
import { reconcileTables } from '../../runner/reconcile/tables.js';
import type { RegistrationOptions, UpdateOptions } from '../../runner/registration/options.js';
import { parseTableName } from '../../runner/source/catalog.js';
import { runCli } from '../support/cli.js';
import { createPipeline, type TestPipeline } from '../support/databases.js';
import { propose, register, withDimensionsFolder } from '../support/registered.js';
import { asOwner, owning } from '../support/roles.js';
import { loadTables } from '../../runner/load/tables.js';
import { verifyTables } from '../../runner/load/replay.js';

/** deletes = 'soft': the source keeps a deleted row and marks it, in tidemark.dimensions.deleted_column. */

let pipeline: TestPipeline;
let settings: Settings;
/** Of the test. */
let table = 'items';
let tests = 0;
beforeAll(async () => {
  pipeline = await createPipeline({ WATERMARK_ADVANCE_SECONDS: '0' });
  settings = await withDimensionsFolder(pipeline);
});
afterAll(async () => {
  await pipeline.drop();
});
beforeEach(() => {
  tests += 1;
  table = `items_${String(tests)}`;
});

const extract = (tables: readonly string[] = [table]) => extractTables({ settings, tables });
const load = (tables: readonly string[] = [table]) => loadTables({ settings, tables });
async function flow(tables?: readonly string[]) {
  await extract(tables);
  return load(tables);
}

const KEYS = {
  plain: 'id integer primary key',
  composite: "id integer, region text default 'north', primary key (region, id)",
} as const;

/** A table whose rows are marked by `mark`, with rows 1 to 3. */
async function createItems(mark: string, key: keyof typeof KEYS = 'plain', name = table): Promise<void> {
  await pipeline.source.unsafe(
    `create table ${name} (${KEYS[key]}, name text, ${mark}, updated_at timestamptz not null, created_at timestamptz not null)`,
  );
  await pipeline.source.unsafe(
    `insert into ${name} (id, name, updated_at, created_at) select g, 'item ' || g, '2026-02-01 09:00+00', '2026-02-01 09:00+00' from generate_series(1, 3) as g`,
  );
}

const change = (id: number, what: string, minute: number, name = table) =>
  pipeline.source.unsafe(
    `update ${name} set ${what}, updated_at = '2026-02-01 09:${String(minute).padStart(2, '0')}+00' where id = ${String(id)}`,
  );

const RENAMED = { rename: new Map([['id', 'item_key']]) };
const registerItems = (said: Partial<RegistrationOptions>) => register(settings, table, { ...RENAMED, ...said });

/** The lives of a row: each version as name, beginning and end. */
const lives = async (id: number, name = table) =>
  (
    await pipeline.warehouse<{ life: string }[]>`
  select format('%s %s-%s %s', name, to_char(valid_from, 'HH24:MI'), to_char(valid_to, 'HH24:MI'), cdc_operation) as life
  from ${pipeline.warehouse(`dim_${name}_history`)} where item_key = ${id} order by valid_from`
  ).map(({ life }) => life);

const violations = async () =>
  (await runChecks(pipeline.warehouse, ['pipeline', 'scd2'])).filter((result) => result.violations > 0);
const reconcile = async (repair = false) =>
  (await reconcileTables({ settings, tables: [table], repair, allowDeletes: true }))[0];

const MARKS: readonly [string, string, Partial<RegistrationOptions>, string, string][] = [
  ['a time that is set', 'deleted_at timestamptz', { deletes: 'soft' }, 'deleted_at = now()', 'deleted_at = null'],
  [
    'a boolean that is true',
    'gone boolean not null default false',
    { deleted_column: 'gone' },
    'gone = true',
    'gone = false',
  ],
  [
    'one of several words',
    "status text default 'on'",
    { deleted_column: 'status', deleted_values: ['deleted', 'it\'s, "gone"'] },
    `status = 'it''s, "gone"'`,
    "status = 'on'",
  ],
  [
    'a word that is padded',
    "status char(20) default 'on'",
    { deleted_column: 'status', deleted_values: ['deleted'] },
    "status = 'deleted'",
    "status = 'on'",
  ],
  [
    'a number',
    'state smallint not null default 1',
    { deleted_column: 'state', deleted_values: ['0', '-1'] },
    'state = -1',
    'state = 2',
  ],
];

describe('a row that is marked', () => {
  // The first mark with either key, the others with one of them by turns.
  const keysOf = (index: number) =>
    (['plain', 'composite'] as const).slice(...(index === 0 ? [] : [index % 2, 1 + (index % 2)]));
  const items = MARKS.flatMap(([name, column, said, mark, unmark], index) =>
    keysOf(index).map((key) => ({
      ...{ name: `${name}, with a ${key} key`, own: `marked_${String(index)}_${key}` },
      ...{ column, key, said: { deletes: undefined, ...said }, mark, unmark },
    })),
  );
  const own = items.map((each) => each.own);
  /** Of each mark the same. */
  const all = <T>(expected: T) => Object.fromEntries(items.map(({ name }) => [name, expected]));
  /** What each mark came to. */
  const by = <T extends { readonly table: string }>(results: readonly T[]) =>
    Object.fromEntries(items.map((each) => [each.name, results.find((result) => result.table === each.own)]));
  const livesOf = async () =>
    Object.fromEntries(await Promise.all(items.map(async (each) => [each.name, await lives(1, each.own)] as const)));
  const changeAll = async (what: (each: (typeof items)[number]) => string, minute: number) => {
    for (const each of items) await change(1, what(each), minute, each.own);
  };
  const reconcileAll = async () =>
    by(await reconcileTables({ settings, tables: own, repair: false, allowDeletes: true }));

  it('ends its life, and begins another when the mark is taken away, whatever marks it, with a plain and a composite key', async () => {
    for (const each of items) {
      await createItems(each.column, each.key, each.own);
      const proposed = await propose(settings, each.own, { ...RENAMED, ...each.said });
      await writeDimensionFile(settings.dimensions_dir, proposed.words, proposed.text);
    }
    await migrateDimensions(asOwner(settings.warehouse), settings.dimensions_dir);
    await flow(own);
    await changeAll(({ mark }) => mark, 10);
    expect(by(await flow(own))).toMatchObject(
      all({ changes: 1, inserted_versions: 0, closed_versions: 1, rejected_changes: 0 }),
    );
    expect(await livesOf()).toEqual(all(['item 1 09:00-09:10 INSERT']));
    // What happens to a row that is deleted is no part of any life.
    await changeAll(() => "name = 'renamed'", 11);
    expect(by(await flow(own))).toMatchObject(
      all({ changes: 1, inserted_versions: 0, closed_versions: 0, absorbed_changes: 1 }),
    );
    expect(await reconcileAll()).toMatchObject(all({ differences: [], source_rows: 2, current_versions: 2 }));
    await changeAll(({ unmark }) => unmark, 20);
    expect(by(await flow(own))).toMatchObject(all({ inserted_versions: 1 }));
    expect(await livesOf()).toEqual(all(['item 1 09:00-09:10 INSERT', 'renamed 09:20- INSERT']));
    expect(await reconcileAll()).toMatchObject(all({ differences: [], source_rows: 3 }));
    expect(await violations()).toEqual([]);
    expect(by(await verifyTables(owning(settings), own))).toMatchObject(all({ differences: 0, missing: [] }));
  });
});

describe('a row that was deleted before anybody looked', () => {
  it('opens nothing, and is absorbed', async () => {
    await createItems('deleted_at timestamptz');
    await pipeline.source`update ${pipeline.source(table)} set deleted_at = now() where id = 2`;
    await registerItems({ deletes: 'soft' });
    expect(await flow()).toMatchObject([{ changes: 3, inserted_versions: 2, absorbed_changes: 1 }]);
    expect(await violations()).toEqual([]);
  });

  it('keeps all its columns in the batch, as a DELETE', async () => {
    await createItems('deleted_at timestamptz');
    await pipeline.source`update ${pipeline.source(table)} set deleted_at = '2026-02-01 08:00+00', updated_at = '2026-02-01 10:00+00' where id = 2`;
    await registerItems({ deletes: 'soft' });
    await extract();
    const folder = path.join(settings.cdc_log_dir, table);
    const [file = ''] = (await readdir(folder)).filter((name) => name.startsWith('changes_'));
    const { changes } = JSON.parse(await readFile(path.join(folder, file), 'utf8')) as { changes: object[] };
    expect(changes[2]).toMatchObject({
      id: 2,
      name: 'item 2',
      deleted_at: '2026-02-01T08:00:00+00:00',
      operation_type: 'DELETE',
      cdc_timestamp: '2026-02-01T10:00:00+00:00',
    });
  });
});

describe('reconcile of a table with soft deletes', () => {
  beforeEach(async () => {
    await createItems('deleted_at timestamptz');
    await registerItems({ deletes: 'soft' });
    await flow();
  });

  it('takes a marked row for gone: a version that is still in force is extra, and its repair is a delete', async () => {
    await pipeline.source`update ${pipeline.source(table)} set deleted_at = now(), updated_at = '2020-01-01' where id = 1`;
    await pipeline.warehouse`delete from ${pipeline.warehouse(`dim_${table}_history`)} where item_key = 3`;
    expect(await reconcile()).toMatchObject({ extra: 1, missing: 1, source_rows: 2 });
    expect(await reconcile(true)).toMatchObject({ repaired: 2 });
    expect(await reconcile()).toMatchObject({ differences: [], current_versions: 2 });
    expect(
      await pipeline.warehouse`select is_current from ${pipeline.warehouse(`dim_${table}_history`)} where item_key = 1`,
    ).toEqual([{ is_current: false }]);
  });

  it('finds nothing of a marked row that history does not have either, whatever its columns say', async () => {
    await change(1, "deleted_at = now(), name = 'other'", 10);
    await flow();
    await pipeline.source`update ${pipeline.source(table)} set name = 'another', updated_at = '2020-01-01' where id = 1`;
    expect(await reconcile()).toMatchObject({ differences: [] });
  });
});

describe('when the source changes', () => {
  const NOTHING_SAID: UpdateOptions = { track: [], untracked: [], ignore: [], retire: [], rename: new Map() };
  const update = (said: Partial<UpdateOptions> = {}) =>
    proposeUpdate(settings, parseTableName(table), undefined, { ...NOTHING_SAID, ...said });
  async function follow(said: Partial<UpdateOptions>): Promise<string> {
    const proposed = await update(said);
    if (proposed === undefined) throw new Error('there was nothing to follow');
    await writeDimensionFile(settings.dimensions_dir, proposed.words, proposed.text);
    await migrateDimensions(asOwner(settings.warehouse), settings.dimensions_dir);
    return proposed.text;
  }
  const policy = async () =>
    (
      await pipeline.warehouse`select deletes, deleted_column, deleted_values from tidemark.dimensions where dimension_name = ${table}`
    )[0];

  it('a renamed mark stops extraction before anything is written, and is followed by a migration', async () => {
    await createItems('deleted_at timestamptz');
    await registerItems({ deletes: 'soft' });
    await flow();
    await pipeline.source`alter table ${pipeline.source(table)} rename deleted_at to removed_at`;
    await expect(extract()).rejects.toThrow('lacks columns that its mapping names: deleted_at');
    await follow({ rename: new Map([['deleted_at', 'removed_at']]) });
    expect(await policy()).toMatchObject({ deletes: 'soft', deleted_column: 'removed_at' });
    await change(1, 'removed_at = now()', 10);
    expect(await flow()).toMatchObject([{ closed_versions: 1 }]);
    expect(await update()).toBeUndefined();
  });

  it('a dropped mark can be retired only once it is said how deletes are found from then on', async () => {
    await createItems('deleted_at timestamptz');
    await registerItems({ deletes: 'soft' });
    await flow();
    await pipeline.source`alter table ${pipeline.source(table)} drop deleted_at, add gone boolean default false`;
    await expect(update({ retire: ['deleted_at'] })).rejects.toMatchObject({
      message: `deleted_at, which marks deleted rows of public.${table}, is gone at the source`,
      hint: expect.stringContaining('--deletes none') as string,
    });
    await follow({ retire: ['deleted_at'], deleted_column: 'gone' });
    expect(await policy()).toEqual({ deletes: 'soft', deleted_column: 'gone', deleted_values: ['true'] });
    await change(1, 'gone = true', 10);
    expect(await flow()).toMatchObject([{ closed_versions: 1 }]);
  });

  it('a mark of another type stops extraction, and so does one that would mark every row', async () => {
    await createItems('status text');
    await registerItems({ deleted_column: 'status', deleted_values: ['gone'], deletes: 'soft' });
    await flow();
    await pipeline.source`alter table ${pipeline.source(table)} alter status type integer using 1`;
    await expect(extract()).rejects.toMatchObject({
      message: `the values that mean deleted are none of column status of public.${table}: invalid input syntax for type integer: "gone"`,
      hint: expect.stringContaining(`npx tidemark add --update public.${table} --deleted-column status`) as string,
    });
    await pipeline.source`alter table ${pipeline.source(table)} alter status type json using null`;
    await expect(extract()).rejects.toThrow('operator does not exist: json = json');
    await pipeline.source`alter table ${pipeline.source(table)} alter status type text using 'on', alter status set not null`;
    await extract();
    await pipeline.warehouse`update tidemark.dimensions set deleted_values = null where dimension_name = ${table}`;
    await expect(extract()).rejects.toThrow(
      `every row of public.${table} would count as deleted: column status is never null`,
    );
    expect(await examine(settings)).toContainEqual(
      expect.objectContaining({
        status: 'error',
        subject: `table ${table}`,
        message: expect.stringContaining(`every row of public.${table} would count as deleted`) as string,
      }),
    );
  });

  it('deletes can be found in another way from now on, and what was marked before is closed by reconcile', async () => {
    await createItems("status text not null default 'on'");
    await registerItems({});
    await pipeline.source`update ${pipeline.source(table)} set status = 'gone' where id = 2`;
    await flow();
    const text = await follow({ deleted_column: 'status', deleted_values: ['gone', 'lost'] });
    expect(text).toContain(
      `select tidemark.declare_deletes(\n    p_dimension_name => '${table}',\n    p_deletes => 'soft',\n    p_deleted_column => 'status',\n    p_deleted_values => array['gone', 'lost']\n);`,
    );
    expect(await reconcile(true)).toMatchObject({ extra: 1, repaired: 1 });
    expect(await reconcile()).toMatchObject({ differences: [], source_rows: 2 });
    expect(await update({ deleted_column: 'status', deleted_values: ['gone', 'lost'] })).toBeUndefined();
    await follow({ deletes: 'none' });
    expect(await policy()).toEqual({ deletes: 'none', deleted_column: null, deleted_values: null });
  });
});

describe('add', () => {
  it('writes the column and its values into the migration', async () => {
    await createItems("status text not null default 'on'");
    const added = await runCli(
      [
        'add',
        table,
        '--deletes',
        'soft',
        '--deleted-column',
        'status',
        '--deleted-values',
        'deleted',
        "it's",
        '--dry-run',
      ],
      pipeline.env,
    );
    expect(added.stdout).toContain(
      "    p_deletes => 'soft',\n    p_deleted_column => 'status',\n    p_deleted_values => array['deleted', 'it''s']\n);",
    );
  });

  it.each([
    [
      'soft deletes without a column that says so',
      { deletes: 'soft' },
      'no column of public.TABLE says by its name that it marks deleted rows',
    ],
    ['a column that is not there', { deleted_column: 'nothing' }, 'public.TABLE has no column nothing'],
    [
      'a column that is left out',
      { deleted_column: 'status', ignore: ['status'], deleted_values: ['x'] },
      'column status is left out: it cannot mark deleted rows',
    ],
    ['the key', { deleted_column: 'id', deleted_values: ['1'] }, 'column id is the business key'],
    ['a time of the row', { deleted_column: 'created_at' }, 'column created_at is the insert time'],
    [
      'a column that is never null, without values',
      { deleted_column: 'status' },
      'every row of public.TABLE would count as deleted',
    ],
    [
      'values that are none',
      { deleted_column: 'level', deleted_values: ['many'] },
      'the values that mean deleted are none of column level (integer)',
    ],
    [
      'a column with another policy',
      { deletes: 'reconcile', deleted_column: 'status' },
      '--deleted-column and --deleted-values go with --deletes soft',
    ],
  ] as const)('refuses %s', async (_, said, message) => {
    await createItems("status text not null default 'on', level integer");
    await expect(propose(settings, table, { deletes: undefined, ...said })).rejects.toThrow(
      message.replace('TABLE', table),
    );
  });
});
