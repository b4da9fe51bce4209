import path from 'node:path';
import { type Database, type Transaction, withDatabase } from '../base/database.js';
import { TidemarkError } from '../base/errors.js';
import type { Settings } from '../base/settings.js';
import { inTransaction, rolledBack } from '../base/transaction.js';
import { findBatch, oldestBatch } from '../change-log/applied.js';
import { appliedFiles, type BatchDocument, type ChangeLog, readBatch } from '../change-log/chain.js';
import { openChains } from '../change-log/inspect.js';
import { eachTable, selectTables } from '../run/each-table.js';
import { withProgress } from '../run/progress.js';
import { explainWithFile } from './apply.js';
import * as functions from '../warehouse/functions.js';

/** History made once more from the change log: to compare it with the one that is there, or to put that one right. */
interface Replaying {
  readonly settings: Settings;
  readonly table: string;
  /** Of all chains of the table. */
  readonly logs: readonly ChangeLog[];
  readonly onBatch: (count: number) => void;
}

type Replay = Replaying & { readonly transaction: Transaction };

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
  readonly rows: readonly functions.ReplayDifference[];
}

export type RebuildResult = Readonly<
  { table: string; batches: number } & Record<keyof functions.AdoptedReplay, number>
>;

const PAGE = 500;
const SHOWN_ROWS = 5;

/**
 * Replays every batch of the ledger, from its file, into a scratch history, and compares that with the one that is there, row for row.
 * All in a transaction that is rolled back. Loaders wait only for the comparison and for what was loaded during the replay.
 * Where retention has removed the oldest batches, those that are left are replayed, and the histories of keys compared that began with them.
 * @throws TidemarkError naming the file that is not what was applied
 */
function verifyTable(warehouse: Database, replaying: Replaying): Promise<VerifyResult> {
  const { settings, table, logs } = replaying;
  return rolledBack(warehouse, async (transaction) => {
    const replay = { ...replaying, transaction };
    await functions.openReplay(transaction, table, false);
    let pruned = 0;
    for (const log of logs) {
      const oldest = await oldestBatch(log);
      if (oldest !== undefined)
        pruned += Number(
          await functions.skipPruned(transaction, table, log.shard, oldest, settings.cdc_log_retention_days),
        );
    }
    const first = await replayLedger(replay);
    await functions.lockDimension(transaction, table);
    const { replayed, missing } = await replayLedger(replay);
    const rows = missing.length > 0 ? [] : await functions.compareReplay(transaction, table, SHOWN_ROWS);
    const differences = Number(rows[0]?.differences ?? 0);
    const batches = first.replayed + replayed;
    return { table, batches, pruned, missing, differences, is_cut: differences > rows.length, rows };
  });
}

/**
 * Makes a history from its change log again: replays the ledger's batches, and applied files that the ledger does not know, then
 * writes what differs. Loaders wait meanwhile, readers see the old history until the new one is there.
 * @throws TidemarkError if the change log does not hold every batch of the ledger; then nothing has changed
 */
async function rebuildTable(warehouse: Database, replaying: Replaying): Promise<RebuildResult> {
  const { table, logs } = replaying;
  return inTransaction(warehouse, 'isolation level read committed', async (transaction) => {
    const replay = { ...replaying, transaction };
    await functions.openReplay(transaction, table, true);
    const { replayed, missing } = await replayLedger(replay);
    if (missing.length > 0)
      throw new TidemarkError(
        'the change log does not hold every batch of the ledger: history cannot be made from it',
        {
          detail: `table=${table} missing: ${missing.slice(0, SHOWN_ROWS).join(', ')}${missing.length > SHOWN_ROWS ? ` and ${missing.length - SHOWN_ROWS} more` : ''}`,
          hint: `put the files back into ${logs.map(({ processed }) => processed).join(' or ')}; what retention removed (CDC_LOG_RETENTION_DAYS) is gone but for backups; nothing was changed`,
        },
      );
    let unknown = 0;
    for (const file of await allApplied(logs)) {
      const document = await readBatch(file);
      // One that the replay has seen already is left out either way.
      if (!(await replayOne(replay, document, false)) && (await replayOne(replay, document, true))) unknown += 1;
    }
    const counts = await functions.adoptReplay(transaction, table);
    return { table, batches: replayed + unknown, ...functions.asNumbers(counts) };
  });
}

/** Replays what the ledger has and the replay has not. A file is looked for by the name of its batch; failing that, in every file. */
async function replayLedger(replay: Replay): Promise<{ replayed: number; missing: string[] }> {
  const { transaction, table, logs } = replay;
  let replayed = 0;
  const missing = new Set<string>();
  for (let after: functions.LedgerPlace | undefined; ; ) {
    const page = await functions.replayGaps(transaction, table, after?.extracted_at, after?.batch_id, PAGE);
    for (const { batch_id: name } of page) {
      const document = await findInChains(logs, name);
      if (document !== undefined && (await replayOne(replay, document, false))) replayed += 1;
      else missing.add(name);
    }
    after = page.at(-1);
    if (after === undefined) break;
  }
  // A document from elsewhere may lie in a file of another name.
  for (const file of missing.size === 0 ? [] : await allApplied(logs)) {
    const document = await readBatch(file);
    const name = document.head.batch_id;
    if (!missing.has(name) || !(await replayOne(replay, document, false))) continue;
    missing.delete(name);
    replayed += 1;
  }
  return { replayed, missing: [...missing] };
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

/** False where the replay has seen the batch, or the ledger does not know it and it must. */
async function replayOne(
  { settings, table, transaction, onBatch }: Replay,
  document: BatchDocument,
  mayBeUnknown: boolean,
): Promise<boolean> {
  try {
    const isReplayed = await functions.replayBatch(transaction, table, document.text, mayBeUnknown);
    if (isReplayed) onBatch(1);
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
  work: (warehouse: Database, replaying: Replaying) => Promise<T>,
): Promise<T[]> {
  return withDatabase(settings.warehouse, what, async (warehouse) => {
    const selected = selectTables(await functions.dimensionMappings(warehouse), tables);
    const listed = new Map(
      (await functions.dimensionList(warehouse)).map((each) => [each.dimension_name, Number(each.batches)]),
    );
    return eachTable(settings.warehouse, selected, async ({ dimension_name: table }) => {
      const logs = await openChains(settings.cdc_log_dir, table);
      return withProgress(`${what} ${table} (batches)`, listed.get(table), ({ advance: onBatch }) =>
        work(warehouse, { settings, table, logs, onBatch }),
      );
    });
  });
}
