import { readFile, realpath, stat, unlink } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { runAs } from './account.js';
import { TidemarkError, hasCode, tolerateGone } from '../base/errors.js';
import { logger } from '../base/logger.js';
import { isAlive, lookAtProcess, processIds, signalProcess, type ProcessSeen } from '../base/process.js';

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
export async function findPostmaster(folder: string): Promise<Postmaster | undefined> {
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
export async function readClusterFile(folder: string, name: string): Promise<string | undefined> {
  try {
    return await readFile(path.join(folder, name), 'utf8');
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return undefined;
    if (hasCode(error, 'EACCES', 'EPERM')) throw notOurs(folder, error);
    throw error;
  }
}

/** The error for a data folder whose owner must be obeyed. */
export const notOurs = (folder: string, cause?: unknown): TidemarkError =>
  new TidemarkError('the data folder belongs to another OS user', {
    cause,
    detail: folder,
    hint: 'run the command as that user or as root, or set TIDEMARK_DATA_DIR to a folder of your own',
  });

/**
 * Whether process `pid` is the server of this data folder: numbers are given again after a reboot, also to processes of the same OS user,
 * for which PostgreSQL itself would refuse to start.
 */
export async function isPostmaster(pid: number, folder: string): Promise<boolean> {
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
export async function removeStalePidFile(folder: string): Promise<void> {
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
export async function endOrphans(folder: string): Promise<void> {
  for (const signal of ['SIGQUIT', 'SIGKILL'] as const) {
    let orphans = await findOrphans(folder);
    for (const { pid, args } of orphans) {
      logger.info(`ending process ${String(pid)}, left by a server that is gone (${args.join(' ').trim()})`);
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
