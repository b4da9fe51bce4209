import type { Database } from '../base/database.js';
import { asJson, call, callForRow } from './call.js';

/** What is compared of a dimension, and how deletes at its source are found. */
export interface ComparisonColumns {
  readonly columns: readonly { readonly source: string; readonly role: string; readonly stored_type: string }[];
  readonly deletes: string;
}

export const comparisonColumns = (warehouse: Database, table: string): Promise<ComparisonColumns> =>
  callForRow(warehouse, 'comparison_columns', { dimension_name: table });

/** A bucket of keys, and what it holds in one of the databases. */
export interface BucketChecksum {
  readonly bucket: number;
  readonly row_count: string;
  readonly checksum: string;
}

export const comparisonChecksums = (warehouse: Database, table: string, buckets: number): Promise<BucketChecksum[]> =>
  call(warehouse, 'comparison_checksums', { dimension_name: table, buckets });

/** A key, as the text of a JSON array of texts, and the digest of its row. */
export interface KeyDigest {
  readonly key: string;
  readonly digest: string;
}

export const comparisonDigests = (
  warehouse: Database,
  table: string,
  buckets: number,
  wanted: readonly number[],
): Promise<KeyDigest[]> =>
  call(warehouse, 'comparison_digests', { dimension_name: table, buckets, wanted: asJson(JSON.stringify(wanted)) });

/** A key and its row, as PostgreSQL prints a row of texts. */
export interface KeyState {
  readonly key: string;
  readonly content: string;
}

export const comparisonStates = (warehouse: Database, table: string, keys: readonly string[]): Promise<KeyState[]> =>
  call(warehouse, 'comparison_states', { dimension_name: table, keys: asJson(JSON.stringify(keys)) });
