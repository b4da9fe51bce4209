import { readFile } from 'node:fs/promises';
import type { ReservedSql } from 'postgres';
import { ensureOpen, onClose, type Database, type Transaction } from './database.js';

/** Does what a transaction is for. `passTurn` lets the next one in before the end, where there is a turn. */
type Work<T> = (transaction: Transaction, passTurn: () => Promise<void>) => Promise<T>;

/**
 * Runs `work` in a transaction and commits it. This is the one way to open one: the driver's own ends the process when the server ends the
 * session within it, and lets what is left of a dead transaction run inside another one.
 * @param options what follows "begin": isolation level and mode
 * @param turn a name: of all sessions that give it only one is inside at a time, and waits for that before its transaction begins
 * @throws what `work` throws, after the rollback; an error of code CONNECTION_CLOSED where the session ended
 */
export const inTransaction = <T>(database: Database, options: string, work: Work<T>, turn?: string): Promise<T> =>
  transact(database, options, 'commit', work, turn);

/** Runs `work` in a transaction, hands over what it returns, and rolls all of it back. */
export const rolledBack = <T>(database: Database, work: Work<T>): Promise<T> =>
  transact(database, 'isolation level read committed', 'rollback', work);

async function transact<T>(
  database: Database,
  options: string,
  end: 'commit' | 'rollback',
  work: Work<T>,
  turn?: string,
): Promise<T> {
  const session = await openSession(database);
  const { sql } = session;
  let hasTurn = false;
  const passTurn = async () => {
    if (!hasTurn) return;
    hasTurn = false;
    await sql`select pg_advisory_unlock(hashtextextended(${turn ?? ''}, 0))`;
  };
  try {
    if (turn !== undefined) {
      await sql`select pg_advisory_lock(hashtextextended(${turn}, 0))`;
      hasTurn = true;
    }
    await sql.unsafe(`begin ${options}`);
    const result = await work(sql, passTurn);
    const { command } = await sql.unsafe(end);
    // The server answers "commit" so where a statement had failed and nobody said it.
    if (end === 'commit' && command === 'ROLLBACK') throw new Error('a statement of the transaction had failed');
    return result;
  } catch (error) {
    // Where the session has ended nothing is left to roll back; one that does not is of no more use.
    await sql.unsafe('rollback').catch(() => (session.isOpen() ? database.end({ timeout: 0 }) : undefined));
    throw error;
  } finally {
    await passTurn().catch(() => undefined);
    session.release();
  }
}

/**
 * The database's connection for one transaction alone. When it closes, the driver would write what comes later to a socket that is gone,
 * which ends the process, or to the connection after it, inside of whatever runs there; and what waits for its turn it would forget. So what
 * comes later is refused here, and what waits is told.
 */
async function openSession(database: Database) {
  const session = await reserve(database);
  const waiting = new Set<Statement>();
  let fault: Error | undefined;
  const end = (reason: Error) => {
    fault ??= reason;
    for (const statement of waiting) refuse(statement, fault);
  };
  const forget = onClose(database, () => end(sessionEnded()));
  const whileOpen = (made: unknown): unknown => {
    // Else it is a name or a list of values, for a statement to be.
    if (isStatement(made)) {
      if (fault === undefined) keep(waiting, made);
      else refuse(made, fault);
    }
    return made;
  };
  const unsafe: Transaction['unsafe'] = (...given) => whileOpen(session.unsafe(...given)) as never;
  const members = new Map<string | symbol, unknown>([
    ['unsafe', unsafe],
    // The driver's own would go on with a connection that has closed while it read the file.
    ['file', async (file: string, values: never[] = []) => unsafe(await readFile(file, 'utf8'), values)],
  ]);
  const sql: Transaction = new Proxy(session, {
    apply: (target, self, given) => whileOpen(Reflect.apply(target, self, given)),
    get: (target, name): unknown => (members.has(name) ? members.get(name) : Reflect.get(target, name)),
  });
  const release = () => {
    forget();
    if (fault === undefined) session.release();
    end(new Error('the transaction has ended'));
  };
  return { sql, isOpen: () => fault === undefined, release };
}

const sessionEnded = (): Error =>
  Object.assign(new Error('the server ended the session'), { code: 'CONNECTION_CLOSED' });

/** The driver forgets who asks for a connection that cannot be made, or that closes first: so one is open by then, and its end is the answer. */
async function reserve(database: Database): Promise<ReservedSql<{ date: string }>> {
  await ensureOpen(database);
  return new Promise((resolve, reject) => {
    let isTooLate = false;
    const forget = onClose(database, () => {
      isTooLate = true;
      reject(sessionEnded());
    });
    const given = (session: ReservedSql<{ date: string }>) => {
      if (isTooLate) session.release();
      else resolve(session);
    };
    void database.reserve().then(given, reject).finally(forget);
  });
}

/** A statement, or a part of one, as the driver makes it: it is sent when somebody waits for it. */
type Statement = Promise<unknown> & { handler: () => void; readonly reject: (error: Error) => void };

const isStatement = (made: unknown): made is Statement => made instanceof Promise;

/** The promise's own `then`: the driver's would send the statement. */
const whenSettled = (statement: Statement, next: () => void): void => {
  void Promise.prototype.then.call(statement, next, next);
};

function keep(waiting: Set<Statement>, statement: Statement): void {
  waiting.add(statement);
  whenSettled(statement, () => waiting.delete(statement));
}

/** Fails a statement, and sees that it is not sent. */
function refuse(statement: Statement, fault: Error): void {
  // A part of a statement is awaited by nobody.
  whenSettled(statement, () => undefined);
  statement.handler = () => undefined;
  statement.reject(fault);
}
