import { DAY_MS } from '../change-log/applied.js';
import type { ChangeLog } from '../change-log/chain.js';
import { loggedTables, oldestWaiting, openChains } from '../change-log/inspect.js';
import type { Settings } from '../base/settings.js';
import { withDatabase, type Database, type Transaction } from '../base/database.js';
import { inTransaction, rolledBack } from '../base/transaction.js';
import { logger } from '../base/logger.js';
import { pruneChangeLog, retentionLedger, type PrunedFiles } from '../load/retention.js';
import { pruneEvents } from '../warehouse/events.js';
import { dimensionMappings, pruneAbsorbedChanges, pruneReports } from '../warehouse/functions.js';
import { eachTable, selectTables } from '../run/each-table.js';

/** What was removed, of each table and besides, or would be. */
export interface Pruned extends Readonly<Record<'runs' | 'reconciliations' | 'events', number>> {
  readonly is_dry_run: boolean;
  readonly tables: readonly (PrunedFiles & { readonly table: string; readonly absorbed_changes: number })[];
}

/** Absorbed changes to forget in one transaction: loaders of the table wait for so long. */
const AT_A_TIME = 50_000;

/** Does work in a transaction that stands, or in one that does not. */
type Within = <T>(work: (transaction: Transaction) => Promise<T>) => Promise<T>;

/**
 * Removes what its setting says is old, of the selected tables: applied batches that the ledger has settled, with their checkpoints
 * (CDC_LOG_RETENTION_DAYS), absorbed changes that can never matter again (ABSORBED_RETENTION_DAYS), and, whatever the tables, reports
 * of runs and comparisons (RUN_RETENTION_DAYS) and events that every subscription has (EVENT_RETENTION_DAYS). What is not applied stays, whatever its age. A dry run finds the same and removes nothing.
 */
export async function prune(settings: Settings, names: readonly string[], isDryRun: boolean): Promise<Pruned> {
  return withDatabase(settings.warehouse, 'prune', async (warehouse) => {
    const within: Within = (work) =>
      isDryRun ? rolledBack(warehouse, work) : inTransaction(warehouse, 'isolation level read committed', work);
    const selected = selectTables(await dimensionMappings(warehouse), names);
    const logged = await loggedTables(settings.cdc_log_dir);
    const { run_retention_days: days, event_retention_days: eventDays } = settings;
    const reports = days === undefined ? undefined : await within((transaction) => pruneReports(transaction, days));
    const { runs = 0, reconciliations = 0 } = reports ?? {};
    const events =
      eventDays === undefined ? 0 : Number(await within((transaction) => pruneEvents(transaction, eventDays)));
    return eachTable(
      settings.warehouse,
      selected,
      async ({ dimension_name: table }) => {
        const chains = logged.includes(table) ? await openChains(settings.cdc_log_dir, table) : [];
        const files = await pruneChains(settings, chains, warehouse, isDryRun);
        return { table, ...files, absorbed_changes: await pruneChanges(settings, table, within, isDryRun) };
      },
      (tables) => ({
        is_dry_run: isDryRun,
        tables,
        runs: Number(runs),
        reconciliations: Number(reconciliations),
        events,
      }),
    );
  });
}

async function pruneChains(
  { cdc_log_retention_days: days }: Settings,
  chains: readonly ChangeLog[],
  warehouse: Database,
  isDryRun: boolean,
): Promise<PrunedFiles> {
  const total = { batch_files: 0, checkpoints: 0 };
  if (days === undefined) return total;
  for (const chain of chains) {
    const { batch_files, checkpoints } = await pruneChangeLog(chain, days, retentionLedger(warehouse, chain), isDryRun);
    total.batch_files += batch_files;
    total.checkpoints += checkpoints;
  }
  return total;
}

async function pruneChanges(
  { absorbed_retention_days: days, cdc_log_dir }: Settings,
  table: string,
  within: Within,
  isDryRun: boolean,
): Promise<number> {
  if (days === undefined) return 0;
  const waiting = await oldestWaiting(cdc_log_dir, table);
  if (waiting !== undefined && Date.now() - waiting > days * DAY_MS) {
    logger.warn(
      { table },
      `absorbed changes are kept: batches that are older than ABSORBED_RETENTION_DAYS wait to be loaded, and may need them`,
    );
    return 0;
  }
  const limit = isDryRun ? 2_147_483_647 : AT_A_TIME;
  let total = 0;
  for (let last = limit; last === limit; ) {
    const { pruned_changes } = await within((transaction) => pruneAbsorbedChanges(transaction, table, days, limit));
    last = Number(pruned_changes);
    total += last;
  }
  return total;
}
