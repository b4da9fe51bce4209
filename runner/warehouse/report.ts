import { call, type Warehouse } from './call.js';

export interface DimensionStatus {
  readonly dimension_name: string;
  readonly total: string;
  readonly current: string;
  readonly historical: string;
  readonly last_batch: string | null;
  readonly last_applied_at: string | null;
}

/** Versions of every history, counted, and its last batch. */
export const dimensionStatus = (warehouse: Warehouse): Promise<DimensionStatus[]> =>
  call(warehouse, 'dimension_status');

export interface ChangeFrequency {
  readonly versions: string;
  readonly keys: string;
}

/** How many keys have one version, two, three, ... */
export const changeFrequency = (warehouse: Warehouse, table: string): Promise<ChangeFrequency[]> =>
  call(warehouse, 'change_frequency', { dimension_name: table });

export interface LongHistory {
  readonly business_key: string;
  readonly versions: string;
  readonly first_seen: string;
  readonly last_changed: string;
  readonly is_current: boolean;
}

/** The keys with the most versions. */
export const longestHistories = (warehouse: Warehouse, table: string, keys: number): Promise<LongHistory[]> =>
  call(warehouse, 'longest_histories', { dimension_name: table, keys });

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
export const lineage = (warehouse: Warehouse, table: string, key: readonly string[]): Promise<VersionLineage[]> =>
  call(warehouse, 'lineage', { dimension_name: table, key });
