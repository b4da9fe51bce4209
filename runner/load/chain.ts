import path from 'node:path';
import {
  batchFiles,
  flushChangeLog,
  isPublished,
  markProcessed,
  readBatch,
  type BatchDocument,
  type ChangeLog,
} from '../change-log/chain.js';
import { tolerateGone } from '../base/errors.js';
import { openChains, strangeFiles } from '../change-log/inspect.js';
import type { Settings } from '../base/settings.js';
import { isAway, type Database, type Link, type Transaction } from '../base/database.js';
import { failpoint } from '../base/failpoint.js';
import { applyDocument, assertLedgerIsThere, assertNothingIsMissing } from './apply.js';
import { logger } from '../base/logger.js';
import { observeLatency, timed } from '../run/measurements.js';
import { pruneNowAndThen } from './retention.js';
import { retrying } from '../run/retry.js';
import { chainName } from '../batch/shard.js';
import { counted } from '../base/text-table.js';
import { commitToDisk, lockLoading, unlockLoading, type ApplyResult } from '../warehouse/batches.js';
import { batchNameOf } from '../batch/name.js';
import { startCompressing } from '../change-log/applied.js';

/** What the warehouse counts of a batch that it applied. */
const COUNTED = [
  'inserted_versions',
  'closed_versions',
  'absorbed_changes',
  'corrected_versions',
  'late_changes',
  'rejected_changes',
] as const satisfies readonly (keyof ApplyResult)[];

export type Counts = Record<(typeof COUNTED)[number], number>;
type Total = Counts & Record<'batches' | 'skipped' | 'changes', number>;

export type LoadResult = Readonly<Total & { table: string }>;

/** The counts of a row of the warehouse, as numbers. */
export const countsOf = (row: Readonly<Record<keyof Counts, string>>): Counts =>
  Object.fromEntries(COUNTED.map((name) => [name, Number(row[name])])) as Counts;

export interface Loading {
  readonly link: Link;
  readonly settings: Settings;
  /** The change log of the chain: of a table, or of one shard of it. */
  readonly log: ChangeLog;
  readonly onBatch?: ((changes: number) => void) | undefined;
  /** Asked between batches: true ends the run after those in hand. */
  readonly isStopping?: (() => boolean) | undefined;
}

/** What was done in all chains of a table; nothing where there is none. */
export function sumOf(table: string, results: readonly LoadResult[]): LoadResult {
  const names = ['batches', 'skipped', 'changes', ...COUNTED] as const;
  const sums = names.map((name) => [name, results.reduce((sum, result) => sum + result[name], 0)]);
  return { table, ...(Object.fromEntries(sums) as Total) };
}

/**
 * Applies the pending batches of one chain in order, a transaction each, and moves them to processed/.
 * Killed at any point it can be run again: the ledger knows what was applied. Faults that pass are tried again.
 * Two loaders at once do no harm, each batch is applied once: the second says who is at work.
 * @throws TidemarkError naming the file and what is wrong with it; later batches wait, because their order matters.
 */
export async function loadChain(loading: Loading): Promise<LoadResult> {
  const { link, log, isStopping } = loading;
  const total = { ...sumOf(log.table, []) };
  await retrying(chainName(log.table, log.shard), link, isStopping, () => loadOnce(loading, log, total));
  return total;
}

async function loadOnce(loading: Loading, log: ChangeLog, total: Total): Promise<void> {
  const warehouse = loading.link.database();
  const chain = chainName(log.table, log.shard);
  await commitToDisk(warehouse);
  const holder = await lockLoading(warehouse, chain);
  if (holder !== undefined) logger.info({ table: log.table }, `another loader is at work on ${chain}: ${holder}`);
  try {
    await loadPending({ ...loading, warehouse }, total);
    if (holder === undefined) await unlockLoading(warehouse, chain);
  } catch (error) {
    // A session that was cut has given its lock back, and takes no more statements.
    if (holder === undefined && !isAway(error)) await unlockLoading(warehouse, chain);
    throw error;
  }
}

/** Applies all of a table within a transaction that whoever gave it rolls back: the very statements of a load, and no file is moved. */
export async function loadDry(warehouse: Transaction, settings: Settings, table: string): Promise<LoadResult> {
  const total = { ...sumOf(table, []) };
  for (const log of await openChains(settings.cdc_log_dir, table))
    await loadPending({ warehouse, settings, log }, total);
  return total;
}

type Loader = Omit<Loading, 'link'> & { readonly warehouse: Database | Transaction };

async function loadPending(loading: Loader, total: Total): Promise<void> {
  const { warehouse, settings, log } = loading;
  await assertLedgerIsThere(warehouse, log);
  const files = await batchFiles(log);
  const strange = await strangeFiles(log);
  if (strange.length > 0)
    logger.warn(
      { table: log.table, files: strange },
      'the change log holds files that are no batches: the name of a batch is changes_<time>.json',
    );
  await flushChangeLog(log);
  // A dry run moves no file.
  const compressing = 'begin' in warehouse ? startCompressing(log) : undefined;
  try {
    for (const file of files) {
      if (loading.isStopping?.() === true) break;
      const document = await readPublished(log, file);
      if (document === undefined) continue;
      const applied = await applyDocument(loading, document);
      failpoint('committed');
      if (compressing !== undefined) {
        await timed('move', () => markProcessed(log, file));
        compressing.add(path.basename(file));
      }
      noteApplied(loading, total, document, applied);
    }
  } finally {
    await compressing?.finish();
  }
  await assertNothingIsMissing(warehouse, log);
  if ('begin' in warehouse) await pruneNowAndThen(warehouse, settings, log);
}

/** Reads a batch that was published; undefined where it has no checkpoint, or another loader has applied and moved it. */
async function readPublished(log: ChangeLog, file: string): Promise<BatchDocument | undefined> {
  failpoint('read batch');
  // A file that is gone was moved by another loader, which has applied it.
  const document = await timed('read', () => readBatch(file)).catch(tolerateGone);
  if (document === undefined || (await isPublished(log, document.head))) return document;
  const name = path.basename(file);
  logger.info({ table: log.table }, `leaving ${name} alone: it has no checkpoint, so it is not published`);
  return undefined;
}

function noteApplied({ log, onBatch }: Loader, total: Total, document: BatchDocument, applied: ApplyResult): void {
  if (applied.already_applied) {
    logger.info({ table: log.table }, `Skipping already processed file: ${path.basename(document.file)}`);
    total.skipped += 1;
  } else {
    count(total, document, applied);
    sayApplied(log, document, applied);
  }
  onBatch?.(document.head.change_count);
}

function count(total: Total, document: BatchDocument, applied: ApplyResult): void {
  total.batches += 1;
  total.changes += document.head.change_count;
  const counts = countsOf(applied);
  for (const name of COUNTED) total[name] += counts[name];
  const rejected = counts.rejected_changes;
  if (rejected > 0)
    logger.warn(
      `${path.basename(document.file)}: ${counted(rejected, 'change')} cannot be applied and ${rejected === 1 ? 'is' : 'are'} set aside; see: npx tidemark rejected`,
    );
}

/** In the words of the original. A batch that Tidemark wrote holds each row once, as its snapshot showed it; other documents may not. */
function sayApplied(log: ChangeLog, { file, head }: BatchDocument, applied: ApplyResult): void {
  const done = head.change_count - Number(applied.rejected_changes);
  const what = head.sequence == null ? 'changes of' : 'unique';
  logger.info(
    { table: log.table, batch: batchNameOf(file) },
    `Successfully processed ${String(done)}/${String(head.change_count)} ${what} ${log.table}`,
  );
  const captured = Date.parse(head.extracted_at ?? '');
  if (!Number.isNaN(captured)) observeLatency(Math.max(0, (Date.now() - captured) / 1000));
}
