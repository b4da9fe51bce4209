import { call, type Texts, type Warehouse } from './call.js';

export interface DimensionStatus extends Texts<'dimension_name' | 'total' | 'current' | 'historical'> {
  readonly last_batch: string | null;
  readonly last_applied_at: string | null;
  readonly deletes: string;
}

/** Versions of every history, counted, and its last batch. */
export const dimensionStatus = (warehouse: Warehouse): Promise<DimensionStatus[]> =>
  call(warehouse, 'dimension_status');

/** How many keys have one version, two, three, ... */
export const changeFrequency = (warehouse: Warehouse, table: string): Promise<Texts<'versions' | 'keys'>[]> =>
  call(warehouse, 'change_frequency', { dimension_name: table });

type LongHistory = Texts<'business_key' | 'versions' | 'first_seen' | 'last_changed'> & {
  readonly is_current: boolean;
};

/** The keys with the most versions. */
export const longestHistories = (warehouse: Warehouse, table: string, keys: number): Promise<LongHistory[]> =>
  call(warehouse, 'longest_histories', { dimension_name: table, keys });

type VersionLineage = Texts<'surrogate_key' | 'valid_from' | 'cdc_operation' | 'batch_id'> &
  Readonly<Record<'valid_to' | 'differences' | 'sequence' | 'extracted_at' | 'applied_at', string | null>> & {
    readonly change_line: number;
  };

/** Every version of one key, with the batch and line it came from. */
export const lineage = (warehouse: Warehouse, table: string, key: readonly string[]): Promise<VersionLineage[]> =>
  call(warehouse, 'lineage', { dimension_name: table, key: { value: key, read: (place) => `${place}::text[]` } });
