import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readdir, rename } from 'node:fs/promises';
import path from 'node:path';
import { batchMetadataSchema, chainHead, type BatchMetadata } from '../batch/metadata.js';
import * as files from '../base/durable-file.js';
import { TidemarkError, hasCode } from '../base/errors.js';
import { releaseBatchMemory } from '../base/v8-memory.js';
import { BATCH_NAME, batchNameOf } from '../batch/name.js';
import { isShardName } from '../batch/shard.js';
import { FRAME, documentHeadSchema, documentParts, type DocumentHead } from '../batch/document.js';

/** The change log of one table, or of one shard of it: batch files, applied ones in processed/, and their checkpoints. One chain. */
export interface ChangeLog {
  readonly table: string;
  /** Empty for the whole table. */
  readonly shard: string;
  readonly folder: string;
  readonly processed: string;
  readonly checkpoints: string;
}

/** A batch file that was read and found whole. */
export type BatchDocument = Readonly<{ file: string; head: DocumentHead; text: string }>;

export const BATCH_FILE = /^changes_.*\.json(\.gz)?$/;
/** Beside the batch files of a table: which keys were forgotten, by their hashes, for a warehouse that is restored from before that. */
export const FORGETTINGS = 'forgotten.json';
/** Below the folder of a table: the change logs of its shards. */
export const SHARDS = 'shards';

/** Opens the change log of a table or shard, making its folders (0700) where they are missing. */
export async function openChangeLog(root: string, table: string, shard = ''): Promise<ChangeLog> {
  if (!/^[A-Za-z_][A-Za-z0-9_]{0,62}$/.test(table))
    throw new TidemarkError(`"${table}" cannot be the name of a change log folder`);
  if (shard !== '' && !isShardName(shard))
    throw new TidemarkError(`"${shard}" cannot be the name of a change log folder`);
  const log = changeLogOf(root, table, shard);
  const above = shard === '' ? [root] : [root, path.join(root, table), path.dirname(log.folder)];
  for (const each of [...above, log.folder, log.processed, log.checkpoints]) await files.ensurePrivateFolder(each);
  return log;
}

/** Where the change log of a table or shard is, whether it is there or not. */
export function changeLogOf(root: string, table: string, shard = ''): ChangeLog {
  const folder = shard === '' ? path.join(root, table) : path.join(root, table, SHARDS, shard);
  const [processed, checkpoints] = [path.join(folder, 'processed'), path.join(folder, 'checkpoints')];
  return { table, shard, folder, processed, checkpoints };
}

/** The newest checkpoint, which is the watermark; undefined where nothing was ever extracted. */
export async function newestCheckpoint(log: ChangeLog): Promise<BatchMetadata | undefined> {
  const last = (await checkpointSequences(log)).at(-1);
  return last === undefined ? undefined : readCheckpoint(log, last);
}

/** The sequences of all checkpoints, in their order. */
export async function checkpointSequences(log: ChangeLog): Promise<number[]> {
  const names = (await readdir(log.checkpoints)).filter((name) => /^[0-9]+\.json$/.test(name));
  return names.map((name) => Number.parseInt(name, 10)).sort((one, other) => one - other);
}

export async function readCheckpoint(log: ChangeLog, sequence: number): Promise<BatchMetadata | undefined> {
  const file = path.join(log.checkpoints, `${sequence}.json`);
  try {
    return batchMetadataSchema.parse(JSON.parse(await files.readPrivateFile(file)));
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined;
    throw new TidemarkError('a checkpoint cannot be read', {
      detail: file,
      cause: error,
      hint: 'restore it from a backup; its content is batch_metadata of the batch file of that sequence',
    });
  }
}

/** Checksum of change lines, as they stand in the file; the same as tidemark.batch_checksum. */
export function checksumOf(lines: string | Buffer): string {
  return createHash('sha256')
    .update(lines)
    .update(lines.length === 0 ? '' : '\n')
    .digest('hex');
}

/** Whether a batch belongs to the log: its checkpoint names it, or it came from outside and has no sequence. */
export async function isPublished(log: ChangeLog, head: DocumentHead): Promise<boolean> {
  if (head.sequence == null) return true;
  return (await readCheckpoint(log, head.sequence))?.batch_id === head.batch_id;
}

/** The batch files that wait to be applied, oldest first. */
export const batchFiles = ({ folder }: ChangeLog): Promise<string[]> => batchesIn(folder);

/** Applied batch files, oldest first. */
export const appliedFiles = ({ processed }: ChangeLog): Promise<string[]> => batchesIn(processed);

const batchesIn = async (folder: string): Promise<string[]> =>
  (await readdir(folder))
    .filter((name) => BATCH_FILE.test(name))
    .sort()
    .map((name) => path.join(folder, name));

/** The names of those of the files that hold batches of Tidemark's own, oldest first. */
export const ownBatches = (files: readonly string[]): string[] =>
  files
    .map(batchNameOf)
    .filter((name) => BATCH_NAME.test(name))
    .sort();

/**
 * Reads a batch file and proves that it is whole: frame, count and checksum.
 * The original's minimal document is taken as well; then apply_batch alone judges it.
 * @throws TidemarkError naming the file and what is wrong with it. The file is left where it is.
 */
export async function readBatch(file: string): Promise<BatchDocument> {
  try {
    releaseBatchMemory();
    const text = await files.readPrivateFile(file);
    if (text.trim() === '') throw new TidemarkError('it is empty');
    return { file, text, head: text.startsWith(FRAME.begin) ? readOwnHead(text) : readForeignHead(text) };
  } catch (error) {
    if (hasCode(error, 'ENOENT')) throw error;
    if (hasCode(error, 'EACCES', 'EPERM', 'EISDIR', 'ELOOP'))
      throw new TidemarkError('a batch file cannot be read', {
        detail: file,
        cause: error,
        hint: 'give this user the file; a symbolic link is not followed',
      });
    const reason = error instanceof Error ? error.message : String(error);
    throw new TidemarkError(`a batch file cannot be loaded: ${reason}`, {
      detail: file,
      cause: error,
      hint: 'it was left where it is: restore it from a backup, then load again',
    });
  }
}

function readOwnHead(text: string): DocumentHead {
  const parts = documentParts(text);
  if (parts === undefined) throw new TidemarkError('it is truncated');
  const head = documentHeadSchema.parse(JSON.parse(parts.metadata));
  const lines = parts.changes.slice('[\n'.length, -'\n]'.length);
  const found = lines === '' ? 0 : lines.split('\n').length;
  const forgotten = head.forgotten_lines.length;
  if (found + forgotten !== head.change_count)
    throw new TidemarkError(
      `change_count is ${head.change_count}, but it holds ${found} changes${forgotten === 0 ? '' : `, and ${forgotten} are forgotten`}`,
    );
  const checksum = head.content_checksum ?? head.checksum;
  if (checksum != null && checksumOf(lines) !== checksum)
    throw new TidemarkError('the checksum does not fit the change lines: it was altered after it was written');
  return head;
}

function readForeignHead(text: string): DocumentHead {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    throw new TidemarkError('it is not JSON, or it is truncated', { cause: error });
  }
  const head = documentHeadSchema.safeParse((parsed as { batch_metadata?: unknown } | null)?.batch_metadata);
  if (head.success) return head.data;
  throw new TidemarkError(
    'it is JSON, but not a batch: batch_metadata with batch_id and change_count is missing or wrong',
  );
}

/** The file of a batch, whether it waits or was applied: looked for in the order in which it moves, so that one on its way is not missed. */
export function findFile({ folder, processed }: ChangeLog, batchName: string): string | undefined {
  const names = [folder, processed].flatMap((place) =>
    ['.json', `.json${files.COMPRESSED}`].map((ending) => path.join(place, batchName + ending)),
  );
  return names.find((file) => existsSync(file));
}

/** Moves an applied batch file to processed/. One that is gone was moved by another loader. */
export const markProcessed = ({ processed }: ChangeLog, file: string): Promise<void> => files.moveFile(file, processed);

/** Whether the newest batch of the chain lies among those that were applied. */
export async function isNewestProcessed(log: ChangeLog): Promise<boolean> {
  const { batch_id: newest } = chainHead(await newestCheckpoint(log));
  return (await appliedFiles(log)).some((file) => batchNameOf(file) === newest);
}

/** Renames the change log of a table that is no longer registered. Returns its new place; undefined where there is none. */
export async function setAsideChangeLog(root: string, table: string): Promise<string | undefined> {
  const now = new Date().toISOString().slice(0, 19).replaceAll(/[-:]/g, '').replace('T', '_');
  const aside = path.join(root, `${table}.removed_${now}`);
  try {
    await rename(path.join(root, table), aside);
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined;
    throw files.explainFileError(error, root);
  }
  await files.flushFolder(root);
  return aside;
}
