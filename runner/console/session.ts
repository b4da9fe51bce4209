import { withDatabase, type Database, type Transaction } from '../base/database.js';
import { inTransaction, rolledBack } from '../base/transaction.js';
import type { Settings } from '../base/settings.js';
import { actingRole, readingRole } from '../warehouse/browse.js';
import { type Warehouse } from '../warehouse/functions.js';
import { TURNS } from './html.js';

/** How long a statement of a page may take, and one of an action, in seconds. */
export const STATEMENT_SECONDS = 4;
export const ACTION_SECONDS = 30;

export interface Session {
  readonly warehouse: Warehouse;
  /** Who reads; `isOwn`: it is nobody's that only reads, but who the settings name for everything. */
  readonly reader: { readonly role: string; readonly isOwn: boolean };
  /** Whether what is read goes to others than the reader: then what is masked is not shown, whatever that one may read. */
  readonly isForOthers?: boolean;
  /** What was asked so far, to be pasted into psql. */
  readonly statements: string[];
}

/** What lets in so many at once; the others wait. A page that tries an action stands in both lines, in this order. */
const line = (most: number) => {
  let atWork = 0;
  const waiting: (() => void)[] = [];
  return async <T>(work: () => Promise<T>): Promise<T> => {
    if (atWork >= most) await new Promise<void>((resolve) => waiting.push(resolve));
    atWork += 1;
    try {
      return await work();
    } finally {
      atWork -= 1;
      waiting.shift()?.();
    }
  };
};

/** By whom: whom the settings name for it, else the role for it of "tidemark grants" where the configured user may take that. */
const READER = { own: 'console', roleOf: readingRole, seconds: STATEMENT_SECONDS, inLine: line(4) } as const;
const ACTOR = { own: 'console_actions', roleOf: actingRole, seconds: ACTION_SECONDS, inLine: line(2) } as const;

type Work<T> = (session: Session) => Promise<T>;

/** @param options of the transaction; undefined for one that is rolled back */
async function inSession<T>(
  by: typeof READER | typeof ACTOR,
  settings: Settings,
  options: string | undefined,
  statements: string[],
  work: Work<T>,
): Promise<T> {
  const own = settings[by.own];
  const end = own ?? settings.warehouse;
  const within = async (transaction: Transaction) => {
    const role = own === undefined ? await by.roleOf(transaction) : null;
    if (role !== null) await transaction`set local role ${transaction(role)}`;
    const reader = { role: role ?? end.user, isOwn: role === null && own === undefined };
    return work({ warehouse: recorded(transaction, statements), reader, statements });
  };
  const limited = { ...end, limits: { ...end.limits, statement_seconds: by.seconds } };
  const withinIt = (database: Database) =>
    options === undefined ? rolledBack(database, within) : inTransaction(database, options, within);
  return by.inLine(() => withDatabase(limited, by.own.replace('_', ' '), withinIt, STATEMENT_SECONDS));
}

/** Does `work` in one transaction that cannot write. */
export const reading = <T>(settings: Settings, work: Work<T>): Promise<T> =>
  inSession(READER, settings, 'isolation level repeatable read read only', [], work);

/** Does `work` in one that may act; tried, it is rolled back. @param statements where what it asks is noted */
export const acting = <T>(settings: Settings, isTried: boolean, statements: string[], work: Work<T>): Promise<T> =>
  inSession(ACTOR, settings, isTried ? undefined : 'isolation level read committed', statements, work);

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
