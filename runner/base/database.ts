import type { Client } from 'pg';
import postgres from 'postgres';
import type { DatabaseSettings } from './settings.js';
import { TidemarkError, hasCode } from './errors.js';
import { logger } from './logger.js';
import { within } from './timeout.js';
import { explainTlsError, tlsOptions } from './tls.js';

export type Database = postgres.Sql<{ date: string }>;
/** What runs inside a transaction. */
export type Transaction = postgres.ISql<{ date: string }>;

/**
 * What every session pins, whatever its database or role has set, so that both ends print and read values alike and SQL means what it says.
 * Rows that a policy of row-level security hides would be taken for rows that are not there: with row_security off the server says so
 * instead. Functions that psql may call pin the same for themselves, by tidemark._pin_settings.
 */
const SESSION = {
  TimeZone: 'UTC',
  DateStyle: 'ISO, MDY',
  IntervalStyle: 'postgres',
  extra_float_digits: 1,
  bytea_output: 'hex',
  lc_monetary: 'C',
  array_nulls: 'on',
  xmloption: 'content',
  standard_conforming_strings: 'on',
  quote_all_identifiers: 'off',
  row_security: 'off',
  default_transaction_isolation: 'read committed',
} as const;

/** Dates and times stay the text PostgreSQL prints: a JavaScript Date would cut microseconds. */
const TEXT_TIMES = {
  to: 25,
  from: [1082, 1083, 1114, 1184, 1186, 1266],
  serialize: (value: string) => value,
  parse: (value: string) => value,
};

const CONNECT_SECONDS = 15;

/** What either driver is told alike. */
const placeOf = (settings: DatabaseSettings) => {
  const { host, port, database, password } = settings;
  return { host, port, database, password, ssl: tlsOptions(settings) ?? false };
};

/** Where a database is, as the driver takes it. */
const endpointOf = (
  settings: DatabaseSettings,
  connectSeconds = settings.limits?.connect_seconds ?? CONNECT_SECONDS,
) => ({ ...placeOf(settings), username: settings.user, connect_timeout: connectSeconds });

/**
 * A lazy pool on one database; `max` connections at most. End it, or use `withDatabase`. Sessions live until then: one that the driver
 * replaced by itself would lose its locks. Only one whose owner is told of its end (`onEnd`) has a lifetime.
 */
export function connect(
  settings: DatabaseSettings,
  application: string,
  max = 1,
  connectSeconds?: number,
  onEnd?: () => void,
): Database {
  const { limits } = settings;
  const door = { isOpen: false, listeners: new Set<() => void>() };
  const database = postgres({
    ...endpointOf(settings, connectSeconds),
    max,
    max_lifetime: onEnd === undefined ? 0 : (limits?.lifetime_seconds ?? 0),
    onclose: () => {
      door.isOpen = false;
      for (const listener of door.listeners) listener();
      onEnd?.();
    },
    connection: {
      application_name: `tidemark ${application}`,
      ...SESSION,
      // In milliseconds; one that is 0 the driver leaves to the server.
      statement_timeout: (limits?.statement_seconds ?? 0) * 1000,
      lock_timeout: (limits?.lock_seconds ?? 0) * 1000,
      idle_in_transaction_session_timeout: (limits?.idle_seconds ?? 0) * 1000,
    },
    types: { date: TEXT_TIMES },
    onnotice: ({ code, severity, message }) => logger[severity === 'INFO' ? 'info' : 'debug']({ code }, message ?? ''),
  });
  doors.set(database, door);
  return database;
}

// What the driver asks of each new session by itself it leaves to nobody: where the server goes meanwhile, whoever waits for that session hears it.
process.on('unhandledRejection', (error) => {
  if (!isAway(error)) throw error;
});

/** A server that hears nothing for so long ends the session and lets the slot go, as when this machine is gone. */
const SENDER_TIMEOUT_MS = 30_000;

/**
 * A session that speaks the replication protocol, for replication.ts: it takes simple statements alone.
 * @param encoding SQL_ASCII takes values as they are, where the server could not turn them into UTF8
 */
export const connectToLog = (
  settings: DatabaseSettings,
  application: string,
  encoding: 'UTF8' | 'SQL_ASCII',
): Database =>
  postgres({
    ...endpointOf(settings),
    max: 1,
    max_lifetime: 0,
    fetch_types: false,
    types: { date: TEXT_TIMES },
    onnotice: () => undefined,
    connection: {
      application_name: `tidemark ${application}`,
      ...SESSION,
      client_encoding: encoding,
      replication: 'database',
      wal_sender_timeout: SENDER_TIMEOUT_MS,
    },
  });

/** Whether a database is known to have an open connection, and who is told when one closes. */
const doors = new WeakMap<Database, { isOpen: boolean; readonly listeners: Set<() => void> }>();

/** Calls `listener` whenever a connection of the database has closed, for whatever reason. Returns what ends that. */
export function onClose(database: Database, listener: () => void): () => void {
  const listeners = doors.get(database)?.listeners;
  listeners?.add(listener);
  return () => listeners?.delete(listener);
}

/**
 * Connects where no connection is known to be open. What the server said last to a connection that it closed, the driver says once more to
 * whoever asks for the next one.
 */
export async function ensureOpen(database: Database): Promise<void> {
  const door = doors.get(database);
  if (door?.isOpen === true) return;
  const ask = () => database`select 1`.execute();
  await ask().catch((error: unknown) => (hasCode(error, ...SESSION_ENDED) ? ask() : Promise.reject(error as Error)));
  if (door !== undefined) door.isOpen = true;
}

/**
 * The same connection by the pg driver, which node-pg-migrate uses, for as long as `work` lasts.
 * @throws what `work` throws; an error of code CONNECTION_CLOSED where the session ended
 */
export async function withPgClient<T>(settings: DatabaseSettings, work: (client: Client) => Promise<T>): Promise<T> {
  // Not above: only migrations need it.
  const { default: pg } = await import('pg');
  const client = new pg.Client({
    ...placeOf(settings),
    user: settings.user,
    connectionTimeoutMillis: (settings.limits?.connect_seconds ?? CONNECT_SECONDS) * 1000,
    application_name: 'tidemark migrate',
    options: Object.entries(SESSION)
      .map(([name, value]) => `-c ${name}=${String(value).replaceAll(' ', '\\ ')}`)
      .join(' '),
  });
  // Where nobody listens, a session that ends would end the process; the statement under which it did says so.
  client.on('error', () => undefined);
  await client.connect();
  try {
    return await work(client);
  } catch (error) {
    const answer: unknown = await client.query('select 1').catch((fault: unknown) => fault);
    const hasEnded = answer instanceof Error && !('severity' in answer);
    throw hasEnded ? Object.assign(answer, { code: 'CONNECTION_CLOSED', cause: error }) : error;
  } finally {
    await client.end().catch(() => undefined);
  }
}

/** A connection that can be replaced: after it was cut, the driver may write what was left to the next one, which the server does not understand. */
export type Link = Readonly<{ database: () => Database; renew: () => Promise<void> }>;

/**
 * Opens a database, hands it to `work`, and closes it whatever happens.
 * @throws TidemarkError that names the database and the setting to change, when it cannot be reached.
 */
export async function withDatabase<T>(
  settings: DatabaseSettings,
  application: string,
  work: (database: Database) => Promise<T>,
  answerSeconds = 20,
): Promise<T> {
  return withLink(settings, application, (link) => work(link.database()), answerSeconds);
}

/** As `withDatabase`, for work that goes on with another connection when one is cut. */
export async function withLink<T>(
  settings: DatabaseSettings,
  application: string,
  work: (link: Link) => Promise<T>,
  answerSeconds = 20,
): Promise<T> {
  let database = connect(settings, application);
  const renew = async () => {
    database.end({ timeout: 0 }).catch(() => undefined);
    database = connect(settings, application);
    await assertAnswers(database, answerSeconds);
  };
  try {
    await assertAnswers(database, answerSeconds);
    return await work({ database: () => database, renew });
  } catch (error) {
    throw explainDatabaseError(error, settings);
  } finally {
    // Of a connection that was cut the driver still awaits the answer.
    await database.end({ timeout: doors.get(database)?.isOpen === true ? 5 : 0 });
  }
}

/** The driver tries for ever where a connection is taken and closed at once, as a proxy before a dead server does. */
async function assertAnswers(database: Database, answerSeconds: number): Promise<void> {
  await within(answerSeconds, ensureOpen(database)).catch((error: unknown) => {
    if (hasCode(error, 'CONNECT_TIMEOUT')) void database.end({ timeout: 0 });
    throw error;
  });
}

const UNREACHABLE = ['ECONNREFUSED', 'ENOTFOUND', 'EHOSTUNREACH', 'ETIMEDOUT', 'CONNECT_TIMEOUT', 'EAI_AGAIN'];
/** What a server says when it ends a session: told to, crashed, idle in a transaction, too long in one, idle. */
const SESSION_ENDED = ['57P01', '57P02', '25P03', '25P04', '57P05'] as const;
const CUT_OFF = [
  ...['CONNECTION_CLOSED', 'CONNECTION_ENDED', 'CONNECTION_DESTROYED', 'ECONNRESET', 'EPIPE'],
  ...SESSION_ENDED,
];

/** True for an error that says a server is away, which passes, and not that something is wrong with what was asked of it. */
export const isAway = (error: unknown): boolean =>
  hasCode(error, ...UNREACHABLE, ...CUT_OFF, '57P03') || takesNone(error);

/** A server that answers but lets nobody in for now: too many connections, or a database that was closed for maintenance. */
const takesNone = (error: unknown): boolean =>
  hasCode(error, '53300') || (hasCode(error, '55000') && (error as Error).message.includes('accepting connections'));

/** True for an error that says that no session could be had or kept, whatever was about to be asked. */
export const isConnectionFault = (error: unknown): boolean =>
  isAway(error) || hasCode(error, '28P01', '28000', '3D000');

/**
 * Serialization failure, deadlock, lock and statement timeouts, no room for another session now; and a library that a new session cannot
 * load, because the server's files were upgraded and it was not restarted yet.
 */
const CONFLICTS = ['40001', '40P01', '55P03', '57014', '53300', '58P01'];

/** True for an error after which the same work may succeed: a server that is away, or that others kept busy. */
export const isPassing = (error: unknown): boolean => isAway(error) || hasCode(error, ...CONFLICTS);

const at = (settings: DatabaseSettings) => `${settings.user}@${settings.host}:${settings.port}/${settings.database}`;

/**
 * Turns what a driver throws into what a user can act on; an error that is already explained passes through.
 * @param about what was at work, with a blank after it: it stands before the name of the database
 */
export function explainDatabaseError(error: unknown, settings: DatabaseSettings, about = ''): unknown {
  if (!(error instanceof Error) || error instanceof TidemarkError) return error;
  const { role, prefix } = settings;
  const where = {
    detail: `${about}${role} database ${at(settings)}`,
    cause: error,
    code: 'code' in error ? String(error.code) : undefined,
  };
  const because = (message: string, hint: string) => new TidemarkError(message, { ...where, hint });
  const fault = explainTlsError(error, settings);
  if (fault !== undefined) return because(fault.message, fault.hint);
  if (hasCode(error, ...UNREACHABLE))
    return because(
      `the ${role} database does not answer at ${settings.host}:${settings.port}`,
      `start it with "npx tidemark db start", or set ${prefix}HOST and ${prefix}PORT`,
    );
  if (hasCode(error, '08P01') && error.message.includes('startup parameter'))
    return because(
      `what answers for the ${role} database is a pooler that takes no settings of a session: ${error.message}`,
      `give ${prefix}HOST and ${prefix}PORT of the server itself, not of a pooler`,
    );
  if (hasCode(error, '28P01', '28000'))
    return because(`the ${role} database refuses user ${settings.user}`, `set ${prefix}USER and ${prefix}PASSWORD`);
  if (hasCode(error, '3D000'))
    return because(`the ${role} server has no database ${settings.database}`, `create it, or set ${prefix}NAME`);
  if (hasCode(error, '57P03'))
    return because(`the ${role} database is starting up or shutting down`, 'try again in a moment');
  if (takesNone(error))
    return because(
      `the ${role} database takes no connections now: ${error.message}`,
      'wait until it does, or see to it there; the command can be run again',
    );
  if (hasCode(error, ...CUT_OFF))
    return because(
      `the ${role} database ended the connection`,
      'see that the server runs, then run the command again: nothing is half done',
    );
  if (hasCode(error, '42501') && error.message.includes('row-level security'))
    return because(
      `a policy of row-level security hides rows of the ${role} from user ${settings.user}: ${error.message}`,
      `what is hidden would be missed, or taken for deleted. As a superuser there: alter role "${settings.user}" bypassrls`,
    );
  if (role === 'warehouse' && isNotMigrated(error))
    return because('the warehouse is not migrated', 'run: npx tidemark migrate');
  if (!('severity' in error)) return error;
  const { detail, hint } = error as { readonly detail?: string; readonly hint?: string };
  return new TidemarkError(error.message, {
    ...where,
    detail: where.code?.startsWith('TM') === true ? detail : where.detail,
    hint,
  });
}

/** True for an error that says that Tidemark's own objects are not in the warehouse. */
export function isNotMigrated(error: Error): boolean {
  return hasCode(error, '3F000', '42P01', '42883') && /tidemark|pipeline_metadata/.test(error.message);
}
