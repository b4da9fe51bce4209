import { readFile, readdir } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runChecks } from '../../runner/warehouse/checks.js';
import type { Settings } from '../../runner/base/settings.js';
import { extractTables } from '../../runner/extract/tables.js';
import type { RegistrationOptions } from '../../runner/registration/options.js';
import { runCli } from '../support/cli.js';
import { createPipeline, type TestPipeline } from '../support/databases.js';
import { propose, register, withDimensionsFolder } from '../support/registered.js';
import { testedVersion } from '../support/servers.js';
import { loadTables } from '../../runner/load/tables.js';
import { quoted } from '../../runner/base/sql-text.js';

let pipeline: TestPipeline;
let settings: Settings;
beforeAll(async () => {
  pipeline = await createPipeline();
  settings = await withDimensionsFolder(pipeline);
});
afterAll(async () => {
  await pipeline.drop();
});

/** Extracts and loads one table. */
async function flow(table: string): Promise<void> {
  await extractTables({ settings, tables: [table] });
  await loadTables({ settings, tables: [table] });
}

/** Source and current history of a registered table, each row as PostgreSQL prints it. */
async function bothEnds(
  source: string,
  { registration }: Awaited<ReturnType<typeof register>>,
): Promise<{ source: string[]; history: string[] }> {
  const kept = registration.columns.filter(({ type }) => type !== undefined);
  const read = async (sql: TestPipeline['source'], columns: string[], from: string) => {
    const rows = await sql.unsafe<{ line: string }[]>(
      `select array[${columns.map((column) => `${column}::text`).join(', ')}]::text as line from ${from} order by 1`,
    );
    return rows.map(({ line }) => line);
  };
  return {
    source: await read(
      pipeline.source,
      kept.map((column) => quoted(column.source)),
      source,
    ),
    history: await read(
      pipeline.warehouse,
      kept.map((column) => quoted(column.history)),
      `dim_${registration.name}_current`,
    ),
  };
}

const mapping = ({ registration }: Awaited<ReturnType<typeof propose>>) =>
  registration.columns.map(({ source, history, role }) => `${source} > ${history} (${role})`);

describe('add', () => {
  it('writes the migration that is in the project for the demo table customers', async () => {
    const [file = ''] = (await readdir(settings.dimensions_dir)).filter((name) =>
      name.endsWith('_register_customers.sql'),
    );
    const committed = await readFile(path.join(settings.dimensions_dir, file), 'utf8');
    const elsewhere = { ...settings, dimensions_dir: path.join(pipeline.folder, 'empty') };
    const { text } = await propose(elsewhere, 'public.customers', { name: 'clients' });
    expect(
      text
        .replaceAll('dim_clients', 'dim_customers')
        .replaceAll('"clients"', '"customers"')
        .replaceAll("'clients'", "'customers'"),
    ).toBe(committed);
  });

  it('takes every kind of column, and what comes out of history is what the source prints', async () => {
    await pipeline.source.unsafe(`
      create type mood as enum ('sad', 'so, "so"', 'happy');
      create domain short_code as varchar(4) check (value <> '');
      create domain amount as numeric(12, 3);
      create type point3 as (x integer, y text);
      create type span as range (subtype = timestamptz);
      create table everything (
        id uuid primary key default gen_random_uuid(),
        "select" integer, "Mixed Case" text, "quote""d" text, "a{history}b" text, "über" text, "semi;--" text, "line
break" text,
        small smallint, big bigint, exact numeric, scaled numeric(10, 4), real_number real, double_number double precision, flag boolean,
        fixed char(5), limited varchar(7), bytes bytea, day date, at_time time(3), zoned timetz, stamp timestamp(3), instant timestamptz, pause interval,
        doc json, docb jsonb, ints integer[], texts text[], grid integer[][], codes short_code[], code short_code, price amount, feeling mood, feelings mood[],
        place point, spot point3, spots point3[], window_of tstzrange, many int4multirange, own_range span, address inet, mac macaddr, bits bit varying(9), words tsvector,
        relation regclass, coins money, markup xml, nothing text,
        doubled integer generated always as (small * 2) stored,
        created_at timestamptz not null, updated_at timestamptz not null,
        valid_from text, batch_id text, is_current boolean, source_batch_id text
      )`);
    await pipeline.source.unsafe(String.raw`
      insert into everything values (default, 1, 'x', 'y', 'z', 'ü', ';', 'l', -32768, 9223372036854775807, 1.10, 1.1000, 1e-7, 0.1, true,
        'ab', 'limited', '\x00ff', 'infinity', '12:00:00.123', '12:00+02', '2026-02-01 09:00:00.123', '2026-02-01 09:00:00.123456+00', '1 mon 2 days 03:04:05.6',
        '{"b": 1, "a" : 1.10, "a": 2}', '{"b": 1, "a": 1.10}', '{1,null,3}', array['a,b', 'c"d', null, 'NULL', ''], '{{1,2},{3,4}}', '{ab,cd}', 'abcd', 1.5, 'so, "so"', array['so, "so"', 'happy']::mood[],
        '(1,2)', '(1,"a b")', array[row(1, 'a,b')::point3], '[2026-01-01, 2026-02-01)', '{[1,3), [5,9)}', '[2026-01-01, infinity)', '10.0.0.1/8', '08:00:2b:01:02:03', '101', 'a:1 b:2',
        'pg_class', '12.34', null, null, default, '2026-02-01 09:00', '2026-02-01 09:30', 'then', 'b1', false, 's');
      insert into everything (id, created_at, updated_at, exact, double_number, real_number)
      values (default, '2026-02-01 09:00', '2026-02-01 09:30', 'NaN', 'Infinity', '-Infinity')`);
    const proposed = await register(settings, 'everything', { insert_time: 'none' });
    await flow('everything');
    const { source, history } = await bothEnds('everything', proposed);
    expect(source).toHaveLength(2);
    expect(history).toEqual(source);
    await extractTables({ settings, tables: ['everything'], full: true });
    expect(await loadTables({ settings, tables: ['everything'] })).toMatchObject([
      { inserted_versions: 0, absorbed_changes: 2 },
    ]);
    expect(
      (await runChecks(pipeline.warehouse, ['pipeline', 'scd2'])).filter(({ violations }) => violations > 0),
    ).toEqual([]);

    expect(mapping(proposed)).toEqual(
      expect.arrayContaining([
        'id > everything_key (business key)',
        'created_at > source_created_at (tracked)',
        'valid_from > source_valid_from (tracked)',
        'is_current > source_is_current (tracked)',
        'batch_id > source_batch_id_2 (tracked)',
        'source_batch_id > source_batch_id (tracked)',
        'select > select (tracked)',
        'updated_at > valid_from (effective time)',
      ]) as string[],
    );
    const typeOf = (name: string) => proposed.registration.columns.find((column) => column.source === name);
    expect(typeOf('feeling')).toMatchObject({
      type: 'text',
      remark: 'public.mood is kept as text: the warehouse has no such type',
    });
    expect(typeOf('feelings')).toMatchObject({ type: 'text[]' });
    expect(typeOf('code')).toMatchObject({ type: 'varchar(4)', remark: undefined });
    expect(typeOf('codes')).toMatchObject({ type: 'varchar(4)[]' });
    expect(typeOf('price')).toMatchObject({ type: 'numeric(12,3)' });
    expect(typeOf('exact')).toMatchObject({ type: 'numeric' });
    expect(typeOf('spot')).toMatchObject({ type: 'text' });
    expect(typeOf('relation')).toMatchObject({ type: 'text' });
    expect(typeOf('doubled')).toMatchObject({ type: 'integer', remark: 'generated at the source' });
    expect(proposed.text).toContain('feeling text, -- public.mood is kept as text: the warehouse has no such type\n');
  });

  it('keeps an enum, and a type of an extension, that the warehouse has too, but not one that lacks a label', async () => {
    await pipeline.source.unsafe(`
      create type temper as enum ('sad', 'happy'); create type size as enum ('s', 'm', 'l');
      create table shirts (id bigint primary key, feeling temper, sizes size[], last_updated timestamptz not null)`);
    await pipeline.warehouse.unsafe(
      "create type temper as enum ('happy', 'sad', 'new'); create type size as enum ('s', 'm')",
    );
    const { registration } = await propose(settings, 'shirts');
    expect(registration.columns.map(({ type }) => type)).toEqual(['bigint', 'public.temper', 'text[]', undefined]);
    expect(registration.columns[2]?.remark).toContain("lacks 'l'");
  });

  it('takes composite keys of mixed-case and reserved names, in the order that is asked for', async () => {
    await pipeline.source.unsafe(`
      create schema "Odd Schema";
      create table "Odd Schema"."Order.Lines" ("Order" text, "line" bigint, qty integer, changed timestamp not null, primary key ("Order", "line"));
      insert into "Odd Schema"."Order.Lines" values ('a''b', 1, 1, '2026-02-01 09:00'), ('a''b', 2, 1, '2026-02-01 09:00'), ('ä', 1, 1, '2026-02-01 09:00')`);
    const proposed = await register(settings, '"Odd Schema"."Order.Lines"', {
      key: ['line', 'Order'],
      effective_time: 'changed',
      time_zone: 'Europe/Berlin',
      rename: new Map([['qty', 'quantity']]),
    });
    expect(mapping(proposed)).toEqual([
      'line > line (business key)',
      'Order > Order (business key)',
      'qty > quantity (tracked)',
      'changed > valid_from (effective time)',
    ]);
    expect(proposed.registration.name).toBe('order_lines');
    await flow('order_lines');
    await pipeline.source`update "Odd Schema"."Order.Lines" set qty = 2, changed = '2026-02-01 10:00' where "line" = 1`;
    await flow('order_lines');
    const { source, history } = await bothEnds('"Odd Schema"."Order.Lines"', proposed);
    expect(history).toEqual(source);
    expect(
      await pipeline.warehouse`select count(*)::integer as n from dim_order_lines_history_as_of('2026-02-01 09:30')`,
    ).toEqual([{ n: 3 }]);
    expect(
      await pipeline.warehouse`select count(*)::integer as n, count(*) filter (where is_current)::integer as c from dim_order_lines_history`,
    ).toEqual([{ n: 5, c: 3 }]);
  });

  it('takes columns called as the queries of Tidemark call theirs: extracted, loaded late and early, replayed, compared, shown', async () => {
    const names = [
      ...Array.from('abcdefghijklmnopqrstuvwxyz'),
      'page',
      'line',
      'cursor',
      'sized',
      'place',
      'lines',
      'key',
      'content',
      'change',
      'version',
      'outcome',
      'bytes',
      'moment',
      'bucket',
      'reason',
      'value_1',
      'written_by',
      'change_line',
    ];
    await pipeline.source.unsafe(
      `create table "aliases" (${names.map((name) => `${quoted(name)} text`).join(', ')}, last_updated timestamptz not null, primary key (r, t))`,
    );
    const insert = (key: string, value: string, time: string) =>
      pipeline.source.unsafe(
        `insert into aliases values (${names.map((name) => (['r', 't'].includes(name) ? `'${key}'` : `'${value}'`)).join(', ')}, '${time}')`,
      );
    await insert('k1', 'one', '2026-02-01 09:00');
    await insert('k2', 'one', '2026-02-01 09:00');
    const proposed = await register(settings, 'aliases', { untracked: ['c', 'l', 'h'] });
    await extractTables({ settings, tables: ['aliases'] });
    await pipeline.source.unsafe(
      "update aliases set a = 'two', c = 'two', h = 'two', last_updated = '2026-02-01 09:10' where r = 'k1'",
    );
    await extractTables({ settings, tables: ['aliases'] });
    const folder = path.join(settings.cdc_log_dir, 'aliases');
    const waiting = (await readdir(folder)).filter((name) => name.startsWith('changes_')).sort();
    for (const name of waiting.reverse())
      await pipeline.warehouse`select * from tidemark.apply_batch(p_batch => ${await readFile(path.join(folder, name), 'utf8')}::text::json)`;
    await loadTables({ settings, tables: ['aliases'] });
    const { source, history } = await bothEnds('aliases', proposed);
    expect(history).toEqual(source);
    const env = { ...pipeline.env, DIMENSIONS_DIR: settings.dimensions_dir, MAX_DELETE_PERCENT: '100' };
    expect((await runCli(['verify-log', '--table', 'aliases'], env)).stdout).toContain('ok    aliases');
    await pipeline.source`delete from aliases where r = 'k2'`;
    await pipeline.source.unsafe("update aliases set z = 'unseen' where r = 'k1'");
    expect(await runCli(['reconcile', '--table', 'aliases', '--repair'], env)).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('aliases') as string,
    });
    expect(await pipeline.warehouse`select r, z from dim_aliases_current`).toEqual([{ r: 'k1', z: 'unseen' }]);
    expect(
      (
        await pipeline.warehouse`select * from tidemark.lineage(p_dimension_name => 'aliases', p_key => array['k1', 'k1'])`
      ).length,
    ).toBeGreaterThan(1);
    expect(
      (await runChecks(pipeline.warehouse, ['pipeline', 'scd2'])).filter(({ violations }) => violations > 0),
    ).toEqual([]);
  });

  it('tracks what it is told to, and leaves out for good what it is told to ignore', async () => {
    const { registration, text } = await propose(settings, 'products', {
      name: 'goods',
      track: ['title'],
      ignore: ['attributes'],
    });
    expect(registration.columns.filter(({ role }) => role === 'tracked').map(({ source }) => source)).toEqual([
      'title',
    ]);
    expect(registration.columns.filter(({ role }) => role === 'untracked').map(({ source }) => source)).toEqual([
      'category',
      'unit_price',
      'stock',
    ]);
    expect(text).not.toMatch(/attributes"/);
    expect(text).toContain("p_source_columns => array['attributes']");
  });

  it('passes on to registration what only registration can do', async () => {
    const { text } = await propose(settings, 'products', {
      name: 'goods',
      no_overlap: true,
      browse: true,
      change_order: 'effective_time',
      deletes: 'reconcile',
    });
    for (const argument of ["p_change_order => 'effective_time'", "p_deletes => 'reconcile'", 'p_no_overlap => true'])
      expect(text).toContain(`    ${argument}`);
    expect(text).toContain('create index dim_goods_history_browse_from on public.dim_goods_history (valid_from);');
  });

  it.each([
    ['rls', 'rls_key'],
    ['status', 'status_key'],
    ['user_sms', 'user_sms_key'],
    ['companies', 'company_key'],
    ['boxes', 'box_key'],
    ['houses', 'house_key'],
  ])('names the key of a table called %s %s', async (table, key) => {
    await pipeline.source.unsafe(`create table ${table} (id integer primary key, last_updated timestamptz not null)`);
    expect((await propose(settings, table)).registration.columns[0]?.history).toBe(key);
  });

  it('writes a file that ends no line early, whatever the source calls things', async () => {
    await pipeline.source.unsafe(String.raw`
      create table tricky (id integer primary key, "a
-- down migration
b" text, note text, last_updated timestamptz);
      comment on table tricky is E'it''s\n-- up migration\n\\ back';
      comment on column tricky.note is E'two\nlines; -- ''quoted''';
      insert into tricky values (1, 'x', 'y', now())`);
    const proposed = await register(settings, 'tricky');
    expect(proposed.text.split('\n').filter((line) => /^\s*--[\s-]*(up|down)\s+migration/i.test(line))).toEqual([
      '-- Up Migration',
    ]);
    const [comment] = await pipeline.warehouse`select obj_description('dim_tricky_history'::regclass) as of_table,
      (select col_description(attrelid, attnum) from pg_attribute where attrelid = 'dim_tricky_history'::regclass and attname = 'note') as of_column`;
    expect(comment).toMatchObject({
      of_table: expect.stringContaining("it's\n-- up migration\n\\ back") as string,
      of_column: "two\nlines; -- 'quoted'",
    });
    await flow('tricky');
    const { source, history } = await bothEnds('tricky', proposed);
    expect(history).toEqual(source);
    expect(proposed.registration.remarks).toEqual([expect.stringContaining('last_updated may be null')]);
  });

  it('keeps two long names apart where PostgreSQL would cut them to one', async () => {
    const names = ['a', 'b'].map((end) => `a_table_whose_name_is_rather_long_indeed_${end}`);
    for (const name of names) {
      await pipeline.source.unsafe(`create table ${name} (id integer primary key, updated_at timestamptz not null)`);
      await register(settings, name);
    }
    expect(
      await pipeline.warehouse`select dimension_name from tidemark.dimensions where dimension_name = any (${names}) order by 1`,
    ).toHaveLength(2);
  });

  it('takes a view where it is told the key, and says what a view cannot show', async () => {
    await pipeline.source`create view open_orders as select * from orders where order_status = 'pending'`;
    await expect(propose(settings, 'open_orders')).rejects.toMatchObject({
      message: 'public.open_orders has no key: nothing says which of its rows is which',
      hint: expect.stringContaining('--key') as string,
    });
    const { registration } = await propose(settings, 'open_orders', { key: ['id'] });
    expect(registration.remarks).toEqual([expect.stringContaining('public.open_orders is no table')]);
  });
});

describe('a key that migrate would refuse', () => {
  beforeAll(() =>
    pipeline.source`create type exact_pair as (a numeric, b text); create type padded as (c char(3)); create domain padded_list as padded[]`.simple(),
  );

  it.each([
    ['numeric[]', 'numeric[]', 'lists'],
    ['jsonb', 'jsonb', 'objects'],
    ['interval', 'interval', 'intervals'],
    ['numrange', 'numrange', 'ranges'],
    ['a composite with a numeric', 'public.exact_pair', 'exact_pairs'],
    ['a domain over an array of composites with a char', 'public.padded_list', 'padded_lists'],
  ])('is refused by add in the same words, and nothing silly is proposed: %s', async (_, type, table) => {
    await pipeline.source.unsafe(`create table ${table} (k ${type} primary key, last_updated timestamptz not null)`);
    await expect(propose(settings, table)).rejects.toMatchObject({
      message: `column k of public.${table} cannot be a key: of its type or collation, values can be equal that are printed apart (${type})`,
      hint: 'name another unique key with --key',
    });
  });

  it('is refused where its type has no order', async () => {
    await pipeline.source`create view documents as select '{}'::json as doc, now() as updated_at`;
    await expect(propose(settings, 'documents', { key: ['doc'] })).rejects.toThrow(
      'column doc of public.documents cannot be a key: its type has no order, by which keys are told apart (json)',
    );
  });

  it('is taken where the values of its type print as they are equal: composites, ranges and arrays among them', async () => {
    await pipeline.source.unsafe(`
      create type plain_pair as (a integer, b text); create type humour as enum ('sad', 'happy');
      create table pairs (
        a plain_pair, b int4range, c text[], d numeric(5, 2), e varchar(3), f inet, g humour, h date, i "char", j money, k regclass, last_updated timestamptz not null,
        primary key (a, b, c, d, e, f, g, h, i, j, k)
      )`);
    expect((await register(settings, 'pairs')).registration.columns).toHaveLength(12);
  });
});

describe('add refuses', () => {
  const tables = `
    create table only_times (updated_at timestamptz);
    create table half_key (id integer unique, code text not null unique, updated_at timestamptz);
    create table timeless (id integer primary key, day date);
    create table odd_times (id integer primary key, "when" timestamp, other timestamptz);
    create table takes_names (id integer primary key, operation_type text, last_updated timestamptz);
    create extension if not exists citext;
    create collation caseless (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
    create table loose (name citext primary key, alias text collate caseless not null unique, last_updated timestamptz);
    create table "日本" (id integer primary key, last_updated timestamptz);
    create unique index on half_key (lower(code));`;
  beforeAll(() => pipeline.source.unsafe(tables));

  it.each<[string, string, Partial<RegistrationOptions>, string, string]>([
    ['a table that is not there', 'nothing', {}, 'source table public.nothing does not exist', 'DB_NAME'],
    [
      'a name in other letters',
      'ODD_TIMES',
      {},
      'source table public.ODD_TIMES does not exist',
      'there is: public.odd_times',
    ],
    ['a name that is none', 'a.b.c', {}, '"a.b.c" is not the name of a table', 'schema.table'],
    ['an empty part', 'public.', {}, '"public." is not the name of a table', 'schema.table'],
    ['a table that has nothing but times', 'only_times', {}, 'public.only_times has no key', '--key'],
    [
      'a key that is not unique',
      'odd_times',
      { key: ['other'], effective_time: 'when' },
      'the key of public.odd_times is not unique there',
      'unique and not null',
    ],
    [
      'a key that may be null',
      'half_key',
      { key: ['id'] },
      'the key of public.half_key may be null: id',
      'unique and not null',
    ],
    [
      'an effective time that is no timestamp',
      'timeless',
      { effective_time: 'day' },
      'column day of public.timeless is no timestamp',
      'timestamptz',
    ],
    [
      'an insert time of another type',
      'odd_times',
      { effective_time: 'when', insert_time: 'other' },
      'cannot be the insert time',
      '--insert-time none',
    ],
    [
      'a column that is not there',
      'orders',
      { name: 'o', track: ['nope'], ignore: ['neither'] },
      'public.orders has no column nope, neither',
      'its columns are: id, customer_id',
    ],
    [
      'a column with two roles',
      'orders',
      { name: 'o', track: ['quantity'], ignore: ['quantity'] },
      'column quantity is given two roles',
      'tracked',
    ],
    ['a key that is ignored', 'orders', { name: 'o', ignore: ['id'] }, 'column id is given two roles', 'tracked'],
    [
      'a new name that history has',
      'orders',
      { name: 'o', rename: new Map([['quantity', 'batch_id']]) },
      '--rename quantity=batch_id: history has a column of that name',
      'surrogate_key',
    ],
    [
      'two columns of one new name',
      'orders',
      {
        name: 'o',
        rename: new Map([
          ['quantity', 'x'],
          ['customer_id', 'x'],
        ]),
      },
      '--rename customer_id=x: history has a column of that name',
      'taken are',
    ],
    [
      'a new name for a time',
      'orders',
      { name: 'o', rename: new Map([['last_updated', 'x']]) },
      '--rename last_updated=x: history does not keep last_updated',
      'rename columns',
    ],
    [
      'a name that is registered',
      'orders',
      {},
      'a dimension called orders is registered by a migration already',
      '--name',
    ],
    [
      'a key of a type that takes two texts for one',
      'loose',
      {},
      'column name of public.loose cannot be a key: of its type or collation, values can be equal that are printed apart (public.citext)',
      'type text collate "C"',
    ],
    [
      'a key under a collation that does so',
      'loose',
      { key: ['alias'] },
      'column alias of public.loose cannot be a key: of its type or collation, values can be equal that are printed apart (text)',
      'type text collate "C"',
    ],
    [
      'a zone that is none',
      'orders',
      { name: 'o', time_zone: 'Mars/X' },
      '--time-zone is "Mars/X", which is no time zone',
      'Europe/Berlin',
    ],
    [
      'a new name that PostgreSQL would cut',
      'orders',
      { name: 'o', rename: new Map([['quantity', 'q'.repeat(64)]]) },
      'the name is longer than 63 bytes',
      'a shorter one',
    ],
    ['a name with a space', 'orders', { name: 'my orders' }, '"my orders" cannot be the name of a dimension', '--name'],
    ['a name that has no Latin letter', '日本', {}, '"" cannot be the name of a dimension', '--name'],
    [
      'a column called as batch files call theirs',
      'takes_names',
      {},
      'source column operation_type has a name that batch files use',
      '--ignore operation_type',
    ],
  ])('%s', async (_, table, said, message, hint) => {
    await expect(propose(settings, table, said)).rejects.toMatchObject({
      message: expect.stringContaining(message) as string,
      hint: expect.stringContaining(hint) as string,
    });
  });

  it('a name that the warehouse has taken, though no migration says so', async () => {
    const elsewhere = { ...settings, dimensions_dir: path.join(pipeline.folder, 'empty') };
    await expect(propose(elsewhere, 'orders')).rejects.toThrow(
      'the name orders is taken: a dimension is registered under it',
    );
    await pipeline.warehouse`create table dim_things_history ()`;
    await expect(propose(elsewhere, 'orders', { name: 'things' })).rejects.toThrow(
      'the name things is taken: the warehouse has public.dim_things_history',
    );
  });

  it('nothing because the warehouse is away: the migration is written without a look at it', async () => {
    const away = { ...settings, warehouse: { ...settings.warehouse, port: 1 } };
    expect((await propose(away, 'orders', { name: 'o' })).registration.name).toBe('o');
  });
});

describe('tidemark add', () => {
  it('writes the next migration, says what it decided, and prints only when asked to', async () => {
    const env = { ...pipeline.env, DIMENSIONS_DIR: settings.dimensions_dir };
    const before = (await readdir(settings.dimensions_dir)).length;
    const printed = await runCli(
      ['add', 'public.products', '--name', 'goods', '--untracked', 'stock', '--dry-run'],
      env,
    );
    expect(printed.stdout).toMatch(/^-- Up Migration\n/);
    expect(await readdir(settings.dimensions_dir)).toHaveLength(before);
    const written = await runCli(['add', 'public.products', '--name', 'goods', '--untracked', 'stock'], env);
    const file = `${String(before + 1).padStart(4, '0')}_register_goods.sql`;
    expect(written.stdout).toContain(file);
    expect(written.stdout).toMatch(/stock +stock +integer +untracked/);
    expect(await readFile(path.join(settings.dimensions_dir, file), 'utf8')).toBe(printed.stdout);
    const again = await runCli(['add', 'public.products', '--name', 'goods'], env);
    expect(again).toMatchObject({ code: 1, stdout: '' });
    expect(again.stderr).toContain('a dimension called goods is registered by a migration that has not run yet');
    expect((await runCli(['add', 'public.products', '--rename', 'stock'], env)).code).toBe(2);
  });
});

// At the end: whatever looks at all histories takes long from here on.
describe('add, of the widest table there can be,', () => {
  // How many fit into a row of a catalog is the same on every version.
  it.runIf(testedVersion() === '18')(
    'takes a partitioned table, and as many columns as its history can hold: 1,589',
    async () => {
      await pipeline.source.unsafe(`
      create table wide (region text, id bigint, ${Array.from({ length: 1587 }, (_, place) => `c${String(place)} text`).join(', ')}, updated_at timestamptz not null, primary key (region, id))
        partition by list (region);
      create table wide_north partition of wide for values in ('north');
      create table wide_rest partition of wide default;
      insert into wide (region, id, c0, c1586, updated_at) values ('north', 1, 'a', 'z', now()), ('south', 1, 'b', 'y', now())`);
      const proposed = await register(settings, 'public.wide');
      await extractTables({ settings, tables: ['wide'] });
      await pipeline.source`update wide set c0 = 'c', updated_at = clock_timestamp() where region = 'north'`;
      // In one session: to plan a function so wide takes seconds.
      await flow('wide');
      const { source, history } = await bothEnds('wide', proposed);
      expect(source).toHaveLength(2);
      expect(history).toEqual(source);
      expect(await pipeline.warehouse`select c0 from dim_wide_history order by valid_from, c0`).toHaveLength(3);
      expect((await runChecks(pipeline.warehouse, ['scd2'])).filter(({ violations }) => violations > 0)).toEqual([]);
      await pipeline.source`alter table wide add column one_more text`;
      await expect(propose(settings, 'wide', { name: 'wider' })).rejects.toThrow(
        "history cannot hold the 1590 columns of public.wide: tables can have at most 1600 columns, and 11 are Tidemark's own",
      );
    },
  );
});
