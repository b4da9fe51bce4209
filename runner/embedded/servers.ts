import { createHash } from 'node:crypto';
import { lookup } from 'node:dns/promises';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { readdir, readFile, readlink } from 'node:fs/promises';
import { createServer } from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isAway, withDatabase } from '../base/database.js';
import { TidemarkError, UsageError, allDone, hasCode } from '../base/errors.js';
import { isLocal } from '../base/http.js';
import { withLock } from '../base/lock-file.js';
import { logger } from '../base/logger.js';
import { lookAtProcess, processIds } from '../base/process.js';
import { assertSafeFolder } from '../base/safe-folder.js';
import type { DatabaseSettings, Settings } from '../base/settings.js';
import { accountFor, canEnter, isRoot, makeReachable } from './account.js';
import { SYSTEM_FOLDER } from './binaries.js';
import { clusterExists, clusterStatus, createCluster, startCluster, stopCluster } from './cluster.js';
import type { ClusterStatus } from './cluster.js';

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
  const looks = await Promise.all(ends.map((end) => lookAt(end, folderOf(base, end))));
  for (const look of looks) assertSamePort(look);
  // One that is on its way up or down is waited for: its port is taken by itself.
  await assertPortsFree(looks.filter(({ found }) => found.pid === null).map(({ end }) => end));
  await allDone(looks.map(startEnd));
  for (const end of ends) await ensureDatabase(end);
}

/** An end, and what is in its data folder. */
const lookAt = async (end: DatabaseSettings, folder: string) => ({ end, folder, found: await clusterStatus(folder) });
type Look = Awaited<ReturnType<typeof lookAt>>;

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
    throw new UsageError(`DB_PORT and WAREHOUSE_DB_PORT are both ${first.port}, but each server needs its own`);
}

function assertSamePort({ end: { role, prefix, port }, folder, found }: Look): void {
  if (found.port === null || found.port === port || found.state === 'stopping') return;
  throw new TidemarkError(`${FOLDERS[role]} runs on port ${found.port}, but ${prefix}PORT is ${port}`, {
    detail: folder,
    hint: 'run "tidemark db stop", then "tidemark db start"',
  });
}

/** Tables can be captured from the log; a slot that nobody reads is given up before it fills the disk. */
const LOGICAL = { wal_level: 'logical', max_slot_wal_keep_size: '4GB' };

async function startEnd({ end, folder, found }: Look): Promise<void> {
  const name = FOLDERS[end.role];
  const place = (pid: number | null) => `on port ${end.port} (process ${String(pid)})`;
  if (found.state === 'running') {
    logger.info(`${name} is already running ${place(found.pid)}`);
    return;
  }
  if (found.state === 'missing') {
    logger.info(`${name}: making a new PostgreSQL data folder, ${folder}`);
    await createCluster({ folder, superuser: end.user, password: end.password });
  }
  const { pid } = await startCluster({ folder, port: end.port, host: end.host, settings: LOGICAL });
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
  const stop = async (end: DatabaseSettings) => {
    const was = await stopCluster(folderOf(base, end));
    logger.info(was ? `${FOLDERS[end.role]} stopped` : `${FOLDERS[end.role]} is not running`);
  };
  if (existsSync(base))
    await withLock(path.join(base, '.lock'), () => allDone([settings.source, settings.warehouse].map(stop)));
  else logger.info('no embedded server is running');
  return serverStatuses(settings);
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

/**
 * Tries the ports of servers that are about to be started by binding them, all of them before anything is started.
 * @throws TidemarkError naming each port that is taken, by whom where that can be found out, and the setting to change.
 */
async function assertPortsFree(ends: readonly DatabaseSettings[]): Promise<void> {
  const problems = (await Promise.all(ends.map(portProblem))).filter((problem) => problem !== undefined);
  if (problems.length === 0) return;
  throw new TidemarkError(problems.map(({ message }) => message).join('; '), {
    code: problems[0]?.code,
    hint:
      `set ${problems.map(({ setting }) => setting).join(' and ')} to a free port, or stop what is there; ` +
      'a database that is there on purpose (docker compose, your own) needs no "db start"',
  });
}

async function portProblem({ host, port, prefix }: DatabaseSettings) {
  const setting = `${prefix}PORT`;
  const name = `port ${port} (${setting})`;
  for (const { address } of await lookup(host, { all: true }).catch(() => [{ address: '127.0.0.1' }])) {
    const server = createServer().listen({ host: address, port, exclusive: true });
    const failed = await once(server, 'listening').then(
      () => undefined,
      (error: unknown) => error as NodeJS.ErrnoException,
    );
    if (failed === undefined) await once(server.close(), 'close');
    const code = failed?.code ?? String(failed);
    if (failed === undefined || code === 'EADDRNOTAVAIL' || code === 'EAFNOSUPPORT') continue;
    if (code !== 'EADDRINUSE') return { code, setting, message: `${name} cannot be used on ${address}: ${code}` };
    const holder = await portHolder(port).catch(() => '');
    return { code, setting, message: `${name} is already in use${holder}` };
  }
  return undefined;
}

/** Which process listens on a port: Linux only, and only for processes that this user may look at. */
async function portHolder(port: number): Promise<string> {
  const lists = await Promise.all(['tcp', 'tcp6'].map((name) => readFile(`/proc/net/${name}`, 'utf8').catch(() => '')));
  const hex = port.toString(16).toUpperCase().padStart(4, '0');
  const sockets = lists
    .flatMap((list) => list.split('\n').map((line) => line.trim().split(/\s+/)))
    .filter(([, local, , state]) => local?.endsWith(`:${hex}`) === true && state === '0A')
    .map((fields) => `socket:[${fields[9] ?? ''}]`);
  for (const pid of await processIds()) {
    const open = `/proc/${pid}/fd`;
    for (const file of await readdir(open).catch(() => []))
      if (sockets.includes(await readlink(`${open}/${file}`).catch(() => '')))
        return ` by process ${pid} (${(await lookAtProcess(pid))?.args.slice(0, 3).join(' ').trim() ?? ''})`;
  }
  return '';
}
