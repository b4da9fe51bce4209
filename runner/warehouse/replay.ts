import type { Transaction } from '../base/database.js';

/** Calls of the warehouse that make history once more from its batches, all in one transaction. */

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
export async function openReplay(transaction: Transaction, dimensionName: string, isLocked: boolean): Promise<void> {
  await transaction`select tidemark.open_replay(p_dimension_name => ${dimensionName}, p_is_locked => ${isLocked})`;
}

/** Keeps loaders of a dimension out until the transaction ends. */
export async function lockDimension(transaction: Transaction, dimensionName: string): Promise<void> {
  await transaction`select tidemark._lock_dimension(p_dimension_name => ${dimensionName}, p_shard => '')`;
}

/** Replays one batch document. False: the ledger does not know it, and it was left out. */
export async function replayBatch(
  transaction: Transaction,
  dimensionName: string,
  batch: string,
  mayBeUnknown: boolean,
): Promise<boolean> {
  const [row] = await transaction<[{ is_replayed: boolean }]>`
    select tidemark.replay_batch(p_dimension_name => ${dimensionName}, p_batch => ${batch}::text::json, p_may_be_unknown => ${mayBeUnknown}) as is_replayed`;
  return row.is_replayed;
}

/** Batches of the ledger that the replay has not seen, oldest first, after a place in that order. */
export async function replayGaps(
  transaction: Transaction,
  dimensionName: string,
  after: LedgerPlace | undefined,
  limit: number,
): Promise<LedgerPlace[]> {
  return transaction<LedgerPlace[]>`
    select * from tidemark.replay_gaps(
      p_dimension_name => ${dimensionName}, p_after_extracted_at => ${after?.extracted_at ?? null}::text::timestamptz,
      p_after_batch_id => ${after?.batch_id ?? null}::text, p_limit => ${limit}::integer)`;
}

/**
 * Does without the batches of a chain that retention has removed, as the ledger notes, or as their age says if it is more than `days`: before
 * the oldest whose file is there. Says how many they are.
 */
export async function skipPruned(
  transaction: Transaction,
  dimensionName: string,
  shard: string,
  oldest: string,
  days: number | undefined,
): Promise<number> {
  const [row] = await transaction<[{ skipped: string }]>`
    select tidemark.skip_pruned(
      p_dimension_name => ${dimensionName}, p_shard => ${shard}, p_oldest_batch_id => ${oldest},
      p_before => clock_timestamp() - make_interval(days => ${days ?? null}::integer)) as skipped`;
  return Number(row.skipped);
}

/** The first rows that only one of history and replay has. */
export async function compareReplay(
  transaction: Transaction,
  dimensionName: string,
  limit: number,
): Promise<ReplayDifference[]> {
  return transaction<
    ReplayDifference[]
  >`select * from tidemark.compare_replay(p_dimension_name => ${dimensionName}, p_limit => ${limit}::integer)`;
}

/** Makes history what the replay made. */
export async function adoptReplay(transaction: Transaction, dimensionName: string): Promise<AdoptedReplay> {
  const [row] = await transaction<
    [AdoptedReplay]
  >`select * from tidemark.adopt_replay(p_dimension_name => ${dimensionName})`;
  return row;
}
