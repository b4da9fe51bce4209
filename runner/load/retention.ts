import { oldApplied, oldCheckpoints, removeFiles } from '../change-log/applied.js';
import type { ChangeLog } from '../change-log/chain.js';
import type { Settings } from '../base/settings.js';
import { explainDatabaseError, type Database } from '../base/database.js';
import { TidemarkError, describeError } from '../base/errors.js';
import { logger, warnOnce } from '../base/logger.js';
import { chainName } from '../batch/shard.js';
import { noteRemovedFiles } from '../warehouse/functions.js';
import { type Settled, settledBatches } from '../warehouse/batches.js';

/** The files of one chain that were removed, or would be. */
export type PrunedFiles = Readonly<{ batch_files: number; checkpoints: number }>;

/** What retention has to do with the ledger of a chain. */
export interface RetentionLedger {
  /** Which of these batches it has, and which of them are settled. */
  readonly ask: (batchIds: readonly string[]) => Promise<Settled>;
  /** Notes that the files of these are about to be removed. */
  readonly note: (batchIds: readonly string[]) => Promise<void>;
}

/** That of a chain in the warehouse. */
export const retentionLedger = (warehouse: Database, { table, shard }: ChangeLog): RetentionLedger => ({
  ask: (names) => settledBatches(warehouse, table, shard, names),
  note: (names) => noteRemovedFiles(warehouse, table, shard, names),
});

/**
 * Removes applied batches and checkpoints of a chain that were extracted more than `days` days ago, from its beginning up to the first batch
 * that the ledger does not hold as loaded and settled: so what is removed never leaves a hole in what stays. A dry run removes nothing.
 */
export async function pruneChangeLog(
  log: ChangeLog,
  days: number,
  ledger: RetentionLedger,
  isDryRun = false,
): Promise<PrunedFiles> {
  const now = Date.now();
  const old = await oldApplied(log, days, now);
  const { known, settled } = await ledger.ask(old.map(({ name }) => name));
  const end = old.findIndex(({ name }) => !settled.has(name));
  const [files, kept] = end < 0 ? [old, []] : [old.slice(0, end), old.slice(end).map(({ name }) => name)];
  sayKept(log, kept, known);
  const checkpoints = await oldCheckpoints(log, days, now, new Set(files.map(({ name }) => name)), kept);
  if (!isDryRun) {
    if (files.length > 0) await ledger.note(files.map(({ name }) => name));
    await removeFiles([...files.map(({ file }) => file), ...checkpoints]);
  }
  return { batch_files: files.length, checkpoints: checkpoints.length };
}

function sayKept({ table }: ChangeLog, kept: readonly string[], known: ReadonlySet<string>): void {
  const unknown = kept.filter((name) => !known.has(name));
  if (unknown.length > 0)
    logger.warn(
      { table, files: unknown },
      'applied batches that the ledger of this warehouse does not know are kept, and what follows them: it may have been restored from a backup',
    );
  else if (kept.length > 0)
    warnOnce(
      `kept ${table}`,
      `${table}: applied batches older than CDC_LOG_RETENTION_DAYS are kept from ${kept[0] ?? ''} on: rejected changes of it wait`,
    );
}

/** How often a process that loads again and again looks for files that are too old. */
const PRUNE_EVERY_MS = 3_600_000;
const nextPrune = new Map<string, number>();

/** What "tidemark prune" does to the files of a chain, for a load: in a process at most once an hour. No load fails for it: what goes wrong is said, and tried again by the next load. */
export async function pruneNowAndThen(warehouse: Database, settings: Settings, log: ChangeLog): Promise<void> {
  const { cdc_log_retention_days: days } = settings;
  if (days === undefined || performance.now() < (nextPrune.get(log.folder) ?? 0)) return;
  try {
    const { batch_files: removed } = await pruneChangeLog(log, days, retentionLedger(warehouse, log));
    if (removed > 0) logger.info({ table: log.table }, `removed ${removed} applied batches older than ${days} days`);
    nextPrune.set(log.folder, performance.now() + PRUNE_EVERY_MS);
  } catch (error) {
    const explained = explainDatabaseError(error, settings.warehouse);
    if (!(explained instanceof TidemarkError)) throw error;
    logger.warn(
      { table: log.table },
      `old batches of ${chainName(log.table, log.shard)} could not be removed: ${describeError(explained, false)}`,
    );
  }
}
