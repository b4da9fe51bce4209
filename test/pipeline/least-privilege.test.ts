import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, copyFile, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { PROJECT_ROOT, loadSettings } from '../../runner/base/settings.js';
import { connect, type Database } from '../../runner/base/database.js';
import { DEMO_SOURCE, migrateWarehouse, runMigrations } from '../../runner/warehouse/migrate.js';
import { cleanEnvironment, runCli, type CliResult } from '../support/cli.js';
import { foldersIn } from '../support/databases.js';
import { hasOpenssl, makeAuthority, makeCertificate, startTlsServer, type TlsServer } from '../support/tls-server.js';
import { until } from '../support/wait.js';

/** The pipeline as it is meant to run: under the roles of "tidemark grants", over connections that are encrypted and verified, on a server that takes no others. */

const ROLES = {
  reader: 'months_reader',
  owner: 'months_owner',
  loader: 'months_loader',
  analyst: 'months_analyst',
} as const;

let folder: string;
let server: TlsServer;
let source: Database;
let warehouse: Database;
let superuser: Record<string, string>;
/** Settings of the parts that run, and of who migrates and rebuilds. */
let [running, owning]: Record<string, string>[] = [{}, {}];

const passwordOf = (role: string) => `secret of ${role}`;
const as = (settings: Record<string, string> | undefined, ...args: string[]): Promise<CliResult> =>
  runCli(args, settings ?? {});

async function prepare(): Promise<void> {
  folder = await mkdtemp(path.join(tmpdir(), 'tidemark-roles-'));
  await chmod(folder, 0o711);
  const authority = makeAuthority(folder, 'ours');
  server = await startTlsServer(await makeCertificate(folder, 'server', authority, 'DNS:localhost'));
  const env: Record<string, string> = { ...foldersIn(folder), METRICS_PORT: '0' };
  for (const [prefix, database] of [
    ['DB_', 'months_source'],
    ['WAREHOUSE_DB_', 'months_warehouse'],
  ] as const)
    Object.assign(env, {
      [`${prefix}HOST`]: 'localhost',
      [`${prefix}PORT`]: String(server.port),
      [`${prefix}NAME`]: database,
      [`${prefix}USER`]: 'postgres',
      [`${prefix}PASSWORD`]: server.password,
      [`${prefix}SSLMODE`]: 'verify-full',
      [`${prefix}SSLROOTCERT`]: authority.certificate,
    });
  superuser = env;
  const settings = loadSettings(env, folder);
  const admin = connect({ ...settings.source, database: 'postgres' }, 'test');
  for (const database of ['months_source', 'months_warehouse'])
    await admin.unsafe(`create database ${database} encoding 'UTF8' template template0`);
  await admin.end();
  await runMigrations(settings.source, DEMO_SOURCE);
  await migrateWarehouse(settings.warehouse);
  source = connect(settings.source, 'test');
  warehouse = connect(settings.warehouse, 'test');
  await source.unsafe('create table public.secrets (id integer)');
  expect(await as(superuser, 'grants', '--apply', '--prefix', 'months')).toMatchObject({ code: 0 });
  for (const role of Object.values(ROLES)) await warehouse.unsafe(`alter role ${role} password '${passwordOf(role)}'`);
  const user = (prefix: string, role: string) => ({ [`${prefix}USER`]: role, [`${prefix}PASSWORD`]: passwordOf(role) });
  running = { ...env, ...user('DB_', ROLES.reader), ...user('WAREHOUSE_DB_', ROLES.loader) };
  owning = { ...env, ...user('DB_', ROLES.reader), ...user('WAREHOUSE_DB_', ROLES.owner) };
}

describe.skipIf(!hasOpenssl())('under least-privilege roles, over verify-full on both ends', () => {
  beforeAll(prepare);
  afterAll(async () => {
    await source.end();
    await warehouse.end();
    await server.stop();
    await rm(folder, { recursive: true, force: true });
  });

  /** Runs a command, which must end with that exit code and complain of no right. */
  async function run(settings: Record<string, string> | undefined, args: readonly string[], code = 0): Promise<string> {
    const result = await as(settings, ...args);
    expect(result.code, `${args.join(' ')}: ${result.stdout} ${result.stderr}`).toBe(code);
    expect(result.stderr, args.join(' ')).not.toMatch(/permission|denied|pg_read_all_stats|must be owner/);
    return result.stdout;
  }

  test('everything that runs day by day runs as reader and loader', async () => {
    await run(superuser, ['simulate', '--changes', '60', '--seed', '7']);
    for (const args of [
      ['doctor'],
      ['extract'],
      ['load', '--dry-run'],
      ['load', '--retry-rejected'],
      ['rejected'],
      ['extract', '--full'],
      ['load'],
      ['status', '--json'],
      ['report', '--table', 'orders', '--key', '1', '--output', folder],
      ['table', 'list'],
      ['watermark', 'list'],
      ['watermark', 'show', '--table', 'orders'],
      ['table', 'pause', 'customers'],
      ['table', 'resume', 'customers'],
      ['check'],
    ])
      await run(running, args);
    expect(await run(running, ['reconcile'])).toContain('orders: no differences');
    const [pruned] = [
      await runCli(['prune', '--json'], {
        ...running,
        ABSORBED_RETENTION_DAYS: '1',
        RUN_RETENTION_DAYS: '1',
        CDC_LOG_RETENTION_DAYS: '1',
      }),
    ];
    expect(pruned.code, pruned.stderr).toBe(0);
  });

  test('old files are removed by the loader, who asks the ledger, and what is left is verified by the owner', async () => {
    const processed = path.join(loadSettings(running, folder).cdc_log_dir, 'orders', 'processed');
    const [first = ''] = (await readdir(processed)).sort();
    const stranger = path.join(processed, 'changes_20200101_000000_000.json.gz');
    await copyFile(path.join(processed, first), stranger);
    for (const command of ['load', 'prune']) {
      const { code, stderr } = await as({ ...running, CDC_LOG_RETENTION_DAYS: '1' }, command);
      expect([command, code], stderr).toEqual([command, 0]);
      expect(stderr).toContain('that the ledger of this warehouse does not know are kept');
      expect(stderr).not.toMatch(/permission|could not be removed/);
    }
    await rm(stranger);
    expect(await run({ ...owning, CDC_LOG_RETENTION_DAYS: '1' }, ['verify-log'])).toMatch(/^ok +orders:/m);
  });

  test('what is missing is repaired, and deletes with it, by reader and loader', async () => {
    await source.unsafe(
      'delete from public.orders where id = (select max(id) from public.orders); update public.orders set quantity = quantity + 1 where id = 1',
    );
    await run(running, ['reconcile'], 3);
    await run(running, ['reconcile', '--repair', '--allow-deletes']);
    await run(running, ['reconcile']);
    await run(running, ['check', 'scd2', 'pipeline']);
  });

  test('a column that was widened is followed by the loader, who owns nothing, and readers keep what they may read', async () => {
    await source.unsafe(
      "alter table public.orders alter order_status type varchar(80), alter unit_price type numeric(12, 2); update public.orders set order_status = repeat('s', 60), last_updated = now() where id = 1",
    );
    const rights = () =>
      warehouse.unsafe(
        "select relowner, array(select a::text from unnest(relacl) as a order by 1) as rights from pg_class where relname like 'dim_orders%' and relkind in ('r', 'v') order by relname",
      );
    const before = [...(await rights())];
    for (const args of [['extract'], ['load'], ['check', 'scd2', 'pipeline'], ['reconcile']]) await run(running, args);
    expect([...(await rights())]).toEqual(before);
    expect([
      ...(await warehouse.unsafe('select length(order_status) as length from dim_orders_current where order_key = 1')),
    ]).toEqual([{ length: 60 }]);
  });

  test('an earlier watermark is gone back to by them, and all of it is known already', async () => {
    await run(running, ['watermark', 'rewind', '--table', 'orders', '--to', '1']);
    for (const args of [['extract'], ['load'], ['reconcile']]) await run(running, args);
  });

  test('history is verified, rebuilt and migrated by the owner, and by the loader it is not', async () => {
    expect(await run(owning, ['verify-log'])).toMatch(/^ok +orders:/m);
    await run(owning, ['rebuild', '--table', 'orders']);
    for (const args of [['migrate'], ['migrate', 'status']]) await run(owning, args);
    expect(await run(running, ['check'])).toContain('all passed');
    for (const args of [
      ['verify-log'],
      ['rebuild', '--table', 'orders'],
      ['table', 'remove', 'customers'],
      ['migrate'],
    ]) {
      const { code, stdout, stderr } = await as(running, ...args);
      expect([args.join(' '), code], stdout + stderr).toEqual([args.join(' '), 1]);
      expect(stderr).toMatch(/permission denied|must be owner/);
    }
    expect([
      ...(await warehouse`select count(*)::integer as tables from tidemark.dimensions where paused_at is null`),
    ]).toEqual([{ tables: 3 }]);
  });

  test('a history is parted, and made plain again, by the owner, and everybody may what they might; by the loader it is not', async () => {
    const rights = async () => [
      ...(await warehouse.unsafe(`
        select relname as name, pg_get_userbyid(relowner) as owner, array(select a::text from unnest(relacl) as a order by 1) as rights
        from pg_class where relname like 'dim_orders%' and relkind in ('r', 'p', 'v') and not relispartition
        union all
        select oid::regprocedure::text, pg_get_userbyid(proowner), array(select a::text from unnest(proacl) as a order by 1)
        from pg_proc where proname like 'dim_orders%' or proname like '%\\_orders'
        order by 1`)),
    ];
    const before = await rights();
    expect(before.length).toBeGreaterThan(10);
    const refused = await as(running, 'table', 'partition', 'orders', '2');
    expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining('permission denied')]);
    for (const count of ['2', '0']) {
      await run(owning, ['table', 'partition', 'orders', count]);
      expect(await rights()).toEqual(before);
      await run(superuser, ['simulate', '--changes', '20', '--seed', count]);
      for (const args of [['extract'], ['load'], ['check'], ['reconcile'], ['status']]) await run(running, args);
    }
    expect(await run(owning, ['verify-log'])).toMatch(/^ok +orders:/m);
  });

  test('services run under them, and the metrics are served', async () => {
    await run(running, ['start']);
    const child = spawn(process.execPath, [path.join(PROJECT_ROOT, 'dist', 'cli.js'), 'serve'], {
      env: cleanEnvironment(running ?? {}),
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let said = '';
    child.stderr.on('data', (chunk: Buffer) => {
      said += chunk.toString();
    });
    const url = await until(() => Promise.resolve(/serving (http:\/\/127\.0\.0\.1:\d+)\/metrics/.exec(said)?.[1]));
    const page = () => fetch(`${url}/metrics`).then((reply) => reply.text());
    await until(async () => (await page()).includes('tidemark_runs{pipeline="load"} 1'));
    expect(await page()).toMatch(/tidemark_up\{end="source"\} 1\ntidemark_up\{end="warehouse"\} 1/);
    expect((await fetch(`${url}/readyz`)).status).toBe(200);
    child.kill('SIGTERM');
    await once(child, 'exit');
    await run(running, ['stop']);
  });

  test('every session was encrypted: the server takes no other', async () => {
    const plain = await as({ ...running, DB_SSLMODE: 'disable', WAREHOUSE_DB_SSLMODE: 'disable' }, 'extract');
    expect(plain.code).toBe(1);
    expect([
      ...(await warehouse`select bool_and(s.ssl) as all_encrypted from pg_stat_ssl as s join pg_stat_activity as a using (pid) where a.backend_type = 'client backend'`),
    ]).toEqual([{ all_encrypted: true }]);
  });

  test('values of settings and arguments are values, whatever they say', async () => {
    const hostile = "x'; drop table public.orders; drop table tidemark.batches cascade; --";
    const counts = () =>
      Promise.all(
        [source, warehouse].map((database, index) =>
          database
            .unsafe(`select count(*) as n from ${index === 0 ? 'public.orders' : 'tidemark.batches'}`)
            .then(([row]) => row?.n as string),
        ),
      );
    const before = await counts();
    const tries: (readonly [Record<string, string>, readonly string[]])[] = [
      [{}, ['extract', '--table', hostile]],
      [{}, ['load', '--table', hostile]],
      [{}, ['report', '--table', 'orders', '--key', hostile, '--output', folder]],
      [{}, ['watermark', 'show', '--table', hostile]],
      [{}, ['watermark', 'rewind', '--table', 'orders', '--to', hostile]],
      [{}, ['check', hostile]],
      [{}, ['table', 'pause', hostile]],
      [{}, ['prune', '--table', hostile]],
      [{ WAREHOUSE_DB_NAME: hostile }, ['load']],
      [{ DB_USER: hostile }, ['extract']],
      [{ DB_NAME: hostile }, ['extract']],
      [{ WAREHOUSE_DB_PASSWORD: hostile }, ['load']],
      [{ BATCH_SIZE: hostile }, ['extract']],
    ];
    for (const [settings, args] of tries) {
      const { code, stderr } = await as({ ...superuser, ...settings }, ...args);
      expect([args.join(' '), code === 1 || code === 2], stderr).toEqual([args.join(' '), true]);
    }
    expect(await counts()).toEqual(before);
  });
});
