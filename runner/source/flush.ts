import { setTimeout as sleep } from 'node:timers/promises';
import type { Database } from '../base/database.js';
import { TidemarkError } from '../base/errors.js';

const PAUSE_MS = 5;

/**
 * Waits until what was read survives a crash of the source: its WAL is flushed as far as it was inserted when this was called, or three
 * times wal_writer_delay has passed, within which PostgreSQL flushes commits that did not wait for it (synchronous_commit = off).
 * A standby has only what its primary flushed.
 * @returns a transaction number (decimal): what all older ones wrote is safe now
 */
export async function awaitFlush(source: Database): Promise<string> {
  const [start] = await source<{ inserted: string | null; safe_before: string; patience_ms: number }[]>`
    select
      case when not pg_is_in_recovery() then pg_current_wal_insert_lsn()::text end as inserted,
      pg_snapshot_xmin(pg_current_snapshot())::text as safe_before,
      3 * extract(epoch from current_setting('wal_writer_delay')::interval)::float8 * 1000 as patience_ms`;
  if (start === undefined) throw new TidemarkError('the source answered without a row');
  const { inserted, safe_before, patience_ms } = start;
  const deadline = performance.now() + patience_ms;
  while (inserted !== null && performance.now() < deadline && !(await isFlushed(source, inserted))) await sleep(PAUSE_MS);
  return safe_before;
}

async function isFlushed(source: Database, position: string): Promise<boolean> {
  const [row] = await source<{ is_flushed: boolean }[]>`select pg_current_wal_flush_lsn() >= ${position}::pg_lsn as is_flushed`;
  return row?.is_flushed === true;
}
