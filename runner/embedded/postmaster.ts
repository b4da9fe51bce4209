import { existsSync } from 'node:fs';
import { link, readFile, readdir, readlink, realpath, rename, stat, unlink } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from './account.js';
import { TidemarkError, hasCode } from '../base/errors.js';
import { logger } from '../base/logger.js';
import { isAlive } from '../base/process.js';

/** What a live server says of itself in postmaster.pid. */
export interface Postmaster {
  readonly pid: number;
  readonly port: number;
  /** When it was started, ISO 8601 UTC. */
  readonly since: string;
  readonly state: 'starting' | 'running' | 'stopping';
}

const PID_FILE = 'postmaster.pid';
const EMPTY_FILE_GRACE_MS = 2000;

/**
 * The server that runs on the data folder now.
 * @returns undefined when none does, also when postmaster.pid was left by one that died and its number belongs to another process.
 * @throws TidemarkError when the folder belongs to another OS user.
 */
export async function findPostmaster(folder: string): Promise<Postmaster | undefined> {
  const lines = (await readClusterFile(folder, PID_FILE))?.split('\n') ?? [];
  const pid = Number(lines[0]);
  if (!Number.isInteger(pid) || pid <= 0 || !(await isPostmaster(pid, folder))) return undefined;
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
  const real = await realpath(folder).catch(() => folder);
  if (process.platform !== 'linux' || !existsSync('/proc/self/cmdline')) {
    const { stdout } = await run('ps', ['-o', 'command=', '-p', String(pid)]);
    return stdout.includes('postgres') && (stdout.includes(folder) || stdout.includes(real));
  }
  const args = (await readFile(`/proc/${String(pid)}/cmdline`, 'utf8').catch(() => '')).split('\0');
  if (!path.basename(args[0] ?? '').startsWith('postgres')) return false;
  if (args.includes(folder) || args.includes(real)) return true;
  return (await readlink(`/proc/${String(pid)}/cwd`).catch(() => '')) === real;
}

/**
 * Removes a postmaster.pid that no server stands behind, where PostgreSQL would not do so itself: its number belongs to another process, or the
 * file was never written (a crash between creating and writing it).
 * A server that starts at the same moment keeps its file: what was taken away is looked at again and put back.
 */
export async function removeStalePidFile(folder: string): Promise<void> {
  const seen = await readClusterFile(folder, PID_FILE);
  if (seen === undefined) return;
  const pid = Number(seen.split('\n')[0]);
  if (Number.isInteger(pid) && pid > 0) {
    if (!isAlive(pid) || (await isPostmaster(pid, folder))) return;
  } else if (await isYoung(path.join(folder, PID_FILE))) {
    await sleep(EMPTY_FILE_GRACE_MS);
    if ((await readClusterFile(folder, PID_FILE)) !== seen) return;
  }
  const file = path.join(folder, PID_FILE);
  const aside = `${file}.stale-${String(process.pid)}`;
  await rename(file, aside);
  if ((await readFile(aside, 'utf8')) === seen) logger.warn(`removed ${file}, which a server that is gone has left`);
  else
    await link(aside, file).catch((error: unknown) => {
      if (!hasCode(error, 'EEXIST')) throw error;
    });
  await unlink(aside);
}

async function isYoung(file: string): Promise<boolean> {
  const found = await stat(file).catch(() => undefined);
  return found !== undefined && Date.now() - found.mtimeMs < EMPTY_FILE_GRACE_MS;
}

const ORPHAN_PATIENCE_MS = 5000;

/**
 * Ends the sessions that outlived their killed server because they were computing, and waits until they have: until then the data folder takes
 * no new server. SIGQUIT is what the server itself sends them after a crash, and SIGKILL what follows. Linux only; elsewhere they end with
 * their statement.
 */
export async function endOrphans(folder: string): Promise<void> {
  const real = await realpath(folder).catch(() => folder);
  let left = await findOrphans(real);
  for (const { pid, title } of left) logger.info(`ending process ${pid}, left by a server that is gone (${title})`);
  for (const name of ['SIGQUIT', 'SIGKILL'] as const) {
    for (const { pid } of left) signal(pid, name);
    for (const deadline = Date.now() + ORPHAN_PATIENCE_MS; left.length > 0 && Date.now() < deadline; await sleep(20)) {
      const here = await Promise.all(left.map(({ pid }) => worksIn(real, pid)));
      left = left.filter((_, index) => here[index]);
    }
  }
}

async function findOrphans(folder: string): Promise<{ pid: string; title: string }[]> {
  const found: { pid: string; title: string }[] = [];
  for (const pid of (await readdir('/proc').catch(() => [])).filter((name) => /^[0-9]+$/.test(name))) {
    const title = await titleOf(pid);
    if (!title.startsWith('postgres: ') || !(await worksIn(folder, pid))) continue;
    const parent = /\) \S ([0-9]+)/.exec(await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => ''))?.[1];
    // A server that is being killed has lost its title before its children are no longer its own.
    if (parent !== undefined && !((await titleOf(parent)) !== '' && (await worksIn(folder, parent))))
      found.push({ pid, title });
  }
  return found;
}

const worksIn = async (folder: string, pid: string): Promise<boolean> =>
  (await readlink(`/proc/${pid}/cwd`).catch(() => '')) === folder;

const titleOf = async (pid: string): Promise<string> =>
  (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).replaceAll('\0', ' ').trim();

function signal(pid: string, name: 'SIGQUIT' | 'SIGKILL'): void {
  try {
    process.kill(Number(pid), name);
  } catch (error) {
    if (!hasCode(error, 'ESRCH')) throw error;
  }
}
