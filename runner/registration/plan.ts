import { TidemarkError, UsageError } from '../base/errors.js';
import { fitName } from '../base/sql-text.js';
import { isLogged } from '../batch/mapping.js';
import { shownName } from '../source/catalog.js';
import type { CatalogColumn, CatalogTable, OutsideType, TableName } from '../source/catalog.js';
import { OWN_COLUMNS, historyNames, plainName } from './names.js';
import type { ColumnOptions, RegistrationOptions } from './options.js';
import { CAPTURE, COMMIT, isOwnTime, planRoles } from './roles.js';

/** A source column and what becomes of it. */
export interface RegisteredColumn {
  readonly source: string;
  readonly history: string;
  readonly role: 'business key' | 'effective time' | 'insert time' | 'tracked' | 'untracked';
  /** Type in the history; undefined for times, which become valid_from. */
  readonly type?: string;
  readonly comment: string;
  /** What a reader should know about it. */
  readonly remark?: string | undefined;
}

/** Everything a migration needs to register a table. */
export interface Registration {
  readonly name: string;
  readonly table: CatalogTable;
  readonly columns: readonly RegisteredColumn[];
  /** The column that is the effective time; "capture" where none is, or "commit" of one that is read from the log. */
  readonly effective_time: string;
  readonly time_type: 'timestamp' | 'timestamptz';
  readonly options: RegistrationOptions;
  readonly deletes: Deletes;
  /** Whether a dimension of that name was registered before, and removed. */
  readonly returns: boolean;
  /** Whether nothing at the source keeps the key unique, so that the rows are looked at. */
  readonly key_is_asserted: boolean;
  /** What a reader should know before the migration runs. */
  readonly remarks: readonly string[];
}

/** Names that a batch file, or the query that reads a page of it (sql/source/describe_table.sql), uses for itself. */
const BATCH_COLUMNS =
  /^(operation_type|cdc_timestamp|extracted_at|tidemark_(written_by|relation|bytes_before|key|line|is_read))$/;
/** The longest name whose history, and its function of the longest name, PostgreSQL need not cut. */
const LONGEST_NAME = 63 - 'dim__history_as_known'.length;

/**
 * Decides what becomes of each column of a source table, from its catalog and what the user said.
 * @throws UsageError for an option that does not fit the table; TidemarkError where the table cannot be captured
 */
export function planRegistration(table: CatalogTable, options: RegistrationOptions): Registration {
  const { effective_time, insert_time } = options;
  assertColumnsThere(table, [
    ...[...options.key, ...options.track, ...options.untracked, ...options.ignore, ...options.rename.keys()],
    ...[effective_time, insert_time]
      .filter((name) => name !== undefined)
      .filter((name) => name !== 'none' && !isOwnTime(name, isLogged(options))),
  ]);
  const name = dimensionName(table, options);
  const { key, key_is_asserted, effective, times, remarks } = planRoles(table, options);
  const captured = table.columns.filter((column) => !options.ignore.includes(column.name));
  if (isLogged(options)) assertLogTells(table, options, captured, key_is_asserted);
  assertNamesFree(captured);
  const stored = captured.filter((column) => key.includes(column.name) || !times.includes(column.name));
  assertHistoryHolds(table, stored.length);
  const all = stored.map((column) => column.name);
  const names = historyNames(table.table, all, key, options.rename);
  // Key first, in its own order, then the columns as the table has them, the times last.
  const placeOf = (column: CatalogColumn) => (key.includes(column.name) ? key.indexOf(column.name) : key.length);
  const columns: RegisteredColumn[] = [
    ...[...stored]
      .sort((one, other) => placeOf(one) - placeOf(other))
      .map((column) => storedColumn(table, column, key.includes(column.name), names, options)),
    ...captured
      .filter((column) => times.includes(column.name))
      .map((column): RegisteredColumn => {
        const role = column === effective ? 'effective time' : 'insert time';
        return { source: column.name, history: 'valid_from', role, comment: '' };
      }),
  ];
  if (options.partitions !== undefined) assertHashed(columns);
  return {
    name,
    table,
    columns,
    returns: false,
    effective_time: effective?.name ?? (isLogged(options) ? COMMIT : CAPTURE),
    time_type: effective?.time_type ?? 'timestamptz',
    options,
    key_is_asserted,
    remarks: [...table.remarks, ...remarks, ...sayUngranted(table, captured)],
    deletes: planDeletes(table, usualDeletes(table, options), options.ignore, columns),
  };
}

/** Of the types that a key may have, PostgreSQL cannot hash strings of bits. */
function assertHashed(columns: readonly RegisteredColumn[]): void {
  const found = columns.find(
    ({ role, type = '' }) => role === 'business key' && /^(pg_catalog\.)?(var)?bit\b/.test(type),
  );
  if (found === undefined) return;
  throw new TidemarkError(
    `PostgreSQL cannot hash key column ${found.source}, of type ${String(found.type)}: no history can be parted by it`,
    { hint: 'leave --partitions out' },
  );
}

/**
 * What only its catalog says of a table that is to be read from the log; whether it can be published is asked of the source.
 * @throws TidemarkError, UsageError where the log does not say what history needs
 */
function assertLogTells(
  table: CatalogTable,
  options: RegistrationOptions,
  captured: readonly CatalogColumn[],
  isKeyAsserted: boolean,
): void {
  const { change_order, deletes, with_children } = options;
  const [said] = [
    ...(change_order === 'capture' ? [] : [`--change-order ${change_order}`]),
    ...(deletes === 'none' || deletes === 'reconcile' ? [`--deletes ${deletes}`] : []),
    ...(with_children === true ? ['--with-children'] : []),
  ];
  if (said !== undefined)
    throw new UsageError(`${said} does not go with capture from the log`, {
      hint: 'the log has every change and every delete of the table itself, in order: leave it out, or leave out --capture',
    });
  if (isKeyAsserted && ['r', 'p'].includes(table.kind))
    throw new TidemarkError(
      `the log does not tell the rows of ${shownName(table)} apart: it has no key that it keeps unique`,
      {
        hint: 'give it a primary key, or leave it to polling',
      },
    );
  const generated = captured.filter(({ is_generated }) => is_generated).map(({ name }) => name);
  if (generated.length > 0)
    throw new TidemarkError(`the log does not hold generated columns of ${shownName(table)}: ${generated.join(', ')}`, {
      hint: `leave them out: --ignore ${generated.join(' ')}; or leave the table to polling`,
    });
}

/** A column may be granted later, or to another role than the one that asks. */
function sayUngranted(table: CatalogTable, captured: readonly CatalogColumn[]): string[] {
  const names = captured.filter(({ is_granted }) => !is_granted).map(({ name }) => name);
  const remark = `DB_USER may not read ${names.join(', ')} of ${shownName(table)}: extraction stops until it may, or they are left out with --ignore`;
  return names.length === 0 ? [] : [remark];
}

/** A column that history keeps, as it stands there. */
export function storedColumn(
  { table }: CatalogTable,
  column: CatalogColumn,
  isKey: boolean,
  names: ReadonlyMap<string, string>,
  { track, untracked }: ColumnOptions,
): RegisteredColumn & { readonly type: string } {
  const { name: source, comment, declared, as_text, is_generated } = column;
  const isUntracked = untracked.includes(source) || (track.length > 0 && !track.includes(source));
  return {
    source,
    history: names.get(source) ?? source,
    role: isKey ? 'business key' : isUntracked ? 'untracked' : 'tracked',
    type: historyType(column),
    comment: comment ?? `${isKey ? 'Business key: ' : ''}${table}.${source}.`,
    remark:
      as_text !== null
        ? `${declared} is kept as text: ${as_text}`
        : is_generated
          ? 'generated at the source'
          : undefined,
  };
}

/**
 * The type that holds every value of a source column as PostgreSQL prints it. Text where the warehouse has no such type: a batch carries what
 * PostgreSQL prints, so nothing is lost, and versions are compared by what is printed.
 */
export const historyType = ({ type, as_text }: CatalogColumn): string =>
  as_text === null ? type : type.endsWith('[]') ? 'text[]' : 'text';

/** The table, with what keeps a column from having its own type in this warehouse. @param known those of its types that the warehouse has too */
export function asWarehouseHolds(table: CatalogTable, known: readonly OutsideType[]): CatalogTable {
  const lack = ({ type_schema, type_name, labels }: OutsideType) => {
    const found = known.find((each) => each.type_schema === type_schema && each.type_name === type_name);
    if (found === undefined) return 'the warehouse has no such type';
    const lacking = (labels ?? []).filter((label) => found.labels?.includes(label) !== true);
    const shown = lacking.map((label) => `'${label}'`).join(', ');
    return shown === '' ? null : `the type of that name in the warehouse lacks ${shown}`;
  };
  const columns = table.columns.map((each) =>
    each.outside === null ? each : { ...each, as_text: lack(each.outside) },
  );
  return { ...table, columns };
}

function assertColumnsThere(table: CatalogTable, named: readonly string[]): void {
  const there = table.columns.map((column) => column.name);
  const missing = [...new Set(named)].filter((name) => !there.includes(name));
  if (missing.length === 0) return;
  throw new UsageError(`${shownName(table)} has no column ${missing.join(', ')}`, {
    hint: `its columns are: ${there.slice(0, 30).join(', ')}${there.length > 30 ? ', ...' : ''}`,
  });
}

/** The most columns of a table of PostgreSQL. */
const MOST_COLUMNS = 1600;

function assertHistoryHolds(table: CatalogTable, columns: number): void {
  const own = OWN_COLUMNS.length;
  if (columns + own <= MOST_COLUMNS) return;
  throw new TidemarkError(
    `history cannot hold the ${columns} columns of ${shownName(table)}: tables can have at most ${MOST_COLUMNS} columns, and ${own} are Tidemark's own`,
    { hint: 'leave some out with --ignore' },
  );
}

function assertNamesFree(columns: readonly CatalogColumn[]): void {
  const taken = columns.find((column) => BATCH_COLUMNS.test(column.name));
  if (taken === undefined) return;
  throw new TidemarkError(`source column ${taken.name} has a name that batch files use for themselves`, {
    hint: `leave it out with --ignore ${taken.name}; or give it another name at the source, or in a view there that is registered instead`,
  });
}

/** The name that is given, or one made of that of the table. @throws UsageError for one that cannot be the name of a dimension */
export function dimensionName({ table }: TableName, options: Pick<RegistrationOptions, 'name'>): string {
  const name = options.name ?? fitName(plainName(table).replace(/^(?=[0-9])/, '_'), '', LONGEST_NAME);
  if (/^[a-z_][a-z0-9_]*$/.test(name) && name.length <= LONGEST_NAME) return name;
  throw new UsageError(`"${name}" cannot be the name of a dimension`, {
    hint: `give one with --name: lower-case letters, digits and underscores, a letter first, at most ${LONGEST_NAME}`,
  });
}

/** How deletes are found. */
export type Deletes = Required<Pick<ColumnOptions, 'deletes' | 'deleted_column' | 'deleted_values'>>;

/** Names that say what they are, in lower case and without underscores; the first that is there is taken. */
const DELETED_COLUMNS = ['deletedat', 'deletedon', 'isdeleted', 'deleted'];
/** The column that marks deleted rows, by its name; `fits` says which may. */
const markOf = ({ columns }: CatalogTable, fits: (column: CatalogColumn) => boolean) =>
  DELETED_COLUMNS.flatMap((wanted) =>
    columns.filter((column) => plainName(column.name).replaceAll('_', '') === wanted && fits(column)),
  )[0]?.name;

/** What a table is registered with where nothing is said of its deletes: a mark whose meaning is certain, else the log that is read, or the reconciler. */
function usualDeletes(table: CatalogTable, said: RegistrationOptions): ColumnOptions {
  const { deletes, deleted_column, deleted_values, ignore } = said;
  if (deletes !== undefined || deleted_column !== undefined || deleted_values !== undefined) return said;
  const mark = markOf(
    table,
    ({ name, type, time_type, is_not_null }) =>
      !ignore.includes(name) && (type === 'boolean' || (!is_not_null && (time_type !== null || type === 'date'))),
  );
  if (mark === undefined) return { ...said, deletes: isLogged(said) ? 'log' : 'reconcile' };
  return { ...said, deletes: 'soft', deleted_column: mark };
}

/**
 * Decides how deletes are found.
 * @param columns what becomes of those of the source: key and times cannot mark a row
 * @throws UsageError for a column that cannot tell deleted rows from others
 */
export function planDeletes(
  table: CatalogTable,
  said: ColumnOptions,
  ignored: readonly string[],
  columns: readonly { readonly source: string; readonly role: string }[],
): Deletes {
  const { deleted_column, deleted_values } = said;
  const deletes = said.deletes ?? (deleted_column === undefined ? 'none' : 'soft');
  if (deletes !== 'soft') {
    if (deleted_column === undefined && deleted_values === undefined)
      return { deletes, deleted_column, deleted_values };
    throw new UsageError('--deleted-column and --deleted-values go with --deletes soft', {
      hint: `leave them out, or leave out --deletes ${deletes}`,
    });
  }
  const name = deleted_column ?? markOf(table, () => true);
  if (name === undefined)
    throw new UsageError(`no column of ${shownName(table)} says by its name that it marks deleted rows`, {
      hint: 'name it with --deleted-column, and with --deleted-values the values that mean deleted',
    });
  assertColumnsThere(table, [name]);
  const role = columns.find(({ source }) => source === name)?.role ?? 'tracked';
  const isLeftOut = ignored.includes(name);
  if (isLeftOut || !['tracked', 'untracked'].includes(role))
    throw new UsageError(`column ${name} is ${isLeftOut ? 'left out' : `the ${role}`}: it cannot mark deleted rows`, {
      hint: 'a column that is tracked or untracked can, so that what becomes of it is not missed',
    });
  const column = table.columns.find((each) => each.name === name);
  const values = deleted_values ?? (column?.type === 'boolean' ? ['true'] : undefined);
  if (values === undefined && column?.is_not_null === true)
    throw new UsageError(`every row of ${shownName(table)} would count as deleted: column ${name} is never null`, {
      hint: 'give the values that mean deleted with --deleted-values',
    });
  return { deletes, deleted_column: name, deleted_values: values };
}
