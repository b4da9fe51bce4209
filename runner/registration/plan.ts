import { TidemarkError, UsageError } from '../base/errors.js';
import { type CatalogColumn, type CatalogTable, shownName } from '../source/catalog.js';
import { historyType, shortType, type WarehouseType } from '../source/history-type.js';
import { historyNames, plainName } from './names.js';

/** What a user says about a table that is to be registered. Columns are names of the source. */
export interface RegistrationOptions extends DeletesOptions {
  readonly name?: string | undefined;
  /** Columns of the business key; the primary key where empty. */
  readonly key: readonly string[];
  readonly effective_time?: string | undefined;
  /** "none" for a table that does not say when a row was made. */
  readonly insert_time?: string | undefined;
  /** Where given, the others are untracked. */
  readonly track: readonly string[];
  readonly untracked: readonly string[];
  readonly ignore: readonly string[];
  /** Names of history by those of the source. */
  readonly rename: ReadonlyMap<string, string>;
  readonly time_zone: string;
  readonly change_order: 'capture' | 'effective_time';
  /** Adds the constraint that no two versions of a key overlap. */
  readonly no_overlap: boolean;
}

export type Role = 'business key' | 'effective time' | 'insert time' | 'tracked' | 'untracked';

/** A source column and what becomes of it. */
export interface RegisteredColumn {
  readonly source: string;
  readonly history: string;
  readonly role: Role;
  /** Type in the history; undefined for times, which become valid_from. */
  readonly type: string | undefined;
  readonly comment: string;
  /** What a reader should know about it. */
  readonly remark: string | undefined;
}

/** Everything a migration needs to register a table. */
export interface Registration {
  readonly name: string;
  readonly table: CatalogTable;
  readonly columns: readonly RegisteredColumn[];
  readonly ignored: readonly string[];
  readonly time_type: 'timestamp' | 'timestamptz';
  readonly options: Pick<RegistrationOptions, 'time_zone' | 'change_order' | 'no_overlap'>;
  readonly deletes: Deletes;
  /** Whether a dimension of that name was registered before, and removed. */
  readonly returns: boolean;
  /** What a reader should know before the migration runs. */
  readonly remarks: readonly string[];
}

/** Names that a batch file uses for itself. */
const BATCH_COLUMNS = ['operation_type', 'cdc_timestamp', 'extracted_at'];
/** Names that say what they are; the first that is there is taken. */
const EFFECTIVE_TIMES = [
  'last_updated',
  'updated_at',
  'last_modified',
  'last_modified_at',
  'modified_at',
  'changed_at',
  'update_time',
];
const INSERT_TIMES = ['created_at', 'inserted_at', 'create_time', 'creation_time'];
/** The longest name whose history, and its function of the longest name, PostgreSQL need not cut. */
const LONGEST_NAME = 63 - 'dim__history_as_of'.length;

/**
 * Decides what becomes of each column of a source table, from its catalog and what the user said.
 * @throws UsageError for an option that does not fit the table; TidemarkError where the table cannot be captured
 */
export function planRegistration(
  table: CatalogTable,
  options: RegistrationOptions,
  inWarehouse: readonly WarehouseType[],
): Registration {
  const { effective_time, insert_time } = options;
  assertColumnsThere(table, [
    ...[...options.key, ...options.track, ...options.untracked, ...options.ignore, ...options.rename.keys()],
    ...[effective_time, insert_time === 'none' ? undefined : insert_time].filter((name) => name !== undefined),
  ]);
  const name = dimensionName(table, options);
  const key = businessKey(table, options.key);
  assertKeyIsExact(table, key);
  const effective = effectiveTime(table, options);
  const insert = insertTime(table, options, effective);
  const times = [effective.name, ...(insert === undefined ? [] : [insert.name])];
  assertOneRoleEach(options, key, times);
  const captured = table.columns.filter((column) => !options.ignore.includes(column.name));
  assertNamesFree(captured);
  const stored = captured.map((column) => column.name).filter((column) => !times.includes(column));
  const names = historyNames(table.table, stored, key, options.rename);
  const roleOf = ({ name: column }: CatalogColumn): Role => {
    if (key.includes(column)) return 'business key';
    if (times.includes(column)) return column === effective.name ? 'effective time' : 'insert time';
    if (options.untracked.includes(column)) return 'untracked';
    return options.track.length === 0 || options.track.includes(column) ? 'tracked' : 'untracked';
  };
  const columns = captured.map((column) =>
    registeredColumn(table, column, roleOf(column), names.get(column.name), inWarehouse),
  );
  return {
    name,
    table,
    columns: inOrder(columns, key),
    ignored: options.ignore,
    time_type: timeType(effective) ?? 'timestamptz',
    options,
    returns: false,
    remarks: remarksOn(table, effective),
    deletes: planDeletes(table, options, columnsThatMarkNothing(options.ignore, columns)),
  };
}

/** A column under its name in history; a time has none, it becomes valid_from. */
function registeredColumn(
  { table }: CatalogTable,
  column: CatalogColumn,
  role: Role,
  history: string | undefined,
  inWarehouse: readonly WarehouseType[],
): RegisteredColumn {
  const { name: source } = column;
  const comment = column.comment ?? `${role === 'business key' ? 'Business key: ' : ''}${table}.${source}.`;
  if (history === undefined)
    return { source, history: 'valid_from', role, type: undefined, comment, remark: undefined };
  const { type, reason } = historyType(column, inWarehouse);
  return {
    source,
    history,
    role,
    type,
    comment,
    remark: reason ?? (column.is_generated ? 'generated at the source' : undefined),
  };
}

/** Columns that cannot mark a row as deleted, each with what it is. */
export const columnsThatMarkNothing = (
  ignored: readonly string[],
  columns: readonly { readonly source: string; readonly role: string }[],
): ReadonlyMap<string, string> =>
  new Map([
    ...ignored.map((name) => [name, 'left out'] as const),
    ...columns
      .filter(({ role }) => role !== 'tracked' && role !== 'untracked')
      .map(({ source, role }) => [source, `the ${role}`] as const),
  ]);

/** Key first, in its own order, then the columns as the table has them, the times last. */
function inOrder(columns: readonly RegisteredColumn[], key: readonly string[]): RegisteredColumn[] {
  const place = ({ source, role }: RegisteredColumn) =>
    role === 'business key' ? key.indexOf(source) - key.length : role.endsWith('time') ? 1 : 0;
  return [...columns].sort((one, other) => place(one) - place(other));
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

function dimensionName(table: CatalogTable, options: RegistrationOptions): string {
  const name = options.name ?? plainName(table.table);
  if (/^[a-z_][a-z0-9_]*$/.test(name) && name.length <= LONGEST_NAME) return name;
  throw new UsageError(`"${name}" cannot be the name of a dimension`, {
    hint: `give one with --name: lower-case letters, digits and underscores, a letter first, at most ${String(LONGEST_NAME)}`,
  });
}

/** timestamp or timestamptz; undefined for a column that is no such time. */
function timeType(column: CatalogColumn): 'timestamp' | 'timestamptz' | undefined {
  const type = shortType(column.type).replace(/\(\d\)$/, '');
  return type === 'timestamp' || type === 'timestamptz' ? type : undefined;
}

function effectiveTime(table: CatalogTable, options: RegistrationOptions): CatalogColumn {
  const times = table.columns.filter((column) => timeType(column) !== undefined);
  const wanted = options.effective_time === undefined ? EFFECTIVE_TIMES : [options.effective_time];
  const found = wanted
    .map((name) => times.find((column) => column.name === name))
    .find((column) => column !== undefined);
  if (found !== undefined) return found;
  if (options.effective_time !== undefined)
    throw new TidemarkError(
      `column ${options.effective_time} of ${shownName(table)} is no timestamp: it cannot be the effective time`,
      { hint: 'a timestamp or timestamptz that every change of a row sets is needed' },
    );
  throw new TidemarkError(`${shownName(table)} has no effective-time column: nothing says when a row changed`, {
    hint:
      times.length > 0
        ? `name it with --effective-time; its timestamps are: ${times.map((column) => column.name).join(', ')}`
        : 'add a timestamp that every change of a row sets, such as last_updated',
  });
}

function insertTime(
  table: CatalogTable,
  options: RegistrationOptions,
  effective: CatalogColumn,
): CatalogColumn | undefined {
  if (options.insert_time === 'none') return undefined;
  const fits = (column: CatalogColumn) => timeType(column) === timeType(effective) && column.name !== effective.name;
  const asked = table.columns.find((column) => column.name === options.insert_time);
  if (asked !== undefined && !fits(asked))
    throw new TidemarkError(`column ${asked.name} of ${shownName(table)} cannot be the insert time`, {
      hint: `it must be a ${timeType(effective) ?? ''}, as ${effective.name} is; or give --insert-time none`,
    });
  const taken = [...options.track, ...options.untracked, ...options.ignore, ...options.key];
  return (
    asked ??
    table.columns.find((column) => INSERT_TIMES.includes(column.name) && fits(column) && !taken.includes(column.name))
  );
}

function remarksOn(table: CatalogTable, effective: CatalogColumn): string[] {
  const remarks = [];
  if (['v', 'm', 'f'].includes(table.kind))
    remarks.push(
      `${shownName(table)} is no table: it does not show which transaction wrote a row, and nothing there makes its key unique`,
    );
  if (table.has_heirs)
    remarks.push(
      `other tables inherit from ${shownName(table)}: their rows are read with its own, and its key does not hold for them`,
    );
  if (table.kind !== 'v' && !effective.is_not_null)
    remarks.push(
      `${effective.name} may be null: a row without it cannot be placed in time: full sweeps find it, and loads set it aside as rejected, until it has one`,
    );
  return remarks;
}

/**
 * The key that the user names, or else the primary key, or the first unique index over columns that are not null.
 * @param given columns; empty for none
 * @throws TidemarkError where nothing tells the rows apart
 */
function businessKey(table: CatalogTable, given: readonly string[]): readonly string[] {
  const hasIndexes = ['r', 'p'].includes(table.kind);
  const nullable = (columns: readonly string[]) =>
    columns.filter((name) => table.columns.some((column) => column.name === name && !column.is_not_null));
  const fits = (columns: readonly string[]) => nullable(columns).length === 0;
  if (given.length === 0) {
    const found = table.unique_keys.find(({ columns }) => fits(columns));
    if (found !== undefined && hasIndexes) return found.columns;
    throw new TidemarkError(`${shownName(table)} has no key: nothing says which of its rows is which`, {
      hint: hasIndexes
        ? 'give it a primary key, or name the columns of a unique index that are not null with --key'
        : 'it is no table: name the columns that are never twice the same with --key',
    });
  }
  const isUnique = table.unique_keys.some(
    ({ columns }) => columns.length === given.length && columns.every((name) => given.includes(name)),
  );
  if (!hasIndexes || (isUnique && fits(given))) return given;
  const fault = isUnique
    ? `may be null: ${nullable(given).join(', ')}`
    : 'is not unique there: no unique index has exactly these columns';
  throw new TidemarkError(`the key of ${shownName(table)} ${fault}`, {
    detail: `key: ${given.join(', ')}`,
    hint: 'rows would be lost between pages: make it unique and not null at the source, or choose another key',
  });
}

/** Equal values of these types may print in several ways: 1 day and 24:00, {"a": 1} and {"a": 1.0}. */
const LOOSE_TYPES = ['citext', 'interval', 'jsonb'];

/**
 * What history keeps beside its versions is found by the text of the key: a type or collation that takes two texts for one would tear a row in
 * two. Numbers and padded texts are brought to one form (tidemark._key_member); the warehouse refuses the rest (tidemark._is_printed_as_equal).
 * @throws TidemarkError naming the column
 */
function assertKeyIsExact(table: CatalogTable, key: readonly string[]): void {
  const loose = table.columns.find(
    ({ name, type_name, is_deterministic }) =>
      key.includes(name) && (LOOSE_TYPES.includes(type_name) || !is_deterministic),
  );
  if (loose === undefined) return;
  const what = LOOSE_TYPES.includes(loose.type_name)
    ? `of type ${loose.type_name}`
    : 'under a collation that is not deterministic';
  throw new TidemarkError(
    `${loose.name}, in the key of ${shownName(table)}, is ${what}: texts that are not the same are one key there, and two in history`,
    {
      hint: `name another unique key with --key; or let the source tell them apart: alter table ${shownName(table)} alter column ${loose.name} type text collate "C"`,
    },
  );
}

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
    if (said.deleted_column === undefined && said.deleted_values === undefined)
      return { policy, column: undefined, values: undefined };
    throw new UsageError('--deleted-column and --deleted-values go with --deletes soft', {
      hint: `leave them out, or leave out --deletes ${policy}`,
    });
  }
  const name =
    said.deleted_column ?? DELETED_COLUMNS.find((each) => table.columns.some((column) => column.name === each));
  if (name === undefined)
    throw new UsageError(`no column of ${shownName(table)} says by its name that it marks deleted rows`, {
      hint: 'name it with --deleted-column, and with --deleted-values the values that mean deleted',
    });
  assertColumnsThere(table, [name]);
  const role = unusable.get(name);
  if (role !== undefined)
    throw new UsageError(`column ${name} is ${role}: it cannot mark deleted rows`, {
      hint: 'a column that is tracked or untracked can, so that what becomes of it is not missed',
    });
  const column = table.columns.find((each) => each.name === name);
  const values = said.deleted_values ?? (column?.type === 'boolean' ? ['true'] : undefined);
  if (values === undefined && column?.is_not_null === true)
    throw new UsageError(`every row of ${shownName(table)} would count as deleted: column ${name} is never null`, {
      hint: 'give the values that mean deleted with --deleted-values',
    });
  return { policy, column: name, values };
}
