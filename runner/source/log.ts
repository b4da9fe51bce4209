import type { Database } from '../base/database.js';
import { TidemarkError } from '../base/errors.js';
import type { DimensionMapping } from '../batch/mapping.js';
import { one, runFile } from './file.js';
import type { Columns } from './table.js';

/** What is asked of a source about its log. */

export const WAL_LEVEL = 'on the source: alter system set wal_level = logical, then restart the server';

/** Whether the source writes a log from which changes can be read. */
export async function writesLog(source: Database): Promise<boolean> {
  const found = await source`select where current_setting('wal_level') = 'logical' and not pg_is_in_recovery()`;
  return found.length > 0;
}

/** A row of sql/source/read_slot.sql. */
export interface SlotState {
  readonly slot: string;
  readonly plugin: string;
  readonly database: string;
  /** The session that reads from it, now. */
  readonly active_pid: number | null;
  readonly held_by: string | null;
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
  /** False where a kind of change is left out. */
  readonly is_whole: boolean;
  /** Tables of which some rows or columns alone are sent. */
  readonly narrow: ReadonlySet<string>;
}

/** undefined where there is no such publication. */
export async function readPublication(source: Database, publication: string): Promise<Publication | undefined> {
  const rows = await runFile<
    { name: string | null; oid: string; entry: string; is_narrow: boolean } & Pick<
      Publication,
      'is_via_root' | 'is_whole'
    >
  >(source, 'read_publication', [publication]);
  const [first] = rows;
  if (first === undefined) return undefined;
  const tables = rows.filter((row): row is typeof row & { name: string } => row.name !== null);
  return {
    entries: new Map(tables.map(({ name, entry }) => [name, entry])),
    byOid: new Map(tables.map(({ oid, entry }) => [oid, entry])),
    is_via_root: first.is_via_root,
    is_whole: first.is_whole,
    narrow: new Set(tables.filter(({ is_narrow }) => is_narrow).map(({ name }) => name)),
  };
}

/** A row of sql/source/describe_publication.sql. */
interface PublishableTable {
  readonly name: string;
  readonly only: string;
  readonly fault: keyof typeof FAULTS | null;
  readonly remedy: string | null;
}

const FAULTS = {
  missing: 'does not exist',
  kind: 'is no table, so that the log does not know it',
  unlogged: 'is not in the log, because it is unlogged or temporary',
  taken: 'has a column called unchanged or unchanged_of, names that lines of the log use for themselves',
  generated: 'has generated columns among those that are captured, which the log does not hold',
  apart:
    'may have two rows of one business key at a time, which the log does not tell apart: no constraint forbids it at every moment, as one does that is not deferrable',
  identity: 'has no replica identity: once it is published, updates and deletes of the application would fail',
  key: 'has a replica identity without its business key, so that the log does not say which row was deleted',
};

/**
 * An update or delete of a table that is published without a replica identity fails, in the application.
 * @returns the tables, each as people and as a publication name it
 * @throws TidemarkError about the first that cannot be published, or must not
 */
export async function assertPublishable(
  source: Database,
  mappings: readonly (Pick<DimensionMapping, 'source_schema' | 'source_table'> & {
    readonly columns: readonly { readonly source: string; readonly role: string }[];
  })[],
): Promise<PublishableTable[]> {
  const wanted = mappings.map(({ source_schema: schema, source_table: name, columns }) => ({
    ...{ schema, name },
    keys: columns.filter(({ role }) => role === 'business key').map(({ source: key }) => key),
    columns: columns.map(({ source: column }) => column),
  }));
  const tables = await runFile<PublishableTable>(source, 'describe_publication', [JSON.stringify(wanted)]);
  for (const { name, fault, remedy } of tables)
    if (fault !== null)
      throw new TidemarkError(`source table ${name} ${FAULTS[fault]}`, {
        hint: remedy === null ? 'leave it to polling' : `on the source: ${remedy}; or leave it to polling`,
      });
  return tables;
}

/** A row of sql/source/name_types.sql. */
type NamedTypes = Pick<Columns, 'columns_fingerprint' | 'column_types'> & { readonly may_be_unreadable: boolean };

/** The types as SQL names them, and their imprint. @param columns numbers of types and modifiers, as the log has them */
export const nameTypes = async (source: Database, columns: readonly object[]): Promise<NamedTypes> =>
  one(await runFile<NamedTypes>(source, 'name_types', [JSON.stringify(columns)]));
