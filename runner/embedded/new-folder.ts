import { randomUUID } from 'node:crypto';
import { chmod, chown, mkdir, readdir, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { TidemarkError } from '../base/errors.js';
import { flushFolder } from '../base/durable-file.js';
import { logger } from '../base/logger.js';
import { isAlive } from '../base/process.js';
import { canEnter, isRoot, type Account } from './account.js';

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
  const workplace = path.join(parent, `.${path.basename(folder)}.unfinished-${randomUUID()}-${String(process.pid)}`);
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
    const options = { recursive: true, force: true, maxRetries: 5, retryDelay: 100 };
    await rm(path.join(parent, name), options).catch((error: unknown) => {
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
