import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { chmod, chown, mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { flushFolder } from '../base/durable-file.js';
import { TidemarkError, hasCode } from '../base/errors.js';
import { logger } from '../base/logger.js';
import { isAlive } from '../base/process.js';

/** The OS user under which PostgreSQL's programs run when the runner itself is root: PostgreSQL refuses root. */
export type Account = Readonly<{ name: string; uid: number; gid: number }>;

const SERVER_USER = 'postgres';
const USER_OPTIONS = ['--system', '--no-create-home', '--home-dir', '/nonexistent', '--shell', '/usr/sbin/nologin'];

export const isRoot = (): boolean => process.getuid?.() === 0;

/**
 * How a program is started as `account`, or as oneself where that is undefined: from `/`, because the current folder may be one that it cannot
 * enter, and without PG* and the locale, which would change what the server does, and without passwords, which it has no need of.
 * Supplementary groups are dropped with the uid (libuv calls setgroups).
 */
function spawnOptionsFor(account: Account | undefined): { cwd: string; env: NodeJS.ProcessEnv; uid?: number } {
  const kept = Object.entries(process.env).filter(([name]) => !/^(PG|LC_|LANG|DB_|WAREHOUSE_DB_)/.test(name));
  // Root's PATH lacks the sbin folders in many containers and cron jobs; macOS needs some valid locale.
  const PATH = `${process.env.PATH ?? '/usr/bin:/bin'}:/usr/sbin:/sbin`;
  return {
    cwd: '/',
    env: { ...Object.fromEntries(kept), PATH, LC_ALL: 'C' },
    ...(account && { uid: account.uid, gid: account.gid }),
  };
}

/**
 * Runs a program to its end.
 * @returns what it printed, and its exit code: null after a signal
 * @throws TidemarkError where acting as `account` is not allowed, else the system error when the program cannot be started
 */
export function runAs(
  account: Account | undefined,
  command: string,
  args: readonly string[],
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  return new Promise((resolve, reject) => {
    execFile(command, args, spawnOptionsFor(account), (error, stdout, stderr) => {
      // A word of the system's, as ENOENT, says that the program could not be started.
      if (typeof error?.code === 'string') reject(explainRefusal(error, account));
      else resolve({ code: error === null ? 0 : (error.code ?? null), stdout, stderr });
    });
  });
}

/** What is thrown where a program cannot be started as `account`. */
function explainRefusal(error: Error, account: Account | undefined): Error {
  if (account === undefined || !hasCode(error, 'EPERM')) return error;
  return new TidemarkError(`this process is root but may not start a program as OS user ${account.name}`, {
    code: 'EPERM',
    cause: error,
    hint: 'run the command as an ordinary user, or give the container the capabilities SETUID and SETGID',
  });
}

/**
 * Under which OS user the programs of the cluster in `folder` run.
 * @returns undefined for an ordinary user (as oneself); for root the folder's owner, else user postgres, created when missing.
 * @throws TidemarkError when that user cannot be created.
 */
export async function accountFor(folder: string): Promise<Account | undefined> {
  if (!isRoot()) return undefined;
  const owner = await stat(folder).catch(() => undefined);
  if (owner === undefined || owner.uid === 0) return (await findServerUser()) ?? createServerUser();
  return { name: `number ${owner.uid}`, uid: owner.uid, gid: owner.gid };
}

async function findServerUser(): Promise<Account | undefined> {
  const { stdout } = await runAs(undefined, 'id', [SERVER_USER]);
  const [, uid, gid] = /^uid=([0-9]+).* gid=([0-9]+)/.exec(stdout) ?? [];
  return uid === undefined ? undefined : { name: SERVER_USER, uid: Number(uid), gid: Number(gid) };
}

async function createServerUser(): Promise<Account> {
  // The second where a group of that name is there already.
  const script = `useradd "$@" --user-group ${SERVER_USER} || useradd "$@" --gid=${SERVER_USER} ${SERVER_USER}`;
  const { stderr } = await runAs(undefined, '/bin/sh', ['-c', script, 'sh', ...USER_OPTIONS]);
  const created = await findServerUser();
  if (created === undefined)
    throw new TidemarkError(`PostgreSQL does not run as root, and OS user ${SERVER_USER} cannot be created`, {
      detail: stderr.trim().replaceAll('\n', '; '),
      hint: `create the user by hand (useradd --system ${SERVER_USER}), or run the command as an ordinary user`,
    });
  logger.info(`created OS user ${SERVER_USER}: PostgreSQL does not run as root`);
  return created;
}

/**
 * Whether `account` can enter a folder, found by trying: mode bits do not tell of ACLs, mounts and security modules.
 * @throws TidemarkError when this process may not act as another user (a container without CAP_SETUID).
 */
export async function canEnter(folder: string, account: Account | undefined): Promise<boolean> {
  return (await runAs(account, '/bin/sh', ['-c', 'cd "$1"', 'sh', folder])).code === 0;
}

/**
 * Makes a folder elsewhere and gives it its name when it is whole, so that one whose making was cut short never looks finished. What commands
 * that were killed have left is removed; what another process is still making stays.
 * @param make makes the folder `whole` in the workplace that it is given, which belongs to `owner`
 * @throws what `make` throws; ENOTEMPTY or EEXIST where something stands there by now
 */
export async function makeWholeFolder(
  folder: string,
  owner: Account | undefined,
  make: (workplace: string) => Promise<void>,
): Promise<void> {
  const parent = path.dirname(folder);
  await removeLeftOvers(parent);
  const workplace = path.join(parent, `.${path.basename(folder)}.unfinished-${randomUUID()}-${process.pid}`);
  try {
    await mkdir(workplace, { mode: 0o700 });
    await giveTo(workplace, owner);
    await make(workplace);
    await rename(path.join(workplace, 'whole'), folder);
    await flushFolder(parent);
  } finally {
    await rm(workplace, { recursive: true, force: true });
  }
}

/** The names of workplaces end in the number of the process that is at work there. */
async function removeLeftOvers(parent: string): Promise<void> {
  for (const name of await readdir(parent)) {
    const pid = /^\..+\.unfinished-.+-([0-9]+)$/.exec(name)?.[1];
    if (pid === undefined || isAlive(Number(pid))) continue;
    await rm(path.join(parent, name), { recursive: true, force: true, maxRetries: 5 }).catch((error: unknown) => {
      logger.debug(`left-over ${name} stays for now: ${String(error)}`);
    });
  }
}

export async function giveTo(file: string, owner: Account | undefined): Promise<void> {
  if (owner !== undefined) await chown(file, owner.uid, owner.gid);
}

/** The error for a data folder that cannot be made. */
export const cannotMake = (folder: string, cause: unknown): TidemarkError =>
  new TidemarkError(`the data folder cannot be made: ${folder}`, {
    cause,
    detail: String(cause),
    hint: 'see that its place is writable, has room and is empty, or set TIDEMARK_DATA_DIR to another folder',
  });

/**
 * Makes a folder and those above it, where missing, so that `account` can pass through them.
 * @throws TidemarkError when it cannot be made or `account` cannot enter it.
 */
export async function makeReachable(folder: string, account: Account | undefined): Promise<void> {
  try {
    const first = await mkdir(folder, { recursive: true });
    // Root's umask may close new folders to others; those that were there are the user's business.
    for (let made = folder; isRoot() && first !== undefined && made.length >= first.length; made = path.dirname(made))
      await chmod(made, 0o711);
  } catch (error) {
    throw cannotMake(folder, error);
  }
  if (account === undefined || (await canEnter(folder, account))) return;
  throw new TidemarkError(
    `OS user ${account.name}, who runs PostgreSQL because root may not, cannot enter the data folder`,
    {
      detail: folder,
      hint: 'let others pass through the folders above it (chmod o+x), or set TIDEMARK_DATA_DIR to another folder',
    },
  );
}
