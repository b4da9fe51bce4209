import { isAway, type Database } from './database.js';

/**
 * Takes an advisory lock, alone or shared with others who share it; it ends with the session.
 * @returns undefined if it was taken, else who holds it
 */
export async function tryLock(database: Database, name: string, isShared = false): Promise<string | undefined> {
  const [row] = await database<{ holder: string | null }[]>`
    select case
      when ${isShared} and pg_try_advisory_lock_shared(k.key) or not ${isShared} and pg_try_advisory_lock(k.key) then null
      else coalesce((
        select format('process %s (%s) since %s', a.pid, a.application_name, to_char(a.backend_start, 'YYYY-MM-DD HH24:MI:SS TZ'))
        from pg_locks as l
        join pg_stat_activity as a on a.pid = l.pid
        where l.locktype = 'advisory' and l.granted and l.classid::bigint << 32 | l.objid::bigint = k.key
        limit 1
      ), 'another session') end as holder
    from (select hashtextextended(${name}, 0) as key) as k`;
  return row?.holder ?? undefined;
}

/** Gives the lock back; harmless where the session has already ended. */
export async function unlock(database: Database, name: string, isShared = false): Promise<void> {
  await database`
    select case when ${isShared} then pg_advisory_unlock_shared(k.key) else pg_advisory_unlock(k.key) end
    from (select hashtextextended(${name}, 0) as key) as k`.catch(() => undefined);
}

/** Gives a lock back when `work` has ended. A session that was cut has done so, and takes no more statements. */
export async function whileLocked<T>(giveBack: () => Promise<void>, work: () => Promise<T>): Promise<T> {
  const result = await work().catch(async (error: unknown) => {
    if (!isAway(error)) await giveBack();
    throw error;
  });
  await giveBack();
  return result;
}
