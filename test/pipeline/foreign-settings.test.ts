// Runs on each version: each has settings of its own.
import { readFile, readdir } from 'node:fs/promises';
import path from 'node:path';
import postgres from 'postgres';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Settings } from '../../runner/base/settings.js';
import { extractTables } from '../../runner/extract/tables.js';
import { loadTables } from '../../runner/load/tables.js';
import { rebuildTables, verifyTables } from '../../runner/load/replay.js';
import { retryTables } from '../../runner/load/rejected.js';
import { renderMetrics } from '../../runner/operate/metrics.js';
import { writeReport } from '../../runner/operate/report.js';
import { pipelineStatus } from '../../runner/operate/status.js';
import { reconcileTables } from '../../runner/reconcile/tables.js';
import { runChecks } from '../../runner/warehouse/checks.js';
import { createPipeline, type TestPipeline } from '../support/databases.js';
import { NASTY_KINDS, OWN_TYPES, type Kind } from '../support/kinds.js';
import { propose, register, withDimensionsFolder } from '../support/registered.js';
import { WITH_ROLES, asOwner } from '../support/roles.js';

/** Databases and roles of other people have settings of their own. Nothing that Tidemark does depends on them. */

/** What may be set otherwise, and would change how values print, how SQL is read, or how statements are run. */
const SETTINGS: Readonly<Record<string, string>> = {
  standard_conforming_strings: 'off',
  backslash_quote: 'off',
  escape_string_warning: 'off',
  quote_all_identifiers: 'on',
  array_nulls: 'off',
  transform_null_equals: 'on',
  DateStyle: 'German, DMY',
  IntervalStyle: 'sql_standard',
  TimeZone: 'Pacific/Chatham',
  timezone_abbreviations: 'India',
  extra_float_digits: '-10',
  bytea_output: 'escape',
  lc_monetary: 'C.UTF-8',
  lc_numeric: 'C.UTF-8',
  lc_time: 'C.UTF-8',
  search_path: 'shadow, public',
  default_transaction_isolation: 'serializable',
  default_transaction_deferrable: 'on',
  client_encoding: 'LATIN1',
  client_min_messages: 'debug1',
  check_function_bodies: 'off',
  row_security: 'off',
  default_table_access_method: 'heap',
  synchronous_commit: 'off',
  xmloption: 'document',
  xmlbinary: 'hex',
  plan_cache_mode: 'force_generic_plan',
  constraint_exclusion: 'on',
  from_collapse_limit: '1',
  join_collapse_limit: '1',
  geqo_threshold: '2',
  enable_hashagg: 'off',
  enable_hashjoin: 'off',
  enable_mergejoin: 'off',
  enable_indexscan: 'off',
  enable_bitmapscan: 'off',
  enable_sort: 'off',
  jit_above_cost: '0',
  work_mem: '64kB',
  gin_fuzzy_search_limit: '1',
  cursor_tuple_fraction: '1',
  lo_compat_privileges: 'on',
  session_replication_role: 'replica',
  idle_session_timeout: '60000',
  'plpgsql.variable_conflict': 'use_variable',
  'plpgsql.extra_errors': 'all',
  'plpgsql.extra_warnings': 'all',
  'plpgsql.check_asserts': 'off',
};

/** Objects of the names that the code uses, found first on the search path. */
const SHADOWS = `
  create schema shadow;
  create table shadow.kinds (id integer);
  create table shadow.orders (id integer);
  create table shadow.dimensions (id integer);
  create table shadow.batches (id integer);
  create table shadow.dim_kinds_history (id integer);
  create function shadow.lower(varchar) returns text language sql as $$ select 'shadowed' $$;
  create function shadow.format(varchar, varchar) returns text language sql as $$ select 'shadowed' $$`;

const KINDS: readonly Kind[] = [
  ...NASTY_KINDS.map(([type, ...values]) => [type.replace(/^(mood|spot)/, 'public.$1'), ...values] as const),
  ['xml', "'<a/>'", "'a <b/> c'"],
];
const nthOf = ([, ...values]: Kind, n: number) => [...values, 'null'][n % (values.length + 1)] ?? '';
const COLUMNS = KINDS.map(([type], index) => ({ name: `c${String(index)}`, type }));
const ROWS = 6;
/** A row whose json can be taken apart: lineage does. */
const PLAIN_KEY = '4';

let pipeline: TestPipeline;
let settings: Settings;
beforeAll(async () => {
  pipeline = await createPipeline();
  settings = await withDimensionsFolder(pipeline);
  for (const end of ['source', 'warehouse'] as const) {
    await pipeline[end].unsafe(OWN_TYPES);
    await pipeline[end].unsafe(SHADOWS);
  }
  await pipeline.source.unsafe(
    `create table public.kinds (id integer primary key, n integer, ${COLUMNS.map(({ name, type }) => `${name} ${type}`).join(', ')}, last_updated timestamptz not null default clock_timestamp())`,
  );
  for (let n = 1; n <= ROWS; n += 1) await write(n, n);
  for (const end of ['source', 'warehouse'] as const) await setAll(end);
});
afterAll(async () => {
  await pipeline.drop();
});

/** Gives a row the n-th value of every kind. */
async function write(id: number, n: number): Promise<void> {
  const values = KINDS.map((kind) => nthOf(kind, n));
  await pipeline.source.unsafe(
    `insert into public.kinds values (${[id, id, ...values].join(', ')})
     on conflict (id) do update set ${COLUMNS.map(({ name }, index) => `${name} = ${values[index] ?? ''}`).join(', ')}, last_updated = clock_timestamp()`,
  );
}

/** Half of them are the database's, half the role's in it. */
async function setAll(end: 'source' | 'warehouse'): Promise<void> {
  const { database, user } = pipeline.settings[end];
  for (const [index, [name, value]] of Object.entries(SETTINGS).entries()) {
    const whose = index % 2 === 0 ? `database ${database}` : `role ${user} in database ${database}`;
    await pipeline[end].unsafe(`alter ${whose} set ${name} = ${name === 'search_path' ? value : `'${value}'`}`);
  }
}

const extract = () => extractTables({ settings, tables: ['kinds'] });
const load = async () => (await loadTables({ settings, tables: ['kinds'] }))[0];
const reconcile = async (repair = false) =>
  (await reconcileTables({ settings, tables: ['kinds'], repair, allowDeletes: repair }))[0];

/** What both ends hold, as sessions print it that pin everything. */
const bothEnds = async () => {
  const columns = ['n', ...COLUMNS.map(({ name }) => name)].map((name) => `${name}::text`).join(', ');
  const source = await pipeline.source.unsafe(`select ${columns} from public.kinds order by n`);
  const history = await pipeline.warehouse.unsafe(
    `select ${columns} from public.dim_kinds_history where is_current order by n`,
  );
  return { source: [...source], history: [...history] };
};

/** A session as psql opens one: nothing is pinned. */
const plainSession = (end: 'source' | 'warehouse') => {
  const { host, port, database, user, password } = pipeline.settings[end];
  return postgres({ host, port, database, user, password, max: 1, onnotice: () => undefined });
};

describe.skipIf(WITH_ROLES)('whatever databases and roles have set', () => {
  it('is in force where nobody says otherwise', async () => {
    for (const end of ['source', 'warehouse'] as const) {
      const sql = plainSession(end);
      const rows = await sql<
        { name: string; setting: string }[]
      >`select name, setting from pg_settings where source in ('database', 'database user')`;
      expect(rows.length).toBeGreaterThan(40);
      expect(rows.find(({ name }) => name === 'array_nulls')?.setting).toBe('off');
      await sql.end();
    }
  });

  it('a table with values of every type is registered, captured, loaded, compared and repaired, and both ends print alike', async () => {
    await register(settings, 'public.kinds');
    expect(await extract()).toMatchObject([{ changes: ROWS }]);
    expect(await load()).toMatchObject({ rejected_changes: 0, inserted_versions: ROWS });
    let ends = await bothEnds();
    expect(ends.history).toEqual(ends.source);
    for (let n = 1; n <= ROWS; n += 1) await write(n, n + 1);
    await pipeline.source`delete from public.kinds where id = ${ROWS}`;
    await extract();
    expect(await load()).toMatchObject({ rejected_changes: 0, inserted_versions: ROWS - 1 });
    expect(await reconcile(true)).toMatchObject({ missing: 0, extra: 1, different: 0, repaired: 1 });
    expect(await reconcile()).toMatchObject({ missing: 0, extra: 0, different: 0, unsettled: 0 });
    ends = await bothEnds();
    expect(ends.history).toEqual(ends.source);
  });

  it('a row that did not change is not taken for one that did', async () => {
    await extractTables({ settings, tables: ['kinds'], full: true });
    await pipeline.source`update public.kinds set last_updated = clock_timestamp()`;
    await extract();
    expect(await load()).toMatchObject({ rejected_changes: 0, inserted_versions: 0 });
  });

  it('checks pass, verify-log finds nothing, rebuild changes nothing, and every page can be read', async () => {
    expect((await runChecks(pipeline.warehouse, [])).filter(({ violations }) => violations > 0)).toEqual([]);
    const own = { ...settings, warehouse: asOwner(settings.warehouse) };
    expect(await verifyTables(own, ['kinds'])).toMatchObject([{ missing: [], differences: 0 }]);
    expect(await rebuildTables(own, ['kinds'])).toMatchObject([
      { corrected_versions: 0, added_versions: 0, removed_versions: 0 },
    ]);
    expect(await retryTables({ settings, tables: ['kinds'] })).toMatchObject([{ rejected_changes: 0 }]);
    expect((await pipelineStatus(settings)).tables.find(({ table }) => table === 'kinds')).toBeDefined();
    expect(await renderMetrics(settings)).toContain('kinds');
    const report = await writeReport(settings, ['kinds'], [PLAIN_KEY], pipeline.folder);
    expect(await readFile(report, 'utf8')).toContain('in force');
  });

  it('a batch that psql applies makes the same history', async () => {
    for (let n = 1; n < ROWS; n += 1) await write(n, n + 2);
    await extract();
    const folder = path.join(settings.cdc_log_dir, 'kinds');
    const names = (await readdir(folder)).filter((name) => name.startsWith('changes_'));
    const sql = plainSession('warehouse');
    for (const name of names) {
      const document = await readFile(path.join(folder, name), 'utf8');
      const applied = await sql.begin(
        'isolation level read committed',
        (psql) => psql`select * from tidemark.apply_batch(${document}::text::json)`,
      );
      expect(applied).toMatchObject([{ inserted_versions: String(ROWS - 1), rejected_changes: '0' }]);
    }
    await sql.end();
    const { source, history } = await bothEnds();
    expect(history).toEqual(source);
    expect(await load()).toMatchObject({ inserted_versions: 0 });
    expect(await reconcile()).toMatchObject({ missing: 0, extra: 0, different: 0 });
    expect(await verifyTables({ ...settings, warehouse: asOwner(settings.warehouse) }, ['kinds'])).toMatchObject([
      { differences: 0 },
    ]);
  });

  it('what psql registers is what the migration registers, and what it asks is answered alike', async () => {
    const sql = plainSession('warehouse');
    const { text } = await propose(settings, 'public.kinds', { name: 'twice' });
    await sql.unsafe(text.replace(/^-- Up Migration\n/, ''));
    const mapping = (name: string) => pipeline.warehouse<Record<string, unknown>[]>`
      select source_column, history_column, column_role from tidemark.dimension_columns where dimension_name = ${name} order by ordinal`;
    expect([...(await mapping('twice'))]).toEqual([...(await mapping('kinds'))]);
    expect([...(await pipeline.warehouse`select * from tidemark.dimension_faults('twice')`)]).toEqual([]);
    const QUESTIONS = [
      `select * from tidemark.lineage('kinds', array['${PLAIN_KEY}'])`,
      `select * from tidemark.comparison_states('kinds', (select json_agg(d.key::json) from tidemark.comparison_digests('kinds', 1, '[0]') as d))`,
      `select * from tidemark.comparison_checksums('kinds', 4)`,
      `select * from tidemark.comparison_columns('kinds')`,
      `select * from tidemark.dimension_mappings()`,
      `select * from tidemark.dimension_list()`,
      `select * from tidemark.longest_histories('kinds', 10)`,
      `select * from tidemark.change_frequency('kinds')`,
      `select * from tidemark.newest_batch('kinds', '')`,
      `select * from tidemark.retry_rejected('kinds')`,
      `select * from tidemark.history_summary('kinds')`,
      `select line from tidemark.grant_statements('some') as line`,
    ];
    for (const question of QUESTIONS) {
      const shown = `select coalesce(json_agg(to_json(a.*)::text order by a::text), '[]') as answer from answer as a`;
      const theirs = await sql.begin('isolation level read committed', async (psql) => {
        // What the function has made is shown the same way; what it made it of is not.
        await psql.unsafe(`create temporary table answer on commit drop as ${question}`);
        return psql.unsafe(`set local timezone = 'UTC'; ${shown}`);
      });
      const ours = await pipeline.warehouse.unsafe(`with answer as materialized (${question}) ${shown}`);
      expect([question, theirs.at(-1)]).toEqual([question, [...ours]]);
    }
    await sql.end();
  });

  it('sessions and public functions pin the same', async () => {
    const pinned = await pipeline.warehouse<{ name: string; differs: string[] | null }[]>`
      select p.proname as name, array_agg(c.setting) filter (where current_setting(split_part(c.setting, '=', 1)) <> split_part(c.setting, '=', 2)) as differs
      from pg_proc as p, unnest(p.proconfig) as c (setting)
      where p.pronamespace = 'tidemark'::regnamespace and p.proname !~ '^_' and c.setting !~ '^search_path='
      group by p.proname having count(*) >= 10`;
    expect(pinned.length).toBeGreaterThan(40);
    expect(pinned.filter(({ differs }) => differs !== null)).toEqual([]);
    const open = await pipeline.warehouse<{ name: string }[]>`
      select p.proname as name from pg_proc as p
      where p.pronamespace = 'tidemark'::regnamespace and p.prokind = 'f' and p.provolatile <> 'i' and p.proname !~ '^_'
        and not exists (select from tidemark.dimensions as d where p.proname in ('apply_' || d.dimension_name, 'converge_' || d.dimension_name, 'known_' || d.dimension_name, 'render_' || d.dimension_name))`;
    const names = pinned.map(({ name }) => name);
    expect(open.map(({ name }) => name).filter((name) => !names.includes(name))).toEqual([]);
  });
});
