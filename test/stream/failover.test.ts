// Runs once: EVERY_TEST=1 TEST_POSTGRES_VERSION=15 tries it where slots are not synchronised.
import { execFileSync } from 'node:child_process';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, inject, it } from 'vitest';
import { connect, type Database } from '../../runner/base/database.js';
import { loadSettings, type Settings } from '../../runner/base/settings.js';
import { startCluster, stopCluster } from '../../runner/embedded/cluster.js';
import { loadTables } from '../../runner/load/tables.js';
import { captureTable } from '../../runner/operate/capture.js';
import { reconcileTables } from '../../runner/reconcile/tables.js';
import { streamTables } from '../../runner/stream/stream.js';
import { createWarehouseDatabase, environmentOf, foldersIn, type TestDatabase } from '../support/databases.js';
import { createSourceTable, registerDimension, type TestColumn } from '../support/dimensions.js';
import { FAST, copyEmptyCluster, freePort, settingsFor, testedPackage, testedVersion } from '../support/servers.js';
import { until } from '../support/wait.js';

/** A source whose standby takes its place, twice. */

const COLUMNS: readonly TestColumn[] = [
  { source: 'id', type: 'integer', role: 'business key' },
  { source: 'state', type: 'text', role: 'tracked' },
];
const HAS_FAILOVER_SLOTS = Number(testedVersion()) >= 17;

let folder: string;
let warehouse: TestDatabase;
let settings: Settings;
let environment: Record<string, string>;

interface Server {
  readonly folder: string;
  readonly port: number;
  readonly sql: Database;
}
let first: Server;
let second: Server;
let third: Server;

const USER = { user: 'postgres', password: 'postgres' } as const;
const endOf = (port: number) => settingsFor({ host: '127.0.0.1', port, ...USER }, 'source', 'postgres');

async function newServer(name: string): Promise<Server> {
  const port = await freePort();
  return { folder: path.join(folder, name), port, sql: connect(endOf(port), 'test', 1) };
}

const start = (server: Server, more: Readonly<Record<string, string>> = {}) =>
  startCluster({
    ...{ folder: server.folder, port: server.port, host: '127.0.0.1', package: testedPackage() },
    settings: { ...FAST, wal_level: 'logical', hot_standby_feedback: 'on', ...more },
  });

const OF_STANDBY = HAS_FAILOVER_SLOTS ? { sync_replication_slots: 'on' } : {};

/** Makes a standby of a server that does not run, from a copy of its files without its slots, and starts both. */
async function startWithStandby(primary: Server, standby: Server, ofPrimary: Readonly<Record<string, string>>) {
  // With its owner, as whom the server runs.
  execFileSync('cp', ['-R', '-p', primary.folder, standby.folder]);
  execFileSync('find', [path.join(standby.folder, 'pg_replslot'), '-mindepth', '1', '-delete']);
  await writeFile(path.join(standby.folder, 'standby.signal'), '');
  await start(primary, ofPrimary);
  await primary.sql`select pg_create_physical_replication_slot('of_standby', true)`;
  await startStandby(primary, standby);
}

const startStandby = (primary: Server, standby: Server) =>
  start(standby, {
    primary_conninfo: `host=127.0.0.1 port=${String(primary.port)} user=postgres password=postgres dbname=postgres`,
    ...{ primary_slot_name: 'of_standby', wal_retrieve_retry_interval: '100ms', ...OF_STANDBY },
  });

const use = ({ port }: Server) => {
  settings = loadSettings({ ...environment, ...environmentOf(endOf(port)) }, folder);
};

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'tidemark-failover-'));
  await chmod(folder, 0o711);
  [first, second, third] = [await newServer('first'), await newServer('second'), await newServer('third')];
  await copyEmptyCluster(inject('runFolder'), first.folder);
  await startWithStandby(first, second, HAS_FAILOVER_SLOTS ? { synchronized_standby_slots: 'of_standby' } : {});
  warehouse = await createWarehouseDatabase();
  environment = { ...environmentOf(warehouse.settings), ...foldersIn(folder) };
  use(first);
  for (const table of ['things', 'others']) {
    await createSourceTable(first.sql, table, COLUMNS);
    await registerDimension(warehouse.sql, table, table, COLUMNS);
  }
});
afterAll(async () => {
  for (const server of [first, second, third]) {
    await server.sql.end({ timeout: 0 });
    await stopCluster(server.folder, 'immediate');
  }
  await warehouse.drop();
  await rm(folder, { recursive: true, force: true });
});

const stream = () => streamTables({ settings, signal: new AbortController().signal, isEndless: false });
const load = () => loadTables({ settings, tables: [] });
const compare = (repair = false) => reconcileTables({ settings, tables: ['things'], repair, allowDeletes: repair });
const states = async (key: number) =>
  (
    await warehouse.sql<{ line: string }[]>`
      select concat_ws(' ', state, case when is_current then 'now' end) as line
      from dim_things_history where id = ${key} order by valid_from`
  ).map(({ line }) => line);

/** The standby has all that its primary has written until now. */
async function replayed(primary: Server, standby: Server): Promise<void> {
  const [row] = await primary.sql<{ at: string }[]>`select pg_current_wal_insert_lsn()::text as at`;
  await until(async () => {
    const [there] = await standby.sql<{ is: boolean }[]>`
      select pg_last_wal_replay_lsn() >= ${row?.at ?? ''}::pg_lsn as is`;
    return there?.is;
  });
}

/** And the slot of the reader, where slots are synchronised. */
async function caughtUp(primary: Server, standby: Server): Promise<void> {
  await replayed(primary, standby);
  if (!HAS_FAILOVER_SLOTS) return;
  await until(async () => {
    // A slot is ready at the standby when that of the primary has come past where the standby began.
    await primary.sql`select pg_log_standby_snapshot()`;
    await stream();
    const ready = await standby.sql`select from pg_replication_slots where synced and not temporary`;
    return ready.length > 0;
  });
}

it('the log goes on at a standby that has its slot, and nothing is lost; without one each table is handed over anew', async () => {
  await first.sql`insert into things values (1, 'a'), (2, 'a'), (3, 'a')`;
  use(second);
  await expect(captureTable(settings, 'things', 'log')).rejects.toThrow('the source is a standby');
  use(first);
  for (const table of ['things', 'others']) await captureTable(settings, table, 'log');
  await first.sql`update things set state = 'b' where id = 1`;
  await stream();
  await caughtUp(first, second);
  await first.sql`update things set state = 'c' where id = 1`;
  await first.sql`delete from things where id = 2`;
  await replayed(first, second);
  await stopCluster(first.folder, 'immediate');
  await second.sql`select pg_promote()`;
  await second.sql`update things set state = 'd' where id = 1`;
  use(second);
  if (!HAS_FAILOVER_SLOTS) {
    await expect(stream()).rejects.toThrow('the source has no replication slot tidemark_postgres');
    expect((await captureTable(settings, 'things', 'log')).gap).not.toBeNull();
    expect((await captureTable(settings, 'others', 'log')).gap).not.toBeNull();
    await load();
    await compare(true);
  }
  await second.sql`insert into others values (1, 'a')`;
  expect((await stream()).stopped).toEqual({});
  await load();
  expect([await states(1), await states(2)]).toEqual([
    HAS_FAILOVER_SLOTS ? ['a', 'b', 'c', 'd now'] : ['a', 'b', 'd now'],
    ['a'],
  ]);
  expect(await warehouse.sql`select from dim_others_history`).toHaveLength(1);
  expect(await compare()).toMatchObject([{ missing: 0, extra: 0, different: 0 }]);
  expect((await captureTable(settings, 'things', 'log')).is_changed).toBe(false);
});

it('what was read and the standby never had is said to be of another server; handed over and repaired, history is that of the standby', async () => {
  await stopCluster(second.folder);
  await startWithStandby(second, third, {});
  await caughtUp(second, third);
  await stopCluster(third.folder);
  await second.sql`update things set state = 'never' where id = 1`;
  await second.sql`insert into things values (9, 'never')`;
  await stream();
  await load();
  expect((await states(1)).at(-1)).toBe('never now');
  await stopCluster(second.folder, 'immediate');
  await startStandby(second, third);
  await third.sql`select pg_promote()`;
  use(third);
  if (HAS_FAILOVER_SLOTS)
    expect((await stream()).stopped.things).toContain(
      'the source is not the server that the log of things was read from',
    );
  else await expect(stream()).rejects.toThrow('the source has no replication slot');
  for (const table of ['things', 'others']) await captureTable(settings, table, 'log');
  expect((await stream()).stopped).toEqual({});
  await load();
  await compare(true);
  await third.sql`update things set state = 'e' where id = 3`;
  await stream();
  await load();
  expect([(await states(1)).slice(-2), await states(9), await states(3)]).toEqual([
    ['never', 'd now'],
    ['never'],
    ['a', 'e now'],
  ]);
  expect(await compare()).toMatchObject([{ missing: 0, extra: 0, different: 0 }]);
});
