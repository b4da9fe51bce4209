import { withDatabase, type Transaction } from '../base/database.js';
import { inTransaction } from '../base/transaction.js';
import type { Settings } from '../base/settings.js';
import { readingRole } from '../warehouse/browse.js';
import { type Warehouse } from '../warehouse/functions.js';
import { TURNS } from './html.js';

/** How long a statement of a page may take, in seconds. */
export const STATEMENT_SECONDS = 4;
const MOST_AT_ONCE = 4;

export interface Session {
  readonly warehouse: Warehouse;
  /** Who reads; `isOwn`: it is nobody's that only reads, but who the settings name for everything. */
  readonly reader: { readonly role: string; readonly isOwn: boolean };
  /** Whether what is read goes to others than the reader: then what is masked is not shown, whatever that one may read. */
  readonly isForOthers?: boolean;
  /** What was asked so far, to be pasted into psql. */
  readonly statements: readonly string[];
}

/**
 * Does `work` in one transaction that cannot write, as CONSOLE_DB_USER, or else as the analyst's role of "tidemark grants" where there is one that
 * the configured user may take. At most four at once; the others wait.
 */
export async function reading<T>(settings: Settings, work: (session: Session) => Promise<T>): Promise<T> {
  const end = settings.console ?? settings.warehouse;
  const limits = { ...end.limits, statement_seconds: STATEMENT_SECONDS };
  return inLine(() =>
    withDatabase(
      { ...end, limits },
      'console',
      (database) =>
        inTransaction(database, 'isolation level repeatable read read only', async (transaction) => {
          const role = settings.console === undefined ? await readingRole(transaction) : null;
          if (role !== null) await transaction`set local role ${transaction(role)}`;
          const reader = { role: role ?? end.user, isOwn: role === null && settings.console === undefined };
          const statements: string[] = [];
          return work({ warehouse: recorded(transaction, statements), reader, statements });
        }),
      STATEMENT_SECONDS,
    ),
  );
}

/** The transaction, with a note of every call: how functions.ts makes them is "unsafe" with a text and its parameters. */
function recorded(transaction: Transaction, statements: string[]): Warehouse {
  return new Proxy(transaction, {
    get: (target, name): unknown => {
      if (name !== 'unsafe') return Reflect.get(target, name);
      const unsafe: Transaction['unsafe'] = (text, values = [], options) => {
        statements.push(`${text.replaceAll(/\$(\d)/g, (_, place: string) => literal(values[Number(place) - 1]))};`);
        return target.unsafe(text, values, options);
      };
      return unsafe;
    },
  });
}

const literal = (given: unknown): string => {
  if (given === null || given === undefined) return 'null';
  if (Array.isArray(given)) return `array[${given.map(literal).join(', ')}]`;
  if (typeof given !== 'string') return JSON.stringify(given);
  const quoted = `'${given.replaceAll("'", "''")}'`;
  if (given.search(TURNS) < 0) return quoted;
  const hex = (mark: string) => `\\${mark.charCodeAt(0).toString(16).padStart(4, '0')}`;
  return `U&${quoted.replaceAll('\\', '\\\\').replaceAll(TURNS, hex)}`;
};

let atWork = 0;
const waiting: (() => void)[] = [];

async function inLine<T>(work: () => Promise<T>): Promise<T> {
  if (atWork >= MOST_AT_ONCE) await new Promise<void>((resolve) => waiting.push(resolve));
  atWork += 1;
  try {
    return await work();
  } finally {
    atWork -= 1;
    waiting.shift()?.();
  }
}
