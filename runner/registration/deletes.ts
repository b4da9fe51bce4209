import { UsageError } from '../base/errors.js';
import { shownName, type CatalogTable } from '../source/catalog.js';

/** How deletes at the source are found. */
export type DeletesPolicy = 'none' | 'reconcile' | 'soft';

/** What the user says about deletes. */
export interface DeletesOptions {
  /** Soft where a column is named and this is not. */
  readonly deletes?: DeletesPolicy | undefined;
  /** The column that marks deleted rows. */
  readonly deleted_column?: string | undefined;
  /** Its values that mean deleted; any but null where none is given, true for a boolean. */
  readonly deleted_values?: readonly string[] | undefined;
}

/** How deletes are found, to be written into a migration. */
export interface Deletes {
  readonly policy: DeletesPolicy;
  readonly column: string | undefined;
  readonly values: readonly string[] | undefined;
}

/** Names that say what they are; the first that is there is taken. */
const DELETED_COLUMNS = ['deleted_at', 'deleted_on', 'is_deleted', 'deleted'];

/**
 * Decides how deletes are found.
 * @param unusable columns that cannot mark a row, such as the key: each with what it is
 * @throws UsageError for a column that cannot tell deleted rows from others
 */
export function planDeletes(table: CatalogTable, said: DeletesOptions, unusable: ReadonlyMap<string, string>): Deletes {
  const policy = said.deletes ?? (said.deleted_column === undefined ? 'none' : 'soft');
  if (policy !== 'soft') {
    if (said.deleted_column === undefined && said.deleted_values === undefined) return { policy, column: undefined, values: undefined };
    throw new UsageError('--deleted-column and --deleted-values go with --deletes soft', { hint: `leave them out, or leave out --deletes ${policy}` });
  }
  const name = said.deleted_column ?? DELETED_COLUMNS.find((each) => table.columns.some((column) => column.name === each));
  if (name === undefined) throw new UsageError(`no column of ${shownName(table)} says by its name that it marks deleted rows`, { hint: 'name it with --deleted-column, and with --deleted-values the values that mean deleted' });
  const column = table.columns.find((each) => each.name === name);
  if (column === undefined) throw new UsageError(`${shownName(table)} has no column ${name}`, { hint: `its columns are: ${table.columns.slice(0, 30).map((each) => each.name).join(', ')}` });
  const role = unusable.get(name);
  if (role !== undefined) throw new UsageError(`column ${name} is ${role}: it cannot mark deleted rows`, { hint: 'a column that is tracked or untracked can, so that what becomes of it is not missed' });
  const values = said.deleted_values ?? (column.type === 'boolean' ? ['true'] : undefined);
  if (values === undefined && column.is_not_null)
    throw new UsageError(`every row of ${shownName(table)} would count as deleted: column ${name} is never null`, { hint: 'give the values that mean deleted with --deleted-values' });
  return { policy, column: name, values };
}
