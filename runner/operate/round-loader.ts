import { setTimeout as sleep } from 'node:timers/promises';
import { isConnectionFault, withLink, type Link } from '../base/database.js';
import { describeError } from '../base/errors.js';
import { logger } from '../base/logger.js';
import type { Settings } from '../base/settings.js';
import { isLogged } from '../batch/mapping.js';
import { startCompressing, type Compressing } from '../change-log/applied.js';
import { openChangeLog, type ChangeLog } from '../change-log/chain.js';
import { countPending } from '../change-log/inspect.js';
import { loadChain } from '../load/chain.js';
import { noteNumber } from '../run/measurements.js';
import type { Round } from '../stream/reader.js';
import { dimensionMappings, noteStreamPosition } from '../warehouse/functions.js';

/** So many rounds may wait to be loaded before the next one waits for them. */
const MOST_ROUNDS = 2;

/** How long it may take until it is seen that a table was paused, or goes on. */
const LOOK_MS = 1000;

/** How long it may take until a chain is loaded as a whole again. */
const LOOK_AROUND_MS = 60_000;

type Known = Readonly<{ log: ChangeLog; compressing: Compressing; looked: number }>;

/**
 * Loads what rounds of a reader of the log bring, in its process, at once, and first what waits; of tables that are paused nothing. A table that
 * cannot be loaded holds up no other, nor the reader: it is tried again every interval.
 */
export class RoundLoader {
  private readonly waiting = new Set<string>();
  /** Files of rounds that were not loaded yet. */
  private readonly flushed = new Set<string>();
  /** The chains that were loaded whole a while ago, through the session in hand. */
  private readonly known = new Map<string, Known>();
  /** When a table that could not be loaded is tried again. */
  private readonly failed = new Map<string, number>();
  private unpaused: ReadonlySet<string> = new Set();
  private looked = -Infinity;
  private rounds = 0;
  private newest: Round | undefined;
  private noted: Round | undefined;
  private wake: () => void = () => undefined;
  private free: () => void = () => undefined;

  /** @param ended raised when no round follows */
  constructor(
    private readonly settings: Settings,
    private readonly ended: AbortSignal,
  ) {
    ended.addEventListener('abort', () => {
      this.settle();
      this.wake();
    });
  }

  /** Takes a round; resolves when there is room for the next one. */
  async take(round: Round): Promise<void> {
    this.newest = round;
    for (const table of round.tables) this.waiting.add(table);
    for (const file of round.files) this.flushed.add(file);
    this.rounds += 1;
    this.wake();
    if (this.rounds >= MOST_ROUNDS && !this.ended.aborted)
      await new Promise<void>((resolve) => {
        this.free = resolve;
      });
  }

  /** Loads until no round follows. */
  async work(): Promise<void> {
    const { settings, ended } = this;
    while (!ended.aborted)
      await withLink(settings.warehouse, 'load', (link) => this.loadAlways(link)).catch(async (error: unknown) => {
        logger.error(describeError(error, false));
        this.settle();
        await sleep(settings.cdc_extraction_interval_seconds * 1000, undefined, { signal: ended }).catch(
          () => undefined,
        );
      });
    for (const { compressing } of this.known.values()) await compressing.finish();
  }

  private settle(): void {
    this.rounds = 0;
    this.free();
  }

  private isReady(table: string): boolean {
    return this.unpaused.has(table) && performance.now() >= (this.failed.get(table) ?? -Infinity);
  }

  private get isIdle(): boolean {
    return this.newest === this.noted && ![...this.waiting].some((name) => this.isReady(name));
  }

  private async loadAlways(link: Link): Promise<void> {
    // After a failure as at the beginning: whatever waits.
    [this.unpaused, this.looked] = [new Set(), -Infinity];
    this.known.clear();
    this.failed.clear();
    await this.loadWaiting(link);
    while (!this.ended.aborted) {
      const woken = new Promise<void>((resolve) => {
        this.wake = resolve;
      });
      if (this.isIdle) await woken;
      await this.loadWaiting(link);
    }
  }

  /** Of a table that was not loaded until now there may be more than rounds have told. */
  private async look(link: Link): Promise<void> {
    if (performance.now() < this.looked + LOOK_MS) return;
    const logged = (await dimensionMappings(link.database())).filter(isLogged);
    const names = logged.flatMap(({ dimension_name: name, is_paused }) => (is_paused ? [] : name));
    for (const name of names) if (!this.unpaused.has(name)) this.waiting.add(name);
    // The change log of one that was removed is somewhere else.
    for (const name of this.known.keys()) if (!names.includes(name)) this.known.delete(name);
    [this.unpaused, this.looked] = [new Set(names), performance.now()];
  }

  /** What may be wrong with a chain besides what waits is looked at from time to time. */
  private async load(link: Link, table: string): Promise<void> {
    const { settings, flushed, known } = this;
    const before = known.get(table);
    const isWhole = before === undefined || performance.now() >= before.looked + LOOK_AROUND_MS;
    if (isWhole) await before?.compressing.finish();
    const log = before?.log ?? (await openChangeLog(settings.cdc_log_dir, table));
    const compressing = before?.compressing ?? startCompressing(log);
    await loadChain(link, { settings, log, again: isWhole ? undefined : { flushed, compressing } });
    if (isWhole) known.set(table, { log, compressing, looked: performance.now() });
  }

  private async loadWaiting(link: Link): Promise<void> {
    const { settings, newest: round, failed } = this;
    const told = [...this.flushed];
    await this.look(link);
    for (const table of [...this.waiting].filter((name) => this.isReady(name))) {
      this.waiting.delete(table);
      try {
        await this.load(link, table);
        failed.delete(table);
        noteNumber('pending_batches', table, 0);
      } catch (error) {
        this.known.delete(table);
        await countPending(settings, table);
        if (isConnectionFault(error)) throw error;
        logger.error({ table }, describeError(error, false));
        failed.set(table, performance.now() + settings.cdc_extraction_interval_seconds * 1000);
        this.waiting.add(table);
      }
    }
    for (const file of told) this.flushed.delete(file);
    this.settle();
    this.noted = round;
    if (round === undefined) return;
    // All that was read up to the end of the round is in history.
    const { slot, to, last_commit_time, complete_at, followed } = round;
    const loaded = followed.filter((name) => this.unpaused.has(name) && !failed.has(name));
    await noteStreamPosition(link.database(), slot, to, last_commit_time, loaded, complete_at);
  }
}
