import { readdir } from 'node:fs/promises';
import path from 'node:path';
import * as chain from './chain.js';
import { type BatchMetadata } from '../batch/metadata.js';
import { hasCode } from '../base/errors.js';
import { isShardName } from '../batch/shard.js';
import type { Settings } from '../base/settings.js';
import { noteNumber } from '../run/measurements.js';
import { momentOf } from '../batch/name.js';

/** The tables that have a change log here; none where there is no folder. */
export async function loggedTables(root: string): Promise<string[]> {
  return (await foldersIn(root).catch(() => [])).sort();
}

const foldersIn = async (folder: string): Promise<string[]> =>
  (await readdir(folder, { withFileTypes: true })).filter((entry) => entry.isDirectory()).map(({ name }) => name);

/** The shards of a table that have a change log here, those of layouts of the past too. */
async function loggedShards(root: string, table: string) {
  const names = await foldersIn(path.join(root, table, chain.SHARDS)).catch((error: unknown) => {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return [];
    throw error;
  });
  return names.filter(isShardName).sort(new Intl.Collator('en', { numeric: true }).compare);
}

/** The change logs that a table may have here: of the whole table, then of each shard. Nothing is made. */
export const chainsHere = async (root: string, table: string): Promise<chain.ChangeLog[]> =>
  ['', ...(await loggedShards(root, table))].map((shard) => chain.changeLogOf(root, table, shard));

/** The same, where that of the whole table is made if it is not there. */
export async function openChains(root: string, table: string): Promise<chain.ChangeLog[]> {
  await chain.openChangeLog(root, table);
  return chainsHere(root, table);
}

/** The batch files of all chains of a table that wait to be applied. */
const waitingFiles = async (root: string, table: string): Promise<string[]> =>
  (await Promise.all((await openChains(root, table)).map(chain.batchFiles))).flat();

/** What the change log of a table or shard says of how far it is. */
export type ChainState = Readonly<{ shard: string; pending: number; newest: BatchMetadata | undefined }>;

/** When the oldest batch of a table that waits to be applied was captured (milliseconds); undefined where none of Tidemark's own waits. */
export async function oldestWaiting(root: string, table: string): Promise<number | undefined> {
  const waiting = (await loggedTables(root)).includes(table) ? await waitingFiles(root, table) : [];
  const [oldest] = chain.ownBatches(waiting);
  return oldest === undefined ? undefined : momentOf(oldest);
}

/**
 * How far the change logs of a table are, for those who only look: of the whole table, then of each shard. What is not there, or closed to this
 * user, is left out, and nothing is made.
 */
export async function inspectChains(root: string, table: string): Promise<ChainState[]> {
  const found: ChainState[] = [];
  for (const log of await chainsHere(root, table))
    try {
      const pending = (await chain.batchFiles(log)).length;
      found.push({ shard: log.shard, pending, newest: await chain.newestCheckpoint(log) });
    } catch (error) {
      if (!hasCode(error, 'ENOENT', 'ENOTDIR', 'EACCES')) throw error;
    }
  return found;
}

/** Where the file of a batch is, as seen from the change log's folder: waiting, applied, or undefined where it is not here. */
export async function findBatchFile(root: string, table: string, batchId: string): Promise<string | undefined> {
  const [file] = (await chainsHere(root, table)).flatMap((log) => chain.findFile(log, batchId) ?? []);
  return file && path.relative(root, file);
}

/** Files in the folder that are no batches by their names: nobody reads them, so somebody should be told. What begins with a dot is not meant for readers. */
export async function strangeFiles(log: chain.ChangeLog): Promise<string[]> {
  const entries = await readdir(log.folder, { withFileTypes: true });
  const names = entries.filter((entry) => !entry.isDirectory()).map(({ name }) => name);
  const isKnown = (name: string) => chain.BATCH_FILE.test(name) || name === chain.FORGETTINGS || name.startsWith('.');
  return names.filter((name) => !isKnown(name)).sort();
}

/** Notes how many batches of a table wait, for the indicators; a folder that cannot be read is the business of the work itself. */
export async function countPending({ cdc_log_dir: root }: Settings, table: string): Promise<void> {
  try {
    noteNumber('pending_batches', table, (await waitingFiles(root, table)).length);
  } catch {
    // It is said where it matters.
  }
}
