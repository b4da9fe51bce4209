import type { DimensionMapping } from '../batch/mapping.js';
import type { Counted } from './batches.js';
import { action, row, rows, value, type Texts, type TextsOrNull, type Warehouse } from './call.js';

export type { Warehouse };

/** What the runner asks of schema tidemark, by room of sql/functions; what takes more than a call is in a file of its own beside this one. */

/** Counts of a row, as numbers. */
export const asNumbers = <C extends string>(counts: Texts<C>): Record<C, number> =>
  Object.fromEntries(Object.entries(counts).map(([name, count]) => [name, Number(count)])) as Record<C, number>;

// dimensions/

/** Every registered dimension. */
export const dimensionMappings = rows<DimensionMapping, []>('dimension_mappings()');

/** Every dimension and where it stands, in columns for people to read. */
export const dimensionList = rows<Texts<'dimension_name' | 'batches'>, []>('dimension_list()');

/** Pauses a dimension, or lets it go on. False: it was so already. Who is the role of the session, here and below, where nobody is named. */
export const pauseDimension = value<boolean, [table: string, isPaused: boolean, reason?: string, who?: string]>(
  'pause_dimension(p_dimension_name => $1, p_is_paused => $2, p_reason => $3, p_who => $4)',
);

/** Notes how a table is read: poll, log, or both. */
export const declareCapture = action<[table: string, capture: string]>(
  'declare_capture(p_dimension_name => $1, p_capture => $2)',
);

/** Takes a dimension out, its history too where asked. Returns the name of the history table. */
export const removeDimension = value<string, [table: string, dropHistory: boolean]>(
  'remove_dimension(p_dimension_name => $1, p_drop_history => $2)',
);

/** The statements that make the least-privilege roles of the warehouse. */
/** @param owner who owns the warehouse and goes on to; null makes a role that does */
export const grantStatements = rows<Texts<'grant_statements'>, [prefix: string, owner: string | null]>(
  'grant_statements(p_prefix => $1, p_owner => $2)',
);

/** An event of OpenLineage, with what the warehouse knows of run, job and datasets. */
export const lineageEvent = value<
  object,
  [event: object, about: object, source: string, sourceDatabase: string, warehouse: string, logFolder: string]
>('lineage_event($1::text::json::jsonb, $2::text::json::jsonb, $3, $4, $5, $6)');

/** The histories as files of a dbt project. */
export const dbtFiles = rows<Texts<'file_name' | 'content'>, []>('dbt_files()');

// load/ and rejected/

/** One row that a transaction wrote: a version it opened or altered, or a change it absorbed or rejected. */
export type Effect = Texts<'effect' | 'batch_id'> & { readonly change_line: number } & TextsOrNull<
    // The last: its tracked and untracked columns, cut short: name=value, ...
    'business_key' | 'valid_from' | 'valid_to' | 'reason' | 'shown_values'
  >;

/** What the transaction has done to a history so far, the first `limit` rows of each kind. */
export const transactionEffects = rows<Effect, [table: string, limit: number]>(
  'transaction_effects(p_dimension_name => $1, p_limit => $2)',
);

/** Dismisses rejected changes: those that are meant, where what is not given is any. Without a reason they wait again. Returns how many there were. */
export const dismissRejected = value<
  string,
  [
    ...[table: string, batch?: string, line?: number, column?: string, fault?: string, reason?: string],
    ...[cause?: string, who?: string],
  ]
>(`dismiss_rejected(
  p_dimension_name => $1, p_batch_id => $2, p_change_line => $3, p_column_name => $4, p_fault => $5, p_reason => $6, p_cause => $7, p_who => $8)`);

/** Tries the rejected changes of a table again. */
export const retryRejected = row<Texts<Counted>, [table: string, reason?: string, who?: string]>(
  'retry_rejected(p_dimension_name => $1, p_reason => $2, p_who => $3)',
);

type Moved = 'opened_versions' | 'closed_versions' | 'corrected_versions';

/** Takes a batch out of history, with a reason. */
export const retractBatch = row<Retracted, [table: string, batch: string, reason: string, who?: string]>(
  'retract_batch(p_dimension_name => $1, p_batch_id => $2, p_reason => $3, p_who => $4)',
);
export type Retracted = Texts<'retracted_changes' | 'removed_versions' | Moved> & {
  readonly already_retracted: boolean;
};

/** Brings a batch back that was taken out. */
export const restoreBatch = row<Restored, [table: string, batch: string, reason?: string, who?: string]>(
  'restore_batch(p_dimension_name => $1, p_batch_id => $2, p_reason => $3, p_who => $4)',
);
export type Restored = Texts<'restored_changes' | Moved> & {
  readonly already_restored: boolean;
};

// compare/

/** What is compared of a dimension, and how deletes at its source are found. */
type ComparisonColumns = Texts<'deletes'> & {
  readonly columns: readonly Texts<'source' | 'role' | 'stored_type'>[];
};
export const comparisonColumns = row<ComparisonColumns>('comparison_columns(p_dimension_name => $1)');

/** Tables that are captured from the log with comparisons as a proof, and have not been compared within so many seconds. */
export const dueProofs = rows<Texts<'dimension_name'>, [seconds: number]>(
  'due_proofs(p_interval => make_interval(secs => $1))',
);

/** A bucket of keys, and what it holds in one of the databases. */
export type BucketChecksum = { readonly bucket: number } & Texts<'row_count' | 'checksum'>;
export const comparisonChecksums = rows<BucketChecksum, [table: string, buckets: number]>(
  'comparison_checksums(p_dimension_name => $1, p_buckets => $2)',
);

/** A key, as the text of a JSON array of texts, and the digest of its row. */
export type KeyDigest = Texts<'key' | 'digest'>;
export const comparisonDigests = rows<KeyDigest, [table: string, buckets: number, wanted: readonly number[]]>(
  'comparison_digests(p_dimension_name => $1, p_buckets => $2, p_wanted => $3::text::json)',
);

/** Keys and their rows, each as PostgreSQL prints a row of texts. */
export const comparisonStates = rows<Texts<'key' | 'content'>, [table: string, keys: readonly string[]]>(
  'comparison_states(p_dimension_name => $1, p_keys => $2::text::json)',
);

/** What batches that are retracted said last of some keys, null for a delete, and which. */
export const retractedStates = rows<
  Texts<'key' | 'batch_id'> & TextsOrNull<'content'>,
  [table: string, keys: readonly string[]]
>('retracted_states(p_dimension_name => $1, p_keys => $2::text::json)');

// replay/

/** Begins a replay in this transaction: a dimension like this one, with an empty history. `isLocked` keeps loaders out until it ends. */
export const openReplay = action<[table: string, isLocked: boolean]>(
  'open_replay(p_dimension_name => $1, p_is_locked => $2)',
);

/** Keeps loaders of a dimension out until the transaction ends. */
export const lockDimension = action("_lock_dimension(p_dimension_name => $1, p_shard => '')");

/** Replays one batch document. False: the ledger does not know it, and it was left out. */
export const replayBatch = value<boolean, [table: string, batch: string, mayBeUnknown: boolean]>(
  'replay_batch(p_dimension_name => $1, p_batch => $2::text::json, p_may_be_unknown => $3)',
);

/** A batch of the ledger, by its name and the instant of its capture. */
export type LedgerPlace = Texts<'batch_id' | 'extracted_at'>;
/** Batches of the ledger that the replay has not seen, oldest first, after a place in that order. */
export const replayGaps = rows<
  LedgerPlace,
  [table: string, afterInstant: string | undefined, afterBatch: string | undefined, limit: number]
>('replay_gaps(p_dimension_name => $1, p_after_extracted_at => $2, p_after_batch_id => $3, p_limit => $4)');

/**
 * Does without the batches of a chain that retention has removed, as the ledger notes, or as their age says if it is more than `days`: before
 * the oldest whose file is there. Returns how many they are.
 */
export const skipPruned = value<string, [table: string, shard: string, oldestBatch: string, days: number | undefined]>(
  `skip_pruned(p_dimension_name => $1, p_shard => $2, p_oldest_batch_id => $3, p_before => ${daysAgo('$4')})`,
);

/** A row that only one of history and change log has, and how many such rows (differences) there are in all. */
export type ReplayDifference = Texts<'business_key' | 'valid_from' | 'version' | 'differences'> & {
  readonly found_in: 'history only' | 'change log only';
};
/** The first rows that only one of history and replay has. */
export const compareReplay = rows<ReplayDifference, [table: string, limit: number]>(
  'compare_replay(p_dimension_name => $1, p_limit => $2)',
);

/** What adopting a replay did to the versions of a history. */
export type AdoptedReplay = Texts<'right_versions' | 'corrected_versions' | 'added_versions' | 'removed_versions'>;
/** Makes history what the replay made. */
export const adoptReplay = row<AdoptedReplay>('adopt_replay(p_dimension_name => $1)');

// retention/

/** The instant so many days ago by the clock of the warehouse; null where no number is given. */
function daysAgo(place: string): string {
  return `clock_timestamp() - make_interval(days => ${place}::integer)`;
}

/** Forgets absorbed changes of a table that can never matter again, of those captured more than `days` days ago; at most `limit`. */
export const pruneAbsorbedChanges = row<Texts<'pruned_changes'>, [table: string, days: number, limit: number]>(
  `prune_absorbed_changes(p_dimension_name => $1, p_before => ${daysAgo('$2')}, p_limit => $3)`,
);

/** Forgets the reports of runs that ended, and of comparisons that were made, more than `days` days ago. */
export const pruneReports = row<Texts<'runs' | 'reconciliations'>, [days: number]>(
  `prune_reports(p_before => ${daysAgo('$1')})`,
);

/** Notes of these batches of a chain that their files are about to be removed, before they are. */
export const noteRemovedFiles = action<[table: string, shard: string, batchIds: readonly string[]]>(
  'note_removed_files(p_dimension_name => $1, p_shard => $2, p_batch_ids => $3)',
);

// monitor/ and time-travel/

/** Versions of a history, counted. */
export const historySummary = row<Texts<'history_table' | 'total' | 'current' | 'historical'>>(
  'history_summary(p_dimension_name => $1)',
);

export type DimensionStatus = Texts<'dimension_name' | 'total' | 'current' | 'historical' | 'deletes'> &
  TextsOrNull<'last_batch' | 'last_applied_at'>;
/** Versions of every history, counted, and its last batch. */
export const dimensionStatus = rows<DimensionStatus, []>('dimension_status()');

/** Batches that were taken out of history, the newest first: of one table, or of all; those that are out now, or all that ever were. */
export const retractionsOf = rows<Retraction, [table: string | undefined, onlyOut: boolean]>(
  'retractions_of(p_dimension_name => $1, p_only_out => $2)',
);
export type Retraction = Texts<'dimension_name' | 'batch_id' | 'retracted_at' | 'retracted_by' | 'reason'> &
  TextsOrNull<'restored_at' | 'restored_by'> & { readonly retracted_changes: number };

/** How many keys have one version, two, three, ... */
export const changeFrequency = rows<Texts<'versions' | 'keys'>>('change_frequency(p_dimension_name => $1)');

type LongHistory = Texts<'business_key' | 'versions' | 'first_seen' | 'last_changed'> & {
  readonly is_current: boolean;
};
/** The keys with the most versions. */
export const longestHistories = rows<LongHistory, [table: string, keys: number]>(
  'longest_histories(p_dimension_name => $1, p_keys => $2)',
);

type VersionLineage = Texts<'surrogate_key' | 'valid_from' | 'cdc_operation' | 'batch_id'> & {
  readonly change_line: number;
} & TextsOrNull<'valid_to' | 'differences' | 'sequence' | 'extracted_at' | 'applied_at'>;
/** Every version of one key, with the batch and line it came from. */
export const lineage = rows<VersionLineage, [table: string, key: readonly string[]]>(
  'lineage(p_dimension_name => $1, p_key => $2::text[])',
);

/** What is wrong with the cluster that distributed histories live on; nothing where none is distributed. */
export const clusterFaults = rows<Texts<'subject' | 'fault' | 'remedy'>, []>('cluster_faults()');

/** Whether a history, or each, has the indexes for browsing by time, and the statements that make or drop them: outside of transactions. */
export const browseIndexes = rows<
  Texts<'dimension_name' | 'versions'> & {
    readonly is_on: boolean;
    readonly make_statements: readonly string[] | null;
    readonly drop_statements: readonly string[] | null;
  },
  [table?: string]
>('browse_indexes(p_dimension_name => $1)');

/** A moment as people write it, as an instant; as one at which something was known where `isKnown`. */
export const moment = value<string, [table: string, text: string, isKnown: boolean]>(
  'moment(p_dimension_name => $1, p_text => $2, p_is_known => $3)',
);

/** How the rows of an answer are laid out: texts for people, values, or one JSON text a row. */
export type Layout = 'table' | 'csv' | 'json';
/** What a function beside a history is asked: of these moments, one key or all (empty), and rows with these values. */
export type Question = [
  table: string,
  asked: 'as_of' | 'as_known' | 'diff' | 'changes',
  moments: readonly string[],
  key: readonly string[],
  filters: Readonly<Record<string, string>>,
  layout: Layout,
];
/** The query that asks it: names come from the catalog, and values are quoted. */
export const timeTravelQuery = value<string, Question>(`time_travel_query(
  p_dimension_name => $1, p_function => $2, p_moments => $3::timestamptz[], p_key => $4::text[], p_filters => $5::text::json, p_layout => $6)`);

/** Notes that these tables of a slot are loaded up to a position in the log, and when the last transaction before it was committed. */
export const noteStreamPosition = action<
  [slot: string, position: string, lastCommitTime: string, tables: readonly string[], completeAt: string | null]
>(`note_stream_position(
  p_slot => $1, p_position => $2, p_last_commit_time => $3, p_tables => $4, p_complete_at => $5)`);

/** Notes how a slot stands at the source, and between which moments states of rows were lost with it. */
export const noteSlot = action<
  [
    ...[slot: string, walStatus: string | null, confirmed?: string | null],
    ...[unconfirmed?: string | null, retained?: string | null, safe?: string | null],
    ...[gapFrom?: string, gapTo?: string],
  ]
>(`note_slot(
  p_slot => $1, p_wal_status => $2, p_confirmed_position => $3, p_unconfirmed_bytes => $4, p_retained_bytes => $5, p_safe_bytes => $6,
  p_gap_from => $7, p_gap_to => $8)`);

/** Forgets a slot that was dropped on purpose. */
export const forgetSlot = action<[slot: string]>('forget_slot(p_slot => $1)');

/** Notes how checks ended, so that a violation is an alert. */
export const noteChecks = action<[results: readonly object[]]>(
  'note_checks(p_results => $1::text::json, p_now => clock_timestamp())',
);

const noteCounts = action<[table: string, ...counts: number[]]>(`note_reconciliation(
  p_dimension_name => $1, p_source_rows => $2, p_missing => $3, p_extra => $4, p_different => $5, p_repaired => $6,
  p_reconciled_at => clock_timestamp())`);
/** Notes what a comparison of source and history found, for missing_change_rate. */
export const noteReconciliation = (
  warehouse: Warehouse,
  found: Texts<'table'> & Readonly<Record<'source_rows' | 'missing' | 'extra' | 'different' | 'repaired', number>>,
): Promise<void> =>
  noteCounts(warehouse, found.table, found.source_rows, found.missing, found.extra, found.different, found.repaired);

type Metrics = Readonly<Record<string, unknown>>;

/** Notes the start of a run. The connection must stay open until `finishRun`: it is how a check knows the run is alive. */
export const startRun = action<[pipeline: string, run: string, secondsAgo?: number, metrics?: Metrics]>(`start_run(
  p_pipeline_name => $1, p_run_id => $2, p_seconds_ago => coalesce($3::float8, 0),
  p_performance_metrics => coalesce($4::text::jsonb, '{}'))`);

/** Notes what a run measured so far, and the session it now has. False where the warehouse does not know the run. */
export const continueRun = value<boolean, [run: string, metrics: Metrics]>(
  'continue_run(p_run_id => $1, p_performance_metrics => $2::text::jsonb)',
);

/** Notes the end of a run. */
export const finishRun = action<[run: string, status: 'succeeded' | 'failed' | 'interrupted', metrics: Metrics]>(
  'finish_run(p_run_id => $1, p_status => $2, p_performance_metrics => $3::text::jsonb)',
);

/** A run that is alive, as pipeline_metadata has it. */
export type LiveRun = Texts<'pipeline_name' | 'run_id' | 'start_time'> & { readonly performance_metrics: Metrics };
/** The runs that are alive now, from whatever machine. */
export const liveRuns = rows<LiveRun, []>('live_runs()');

/** A sample for Prometheus: its name without tidemark_ before it, and what it says; null is no sample. */
export interface Sample extends Texts<'metric' | 'meaning'> {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number | null;
}
/** The indicators and alerts of now. */
export const samples = rows<Sample, []>('metrics');

export interface Alert
  extends Texts<'rule_name' | 'condition' | 'meaning'>,
    TextsOrNull<'dimension_name' | 'since' | 'subject'> {
  readonly severity: 'info' | 'warning' | 'critical';
  readonly measured: number;
}
/** The alerts that are on, the gravest first. */
export const alerts = rows<Alert, []>('alerts');
