import { asJson, call, callForRow, type Texts, type Warehouse } from './call.js';

/** What is compared of a dimension, and how deletes at its source are found. */
interface ComparisonColumns extends Texts<'deletes'> {
  readonly columns: readonly Texts<'source' | 'role' | 'stored_type'>[];
}

export const comparisonColumns = (warehouse: Warehouse, table: string): Promise<ComparisonColumns> =>
  callForRow(warehouse, 'comparison_columns', { dimension_name: table });

/** A bucket of keys, and what it holds in one of the databases. */
export type BucketChecksum = { readonly bucket: number } & Texts<'row_count' | 'checksum'>;

export const comparisonChecksums = (warehouse: Warehouse, table: string, buckets: number): Promise<BucketChecksum[]> =>
  call(warehouse, 'comparison_checksums', { dimension_name: table, buckets });

/** A key, as the text of a JSON array of texts, and the digest of its row. */
export type KeyDigest = Texts<'key' | 'digest'>;

export const comparisonDigests = (
  warehouse: Warehouse,
  table: string,
  buckets: number,
  wanted: readonly number[],
): Promise<KeyDigest[]> =>
  call(warehouse, 'comparison_digests', { dimension_name: table, buckets, wanted: asJson(JSON.stringify(wanted)) });

/** Keys and their rows, each as PostgreSQL prints a row of texts. */
export const comparisonStates = (
  warehouse: Warehouse,
  table: string,
  keys: readonly string[],
): Promise<Texts<'key' | 'content'>[]> =>
  call(warehouse, 'comparison_states', { dimension_name: table, keys: asJson(JSON.stringify(keys)) });
