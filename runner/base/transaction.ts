import { closesOf, isAway, type Database, type Session, type Transaction } from './database.js';

/** Thrown through a transaction that must not be committed. */
class RolledBack extends Error {}

/** Runs `work` in a transaction, hands over what it returns, and rolls all of it back. */
export async function rolledBack<T>(database: Database, work: (transaction: Transaction) => Promise<T>): Promise<T> {
  const kept: { result?: T } = {};
  await database
    .begin('isolation level read committed', async (transaction) => {
      kept.result = await work(transaction);
      throw new RolledBack();
    })
    .catch((error: unknown) => {
      if (!(error instanceof RolledBack)) throw error;
    });
  return kept.result as T;
}

/**
 * Runs `work` in a transaction. Unlike the driver's own, it leaves a connection alone that was cut: to say "rollback" there would end the process.
 * @param options what follows "begin": isolation level and mode
 */
export async function inTransaction<T>(
  database: Database,
  options: string,
  work: (session: Session) => Promise<T>,
): Promise<T> {
  const session = whileOpen(database, await database.reserve());
  try {
    await session.unsafe(`begin ${options}`);
    const result = await work(session);
    await session.unsafe('commit');
    session.release();
    return result;
  } catch (error) {
    if (isAway(error)) throw error;
    await session.unsafe('rollback');
    session.release();
    throw error;
  }
}

/**
 * The session, for as long as its connection is there: the driver would write to the socket that is gone, which ends the process. It is told by
 * the closes of its database, which has one connection.
 */
function whileOpen(database: Database, session: Session): Session {
  const closes = closesOf(database);
  const rejecting = <T>(call: () => T): T | Promise<never> => {
    if (closesOf(database) === closes) return call();
    const refused = Promise.reject(
      Object.assign(new Error('the connection was closed'), { code: 'CONNECTION_CLOSED' }),
    );
    // A fragment of a statement is awaited by nobody.
    refused.catch(() => undefined);
    return refused;
  };
  return new Proxy(session, {
    apply: (target, self, given) => rejecting(() => Reflect.apply(target, self, given) as unknown),
    get: (target, name) => {
      const member: unknown = Reflect.get(target, name);
      return name === 'unsafe' || name === 'file'
        ? (...given: unknown[]) => rejecting(() => (member as (...all: unknown[]) => unknown).apply(target, given))
        : member;
    },
  });
}

/** The right to go on, which one session has at a time. */
export interface Turn {
  /** Lets the next one in. */
  readonly pass: (session: Session) => Promise<void>;
  /** The same, where the work did not get as far. */
  readonly end: () => Promise<void>;
}

/** Waits until it is this session's turn, among all that ask for one of that name. A session that ends gives it back. */
export async function takeTurn(database: Database, name: string): Promise<Turn> {
  let isHeld = true;
  const giveBack = async (session: Database | Session) => {
    if (!isHeld) return;
    isHeld = false;
    await session`select pg_advisory_unlock(hashtextextended(${name}, 0))`;
  };
  await database`select pg_advisory_lock(hashtextextended(${name}, 0))`;
  return { pass: giveBack, end: () => giveBack(database).catch(() => undefined) };
}
