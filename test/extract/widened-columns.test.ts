import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Settings } from '../../runner/base/settings.js';
import { inTransaction } from '../../runner/base/transaction.js';
import { parseShard } from '../../runner/batch/shard.js';
import { extractTables, type ExtractSelection } from '../../runner/extract/tables.js';
import { retryTables } from '../../runner/load/rejected.js';
import { rebuildTables, verifyTables } from '../../runner/load/replay.js';
import { loadTables } from '../../runner/load/tables.js';
import { reconcileTables } from '../../runner/reconcile/tables.js';
import { proposeUpdate } from '../../runner/registration/propose.js';
import { writeDimensionFile } from '../../runner/registration/files.js';
import { parseTableName, readTable } from '../../runner/source/catalog.js';
import { runChecks } from '../../runner/warehouse/checks.js';
import { migrateDimensions, migrateWarehouse } from '../../runner/warehouse/migrate.js';
import { runCli } from '../support/cli.js';
import { beginEach, type TestPipeline } from '../support/databases.js';
import { register, withDimensionsFolder } from '../support/registered.js';
import { asOwner, owning } from '../support/roles.js';
import { until } from '../support/wait.js';
import { IS_PARTITIONED } from '../support/partitions.js';

/** A column that was widened at the source: history follows by itself where that rewrites nothing, and by a migration elsewhere. */

let pipeline: TestPipeline;
let settings: Settings;
beginEach(
  (begun) => {
    pipeline = begun;
  },
  async () => {
    settings = await withDimensionsFolder(pipeline);
    await pipeline.source
      .unsafe(`create table t (k varchar(5) primary key, v varchar(10), price numeric(8, 2), bits varbit(3),
        at_time timestamp(0), n int, w varchar(10), x varchar(10), cost numeric(8, 2), updated_at timestamptz not null default now());
      insert into t (k, v, price, bits, at_time, n, w, x, cost)
      select 'k' || i, 'short', 1.50, '101', '2026-02-01 09:00', i, 'short', 'short', 1.50 from generate_series(1, 4) as i`);
    await register(settings, 't');
    await flow();
  },
  { WATERMARK_ADVANCE_SECONDS: '0' },
);

const extract = (more: Partial<ExtractSelection> = {}) => extractTables({ settings, tables: ['t'], ...more });
const load = () => loadTables({ settings, tables: ['t'] });
async function flow(more: Partial<ExtractSelection> = {}) {
  await extract(more);
  const [loaded] = await load();
  return {
    inserted: loaded?.inserted_versions,
    closed: loaded?.closed_versions,
    rejected: loaded?.rejected_changes,
  };
}
const propose = () =>
  proposeUpdate(settings, parseTableName('t'), undefined, {
    ...{ track: [], untracked: [], ignore: [], retire: [], rename: new Map<string, string>() },
  });
async function follow() {
  const proposed = await propose();
  await writeDimensionFile(settings.dimensions_dir, 'update_t', proposed?.text ?? '');
  await migrateDimensions(asOwner(settings.warehouse), settings.dimensions_dir);
  return proposed?.text ?? '';
}
const valueOf = async (query: string) => Object.values((await pipeline.warehouse.unsafe(query))[0] ?? {})[0] as unknown;
/** Types of history columns, and the files of the table and of its indexes, but for a partial one over the key, where `isKey`. */
const types = (...columns: string[]) =>
  valueOf(
    `select string_agg(format_type(atttypid, atttypmod), ', ' order by attnum) from pg_attribute where attrelid = 'dim_t_history'::regclass and attname = any ('{${columns.join(',')}}')`,
  );
const files = (isKey = false) =>
  valueOf(
    `select string_agg(oid::regclass || ' ' || relfilenode, ', ' order by oid) from pg_class where oid = 'dim_t_history'::regclass or oid in (select indexrelid from pg_index where indrelid = 'dim_t_history'::regclass ${isKey ? 'and indpred is null' : ''})`,
  );
const versions = (columns: string) =>
  valueOf(`select string_agg(concat_ws(' ', ${columns}), ', ' order by k, valid_from) from dim_t_history`);
const violations = async () =>
  (await runChecks(pipeline.warehouse, ['scd2', 'pipeline'])).filter((e) => e.violations > 0);
/** The documents of batches that wait to be loaded, in the order of their names. */
async function waiting() {
  const folder = path.join(settings.cdc_log_dir, 't');
  const names = (await readdir(folder, { recursive: true })).filter((name) => /(^|\/)changes_[^/]*\.json$/.test(name));
  return Promise.all(names.sort().map((name) => readFile(path.join(folder, name), 'utf8')));
}
const apply = (document: string) =>
  pipeline.warehouse`select * from tidemark.apply_batch(p_batch => ${document}::text::json)`;
const LONG = 'longer than ten characters';
/** Asks whatever else looks at the types: none of them sees a difference, or anything to do. */
async function expectPeace() {
  expect(await propose()).toBeUndefined();
  expect(await reconcileTables({ settings, tables: ['t'], repair: false, allowDeletes: false })).toMatchObject([
    { table: 't', differences: [], unsettled: 0 },
  ]);
  expect(await verifyTables(owning(settings), ['t'])).toMatchObject([{ differences: 0, missing: [] }]);
  expect(await violations()).toEqual([]);
}

describe('a column that was widened at the source', () => {
  it('is followed with the first batch, which rewrites nothing, and it goes on, whatever its type', async () => {
    const before = await files();
    for (const [column, type, value, shown] of [
      ['v', 'varchar(40)', `'${LONG}'`, 'character varying(40)'],
      ['w', 'text', `'${LONG}'`, 'text'],
      ['x', 'varchar', `'${LONG}'`, 'character varying'],
      ['price', 'numeric(12, 2)', '1234567890.25', 'numeric(12,2)'],
      ['cost', 'numeric', '1234567890.25', 'numeric'],
      ['bits', 'varbit(9)', "'101010101'", 'bit varying(9)'],
      ['at_time', 'timestamp(3)', "'2026-02-01 10:00:00.125'", 'timestamp(3) without time zone'],
    ] as const) {
      await pipeline.source.unsafe(`alter table t alter ${column} type ${type}`);
      await pipeline.source.unsafe(`update t set ${column} = ${value}, updated_at = clock_timestamp() where k = 'k2'`);
      expect(await propose(), column).toBeUndefined();
      expect(await flow(), column).toEqual({ inserted: 1, closed: 1, rejected: 0 });
      expect(await types(column)).toBe(shown);
      expect(await files(), column).toBe(before);
      expect(await valueOf(`select ${column} = ${value} from dim_t_current where k = 'k2'`), column).toBe(true);
      expect(await flow(), column).toEqual({ inserted: 0, closed: 0, rejected: 0 });
    }
    await expectPeace();
  });

  it('is said by extract and by load, once, and noted with the batch that needed it', async () => {
    await pipeline.source.unsafe(
      `alter table t alter v type varchar(40); update t set v = '${LONG}', updated_at = now() where k = 'k1'`,
    );
    const env = { ...pipeline.env, DIMENSIONS_DIR: settings.dimensions_dir };
    const extracted = await runCli(['extract', '--table', 't'], env);
    expect(extracted).toMatchObject({ code: 0 });
    expect(extracted.stderr).toContain('v was character varying(10) and is character varying(40)');
    const loaded = await runCli(['load', '--table', 't'], env);
    expect(loaded).toMatchObject({ code: 0 });
    expect(loaded.stderr).toContain(
      't: history columns have another type now: v was character varying(10) and is character varying(40)',
    );
    expect((await runCli(['extract', '--table', 't'], env)).stderr).not.toContain('varying');
    expect([
      ...(await pipeline.warehouse`select r.history_column, r.former_type, r.type, r.shard, b.change_count from tidemark.retyped_columns as r join tidemark.batches as b using (dimension_name, shard, batch_id)`),
    ]).toEqual([
      {
        ...{ history_column: 'v', former_type: 'character varying(10)', type: 'character varying(40)', shard: '' },
        change_count: 1,
      },
    ]);
  });

  it.skipIf(IS_PARTITIONED)(
    'of the key: no index is rewritten but the partial one, and as-of functions and lineage know the longer key',
    async () => {
      const before = await files(true);
      await pipeline.source.unsafe(
        `alter table t alter k type text; insert into t (k, v) values ('a key of many letters', 'x')`,
      );
      expect(await flow()).toMatchObject({ inserted: 1 });
      await pipeline.source.unsafe(
        `update t set v = 'y', updated_at = now() where k in ('a key of many letters', 'k1')`,
      );
      expect(await flow()).toMatchObject({ inserted: 2, closed: 2 });
      expect([await types('k'), await files(true)]).toEqual(['text', before]);
      expect(await valueOf(`select count(*) from dim_t_history_as_of(now()) where k = 'a key of many letters'`)).toBe(
        '1',
      );
      expect(await valueOf(`select count(*) from tidemark.lineage('t', 'a key of many letters')`)).toBe('2');
      await expectPeace();
    },
  );

  it.skipIf(IS_PARTITIONED)('keeps the collation of history', async () => {
    await pipeline.warehouse.unsafe(
      `drop view dim_t_current; select tidemark._clear_versions_view(); alter table dim_t_history alter k type varchar(5) collate "C";
       select tidemark.compile_dimension('t'), tidemark._create_versions_view()`,
    );
    const before = await files(true);
    await pipeline.source.unsafe(
      `alter table t alter k type varchar(30); insert into t (k) values ('a key of many letters')`,
    );
    await flow();
    expect([await types('k'), await files(true)]).toEqual(['character varying(30)', before]);
    expect(
      await valueOf(
        `select attcollation::regcollation::text from pg_attribute where attrelid = 'dim_t_history'::regclass and attname = 'k'`,
      ),
    ).toBe('"C"');
  });

  it('leaves views on the history, and views upon those, with their grants, comments and options', async () => {
    await pipeline.warehouse.unsafe(`
      drop role if exists widen_reader; create role widen_reader;
      comment on column dim_t_current.v is 'in a word';
      grant select on dim_t_current to widen_reader with grant option;
      create view longest with (security_barrier = true) as select max(v) as v, count(*) as n from dim_t_current;
      comment on view longest is 'the longest';
      grant select (v) on longest to public;
      create view counted as select sum(n) as n from longest;
      alter view counted owner to widen_reader; grant select on longest to widen_reader; grant select on counted to public`);
    const look = () =>
      pipeline.warehouse.unsafe(`
        select c.relname, c.relacl, c.reloptions, c.relowner, obj_description(c.oid, 'pg_class') as about, a.attname, a.attacl,
          col_description(c.oid, a.attnum) as column_about, pg_get_viewdef(c.oid) as definition
        from pg_class as c join pg_attribute as a on a.attrelid = c.oid and (a.attacl is not null or a.attname in ('v', 'n'))
        where c.relname in ('dim_t_current', 'longest', 'counted') order by 1, a.attname`);
    const before = [...(await look())];
    expect(before).toHaveLength(5);
    await pipeline.source.unsafe(
      `alter table t alter v type varchar(40); update t set v = '${LONG}', updated_at = now() where k = 'k1'`,
    );
    await flow();
    expect([...(await look())]).toEqual(before);
    expect(await valueOf(`select n from counted`)).toBe('4');
    await pipeline.warehouse.unsafe('drop owned by widen_reader; drop role widen_reader');
  });

  it('waits where something hangs on it that cannot be made anew, and names that; afterwards it goes on', async () => {
    await pipeline.warehouse.unsafe('create materialized view kept as select v from dim_t_history');
    await pipeline.source.unsafe(
      `alter table t alter v type varchar(40); update t set v = '${LONG}', updated_at = now() where k = 'k1'`,
    );
    await extract();
    await expect(load()).rejects.toMatchObject({
      code: 'TM024',
      message: expect.stringContaining('public.kept shows the column, and is a materialized view') as string,
      hint: expect.stringContaining('drop what is named') as string,
    });
    expect(await types('v')).toBe('character varying(10)');
    await pipeline.warehouse.unsafe('drop materialized view kept');
    expect(await load()).toMatchObject([{ inserted_versions: 1, rejected_changes: 0 }]);
  });

  it('is no matter to batches from before, whenever they are loaded: nothing becomes narrower', async () => {
    await pipeline.source.unsafe(`update t set v = 'before', updated_at = now() where k = 'k1'`);
    await extract();
    await pipeline.source.unsafe(
      `alter table t alter v type varchar(40); update t set v = '${LONG}', updated_at = now() where k = 'k1'`,
    );
    await extract();
    await pipeline.source.unsafe(
      `alter table t alter v type text; update t set v = v || '${LONG}', updated_at = now() where k = 'k1'`,
    );
    await extract();
    const documents = await waiting();
    expect(documents).toHaveLength(3);
    for (const document of documents.reverse()) {
      await apply(document);
      expect(await types('v')).toBe('text');
    }
    await load();
    expect(await versions('v')).toBe(`short, before, ${LONG}, ${LONG}${LONG}, short, short, short`);
    await expectPeace();
  });

  it('is followed by whichever shard comes first, and the other goes on', async () => {
    for (const shard of ['1/2', '2/2']) await flow({ shard: parseShard(shard) });
    await pipeline.source.unsafe(
      `alter table t alter v type varchar(40); update t set v = '${LONG}', updated_at = now()`,
    );
    for (const shard of ['1/2', '2/2']) await extract({ shard: parseShard(shard) });
    const documents = await waiting();
    expect(documents).toHaveLength(2);
    await Promise.all(documents.map(apply));
    expect(await types('v')).toBe('character varying(40)');
    expect(await valueOf(`select count(*) from dim_t_current where v = '${LONG}'`)).toBe('4');
    expect(await valueOf('select count(*) from tidemark.retyped_columns')).toBe('1');
    await expectPeace();
  });

  it('gives its values back where a release that did not follow had set them aside', async () => {
    await pipeline.source.unsafe(
      `alter table t alter v type varchar(40); update t set v = '${LONG}', updated_at = now() where k = 'k1'`,
    );
    await extract();
    await pipeline.warehouse`create or replace function tidemark._is_widened(p_from text, p_to text) returns boolean language sql immutable as 'select false'`;
    expect(await load()).toMatchObject([{ rejected_changes: 1 }]);
    await migrateWarehouse(asOwner(settings.warehouse), settings.dimensions_dir);
    await retryTables({ settings, tables: ['t'] });
    expect(await versions('v')).toBe(`short, ${LONG}, short, short, short`);
    await expectPeace();
  });

  it('is widened by a rebuild too, for applied files that the ledger of a restored warehouse does not know', async () => {
    await pipeline.source.unsafe(
      `alter table t alter v type varchar(40); update t set v = '${LONG}', updated_at = now() where k = 'k1'`,
    );
    await flow();
    // As a backup from before it would be.
    await pipeline.warehouse.unsafe(`
      delete from dim_t_history where v = '${LONG}'; update dim_t_history set valid_to = null, is_current = true where valid_to is not null;
      delete from tidemark.batches where dimension_name = 't' and batch_id = (select batch_id from tidemark.retyped_columns);
      drop view dim_t_current; select tidemark._clear_versions_view(); alter table dim_t_history alter v type varchar(10);
      create view dim_t_current as select * from dim_t_history where is_current;
      select tidemark.compile_dimension('t'), tidemark._create_versions_view(); delete from tidemark.retyped_columns`);
    await rebuildTables(owning(settings), ['t']);
    expect([await types('v'), await versions('v')]).toEqual([
      'character varying(40)',
      `short, ${LONG}, short, short, short`,
    ]);
    await expectPeace();
  });

  it('waits for a reader of the history for a second at most, and is tried again', async () => {
    await pipeline.source.unsafe(
      `alter table t alter v type varchar(40); update t set v = '${LONG}', updated_at = now() where k = 'k1'`,
    );
    await extract();
    const [document = ''] = await waiting();
    const loading = await inTransaction(pipeline.warehouse, 'read only', async (reader) => {
      await reader`select count(*) from dim_t_history`;
      await expect(apply(document)).rejects.toMatchObject({
        code: '55P03',
        message: expect.stringContaining('and in use') as string,
      });
      // Until it has waited in vain and is there again.
      const begun = new Set<string>();
      const loaded = load();
      await until(async () => {
        const blocked = await pipeline.warehouse<{ since: string }[]>`
          select a.xact_start::text as since from pg_locks as l join pg_stat_activity as a using (pid)
          where not l.granted and l.relation = 'dim_t_history'::regclass`;
        for (const { since } of blocked) begun.add(since);
        return begun.size > 1;
      });
      return { loaded };
    });
    expect(await loading.loaded).toMatchObject([{ inserted_versions: 1 }]);
  });
});

describe('what counts as wider', () => {
  it('is the same to source and warehouse, and nothing that PostgreSQL would rewrite', async () => {
    const KINDS = [
      ...['varchar(5)', 'varchar(9)', 'varchar', 'text', 'char(5)', 'char(9)', 'varchar(5)[]', 'varchar(9)[]', 'name'],
      ...[
        'numeric(8,2)',
        'numeric(12,2)',
        'numeric(12,4)',
        'numeric(8)',
        'numeric',
        'int',
        'bigint',
        'bit(3)',
        'bit(9)',
        'varbit(3)',
        'varbit(9)',
        'varbit',
      ],
      ...[
        'timestamp(0)',
        'timestamp(3)',
        'timestamp',
        'timestamptz(0)',
        'timestamptz',
        'time(0)',
        'time',
        'timetz(0)',
        'timetz(3)',
      ],
      ...[
        'interval(0)',
        'interval(3)',
        'interval',
        'interval day to second(3)',
        'interval year',
        'short',
        'jsonb',
        'json',
      ],
    ];
    const database = pipeline.source;
    await database.unsafe('create domain short as varchar(5)');
    await database.unsafe(`create table kinds (${KINDS.map((kind, place) => `c${String(place)} ${kind}`).join(', ')})`);
    const named = await database<
      { type: string }[]
    >`select distinct format_type(atttypid, atttypmod) as type from pg_attribute where attrelid = 'kinds'::regclass and attnum > 0`;
    const names = named.map(({ type }) => type);
    const { columns } = await readTable(database, parseTableName('kinds'), names);
    const pairs = columns.flatMap(({ declared, widens }) => widens.map((from) => `${from} > ${declared}`)).sort();
    const [said] = await pipeline.warehouse<{ pairs: string[] }[]>`
      select array_agg(f || ' > ' || t order by (f || ' > ' || t) collate "C") as pairs
      from unnest(${names}::text[]) as f, unnest(${names}::text[]) as t where tidemark._is_widened(f, t)`;
    expect(pairs).toEqual(said?.pairs);
    expect(pairs).toHaveLength(22);
    for (const pair of pairs) {
      const [from = '', to = ''] = pair.split(' > ');
      const look = async () =>
        database`select relname, relfilenode from pg_class where relname in ('wide', 'wide_c_key') order by 1`;
      await database.unsafe(`drop table if exists wide; create table wide (c ${from} unique)`);
      const before = [...(await look())];
      await database.unsafe(`alter table wide alter c type ${to} using c::${to}`);
      expect([pair, ...(await look())]).toEqual([pair, ...before]);
    }
  });
});

describe('a column that history can take only by rewriting it', () => {
  it.each([
    ['n', 'bigint', '5000000000', 'bigint'],
    ['price', 'numeric(10, 4)', '1.2345', 'text'],
  ])(
    '%s to %s: the error names the command that writes the migration, and it goes on without loss',
    async (column, type, value, becomes) => {
      await pipeline.source
        .unsafe(`create view other as select 1; alter table t alter ${column} type ${type}, alter v type text;
      update t set ${column} = ${value}, v = '${LONG}', updated_at = now() where k = 'k1'`);
      await expect(extract()).rejects.toMatchObject({
        message: 'columns of public.t have another type now, which does not fit into history',
        hint: expect.stringMatching(/: npx tidemark add --update public\.t$/) as string,
        detail: expect.not.stringContaining('v was') as string,
      });
      const text = await follow();
      expect(text).toMatch(new RegExp(`p_history_column => '${column}',\\s+p_type => '${becomes}'`));
      expect(text).not.toContain("'v'");
      // What prints with other zeros is another value.
      const changed = column === 'n' ? 1 : 4;
      expect(await flow()).toEqual({ inserted: changed, closed: changed, rejected: 0 });
      expect(await types(column, 'v')).toBe(column === 'n' ? 'text, bigint' : 'text, text');
      expect(await valueOf(`select ${column}::text from dim_t_current where k = 'k1'`)).toBe(value);
      await expectPeace();
    },
  );

  it.skipIf(IS_PARTITIONED)('is a key of many rows, whose index of current versions would be built anew', async () => {
    await pipeline.warehouse.unsafe(`
      alter table dim_t_history disable trigger all;
      insert into dim_t_history (k, v, valid_from, is_current, cdc_operation, cdc_timestamp, batch_id, created_at, updated_at, captured_at, change_line)
      select to_hex(i), 'short', now(), true, 'INSERT', now(), h.batch_id, now(), now(), now(), i
      from generate_series(1, 80000) as i cross join (select batch_id from dim_t_history limit 1) as h`);
    await pipeline.warehouse`create index on dim_t_history (k) with (fillfactor = 10) where is_current`;
    expect(await propose()).toBeUndefined();
    await pipeline.source.unsafe(
      `alter table t alter k type varchar(40), alter v type text; update t set updated_at = now()`,
    );
    await expect(extract()).rejects.toMatchObject({ detail: expect.stringMatching(/table=t k was [^;]*$/) as string });
    expect(await follow()).toMatch(/p_history_column => 'k',\s+p_type => 'varchar\(40\)'/);
    expect(await flow()).toMatchObject({ rejected: 0 });
    expect(await types('k', 'v')).toBe('character varying(40), text');
  });

  it('is no domain: its owner decides', async () => {
    await pipeline.warehouse.unsafe(
      `create domain short as varchar(10); drop view dim_t_current; select tidemark._clear_versions_view(); alter table dim_t_history alter v type short;
       select tidemark.compile_dimension('t'), tidemark._create_versions_view()`,
    );
    await pipeline.source.unsafe(
      `alter table t alter v type varchar(40); update t set v = '${LONG}', updated_at = now() where k = 'k1'`,
    );
    await expect(extract()).rejects.toThrow('which does not fit into history');
    await follow();
    expect(await flow()).toMatchObject({ inserted: 1, rejected: 0 });
  });
});
