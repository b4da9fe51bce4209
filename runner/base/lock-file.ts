import { randomUUID } from 'node:crypto';
import { link, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { TidemarkError, hasCode } from './errors.js';
import { logger } from './logger.js';
import { isAlive } from './process.js';

const BEAT_MS = 2000;
/** Without a beat for so long, the holder is gone and its number belongs to another process. */
const SILENCE_MS = 15_000;
const PATIENCE_MS = 180_000;

/**
 * Runs `work` while no other process does so under the same lock file; waits for it up to three minutes.
 * A holder that was killed is found by its number, or by its silence, and its lock taken over. On a full disk the lock is an empty file,
 * whose holder is nameless but not silent: what is running can be stopped there too.
 * @throws TidemarkError naming the holder when it does not end; whatever `work` throws.
 */
export async function withLock<T>(file: string, work: () => Promise<T>): Promise<T> {
  const mine = await acquire(file, `${String(process.pid)} ${randomUUID()}`);
  const beat = setInterval(() => {
    utimes(file, new Date(), new Date()).catch(() => undefined);
  }, BEAT_MS);
  try {
    return await work();
  } finally {
    clearInterval(beat);
    if ((await read(file)) === mine) await rm(file, { force: true });
  }
}

/** @returns what the lock file holds now that it is ours */
async function acquire(file: string, mine: string): Promise<string> {
  let told = false;
  for (const deadline = Date.now() + PATIENCE_MS; ; await sleep(100)) {
    try {
      await writeFile(file, mine, { flag: 'wx', mode: 0o644 });
      return mine;
    } catch (error) {
      if (hasCode(error, 'ENOSPC', 'EDQUOT') && (await read(file)) === '') return '';
      if (!hasCode(error, 'EEXIST')) throw cannotLock(file, error);
    }
    const holder = await read(file);
    if (holder === undefined || (await takeAwayIfStale(file, holder))) continue;
    const pid = holder === '' ? 'unknown' : (holder.split(' ')[0] ?? '');
    if (!told) logger.info(`waiting for another command (process ${pid})`);
    told = true;
    if (Date.now() > deadline)
      throw new TidemarkError(`another command does not end (process ${pid})`, {
        detail: file,
        hint: 'end it, then run the command again',
      });
  }
}

const read = (file: string): Promise<string | undefined> => readFile(file, 'utf8').catch(() => undefined);

const cannotLock = (file: string, cause: unknown) =>
  new TidemarkError(`the lock file cannot be written: ${file}`, {
    cause,
    detail: String(cause),
    hint: 'give this user the folder, or set TIDEMARK_RUN_DIR (services) or TIDEMARK_DATA_DIR (servers) to one of your own',
  });

/** Moves the lock aside and looks at it again there: what was taken from a new holder at this moment is put back. */
async function takeAwayIfStale(file: string, holder: string): Promise<boolean> {
  const pid = Number(holder.split(' ')[0]);
  const beat = await stat(file).then(
    (found) => found.mtimeMs,
    () => Date.now(),
  );
  if ((pid === 0 || isAlive(pid)) && Date.now() - beat < SILENCE_MS) return false;
  const aside = `${file}.${String(process.pid)}`;
  try {
    await rename(file, aside);
    if ((await read(aside)) !== holder) await link(aside, file);
  } catch (error) {
    if (!hasCode(error, 'ENOENT', 'EEXIST')) throw cannotLock(file, error);
  } finally {
    await rm(aside, { force: true });
  }
  return true;
}
