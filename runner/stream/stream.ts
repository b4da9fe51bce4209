import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { AlreadyPublishedError } from '../base/durable-file.js';
import { isAway, withDatabase, withLink, type Database, type Link } from '../base/database.js';
import { HeldError, TidemarkError } from '../base/errors.js';
import { failpoint } from '../base/failpoint.js';
import { logger } from '../base/logger.js';
import { lsnOf, startReplication, type Lsn, type Replication, type ReplicationStart } from '../base/replication.js';
import type { Settings } from '../base/settings.js';
import { isLogged } from '../batch/mapping.js';
import type { BatchMetadata } from '../batch/metadata.js';
import { rememberMappings, rememberedMappings } from '../change-log/known-mappings.js';
import { retrying } from '../run/retry.js';
import { newestInLedger } from '../warehouse/batches.js';
import { readPublication, readSlot } from '../source/log.js';
import { isSameServer, readIdentity } from '../source/server.js';
import { dimensionMappings, noteSlot } from '../warehouse/functions.js';
import { LogReader, NOTE_MS, type LogEnd, type ReaderStart, type Round } from './reader.js';
import { entryOf, explainStartError, noPublication, unsent, wasAltered } from './slot.js';
import { HAND_OVER_MS, readHolds, readPosition, slotOf, type Holds } from './position.js';
import { openTables } from './start.js';

/** A reader of the log at work: sessions, one after the other, each from where the files say that the one before has come. */

export interface Streaming {
  readonly settings: Settings;
  readonly signal: AbortSignal;
  /** False reads as far as the source has come now, and ends. */
  readonly isEndless: boolean;
  /** Told of each round that begins; while it has not resolved, the next round waits. */
  readonly onRound?: ((round: Round) => Promise<void>) | undefined;
}

export interface StreamResult {
  rounds: number;
  changes: number;
  /** What was committed before is in the change log. */
  to: string | null;
  /** Tables of which nothing is taken any more, and why. */
  stopped: Record<string, string>;
}

const MOST_RACES = 5;

/**
 * Reads the log of the source into the change log of each table that is captured from it.
 * @returns what was done; undefined where the mappings have changed meanwhile, so that it is to be called again
 * @throws HeldError if another reader is at work; TidemarkError that says what is wrong with the slot
 */
export async function streamTables(streaming: Streaming): Promise<StreamResult> {
  const total: StreamResult = { rounds: 0, changes: 0, to: null, stopped: {} };
  const { settings, signal } = streaming;
  await withLink(settings.source, 'stream', (link) =>
    retrying('log', link, signal, async () => {
      for (let races = 0; ; races += 1)
        try {
          if ((await runSession(streaming, link, total)) === 'ended') return;
        } catch (error) {
          if (!(error instanceof AlreadyPublishedError) || races >= MOST_RACES) throw error;
          logger.info('another writer was quicker: reading again from its checkpoint');
        }
    }),
  );
  return total;
}

/** The tables to follow, and the newest batch of each in the ledger. Without the warehouse, as they were remembered. */
async function askWarehouse(settings: Settings) {
  const ledger = new Map<string, BatchMetadata | undefined>();
  try {
    return await withDatabase(settings.warehouse, 'stream', async (warehouse) => {
      const all = await dimensionMappings(warehouse);
      await rememberMappings(settings.cdc_log_dir, all);
      const mappings = all.filter(isLogged);
      for (const { dimension_name: name } of mappings) ledger.set(name, await newestInLedger(warehouse, name));
      return { mappings, ledger };
    });
  } catch (error) {
    const mappings = isAway(error) ? await rememberedMappings(settings.cdc_log_dir) : undefined;
    if (mappings === undefined) throw error;
    logger.warn(`${(error as Error).message}: the log is read with the mappings it last gave`);
    return { mappings: mappings.filter(isLogged), ledger };
  }
}

/**
 * Waits until the change log has all that is committed by now: the reader at work comes to it, or else it is read here.
 * @throws TidemarkError if it cannot be read
 */
export async function catchUpWithLog(settings: Settings, source: Database, signal = NEVER): Promise<void> {
  const { slot } = slotOf(settings);
  const now = await positionNow(source);
  const identity = await readIdentity(source);
  const hasCome = async () => {
    const position = await readPosition(settings.cdc_log_dir, slot);
    return position !== undefined && isSameServer(identity, position) && lsnOf(position.to) >= now;
  };
  while (!(await hasCome())) {
    const isRead = (await readSlot(source, slot))?.active_pid != null;
    if (!isRead)
      try {
        await streamTables({ settings, signal, isEndless: false });
        return;
      } catch (error) {
        if (!(error instanceof HeldError)) throw error;
      }
    await sleep(PAUSE_MS, undefined, { signal });
  }
}

const NEVER = new AbortController().signal;

/** Where the log ends that is on the source's disk, and the source's clock. */
async function readEnd(source: Database): Promise<LogEnd> {
  const [row] = await source<{ lsn: string; at: string }[]>`
    select pg_current_wal_flush_lsn()::text as lsn, to_json(clock_timestamp()) #>> '{}' as at`;
  return { end: lsnOf(row?.lsn ?? ''), at: row?.at ?? '' };
}

/** How far the source has come: all that is committed by now is before it, and on its disk. */
async function positionNow(source: Database): Promise<Lsn> {
  const [row] = await source<{ lsn: string }[]>`select pg_logical_emit_message(true, 'tidemark', '')::text as lsn`;
  return lsnOf(row?.lsn ?? '');
}

/**
 * Tells the warehouse how the slot stands, for indicators and alerts; one that is away hears of it later.
 * @param gap between which moments states of rows were lost with a slot that another has replaced
 */
export async function reportSlot(
  settings: Settings,
  source: Database,
  gap?: { readonly from: string; readonly to: string },
): Promise<void> {
  const { slot } = slotOf(settings);
  const state = await readSlot(source, slot);
  const position = await readPosition(settings.cdc_log_dir, slot);
  if (state === undefined && position === undefined) return;
  const isLost = state === undefined || state.wal_status === 'lost';
  const status = isLost ? 'lost' : state.wal_status;
  const sizes = [state?.unconfirmed_bytes, state?.retained_bytes, state?.safe_bytes] as const;
  const lostSince = gap?.from ?? (isLost ? position?.last_commit_time : undefined);
  const report = (warehouse: Database) =>
    noteSlot(warehouse, slot, status, state?.confirmed, ...sizes, lostSince, gap?.to);
  await withDatabase(settings.warehouse, 'stream', report).catch((error: unknown) => {
    if (!isAway(error)) throw error;
  });
}

async function runSession(streaming: Streaming, link: Link, total: StreamResult): Promise<'ended' | 'again'> {
  const { settings, signal } = streaming;
  const source = link.database();
  const { mappings, ledger } = await askWarehouse(settings);
  if (mappings.length === 0 && streaming.isEndless) return 'ended';
  if (mappings.length === 0)
    throw new TidemarkError('no table is captured from the log', {
      hint: 'hand one over: npx tidemark table capture <name> log',
    });
  await reportSlot(settings, source);
  const { slot } = slotOf(settings);
  const held = await readHolds(settings.cdc_log_dir, slot);
  const start = await openTables(source, settings, mappings, ledger);
  const until = streaming.isEndless ? undefined : await positionNow(source);
  const replication = await startWhenFree(settings, start, signal);
  const session = new Session(streaming, held, start, replication, total);
  const { reader } = session;
  const beat = newHeartbeat(start, reader, source, async () => {
    await reportSlot(settings, source);
    const now = await askWarehouse(settings);
    if (!isDeepStrictEqual(now.mappings, mappings)) session.end();
  });
  const lookForHandOver = async () => {
    const { tables, mark } = await readHolds(settings.cdc_log_dir, slot);
    if (tables.length === 0 && mark !== held.mark) session.end();
  };
  const every = (ms: number, work: () => Promise<void>) => setInterval(() => void work().catch(session.fail), ms);
  const timers = [
    every(settings.stream_heartbeat_seconds * 1000, beat),
    every(HAND_OVER_MS, lookForHandOver),
    every(QUIET_MS, async () => reader.expect(await readEnd(source))),
  ];
  signal.addEventListener('abort', session.end);
  try {
    await session.run(until);
  } finally {
    signal.removeEventListener('abort', session.end);
    for (const timer of timers) clearInterval(timer);
    await replication.close();
    await session.settle();
    for (const { mapping, stopped } of start.tables)
      if (stopped !== null) total.stopped[mapping.dimension_name] = stopped.reason;
  }
  return signal.aborted || !streaming.isEndless ? 'ended' : 'again';
}

const LONGEST_WAIT_MS = 3_000;
const PAUSE_MS = 100;

/** A reader that was killed a moment ago may still hold the slot. */
async function startWhenFree(settings: Settings, start: ReaderStart & ReplicationStart, signal: AbortSignal) {
  for (const deadline = performance.now() + LONGEST_WAIT_MS; ; )
    try {
      return await startReplication(settings.source, start);
    } catch (error) {
      const { slot, publication, source } = start;
      const explained = explainStartError(error, slot, publication);
      if (!(explained instanceof HeldError)) throw explained;
      if (performance.now() > deadline || signal.aborted)
        throw explainStartError(error, slot, publication, (await readSlot(source, slot))?.held_by);
      await sleep(PAUSE_MS);
    }
}

/** How long the end of a quiet log may be known here alone. */
const QUIET_MS = 5_000;

/** Lets messages come, and publishes round after round of what they say. */
class Session {
  private isEnding = false;
  private fault: { readonly error: unknown } | undefined;
  private gate: Promise<void> | undefined;
  /** What is done with the round in hand. */
  private doing: Promise<void> | undefined;
  readonly reader: LogReader;
  private ring: () => void = () => undefined;
  private confirming: Promise<void> | undefined;

  constructor(
    private readonly streaming: Streaming,
    private readonly held: Holds,
    start: ReaderStart,
    private readonly replication: Replication,
    private readonly total: StreamResult,
  ) {
    this.reader = new LogReader(start, this.beginRound, this.noteRound);
    replication.failed.catch(this.fail);
  }

  readonly fail = (error: unknown): void => {
    this.fault ??= { error };
    this.ring();
  };

  readonly end = (): void => {
    this.isEnding = true;
    this.ring();
  };

  /** What is being written must have ended before the tables are opened anew. */
  async settle(): Promise<void> {
    await this.gate?.catch(() => undefined);
    await this.confirming;
  }

  /** @param until where it ends; undefined where it does not */
  async run(until: Lsn | undefined): Promise<void> {
    const { reader } = this;
    const hasCome = () => until !== undefined && reader.read >= until && this.gate === undefined;
    const isDone = () => this.isEnding || this.fault !== undefined || hasCome();
    const onKeepalive = (end: Lsn) => {
      reader.keepUp(end);
      if (isDone()) this.ring();
    };
    this.replication.deliver({ onMessage: this.guarded(this.onMessage), onKeepalive: this.guarded(onKeepalive) });
    // Unless a table is handed over, which may have to go on from before.
    this.confirming = this.confirm(reader.durable).catch(this.fail);
    for (let last = -Infinity; !isDone(); ) {
      const hasWork = () => reader.isFull || reader.hasWhole || isDone();
      await this.pause(reader.noted === reader.durable ? QUIET_MS : NOTE_MS, hasWork);
      const left = last + this.streaming.settings.stream_flush_ms - performance.now();
      await this.pause(left, () => reader.isFull || isDone());
      last = performance.now();
      await this.publish();
    }
    await this.publish(true);
    await this.confirming;
  }

  /** Until so long has passed, or something is so: that is looked at when it rings. */
  private async pause(ms: number, isOver: () => boolean): Promise<void> {
    if (ms <= 0 || isOver()) return;
    await new Promise<void>((resolve) => {
      const end = () => {
        clearTimeout(timer);
        this.ring = () => undefined;
        resolve();
      };
      const timer = setTimeout(end, ms);
      this.ring = () => {
        if (isOver()) end();
      };
    });
  }

  private guarded<T>(work: (given: T) => void): (given: T) => void {
    return (given) => {
      try {
        work(given);
      } catch (error) {
        this.fail(error);
      }
    };
  }

  private readonly onMessage = (message: Buffer): void => {
    const { reader } = this;
    this.gate = reader.take(message)?.then(() => {
      this.gate = undefined;
      this.resume();
      this.ring();
    });
    this.gate?.catch(this.fail);
    if (this.gate !== undefined || reader.isFull) this.replication.pause();
    if (reader.isFull || reader.hasWhole) this.ring();
  };

  /**
   * Nothing is confirmed while a table is handed over, nor after that before this session has ended and the table is taken in. The place is older
   * than the look: what is handed over later goes on from behind it.
   */
  private async confirm(durable: Lsn): Promise<void> {
    const { settings } = this.streaming;
    const { tables, mark } = await readHolds(settings.cdc_log_dir, slotOf(settings).slot);
    if (tables.length === 0 && mark === this.held.mark) this.replication.confirm(durable);
  }

  private resume(): void {
    if (this.gate === undefined && !this.reader.isFull) this.replication.resume();
  }

  private readonly beginRound = (round: Round): void => {
    this.resume();
    this.doing = this.streaming.onRound?.(round);
    this.doing?.catch(this.fail);
  };

  private readonly noteRound = ({ batches, changes, to }: Round): void => {
    const { total, reader } = this;
    if (reader.noted === reader.durable) this.confirming = this.confirm(reader.noted).catch(this.fail);
    failpoint('stream confirmed');
    total.rounds += batches.length === 0 ? 0 : 1;
    total.changes += changes;
    total.to = to;
  };

  /** One round, and all that is done with it: so the next one has all that has come meanwhile. */
  private async publish(isLast = false): Promise<void> {
    if (this.fault !== undefined) throw this.fault.error as Error;
    await this.reader.publish(this.reader.isFull, isLast);
    await this.doing;
  }
}

/** Writes to a quiet source, and looks whether the publication still holds each table. */
function newHeartbeat(
  { tables, publication }: ReaderStart & { readonly publication: string },
  reader: LogReader,
  source: Database,
  look: () => Promise<void>,
): () => Promise<void> {
  let seen = reader.read;
  return async () => {
    if (reader.read === seen) await positionNow(source);
    seen = reader.read;
    const published = await readPublication(source, publication);
    if (published === undefined) throw noPublication(publication);
    for (const table of tables) {
      const { dimension_name: name } = table.mapping;
      const isSame = entryOf(published, table.mapping, table.newest) === table.publication;
      const fault = unsent(published, table.mapping, table.newest) ?? (isSame ? null : wasAltered(name));
      if (table.stopped !== null || fault === null) continue;
      const error = new TidemarkError(fault, {
        detail: `table=${name} publication=${publication}`,
        hint: `hand it over anew: npx tidemark table capture ${name} log`,
      });
      reader.stop(table, error);
    }
    await look();
  };
}
