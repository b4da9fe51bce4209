import type { Database } from '../base/database.js';
import { HeldError, TidemarkError, hasCode } from '../base/errors.js';
import type { DimensionMapping } from '../batch/mapping.js';
import type { BatchMetadata } from '../batch/metadata.js';

/** The replication slot and the publication at the source: what they are, and what the server says when they do not serve. */

export interface SlotState {
  readonly slot: string;
  readonly plugin: string;
  readonly database: string;
  /** The session that reads from it, now. */
  readonly active_pid: number | null;
  /** Nothing that was committed before is sent again. */
  readonly confirmed: string | null;
  /** reserved, extended, unreserved, or lost: the server has given up the log that it needs. */
  readonly wal_status: string | null;
  /** How much log, in bytes, the server keeps for it, how much was written since, and how much more may be before it is lost. */
  readonly retained_bytes: string | null;
  readonly unconfirmed_bytes: string | null;
  readonly safe_bytes: string | null;
  readonly has_two_phases: boolean;
}

/** undefined where there is no such slot. */
export async function readSlot(source: Database, slot: string): Promise<SlotState | undefined> {
  const [found] = await source<SlotState[]>`
    select s.slot_name as slot, s.plugin, s.database, s.active_pid, s.confirmed_flush_lsn::text as confirmed, s.wal_status,
      (pg_current_wal_lsn() - s.restart_lsn)::text as retained_bytes,
      (pg_current_wal_lsn() - s.confirmed_flush_lsn)::text as unconfirmed_bytes,
      s.safe_wal_size::text as safe_bytes, s.two_phase as has_two_phases
    from pg_replication_slots as s
    where s.slot_name = ${slot}`;
  return found;
}

const AGAIN = 'and hand each table over to it: npx tidemark table capture <name> log';

/** @throws TidemarkError that says what is wrong with a slot, and what to do */
export function assertServes(slot: string, state: SlotState | undefined, database: string): asserts state is SlotState {
  const detail = `slot=${slot}`;
  if (state === undefined)
    throw new TidemarkError(`the source has no replication slot ${slot}`, {
      detail,
      hint: `make it: npx tidemark stream setup --apply, ${AGAIN}`,
    });
  if (state.plugin !== 'pgoutput' || state.database !== database || state.has_two_phases)
    throw new TidemarkError(
      `the replication slot ${slot} is not one that Tidemark reads: plugin ${state.plugin}, database ${state.database}${state.has_two_phases ? ', two_phase' : ''}`,
      { detail, hint: 'set STREAM_SLOT to another name, then: npx tidemark stream setup --apply' },
    );
  if (state.wal_status === 'lost')
    throw new TidemarkError(`the replication slot ${slot} is lost: the server has given up the log that it needs`, {
      detail,
      hint: `changes since then come by comparison: npx tidemark stream drop, npx tidemark stream setup --apply, ${AGAIN}`,
    });
}

/**
 * The tables of a publication, each as schema.table and by its number, with the entry that makes it one of them: another entry was made anew.
 * @returns undefined where there is no such publication
 */
export async function publishedTables(source: Database, publication: string): Promise<Map<string, string> | undefined> {
  const rows = await source<{ name: string | null; oid: string; entry: string }[]>`
    select t.schemaname || '.' || t.tablename as name, c.oid::text as oid, coalesce(r.oid, n.oid, p.oid)::text as entry
    from pg_publication as p
    left join pg_publication_tables as t on t.pubname = p.pubname
    left join pg_namespace as s on s.nspname = t.schemaname
    left join pg_class as c on c.relnamespace = s.oid and c.relname = t.tablename
    left join pg_publication_rel as r on r.prpubid = p.oid and r.prrelid = c.oid
    left join pg_publication_namespace as n on n.pnpubid = p.oid and n.pnnspid = s.oid
    where p.pubname = ${publication}`;
  if (rows.length === 0) return undefined;
  return new Map(
    rows.flatMap(({ name, oid, entry }) => (name === null ? [] : [[name, entry] as const, [oid, entry] as const])),
  );
}

/** The entry of a table that is followed, under its name or another one: of that the log speaks when it comes to it. */
export const entryOf = (
  published: ReadonlyMap<string, string>,
  { source_schema, source_table }: DimensionMapping,
  { relation_oid }: BatchMetadata,
): string | undefined => published.get(`${source_schema}.${source_table}`) ?? published.get(String(relation_oid));

export const noPublication = (publication: string): TidemarkError =>
  new TidemarkError(`the source has no publication ${publication}`, {
    hint: `what was committed without it is not in the log: npx tidemark stream drop, npx tidemark stream setup --apply, ${AGAIN}`,
  });

/** What to do where the server refuses to send. Other errors pass through. */
export function explainStartError(error: unknown, slot: string, publication: string): unknown {
  if (!(error instanceof Error)) return error;
  const known = (message: string, hint: string) =>
    new TidemarkError(message, { detail: `slot=${slot}: ${error.message}`, hint, cause: error });
  if (hasCode(error, '55006'))
    return new HeldError(`another reader holds the replication slot ${slot}`, {
      detail: error.message,
      hint: 'let it finish, or stop it; of a reader that is gone the server notices within half a minute',
      cause: error,
    });
  if (hasCode(error, '42704')) return error.message.includes('publication') ? noPublication(publication) : error;
  if (hasCode(error, '42501'))
    return known(
      'the source does not let this user read its log',
      'as a superuser there: alter role <DB_USER> replication (on managed servers the role that they name for it)',
    );
  if (hasCode(error, '08P01') || error.message.includes('unsupported startup parameter'))
    return known(
      'what answers at the address of the source does not speak the replication protocol',
      'give DB_HOST and DB_PORT of the server itself, not of a pooler',
    );
  if (hasCode(error, '55000') && error.message.includes('wal_level'))
    return known('the source does not write what it takes to read its log', WAL_LEVEL);
  if (hasCode(error, '55000'))
    return known(
      `the replication slot ${slot} is lost`,
      `npx tidemark stream drop, npx tidemark stream setup --apply, ${AGAIN}`,
    );
  return error;
}

export const WAL_LEVEL = 'on the source: alter system set wal_level = logical, then restart the server';
