import type { Transaction } from '../base/database.js';
import { asJson, call, callForRow, callForValue, daysAgo, perform } from './call.js';

/** A row that only one of history and change log has. */
export interface ReplayDifference {
  readonly found_in: 'history only' | 'change log only';
  readonly business_key: string;
  readonly valid_from: string;
  readonly version: string;
  /** How many such rows there are in all. */
  readonly differences: string;
}

/** What adopting a replay did to the versions of a history. */
export interface AdoptedReplay {
  readonly right_versions: string;
  readonly corrected_versions: string;
  readonly added_versions: string;
  readonly removed_versions: string;
}

/** A batch of the ledger, by its name and the instant of its capture. */
export interface LedgerPlace {
  readonly batch_id: string;
  readonly extracted_at: string;
}

/** Begins a replay in this transaction: a dimension like this one, with an empty history. `isLocked` keeps loaders out until it ends. */
export const openReplay = (transaction: Transaction, table: string, isLocked: boolean): Promise<void> =>
  perform(transaction, 'open_replay', { dimension_name: table, is_locked: isLocked });

/** Keeps loaders of a dimension out until the transaction ends. */
export const lockDimension = (transaction: Transaction, table: string): Promise<void> =>
  perform(transaction, '_lock_dimension', { dimension_name: table, shard: '' });

/** Replays one batch document. False: the ledger does not know it, and it was left out. */
export const replayBatch = (
  transaction: Transaction,
  table: string,
  batch: string,
  mayBeUnknown: boolean,
): Promise<boolean> =>
  callForValue(transaction, 'replay_batch', {
    dimension_name: table,
    batch: asJson(batch),
    may_be_unknown: mayBeUnknown,
  });

/** Batches of the ledger that the replay has not seen, oldest first, after a place in that order. */
export const replayGaps = (
  transaction: Transaction,
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
export const skipPruned = async (
  transaction: Transaction,
  table: string,
  shard: string,
  oldest: string,
  days: number | undefined,
): Promise<number> =>
  Number(
    await callForValue(transaction, 'skip_pruned', {
      dimension_name: table,
      shard,
      oldest_batch_id: oldest,
      before: daysAgo(days),
    }),
  );

/** The first rows that only one of history and replay has. */
export const compareReplay = (transaction: Transaction, table: string, limit: number): Promise<ReplayDifference[]> =>
  call(transaction, 'compare_replay', { dimension_name: table, limit });

/** Makes history what the replay made. */
export const adoptReplay = (transaction: Transaction, table: string): Promise<AdoptedReplay> =>
  callForRow(transaction, 'adopt_replay', { dimension_name: table });
