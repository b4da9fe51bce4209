import path from 'node:path';
import { z } from 'zod';
import { PROJECT_ROOT } from '../base/settings.js';
import type { Database } from '../base/database.js';
import { inTransaction } from '../base/transaction.js';
import { TidemarkError, UsageError } from '../base/errors.js';

/** A name of a table as a user gives it, taken apart. */
export interface TableName {
  readonly schema: string;
  readonly table: string;
}

const columnSchema = z.object({
  name: z.string(),
  /** The type as it was declared, a domain for instance. */
  declared: z.string(),
  /** The type that history can hold, with its modifier: a domain is looked through. Types outside pg_catalog carry their schema. */
  type: z.string(),
  /** pg_type.typtype of it, or of its element: b base, e enum, c composite, r range, m multirange; "nested" for what has no such type. */
  kind: z.string(),
  type_schema: z.string(),
  type_name: z.string(),
  labels: z.array(z.string()).nullable(),
  is_not_null: z.boolean(),
  is_generated: z.boolean(),
  /** False where its collation takes texts for equal that are not the same. */
  is_deterministic: z.boolean(),
  comment: z.string().nullable(),
});
export type CatalogColumn = z.infer<typeof columnSchema>;

const keySchema = z.object({ is_primary: z.boolean(), columns: z.array(z.string()) });
export type UniqueKey = z.infer<typeof keySchema>;

/** A source table as its catalog describes it. */
export interface CatalogTable extends TableName {
  /** pg_class.relkind: r table, p partitioned, v view, m materialized view, f foreign table. */
  readonly kind: string;
  readonly comment: string | null;
  /** Other tables inherit from it; their rows are read with its own, and no key holds for all of them. */
  readonly has_heirs: boolean;
  readonly columns: readonly CatalogColumn[];
  /** Unique over plain columns, of the whole table; the primary key first. */
  readonly unique_keys: readonly UniqueKey[];
  /** Words that a name must be quoted for. */
  readonly keywords: readonly string[];
}

interface CatalogRow {
  readonly table_schema: string;
  readonly table_name: string;
  readonly relation_kind: string;
  readonly table_comment: string | null;
  readonly has_heirs: boolean;
  readonly table_columns: string;
  readonly unique_keys: string;
  readonly keywords: readonly string[];
}

const READ_TABLE = path.join(PROJECT_ROOT, 'sql', 'source', 'read_table.sql');
const NAME_PART = /^(?:"((?:[^"]|"")+)"|([^."]+))$/;

/**
 * Takes a table's name apart: schema.table, or table in schema public. Double quotes as in SQL, needed only where a part holds a dot;
 * without them a name is taken as it is written, capital letters too.
 * @throws UsageError for anything else
 */
export function parseTableName(name: string): TableName {
  const parts = (name.match(/"(?:[^"]|"")*"|[^."]+|\./g) ?? []).filter((part) => part !== '.');
  const names = parts.map((part) => {
    const [, quoted, plain] = NAME_PART.exec(part) ?? [];
    return quoted?.replaceAll('""', '"') ?? plain;
  });
  const [first, second] = names;
  const isWhole = parts.join('.') === name && names.length <= 2;
  if (!isWhole || first === undefined || (names.length === 2 && second === undefined))
    throw new UsageError(`"${name}" is not the name of a table`, {
      hint: 'give it as schema.table, and in double quotes a part that holds a dot: \'public."order.items"\'',
    });
  return second === undefined ? { schema: 'public', table: first } : { schema: first, table: second };
}

/** The name as people write it: schema.table. */
export const shownName = ({ schema, table }: TableName): string => `${schema}.${table}`;

/**
 * Reads what a source table is from the catalog.
 * @throws TidemarkError if there is no such table, naming those that are called alike
 */
export async function readTable(source: Database, name: TableName): Promise<CatalogTable> {
  const row = await inTransaction(source, 'read only', async (transaction) => {
    await transaction`set local search_path = pg_catalog`;
    const [found] = await transaction.file<CatalogRow[]>(READ_TABLE, [name.schema, name.table]);
    return found;
  });
  if (row === undefined) throw await missingTable(source, name);
  return {
    schema: row.table_schema,
    table: row.table_name,
    kind: row.relation_kind,
    comment: row.table_comment,
    has_heirs: row.has_heirs,
    columns: columnSchema.array().parse(JSON.parse(row.table_columns)),
    unique_keys: keySchema.array().parse(JSON.parse(row.unique_keys)),
    keywords: row.keywords,
  };
}

/** @throws UsageError for a zone that PostgreSQL does not know */
export async function assertTimeZone(source: Database, zone: string): Promise<void> {
  const found = await source`select from pg_timezone_names where name = ${zone}`;
  if (found.length === 0)
    throw new UsageError(`--time-zone is "${zone}", which is no time zone`, {
      hint: 'give a name from pg_timezone_names, in its own letters: UTC, Europe/Berlin',
    });
}

async function missingTable(source: Database, name: TableName): Promise<TidemarkError> {
  const alike = await source<TableName[]>`
    select n.nspname as schema, c.relname as table
    from pg_class as c
    join pg_namespace as n on n.oid = c.relnamespace
    where lower(c.relname) = lower(${name.table}) and c.relkind in ('r', 'p', 'v', 'm', 'f')
      and n.nspname not in ('pg_catalog', 'information_schema')
    order by 1, 2 limit 5`;
  return new TidemarkError(`source table ${shownName(name)} does not exist`, {
    hint:
      alike.length > 0
        ? `there is: ${alike.map(shownName).join(', ')}`
        : 'see that DB_NAME is right, and that DB_USER may use the schema',
  });
}
