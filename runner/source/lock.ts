import { setTimeout as sleep } from 'node:timers/promises';
import type { Database } from '../base/database.js';
import { chainName } from '../batch/shard.js';

/**
 * Takes the courtesy lock that keeps two extractors of one table or shard apart; it ends with the session. Shards share the table, and
 * who extracts it whole, or repairs it, waits for all of them.
 * The fence that really protects the change log is the link of the checkpoint.
 * @returns undefined if it was taken, else who holds it
 */
export async function lockExtraction(source: Database, table: string, shard = ''): Promise<string | undefined> {
  if (shard === '') return tryLock(source, table, false);
  const holder = await tryLock(source, table, true);
  if (holder !== undefined) return holder;
  const rival = await tryLock(source, chainName(table, shard), false);
  if (rival !== undefined) await giveBack(source, table, true);
  return rival;
}

const LONGEST_WAIT_MS = 3_000;
const PAUSE_MS = 100;

/** The same for an extractor, which waits a moment: a reconciler polls before it compares, and gives the lock back soon. */
export async function awaitExtraction(source: Database, table: string, shard: string): Promise<string | undefined> {
  for (const deadline = performance.now() + LONGEST_WAIT_MS; ; ) {
    const holder = await lockExtraction(source, table, shard);
    if (holder === undefined || performance.now() > deadline) return holder;
    await sleep(PAUSE_MS);
  }
}

/** Gives the courtesy lock back; harmless where the session has already ended. */
export async function unlockExtraction(source: Database, table: string, shard = ''): Promise<void> {
  if (shard !== '') await giveBack(source, chainName(table, shard), false);
  await giveBack(source, table, shard !== '');
}

async function tryLock(source: Database, name: string, isShared: boolean): Promise<string | undefined> {
  const key = `tidemark.extract ${name}`;
  const [taken] = await source<{ locked: boolean }[]>`
    select case when ${isShared} then pg_try_advisory_lock_shared(hashtextextended(${key}, 0))
      else pg_try_advisory_lock(hashtextextended(${key}, 0)) end as locked`;
  if (taken?.locked === true) return undefined;
  const [holder] = await source<{ holder: string }[]>`
    select format('process %s (%s) since %s', a.pid, a.application_name, to_char(a.backend_start, 'YYYY-MM-DD HH24:MI:SS TZ')) as holder
    from pg_locks as l
    join pg_stat_activity as a on a.pid = l.pid
    where l.locktype = 'advisory' and l.granted
      and l.classid::bigint << 32 | l.objid::bigint = hashtextextended(${key}, 0)`;
  return holder?.holder ?? 'another session';
}

async function giveBack(source: Database, name: string, isShared: boolean): Promise<void> {
  const key = `tidemark.extract ${name}`;
  await source`
    select case when ${isShared} then pg_advisory_unlock_shared(hashtextextended(${key}, 0))
      else pg_advisory_unlock(hashtextextended(${key}, 0)) end`.catch(() => undefined);
}
