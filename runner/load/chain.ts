import path from 'node:path';
import * as changeLog from '../change-log/chain.js';
import { tryLock, unlock, whileLocked } from '../base/advisory-lock.js';
import { assertUnlocked } from '../base/locked-table.js';
import { flushFolder } from '../base/durable-file.js';
import { tolerateGone } from '../base/errors.js';
import { openChains, strangeFiles } from '../change-log/inspect.js';
import type { Settings } from '../base/settings.js';
import { isPassing, type Database, type Link, type Transaction } from '../base/database.js';
import { releaseBatchMemory } from '../base/v8-memory.js';
import { failpoint } from '../base/failpoint.js';
import { type Applying, applyDocument, assertLedgerIsThere, assertNothingIsMissing, explainWithFile } from './apply.js';
import { logger } from '../base/logger.js';
import { observeLatency, timed } from '../run/measurements.js';
import { pruneNowAndThen } from './retention.js';
import { retrying } from '../run/retry.js';
import { chainName } from '../batch/shard.js';
import { counted } from '../base/text-table.js';
import { COUNTED, type ApplyResult, type Counted, applyBatch, commitToDisk } from '../warehouse/batches.js';
import { asNumbers } from '../warehouse/functions.js';
import { batchNameOf } from '../batch/name.js';
import { startCompressing, type Compressing } from '../change-log/applied.js';
import type { NewBatch } from '../change-log/publish.js';

type Total = Record<Counted | 'batches' | 'skipped' | 'changes', number>;

export type LoadResult = Readonly<Total & { table: string }>;

export interface Loading extends Omit<Applying, 'warehouse'> {
  /** The history table, as SQL names it, which somebody may have locked; undefined where that is waited for. */
  readonly history?: string | undefined;
  /** Told of each batch that is done. */
  readonly onBatch?: ((count: 1) => void) | undefined;
  /** Ends the run after the batch in hand. */
  readonly signal?: AbortSignal | undefined;
}

/** What was done in all chains of a table, of those of all; nothing where there is none. */
export function sumOf(table: string, results: readonly LoadResult[]): LoadResult {
  const names = ['batches', 'skipped', 'changes', ...COUNTED] as const;
  const own = results.filter((result) => result.table === table);
  const sums = names.map((name) => [name, own.reduce((sum, result) => sum + result[name], 0)]);
  return { table, ...(Object.fromEntries(sums) as Total) };
}

/** Batches that take less long are not asked about one by one, whether somebody has locked the history. */
const LOOK_MS = 100;

/**
 * Applies the pending batches of one chain in order, a transaction each, and moves them to processed/.
 * Killed at any point it can be run again: the ledger knows what was applied. Faults that pass are tried again.
 * Two loaders at once do no harm, each batch is applied once: the second says who is at work.
 * @throws TidemarkError naming the file and what is wrong with it; later batches wait, because their order matters. LockedError where somebody
 * has locked the history
 */
export async function loadChain(link: Link, loading: Loading): Promise<LoadResult> {
  const { log, signal } = loading;
  const total = { ...sumOf(log.table, []) };
  const chain = chainName(log.table, log.shard);
  await retrying(chain, link, signal, () => loadOnce({ ...loading, warehouse: link.database() }, chain, total));
  return total;
}

/**
 * Applies a batch while it is being published, from memory: no file is read, and the checksum, which the warehouse takes once more, proves that this is
 * what the file holds. Its commit waits until it is published.
 * @param batch what follows the newest batch that was loaded through this session
 * @returns false where that is left to loadChain, because the batch was not published, or because of a fault that passes
 */
export async function loadNew(
  warehouse: Database,
  settings: Settings,
  { log, metadata, lines, published }: NewBatch,
  compressing: Compressing,
): Promise<boolean> {
  releaseBatchMemory();
  const file = path.join(log.folder, `${metadata.batch_id}.json`);
  const members = { metadata: JSON.stringify(metadata, null, 2), changes: `[\n${lines.toString()}\n]` };
  failpoint('apply');
  // What it took to send them is not kept while they are applied.
  const sent = published.then(() => releaseBatchMemory());
  sent.catch(() => undefined);
  try {
    const applied = await timed('apply', () => applyBatch(warehouse, members, sent));
    failpoint('committed');
    compressing.add(file);
    noteApplied(log, { ...sumOf(log.table, []) }, { file, head: { ...metadata, forgotten_lines: [] } }, applied);
    return true;
  } catch (error) {
    const isPublished = await published.catch(() => undefined);
    if (isPublished === undefined || isPassing(error)) return false;
    throw explainWithFile(error, settings, file);
  }
}

async function loadOnce(loading: Loading & { warehouse: Database }, chain: string, total: Total): Promise<void> {
  const { warehouse, log } = loading;
  await commitToDisk(warehouse);
  // What keeps loaders apart is the lock of apply_batch; this one is a courtesy.
  const lock = `tidemark.load ${chain}`;
  const holder = await tryLock(warehouse, lock);
  const load = () => loadPending(loading, total);
  if (holder === undefined) return whileLocked(() => unlock(warehouse, lock), load);
  logger.info({ table: log.table }, `another loader is at work on ${chain}: ${holder}`);
  await load();
}

/** Applies all of a table within a transaction that whoever gave it rolls back: the very statements of a load, and no file is moved. */
export async function loadDry(warehouse: Transaction, settings: Settings, table: string): Promise<LoadResult> {
  const total = { ...sumOf(table, []) };
  for (const log of await openChains(settings.cdc_log_dir, table))
    await loadPending({ warehouse, settings, log }, total);
  return total;
}

async function loadPending(loading: Applying & Loading, total: Total): Promise<void> {
  const { warehouse, settings, log } = loading;
  await lookAround(warehouse, log);
  const files = await changeLog.batchFiles(log);
  // What is about to be applied must survive a crash of the machine that the warehouse survives.
  if (files.length > 0) for (const folder of [log.folder, log.checkpoints]) await flushFolder(folder);
  // A dry run moves no file.
  const compressing = 'begin' in warehouse ? startCompressing(log) : undefined;
  try {
    await applyFiles(loading, files, compressing, total);
  } finally {
    await compressing?.finish();
  }
  await assertNothingIsMissing(warehouse, log);
  if ('begin' in warehouse) await pruneNowAndThen(warehouse, settings, log);
}

/** What may be wrong with a chain as a whole. */
async function lookAround(warehouse: Applying['warehouse'], log: changeLog.ChangeLog): Promise<void> {
  await assertLedgerIsThere(warehouse, log);
  const strange = await strangeFiles(log);
  if (strange.length > 0)
    logger.warn(
      { table: log.table, files: strange },
      'the change log holds files that are no batches: the name of a batch is changes_<time>.json',
    );
}

async function applyFiles(
  loading: Applying & Loading,
  files: readonly string[],
  compressing: Compressing | undefined,
  total: Total,
): Promise<void> {
  const { warehouse, log, history } = loading;
  let looked = -Infinity;
  for (const file of files) {
    if (loading.signal?.aborted === true) break;
    if (history !== undefined && performance.now() > looked + LOOK_MS) {
      await assertUnlocked(warehouse, { table: log.table, relation: history, use: 'write' });
      looked = performance.now();
    }
    const document = await readPublished(log, file);
    if (document === undefined) continue;
    const applied = await applyDocument(loading, document);
    failpoint('committed');
    if (compressing !== undefined) {
      await timed('move', () => changeLog.markProcessed(log, file));
      compressing.add(path.join(log.processed, path.basename(file)));
    }
    noteApplied(log, total, document, applied);
    loading.onBatch?.(1);
  }
}

/** Reads a batch that was published; undefined where it has no checkpoint, or another loader has applied and moved it. */
async function readPublished(log: changeLog.ChangeLog, file: string): Promise<changeLog.BatchDocument | undefined> {
  failpoint('read batch');
  // A file that is gone was moved by another loader, which has applied it.
  const document = await timed('read', () => changeLog.readBatch(file)).catch(tolerateGone);
  if (document === undefined || (await changeLog.isPublished(log, document.head))) return document;
  const name = path.basename(file);
  logger.info({ table: log.table }, `leaving ${name} alone: it has no checkpoint, so it is not published`);
  return undefined;
}

/** Says it in the words of the original. A batch that Tidemark wrote holds each row once, as its snapshot showed it; other documents may not. */
function noteApplied(
  { table }: changeLog.ChangeLog,
  total: Total,
  { file, head }: Pick<changeLog.BatchDocument, 'file' | 'head'>,
  { already_applied, ...applied }: ApplyResult,
): void {
  const name = path.basename(file);
  if (already_applied) {
    logger.info({ table }, `Skipping already processed file: ${name}`);
    total.skipped += 1;
    return;
  }
  const counts = { ...asNumbers(applied), batches: 1, changes: head.change_count };
  for (const each of Object.keys(counts) as (keyof typeof counts)[]) total[each] += counts[each];
  const rejected = counts.rejected_changes;
  if (rejected > 0)
    logger.warn(
      `${name}: ${counted(rejected, 'change')} cannot be applied and ${rejected === 1 ? 'is' : 'are'} set aside; see: npx tidemark rejected`,
    );
  const left = head.change_count - head.forgotten_lines.length;
  const what = head.sequence == null ? 'changes of' : 'unique';
  logger.info(
    { table, batch: batchNameOf(file) },
    `Successfully processed ${left - rejected}/${left} ${what} ${table}`,
  );
  const captured = Date.parse(head.extracted_at ?? '');
  if (!Number.isNaN(captured)) observeLatency(Math.max(0, (Date.now() - captured) / 1000));
}
