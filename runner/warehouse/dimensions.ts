import type { Database } from '../base/database.js';
import type { Texts } from './call.js';

/** A type that both ends may have. */
type TypeName = Texts<'type_schema' | 'type_name'>;

/** Which of these types the warehouse has too, and the labels of those that are enums. */
export async function typesThere(
  warehouse: Database,
  wanted: readonly TypeName[],
): Promise<(TypeName & { labels: string[] | null })[]> {
  return warehouse`
    select n.nspname as type_schema, t.typname as type_name,
      (select array_agg(e.enumlabel order by e.enumsortorder) from pg_enum as e where e.enumtypid = t.oid) as labels
    from json_to_recordset(${JSON.stringify(wanted)}::text::json) as w (type_schema text, type_name text)
    join pg_namespace as n on n.nspname = w.type_schema
    join pg_type as t on t.typnamespace = n.oid and t.typname = w.type_name
    group by n.nspname, t.typname, t.oid`;
}

/** Which of these relations the warehouse has already. */
export async function relationsThere(warehouse: Database, names: readonly string[]): Promise<string[]> {
  const rows =
    await warehouse`select name from unnest(${[...names]}::text[]) as n (name) where to_regclass(name) is not null`;
  return rows.map(({ name }) => String(name));
}
