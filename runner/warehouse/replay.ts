import { asJson, call, callForRow, callForValue, daysAgo, perform, type Texts, type Warehouse } from './call.js';

/** A row that only one of history and change log has, and how many such rows (differences) there are in all. */
export interface ReplayDifference extends Texts<'business_key' | 'valid_from' | 'version' | 'differences'> {
  readonly found_in: 'history only' | 'change log only';
}

/** What adopting a replay did to the versions of a history. */
export type AdoptedReplay = Texts<'right_versions' | 'corrected_versions' | 'added_versions' | 'removed_versions'>;

/** A batch of the ledger, by its name and the instant of its capture. */
export type LedgerPlace = Texts<'batch_id' | 'extracted_at'>;

/** Begins a replay in this transaction: a dimension like this one, with an empty history. `isLocked` keeps loaders out until it ends. */
export const openReplay = (transaction: Warehouse, table: string, isLocked: boolean): Promise<void> =>
  perform(transaction, 'open_replay', { dimension_name: table, is_locked: isLocked });

/** Keeps loaders of a dimension out until the transaction ends. */
export const lockDimension = (transaction: Warehouse, table: string): Promise<void> =>
  perform(transaction, '_lock_dimension', { dimension_name: table, shard: '' });

/** Replays one batch document. False: the ledger does not know it, and it was left out. */
export const replayBatch = (
  transaction: Warehouse,
  table: string,
  batch: string,
  may_be_unknown: boolean,
): Promise<boolean> =>
  callForValue(transaction, 'replay_batch', { dimension_name: table, batch: asJson(batch), may_be_unknown });

/** Batches of the ledger that the replay has not seen, oldest first, after a place in that order. */
export const replayGaps = (
  transaction: Warehouse,
  table: string,
  after: LedgerPlace | undefined,
  limit: number,
): Promise<LedgerPlace[]> =>
  call(transaction, 'replay_gaps', {
    dimension_name: table,
    after_extracted_at: after?.extracted_at ?? null,
    after_batch_id: after?.batch_id ?? null,
    limit,
  });

/**
 * Does without the batches of a chain that retention has removed, as the ledger notes, or as their age says if it is more than `days`: before
 * the oldest whose file is there. Says how many they are.
 */
export async function skipPruned(
  transaction: Warehouse,
  table: string,
  shard: string,
  oldest_batch_id: string,
  days: number | undefined,
): Promise<number> {
  const given = { dimension_name: table, shard, oldest_batch_id, before: daysAgo(days) };
  return Number(await callForValue(transaction, 'skip_pruned', given));
}

/** The first rows that only one of history and replay has. */
export const compareReplay = (transaction: Warehouse, table: string, limit: number): Promise<ReplayDifference[]> =>
  call(transaction, 'compare_replay', { dimension_name: table, limit });

/** Makes history what the replay made. */
export const adoptReplay = (transaction: Warehouse, table: string): Promise<AdoptedReplay> =>
  callForRow(transaction, 'adopt_replay', { dimension_name: table });
