import { action, row, rows, value, type Texts } from './call.js';

/** What making a history partitioned, or plain, asks of schema tidemark: the room partitions of sql/functions. */

/** What it would take. `partitions_now` 0: it is a plain table; `begun_partitions` null: no copy was begun. */
export interface PartitionPlan
  extends Texts<'history_table' | 'versions_estimate' | 'table_bytes'>,
    Readonly<Record<'obstacles' | 'views' | 'publications', readonly string[]>> {
  readonly partitions_now: number;
  readonly begun_partitions: number | null;
}
export const partitionPlan = row<PartitionPlan, [table: string, partitions: number]>(
  'partition_plan(p_dimension_name => $1, p_partitions => $2)',
);

/** Begins the copy. False: it goes on with the one that was begun. */
export const beginPartitioning = value<boolean, [table: string, partitions: number]>(
  'begin_partitioning(p_dimension_name => $1, p_partitions => $2)',
);

/** Copies the next versions, in a transaction of repeatable read; none: all are there. */
export const copyVersions = row<Texts<'copied_versions' | 'listed_versions'>, [table: string, limit: number]>(
  'copy_versions(p_dimension_name => $1, p_limit => $2)',
);

/** Makes the next index or constraint of the copy. False: it has them all. */
export const completeCopy = value<boolean>('complete_copy(p_dimension_name => $1)');

/** Proves that the copy is what the history is. Returns how many versions that are. */
export const compareCopy = value<string>('compare_copy(p_dimension_name => $1)');

/** Puts the copy in the place of the history. Returns how many versions were copied under the lock. */
export const finishPartitioning = value<string>('finish_partitioning(p_dimension_name => $1)');

/** Gives the copy up. False: there was none. */
export const abandonPartitioning = value<boolean>('abandon_partitioning(p_dimension_name => $1)');

/** A history that is being made partitioned or plain: under way, or cut off. */
export type OpenPartitioning = Texts<'dimension_name' | 'begun_at' | 'begun_by' | 'copied_bytes'> &
  Readonly<Record<'partitions' | 'partitions_now', number>> & { readonly is_running: boolean };
export const openPartitionings = rows<OpenPartitioning, []>('open_partitionings()');

/** Gathers the statistics of the copy, so that the first plans over it are as good as those before. */
export const analyzeCopy = action('_analyze_copy(p_dimension_name => $1)');

/** Who keeps the copy from taking the place of the history, in words; null: nobody does by now. */
export const historyUsers = value<string | null>('_history_users(p_dimension_name => $1)');
