import { readdir, stat, unlink } from 'node:fs/promises';
import path from 'node:path';
import { COMPRESSED, compressFile, explainFileError, TEMPORARY_PREFIX } from '../base/durable-file.js';
import { describeError, TidemarkError, tolerateGone } from '../base/errors.js';
import { logger } from '../base/logger.js';
import { chainHead } from '../batch/metadata.js';
import { BATCH_NAME, batchNameOf, momentOf } from '../batch/name.js';
import * as chain from './chain.js';

/** What becomes of batch files once they are applied: compressed, kept for as long as is asked, and found again for a replay. */

/** A day in milliseconds. */
export const DAY_MS = 86_400_000;

/** Compresses an applied batch into processed/; where another loader was quicker there is nothing left to do. */
export async function compressApplied(log: chain.ChangeLog, file: string): Promise<void> {
  if (file.endsWith(COMPRESSED)) return;
  await compressFile(file, log.processed).catch(tolerateGone);
}

const HOUR_MS = 3_600_000;

/** Removes what loaders that died while they compressed left behind: temporary files nobody has written to for an hour. */
export async function removeAbandoned(log: chain.ChangeLog, now: number): Promise<void> {
  for (const name of (await readdir(log.processed)).filter((each) => each.startsWith(TEMPORARY_PREFIX))) {
    const file = path.join(log.processed, name);
    const written = await stat(file).then(({ mtimeMs }) => mtimeMs, tolerateGone);
    if (written !== undefined && now - written > HOUR_MS) await unlink(file).catch(tolerateGone);
  }
}

/** The oldest batch of the chain that is still there, applied or waiting, by its name. A document from elsewhere is none of the chain. */
export async function oldestBatch(log: chain.ChangeLog): Promise<string | undefined> {
  return chain.ownBatches([...(await chain.appliedFiles(log)), ...(await chain.batchFiles(log))])[0];
}

/** Removes files of the change log; one that is gone already was removed by somebody else. */
export async function removeFiles(files: readonly string[]): Promise<void> {
  for (const file of files)
    await unlink(file).catch((error: unknown) => tolerateGone(explainFileError(error, path.dirname(file))));
}

/**
 * Applied batches that were extracted more than `days` days before `now` (milliseconds), oldest first, up to the first that waits to be applied.
 * The newest of the chain and the newest applied one stay, whatever their age: they are where extraction and loading stand.
 */
export async function oldApplied(
  log: chain.ChangeLog,
  days: number,
  now: number,
): Promise<{ name: string; file: string }[]> {
  const head = chainHead(await chain.newestCheckpoint(log)).batch_id;
  // A document from elsewhere has no age that its name tells.
  const own = (await chain.appliedFiles(log))
    .map((file) => ({ file, name: batchNameOf(file) }))
    .filter(({ name }) => BATCH_NAME.test(name));
  const [waiting = '\uffff'] = chain.ownBatches(await chain.batchFiles(log));
  return own.filter(
    ({ name }) => name < waiting && name !== head && name !== own.at(-1)?.name && now - momentOf(name) > days * DAY_MS,
  );
}

/**
 * Checkpoints of that age, up to the first that is needed: the newest, or that of a batch that waits to be applied or is kept. An applied batch
 * whose file stays keeps its own: without it nobody could load the batch once more.
 * @param removed names of the batches whose files go
 * @param kept names of those that stay although they are old, as does what follows them
 * @throws TidemarkError if one cannot be read
 */
export async function oldCheckpoints(
  log: chain.ChangeLog,
  days: number,
  now: number,
  removed: ReadonlySet<string>,
  kept: readonly string[],
): Promise<string[]> {
  const old: string[] = [];
  const needed = new Set([...(await chain.batchFiles(log)).map(batchNameOf), ...kept]);
  const applied = new Set((await chain.appliedFiles(log)).map(batchNameOf).filter((name) => !removed.has(name)));
  for (const sequence of (await chain.checkpointSequences(log)).slice(0, -1)) {
    const found = await chain.readCheckpoint(log, sequence);
    if (found === undefined) continue;
    const name = found.batch_id ?? '';
    if (now - Date.parse(found.extracted_at) <= days * DAY_MS || needed.has(name)) break;
    if (!applied.has(name)) old.push(path.join(log.checkpoints, `${sequence}.json`));
  }
  return old;
}

/** The document of a batch, applied or waiting; undefined where the change log has no file of that name. */
export async function findBatch(log: chain.ChangeLog, batchName: string): Promise<chain.BatchDocument | undefined> {
  if (!/^[\w.-]+$/.test(batchName)) return undefined;
  const file = chain.findFile(log, batchName);
  if (file === undefined) return undefined;
  // One that moved on in this moment is found where it went.
  return (await chain.readBatch(file).catch(tolerateGone)) ?? findBatch(log, batchName);
}

/** Compresses applied batches, one after the other. */
export interface Compressing {
  /** One more, by its file: it lies in processed/, or is moved there by that. */
  readonly add: (file: string) => void;
  /** Waits for the rest, then compresses what an earlier run left. */
  readonly finish: () => Promise<void>;
}

/** Looks after applied batches while others are being applied. What goes wrong here is said and tried again by the next run: no load fails for it. */
export function startCompressing(log: chain.ChangeLog): Compressing {
  let work = Promise.resolve();
  const then = (step: () => Promise<void>) => {
    work = work.then(step).catch((error: unknown) => {
      if (!(error instanceof TidemarkError)) throw error;
      logger.warn({ table: log.table }, `applied batches could not be looked after: ${describeError(error, false)}`);
    });
    // Whoever finishes hears of it; until then it is not unhandled.
    work.catch(() => undefined);
  };
  return {
    add: (file) => then(() => compressApplied(log, file)),
    finish: async () => {
      then(async () => {
        await removeAbandoned(log, Date.now());
        // Their loader died, or an older release applied them.
        for (const file of await chain.appliedFiles(log)) await compressApplied(log, file);
      });
      await work;
    },
  };
}
