import { readlink, rename, rm, symlink } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { TidemarkError, hasCode } from './errors.js';
import { logger } from './logger.js';
import { processIdentity } from './process.js';

const LONGEST_WAIT_MS = 180_000;

/**
 * Runs `work` while no other process does so under the same lock file; waits for it up to three minutes.
 * The lock is a symbolic link that leads nowhere: it is made with its text in one step, which says who holds it, and that needs no room on a
 * disk that is full. A holder that was killed is told from a later process of its number, and its lock taken over at once; one that lives,
 * however silent, keeps it.
 * @throws TidemarkError naming the holder when it does not end; whatever `work` throws.
 */
export async function withLock<T>(file: string, work: () => Promise<T>): Promise<T> {
  const mine = `${process.pid} ${(await processIdentity(process.pid)) ?? ''}`;
  await acquire(file, mine);
  try {
    return await work();
  } finally {
    if ((await holderOf(file)) === mine) await rm(file, { force: true });
  }
}

async function acquire(file: string, mine: string): Promise<void> {
  let told = false;
  for (const deadline = Date.now() + LONGEST_WAIT_MS; ; await sleep(100)) {
    try {
      await symlink(mine, file);
      return;
    } catch (error) {
      if (!hasCode(error, 'EEXIST')) throw cannotLock(file, error);
    }
    const holder = await holderOf(file);
    if (holder === undefined) continue;
    const [pid = ''] = holder.split(' ', 1);
    if (holder !== `${pid} ${(await processIdentity(Number(pid))) ?? ''}`) {
      await takeAway(file, holder);
      continue;
    }
    if (!told) logger.info(`waiting for another command (process ${pid})`);
    told = true;
    if (Date.now() > deadline)
      throw new TidemarkError(`another command does not end (process ${pid})`, {
        detail: file,
        hint: 'end it, then run the command again',
      });
  }
}

async function holderOf(file: string): Promise<string | undefined> {
  try {
    return await readlink(file);
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined;
    // A plain file was left by a command of release 0.1 that was killed.
    if (hasCode(error, 'EINVAL')) return '';
    throw cannotLock(file, error);
  }
}

const cannotLock = (file: string, cause: unknown) =>
  new TidemarkError(`the lock file cannot be written: ${file}`, {
    cause,
    detail: String(cause),
    hint: 'give this user the folder, or set TIDEMARK_RUN_DIR (services) or TIDEMARK_DATA_DIR (servers) to one of your own',
  });

/** Moves the lock aside and looks at it again there: what was taken from a new holder at this moment is put back. */
async function takeAway(file: string, dead: string): Promise<void> {
  const aside = `${file}.${process.pid}`;
  try {
    await rename(file, aside);
    const taken = await holderOf(aside);
    if (taken !== undefined && taken !== dead) await symlink(taken, file);
  } catch (error) {
    if (!hasCode(error, 'ENOENT', 'EEXIST')) throw cannotLock(file, error);
  } finally {
    await rm(aside, { force: true });
  }
}
