import { row, rows, value, type Texts, type TextsOrNull } from './call.js';

/** What the console asks of schema tidemark, as functions.ts has the rest: the room browse of sql/functions. */

/** The role that who is connected may take to read, as "tidemark grants" makes it; null where there is none. */
export const readingRole = value<string | null, []>('reading_role()');

/** The role by which who is connected may take actions and no more; null where there is none. */
export const actingRole = value<string | null, []>('acting_role()');

/** When something was done by hand, null where nothing was to be done, and what came of it, null where there is no such batch. */
type Acted = TextsOrNull<'acted_at' | 'outcome'>;
export const takeAction = row<
  Acted,
  [table: string, what: string, reason: string, who: string, batch?: string, column?: string, cause?: string]
>(`take_action(
  p_dimension_name => $1, p_action => $2, p_reason => $3, p_who => $4, p_batch_id => $5, p_column_name => $6, p_cause => $7)`);

/** Moments as people write them, as the server prints them, and null for an empty one. */
export const moments = value<(string | null)[], [texts: readonly string[]]>(
  'moments(p_texts => $1::text[], p_now => now())',
);

/** A row a dimension: its indicators over a window that ends now, the changes in each part of it, and how large it is about. */
export type Overview = Texts<'dimension_name' | 'history_table' | 'capture' | 'changes' | 'rejected_changes'> &
  Readonly<Record<'lag_seconds' | 'latency_p50' | 'latency_p95', number | null>> &
  TextsOrNull<'pending_batches' | 'versions_estimate' | 'current_estimate' | 'last_batch' | 'last_applied_at'> & {
    readonly is_paused: boolean;
    readonly series: readonly string[];
  };
export const overview = rows<Overview, [window: string, buckets: number]>(
  'overview(p_window => $1::interval, p_buckets => $2, p_now => now())',
);

/** A column that readers of a history are shown; those of the key come first. */
export type BrowseColumn = Texts<'column_name' | 'column_role' | 'type_name'> & {
  readonly is_readable: boolean;
  readonly is_masked: boolean;
  readonly meaning: string | null;
};
export const browseColumns = rows<BrowseColumn>('browse_columns(p_dimension_name => $1)');

type Shown = Texts<'valid_from' | 'cdc_operation' | 'surrogate_key'> & {
  readonly valid_to: string | null;
  /** In the order of browseColumns, without those of the key. */
  readonly shown_values: readonly (string | null)[];
};

/** The next rows of a table as it was at a moment, or is, after a key. */
export type RowAsOf = Shown & { readonly business_key: readonly string[] };
export const asOfPage = rows<
  RowAsOf,
  [table: string, moment: string | null, after: readonly string[] | null, filters: object, limit: number]
>(`as_of_page(
  p_dimension_name => $1, p_moment => $2::timestamptz, p_after => $3::text[], p_filters => $4::text::json, p_limit => $5)`);

/** The same as it was known at a moment; values that are null: there are more after this key, which is all there is of the row. */
export const asKnownPage = rows<
  Omit<RowAsOf, 'shown_values'> & { readonly shown_values: RowAsOf['shown_values'] | null },
  [
    ...[table: string, moment: string | null, known: string, after: readonly string[] | null],
    ...[filters: object, limit: number],
  ]
>(`as_known_page(
  p_dimension_name => $1, p_moment => $2::timestamptz, p_known => $3::timestamptz, p_after => $4::text[], p_filters => $5::text::json, p_limit => $6)`);

/** A part of a span of time, and how many versions began in it. */
export type Bucket = Texts<'starts_at' | 'ends_at' | 'changes'> & { readonly is_exact: boolean };
export const changeHistogram = rows<Bucket, [table: string, from: string | null, to: string, buckets: number]>(
  'change_histogram(p_dimension_name => $1, p_from => $2::timestamptz, p_to => $3::timestamptz, p_buckets => $4)',
);

/** A version of a key; changed names the columns that differ from the version before. */
export type KeyVersion = Shown & {
  readonly changed: readonly string[] | null;
  readonly batch_id: string;
  readonly change_line: number;
} & TextsOrNull<'captured_at' | 'applied_at'>;
export const keyVersions = rows<
  KeyVersion,
  [table: string, key: readonly string[], known: string | null, before: string | null, limit: number]
>(`key_versions(
  p_dimension_name => $1, p_key => $2::text[], p_known => $3::timestamptz, p_before => $4::timestamptz, p_limit => $5)`);

/** A change of a key that opened no version. */
type KeyMark = Texts<'kind' | 'marked_at' | 'batch_id'> & { readonly change_line: number };
export const keyMarks = rows<KeyMark, [table: string, key: readonly string[], limit: number]>(
  'key_marks(p_dimension_name => $1, p_key => $2::text[], p_limit => $3)',
);

/** What differs of a key between two moments; the values are null on the side where it is not there. */
export type KeyDifference = Texts<'versions'> & {
  readonly business_key: readonly string[];
  readonly kind: 'created' | 'updated' | 'deleted';
  readonly changed: readonly string[] | null;
} & Readonly<Record<'before_values' | 'after_values', readonly (string | null)[] | null>>;
export const diffPage = rows<
  KeyDifference,
  [
    ...[table: string, from: string, to: string, after: readonly string[] | null],
    ...[kind: string | undefined, column: string | undefined, limit: number],
  ]
>(`diff_page(
  p_dimension_name => $1, p_from => $2::timestamptz, p_to => $3::timestamptz, p_after => $4::text[], p_kind => $5, p_column => $6, p_limit => $7)`);

/** How many keys differ between two moments, and in which columns. */
type DiffSummary = Texts<'created' | 'updated' | 'deleted'> & {
  readonly changed_columns: readonly { readonly column_name: string; readonly keys: number }[];
  readonly is_exact: boolean;
};
export const diffSummary = row<DiffSummary, [table: string, from: string, to: string]>(
  'diff_summary(p_dimension_name => $1, p_from => $2::timestamptz, p_to => $3::timestamptz)',
);

/** A batch of the ledger; follows: whether the one before it in its chain is the one that it names. */
export type ListedBatch = Texts<'dimension_name' | 'batch_id' | 'shard' | 'extracted_at' | 'applied_at'> &
  TextsOrNull<'sequence' | 'retracted_at'> &
  Readonly<
    Record<
      | ('seconds' | 'change_count' | 'inserted_versions' | 'closed_versions' | 'absorbed_changes')
      | ('late_changes' | 'corrected_versions' | 'rejected_changes'),
      number
    >
  > & { readonly follows: boolean | null };
export const batchList = rows<
  ListedBatch,
  [table: string | undefined, beforeApplied: string | undefined, beforeBatch: string | undefined, limit: number]
>('batch_list(p_dimension_name => $1, p_before => $2::timestamptz, p_before_batch_id => $3, p_limit => $4)');

/** When the source of a table changed its shape. */
type SchemaChange = Texts<'since'> & TextsOrNull<'batch_id' | 'note'> & Readonly<Record<'added' | 'gone', string[]>>;
export const schemaHistory = rows<SchemaChange>('schema_history(p_dimension_name => $1)');

/** Rejected changes that wait for one and the same cause, and the oldest of them. */
type RejectedCause = Texts<'dimension_name' | 'cause' | 'changes' | 'since' | 'batch_id'> &
  TextsOrNull<'column_name' | 'business_key'> & { readonly change_line: number };
export const rejectedCauses = rows<RejectedCause, [table: string | undefined, limit: number]>(
  'rejected_causes(p_dimension_name => $1, p_limit => $2)',
);

/** What there is to look after besides: how checks and comparisons ended, and which batches were taken out of history. */
type WorkItem = Texts<'kind' | 'state' | 'since'> & TextsOrNull<'dimension_name' | 'subject' | 'details'>;
export const workList = rows<WorkItem, [table: string | undefined, limit: number]>(
  'work_list(p_dimension_name => $1, p_limit => $2)',
);
