import { callForRow, daysAgo, perform, type Texts, type Warehouse } from './call.js';

/** Forgets absorbed changes of a table that can never matter again, of those captured more than `days` days ago; at most `limit`. */
export const pruneAbsorbedChanges = (
  warehouse: Warehouse,
  table: string,
  days: number,
  limit: number,
): Promise<Texts<'pruned_changes'>> =>
  callForRow(warehouse, 'prune_absorbed_changes', { dimension_name: table, before: daysAgo(days), limit });

/** Forgets the reports of runs that ended, and of comparisons that were made, more than `days` days ago. */
export const pruneReports = (warehouse: Warehouse, days: number): Promise<Texts<'runs' | 'reconciliations'>> =>
  callForRow(warehouse, 'prune_reports', { before: daysAgo(days) });

/** Names of batches that the ledger knows, and of those that are settled. */
export type Settled = Readonly<Record<'known' | 'settled', ReadonlySet<string>>>;

/** Those of the batches that are in the ledger of a chain, and of them those whose files nothing will ask for any more. */
export async function settledBatches(
  warehouse: Warehouse,
  table: string,
  shard: string,
  batchIds: readonly string[],
): Promise<Settled> {
  const [row] = await warehouse<[Record<keyof Settled, string[]>]>`
    select
      coalesce(array_agg(b.batch_id), '{}') as known,
      coalesce(array_agg(b.batch_id) filter (where s.batch_id is not null), '{}') as settled
    from tidemark.batches as b
    left join tidemark.settled_batches(p_dimension_name => ${table}, p_shard => ${shard}) as s using (batch_id)
    where b.dimension_name = ${table} and b.shard = ${shard} and b.batch_id = any (${batchIds as string[]}::text[])`;
  return { known: new Set(row.known), settled: new Set(row.settled) };
}

/** Notes of these batches that their files are about to be removed, before they are. */
export const noteRemovedFiles = (
  warehouse: Warehouse,
  table: string,
  shard: string,
  batchIds: readonly string[],
): Promise<void> => perform(warehouse, 'note_removed_files', { dimension_name: table, shard, batch_ids: batchIds });
