import { readdir, stat, unlink } from 'node:fs/promises';
import path from 'node:path';
import { batchFiles, newestCheckpoint, readBatch, type BatchDocument, type ChangeLog } from './change-log.js';
import { BATCH_NAME, batchNameOf, chainHead, momentOf } from './contract.js';
import { COMPRESSED, TEMPORARY_PREFIX, compressFile, readPrivateFile } from './durable-file.js';
import { hasCode } from './errors.js';

/** What becomes of batch files once they are applied: compressed, kept for as long as is asked, and found again for a replay. */

/** A day in milliseconds. */
export const DAY_MS = 86_400_000;

/** Compresses the applied batch of that file name; where another loader was quicker there is nothing left to do. */
export async function compressApplied(log: ChangeLog, name: string): Promise<void> {
  if (name.endsWith(COMPRESSED)) return;
  await compressFile(path.join(log.processed, name)).catch(tolerateGone);
}

/** Applied batches that are not compressed yet: their loader died, or an older release applied them. */
export async function uncompressed(log: ChangeLog): Promise<string[]> {
  return (await readdir(log.processed)).filter((name) => name.startsWith('changes_') && name.endsWith('.json')).sort();
}

const HOUR_MS = 3_600_000;

/** Removes what loaders that died while they compressed left behind: temporary files nobody has written to for an hour. */
export async function removeAbandoned(log: ChangeLog, now: number): Promise<void> {
  for (const name of (await readdir(log.processed)).filter((each) => each.startsWith(TEMPORARY_PREFIX))) {
    const file = path.join(log.processed, name);
    const written = await stat(file).then(({ mtimeMs }) => mtimeMs, tolerateGone);
    if (written !== undefined && now - written > HOUR_MS) await unlink(file).catch(tolerateGone);
  }
}

/** Applied batch files, oldest first. */
export async function appliedFiles(log: ChangeLog): Promise<string[]> {
  return (await readdir(log.processed)).filter((name) => name.startsWith('changes_')).sort().map((name) => path.join(log.processed, name));
}

/**
 * Removes applied batches and old checkpoints that were extracted more than `days` days before `now` (milliseconds).
 * The newest batch and the newest checkpoint stay, whatever their age: they are where extraction and loading stand.
 * @returns how many batch files were removed
 */
export async function pruneApplied(log: ChangeLog, days: number, now: number): Promise<number> {
  const files = await oldApplied(log, days, now);
  await removeFiles(files.map(({ file }) => file));
  await removeFiles(await oldCheckpoints(log, days, now));
  return files.length;
}

/** Removes files of the change log; one that is gone already was removed by somebody else. */
export async function removeFiles(files: readonly string[]): Promise<void> {
  for (const file of files) await unlink(file).catch(tolerateGone);
}

/** An applied batch: its name, and its file. */
export interface AppliedBatch { readonly name: string; readonly file: string }

/** Applied batches that were extracted more than `days` days before `now`, oldest first, but for the newest of the chain and the newest applied one. */
export async function oldApplied(log: ChangeLog, days: number, now: number): Promise<AppliedBatch[]> {
  const head = chainHead(await newestCheckpoint(log)).batch_id;
  const named = (await appliedFiles(log)).map((file) => ({ file, name: batchNameOf(file) }));
  // A document from elsewhere has no age that its name tells.
  const own = named.filter(({ name }) => BATCH_NAME.test(name));
  return own.filter(({ name }) => name !== head && name !== own.at(-1)?.name && now - momentOf(name) > days * DAY_MS);
}

/** Checkpoints of that age, but for the newest; one is needed as long as its batch waits to be applied. */
export async function oldCheckpoints(log: ChangeLog, days: number, now: number): Promise<string[]> {
  const newest = (await newestCheckpoint(log))?.sequence ?? 0;
  const old: string[] = [];
  const waiting = (await batchFiles(log)).map(batchNameOf);
  const sequences = (await readdir(log.checkpoints)).filter((name) => /^[0-9]+\.json$/.test(name)).map((name) => Number.parseInt(name, 10)).sort((one, other) => one - other);
  for (const sequence of sequences.filter((each) => each < newest)) {
    const file = path.join(log.checkpoints, `${String(sequence)}.json`);
    const { batch_id, extracted_at } = JSON.parse(await readPrivateFile(file)) as { batch_id: string | null; extracted_at: string };
    if (now - Date.parse(extracted_at) <= days * DAY_MS) break;
    if (batch_id === null || !waiting.includes(batch_id)) old.push(file);
  }
  return old;
}

/** The document of a batch, applied or waiting; undefined where the change log has no file of that name. */
export async function findBatch(log: ChangeLog, batchName: string): Promise<BatchDocument | undefined> {
  if (!/^[\w.-]+$/.test(batchName)) return undefined;
  for (const folder of [log.processed, log.folder]) {
    for (const ending of [`.json${COMPRESSED}`, '.json']) {
      const document = await readBatch(path.join(folder, batchName + ending)).catch(tolerateGone);
      if (document !== undefined) return document;
    }
  }
  return undefined;
}

function tolerateGone(error: unknown): undefined {
  if (!hasCode(error, 'ENOENT')) throw error;
  return undefined;
}
