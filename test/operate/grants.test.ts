// Runs on each version: what a role inherits, and from which roles of the server, is not the same on each.
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadSettings } from '../../runner/base/settings.js';
import { connect, type Database } from '../../runner/base/database.js';
import { grantRoles } from '../../runner/operate/grants.js';
import { slotOf } from '../../runner/stream/position.js';
import { migrateWarehouse } from '../../runner/warehouse/migrate.js';
import { renderMetrics } from '../../runner/operate/metrics.js';
import { apply, batch, change, rolledBack } from '../support/batches.js';
import { runCli, type CliResult } from '../support/cli.js';
import { createPipeline, type TestPipeline } from '../support/databases.js';
import { registerDimension } from '../support/dimensions.js';
import { readExport } from '../support/parquet.js';
import { WITH_ROLES } from '../support/roles.js';

const prefix = `tide_${randomBytes(4).toString('hex')}`;
const [READER, OWNER, LOADER, ANALYST] = ['reader', 'owner', 'loader', 'analyst'].map(
  (role) => `${prefix}_${role}`,
) as [string, string, string, string];

let pipeline: TestPipeline;
/** The settings of a pipeline that runs as reader and loader. */
let env: Record<string, string>;
const sessions: Database[] = [];
let [reader, owner, loader, analyst]: Database[] = [];

beforeAll(async () => {
  pipeline = await createPipeline();
  await pipeline.source.unsafe('create table public.secrets (id integer); insert into public.secrets values (1)');
  expect(await runCli(['grants', '--apply', '--prefix', prefix], pipeline.env)).toMatchObject({ code: 0 });
  for (const role of [READER, OWNER, LOADER, ANALYST])
    await pipeline.warehouse.unsafe(`alter role ${role} password '${role}'`);
  env = {
    ...pipeline.env,
    DB_USER: READER,
    DB_PASSWORD: READER,
    WAREHOUSE_DB_USER: LOADER,
    WAREHOUSE_DB_PASSWORD: LOADER,
  };
  const { source, warehouse } = pipeline.settings;
  const as = (settings: typeof source, role: string) => {
    const session = connect({ ...settings, user: role, password: role }, 'test');
    sessions.push(session);
    return session;
  };
  [reader, owner, loader, analyst] = [
    as(source, READER),
    as(warehouse, OWNER),
    as(warehouse, LOADER),
    as(warehouse, ANALYST),
  ];
});
afterAll(async () => {
  for (const session of sessions) await session.end();
  const admin = connect({ ...pipeline.admin.warehouse, database: 'postgres' }, 'test');
  await pipeline.drop();
  for (const role of [READER, OWNER, LOADER, ANALYST]) await admin.unsafe(`drop role if exists ${role}`);
  await admin.end();
});

/** What a statement ends with: ok, or the SQLSTATE. */
const outcome = async (session: Database | undefined, statement: string): Promise<string> => {
  if (session === undefined) throw new Error('no session');
  return session.unsafe(statement).then(
    () => 'ok',
    (error: unknown) => String((error as { code?: string }).code),
  );
};
const DENIED = '42501';
const as = (settings: Record<string, string>, ...args: string[]): Promise<CliResult> =>
  runCli(args, { ...env, ...settings });

test('the pipeline runs under reader and loader, its checks, reports and metrics too', async () => {
  expect((await runCli(['simulate', '--changes', '40', '--seed', '9'], pipeline.env)).code).toBe(0);
  for (const args of [
    ['extract'],
    ['load'],
    ['extract'],
    ['check'],
    ['status', '--json'],
    ['report', '--output', pipeline.folder],
  ]) {
    const result = await as({}, ...args);
    expect(result, `${args.join(' ')}: ${result.stdout} ${result.stderr}`).toMatchObject({ code: 0 });
    expect(result.stderr, args.join(' ')).not.toMatch(/permission|denied|pg_read_all_stats/);
  }
  const runs = await pipeline.warehouse<{ pipeline_name: string; status: string; start: string | null }[]>`
    select pipeline_name, status, performance_metrics ->> 'backend_start' as start from public.pipeline_metadata order by id`;
  expect(
    runs
      .filter(({ pipeline_name }) => pipeline_name !== 'simulate')
      .map(({ pipeline_name, status, start }) => [pipeline_name, status, start !== null]),
  ).toEqual([
    ['extract', 'succeeded', true],
    ['load', 'succeeded', true],
    ['extract', 'succeeded', true],
  ]);
  expect([...(await pipeline.warehouse`select count(*) > 0 as found from tidemark.check_results`)]).toEqual([
    { found: true },
  ]);
  const page = await renderMetrics(loadSettings(env, pipeline.folder));
  expect(page).toContain('tidemark_up{end="warehouse"} 1');
  expect(page).toContain('tidemark_window_changes{table="orders"}');
});

// With TEST_ROLES=1 no command runs as a superuser.
test.skipIf(WITH_ROLES)(
  'history is verified and rebuilt by a superuser too, whose scratch tables are not the owner’s',
  async () => {
    for (const args of [
      ['verify-log', '--table', 'orders'],
      ['rebuild', '--table', 'orders'],
    ]) {
      const { code, stdout, stderr } = await runCli(args, pipeline.env);
      expect([args[0], code], stdout + stderr).toEqual([args[0], 0]);
    }
  },
);

test('the loader applies a batch, and only so does history change', async () => {
  if (loader === undefined) throw new Error('no session');
  const before = await pipeline.warehouse`select count(*)::integer as n from public.dim_orders_history`;
  expect(
    await apply(loader, batch('by hand', '2030-01-01T00:00:00', [change(9001, 'pending', '2029-01-01T00:00:00')])),
  ).toMatchObject({ inserted_versions: '1' });
  expect((await pipeline.warehouse`select count(*)::integer as n from public.dim_orders_history`)[0]?.n).toBe(
    Number(before[0]?.n) + 1,
  );
  await pipeline.warehouse`delete from public.dim_orders_history where order_key = 9001`;
  await pipeline.warehouse`delete from tidemark.batches where batch_id = 'by hand'`;
});

test.each([
  'update public.dim_orders_history set quantity = 1',
  'delete from public.dim_orders_history',
  'truncate public.dim_orders_history',
  'insert into tidemark.batches select * from tidemark.batches',
  'delete from tidemark.absorbed_changes',
  'delete from tidemark.rejected_changes',
  "update public.pipeline_metadata set status = 'succeeded'",
  "update tidemark.dimensions set source_table = 'secrets'",
  'drop table public.dim_orders_history',
  'alter table public.dim_orders_history disable trigger all',
  'alter function tidemark.apply_batch(json) security invoker',
  'create table public.mine (id integer)',
  'create function tidemark.mine() returns integer language sql as $$select 1$$',
  "select tidemark.register_dimension('x', 'public', 'x', 'public.dim_orders_history', '[]')",
  'select tidemark._create_versions_view()',
  'update tidemark.dimensions set pruned_before = null',
  'update tidemark.batches set pruned_changes = 0',
  'truncate tidemark.batches cascade',
  'truncate public.pipeline_metadata',
  "select tidemark._note_action('orders', 'pause', 'nobody', 'x')",
  "select tidemark.remove_dimension('orders', true)",
  "update tidemark.alert_rules set meaning = ''",
  'delete from tidemark.alert_rules',
  `set role ${OWNER}`,
  'create role mine',
  "copy public.dim_orders_history to program 'true'",
])('loader and analyst are refused: %s', async (statement) => {
  expect(await outcome(loader, statement)).toBe(DENIED);
  expect(await outcome(analyst, statement)).toBe(DENIED);
});

test('the analyst reads history, indicators and alerts, and applies nothing', async () => {
  for (const relation of [
    'public.dim_orders_history',
    'public.dim_orders_current',
    'tidemark.versions',
    'tidemark.kpis',
    'tidemark.alerts',
    'tidemark.resource_kpis',
    "public.dim_orders_history_as_of('2026-02-01')",
    "public.dim_orders_history_diff('2026-02-01', now())",
    "public.dim_orders_history_changes('-infinity', now())",
  ])
    expect(await outcome(analyst, `select * from ${relation}`), relation).toBe('ok');
  for (const call of [
    "tidemark.apply_batch('{}')",
    "tidemark.note_checks('[]', now())",
    "tidemark.start_run('load', 'x', 0, '{}')",
    "tidemark.finish_run('x', 'failed', '{}')",
    'tidemark.prune_reports(now())',
    "tidemark.prune_absorbed_changes('orders', now(), 1)",
  ])
    expect(await outcome(analyst, `select ${call}`), call).toBe(DENIED);
  expect(await outcome(analyst, 'update tidemark.alert_rules set threshold = 1 where false')).toBe(DENIED);
  expect(await outcome(loader, 'update tidemark.alert_rules set threshold = 1 where false')).toBe('ok');
});

test('the analyst exports what it may read, and it is known where; who may read more adds nothing to that export', async () => {
  await pipeline.warehouse`select tidemark.mask_column('orders', 'unit_price')`;
  await pipeline.warehouse`select tidemark.mask_column('orders', 'quantity', false)`;
  await runCli(['grants', '--apply', '--prefix', prefix], pipeline.env);
  const folder = path.join(pipeline.folder, 'exported');
  const args = ['export', 'orders', '--format', 'parquet', '--to', folder];
  for (const role of [ANALYST, LOADER, OWNER]) {
    const result = await as({ WAREHOUSE_DB_USER: role, WAREHOUSE_DB_PASSWORD: role }, ...args);
    expect(result).toMatchObject({ code: 0, stderr: '' });
    expect(result.stdout).toContain('left out, as they may not be read, or were left out before: unit_price');
    const [first = {}] = readExport(folder);
    expect(Object.keys(first)).toContain('quantity');
    expect(Object.keys(first)).not.toContain('unit_price');
  }
  // Who may not end it loses none of its files.
  const ending = ['export', 'orders', '--to', folder, '--remove'];
  const refused = await as({ WAREHOUSE_DB_USER: ANALYST, WAREHOUSE_DB_PASSWORD: ANALYST }, ...ending);
  expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining('permission denied') as string });
  expect(readExport(folder)).not.toEqual([]);
  // Nor what is masked since.
  await pipeline.warehouse`select tidemark.mask_column('orders', 'quantity')`;
  const masked = await as({ WAREHOUSE_DB_USER: OWNER, WAREHOUSE_DB_PASSWORD: OWNER }, ...args);
  expect(masked.stdout).toContain('left out before: quantity, unit_price');
  expect([...(await pipeline.warehouse`select folder, exported_by from tidemark.exports`)]).toEqual([
    { folder, exported_by: OWNER },
  ]);
  for (const column of ['quantity', 'unit_price'])
    await pipeline.warehouse`select tidemark.mask_column('orders', ${column}, false)`;
  await runCli(['grants', '--apply', '--prefix', prefix], pipeline.env);
});

test('loader and analyst count every session of the server, whoever holds it', async () => {
  const held = await Promise.all(Array.from({ length: 3 }, () => pipeline.warehouse.reserve()));
  for (const session of [loader, analyst]) {
    const [row] =
      (await session?.unsafe<[{ sessions: number; ours: number; share: number }]>(`
      select connections::integer as sessions, tidemark_connections::integer as ours, connection_pool_utilization * connections_allowed as share from tidemark.connection_kpis`)) ??
      [];
    // Those held, and its own.
    expect(row?.sessions).toBeGreaterThanOrEqual(4);
    expect(row?.ours).toBeGreaterThanOrEqual(4);
    expect(row?.share).toBeCloseTo(row?.sessions ?? 0);
  }
  for (const session of held) session.release();
});

test('the reader reads the registered tables and writes nothing, read-only mode or not', async () => {
  expect(await outcome(reader, 'select * from public.orders')).toBe('ok');
  expect(await outcome(reader, 'select * from public.secrets')).toBe(DENIED);
  expect(await outcome(reader, 'delete from public.orders')).toBe('25006');
  expect(await outcome(reader, 'set default_transaction_read_only = off')).toBe('ok');
  for (const statement of [
    'delete from public.orders',
    'update public.orders set quantity = 1',
    'truncate public.orders',
    'create table public.mine (id integer)',
    'select 1; lock table public.orders in exclusive mode',
  ])
    expect(await outcome(reader, statement), statement).toBe(DENIED);
});

test('a loader’s table of temporary name misleads no function that runs with its owner’s rights', async () => {
  if (loader === undefined) throw new Error('no session');
  const document = batch('mislead', '2030-01-02T00:00:00', [change(9002, 'pending', '2029-01-01T00:00:00')]);
  await loader
    .begin(async (transaction) => {
      for (const table of ['dimensions', 'batches', 'pg_class', 'dim_orders_history'])
        await transaction.unsafe(`create temp table ${table} (id integer)`);
      await transaction`set local search_path = pg_temp, tidemark, public`;
      expect(await apply(transaction, document)).toMatchObject({ inserted_versions: '1' });
      await transaction`set local search_path = tidemark, public`;
      expect([...(await transaction`select count(*)::integer as n from pg_temp.dim_orders_history`)]).toEqual([
        { n: 0 },
      ]);
      throw new Error('undone');
    })
    .catch((error: unknown) => {
      expect(String(error)).toContain('undone');
    });
});

test('what is done by hand the loader may do, misled by no table of temporary name, and it is noted for whom and by whom', async () => {
  if (loader === undefined) throw new Error('no session');
  const bad = [
    change(9003, 'pending', '2029-01-01T00:00:00'),
    change(9004, 'x', '2029-01-01T00:00:00', { quantity: 'q' }),
  ];
  const document = batch('by ann', '2030-01-02T00:00:00', bad);
  const noted = await rolledBack(loader, async (transaction) => {
    await apply(transaction, document);
    for (const table of [
      'dimensions',
      'batches',
      'actions',
      'rejected_changes',
      'retracted_changes',
      'retractions',
      'rejected_reasons',
    ])
      await transaction.unsafe(`create temp table ${table} (id integer)`);
    await transaction.unsafe(`create function pg_temp._who(text) returns text language sql as 'select ''mallory'''`);
    await transaction`set local search_path = pg_temp, tidemark, public`;
    await transaction.unsafe(`
      select tidemark.retry_rejected('orders', 'it is mended', 'ann');
      select tidemark.dismiss_rejected('orders', 'by ann', null, 'a test', p_who => 'ann');
      select tidemark.dismiss_rejected('orders', 'by ann', null, 'once more', p_who => 'bob');
      select tidemark.dismiss_rejected('orders', 'by ann', null, null, p_who => ' ');
      select tidemark.retract_batch('orders', 'by ann', 'wrong', 'ann');
      select tidemark.retract_batch('orders', 'by ann', 'wrong', 'bob');
      select tidemark.restore_batch('orders', 'by ann', 'ann', 'right after all');
      select tidemark.pause_dimension('orders', true, 'a day off', 'ann');
      select tidemark.pause_dimension('orders', true, 'once more', 'bob');
      select tidemark.pause_dimension('orders', false)`);
    return transaction`
      select action, acted_by, reason, batch_id, changes::integer as changes, session_role = session_user as is_told
      from tidemark.actions order by action_id`;
  });
  const by = (
    action: string,
    acted_by: string,
    reason: string | null,
    batch_id: string | null,
    changes: number | null,
  ) => ({
    ...{ action, acted_by, reason, batch_id, changes, is_told: true },
  });
  expect([...noted]).toEqual([
    by('retry', 'ann', 'it is mended', null, 0),
    by('dismiss', 'ann', 'a test', 'by ann', 1),
    by('wait again', LOADER, null, 'by ann', 1),
    by('retract', 'ann', 'wrong', 'by ann', 2),
    by('restore', 'ann', 'right after all', 'by ann', 2),
    by('pause', 'ann', 'a day off', null, null),
    by('resume', LOADER, null, null, null),
  ]);
  expect(await outcome(analyst, "select tidemark.pause_dimension('orders', true)")).toBe(DENIED);
});

test.each([
  '[]',
  '{"process_id": "x"}',
  '{"backend_pid": "x"}',
  '{"interval_seconds": 0}',
  '{"pending_batches": {"orders": "many"}}',
  '{"pending_batches": 7}',
  '{"table_success": {"orders": "never"}}',
  '{"interval_seconds": 1e-310}',
  '{"interval_seconds": "NaN"}',
  '{"shard": "1-of-99999999999"}',
  '{"table_success": {"orders": "4714-11-24 BC"}}',
  '{"table_success": {"orders": "-infinity"}}',
  '{"table_errors": [1]}',
  '{"table_errors": {"orders": {"at": "2026-02-01T00:00:00Z"}}}',
  '{"table_errors": {"orders": {"at": "soon", "error": "e"}}}',
])('a loader that reports %s is refused, and alerts and indicators go on', async (metrics) => {
  if (loader === undefined || analyst === undefined) throw new Error('no session');
  const literal = metrics.replaceAll("'", "''");
  await loader.unsafe("select tidemark.start_run('load', 'honest', 0, '{}')");
  for (const call of [
    `start_run('load', 'hostile', 0, '${literal}')`,
    `continue_run('honest', '${literal}')`,
    `finish_run('honest', 'failed', '${literal}')`,
  ])
    expect(await outcome(loader, `select tidemark.${call}`), call).toBe('TM021');
  for (const view of ['kpis', 'alerts', 'resource_kpis'])
    expect(await outcome(analyst, `select * from tidemark.${view}`), view).toBe('ok');
  await pipeline.warehouse`delete from public.pipeline_metadata where run_id in ('honest', 'hostile')`;
});

test('a comparison that a loader says is yet to come is not the newest for ever', async () => {
  expect(await outcome(loader, "select tidemark.note_reconciliation('products', 10, 0, 0, 0, 0, 'infinity')")).toBe(
    'ok',
  );
  expect([
    ...(await pipeline.warehouse`select reconciled_at <= clock_timestamp() as is_past from tidemark.reconciliations where dimension_name = 'products'`),
  ]).toEqual([{ is_past: true }]);
  await pipeline.warehouse`delete from tidemark.reconciliations`;
});

test('the owner migrates, and is not a superuser', async () => {
  const { warehouse } = pipeline.settings;
  const report = await migrateWarehouse({ ...warehouse, user: OWNER, password: OWNER });
  expect(report.applied).toEqual([]);
  expect([
    ...(await pipeline.warehouse`select rolsuper or rolcreaterole or rolcreatedb or rolbypassrls or rolreplication as is_mighty from pg_roles where rolname like ${`${prefix}%`}`),
  ]).toEqual(Array(4).fill({ is_mighty: false }));
  expect([
    ...(await pipeline.warehouse`
    select p.oid::regprocedure::text as name from pg_proc as p where p.prosecdef and p.pronamespace = 'tidemark'::regnamespace
      and (p.proowner <> ${OWNER}::regrole or has_function_privilege('public', p.oid, 'execute') or not 'search_path=pg_catalog, pg_temp' = any (p.proconfig))`),
  ]).toEqual([]);
});

test('by tidemark.grant_statements granted again, also to a dimension of hostile names, everything is as it was', async () => {
  if (owner === undefined) throw new Error('no session');
  await registerDimension(owner, 'robert', 'Robert"; drop table orders; --', [
    { source: 'id"; select 1; --', type: 'integer', role: 'business key', history: 'key"; drop table x; --' },
    { source: 'v', type: 'text', role: 'tracked' },
    { source: 'at', type: 'timestamptz', role: 'effective time' },
  ]);
  await pipeline.source.unsafe('create table public."Robert""; drop table orders; --" (id integer)');
  const applied = await grantRoles({ ...pipeline.settings, ...pipeline.admin }, prefix, true);
  expect(applied.flatMap(({ statements }) => statements)).toContain(
    `grant select on table public."Robert""; drop table orders; --" to ${READER}`,
  );
  const hostile = `{"batch_metadata": {"batch_id": "'; drop table tidemark.batches; --", "table": "robert", "extracted_at": "2026-02-01T10:00:00Z", "change_count": 1}, "changes": [
    {"id\\"; select 1; --": 1, "v": "'); drop table tidemark.batches; --", "at": "2026-02-01T09:00:00Z", "operation_type": "INSERT", "cdc_timestamp": "2026-02-01T09:00:00Z", "extracted_at": "2026-02-01T10:00:00Z"}]}`;
  if (loader === undefined) throw new Error('no session');
  expect(await apply(loader, hostile)).toMatchObject({ inserted_versions: '1' });
  expect([...(await pipeline.warehouse`select v from public.dim_robert_history`)]).toEqual([
    { v: "'); drop table tidemark.batches; --" },
  ]);
  expect(await outcome(reader, 'select * from public.orders')).toBe('ok');
  expect(await outcome(analyst, 'select * from public.dim_robert_history')).toBe('ok');
});

test('roles that were there already, and mighty, are so no more', async () => {
  await pipeline.source.unsafe(
    `alter role ${READER} superuser; grant insert, update (quantity), delete on public.orders to ${READER}; grant truncate on public.secrets to ${READER}; grant select on public.secrets to ${READER}`,
  );
  await pipeline.warehouse.unsafe(
    `alter role ${LOADER} createrole; alter role ${ANALYST} createdb bypassrls; grant ${OWNER} to ${LOADER}; grant ${LOADER}, pg_execute_server_program to ${ANALYST}`,
  );
  await grantRoles({ ...pipeline.settings, ...pipeline.admin }, prefix, true);
  expect([
    ...(await pipeline.warehouse`select rolname from pg_roles where rolname like ${`${prefix}%`} and (rolsuper or rolcreaterole or rolcreatedb or rolbypassrls or rolreplication)`),
  ]).toEqual([]);
  await reader?.unsafe('set default_transaction_read_only = off');
  for (const statement of [
    'insert into public.orders default values',
    'update public.orders set quantity = 1',
    'delete from public.orders',
    'truncate public.secrets',
  ])
    expect(await outcome(reader, statement), statement).toBe(DENIED);
  // What it may read may be of another warehouse that is fed from here.
  for (const table of ['orders', 'secrets'])
    expect(await outcome(reader, `select * from public.${table}`), table).toBe('ok');
  await pipeline.source.unsafe(`revoke select on public.secrets from ${READER}`);
  expect(await outcome(loader, `set role ${OWNER}`)).toBe(DENIED);
  for (const statement of [`set role ${LOADER}`, "copy (select 1) to program 'true'"])
    expect(await outcome(analyst, statement), statement).toBe(DENIED);
  const again = await grantRoles({ ...pipeline.settings, ...pipeline.admin }, prefix, false);
  expect(
    again
      .flatMap(({ statements }) => statements)
      .filter((line) => /^(revoke (?!all|execute)|alter role \S+ no)/.test(line)),
  ).toEqual([]);
});

test('a membership that makes more of a role is taken from it, whoever granted it and through whichever role', async () => {
  const [between, giver] = [`${prefix}_between`, `${prefix}_giver`];
  const { source, warehouse } = pipeline;
  await warehouse.unsafe(
    `create role ${between}; create role ${giver}; grant ${OWNER}, pg_write_all_data to ${giver} with admin option`,
  );
  try {
    for (const role of [between, ANALYST])
      await warehouse.unsafe(`set role ${giver}; grant ${OWNER} to ${role}; reset role`);
    await warehouse.unsafe(`grant ${between} to ${LOADER}`);
    await source.unsafe(`set role ${giver}; grant pg_write_all_data to ${READER}; reset role`);
    await grantRoles({ ...pipeline.settings, ...pipeline.admin }, prefix, true);
    expect([
      ...(await warehouse`select pg_has_role(${LOADER}, ${OWNER}, 'member') as loader, pg_has_role(${ANALYST}, ${OWNER}, 'member') as analyst`),
    ]).toEqual([{ loader: false, analyst: false }]);
    expect([...(await source`select pg_has_role(${READER}, 'pg_write_all_data', 'member') as reader`)]).toEqual([
      { reader: false },
    ]);
  } finally {
    for (const role of [between, giver]) await warehouse.unsafe(`drop owned by ${role} cascade; drop role ${role}`);
  }
});

describe('tidemark grants', () => {
  test('prints what psql can run, and changes nothing', async () => {
    const { code, stdout } = await runCli(['grants', '--prefix', `${prefix}_other`], pipeline.env);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^-- source .*\ncreate role \w+_other_reader login nosuperuser/);
    expect(stdout).toMatch(/\n\n-- warehouse .*\ncreate role \w+_other_analyst login/);
    expect(stdout.split('\n').filter((line) => !/^$|^-- |;$/.test(line))).toEqual([]);
    expect([...(await pipeline.warehouse`select 1 from pg_roles where rolname like ${`${prefix}_other%`}`)]).toEqual(
      [],
    );
  });

  test.each(['a b', 'x"; drop role postgres; --', '', 'X'.repeat(60)])(
    'refuses a prefix that is no plain name: %s',
    async (bad) => {
      expect(await runCli(['grants', '--prefix', bad], pipeline.env)).toMatchObject({ code: 2, stdout: '' });
    },
  );
});

test('where a table is captured from the log the reader may read it, and makes the slot; the publication is made for it', async () => {
  const capture = (how: string) =>
    pipeline.warehouse`select tidemark.declare_capture(p_dimension_name => 'products', p_capture => ${how})`;
  const grants = () => runCli(['grants', '--apply', '--prefix', prefix], pipeline.env);
  const { slot, publication } = slotOf(pipeline.settings);
  await capture('log');
  const { stdout } = await grants();
  expect(stdout).toContain(`alter role ${READER} nosuperuser nocreatedb nocreaterole replication;`);
  expect(stdout).toContain(`create publication "${publication}" for table only public.products with`);
  expect(stdout).not.toContain('pg_create_logical_replication_slot');
  expect((await grants()).stdout).not.toMatch(/ replication| publication/);
  expect(await as({}, 'stream', 'setup', '--apply')).toMatchObject({
    code: 0,
    stdout: expect.stringContaining(`pg_create_logical_replication_slot('${slot}'`) as string,
  });
  expect(await outcome(reader, "select pg_logical_emit_message(true, 'tidemark', '')")).toBe('ok');
  const doctor = await as({}, 'doctor');
  expect(doctor.stdout).not.toContain('does not let this user read its log');
  expect(doctor.stdout).toContain('products was never handed over to the log');
  await pipeline.source`select pg_drop_replication_slot(${slot})`;
  await capture('poll');
  expect((await grants()).stdout).toContain(`alter role ${READER} nosuperuser nocreatedb nocreaterole noreplication;`);
});
