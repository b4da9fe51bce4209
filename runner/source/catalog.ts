import type { Database } from '../base/database.js';
import { TidemarkError, UsageError } from '../base/errors.js';
import { inTransaction } from '../base/transaction.js';
import { one, runFile } from './file.js';

/** A name of a table as a user gives it, taken apart. */
export type TableName = Readonly<{ schema: string; table: string }>;

/** A type outside pg_catalog. */
export interface OutsideType {
  readonly type_schema: string;
  readonly type_name: string;
  /** Labels of an enum. */
  readonly labels: readonly string[] | null;
}

/** A column as sql/source/read_table.sql describes it. */
export interface CatalogColumn {
  readonly name: string;
  /** The type as it was declared, a domain for instance. */
  readonly declared: string;
  /** The type that history can hold, as people write it: timestamptz(3). */
  readonly type: string;
  readonly time_type: 'timestamp' | 'timestamptz' | null;
  /** Why history can hold it but as text; null where it can. */
  readonly as_text: string | null;
  readonly outside: OutsideType | null;
  /** Of the types that were asked for, those that hold every value of this one, and those of which this one does. */
  readonly fits: readonly string[];
  readonly holds: readonly string[];
  /** Of those that it holds, those that history makes as wide by itself, because no row is rewritten for it. */
  readonly widens: readonly string[];
  readonly is_not_null: boolean;
  readonly is_generated: boolean;
  /** Whether the role that asks may read it. */
  readonly is_granted: boolean;
  /** Why it cannot be part of a key; null where it can. */
  readonly key_fault: string | null;
  /** Whether its values are texts. */
  readonly is_textual: boolean;
  readonly comment: string | null;
}

/** A source table as its catalog describes it. */
export interface CatalogTable extends TableName {
  /** pg_class.relkind: r table, p partitioned, v view, m materialized view, f foreign table. */
  readonly kind: string;
  readonly comment: string | null;
  /** Whether other tables inherit from it; partitions do not count. */
  readonly has_children: boolean;
  /** What a reader should know of it. */
  readonly remarks: readonly string[];
  readonly columns: readonly CatalogColumn[];
  /** Unique over plain columns, of the whole table, and which of them may be null; the primary key first. */
  readonly unique_keys: readonly { readonly columns: readonly string[]; readonly nullable: readonly string[] }[];
  /** Words that a name must be quoted for. */
  readonly keywords: readonly string[];
}

const PART = String.raw`(?:"((?:[^"]|"")+)"|([^."]+))`;
const NAME = new RegExp(String.raw`^(?:${PART}\.)?${PART}$`);

/**
 * Takes a table's name apart: schema.table, or table in schema public. Double quotes as in SQL, needed only where a part holds a dot;
 * without them a name is taken as it is written, capital letters too.
 * @param usual the schema of a name without one
 * @throws UsageError for anything else
 */
export function parseTableName(name: string, usual = 'public'): TableName {
  const match = NAME.exec(name);
  if (match === null)
    throw new UsageError(`"${name}" is not the name of a table`, {
      hint: 'give it as schema.table, and in double quotes a part that holds a dot: \'public."order.items"\'',
    });
  const [schema = usual, table = ''] = [match.slice(1, 3), match.slice(3)].map(
    ([quoted, plain]) => quoted?.replaceAll('""', '"') ?? plain,
  );
  return { schema, table };
}

/** The name as people write it: schema.table. */
export const shownName = ({ schema, table }: TableName): string => `${schema}.${table}`;

/**
 * Reads what a source table is from the catalog.
 * @param historyTypes types of which is asked whether its columns fit into them
 * @throws TidemarkError if there is no such table, naming those that are called alike
 */
export async function readTable(
  source: Database,
  name: TableName,
  historyTypes: readonly (string | null)[] = [],
): Promise<CatalogTable> {
  const table = one(await readTables(source, [name], historyTypes));
  if (table instanceof TidemarkError) throw table;
  return table;
}

/** The same of many tables, in one question. In place of one that is not there stands the error that says so. */
export async function readTables(
  source: Database,
  names: readonly TableName[],
  historyTypes: readonly (string | null)[] = [],
): Promise<(CatalogTable | TidemarkError)[]> {
  const types = JSON.stringify([...new Set(historyTypes.filter((type) => type !== null))]);
  const rows = await inTransaction(source, 'read only', async (transaction) => {
    await transaction`set local search_path = pg_catalog`;
    return runFile<{ schema: string; table: string; described: string | null; alike: string[] }>(
      transaction,
      'read_table',
      [JSON.stringify(names), types],
    );
  });
  return rows.map(({ described, alike, ...name }) =>
    described !== null
      ? (JSON.parse(described) as CatalogTable)
      : new TidemarkError(`source table ${shownName(name)} does not exist`, {
          hint:
            alike.length > 0
              ? `there is: ${alike.join(', ')}`
              : 'see that DB_NAME is right, and that DB_USER may use the schema',
        }),
  );
}

/** A table that was asked for, or found by a pattern; or a pattern that finds none. */
export interface FoundTable extends TableName {
  readonly state: 'chosen' | 'left out' | 'unmatched';
  /** Why it is left out. */
  readonly reason: string | null;
}

/** Which tables are meant by names and patterns, where * stands for any letters; all there are where nothing is asked for. */
export const listTables = (
  source: Database,
  asked: readonly TableName[],
  exclude: readonly TableName[],
): PromiseLike<FoundTable[]> =>
  runFile<FoundTable>(source, 'list_tables', [JSON.stringify(asked), JSON.stringify(exclude)]);

/** @throws UsageError for a zone that PostgreSQL does not know */
export async function assertTimeZone(source: Database, zone: string): Promise<void> {
  // Every server has it, and to list them takes reading a thousand files.
  if (zone === 'UTC') return;
  const found = await source`select from pg_timezone_names where name = ${zone}`;
  if (found.length === 0)
    throw new UsageError(`--time-zone is "${zone}", which is no time zone`, {
      hint: 'give a name from pg_timezone_names, in its own letters: UTC, Europe/Berlin',
    });
}
