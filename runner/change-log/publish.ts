import { readdir, unlink } from 'node:fs/promises';
import path from 'node:path';
import { batchFiles, findFile, isPublished, readBatch, type ChangeLog } from './chain.js';
import { chainHead, type BatchMetadata } from '../batch/metadata.js';
import { AlreadyPublishedError, TEMPORARY_PREFIX, publishFile, type Content } from '../base/durable-file.js';
import { TidemarkError, hasCode, tolerateGone } from '../base/errors.js';
import { failpoint } from '../base/failpoint.js';
import { logger } from '../base/logger.js';
import { batchNameOf } from '../batch/name.js';
import { FRAME } from '../batch/document.js';

/** How a batch becomes true, and what is done about one that did not. */

/** A batch that is being published. */
export interface NewBatch {
  readonly log: ChangeLog;
  readonly metadata: BatchMetadata & { readonly batch_id: string };
  /** Its change lines, joined by comma and line break. */
  readonly lines: Buffer;
  /** Until it is, to its file. */
  readonly published: Promise<string>;
}

/**
 * Publishes a batch: first its file, then its checkpoint, which is both commit and fence.
 * @param lines the change lines, joined by comma and line break
 * @throws AlreadyPublishedError if another writer took the sequence; then nothing of this batch remains.
 */
export async function publishBatch(
  log: ChangeLog,
  metadata: BatchMetadata & { batch_id: string },
  lines: string | Buffer,
): Promise<string> {
  const name = `${metadata.batch_id}.json`;
  const said = JSON.stringify(metadata, null, 2);
  const content = [`${FRAME.begin}${said}${FRAME.middle}`, lines, FRAME.end];
  await publishFile(log.folder, name, content);
  try {
    await publishFile(log.checkpoints, `${metadata.sequence}.json`, `${said}\n`);
  } catch (error) {
    // Only the loser of the race takes its batch back; after any other failure the checkpoint may stand, and needs its batch.
    if (error instanceof AlreadyPublishedError) await unlink(path.join(log.folder, name));
    throw error;
  }
  // An extractor that took this one for dead, since its session was cut, may have removed the batch a moment before.
  if (findFile(log, metadata.batch_id) === undefined) await putBack(log, name, content);
  return path.join(log.folder, name);
}

/** Publishes the checkpoint of a batch, or of a poll that found nothing. */
export async function publishCheckpoint(log: ChangeLog, metadata: BatchMetadata): Promise<void> {
  await publishFile(log.checkpoints, `${metadata.sequence}.json`, `${JSON.stringify(metadata, null, 2)}\n`);
}

const PUT_BACK_TRIES = 10;

/**
 * The writer and the one that took it for dead may both put the batch back; its content is the same. Whoever tidies up meanwhile takes
 * the temporary file away: then once more, because the checkpoint stands and nobody else has the batch.
 */
async function putBack(log: ChangeLog, name: string, content: Content): Promise<void> {
  for (let left = PUT_BACK_TRIES; left > 0; left -= 1) {
    try {
      await publishFile(log.folder, name, content);
      return;
    } catch (error) {
      if (error instanceof AlreadyPublishedError) return;
      if (left === 1 || !hasCode(error, 'ENOENT')) throw error;
    }
  }
}

/**
 * Removes what a killed writer left behind: temporary files, and the batch it was about to publish, which never got its checkpoint.
 * A batch further back is left alone: names and sequences only grow, so it cannot be such a one.
 * @param newest the newest checkpoint; undefined where there is none
 * @throws TidemarkError if batches are there whose checkpoints must once have been there too
 */
export async function removeUnpublished(log: ChangeLog, newest: BatchMetadata | undefined): Promise<void> {
  for (const folder of [log.folder, log.checkpoints]) {
    const left = (await readdir(folder)).filter((name) => name.startsWith(TEMPORARY_PREFIX));
    for (const name of left) await unlink(path.join(folder, name)).catch(tolerateGone);
  }
  const last = `${chainHead(newest).batch_id ?? ''}.json`;
  const next = (newest?.sequence ?? 0) + 1;
  for (const file of (await batchFiles(log)).filter((each) => path.basename(each) > last)) {
    const document = await readBatch(file).catch(() => undefined);
    if (document === undefined || (await isPublished(log, document.head))) continue;
    if ((document.head.sequence ?? 0) > next)
      throw new TidemarkError('checkpoints of the change log are missing', {
        detail: `${file} has sequence ${String(document.head.sequence)}, the newest checkpoint ${next - 1}`,
        hint: `restore ${log.checkpoints}; the content of a checkpoint is batch_metadata of the batch of that sequence`,
      });
    logger.warn({ table: log.table }, `removing ${path.basename(file)}: its extractor died before it published it`);
    failpoint('remove');
    // One that is gone was taken back by its own writer.
    await unlink(file).catch(tolerateGone);
    // It may be alive after all: its checkpoint either stands now, or comes later, and then it looks whether its batch is still there.
    if ((await isPublished(log, document.head)) && findFile(log, batchNameOf(file)) === undefined)
      await putBack(log, path.basename(file), document.text);
  }
}
