import { setTimeout as sleep } from 'node:timers/promises';
import type { Database, Transaction } from '../base/database.js';
import { TidemarkError } from '../base/errors.js';
import { logger } from '../base/logger.js';
import type { Forks, Lsn } from '../base/replication.js';
import type { BatchMetadata } from '../batch/metadata.js';
import { one, runFile } from './file.js';

/** Which database the source is. Another identity means a restored or failed-over server, or another database. */
export type SourceIdentity = Pick<BatchMetadata, 'system_identifier' | 'database_oid' | 'timeline'>;

/** Where the source writes its log now: the commit records of what is committed later lie behind it. */
export async function readInsertPosition(source: Transaction): Promise<string> {
  return one(await source<{ position: string }[]>`select pg_current_wal_insert_lsn()::text as position`).position;
}

/** Reads the identity of the source server; the timeline is null on a standby. */
export async function readIdentity(source: Database): Promise<SourceIdentity> {
  const rows = await source<SourceIdentity[]>`
    select system_identifier::text as system_identifier,
      (select d.oid::text from pg_database as d where d.datname = current_database()) as database_oid,
      case when not pg_is_in_recovery()
        then ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer end as timeline
    from pg_control_system()`;
  return one(rows);
}

/** Whether a change log goes on with this database: a restored or failed-over server is another one. */
export function isSameServer(identity: SourceIdentity, newest: SourceIdentity): boolean {
  const sameTimeline = newest.timeline === null || identity.timeline === null || newest.timeline === identity.timeline;
  return (
    newest.system_identifier === identity.system_identifier &&
    newest.database_oid === identity.database_oid &&
    sameTimeline
  );
}

/** Up to where the log of another server is that of this one: all of it where it is the same; none where this was not promoted from it. */
export function sharedUpTo(identity: SourceIdentity, forks: Forks, earlier: SourceIdentity): Lsn {
  if (isSameServer(identity, earlier)) return LAST;
  const isOfOne = isSameServer({ ...identity, timeline: null }, earlier);
  return isOfOne ? (forks.get(earlier.timeline ?? 0) ?? 0n) : 0n;
}

const LAST: Lsn = 2n ** 64n - 1n;

/** The ledger alone is no proof: it also exists where the demo's first migration failed on a table of somebody else's. */
export async function requireDemoSource(source: Database): Promise<void> {
  const [ledger] = await source`select to_regclass('public.tidemark_demo_migrations') is not null as is_there`;
  if (ledger?.is_there === true) {
    const made = await source`select 1 from public.tidemark_demo_migrations where name = '0001_create_orders'`;
    if (made.length > 0) return;
  }
  const { host, port, database } = source.options;
  throw new TidemarkError('the source database is not the demo', {
    detail: `${database} on ${host.join(', ')}:${port.join(', ')} has no orders table that Tidemark made`,
    hint: 'run: npx tidemark demo (it makes the demo source; simulate writes to no other database)',
  });
}

const LOOK_MS = 100;

/**
 * Waits until every transaction that is open now has ended, and says for whom: only then is all visible whose commit record lies before a place
 * that was reached.
 */
export async function awaitOpenTransactions(source: Database, table: string, signal?: AbortSignal): Promise<void> {
  // A number of its own, greater than theirs: a snapshot may end before that of the newest one, as if it were still to come.
  const [own] = await source<{ xid: string }[]>`select pg_current_xact_id()::text as xid`;
  for (let said = ''; ; await sleep(LOOK_MS, undefined, { signal })) {
    const open = await runFile<{ who: string }>(source, 'await_transactions', [own?.xid ?? null]);
    if (open.length === 0) return;
    const who = open.map((each) => each.who);
    if (said !== who.join())
      logger.info({ table, transactions: who }, 'waiting for the transactions that are open to end');
    said = who.join();
  }
}

const PAUSE_MS = 5;

/**
 * Waits until what was read survives a crash of the source: its WAL is flushed as far as it was inserted when this was called, or three
 * times wal_writer_delay has passed, within which PostgreSQL flushes commits that did not wait for it (synchronous_commit = off).
 * A standby has only what its primary flushed.
 * @returns a transaction number (decimal): what all older ones wrote is safe now
 */
export async function awaitFlush(source: Transaction): Promise<string> {
  const rows = await source<{ inserted: string | null; safe_before: string; longest_ms: number }[]>`
    select
      case when not pg_is_in_recovery() then pg_current_wal_insert_lsn()::text end as inserted,
      pg_snapshot_xmin(pg_current_snapshot())::text as safe_before,
      3 * extract(epoch from current_setting('wal_writer_delay')::interval)::float8 * 1000 as longest_ms`;
  const { inserted, safe_before, longest_ms } = one(rows);
  const deadline = performance.now() + longest_ms;
  while (inserted !== null && performance.now() < deadline && !(await isFlushed(source, inserted)))
    await sleep(PAUSE_MS);
  return safe_before;
}

async function isFlushed(source: Transaction, position: string): Promise<boolean> {
  const [row] = await source`select pg_current_wal_flush_lsn() >= ${position}::pg_lsn as is_flushed`;
  return row?.is_flushed === true;
}
