import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readdir, rm, symlink } from 'node:fs/promises';
import { execFile, execFileSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PROJECT_ROOT, loadSettings, type Settings } from '../../runner/base/settings.js';
import { removeExport } from '../../runner/operate/export-places.js';
import { exportTable } from '../../runner/operate/export-table.js';
import { environmentOf, createWarehouseDatabase, type TestDatabase } from '../support/databases.js';
import { cleanEnvironment, runCli } from '../support/cli.js';
import { registerDimension, type TestColumn } from '../support/dimensions.js';
import { NASTY_KINDS, OWN_TYPES, type Kind } from '../support/kinds.js';
import { openDuckDb } from '../support/duckdb.js';
import { manifestOf, numberText, readExport, type Row } from '../support/parquet.js';

/**
 * A history as files of Parquet: tidemark.export_columns, tidemark.export_parts, tidemark.export_query, tidemark.note_export, tidemark.note_exported,
 * tidemark.export_notes, tidemark.remove_export. What is written by one library is read by another.
 */

let warehouse: TestDatabase;
let settings: Settings;
let env: Readonly<Record<string, string>>;
let folders: string;
beforeAll(async () => {
  warehouse = await createWarehouseDatabase();
  settings = { ...loadSettings({ ENV_FILE: '/dev/null' }), warehouse: warehouse.settings };
  env = environmentOf(warehouse.settings);
  folders = await mkdtemp(path.join(tmpdir(), 'tidemark-export-'));
});
afterAll(async () => {
  await warehouse.drop();
  await rm(folders, { recursive: true });
});

const at = (name: string) => path.join(folders, name);
const names = (folder: string) => readdirSync(folder).sort();

/** What history has, as PostgreSQL prints it; numbers of a computer's own kind as the reader prints them. */
async function history(table: string): Promise<Row[]> {
  const columns = await warehouse.sql<{ name: string; type: string }[]>`
    select quote_ident(attname) as name, atttypid::regtype::text as type from pg_attribute
    where attrelid = ${table}::text::regclass and attnum > 0 and not attisdropped order by attnum`;
  // "format" prints as COPY does; a cast to text would cut blanks.
  const printed = columns.map(
    ({ name }) => `case when ${name} is distinct from null then format('%s', ${name}) end as ${name}`,
  );
  const rows = await warehouse.sql.unsafe<Row[]>(`select ${printed.join(', ')} from ${table} order by surrogate_key`);
  const numbers = new Map(columns.map(({ name, type }) => [name, type]));
  const asRead = (name: string, value: string | null) => {
    const type = value === null ? undefined : numbers.get(name);
    if (type === 'real') return numberText(Math.fround(Number(value)));
    return type === 'double precision' ? numberText(Number(value)) : value;
  };
  return rows.map((row) => Object.fromEntries(Object.entries(row).map(([name, value]) => [name, asRead(name, value)])));
}
const exported = (folder: string): Row[] =>
  readExport(folder).sort((one, other) => Number(one.surrogate_key) - Number(other.surrogate_key));

/** Writes versions of a key into a history, each from and to a moment; null where it is in force. */
async function put(table: string, key: number, value: string | null, from: string, to: string | null): Promise<void> {
  await warehouse.sql.unsafe(
    `insert into dim_${table}_history
      (id, value, valid_from, valid_to, is_current, cdc_operation, cdc_timestamp, batch_id, created_at, updated_at, captured_at, change_line)
    values ($1::text::integer, $2, $3::timestamptz, $4::timestamptz, $4::timestamptz is null, 'INSERT', $3, 'b', now(), now(), now(), 1)`,
    [String(key), value, from, to],
  );
}
const COLUMNS: readonly TestColumn[] = [
  { source: 'id', type: 'integer', role: 'business key' },
  { source: 'value', type: 'text', role: 'tracked' },
  { source: 'changed', type: 'timestamptz', role: 'effective time' },
];
/** A history of its own with three months that have ended, and what is in force. */
async function begin(table: string): Promise<string> {
  await registerDimension(warehouse.sql, table, table, COLUMNS);
  await put(table, 1, 'a', '2026-01-01', '2026-01-31 23:59:59.999999+00');
  await put(table, 1, 'b', '2026-01-31 23:59:59.999999+00', '2026-02-01');
  await put(table, 1, 'c', '2026-02-01', '2026-03-10');
  await put(table, 1, 'd', '2026-03-10', null);
  await put(table, 2, null, '2026-03-01', null);
  return at(table);
}
const run = (table: string, graceHours?: number) => exportTable(settings, table, at(table), graceHours);
const isEqual = async (table: string) => {
  expect(exported(at(table))).toEqual(await history(`dim_${table}_history`));
};

/** Statements on the history of a table, as a load, a retraction or a person would do them. */
const alter = (statement: string) => warehouse.sql.unsafe(statement);
/** The names of the files of each part. */
const filesOf = (table: string) =>
  Object.fromEntries(manifestOf(at(table)).files.map(({ part, name }) => [part, name] as const));

/** Reads an export as docs/recipes.md says, as of each moment: it is what as-of says. Returns how many versions were in force. */
async function readByRecipe(
  table: string,
  moments: readonly string[],
  adapt: (recipe: string) => string = (recipe) => recipe,
): Promise<number[]> {
  const page = readFileSync(path.join(PROJECT_ROOT, 'docs', 'recipes.md'), 'utf8');
  const recipe = /^```duckdb\n([^]*?)^```$/m.exec(page)?.[1] ?? '';
  const duckdb = await openDuckDb();
  const counts: number[] = [];
  for (const moment of moments) {
    const said = at('as-of.csv');
    writeFileSync(said, (await runCli(['as-of', table, moment, '--csv'], env)).stdout);
    const types = manifestOf(at(table)).columns.map(({ name, parquet }) => `'${name}': '${parquet}'`);
    await duckdb.run(`create or replace table said as
      from read_csv('${said}', header = true, nullstr = '', allow_quoted_nulls = false, columns = {${types.join(', ')}})`);
    const statements = adapt(recipe)
      .replace("'prices-files'", `'${at(table)}'`)
      .replace('2026-01-31 23:59:59+00', moment)
      .replace('select sku, price\n', 'create or replace table found as select *\n')
      .replace('order by sku', 'order by id');
    await duckdb.run(statements);
    for (const [one, other] of [
      ['found', 'said'],
      ['said', 'found'],
    ] as const)
      expect(await duckdb.rows(`select * from ${one} except all select * from ${other}`)).toEqual([]);
    counts.push((await duckdb.rows('select * from found')).length);
  }
  duckdb.close();
  return counts;
}

describe('an export', () => {
  it('has every value of every type as the history has it, and its manifest names what is text, and why', async () => {
    await alter(`${OWN_TYPES}; create domain reading as numeric(9,2)`);
    const kinds: readonly Kind[] = [
      ...NASTY_KINDS,
      ['numeric(38,0)', '99999999999999999999999999999999999999', '-1'],
      ['numeric(38,38)', '0.00000000000000000000000000000000000001'],
      ['numeric(39,1)', '99999999999999999999999999999999999999.9'],
      ['date', "'0001-01-01'", "'9999-12-31'"],
      ['timestamp(6)', "'0001-01-01'", "'9999-12-31 23:59:59.999999'", "'1969-12-31 23:59:59.9'"],
      ['time(6)', "'23:59:59.999999'"],
      ['boolean', 'true', 'false'],
      ['bigint', "'-9223372036854775808'"],
      ['smallint', "'-32768'"],
      ['xml', "'<a>&amp;</a>'"],
      ['char(20000)', "'a'"],
      ['reading', '1.50', "'NaN'"],
      ['"char"', "'x'"],
      ['oid', "'4294967295'"],
    ];
    const columns = kinds.map(([type], index) => ({ source: `c${String(index)}`, type, role: 'tracked' as const }));
    await registerDimension(warehouse.sql, 'kinds', 'kinds', [...COLUMNS, ...columns]);
    const rows = Math.max(...kinds.map(([, ...values]) => values.length));
    // The first two are in force, the others have ended.
    for (let row = 0; row < rows; row += 1) {
      const values = kinds.map(([type, ...each]) => `${each[row] ?? 'null'}::${type}`).join(', ');
      const end = row > 1 ? "'2026-02-01'::timestamptz" : 'null::timestamptz';
      await alter(`insert into dim_kinds_history overriding system value
        select ${String(row)}, ${String(row)}, null, ${values}, '2026-01-01 09:00:00.000001+00', ${end}, ${String(row <= 1)}, 'INSERT',
          '2026-01-01', 'b', now(), now(), now(), 1`);
    }
    const done = await run('kinds');
    await isEqual('kinds');
    const types = new Map(
      manifestOf(at('kinds')).columns.map(({ type, parquet, text_because }) => [type, text_because ?? parquet]),
    );
    expect(Object.fromEntries(types)).toMatchObject({
      numeric: 'it is not bound to 38 digits',
      'numeric(39,1)': 'it is not bound to 38 digits',
      'numeric(20,10)': 'it holds NaN',
      'numeric(38,0)': 'DECIMAL(38,0)',
      'numeric(38,38)': 'DECIMAL(38,38)',
      'double precision': 'DOUBLE',
      date: 'DATE',
      'timestamp without time zone': 'it holds infinity, or a year that is not of 1 to 9999',
      'timestamp(6) without time zone': 'TIMESTAMP',
      'time without time zone': 'it holds 24:00:00',
      'time(6) without time zone': 'TIME',
      'time with time zone': 'time with time zone, as PostgreSQL prints it',
      interval: 'interval, as PostgreSQL prints it',
      jsonb: 'jsonb, as PostgreSQL prints it',
      uuid: 'UUID',
      bytea: 'BLOB',
      'character(3)': 'VARCHAR',
      'public.reading': 'public.reading, as PostgreSQL prints it',
      'public.mood': 'public.mood, as PostgreSQL prints it',
      boolean: 'BOOLEAN',
    });
    expect(Object.keys(done.text_columns)).toHaveLength(
      manifestOf(at('kinds')).columns.filter(({ text_because }) => text_because !== null).length,
    );
  });

  it('has ended versions by the month of their end and those in force; what is still right is not written again', async () => {
    await begin('months');
    expect(await run('months')).toMatchObject({ versions: 5, files: { written: 4, kept: 0 } });
    expect(manifestOf(at('months')).files.map(({ part, versions }) => [part, versions])).toEqual([
      ['2026-01', 1],
      ['2026-02', 1],
      ['2026-03', 1],
      ['current', 2],
    ]);
    const before = filesOf('months');
    expect(await run('months')).toMatchObject({ files: { written: 0, kept: 4, removed: 0 } });
    expect(filesOf('months')).toEqual(before);
    await isEqual('months');

    // A late batch: the count of the month is as it was.
    await alter(`update dim_months_history set value = 'late' where value = 'b'`);
    await put('months', 3, 'e', '2026-03-20', '2026-03-21');
    expect(await run('months')).toMatchObject({ files: { written: 2, kept: 2 } });
    await isEqual('months');
    const after = filesOf('months');
    expect(after).toMatchObject({ '2026-01': before['2026-01'], current: before.current });
    // It is as it was, under a name of its own: the file of that name may be on its way out.
    await alter(`update dim_months_history set value = 'b' where value = 'late'`);
    expect(await run('months')).toMatchObject({ files: { written: 1, removed: 0 } });
    await isEqual('months');
    expect(
      manifestOf(at('months'))
        .replaced.map(({ name }) => name)
        .sort(),
    ).toEqual([before['2026-02'], before['2026-03'], after['2026-02']].sort());
    expect(names(at('months'))).toHaveLength(8);
    // A file that somebody removed is made anew; what was replaced goes after its time.
    await rm(path.join(at('months'), before['2026-01'] ?? ''));
    expect(await run('months', 0)).toMatchObject({ files: { written: 1, kept: 3, removed: 4 } });
    await isEqual('months');
    expect(names(at('months')).sort()).toEqual([...Object.values(filesOf('months')), 'manifest.json'].sort());
  });

  it('goes on over columns that are added, altered and renamed: files keep the schema they were written with', async () => {
    await begin('columns');
    await run('columns');
    await alter('alter table dim_columns_history add column more date, add column "größe" numeric(4,1)');
    expect(await run('columns')).toMatchObject({ files: { written: 0, kept: 4 } });
    await isEqual('columns');
    await alter(`update dim_columns_history set more = '2026-05-01', "größe" = 1.5 where value = 'b'`);
    expect(await run('columns')).toMatchObject({ files: { written: 1, kept: 3 } });
    await isEqual('columns');
    // The column is text from now on, in every file that has it.
    await alter(`update dim_columns_history set more = 'infinity' where value = 'd'`);
    expect(await run('columns')).toMatchObject({
      files: { written: 2 },
      text_columns: { more: expect.stringContaining('infinity') as string },
    });
    await isEqual('columns');
    await alter('alter table dim_columns_history rename column more to less');
    expect(await run('columns')).toMatchObject({ files: { written: 2, kept: 2 } });
    await isEqual('columns');
    // As wide as a column is, so many blanks are in the files; names are the user's.
    await alter(
      `alter table dim_columns_history add column _part text, add column digest text, add column code char(3) default 'a'`,
    );
    expect(await run('columns')).toMatchObject({ files: { written: 4 } });
    await isEqual('columns');
    await alter('alter table dim_columns_history alter column code type char(9)');
    expect(await run('columns')).toMatchObject({ files: { written: 4 } });
    await isEqual('columns');
    await alter('alter table dim_columns_history add column "Value" text');
    await expect(run('columns')).rejects.toThrow('columns value and Value of columns cannot be told apart');
  });

  it('of an empty history has its columns', async () => {
    await registerDimension(warehouse.sql, 'nothing', 'nothing', COLUMNS);
    expect(await run('nothing')).toMatchObject({ versions: 0, files: { written: 1 } });
    expect(exported(at('nothing'))).toEqual([]);
    expect(manifestOf(at('nothing')).files).toMatchObject([{ part: 'current', versions: 0 }]);
  });

  it('is the one before, or the new one, wherever kill -9 ends it, and the next goes on', async () => {
    await begin('killed');
    await run('killed');
    const before = await history('dim_killed_history');
    const args = ['export', 'killed', '--format', 'parquet', '--to', at('killed')];
    for (const place of ['export part:1', 'export part:2', 'export publish:1', 'replace:1', 'export published:1']) {
      await alter(`update dim_killed_history set value = value || '.' where value < 'c'`);
      const end = { NODE_ENV: 'test', TIDEMARK_FAILPOINT: `${place}:kill` };
      expect(await runCli(args, { ...env, ...end })).toMatchObject({ code: null });
      if (place === 'export published:1') await isEqual('killed');
      else expect(exported(at('killed'))).toEqual(before);
    }
    expect(await runCli([...args, '--grace-hours', '0'], env)).toMatchObject({ code: 0, stderr: '' });
    await isEqual('killed');
    expect(names(at('killed'))).toEqual([...Object.values(filesOf('killed')), 'manifest.json'].sort());
  });

  it('is made by one at a time', async () => {
    await begin('once');
    const both = await Promise.all([run('once'), run('once')]);
    expect(both.map(({ files }) => files.written).sort()).toEqual([0, 4]);
    await isEqual('once');
    // Where the folder is mounted on two machines, none sees the lock of the other there.
    const [other] = [await warehouse.sql.reserve()];
    await other`select pg_advisory_lock(hashtextextended(${`tidemark.export ${manifestOf(at('once')).export_id}`}, 0))`;
    await expect(run('once')).rejects.toThrow('this export of once is at work on another machine');
    await other`select pg_advisory_unlock_all()`;
    other.release();
  });

  it('leaves a folder alone that has something else', async () => {
    await begin('one');
    await begin('other');
    await run('one');
    const before = readFileSync(path.join(at('one'), 'manifest.json'), 'utf8');
    await expect(exportTable(settings, 'other', at('one'))).rejects.toThrow('the folder has an export of one');
    await expect(exportTable(settings, 'nobody', at('nobody'))).rejects.toMatchObject({ code: 'TM002' });
    expect(names(folders)).not.toContain('nobody');
    for (const [from, to] of [
      ['"number": 1', '"number": 1.5'],
      ['"replaced": []\n}', '"replaced": ['],
      ['"name":"current', '"name":"../current'],
      ['"format": "tidemark export"', '"format": "another"'],
    ] as const) {
      expect(before).toContain(from);
      writeFileSync(path.join(at('one'), 'manifest.json'), before.replace(from, to));
      await expect(run('one')).rejects.toThrow(
        'the folder has a manifest that is no export of this release, or broken',
      );
    }
    writeFileSync(path.join(at('one'), 'manifest.json'), before);
    // As in a warehouse from a backup of before.
    await alter(`delete from tidemark.exports where dimension_name = 'one'`);
    await expect(run('one')).rejects.toThrow('the folder has an export of one that this warehouse does not know');
    expect(names(at('one'))).toHaveLength(5);
    await rm(path.join(at('one'), 'manifest.json'));
    await run('one');
    expect(names(at('one'))).toHaveLength(5);
    await isEqual('one');
    // A key would be forgotten in one of them only. What has moved is no copy.
    await cp(at('one'), at('copy'), { recursive: true });
    await expect(exportTable(settings, 'one', at('copy'))).rejects.toThrow(
      `the folder is a copy of the export in ${at('one')}`,
    );
    await expect(removeExport(settings, 'one', at('copy'))).rejects.toThrow('the folder is a copy of');
    await rm(at('one'), { recursive: true });
    expect(await exportTable(settings, 'one', at('copy'))).toMatchObject({ files: { kept: 4 } });
  });

  it('read as docs/recipes.md says is what as-of says, at any moment', async () => {
    await begin('recipe');
    await alter(`alter table dim_recipe_history add column price numeric(38,2), add column flag boolean, add column at time;
      update dim_recipe_history set price = 12345678901234567890.10 * id, flag = id = 1, at = '23:59:59.5' where value <> 'a'`);
    await run('recipe');
    // Only what has ended since differs: months of two schemas.
    await alter(`alter table dim_recipe_history add column later text default 'yes'`);
    await put('recipe', 3, '', '2026-04-01', '2026-04-02');
    await run('recipe');
    const moments = [
      '2025-12-31 23:59:59.999999+00',
      '2026-01-01 00:00:00+00',
      '2026-01-31 23:59:59.999999+00',
      '2026-02-01 00:00:00+00',
      '2026-03-09 23:59:59+00',
      '2026-04-01 12:00:00+00',
      '2026-06-01 00:00:00+00',
    ];
    expect(await readByRecipe('recipe', moments)).toEqual([0, 1, 1, 1, 2, 3, 2]);
  });

  it('has versions that ended beyond the calendar, in the order of times; what makes times text makes it in all months', async () => {
    await begin('calendar');
    await run('calendar');
    await put('calendar', 3, 'old', '0045-01-01 00:00:00+00 BC', '0044-03-15 12:00:00+00 BC');
    await put('calendar', 4, 'long', '-infinity', '12345-06-07 00:00:00+00');
    await put('calendar', 5, 'for ever', '2026-01-15', 'infinity');
    expect(await run('calendar')).toMatchObject({
      files: { written: 6, kept: 0 },
      text_columns: { valid_from: expect.any(String) as string, valid_to: expect.any(String) as string },
    });
    await isEqual('calendar');
    expect(manifestOf(at('calendar')).files.map(({ part, versions }) => [part, versions])).toEqual([
      ['0000-00', 1],
      ['2026-01', 1],
      ['2026-02', 1],
      ['2026-03', 1],
      ['9999-13', 2],
      ['current', 2],
    ]);
    const page = readFileSync(path.join(PROJECT_ROOT, 'docs', 'recipes.md'), 'utf8');
    const cast = /`(regexp_replace\(valid_from.*?::timestamptz)`/.exec(page)?.[1] ?? '';
    const counts = await readByRecipe('calendar', ['2026-01-14', '2026-01-15', '2026-06-01'], (recipe) =>
      recipe.replace(/where valid_from.*/, (where) =>
        where.replace(/valid_(from|to)(?! is)/g, (name) => cast.replace('valid_from', name)),
      ),
    );
    expect(counts).toEqual([2, 3, 4]);
    // Where no value is odd any more, they are moments again, everywhere.
    await alter(`delete from dim_calendar_history where id > 2`);
    expect(await run('calendar')).toMatchObject({ files: { written: 4 }, text_columns: {} });
    await isEqual('calendar');
  });

  it('of a table that is partitioned by its key is the same', async () => {
    await begin('plain');
    await run('plain');
    await registerDimension(warehouse.sql, 'parted', 'parted', COLUMNS);
    await alter(`
      alter table dim_parted_history rename to was_whole;
      create table dim_parted_history (like was_whole) partition by hash (id);
      create table dim_parted_history_p0 partition of dim_parted_history for values with (modulus 2, remainder 0);
      create table dim_parted_history_p1 partition of dim_parted_history for values with (modulus 2, remainder 1);
      update tidemark.dimensions set history_relation = 'dim_parted_history' where dimension_name = 'parted';
      insert into dim_parted_history select * from dim_plain_history`);
    await run('parted');
    await isEqual('parted');
    expect(exported(at('parted'))).toEqual(exported(at('plain')));
  });

  it('is removed with its files, and where it is no more, by its name', async () => {
    await begin('removed');
    await run('removed');
    await expect(removeExport(settings, 'removed', at('nowhere'))).rejects.toThrow('no export of removed is known');
    const removed = await runCli(['export', 'removed', '--to', at('removed'), '--remove'], env);
    expect(removed.stdout).toContain('is removed: 5 files');
    expect(names(at('removed'))).toEqual([]);
    await run('removed');
    await alter(`update tidemark.exports set host = 'elsewhere', folder = '/gone' where dimension_name = 'removed'`);
    expect(await removeExport(settings, 'removed', 'elsewhere:/gone')).toMatchObject({ files: 0 });
    expect([...(await warehouse.sql`select from tidemark.export_notes('removed')`)]).toEqual([]);
  });

  it('is asked for with a format and a folder, and without its writer says how to install it', async () => {
    for (const [args, said] of [
      [['export', 'orders'], 'export orders takes a format'],
      [['export', 'orders', '--format', 'parquet'], 'export orders takes a folder'],
      [['export', 'orders', '--format', 'parquet', '--to', at('x'), '--grace-hours', '-1'], '--grace-hours is -1'],
    ] as const)
      expect(await runCli(args, env)).toMatchObject({ code: 2, stderr: expect.stringContaining(said) as string });
    // As it is installed where nobody has asked for DuckDB.
    const installed = at('installed');
    await mkdir(path.join(installed, 'node_modules'), { recursive: true });
    for (const name of await readdir(path.join(PROJECT_ROOT, 'node_modules')))
      if (name !== '@duckdb')
        await symlink(path.join(PROJECT_ROOT, 'node_modules', name), path.join(installed, 'node_modules', name));
    for (const part of ['dist', 'package.json'])
      await cp(path.join(PROJECT_ROOT, part), path.join(installed, part), { recursive: true });
    const args = [path.join(installed, 'dist', 'cli.js'), 'export', 'orders', '--format', 'parquet', '--to', at('x')];
    await expect(promisify(execFile)(process.execPath, args, { env: cleanEnvironment(env) })).rejects.toMatchObject({
      code: 2,
      stderr: expect.stringMatching(
        /the writer of Parquet is not installed\n.*npm install @duckdb\/node-api@/,
      ) as string,
    });
  });
});

describe.skipIf(process.getuid?.() !== 0)('a disk', () => {
  it('that is only read is said to be one, by whatever would write', async () => {
    await begin('still');
    await mkdir(at('still'));
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m,mode=700', 'tmpfs', at('still')]);
    try {
      await run('still');
      execFileSync('mount', ['-o', 'remount,ro', at('still')]);
      const error = {
        message: 'the folder of the export cannot be written',
        hint: expect.stringContaining('--to') as string,
      };
      await expect(run('still')).rejects.toMatchObject(error);
      await expect(removeExport(settings, 'still', at('still'))).rejects.toMatchObject(error);
      await isEqual('still');
    } finally {
      execFileSync('umount', [at('still')]);
    }
  });

  it('that is full ends an export with a clear error; the one before stands, and the next goes on', async () => {
    await begin('full');
    await mkdir(at('full'));
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k,mode=700', 'tmpfs', at('full')]);
    try {
      await run('full');
      const before = exported(at('full'));
      await alter(`
        update dim_full_history set value = (select string_agg(md5(g::text), '') from generate_series(1, 20000) as g)
        where value = 'b'`);
      await expect(run('full')).rejects.toMatchObject({ message: 'the disk of the export is full' });
      expect(exported(at('full'))).toEqual(before);
      expect(names(at('full'))).toHaveLength(5);
      await alter(`update dim_full_history set value = 'short' where id = 1 and value <> 'a'`);
      await run('full');
      await isEqual('full');
    } finally {
      execFileSync('umount', [at('full')]);
    }
  });
});
