import type { Database, Transaction } from '../base/database.js';

/** Calls of the warehouse that forget what is no longer needed. */

/** How many absorbed changes were forgotten, and before which capture; null where nothing may be forgotten. */
export interface PrunedChanges {
  readonly pruned_changes: string;
  readonly pruned_before: string | null;
}

/** Forgets absorbed changes of a table that can never matter again, of those captured more than `days` days ago; at most `limit`. */
export async function pruneAbsorbedChanges(
  transaction: Transaction,
  dimensionName: string,
  days: number,
  limit: number,
): Promise<PrunedChanges> {
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

/** Those of the batches that are in the ledger of a chain, and of them those whose files nothing will ask for any more. */
export async function settledBatches(
  database: Database | Transaction,
  dimensionName: string,
  shard: string,
  batchIds: readonly string[],
): Promise<Settled> {
  const rows = await database<{ batch_id: string; is_settled: boolean }[]>`
    select b.batch_id, s.batch_id is not null as is_settled
    from tidemark.batches as b
    left join tidemark.settled_batches(p_dimension_name => ${dimensionName}, p_shard => ${shard}) as s using (batch_id)
    where b.dimension_name = ${dimensionName} and b.shard = ${shard} and b.batch_id = any (${batchIds as string[]}::text[])`;
  return {
    known: new Set(rows.map(({ batch_id }) => batch_id)),
    settled: new Set(rows.filter(({ is_settled }) => is_settled).map(({ batch_id }) => batch_id)),
  };
}

/** Notes of these batches that their files are about to be removed, before they are. */
export async function noteRemovedFiles(
  database: Database | Transaction,
  dimensionName: string,
  shard: string,
  batchIds: readonly string[],
): Promise<void> {
  await database`select tidemark.note_removed_files(p_dimension_name => ${dimensionName}, p_shard => ${shard}, p_batch_ids => ${batchIds as string[]}::text[])`;
}

export interface Settled {
  readonly known: ReadonlySet<string>;
  readonly settled: ReadonlySet<string>;
}
