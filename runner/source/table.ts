import type { Database, Transaction } from '../base/database.js';
import { TidemarkError } from '../base/errors.js';
import { tableArgument } from '../base/sql-text.js';
import { counted } from '../base/text-table.js';
import { inTransaction } from '../base/transaction.js';
import { releaseBatchMemory } from '../base/v8-memory.js';
import type { DimensionMapping } from '../batch/mapping.js';
import type { BatchMetadata } from '../batch/metadata.js';
import { one, runFile } from './file.js';

/** A source table and the queries that extract it, written by sql/source/describe_table.sql from its catalog. */
export interface SourceTable {
  readonly relation: string;
  readonly relation_oid: string;
  /** What rows are read from: "only" before it where those of tables that inherit from it are not. */
  readonly rows: string;
  /** The query that shows keys of several rows, and those that are null in part. */
  readonly repeated_keys: string;
  /** Why transaction numbers mean nothing in this source, so that it is read by times alone; null where they do. */
  readonly fallback: string | null;
  /** The pattern of texts that are valid UTF-8, where the source would take others too; null elsewhere. */
  readonly readable: string | null;
  /** True where the effective time may be null, or no column is it. */
  readonly may_be_undated: boolean;
  /** True where no column is the effective time: each sweep reads the whole table, but for the rows that were read before. */
  readonly is_timeless: boolean;
  /** What PostgreSQL has counted of it, in short: while it stands still, nothing was written. Null where nothing is counted. */
  readonly counters: string | null;
  /** SQL that is true of a row t that is marked as deleted; null where none is. */
  readonly deleted_condition: string | null;
  /** False for what cannot be locked, and where this role has no right to the whole table. */
  readonly is_lockable: boolean;
  /** Mapped columns. */
  readonly columns: readonly string[];
  readonly unmapped_columns: readonly string[];
  readonly columns_fingerprint: string;
  /** The declared types of the mapped columns, by name. */
  readonly column_types: Readonly<Record<string, string>>;
  /** The history columns that keys and values are mapped to, by name at the source. */
  readonly history_columns: Readonly<Record<string, string>>;
  /** Whether the source keeps the key unique. */
  readonly has_unique_key: boolean;
  /** What the statistics say; null where there are none. */
  readonly estimated_rows: number | null;
  /** True where an index begins with the effective time. */
  readonly has_serving_index: boolean;
  /** True for a table of some size without one. */
  readonly lacks_index: boolean;
  /** The statement that makes the index. */
  readonly index_statement: string;
  readonly first_page: string;
  readonly next_page: string;
  readonly first_undated_page: string;
  readonly next_undated_page: string;
  readonly keyed_page: string;
  /** True for a shard from which a row may move to another: then it must be certain which of two read a row later. */
  readonly may_move: boolean;
}

export type Columns = Pick<SourceTable, 'columns' | 'columns_fingerprint' | 'column_types' | 'history_columns'>;

/**
 * What a batch says of the columns that its changes have, whoever writes it.
 * @param unfilled history columns whose values are still to be read in every row
 */
export const columnsOfBatch = (
  { columns, columns_fingerprint, column_types, history_columns }: Columns,
  unfilled: readonly string[],
): Columns & Pick<BatchMetadata, 'columns' | 'unfilled_columns'> => ({
  ...{ columns: [...columns], columns_fingerprint, column_types, history_columns },
  unfilled_columns: [...unfilled],
});

/**
 * The history columns that were added to the mapping since a batch was written, or before it, and were not filled yet: rows that nobody
 * touched since may have values there. By their names in history, which a rename at the source leaves alone.
 */
export function unfilledColumns(
  { history_columns }: Pick<SourceTable, 'history_columns'>,
  before: BatchMetadata | undefined,
): string[] {
  if (before === undefined) return [];
  const { columns, history_columns: mapped, unfilled_columns: unfilled } = before;
  const isNew = ([source, history]: readonly [string, string]) =>
    mapped === undefined ? !columns.includes(source) : !Object.values(mapped).includes(history);
  return Object.entries(history_columns)
    .filter((column) => isNew(column) || unfilled.includes(column[1]))
    .map(([, history]) => history);
}

/** A part of a table. */
export interface TablePart {
  /** SQL over the table's alias t: true for rows of the part. */
  readonly condition: string;
  /** True where a row may move to another part. */
  readonly may_move: boolean;
}

/** What a sweep starts from and where it ends, as its batches say it; the same for all its pages. */
export interface SweepBounds extends Pick<BatchMetadata, 'floor' | 'snapshot'> {
  readonly sweep: Pick<
    BatchMetadata['sweep'],
    'from_floor' | 'from_high_watermark' | 'from_transaction' | 'before_transaction'
  >;
}

/** Where a page begins: after a row with an effective time, or after the key of one without, which are a pass of their own. */
export interface PagePlace {
  readonly isDated: boolean;
  readonly after: { readonly time: string | null; readonly key: readonly string[] } | null;
}

export interface PageLimits {
  readonly rows: number;
  readonly bytes: number;
  /** How far a sweep looks back behind the high watermark that it begins with. */
  readonly margin_seconds?: number;
  /** Rows that were written and need not be written again, as a page before gave them (`known_rows`). */
  readonly known_rows: string;
}

export const NO_KNOWN_ROWS = '[]';

export interface Page {
  /** The change lines, joined as they stand in a batch file; null where nothing changed, or nothing that is not known. */
  readonly lines: string | null;
  readonly change_count: number;
  /** Its changes, and the rows that were known. */
  readonly rows_read: number;
  /** What is known once it is published, for the next page (sql/source/describe_table.sql). */
  readonly known_rows: string;
  /** Place of its last row, known or not; without a time in the pass over undated rows. */
  readonly last_row: { readonly time: string | null; readonly key: string[] } | null;
  /** The newest transaction that wrote one of its rows; null where that is not known. */
  readonly newest_writer: string | null;
  readonly has_more: boolean;
  /** The instant of the snapshot the page was read in (ISO 8601). */
  readonly extracted_at: string;
}

/** A row of sql/source/describe_table.sql. */
interface DescribedTable extends Omit<SourceTable, 'unmapped_columns' | 'may_move'> {
  /** Type without a modifier of the column that marks deleted rows; null where none does, or it is gone. */
  readonly deleted_type: string | null;
  /** True where the column that marks deleted rows is never null, and anything but null means deleted. */
  readonly is_always_deleted: boolean | null;
  /** True for views and foreign tables, which have no index that could prove the key unique. */
  readonly is_keyless_kind: boolean;
  readonly missing_columns: readonly string[] | null;
  /** Mapped columns that this role may not read, and the statement that lets it. */
  readonly ungranted_columns: readonly string[] | null;
  readonly grant_statement: string;
  readonly unmapped_columns: readonly string[] | null;
}

/**
 * Reads the source table of a dimension from the catalog. Of a part of it, pages hold rows of that alone.
 * @param fills history columns of which pages read every value, whatever transaction wrote it
 * @throws TidemarkError naming the table, or the columns, that are not there.
 */
export async function describeTable(
  source: Database,
  mapping: DimensionMapping,
  part?: TablePart,
  fills: readonly string[] = [],
): Promise<SourceTable> {
  const name = `${mapping.source_schema}.${mapping.source_table}`;
  const [found] = await runFile<DescribedTable>(source, 'describe_table', [
    mapping.source_schema,
    mapping.source_table,
    JSON.stringify(mapping.columns),
    mapping.source_time_zone,
    mapping.deleted_column,
    mapping.deleted_values === null ? null : JSON.stringify(mapping.deleted_values),
    part?.condition ?? null,
    JSON.stringify(fills),
    String(mapping.with_children),
  ]);
  const refuse = (message: string, hint: string) =>
    new TidemarkError(message, { detail: `table=${mapping.dimension_name}`, hint });
  const update = `npx tidemark add --update ${tableArgument(mapping.source_schema, mapping.source_table)}`;
  if (found === undefined)
    throw refuse(
      `source table ${name} does not exist`,
      `create it, see that DB_NAME and DB_USER are right, or run "npx tidemark demo" for the demo source; if it was renamed, write the migration that follows: ${update} --source <schema.its new name>`,
    );
  const { missing_columns: missing, ungranted_columns: ungranted } = found;
  if (missing !== null)
    throw refuse(
      `source table ${name} lacks columns that its mapping names: ${missing.join(', ')}`,
      `restore them, or write the migration that follows: ${update} --rename ${missing[0] ?? ''}=<its new name> (or --retire ${missing[0] ?? ''})`,
    );
  if (ungranted !== null)
    throw refuse(
      `columns of source table ${name} may not be read: ${ungranted.join(', ')}`,
      `as the owner of the table: ${found.grant_statement}`,
    );
  if (!found.has_unique_key && !found.is_keyless_kind && !mapping.key_is_asserted && !mapping.with_children)
    throw refuse(
      `the business key of source table ${name} is not unique there, or may be null`,
      'map a primary key, or a unique index over columns that are not null, as the business key: else rows would be lost between pages',
    );
  await assertMarkFits(source, mapping, found);
  return { ...found, unmapped_columns: found.unmapped_columns ?? [], may_move: part?.may_move ?? false };
}

/**
 * Looks for two rows of one key, and for keys that are null, where the source does not keep them out: history could not tell such rows apart.
 * Reads the whole table, there alone.
 * @throws TidemarkError that says how many keys there are, and how to see them
 */
export async function assertKeysUnique(source: Database, table: string, described: SourceTable): Promise<void> {
  const { repeated_keys, has_unique_key } = described;
  if (has_unique_key) return;
  const [found] = await inSnapshot(source, described, (session) =>
    session.unsafe<{ keys: number }[]>(`select count(*)::integer as keys from (${repeated_keys}) as k`),
  );
  if (found !== undefined && found.keys > 0) throw keyFault(table, described, found.keys);
}

/** Several rows of one key, which history could not tell apart. */
export const keyFault = (table: string, { relation, repeated_keys }: SourceTable, keys: number): TidemarkError =>
  new TidemarkError(
    `the key of ${relation} does not tell its rows apart: ${counted(keys, 'key')} of several rows, or null in part`,
    {
      detail: `table=${table}, on the source: ${repeated_keys}`,
      hint: 'nothing is written until each row has a key of its own: see to that at the source, or register the table with another --key',
    },
  );

/** Reads one page of a sweep in a snapshot of its own. `notBefore` keeps extracted_at from running backwards with the server's clock. */
export async function readPage(
  source: Transaction,
  table: SourceTable,
  sweep: SweepBounds,
  place: PagePlace,
  limits: PageLimits,
  notBefore: string | null,
): Promise<Page> {
  const { isDated, after } = place;
  const [first, next] = isDated
    ? [table.first_page, table.next_page]
    : [table.first_undated_page, table.next_undated_page];
  return after === null
    ? readLines(source, table, first, sweep, limits, notBefore, [])
    : readLines(source, table, next, sweep, limits, notBefore, [after.time, JSON.stringify(after.key)]);
}

/** Reads the rows of some keys, as a page is read, whatever their times. @param keys each the text of a JSON array */
export async function readKeyedPage(
  source: Database,
  table: SourceTable,
  keys: readonly string[],
  limits: PageLimits,
  notBefore: string | null,
): Promise<Page> {
  return readLines(source, table, table.keyed_page, undefined, limits, notBefore, [JSON.stringify(keys)]);
}

async function readLines(
  source: Transaction,
  table: SourceTable,
  query: string,
  bounds: SweepBounds | undefined,
  limits: PageLimits,
  notBefore: string | null,
  place: (string | null)[],
): Promise<Page> {
  releaseBatchMemory();
  // Between snapshot and clock one shard at a time: so the one whose extracted_at is later has read later.
  const turn = table.may_move ? `tidemark.capture ${table.relation}` : undefined;
  const read = async (session: Transaction, passTurn: () => Promise<void>) => {
    const moment = await session<{ extracted_at: string }[]>`
      select to_json(greatest(clock_timestamp(), ${notBefore}::text::timestamptz + interval '1 microsecond')) #>> '{}' as extracted_at,
        set_config('jit', 'off', true)`;
    const { extracted_at } = one(moment);
    const sweep = bounds?.sweep;
    await passTurn();
    const rows = await session.unsafe<Omit<Page, 'extracted_at'>[]>(query, [
      ...[sweep?.from_floor ?? null, sweep?.from_high_watermark ?? null, String(limits.margin_seconds ?? 0)],
      ...[sweep?.from_transaction ?? null, sweep?.before_transaction ?? null],
      ...[String(limits.rows), String(limits.bytes), extracted_at],
      ...[bounds?.floor ?? 'infinity', limits.known_rows, bounds?.snapshot ?? null],
      ...place,
    ]);
    return { ...one(rows), extracted_at };
  };
  return inSnapshot(source, table, read, turn);
}

/**
 * Reads the table in one snapshot. A rewrite or TRUNCATE that is committed after the snapshot, and before the table is locked, would show it
 * empty: so it is locked first. Reading alone locks it too late. Where this role may not lock it, its files are looked at before the
 * snapshot and after what was read, which keeps them as they are from then on: if they are others now, it is read again.
 * @param source or a transaction that this was called in before: then it reads on in that snapshot
 */
export async function inSnapshot<T>(
  source: Transaction,
  table: SourceTable,
  read: Parameters<typeof inTransaction<T>>[2],
  turn?: string,
): Promise<T> {
  if (!isDatabase(source)) return read(source, () => Promise.resolve());
  const filesOf = async (database: Pick<Database, 'file'>) =>
    table.is_lockable ? '' : one(await runFile<{ files: string }>(database, 'read_files', [table.relation_oid])).files;
  for (;;) {
    const before = await filesOf(source);
    const readOnce = async (session: Transaction, passTurn: () => Promise<void>) => {
      if (table.is_lockable) await session.unsafe(`lock table ${table.relation} in access share mode`);
      return { found: await read(session, passTurn), after: await filesOf(session) };
    };
    const { found, after } = await inTransaction(source, 'isolation level repeatable read read only', readOnce, turn);
    if (before === after) return found;
  }
}

const isDatabase = (source: Transaction): source is Database => 'begin' in source;

/** PostgreSQL's codes for a text that is no value of a type, or a type that cannot be compared. */
const MISFIT = /^(22|23|42883)/;

/**
 * Makes sure that the column that marks deleted rows can tell them from the others: a column of another type, or one that is never null,
 * would end every life, or none.
 * @throws TidemarkError naming the column, its type and the values
 */
async function assertMarkFits(
  source: Database,
  mapping: DimensionMapping,
  { deleted_type, is_always_deleted }: Pick<DescribedTable, 'deleted_type' | 'is_always_deleted'>,
): Promise<void> {
  const { source_schema, source_table, deleted_column: column, deleted_values: values } = mapping;
  if (column === null || deleted_type === null) return;
  const name = `${source_schema}.${source_table}`;
  const hint = `say what marks a deleted row: npx tidemark add --update ${tableArgument(source_schema, source_table)} --deleted-column ${column} --deleted-values <value> ...`;
  if (is_always_deleted === true)
    throw new TidemarkError(`every row of ${name} would count as deleted: column ${column} is never null`, {
      detail: `table=${mapping.dimension_name} column=${column} type=${deleted_type}`,
      hint,
    });
  if (values === null) return;
  const fault = await misfit(source, deleted_type, values);
  if (fault !== undefined)
    throw new TidemarkError(`the values that mean deleted are none of column ${column} of ${name}: ${fault}`, {
      detail: `table=${mapping.dimension_name} type=${deleted_type} values=${values.join(', ')}`,
      hint,
    });
}

/** Why these texts cannot be compared with values of a type of the source; undefined where they can. @param type as SQL names it */
export async function misfit(source: Database, type: string, values: readonly string[]): Promise<string | undefined> {
  try {
    await source.unsafe(
      `select (select array_agg(v.value) from json_array_elements_text($1::text::json) as v (value))::${type}[] is null, null::${type} = any (null::${type}[])`,
      [JSON.stringify(values)],
    );
    return undefined;
  } catch (error) {
    if (error instanceof Error && 'code' in error && MISFIT.test(String(error.code))) return error.message;
    throw error;
  }
}
