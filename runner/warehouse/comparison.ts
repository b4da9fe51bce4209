import type { Database } from '../base/database.js';

/** What is compared of a dimension, and how deletes at its source are found. */
export interface ComparisonColumns {
  readonly columns: readonly { readonly source: string; readonly role: string; readonly stored_type: string }[];
  readonly deletes: string;
}

export async function comparisonColumns(warehouse: Database, dimensionName: string): Promise<ComparisonColumns> {
  const [row] = await warehouse<
    [ComparisonColumns]
  >`select * from tidemark.comparison_columns(p_dimension_name => ${dimensionName})`;
  return row;
}

/** A bucket of keys, and what it holds in one of the databases. */
export interface BucketChecksum {
  readonly bucket: number;
  readonly row_count: string;
  readonly checksum: string;
}

export async function comparisonChecksums(
  warehouse: Database,
  dimensionName: string,
  buckets: number,
): Promise<BucketChecksum[]> {
  return warehouse<BucketChecksum[]>`
    select * from tidemark.comparison_checksums(p_dimension_name => ${dimensionName}, p_buckets => ${buckets}::integer)`;
}

/** A key, as the text of a JSON array of texts, and the digest of its row. */
export interface KeyDigest {
  readonly key: string;
  readonly digest: string;
}

export async function comparisonDigests(
  warehouse: Database,
  dimensionName: string,
  buckets: number,
  wanted: readonly number[],
): Promise<KeyDigest[]> {
  return warehouse<KeyDigest[]>`
    select * from tidemark.comparison_digests(
      p_dimension_name => ${dimensionName}, p_buckets => ${buckets}::integer, p_wanted => ${JSON.stringify(wanted)}::text::json)`;
}

/** A key and its row, as PostgreSQL prints a row of texts. */
export interface KeyState {
  readonly key: string;
  readonly content: string;
}

export async function comparisonStates(
  warehouse: Database,
  dimensionName: string,
  keys: readonly string[],
): Promise<KeyState[]> {
  return warehouse<KeyState[]>`
    select * from tidemark.comparison_states(p_dimension_name => ${dimensionName}, p_keys => ${JSON.stringify(keys)}::text::json)`;
}
