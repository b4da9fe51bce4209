import type { Transaction } from './database.js';

/** Calls of the warehouse that forget what is no longer needed. */

/** How many absorbed changes were forgotten, and before which capture; null where nothing may be forgotten. */
export interface PrunedChanges {
  readonly pruned_changes: string;
  readonly pruned_before: string | null;
}

/** Forgets absorbed changes of a table that can never matter again, of those captured more than `days` days ago; at most `limit`. */
export async function pruneAbsorbedChanges(transaction: Transaction, dimensionName: string, days: number, limit: number): Promise<PrunedChanges> {
  const [row] = await transaction<[PrunedChanges]>`
    select pruned_changes, pruned_before
    from tidemark.prune_absorbed_changes(
      p_dimension_name => ${dimensionName}, p_before => clock_timestamp() - make_interval(days => ${days}::integer), p_limit => ${limit}::integer)`;
  return row;
}

/** How many reports were forgotten. */
export interface PrunedReports {
  readonly runs: string;
  readonly reconciliations: string;
}

/** Forgets the reports of runs that ended, and of comparisons that were made, more than `days` days ago. */
export async function pruneReports(transaction: Transaction, days: number): Promise<PrunedReports> {
  const [row] = await transaction<[PrunedReports]>`
    select runs, reconciliations from tidemark.prune_reports(p_before => clock_timestamp() - make_interval(days => ${days}::integer))`;
  return row;
}

/** Those of the batches that are in the ledger of a table. */
export async function appliedBatches(transaction: Transaction, dimensionName: string, batchIds: readonly string[]): Promise<Set<string>> {
  const rows = await transaction<{ batch_id: string }[]>`
    select batch_id from tidemark.batches where dimension_name = ${dimensionName} and batch_id = any (${batchIds as string[]}::text[])`;
  return new Set(rows.map(({ batch_id }) => batch_id));
}
