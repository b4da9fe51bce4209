import { connectToLog } from './database.js';
import type { DatabaseSettings } from './settings.js';
import { quoteText, quoted } from './sql-text.js';
import { within } from './timeout.js';

/** A place in the write-ahead log. PostgreSQL prints it as two numbers in hexadecimal. */
export type Lsn = bigint;

export const lsnText = (lsn: Lsn): string =>
  `${(lsn >> 32n).toString(16).toUpperCase()}/${(lsn & 0xffffffffn).toString(16).toUpperCase()}`;

export function lsnOf(text: string): Lsn {
  const [high = '', low = ''] = text.split('/');
  return (BigInt(`0x${high}`) << 32n) | BigInt(`0x${low}`);
}

export interface ReplicationStart {
  readonly slot: string;
  readonly publication: string;
  /** Where to begin; what the slot has confirmed already is never sent again, whatever is asked for. */
  readonly from: Lsn;
  readonly encoding: 'UTF8' | 'SQL_ASCII';
}

export interface ReplicationHandlers {
  /** Each message of the plugin by itself. */
  readonly onMessage: (message: Buffer) => void;
  /** All that was committed before this place has been sent. */
  readonly onKeepalive: (end: Lsn) => void;
}

/** A session that receives from a slot, until it is closed or fails. */
export interface Replication {
  /** Lets messages come; none does before. */
  readonly deliver: (handlers: ReplicationHandlers) => void;
  /** Tells the server what is durable here: the slot never goes back behind it. It is told again from time to time. */
  readonly confirm: (position: Lsn) => void;
  readonly pause: () => void;
  readonly resume: () => void;
  /** Rejects when the session has failed. */
  readonly failed: Promise<never>;
  readonly close: () => Promise<void>;
}

/** However slow the disk and however full the reader: the server hears from here so often. */
const STATUS_MS = 5_000;
const CLOSE_SECONDS = 2;

/** Opens such a session, asks one thing and ends it. @throws what the server says, unexplained */
async function askSender<T extends object>(settings: DatabaseSettings, command: string): Promise<readonly T[]> {
  const session = connectToLog(settings, 'doctor', 'UTF8');
  try {
    return await session.unsafe<T[]>(command);
  } finally {
    await session.end({ timeout: 0 });
  }
}

/** Opens such a session and ends it. @throws what the server says, unexplained */
export const tryReplication = (settings: DatabaseSettings): Promise<unknown> => askSender(settings, 'IDENTIFY_SYSTEM');

/** Where timelines of the server's past were left for the next one, by a failover or a restore: what came before is part of the present one. */
export type Forks = ReadonlyMap<number, Lsn>;

/** @param timeline the present one. @throws what the server says, unexplained */
export async function readForks(settings: DatabaseSettings, timeline: number): Promise<Forks> {
  // The first one has no past.
  const history = timeline > 1 ? await askSender<{ content: string }>(settings, `TIMELINE_HISTORY ${timeline}`) : [];
  const lines = [...(history[0]?.content ?? '').matchAll(/^(\d+)\t([0-9A-F]+\/[0-9A-F]+)/gm)];
  return new Map(lines.map(([, left = '', at = '']) => [Number(left), lsnOf(at)]));
}

type Copying = NodeJS.ReadWriteStream & { readonly destroyed: boolean };

/**
 * Begins to receive the changes of a publication through a slot (pgoutput, protocol 1). The door to the replication protocol.
 * @throws what the server says, unexplained
 */
export async function startReplication(
  settings: DatabaseSettings,
  { slot, publication, from, encoding }: ReplicationStart,
): Promise<Replication> {
  const session = connectToLog(settings, 'stream', encoding);
  const options = `proto_version '1', publication_names ${quoteText(quoted(publication))}`;
  try {
    const stream: unknown = await session
      .unsafe(`START_REPLICATION SLOT ${quoted(slot)} LOGICAL ${lsnText(from)} (${options})`)
      .writable();
    return receive(stream as Copying, () => session.end({ timeout: 0 }));
  } catch (error) {
    await session.end({ timeout: 0 });
    throw error;
  }
}

function receive(stream: Copying, end: () => Promise<void>): Replication {
  // Of nothing the server takes it that the reader is alive.
  let confirmed: Lsn = 0n;
  const say = () => {
    if (stream.writable) stream.write(statusOf(confirmed));
  };
  const timer = setInterval(say, STATUS_MS);
  const failed = new Promise<never>((_, reject) => {
    stream.on('error', reject);
    stream.on('close', () => {
      clearInterval(timer);
      reject(Object.assign(new Error('the server ended the session'), { code: 'CONNECTION_CLOSED' }));
    });
  });
  failed.catch(() => undefined);
  // Never by iterating: what waits in the stream would come as one message.
  const deliver = ({ onMessage, onKeepalive }: ReplicationHandlers) => {
    stream.on('data', (data: Buffer) => {
      if (data[0] === WAL_DATA) onMessage(data.subarray(WAL_DATA_HEADER));
      else if (data[0] === KEEPALIVE) {
        onKeepalive(data.readBigUInt64BE(1));
        if (data[KEEPALIVE_ASKS] === 1) say();
      }
    });
  };
  const close = async () => {
    clearInterval(timer);
    stream.removeAllListeners('data').resume();
    const ended = new Promise<void>((resolve) => stream.end(resolve));
    if (!stream.destroyed) await within(CLOSE_SECONDS, ended).catch(() => undefined);
    await end();
  };
  const confirm = (position: Lsn) => {
    confirmed = position;
    say();
  };
  return { deliver, confirm, pause: () => stream.pause(), resume: () => stream.resume(), failed, close };
}

const [WAL_DATA, WAL_DATA_HEADER, KEEPALIVE, KEEPALIVE_ASKS, STATUS] = [0x77, 25, 0x6b, 17, 0x72];

/** A standby status update: written, flushed and applied up to there. */
function statusOf(position: Lsn): Buffer {
  const status = Buffer.alloc(34);
  status[0] = STATUS;
  for (const place of [1, 9, 17]) status.writeBigUInt64BE(position, place);
  status.writeBigInt64BE((BigInt(Date.now()) - 946_684_800_000n) * 1000n, 25);
  return status;
}
