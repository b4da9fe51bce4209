import { randomBytes } from 'node:crypto';
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, inject } from 'vitest';
import { PROJECT_ROOT, loadSettings, type DatabaseSettings, type Settings } from '../../runner/base/settings.js';
import { connect, type Database } from '../../runner/base/database.js';
import { onEveryNode } from './cluster.js';
import { OWNER, WITH_ROLES, underRole } from './roles.js';
import { settingsFor, workerServer, type TestServer } from './servers.js';

let started: Promise<TestServer> | undefined;

/** That of this worker: one that was given, else an embedded one, which the first file that needs it starts. */
function currentServer(): Promise<TestServer> {
  const given = inject('servers');
  const mine = given[(Number(process.env.VITEST_POOL_ID ?? '1') - 1) % Math.max(1, given.length)];
  started ??= mine === undefined ? workerServer(inject('runFolder')) : Promise.resolve(mine);
  return started;
}

/** A database of a test's own, on the server of its worker. */
export interface TestDatabase {
  readonly settings: DatabaseSettings;
  readonly sql: Database;
  readonly drop: () => Promise<void>;
}

/** Both ends of a pipeline and a change log between them; `env` gives the same to a command. */
export interface TestPipeline {
  readonly source: Database;
  readonly warehouse: Database;
  /** Of what runs: under its roles with TEST_ROLES=1. */
  readonly settings: Settings;
  /** Of the test's own sessions besides `source` and `warehouse`: as the application, or as who runs the servers. */
  readonly admin: Readonly<Record<'source' | 'warehouse', DatabaseSettings>>;
  readonly env: Readonly<Record<string, string>>;
  readonly folder: string;
  readonly drop: () => Promise<void>;
}

/** The demo source, empty. */
export const createSourceDatabase = (): Promise<TestDatabase> =>
  create('source', ({ sourceTemplate }) => sourceTemplate);

/** A migrated warehouse with the dimension orders, empty. */
export const createWarehouseDatabase = (): Promise<TestDatabase> =>
  create('warehouse', ({ warehouseTemplate }) => warehouseTemplate);

/** A database with nothing in it. */
export const createEmptyDatabase = (role: 'source' | 'warehouse' = 'source'): Promise<TestDatabase> =>
  create(role, () => 'template0');

let administrator: Database | undefined;

/** A session that may make and drop databases. */
const administratorOf = (server: TestServer): Database =>
  (administrator ??= connect(settingsFor(server, 'source', 'postgres'), 'test'));

/** `oid`: the number that the database is to have; the next free one by default. */
async function create(
  role: 'source' | 'warehouse',
  templateOf: (server: TestServer) => string,
  given: { readonly name?: string; readonly oid?: string } = {},
): Promise<TestDatabase> {
  const server = await currentServer();
  const template = templateOf(server);
  const name = given.name ?? `${server.sourceTemplate.replace(/_source$/, '')}_${randomBytes(4).toString('hex')}`;
  const admin = administratorOf(server);
  await copyDatabase(server, role, template, name, given.oid);
  // Rights on a database are not copied from its template.
  if (WITH_ROLES && role === 'warehouse') await admin`grant create on database ${admin(name)} to ${admin(OWNER)}`;
  const settings = settingsFor(server, role, name);
  const sql = connect(settings, 'test', 4);
  const drop = async () => {
    await sql.end({ timeout: 1 });
    // A reader of the log that was just ended may hold its slot for a moment yet, and a database whose slot is held stays.
    await admin`
      select pg_terminate_backend(active_pid, 10000) from pg_replication_slots where database = ${name} and active_pid is not null`;
    await dropDatabase(server, role, name);
  };
  return { settings, sql, drop };
}

/** Whether each node of a cluster has such a database. */
const isOnNodes = (server: TestServer, role: 'source' | 'warehouse') =>
  server.workers !== undefined && role === 'warehouse';

/** Copies a database, on each node that has it; `oid` is its number, the next free one by default. */
async function copyDatabase(
  server: TestServer,
  role: 'source' | 'warehouse',
  template: string,
  name: string,
  oid?: string,
): Promise<void> {
  if (isOnNodes(server, role)) return copyOnCluster(server, template, name);
  await administratorOf(server).unsafe(
    `create database ${name} template ${template} encoding 'UTF8' strategy file_copy${oid === undefined ? '' : ` oid ${oid}`}`,
  );
}

/** Drops a database, on each node that has it. */
async function dropDatabase(server: TestServer, role: 'source' | 'warehouse', name: string): Promise<void> {
  const drop = (sql: Database) => sql`drop database if exists ${sql(name)} with (force)`;
  if (isOnNodes(server, role)) await onEveryNode(server, 'postgres', drop);
  else await drop(administratorOf(server));
}

/** Citus looks after its databases in sessions of its own, which a copy does not bear. */
const copyOnCluster = (server: TestServer, template: string, name: string): Promise<void> =>
  onEveryNode(server, 'postgres', async (admin) => {
    for (let tries = 1; ; tries++) {
      await admin`select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = ${template}`;
      try {
        return await admin`create database ${admin(name)} template ${admin(template)} encoding 'UTF8' strategy file_copy`;
      } catch (error) {
        if (tries > 20) throw error;
      }
    }
  });

/** A whole pipeline: demo source, migrated warehouse, an empty change log in a temporary folder. Overrides are settings by name. */
export async function createPipeline(overrides: Readonly<Record<string, string>> = {}): Promise<TestPipeline> {
  const [source, warehouse] = [await createSourceDatabase(), await createWarehouseDatabase()];
  return pipelineOf(source, warehouse, await mkdtemp(path.join(tmpdir(), 'tidemark-log-')), overrides);
}

function pipelineOf(
  source: TestDatabase,
  warehouse: TestDatabase,
  folder: string,
  overrides: Readonly<Record<string, string>>,
): TestPipeline {
  const env = {
    ...environmentOf(underRole(source.settings)),
    ...environmentOf(underRole(warehouse.settings)),
    ...foldersIn(folder),
    ...overrides,
  };
  return {
    source: source.sql,
    warehouse: warehouse.sql,
    env,
    folder,
    admin: { source: source.settings, warehouse: warehouse.settings },
    // The folder is no project: the migrations of the demo's tables are where they are.
    settings: loadSettings({ DIMENSIONS_DIR: path.join(PROJECT_ROOT, 'migrations', 'dimensions'), ...env }, folder),
    drop: async () => {
      await source.drop();
      await warehouse.drop();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** What tests begin with that was made once: each is handed a pipeline as it was then, after the one before has dropped its own. */
export interface PreparedPipeline {
  readonly begin: () => Promise<TestPipeline>;
  readonly drop: () => Promise<void>;
}

/**
 * Prepares a pipeline once, to be begun with again and again. Databases keep names and numbers, by which the change log knows its source; a
 * replication slot is not copied.
 */
export async function preparePipeline(
  prepare: (pipeline: TestPipeline) => Promise<void>,
  overrides: Readonly<Record<string, string>> = {},
): Promise<PreparedPipeline> {
  const first = await createPipeline(overrides);
  await prepare(first);
  const server = await currentServer();
  const admin = administratorOf(server);
  const kept = `${first.folder}-prepared`;
  await cp(first.folder, kept, { recursive: true });
  const databases = await Promise.all(
    (['source', 'warehouse'] as const).map(async (role) => {
      const { database: name } = first.admin[role];
      await first[role].end();
      await copyDatabase(server, role, name, `${name}_prepared`);
      const [row] = await admin<[{ oid: string }]>`select oid::text from pg_database where datname = ${name}`;
      return { role, name, oid: row.oid, template: `${name}_prepared` };
    }),
  );
  await first.drop();
  return {
    begin: async () => {
      const [source, warehouse] = await Promise.all(
        databases.map(({ role, template, ...given }) => create(role, () => template, given)),
      );
      if (source === undefined || warehouse === undefined) throw new Error('there are two databases');
      await cp(kept, first.folder, { recursive: true, preserveTimestamps: true });
      return pipelineOf(source, warehouse, first.folder, overrides);
    },
    drop: async () => {
      for (const { role, template } of databases) await dropDatabase(server, role, template);
      await rm(kept, { recursive: true, force: true });
    },
  };
}

/** Has each test of a file begin with what `prepare` made once, and drops it; `begun` is handed each pipeline, and the one that is prepared. */
export function beginEach(
  begun: (pipeline: TestPipeline) => void,
  prepare: () => Promise<void>,
  overrides: Readonly<Record<string, string>> = {},
): void {
  let prepared: PreparedPipeline;
  let pipeline: TestPipeline;
  beforeAll(async () => {
    prepared = await preparePipeline((first) => {
      begun(first);
      return prepare();
    }, overrides);
  });
  beforeEach(async () => {
    pipeline = await prepared.begin();
    begun(pipeline);
  });
  afterEach(() => pipeline.drop());
  afterAll(() => prepared.drop());
}

/** Settings that keep everything a pipeline writes in a folder of its own. */
export function foldersIn(folder: string): Record<string, string> {
  return {
    CDC_LOG_DIR: path.join(folder, 'cdc_logs'),
    LOG_DIR: path.join(folder, 'logs'),
    TIDEMARK_RUN_DIR: path.join(folder, 'run'),
  };
}

/** The settings of a database as environment variables. */
export function environmentOf(settings: DatabaseSettings): Record<string, string> {
  const { prefix, host, port, database, user, password, sslmode, sslrootcert } = settings;
  return {
    [`${prefix}HOST`]: host,
    [`${prefix}PORT`]: String(port),
    [`${prefix}NAME`]: database,
    [`${prefix}USER`]: user,
    [`${prefix}PASSWORD`]: password,
    ...(sslrootcert === undefined ? {} : { [`${prefix}SSLMODE`]: sslmode, [`${prefix}SSLROOTCERT`]: sslrootcert }),
  };
}
