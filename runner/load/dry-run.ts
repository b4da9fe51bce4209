import { withDatabase } from '../base/database.js';
import { rolledBack } from '../base/transaction.js';
import { loadDry, type LoadResult } from './chain.js';
import { formatRetry, retryTable, type RetryReport } from './rejected.js';
import { counted, cutShort, formatRows } from '../base/text-table.js';
import { dimensionMappings, type Effect, transactionEffects } from '../warehouse/functions.js';
import { eachTable, selectUnpaused, type Selection } from '../run/each-table.js';

/** What loading would do to one history: the counts, and the first rows of each kind. */
export interface DryRun extends LoadResult {
  readonly effects: readonly Effect[];
  /** What trying the rejected changes again would do; undefined where that was not asked. */
  readonly retried?: RetryReport | undefined;
}

export const SHOWN_ROWS = 5;
/** Of the values of a sample row, on a terminal; --json has more of them. */
const WIDEST = 80;

/**
 * Applies the pending batches of the selected tables with the very statements of a load, a transaction a table, asks what they
 * did, and rolls back. Loaders of that table wait meanwhile.
 * @param retries whether rejected changes are then tried again, as by load --retry-rejected
 */
export async function dryRunTables({ settings, tables }: Selection, retries = false): Promise<DryRun[]> {
  return withDatabase(settings.warehouse, 'load --dry-run', async (warehouse) => {
    const selected = selectUnpaused(await dimensionMappings(warehouse), tables);
    return eachTable(settings.warehouse, selected, async ({ dimension_name: table }) => {
      return rolledBack(warehouse, async (transaction) => {
        const result = await loadDry(transaction, settings, table);
        const retried = retries ? await retryTable(transaction, table) : undefined;
        return { ...result, retried, effects: await transactionEffects(transaction, table, SHOWN_ROWS) };
      });
    });
  });
}

export function formatDryRun(run: DryRun): string {
  const counts = [
    counted(run.inserted_versions, 'version') + ' opened',
    `${run.closed_versions} closed`,
    `${run.corrected_versions} corrected`,
    counted(run.late_changes, 'change') + ' late',
    `${run.absorbed_changes} absorbed`,
    `${run.rejected_changes} rejected`,
  ].join(', ');
  const summary = `${run.table}: ${counted(run.changes, 'change')} in ${counted(run.batches, 'batch')} would be applied: ${counts}${run.retried === undefined ? '' : `\n${formatRetry(run.retried)}`}`;
  return run.effects.length === 0 ? summary : `${summary}\n${formatEffects(run.effects)}`;
}

/** The rows that a dry run would have written. */
export function formatEffects(effects: readonly Effect[]): string {
  const shown = effects.map(({ shown_values: values, ...effect }) => ({ ...effect, values: cutShort(values, WIDEST) }));
  return `${formatRows(shown).replace(/^/gm, '  ')}\n  nothing was written`;
}
