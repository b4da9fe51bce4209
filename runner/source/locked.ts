import type { Database } from '../base/database.js';
import { LockedError, hasCode } from '../base/errors.js';
import type { DatabaseSettings } from '../base/settings.js';
import type { DimensionMapping } from '../batch/mapping.js';
import { runFile } from './file.js';

/** Settings of sessions that go from table to table: none of them waits longer than a second for a lock, so that it is known who holds it. */
export const impatient = (source: DatabaseSettings): DatabaseSettings => ({
  ...source,
  limits: { ...source.limits, lock_seconds: 1 },
});

/** A row of sql/source/who_locks.sql. */
interface Locked {
  readonly relation: string;
  readonly holder: string;
  readonly waiting: string | null;
  readonly query: string | null;
  readonly remedy: string;
}

/**
 * Does work that reads a table of the source.
 * @throws LockedError that says who holds the lock which the work waited for in vain; what `work` throws, where nobody holds it any more
 */
export async function unlessLocked<T>(
  source: Database,
  { dimension_name: table, source_schema, source_table }: DimensionMapping,
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!hasCode(error, '55P03')) throw error;
    const [locked] = await runFile<Locked>(source, 'who_locks', [source_schema, source_table]);
    if (locked === undefined) throw error;
    const { relation, holder, waiting, query, remedy } = locked;
    throw new LockedError(
      waiting === null
        ? `${relation} is locked by ${holder}`
        : `${relation} is about to be locked by ${waiting}, which waits for ${holder}`,
      {
        detail: `table=${table}${query === null ? '' : ` query=${query}`}`,
        hint: `it is read as soon as it is free: see what holds it up there, or end it: ${remedy}`,
        cause: error,
      },
    );
  }
}
