import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, inject, it } from 'vitest';
import { runChecks } from '../../runner/warehouse/checks.js';
import { loadSettings, type Settings } from '../../runner/base/settings.js';
import { connect, isPassing, type Database } from '../../runner/base/database.js';
import { startCluster, stopCluster } from '../../runner/embedded/cluster.js';
import { migrateWarehouse } from '../../runner/warehouse/migrate.js';
import { extractTables } from '../../runner/extract/tables.js';
import { runCli, startCli } from '../support/cli.js';
import { environmentOf, foldersIn } from '../support/databases.js';
import { registerDimension } from '../support/dimensions.js';
import { copyEmptyCluster, freePort, settingsFor, testedPackage } from '../support/servers.js';
import { createChaosTable } from '../support/traffic.js';
import { until } from '../support/wait.js';
import { loadTables } from '../../runner/load/tables.js';

/** Two servers of this test's own, restarted under extractor, loader and writers. */

const ROLES = ['source', 'warehouse'] as const;
type Role = (typeof ROLES)[number];

let folder: string;
let env: Record<string, string>;
let settings: Settings;
let source: Database;
let warehouse: Database;
const ports: Record<Role, number> = { source: 0, warehouse: 0 };

const cluster = (role: Role) => path.join(folder, role);
// As safe as a process that dies needs: what fsync guards against is a machine that does.
const start = (role: Role) =>
  startCluster({
    folder: cluster(role),
    port: ports[role],
    package: testedPackage(),
    settings: { fsync: 'off', max_prepared_transactions: '20' },
  });

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'tidemark-servers-'));
  await chmod(folder, 0o711);
  env = {
    ...foldersIn(folder),
    CDC_EXTRACTION_INTERVAL_SECONDS: '1',
    WATERMARK_ADVANCE_SECONDS: '1',
    BATCH_SIZE: '50',
    BATCH_SIZE_MAX: '50',
  };
  for (const role of ROLES) {
    ports[role] = await freePort();
    await copyEmptyCluster(inject('runFolder'), cluster(role));
    await start(role);
    Object.assign(
      env,
      environmentOf(
        settingsFor({ host: '127.0.0.1', port: ports[role], user: 'postgres', password: 'postgres' }, role, 'postgres'),
      ),
    );
  }
  settings = loadSettings(env, folder);
  [source, warehouse] = [connect(settings.source, 'test'), connect(settings.warehouse, 'test')];
  await migrateWarehouse(settings.warehouse);
  await createChaosTable(source);
  await registerDimension(warehouse, 'chaos', 'chaos', [
    { source: 'id', type: 'integer', role: 'business key' },
    { source: 'version', type: 'bigint', role: 'tracked' },
    { source: 'touched', type: 'timestamptz', role: 'effective time' },
  ]);
});
afterAll(async () => {
  await Promise.all([source, warehouse].map((sql) => sql.end({ timeout: 1 })));
  await Promise.all(ROLES.map((role) => stopCluster(cluster(role), 'immediate')));
  await rm(folder, { recursive: true, force: true });
});

/** Asks again until the server answers. */
const asked = <T>(question: () => Promise<T>): Promise<T> =>
  until(() =>
    question().then(
      (answer) => ({ answer }),
      (error: unknown) => {
        if (!isPassing(error)) throw error;
        return undefined;
      },
    ),
  ).then(({ answer }) => answer);

/** Writes rows, in transactions short and long, and goes on with another connection when one was cut. Returns how many were. */
async function write(signal: AbortSignal, first: number): Promise<number> {
  let cut = 0;
  let session = connect(settings.source, 'writer');
  for (let id = first; !signal.aborted; id = first + ((id + 1) % 100)) {
    try {
      await session.unsafe(
        `begin; insert into chaos (id, touched) values (${String(id)}, now()) on conflict (id) do update set version = nextval('chaos_version'), touched = excluded.touched`,
      );
      if (id % 7 === 0) await session`select pg_sleep(0.4)`;
      await session.unsafe('commit');
    } catch (error) {
      if (!isPassing(error)) throw error;
      cut += 1;
      session.end({ timeout: 0 }).catch(() => undefined);
      session = connect(settings.source, 'writer');
    }
  }
  await session.end({ timeout: 1 });
  return cut;
}

const states = async (sql: Database, query: string) =>
  (await asked(() => sql.unsafe<{ state: string }[]>(query))).map(({ state }) => state).sort();
const versions = async () =>
  Number((await asked(() => warehouse<{ n: string }[]>`select count(*) as n from dim_chaos_history`))[0]?.n);

it('a server that is restarted under extractor and loader, fast or at once, costs nothing: the loops live on, nothing is lost or comes twice', async () => {
  const time = new AbortController();
  const writers = Promise.all([1000, 2000].map((first) => write(time.signal, first)));
  const extractor = startCli(['extract', '--watch', '--table', 'chaos'], env);
  const loader = startCli(['load', '--watch', '--table', 'chaos'], env);
  const hasGrown = async () => {
    const before = await versions();
    await until(async () => (await versions()) > before + 20);
  };
  await hasGrown();
  for (const mode of ['fast', 'immediate'] as const)
    for (const roles of [['source'], ['warehouse'], ROLES] as const) {
      await Promise.all(roles.map((role) => stopCluster(cluster(role), mode)));
      await Promise.all(roles.map(start));
      await hasGrown();
    }
  time.abort();
  const cut = (await writers).reduce((sum, each) => sum + each, 0);
  for (const each of [extractor, loader]) each.kill('SIGTERM');
  expect((await Promise.all([extractor.ended, loader.ended])).map(({ code }) => code)).toEqual([0, 0]);
  expect(cut).toBeGreaterThan(0);
  expect(extractor.stderr() + loader.stderr()).toMatch(/attempt 2 of 6 follows|ended the connection|does not answer/);

  await extractTables({ settings, tables: ['chaos'] });
  await loadTables({ settings, tables: ['chaos'] });
  const current = await states(
    warehouse,
    `select format('%s %s', id, version) as state from dim_chaos_history where is_current`,
  );
  expect(current).toEqual(await states(source, `select format('%s %s', id, version) as state from chaos`));
  const history = await states(warehouse, `select format('%s %s', id, version) as state from dim_chaos_history`);
  process.stdout.write(
    `restart: servers stopped 8 times under ${String(history.length)} captured states, ${String(cut)} transactions of the writers cut: lost 0\n`,
  );
  expect(new Set(history).size).toBe(history.length);
  expect((await runCli(['load', '--table', 'chaos'], env)).code).toBe(0);
  expect((await runChecks(warehouse, ['pipeline', 'scd2'])).filter(({ violations }) => violations > 0)).toEqual([]);
});
