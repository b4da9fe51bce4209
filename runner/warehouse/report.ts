import type { Database, Transaction } from '../base/database.js';

export interface DimensionStatus {
  readonly dimension_name: string;
  readonly total: string;
  readonly current: string;
  readonly historical: string;
  readonly last_batch: string | null;
  readonly last_applied_at: string | null;
}

/** Versions of every history, counted, and its last batch. */
export async function dimensionStatus(warehouse: Database | Transaction): Promise<DimensionStatus[]> {
  return warehouse<DimensionStatus[]>`select * from tidemark.dimension_status()`;
}

export interface ChangeFrequency {
  readonly versions: string;
  readonly keys: string;
}

/** How many keys have one version, two, three, ... */
export async function changeFrequency(
  warehouse: Database | Transaction,
  dimensionName: string,
): Promise<ChangeFrequency[]> {
  return warehouse<ChangeFrequency[]>`select * from tidemark.change_frequency(p_dimension_name => ${dimensionName})`;
}

export interface LongHistory {
  readonly business_key: string;
  readonly versions: string;
  readonly first_seen: string;
  readonly last_changed: string;
  readonly is_current: boolean;
}

/** The keys with the most versions. */
export async function longestHistories(
  warehouse: Database | Transaction,
  dimensionName: string,
  keys: number,
): Promise<LongHistory[]> {
  return warehouse<
    LongHistory[]
  >`select * from tidemark.longest_histories(p_dimension_name => ${dimensionName}, p_keys => ${keys})`;
}

export interface VersionLineage {
  readonly surrogate_key: string;
  readonly valid_from: string;
  readonly valid_to: string | null;
  readonly cdc_operation: string;
  readonly differences: string | null;
  readonly batch_id: string;
  readonly change_line: number;
  readonly sequence: string | null;
  readonly extracted_at: string | null;
  readonly applied_at: string | null;
}

/** Every version of one key, with the batch and line it came from. */
export async function lineage(
  warehouse: Database | Transaction,
  dimensionName: string,
  key: readonly string[],
): Promise<VersionLineage[]> {
  return warehouse<
    VersionLineage[]
  >`select * from tidemark.lineage(p_dimension_name => ${dimensionName}, p_key => ${[...key]}::text[])`;
}
