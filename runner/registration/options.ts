/** What becomes of the columns of a source. Columns are names of the source. */
export interface ColumnOptions {
  /** Where given, the others are untracked. */
  readonly track: readonly string[];
  readonly untracked: readonly string[];
  readonly ignore: readonly string[];
  /** Names of history by those of the source. */
  readonly rename: ReadonlyMap<string, string>;
  /** How deletes at the source are found; where it is not said, soft where a column is named, or marks them by its name, else reconcile, or log. */
  readonly deletes?: 'none' | 'reconcile' | 'soft' | 'log' | undefined;
  /** The column that marks deleted rows. */
  readonly deleted_column?: string | undefined;
  /** Its values that mean deleted; any but null where none is given, true for a boolean. */
  readonly deleted_values?: readonly string[] | undefined;
}

/** How a table is read: by polling, from the log of the source, or both: from the log, and compared by sweeps. */
export const CAPTURES = ['poll', 'log', 'both'] as const;
export type Capture = (typeof CAPTURES)[number];

/** What a user says about a table that is to be registered. */
export interface RegistrationOptions extends ColumnOptions {
  /** poll where it is not said. */
  readonly capture?: Capture | undefined;
  readonly name?: string | undefined;
  /** Columns of the business key; the primary key where empty. */
  readonly key: readonly string[];
  /** "capture" for that of the capture; of the log that is "commit", which is what it has where nothing is said. */
  readonly effective_time?: string | undefined;
  /** "none" for a table that does not say when a row was made. */
  readonly insert_time?: string | undefined;
  readonly time_zone: string;
  readonly change_order: 'capture' | 'effective_time';
  /** Adds the constraint that no two versions of a key overlap. */
  readonly no_overlap: boolean;
  /** Adds the indexes for browsing by time. */
  readonly browse?: boolean | undefined;
  /** Into how many partitions, by hash of the key, its history is parted. */
  readonly partitions?: number | undefined;
  /** The column of the key, by its name at the source or in history, by whose hash Citus distributes the history over nodes. */
  readonly distributed_by?: string | undefined;
  /** Rows of tables that inherit from it are read with its own. */
  readonly with_children?: boolean | undefined;
}

/** Of a table of which nothing is said. */
export const NOTHING_SAID: RegistrationOptions = {
  ...{ key: [], track: [], untracked: [], ignore: [], rename: new Map() },
  ...{ time_zone: 'UTC', change_order: 'capture', no_overlap: false },
};

/** What the user says about columns that come and go. */
export type UpdateOptions = ColumnOptions & { readonly retire: readonly string[] };
