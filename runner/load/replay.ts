import path from 'node:path';
import { type Database, type Transaction, withDatabase } from '../base/database.js';
import { TidemarkError } from '../base/errors.js';
import type { Settings } from '../base/settings.js';
import { inTransaction, rolledBack } from '../base/transaction.js';
import { appliedFiles, findBatch, oldestBatch } from '../change-log/applied.js';
import { type BatchDocument, type ChangeLog, readBatch } from '../change-log/chain.js';
import { openChains } from '../change-log/inspect.js';
import { eachTable, selectTables } from '../run/each-table.js';
import { startProgress } from '../run/progress.js';
import { explainWithFile } from './apply.js';
import { dimensionMappings } from '../warehouse/batches.js';
import { dimensionList } from '../warehouse/dimensions.js';
import {
  type AdoptedReplay,
  adoptReplay,
  compareReplay,
  type LedgerPlace,
  lockDimension,
  openReplay,
  replayBatch,
  type ReplayDifference,
  replayGaps,
  skipPruned,
} from '../warehouse/replay.js';

/** History made once more from the change log: to compare it with the one that is there, or to put that one right. */
export interface Replaying {
  readonly warehouse: Database;
  readonly settings: Settings;
  readonly table: string;
  readonly onBatch?: (() => void) | undefined;
}

export interface VerifyResult {
  readonly table: string;
  readonly batches: number;
  /** How many batches retention has removed from the beginning of the chains: what happened to a key until then cannot be verified. */
  readonly pruned: number;
  /** Names of other batches in the ledger that the change log does not hold: without them nothing can be verified. */
  readonly missing: readonly string[];
  /** How many rows only one of history and change log has, all told. */
  readonly differences: number;
  /** Whether `rows` are not all of them. */
  readonly is_cut: boolean;
  /** The first rows that only one of history and change log has. */
  readonly rows: readonly ReplayDifference[];
}

export interface RebuildResult {
  readonly table: string;
  readonly batches: number;
  readonly right_versions: number;
  readonly corrected_versions: number;
  readonly added_versions: number;
  readonly removed_versions: number;
}

const PAGE = 500;
const SHOWN_ROWS = 5;

/**
 * Replays every batch of the ledger, from its file, into a scratch history, and compares that with the one that is there, row for row.
 * All in a transaction that is rolled back. Loaders wait only for the comparison and for what was loaded during the replay.
 * Where retention has removed the oldest batches, those that are left are replayed, and the histories of keys compared that began with them.
 * @throws TidemarkError naming the file that is not what was applied
 */
export async function verifyTable(replaying: Replaying): Promise<VerifyResult> {
  const { warehouse, settings, table } = replaying;
  const logs = await openChains(settings.cdc_log_dir, table);
  return rolledBack(warehouse, async (transaction) => {
    await openReplay(transaction, table, false);
    const pruned = await skipWhatIsPruned(replaying, transaction, logs);
    const first = await replayLedger(replaying, transaction, logs);
    await lockDimension(transaction, table);
    const rest = await replayLedger(replaying, transaction, logs);
    const batches = first.replayed + rest.replayed;
    if (rest.missing.length > 0)
      return { table, batches, pruned, missing: rest.missing, differences: 0, is_cut: false, rows: [] };
    const rows = await compareReplay(transaction, table, SHOWN_ROWS);
    const differences = Number(rows[0]?.differences ?? 0);
    return { table, batches, pruned, missing: [], differences, is_cut: differences > rows.length, rows };
  });
}

/**
 * Makes a history from its change log again: replays the ledger's batches, and applied files that the ledger does not know, then
 * writes what differs. Loaders wait meanwhile, readers see the old history until the new one is there.
 * @throws TidemarkError if the change log does not hold every batch of the ledger; then nothing has changed
 */
export async function rebuildTable(replaying: Replaying): Promise<RebuildResult> {
  const { warehouse, settings, table } = replaying;
  const logs = await openChains(settings.cdc_log_dir, table);
  return inTransaction(warehouse, 'isolation level read committed', async (transaction) => {
    await openReplay(transaction, table, true);
    const { replayed, missing } = await replayLedger(replaying, transaction, logs);
    if (missing.length > 0)
      throw new TidemarkError(
        'the change log does not hold every batch of the ledger: history cannot be made from it',
        {
          detail: `table=${table} missing: ${missing.slice(0, SHOWN_ROWS).join(', ')}${missing.length > SHOWN_ROWS ? ` and ${String(missing.length - SHOWN_ROWS)} more` : ''}`,
          hint: `put the files back into ${logs.map(({ processed }) => processed).join(' or ')}; what retention removed (CDC_LOG_RETENTION_DAYS) is gone but for backups; nothing was changed`,
        },
      );
    let unknown = 0;
    for (const file of await allApplied(logs)) if (await replayUnknown(replaying, transaction, file)) unknown += 1;
    const counts = Object.entries(await adoptReplay(transaction, table)).map(([name, count]) => [name, Number(count)]);
    return {
      table,
      batches: replayed + unknown,
      ...(Object.fromEntries(counts) as Record<keyof AdoptedReplay, number>),
    };
  });
}

async function skipWhatIsPruned(
  { settings, table }: Replaying,
  transaction: Transaction,
  logs: readonly ChangeLog[],
): Promise<number> {
  const { cdc_log_retention_days: days } = settings;
  let pruned = 0;
  for (const log of logs) {
    const oldest = await oldestBatch(log);
    if (oldest !== undefined) pruned += await skipPruned(transaction, table, log.shard, oldest, days);
  }
  return pruned;
}

/** Replays what the ledger has and the replay has not. A file is looked for by the name of its batch; failing that, in every file. */
async function replayLedger(
  replaying: Replaying,
  transaction: Transaction,
  logs: readonly ChangeLog[],
): Promise<{ replayed: number; missing: string[] }> {
  let replayed = 0;
  const missing: string[] = [];
  let after: LedgerPlace | undefined;
  for (
    let page = await replayGaps(transaction, replaying.table, undefined, PAGE);
    page.length > 0;
    page = await replayGaps(transaction, replaying.table, after, PAGE)
  ) {
    for (const { batch_id: name } of page) {
      const document = await findInChains(logs, name);
      if (document !== undefined && (await replay(replaying, transaction, document, false))) replayed += 1;
      else missing.push(name);
    }
    after = page.at(-1);
  }
  if (missing.length === 0) return { replayed, missing };
  const found = await replayByContent(replaying, transaction, logs, new Set(missing));
  return { replayed: replayed + found.size, missing: missing.filter((name) => !found.has(name)) };
}

/** Applied files of all chains of the table. */
const allApplied = async (logs: readonly ChangeLog[]): Promise<string[]> =>
  (await Promise.all(logs.map(appliedFiles))).flat();

async function findInChains(logs: readonly ChangeLog[], name: string): Promise<BatchDocument | undefined> {
  for (const log of logs) {
    const document = await findBatch(log, name);
    if (document !== undefined) return document;
  }
  return undefined;
}

/** A document from elsewhere may lie in a file of another name. */
async function replayByContent(
  replaying: Replaying,
  transaction: Transaction,
  logs: readonly ChangeLog[],
  wanted: ReadonlySet<string>,
): Promise<Set<string>> {
  const found = new Set<string>();
  for (const file of await allApplied(logs)) {
    const document = await readBatch(file);
    if (wanted.has(document.head.batch_id) && (await replay(replaying, transaction, document, false)))
      found.add(document.head.batch_id);
  }
  return found;
}

/** Replays an applied file unless the replay has seen it: true where the ledger did not know it either. */
async function replayUnknown(replaying: Replaying, transaction: Transaction, file: string): Promise<boolean> {
  const document = await readBatch(file);
  if (await replay(replaying, transaction, document, false)) return false;
  return replay(replaying, transaction, document, true);
}

async function replay(
  { settings, table, onBatch }: Replaying,
  transaction: Transaction,
  document: BatchDocument,
  mayBeUnknown: boolean,
): Promise<boolean> {
  try {
    const isReplayed = await replayBatch(transaction, table, document.text, mayBeUnknown);
    if (isReplayed) onBatch?.();
    return isReplayed;
  } catch (error) {
    throw explainWithFile(error, settings, path.basename(document.file));
  }
}

/** Verifies the change logs of the selected tables, paused ones too; all where none is named. */
export const verifyTables = (settings: Settings, tables: readonly string[]): Promise<VerifyResult[]> =>
  replayTables(settings, tables, 'verify-log', verifyTable);

/** Rebuilds the histories of the selected tables. A table that fails stops no other. */
export const rebuildTables = (settings: Settings, tables: readonly string[]): Promise<RebuildResult[]> =>
  replayTables(settings, tables, 'rebuild', rebuildTable);

function replayTables<T>(
  settings: Settings,
  tables: readonly string[],
  what: string,
  work: (replaying: Replaying) => Promise<T>,
): Promise<T[]> {
  return withDatabase(settings.warehouse, what, async (warehouse) => {
    const selected = selectTables(await dimensionMappings(warehouse), tables);
    const batches = new Map(
      (await dimensionList(warehouse)).map((listed) => [listed.dimension_name, Number(listed.batches)]),
    );
    return eachTable(selected, async ({ dimension_name: table }) => {
      const progress = startProgress(`${what} ${table} (batches)`, batches.get(table));
      try {
        return await work({
          warehouse,
          settings,
          table,
          onBatch: () => {
            progress.advance(1);
          },
        });
      } finally {
        progress.stop();
      }
    });
  });
}
