import type { Database } from '../base/database.js';
import type { DimensionMapping } from '../batch/mapping.js';
import { one, runFile } from './file.js';
import type { Columns } from './table.js';

/** What is asked of a source about its log. */

/** A row of sql/source/read_slot.sql. */
export interface SlotState {
  readonly slot: string;
  readonly plugin: string;
  readonly database: string;
  /** The session that reads from it, now. */
  readonly active_pid: number | null;
  /** Nothing that was committed before is sent again. */
  readonly confirmed: string | null;
  /** lost: the server has given up the log that it needs. */
  readonly wal_status: string | null;
  readonly retained_bytes: string | null;
  readonly unconfirmed_bytes: string | null;
  readonly safe_bytes: string | null;
  readonly has_two_phases: boolean;
  readonly encoding: 'UTF8' | 'SQL_ASCII';
}

/** undefined where there is no such slot. */
export const readSlot = async (source: Database, slot: string): Promise<SlotState | undefined> =>
  (await runFile<SlotState>(source, 'read_slot', [slot]))[0];

export interface Publication {
  /** The entry of each table, by schema.table. */
  readonly entries: ReadonlyMap<string, string>;
  /** The same by the number of the table, which a rename leaves alone. */
  readonly byOid: ReadonlyMap<string, string>;
  readonly is_via_root: boolean;
}

/** undefined where there is no such publication. */
export async function readPublication(source: Database, publication: string): Promise<Publication | undefined> {
  const rows = await runFile<{ name: string | null; oid: string; entry: string; is_via_root: boolean }>(
    source,
    'read_publication',
    [publication],
  );
  const [first] = rows;
  if (first === undefined) return undefined;
  const tables = rows.filter((row): row is typeof row & { name: string } => row.name !== null);
  return {
    entries: new Map(tables.map(({ name, entry }) => [name, entry])),
    byOid: new Map(tables.map(({ oid, entry }) => [oid, entry])),
    is_via_root: first.is_via_root,
  };
}

/** A row of sql/source/describe_publication.sql. */
export interface PublishableTable {
  readonly name: string;
  readonly only: string;
  readonly fault: 'missing' | 'kind' | 'unlogged' | 'identity' | 'key' | null;
  readonly remedy: string | null;
}

/** Whether these tables can be published. */
export const describePublication = (
  source: Database,
  mappings: readonly DimensionMapping[],
): PromiseLike<PublishableTable[]> => {
  const wanted = mappings.map(({ source_schema: schema, source_table: name, columns }) => ({
    ...{ schema, name },
    keys: columns.filter(({ role }) => role === 'business key').map(({ source: key }) => key),
  }));
  return runFile<PublishableTable>(source, 'describe_publication', [JSON.stringify(wanted)]);
};

/** A row of sql/source/name_types.sql. */
type NamedTypes = Pick<Columns, 'columns_fingerprint' | 'column_types'> & { readonly may_be_unreadable: boolean };

/** The types as SQL names them, and their imprint. @param columns numbers of types and modifiers, as the log has them */
export const nameTypes = async (source: Database, columns: readonly object[]): Promise<NamedTypes> =>
  one(await runFile<NamedTypes>(source, 'name_types', [JSON.stringify(columns)]));
