import path from 'node:path';
import { AlreadyPublishedError, flushFolder, readPrivateFile, replaceFile } from '../base/durable-file.js';
import { tolerateGone } from '../base/errors.js';
import { FRAME } from '../batch/document.js';
import { quietCheckpoint, type BatchMetadata } from '../batch/metadata.js';
import * as chain from './chain.js';
import { publishCheckpoint } from './publish.js';

/** Files of a change log that are written anew, because a key in them is forgotten. Each is the old one or the new one, whole, whatever happens. */

/** The notes of forgettings beside the change log of a table, as they stand there; an empty list where there are none. */
export const readForgettings = async ({ folder }: chain.ChangeLog): Promise<string> =>
  (await readPrivateFile(path.join(folder, chain.FORGETTINGS)).catch(tolerateGone)) ?? '[]';

/** Writes them anew. */
export const writeForgettings = ({ folder }: chain.ChangeLog, notes: string): Promise<void> =>
  rewriteFile(path.join(folder, chain.FORGETTINGS), notes);

async function rewriteFile(file: string, content: string): Promise<void> {
  const folder = path.dirname(file);
  await replaceFile(folder, path.basename(file), content);
  await flushFolder(folder);
}

/**
 * Writes the batches of a chain anew, applied ones and those that wait, until none is left in which `change` finds something: a loader may move and
 * compress them meanwhile.
 * @param change what is to stand in a batch: metadata and change lines; undefined where it stays
 */
export async function rewriteBatches(
  log: chain.ChangeLog,
  change: (document: chain.BatchDocument) => Promise<{ metadata: string; lines: string } | undefined>,
): Promise<void> {
  for (let isDone = false; !isDone; ) {
    isDone = true;
    for (const file of [...(await chain.batchFiles(log)), ...(await chain.appliedFiles(log))]) {
      const document = await chain.readBatch(file).catch(tolerateGone);
      const changed = document === undefined ? undefined : await change(document);
      if (changed === undefined) continue;
      isDone = false;
      await rewriteFile(file, `${FRAME.begin}${changed.metadata}${FRAME.middle}${changed.lines}${FRAME.end}`);
    }
  }
}

/**
 * Writes the checkpoints of a chain anew, and one more after them, that of a poll which found nothing: so that a writer that has read an older one
 * loses its race, and begins again from what stands here now.
 * @param change what is to stand in a checkpoint; null where it stays
 * @returns the newest one; undefined where there is none
 */
export async function rewriteCheckpoints(
  log: chain.ChangeLog,
  change: (metadata: string) => Promise<string | null>,
): Promise<BatchMetadata | undefined> {
  for (let isDone = false; !isDone; ) {
    for (const sequence of await chain.checkpointSequences(log)) {
      const file = path.join(log.checkpoints, `${sequence}.json`);
      const text = await readPrivateFile(file).catch(tolerateGone);
      const changed = text === undefined ? null : await change(text);
      if (changed !== null) await rewriteFile(file, `${changed}\n`);
    }
    isDone = await publishFence(log);
  }
  return chain.newestCheckpoint(log);
}

async function publishFence(log: chain.ChangeLog): Promise<boolean> {
  const newest = await chain.newestCheckpoint(log);
  if (newest === undefined) return true;
  return publishCheckpoint(log, quietCheckpoint(newest)).then(
    () => true,
    (error: unknown) => {
      if (error instanceof AlreadyPublishedError) return false;
      throw error;
    },
  );
}
