import { spawn } from 'node:child_process';
import { stat } from 'node:fs/promises';
import { TidemarkError, hasCode } from '../base/errors.js';
import { logger } from '../base/logger.js';

/** The OS user under which PostgreSQL's programs run when the runner itself is root: PostgreSQL refuses root. */
export interface Account {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

export interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

const SERVER_USER = 'postgres';
const USER_OPTIONS = ['--system', '--no-create-home', '--home-dir', '/nonexistent', '--shell', '/usr/sbin/nologin'];

/** Tried in turn until the user exists: shadow's useradd (the second where a group of that name exists already), then busybox. */
const WAYS_TO_CREATE_USER: readonly (readonly [string, ...string[]])[] = [
  ['useradd', ...USER_OPTIONS, '--user-group', SERVER_USER],
  ['useradd', ...USER_OPTIONS, '--gid', SERVER_USER, SERVER_USER],
  ['adduser', '-S', '-D', '-H', '-h', '/nonexistent', '-s', '/sbin/nologin', SERVER_USER],
];

export const isRoot = (): boolean => process.getuid?.() === 0;

/**
 * Runs a program to its end, from `/` because the current folder may be one that `account` cannot enter.
 * Supplementary groups are dropped with the uid (libuv calls setgroups).
 * @returns its exit code (null after a signal) and what it printed.
 * @throws the system error when it cannot be started at all (ENOENT, EACCES, EPERM).
 */
export function run(
  command: string,
  args: readonly string[],
  account?: Account,
  extra: NodeJS.ProcessEnv = {},
): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const identity = account === undefined ? {} : { uid: account.uid, gid: account.gid };
    const child = spawn(command, args, {
      cwd: '/',
      env: { ...childEnvironment(), ...extra },
      stdio: ['ignore', 'pipe', 'pipe'],
      ...identity,
    });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.once('error', reject);
    child.once('close', (code) => {
      resolve({ code, stdout, stderr });
    });
  });
}

/** Without PG* and the locale, which would change what initdb and the server do, and without passwords, which a server has no need of. */
function childEnvironment(): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(([name]) => !/^(PG|LC_|LANG|DB_|WAREHOUSE_DB_)/.test(name));
  // Root's PATH lacks the sbin folders in many containers and cron jobs; macOS needs some valid locale.
  return { ...Object.fromEntries(kept), PATH: `${process.env.PATH ?? '/usr/bin:/bin'}:/usr/sbin:/sbin`, LC_ALL: 'C' };
}

/**
 * Under which OS user the programs of the cluster in `folder` run.
 * @returns undefined for an ordinary user (as oneself); for root the folder's owner, else user postgres, created when missing.
 * @throws TidemarkError when that user cannot be created.
 */
export async function accountFor(folder: string): Promise<Account | undefined> {
  if (!isRoot()) return undefined;
  const owner = await stat(folder).catch(() => undefined);
  if (owner === undefined || owner.uid === 0) return serverAccount();
  return { name: `number ${String(owner.uid)}`, uid: owner.uid, gid: owner.gid };
}

async function serverAccount(): Promise<Account> {
  const existing = await findAccount(SERVER_USER);
  if (existing !== undefined) return existing;
  const complaints: string[] = [];
  for (const [command, ...args] of WAYS_TO_CREATE_USER) {
    const complaint = await run(command, args).then(
      (outcome) => outcome.stderr.trim(),
      (error: unknown) => String(error),
    );
    const created = await findAccount(SERVER_USER);
    if (created !== undefined) {
      logger.info(`created OS user ${SERVER_USER}: PostgreSQL does not run as root`);
      return created;
    }
    complaints.push(complaint);
  }
  throw new TidemarkError(`PostgreSQL does not run as root, and OS user ${SERVER_USER} cannot be created`, {
    detail: complaints.filter((complaint) => complaint !== '').join('; '),
    hint: `create the user by hand (useradd --system ${SERVER_USER}), or run the command as an ordinary user`,
  });
}

async function findAccount(name: string): Promise<Account | undefined> {
  const [uid, gid] = await Promise.all(['-u', '-g'].map((what) => run('id', [what, name])));
  if (uid?.code !== 0 || gid?.code !== 0) return undefined;
  return { name, uid: Number(uid.stdout), gid: Number(gid.stdout) };
}

/**
 * Whether `account` can enter a folder, found by trying: mode bits do not tell of ACLs, mounts and security modules.
 * @throws TidemarkError when this process may not act as another user (a container without CAP_SETUID).
 */
export async function canEnter(folder: string, account: Account | undefined): Promise<boolean> {
  const outcome = await runAs(account, '/bin/sh', ['-c', 'cd "$1"', 'sh', folder]);
  return outcome.code === 0;
}

/**
 * Like `run`, with a message for the user where acting as `account` is not allowed.
 * @throws TidemarkError for EPERM, else the system error.
 */
export async function runAs(
  account: Account | undefined,
  command: string,
  args: readonly string[],
  extra: NodeJS.ProcessEnv = {},
): Promise<Outcome> {
  try {
    return await run(command, args, account, extra);
  } catch (error) {
    if (account === undefined || !hasCode(error, 'EPERM')) throw error;
    throw new TidemarkError(`this process is root but may not start a program as OS user ${account.name}`, {
      code: 'EPERM',
      cause: error,
      hint: 'run the command as an ordinary user, or give the container the capabilities SETUID and SETGID',
    });
  }
}
