import path from 'node:path';
import { batchFiles, flushChangeLog, markProcessed, type BatchDocument, type ChangeLog } from '../change-log/chain.js';
import { openChains, strangeFiles } from '../change-log/inspect.js';
import type { Settings } from '../base/settings.js';
import { isAway, type Database, type Link, type Transaction } from '../base/database.js';
import { failpoint } from '../base/failpoint.js';
import { applyDocument, applyTogether, assertLedgerIsThere, assertNothingIsMissing } from './apply.js';
import { readGroups } from './groups.js';
import { logger } from '../base/logger.js';
import { observeLatency, timed } from '../run/measurements.js';
import { pruneNowAndThen } from './retention.js';
import { retrying } from '../run/retry.js';
import { chainName } from '../batch/shard.js';
import { counted } from '../base/text-table.js';
import { commitToDisk, lockLoading, unlockLoading, type ApplyResult } from '../warehouse/batches.js';
import { batchNameOf } from '../batch/name.js';
import { startArchive } from '../change-log/applied.js';

export interface LoadResult {
  readonly table: string;
  readonly batches: number;
  readonly skipped: number;
  readonly changes: number;
  readonly inserted_versions: number;
  readonly closed_versions: number;
  readonly absorbed_changes: number;
  readonly corrected_versions: number;
  readonly late_changes: number;
  readonly rejected_changes: number;
}

const NOTHING = {
  inserted_versions: 0,
  closed_versions: 0,
  absorbed_changes: 0,
  corrected_versions: 0,
  late_changes: 0,
  rejected_changes: 0,
} as const satisfies Partial<LoadResult>;

export interface Loading {
  readonly link: Link;
  readonly settings: Settings;
  /** The change log of the chain: of a table, or of one shard of it. */
  readonly log: ChangeLog;
  readonly onBatch?: ((changes: number) => void) | undefined;
  /** Asked between batches: true ends the run after those in hand. */
  readonly isStopping?: (() => boolean) | undefined;
}

type Total = Record<Exclude<keyof LoadResult, 'table'>, number>;

/** Nothing was applied yet. */
export const nothingOf = (table: string): LoadResult => ({ table, batches: 0, skipped: 0, changes: 0, ...NOTHING });

/** What was done in several chains of a table. */
export function sumOf(one: LoadResult, other: LoadResult): LoadResult {
  const names = Object.keys(one).filter((name) => name !== 'table') as (keyof Total)[];
  return { ...one, ...Object.fromEntries(names.map((name) => [name, one[name] + other[name]])) };
}

/**
 * Applies the pending batches of one chain in order and moves them to processed/: small ones several to a transaction, others one by one.
 * Killed at any point it can be run again: the ledger knows what was applied. Faults that pass are tried again.
 * Two loaders at once do no harm, each batch is applied once: the second says who is at work.
 * @throws TidemarkError naming the file and what is wrong with it; later batches wait, because their order matters.
 */
export async function loadChain(loading: Loading): Promise<LoadResult> {
  const { link, log, isStopping } = loading;
  const total: Total & { table: string } = { ...nothingOf(log.table) };
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
export async function loadDry({
  warehouse,
  settings,
  table,
}: {
  readonly warehouse: Transaction;
  readonly settings: Settings;
  readonly table: string;
}): Promise<LoadResult> {
  const total: Total & { table: string } = { ...nothingOf(table) };
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
  const archive = 'begin' in warehouse ? startArchive(log) : undefined;
  const settle: Settle = async (documents, results) => {
    failpoint('committed');
    if (archive !== undefined) {
      await timed('move', () => markProcessed(log, ...documents.map(({ file }) => file)));
      for (const { file } of documents) archive.add(path.basename(file));
    }
    for (const [index, applied] of results.entries()) noteApplied(loading, total, documents[index], applied);
  };
  try {
    for await (const documents of readGroups(log, files, () => loading.isStopping?.() === true))
      await loadGroup(loading, documents, settle);
  } finally {
    await archive?.finish();
  }
  await assertNothingIsMissing(warehouse, log);
  if ('begin' in warehouse) await pruneNowAndThen(warehouse, settings, log);
}

/** What follows when batches are committed. */
type Settle = (documents: readonly BatchDocument[], results: readonly ApplyResult[]) => Promise<void>;

/** A group that was refused as a whole is applied one by one: what comes before the bad batch is kept, and the error names its file. */
async function loadGroup(loading: Loader, documents: readonly BatchDocument[], settle: Settle): Promise<void> {
  const { warehouse, log } = loading;
  const together =
    documents.length > 1 && 'begin' in warehouse ? await applyTogether(warehouse, log, documents) : undefined;
  if (together !== undefined) return settle(documents, together);
  for (const document of documents) await settle([document], [await applyDocument(loading, document)]);
}

function noteApplied(
  { log, onBatch }: Loader,
  total: Total,
  document: BatchDocument | undefined,
  applied: ApplyResult,
): void {
  if (document === undefined) return;
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
  total.inserted_versions += Number(applied.inserted_versions);
  total.closed_versions += Number(applied.closed_versions);
  total.absorbed_changes += Number(applied.absorbed_changes);
  total.corrected_versions += Number(applied.corrected_versions);
  total.late_changes += Number(applied.late_changes);
  total.rejected_changes += Number(applied.rejected_changes);
  if (Number(applied.rejected_changes) > 0)
    logger.warn(
      `${path.basename(document.file)}: ${counted(applied.rejected_changes, 'change')} cannot be applied and ${Number(applied.rejected_changes) === 1 ? 'is' : 'are'} set aside; see: npx tidemark rejected`,
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
