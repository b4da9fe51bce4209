import { TidemarkError, UsageError } from '../base/errors.js';
import { fitName } from '../base/sql-text.js';
import {
  type CatalogColumn,
  type CatalogTable,
  type OutsideType,
  type TableName,
  shownName,
} from '../source/catalog.js';
import { historyNames, plainName } from './names.js';
import { CAPTURE, planTimes } from './times.js';

/** What becomes of the columns of a source. Columns are names of the source. */
export interface ColumnOptions {
  /** Where given, the others are untracked. */
  readonly track: readonly string[];
  readonly untracked: readonly string[];
  readonly ignore: readonly string[];
  /** Names of history by those of the source. */
  readonly rename: ReadonlyMap<string, string>;
  /** How deletes at the source are found: soft where a column is named and this is not. */
  readonly deletes?: 'none' | 'reconcile' | 'soft' | undefined;
  /** The column that marks deleted rows. */
  readonly deleted_column?: string | undefined;
  /** Its values that mean deleted; any but null where none is given, true for a boolean. */
  readonly deleted_values?: readonly string[] | undefined;
}

/** What a user says about a table that is to be registered. */
export interface RegistrationOptions extends ColumnOptions {
  readonly name?: string | undefined;
  /** Columns of the business key; the primary key where empty. */
  readonly key: readonly string[];
  /** "capture" for that of the capture. */
  readonly effective_time?: string | undefined;
  /** "none" for a table that does not say when a row was made. */
  readonly insert_time?: string | undefined;
  readonly time_zone: string;
  readonly change_order: 'capture' | 'effective_time';
  /** Adds the constraint that no two versions of a key overlap. */
  readonly no_overlap: boolean;
}

/** Of a table of which nothing is said. */
export const NOTHING_SAID: RegistrationOptions = {
  ...{ key: [], track: [], untracked: [], ignore: [], rename: new Map() },
  ...{ time_zone: 'UTC', change_order: 'capture', no_overlap: false },
};

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
  /** The column that is the effective time; "capture" where none is. */
  readonly effective_time: string;
  readonly time_type: 'timestamp' | 'timestamptz';
  readonly options: RegistrationOptions;
  readonly deletes: Deletes;
  /** Whether a dimension of that name was registered before, and removed. */
  readonly returns: boolean;
  /** What a reader should know before the migration runs. */
  readonly remarks: readonly string[];
}

/** Names that a batch file uses for itself. */
const BATCH_COLUMNS = ['operation_type', 'cdc_timestamp', 'extracted_at'];
/** The longest name whose history, and its function of the longest name, PostgreSQL need not cut. */
const LONGEST_NAME = 63 - 'dim__history_as_of'.length;

/**
 * Decides what becomes of each column of a source table, from its catalog and what the user said.
 * @throws UsageError for an option that does not fit the table; TidemarkError where the table cannot be captured
 */
export function planRegistration(
  table: CatalogTable,
  options: RegistrationOptions,
  inWarehouse: readonly OutsideType[],
): Registration {
  const { effective_time, insert_time } = options;
  assertColumnsThere(table, [
    ...[...options.key, ...options.track, ...options.untracked, ...options.ignore, ...options.rename.keys()],
    ...[effective_time, insert_time]
      .filter((name) => name !== undefined)
      .filter((name) => ![CAPTURE, 'none'].includes(name)),
  ]);
  const name = dimensionName(table, options);
  const key = businessKey(table, options.key);
  assertKeyIsExact(table, key);
  const { effective, insert, remarks } = planTimes(table, options, key);
  const times = [effective, insert].flatMap((column) => column?.name ?? []);
  // What a key means and when it took effect are two things.
  assertOneRoleEach(
    options,
    key,
    times.filter((each) => !key.includes(each)),
  );
  const captured = table.columns.filter((column) => !options.ignore.includes(column.name));
  assertNamesFree(captured);
  const isTime = (column: CatalogColumn) => times.includes(column.name);
  const stored = captured.filter((column) => key.includes(column.name) || !isTime(column));
  const names = historyNames(
    table.table,
    stored.map((column) => column.name),
    key,
    options.rename,
  );
  const columns: RegisteredColumn[] = [
    // Key first, in its own order, then the columns as the table has them, the times last.
    ...[
      ...key.flatMap((each) => stored.filter((column) => column.name === each)),
      ...stored.filter((column) => !key.includes(column.name)),
    ].map((column) => storedColumn(table, column, key.includes(column.name), names, options, inWarehouse)),
    ...captured.filter(isTime).map(
      (column): RegisteredColumn => ({
        source: column.name,
        history: 'valid_from',
        role: column === effective ? 'effective time' : 'insert time',
        comment: '',
      }),
    ),
  ];
  return {
    name,
    table,
    columns,
    returns: false,
    effective_time: effective?.name ?? CAPTURE,
    time_type: effective?.time_type ?? 'timestamptz',
    options,
    remarks: [...table.remarks, ...remarks],
    deletes: planDeletes(table, options, options.ignore, columns),
  };
}

/** A column that history keeps, as it stands there. */
export function storedColumn(
  { table }: CatalogTable,
  column: CatalogColumn,
  isKey: boolean,
  names: ReadonlyMap<string, string>,
  { track, untracked }: ColumnOptions,
  inWarehouse: readonly OutsideType[],
): RegisteredColumn & { readonly type: string } {
  const { name: source, comment } = column;
  const isUntracked = untracked.includes(source) || (track.length > 0 && !track.includes(source));
  const { type, reason } = historyType(column, inWarehouse);
  return {
    source,
    history: names.get(source) ?? source,
    role: isKey ? 'business key' : isUntracked ? 'untracked' : 'tracked',
    type,
    comment: comment ?? `${isKey ? 'Business key: ' : ''}${table}.${source}.`,
    remark: reason ?? (column.is_generated ? 'generated at the source' : undefined),
  };
}

/**
 * The type that holds every value of a source column as PostgreSQL prints it, and why it is not that of the source, where it is not. Text where
 * the warehouse has no such type: a batch carries what PostgreSQL prints, so nothing is lost, and versions are compared by what is printed.
 */
export function historyType(
  { type, declared, as_text, outside }: CatalogColumn,
  inWarehouse: readonly OutsideType[],
): { readonly type: string; readonly reason: string | undefined } {
  const found = inWarehouse.find(
    (each) => each.type_schema === outside?.type_schema && each.type_name === outside.type_name,
  );
  const lacking = (outside?.labels ?? []).filter((label) => found?.labels?.includes(label) !== true);
  const fault =
    outside === null || (found !== undefined && lacking.length === 0)
      ? as_text
      : found === undefined
        ? 'the warehouse has no such type'
        : `the type of that name in the warehouse lacks ${lacking.map((label) => `'${label}'`).join(', ')}`;
  if (fault === null) return { type, reason: undefined };
  return { type: type.endsWith('[]') ? 'text[]' : 'text', reason: `${declared} is kept as text: ${fault}` };
}

function assertColumnsThere(table: CatalogTable, named: readonly string[]): void {
  const there = table.columns.map((column) => column.name);
  const missing = [...new Set(named)].filter((name) => !there.includes(name));
  if (missing.length === 0) return;
  throw new UsageError(`${shownName(table)} has no column ${missing.join(', ')}`, {
    hint: `its columns are: ${there.slice(0, 30).join(', ')}${there.length > 30 ? ', ...' : ''}`,
  });
}

function assertOneRoleEach(options: RegistrationOptions, key: readonly string[], times: readonly string[]): void {
  const roles = [key, times, options.track, options.untracked, options.ignore].flatMap((names) => [...new Set(names)]);
  const twice = roles.find((name, place) => roles.indexOf(name) !== place);
  if (twice === undefined) return;
  throw new UsageError(`column ${twice} is given two roles`, {
    hint: 'a column is part of the key, one of the times, tracked, untracked or ignored',
  });
}

function assertNamesFree(columns: readonly CatalogColumn[]): void {
  const taken = columns.find((column) => BATCH_COLUMNS.includes(column.name));
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
    hint: `give one with --name: lower-case letters, digits and underscores, a letter first, at most ${String(LONGEST_NAME)}`,
  });
}

/**
 * The key that the user names, or else the primary key, or the first unique index over columns that are not null.
 * @param given columns; empty for none
 * @throws TidemarkError where nothing tells the rows apart
 */
function businessKey(table: CatalogTable, given: readonly string[]): readonly string[] {
  const isTable = ['r', 'p'].includes(table.kind);
  if (given.length === 0) {
    const found = table.unique_keys.find(({ nullable }) => nullable.length === 0);
    if (found !== undefined) return found.columns;
    throw new TidemarkError(`${shownName(table)} has no key: nothing says which of its rows is which`, {
      hint: isTable
        ? 'give it a primary key, or name the columns of a unique index that are not null with --key'
        : 'it is no table: name the columns that are never twice the same with --key',
    });
  }
  const same = table.unique_keys.find(
    ({ columns }) => columns.length === given.length && columns.every((name) => given.includes(name)),
  );
  if (!isTable || same?.nullable.length === 0) return given;
  const fault =
    same === undefined
      ? 'is not unique there: no unique index has exactly these columns'
      : `may be null: ${same.nullable.join(', ')}`;
  throw new TidemarkError(`the key of ${shownName(table)} ${fault}`, {
    detail: `key: ${given.join(', ')}`,
    hint: 'rows would be lost between pages: make it unique and not null at the source, or choose another key',
  });
}

/**
 * What history keeps beside its versions is found by the text of the key: a type or collation that takes two texts for one would tear a row in
 * two. Numbers and padded texts are brought to one form (tidemark._key_member); the warehouse refuses the rest (tidemark._is_printed_as_equal).
 * @throws TidemarkError naming the column
 */
function assertKeyIsExact(table: CatalogTable, key: readonly string[]): void {
  const column = table.columns.find(({ name, loose }) => key.includes(name) && loose !== null);
  if (column === undefined) return;
  throw new TidemarkError(
    `${column.name}, in the key of ${shownName(table)}, is ${column.loose ?? ''}: texts that are not the same are one key there, and two in history`,
    {
      hint: `name another unique key with --key; or let the source tell them apart: alter table ${shownName(table)} alter column ${column.name} type text collate "C"`,
    },
  );
}

/** How deletes are found. */
export type Deletes = Required<Pick<ColumnOptions, 'deletes' | 'deleted_column' | 'deleted_values'>>;

/** Names that say what they are; the first that is there is taken. */
const DELETED_COLUMNS = ['deleted_at', 'deleted_on', 'is_deleted', 'deleted'];

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
  const name = deleted_column ?? DELETED_COLUMNS.find((each) => table.columns.some((column) => column.name === each));
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
