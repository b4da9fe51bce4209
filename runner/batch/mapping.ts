import * as z from 'zod';

/** A registered dimension and its mapping, as tidemark.dimension_mappings gives it. */
export const dimensionMappingSchema = z.object({
  dimension_name: z.string(),
  source_schema: z.string(),
  source_table: z.string(),
  history_table: z.string(),
  source_time_zone: z.string(),
  /** A table that is paused is neither extracted nor loaded. */
  is_paused: z.boolean().default(false),
  /** history_type: as PostgreSQL prints it, a domain looked through; null where history has no such column. can_widen: history makes it wider by itself. */
  columns: z.array(
    z.object({
      source: z.string(),
      history: z.string(),
      role: z.string(),
      history_type: z.string().nullable().default(null),
      can_widen: z.boolean().default(false),
    }),
  ),
  /** Source columns that are left out on purpose. */
  ignored_columns: z.array(z.string()).default([]),
  /** Every column of the history table. */
  history_columns: z.array(z.string()).default([]),
  /** Mapped source columns that the source no longer has. */
  retired_columns: z.array(z.string()).default([]),
  /** How deletes at the source are found: none, reconcile, log, or soft: by a column that marks them. */
  deletes: z.string().default('none'),
  deleted_column: z.string().nullable().default(null),
  /** Its values that mean deleted; null where anything but null does. */
  deleted_values: z.array(z.string()).nullable().default(null),
  /** Whether the rows of tables that inherit from the source are read with its own. */
  with_children: z.boolean().default(false),
  /** Whether the source table need not keep its key unique: whether it is so is looked at instead. */
  key_is_asserted: z.boolean().default(false),
  /** How the source table is read: poll, log (the write-ahead log), or both. */
  capture: z.string().default('poll'),
});
export type DimensionMapping = z.infer<typeof dimensionMappingSchema>;

/** Whether a table is captured from the write-ahead log, and no poll reads it; where nothing is said it is polled. */
export const isLogged = ({ capture = 'poll' }: { readonly capture?: string | undefined }): boolean =>
  capture !== 'poll';

/** Whether a table is captured from the log, and compared with its source now and then as a proof. */
export const isProven = ({ capture }: Pick<DimensionMapping, 'capture'>): boolean => capture === 'both';

/** Whether the reconciler is to find the deletes of a table. Those of the log it is not, also where a column marks others. */
export const isReconciled = ({ deletes, capture }: Pick<DimensionMapping, 'deletes' | 'capture'>): boolean =>
  deletes === 'reconcile' || (deletes === 'soft' && capture === 'poll');
