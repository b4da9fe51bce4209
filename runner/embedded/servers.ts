import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { isIPv4 } from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isAway, withDatabase } from '../base/database.js';
import { hasCode, TidemarkError, UsageError } from '../base/errors.js';
import { withLock } from '../base/lock-file.js';
import { logger } from '../base/logger.js';
import { assertSafeFolder } from '../base/safe-folder.js';
import type { DatabaseSettings, Settings } from '../base/settings.js';
import { accountFor, canEnter, isRoot } from './account.js';
import { SYSTEM_FOLDER } from './binaries.js';
import {
  clusterExists,
  clusterStatus,
  createCluster,
  startCluster,
  stopCluster,
  type ClusterStatus,
} from './cluster.js';
import { makeReachable } from './new-folder.js';
import { assertPortsFree } from './ports.js';

export { clusterStatus, createCluster, startCluster, stopCluster, type ClusterStart } from './cluster.js';

/** One of the two servers: what runs, and where its data is. */
export interface ServerStatus extends Omit<ClusterStatus, 'state' | 'port'> {
  readonly role: DatabaseSettings['role'];
  readonly database: string;
  readonly host: string;
  readonly port: number;
  /** `external`: the settings name another host, whose server is the user's own. */
  readonly state: ClusterStatus['state'] | 'external';
  readonly data_folder: string | null;
}

const FOLDERS = { source: 'operational_db', warehouse: 'warehouse_db' } as const;

const folderOf = (base: string, end: DatabaseSettings): string => path.join(base, FOLDERS[end.role]);

/**
 * Starts the embedded servers of the ends whose host is this machine, and makes their databases; harmless when they run already.
 * They outlive this process. Progress goes to the log.
 * @returns the state of both ends, as serverStatuses does.
 * @throws UsageError for settings that an embedded server cannot serve; TidemarkError when a port is taken (code EADDRINUSE, before anything is
 *   started), the data folder cannot be used, or a server does not start or refuses the password.
 */
export async function startServers(settings: Settings): Promise<ServerStatus[]> {
  const ends = localEnds(settings);
  assertServable(ends);
  const base = await placeData(settings);
  await withLock(path.join(base, '.lock'), async () => {
    try {
      await bringUp(base, ends);
    } catch (error) {
      // A server that was killed a moment ago may still have looked alive: the second look sees that it is gone.
      if (!isAway(error)) throw error;
      await sleep(1000);
      await bringUp(base, ends);
    }
  });
  return serverStatuses(settings);
}

async function bringUp(base: string, ends: readonly DatabaseSettings[]): Promise<void> {
  const look = async (end: DatabaseSettings) => ({ end, found: await clusterStatus(folderOf(base, end)) });
  const looks = await Promise.all(ends.map(look));
  for (const { end, found } of looks) assertSamePort(end, found, folderOf(base, end));
  // One that is on its way up or down is waited for: its port is taken by itself.
  await assertPortsFree(looks.filter(({ found }) => found.pid === null).map(({ end }) => end));
  const started = await Promise.allSettled(looks.map(({ end, found }) => startEnd(folderOf(base, end), end, found)));
  for (const result of started) if (result.status === 'rejected') throw result.reason;
  for (const end of ends) await ensureDatabase(end);
}

/** @throws TidemarkError when neither end is this machine's business. */
function localEnds({ source, warehouse }: Settings): DatabaseSettings[] {
  const local = [source, warehouse].filter((end) => isLocal(end.host));
  if (local.length === 0)
    throw new TidemarkError(
      `DB_HOST is ${source.host} and WAREHOUSE_DB_HOST is ${warehouse.host}: both are servers of your own, there is none to start here`,
      { hint: 'set DB_HOST or WAREHOUSE_DB_HOST to localhost for an embedded server' },
    );
  for (const end of [source, warehouse])
    if (!local.includes(end))
      logger.info(`${end.prefix}HOST is ${end.host}: the ${end.role} database is on a server of your own, left alone`);
  return local;
}

function assertServable(ends: readonly DatabaseSettings[]): void {
  for (const { prefix, password, sslmode } of ends) {
    if (password === '' || /[\r\n\0]/.test(password))
      throw new UsageError(`${prefix}PASSWORD is empty or has a line break, which an embedded server cannot have`);
    if (sslmode !== 'disable')
      throw new UsageError(
        `${prefix}SSLMODE is ${sslmode}, but an embedded server offers no TLS: it is on this machine only`,
        { hint: `set ${prefix}SSLMODE to disable` },
      );
  }
  const [first, second] = ends;
  if (first !== undefined && first.port === second?.port)
    throw new UsageError(`DB_PORT and WAREHOUSE_DB_PORT are both ${String(first.port)}, but each server needs its own`);
}

function assertSamePort({ role, prefix, port }: DatabaseSettings, running: ClusterStatus, folder: string): void {
  if (running.port === null || running.port === port || running.state === 'stopping') return;
  throw new TidemarkError(
    `${FOLDERS[role]} runs on port ${String(running.port)}, but ${prefix}PORT is ${String(port)}`,
    { detail: folder, hint: 'run "tidemark db stop", then "tidemark db start"' },
  );
}

async function startEnd(folder: string, end: DatabaseSettings, found: ClusterStatus): Promise<void> {
  const name = FOLDERS[end.role];
  const place = (pid: number | null) => `on port ${String(end.port)} (process ${String(pid)})`;
  if (found.state === 'running') {
    logger.info(`${name} is already running ${place(found.pid)}`);
    return;
  }
  if (found.state === 'missing') {
    logger.info(`${name}: making a new PostgreSQL data folder, ${folder}`);
    await createCluster({ folder, superuser: end.user, password: end.password });
  }
  const { pid } = await startCluster({ folder, port: end.port, host: end.host });
  logger.info(`${name} started ${place(pid)}`);
}

async function ensureDatabase(end: DatabaseSettings): Promise<void> {
  await withDatabase({ ...end, database: 'postgres' }, 'db start', async (sql) => {
    const found = await sql`select 1 from pg_catalog.pg_database where datname = ${end.database}`;
    if (found.length > 0) return;
    await sql`create database ${sql(end.database)}`.catch((error: unknown) => {
      if (!hasCode(error, '42P04', '23505')) throw error; // another command made it in between
    });
    logger.info(`created database ${end.database}`);
  });
}

/**
 * Stops whichever of the two embedded servers run, also when the settings have since come to name another host.
 * @returns the state of both ends afterwards.
 * @throws TidemarkError when a server belongs to another OS user or does not end.
 */
export async function stopServers(settings: Settings): Promise<ServerStatus[]> {
  const base = await findData(settings);
  if (existsSync(base))
    await withLock(path.join(base, '.lock'), () => stopEnds(base, [settings.source, settings.warehouse]));
  else logger.info('no embedded server is running');
  return serverStatuses(settings);
}

async function stopEnds(base: string, ends: readonly DatabaseSettings[]): Promise<void> {
  const stopped = await Promise.allSettled(
    ends.map(async (end) => {
      const was = await stopCluster(folderOf(base, end));
      logger.info(was ? `${FOLDERS[end.role]} stopped` : `${FOLDERS[end.role]} is not running`);
    }),
  );
  for (const result of stopped) if (result.status === 'rejected') throw result.reason;
}

/**
 * The state of both ends, source first; connects to nothing and changes nothing.
 * @throws TidemarkError when the data folder belongs to another OS user.
 */
export async function serverStatuses(settings: Settings): Promise<ServerStatus[]> {
  const base = await findData(settings);
  return Promise.all(
    [settings.source, settings.warehouse].map(async (end): Promise<ServerStatus> => {
      const { role, database, host, port } = end;
      const known = { role, database, host, port };
      if (!isLocal(host))
        return { ...known, state: 'external', pid: null, version: null, since: null, data_folder: null };
      const found = await clusterStatus(folderOf(base, end));
      return { ...known, ...found, port: found.port ?? port, data_folder: folderOf(base, end) };
    }),
  );
}

/**
 * Where the data is: where it was first made, even if another place would be chosen today; else the default.
 * Root's other place depends on the project, so that two of them do not share it.
 */
async function findData({ data_dir, data_dir_is_set }: Settings): Promise<string> {
  const fallback = systemDataFolder(data_dir);
  if (data_dir_is_set || !isRoot() || (await holdsClusters(data_dir))) return data_dir;
  return (await holdsClusters(fallback)) ? fallback : data_dir;
}

const systemDataFolder = (dataDir: string): string =>
  path.join(SYSTEM_FOLDER, createHash('sha256').update(dataDir).digest('hex').slice(0, 12));

async function holdsClusters(base: string): Promise<boolean> {
  const found = await Promise.all(Object.values(FOLDERS).map((name) => clusterExists(path.join(base, name))));
  return found.includes(true);
}

/** The data folder, made where missing; for root and with nothing set, one that the servers' OS user can enter. */
async function placeData(settings: Settings): Promise<string> {
  let base = await findData(settings);
  // The servers' OS user, not this one, owns what is in it.
  await assertSafeFolder(base, 'TIDEMARK_DATA_DIR', false);
  const account = await accountFor(path.join(base, FOLDERS.source));
  if (!settings.data_dir_is_set && !(await holdsClusters(base)) && !(await canEnter(nearestExisting(base), account))) {
    base = systemDataFolder(settings.data_dir);
    logger.info(`OS user ${account?.name ?? ''} cannot enter ${settings.data_dir}: the databases are kept in ${base}`);
  }
  await makeReachable(base, account);
  return base;
}

const nearestExisting = (folder: string): string =>
  existsSync(folder) ? folder : nearestExisting(path.dirname(folder));

/** True for a host that can only be this machine; others are a user's own servers. */
export function isLocal(host: string): boolean {
  return host.toLowerCase() === 'localhost' || host === '::1' || (isIPv4(host) && host.startsWith('127.'));
}
