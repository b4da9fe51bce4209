import { readFile } from 'node:fs/promises';
import path from 'node:path';
import type { Database, Transaction } from './database.js';
import { LockedError, hasCode } from './errors.js';
import { PACKAGE_ROOT } from './settings.js';

/** A row of sql/any/who_locks.sql. */
type Locked = Readonly<Record<'relation' | 'holder' | 'remedy', string> & Record<'waiting' | 'query', string | null>>;

/** A table of a database, as SQL names it, and what is to be done with it. */
export interface TableUse {
  /** What messages call it. */
  readonly table: string;
  readonly relation: string;
  readonly use: 'read' | 'write';
}

let question: Promise<string> | undefined;

/**
 * Waits for nothing, and so says nothing of the moment after.
 * @throws LockedError that says who keeps the table from being read or written to
 */
export async function assertUnlocked(database: Database | Transaction, of: TableUse): Promise<void> {
  question ??= readFile(path.join(PACKAGE_ROOT, 'sql', 'any', 'who_locks.sql'), 'utf8');
  const [locked] = await database.unsafe<Locked[]>(await question, [of.relation, of.use], { prepare: true });
  if (locked === undefined) return;
  const { relation, holder, waiting, query, remedy } = locked;
  throw new LockedError(
    waiting === null
      ? `${relation} is locked by ${holder}`
      : `${relation} is about to be locked by ${waiting}, which waits for ${holder}`,
    {
      detail: `table=${of.table}${query === null ? '' : ` query=${query}`}`,
      hint: `it goes on as soon as that lock is given back: see what holds it up there, or end it: ${remedy}`,
    },
  );
}

/** Does work with a table. @throws LockedError where it waited too long for a lock that somebody still holds; what `work` throws */
export const unlessLocked = <T>(database: Database, of: TableUse, work: () => Promise<T>): Promise<T> =>
  work().catch(async (error: unknown) => {
    if (hasCode(error, '55P03')) await assertUnlocked(database, of);
    throw error;
  });
