import { setTimeout as sleep } from 'node:timers/promises';
import { isConnectionFault, withLink, type Link } from '../base/database.js';
import { describeError } from '../base/errors.js';
import { logger } from '../base/logger.js';
import type { Settings } from '../base/settings.js';
import { within } from '../base/timeout.js';
import { isLogged } from '../batch/mapping.js';
import { startCompressing, type Compressing } from '../change-log/applied.js';
import { openChangeLog, type ChangeLog } from '../change-log/chain.js';
import { countPending } from '../change-log/inspect.js';
import type { NewBatch } from '../change-log/publish.js';
import { loadChain, loadNew } from '../load/chain.js';
import { noteNumber } from '../run/measurements.js';
import { NOTE_MS, type Round } from '../stream/reader.js';
import { dimensionMappings, noteStreamPosition } from '../warehouse/functions.js';

/** So long a round waits at most until the one before is loaded: what was read is safe soon, however slow the loader is. */
const MOST_WAIT_SECONDS = 1;

/** How long it may take until it is seen that a table was paused, or goes on. */
const LOOK_MS = 1000;

/** How long it may take until a chain is loaded as a whole again. */
const LOOK_AROUND_MS = 60_000;

/** What is kept of a round beyond its batches. */
type RoundEnd = Omit<Round, 'batches'>;

/** A chain that was loaded whole a while ago, through the session in hand, and the newest batch that was loaded so. */
interface Known {
  readonly log: ChangeLog;
  readonly compressing: Compressing;
  readonly looked: number;
  newest: string | undefined;
}

/**
 * Loads what rounds of a reader of the log bring, in its process, at once, and first what waits; of tables that are paused nothing. A table that
 * cannot be loaded holds up no other, nor the reader: it is tried again every interval.
 *
 * A batch is applied from memory while it is published, and committed once it is. That is so where it follows what was loaded here before; all
 * else is loaded from the files of its chain.
 */
export class RoundLoader {
  /** Batches that wait, by table; none where files have more than these. */
  private readonly waiting = new Map<string, readonly NewBatch[]>();
  private readonly known = new Map<string, Known>();
  /** When a table that could not be loaded is tried again. */
  private readonly failed = new Map<string, number>();
  private unpaused: ReadonlySet<string> = new Set();
  private looked = -Infinity;
  private newest: RoundEnd | undefined;
  /** The rounds that were loaded, and noted, last. */
  private loaded: RoundEnd | undefined;
  private noted: RoundEnd | undefined;
  private notedAt = -Infinity;
  private wake: () => void = () => undefined;
  private free: () => void = () => undefined;

  /** @param ended raised when no round follows */
  constructor(
    private readonly settings: Settings,
    private readonly ended: AbortSignal,
  ) {
    ended.addEventListener('abort', () => {
      this.free();
      this.wake();
    });
  }

  /** Takes a round; resolves when it is loaded, or has waited long enough. */
  async take({ batches, ...end }: Round): Promise<void> {
    this.newest = end;
    for (const batch of batches) this.waiting.set(batch.log.table, this.withWaiting(batch));
    this.wake();
    if (this.ended.aborted) return;
    const loaded = new Promise<void>((resolve) => {
      this.free = resolve;
    });
    await within(MOST_WAIT_SECONDS, loaded).catch(() => undefined);
  }

  /** What is not loaded soon is not kept, nor more than a batch may be: files have it. */
  private withWaiting(batch: NewBatch): readonly NewBatch[] {
    const { table } = batch.log;
    const before = this.waiting.get(table);
    const all = [...(before ?? []), batch];
    const bytes = all.reduce((sum, { lines }) => sum + lines.length, 0);
    const isTooMuch = all.length > 1 && bytes > this.settings.batch_max_bytes;
    return before?.length === 0 || isTooMuch || !this.isReady(table) ? [] : all;
  }

  /** Loads until no round follows. */
  async work(): Promise<void> {
    const { settings, ended } = this;
    while (!ended.aborted)
      await withLink(settings.warehouse, 'load', (link) => this.loadAlways(link)).catch(async (error: unknown) => {
        logger.error(describeError(error, false));
        this.free();
        await sleep(settings.cdc_extraction_interval_seconds * 1000, undefined, { signal: ended }).catch(
          () => undefined,
        );
      });
    for (const { compressing } of this.known.values()) await compressing.finish();
  }

  private isReady(table: string): boolean {
    return this.unpaused.has(table) && performance.now() >= (this.failed.get(table) ?? -Infinity);
  }

  private get isIdle(): boolean {
    return this.newest === this.loaded && ![...this.waiting.keys()].some((name) => this.isReady(name));
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
      if (this.isIdle)
        await (this.noted === this.newest ? woken : within(NOTE_MS / 1000, woken).catch(() => undefined));
      await this.loadWaiting(link);
      if (performance.now() >= this.notedAt + NOTE_MS) await this.note(link);
    }
    await this.note(link);
  }

  /** Of a table that was not loaded until now there may be more than rounds have told. */
  private async look(link: Link): Promise<void> {
    if (performance.now() < this.looked + LOOK_MS) return;
    const logged = (await dimensionMappings(link.database())).filter(isLogged);
    const names = logged.flatMap(({ dimension_name: name, is_paused }) => (is_paused ? [] : name));
    for (const name of names) if (!this.unpaused.has(name)) this.waiting.set(name, []);
    // The change log of one that was removed is somewhere else.
    for (const name of this.known.keys()) if (!names.includes(name)) this.known.delete(name);
    [this.unpaused, this.looked] = [new Set(names), performance.now()];
  }

  private async load(link: Link, table: string, batches: readonly NewBatch[]): Promise<void> {
    const { settings } = this;
    const known = this.known.get(table);
    if (known !== undefined && performance.now() < known.looked + LOOK_AROUND_MS && batches.length > 0) {
      let isLoaded = true;
      for (const batch of batches) {
        isLoaded &&= batch.metadata.previous_batch_id === known.newest;
        isLoaded &&= await loadNew(link.database(), settings, batch, known.compressing);
        if (isLoaded) known.newest = batch.metadata.batch_id;
      }
      if (isLoaded) return;
    }
    await this.newest?.published.catch(() => undefined);
    // What may be wrong with a chain besides what waits is looked at from time to time.
    await known?.compressing.finish();
    const log = known?.log ?? (await openChangeLog(settings.cdc_log_dir, table));
    await loadChain(link, { settings, log });
    const newest = batches.at(-1)?.metadata.batch_id;
    this.known.set(table, { log, compressing: startCompressing(log), looked: performance.now(), newest });
  }

  private async loadWaiting(link: Link): Promise<void> {
    const { settings, newest: round, failed } = this;
    await this.look(link);
    for (const [table, batches] of [...this.waiting].filter(([name]) => this.isReady(name))) {
      this.waiting.delete(table);
      try {
        await this.load(link, table, batches);
        failed.delete(table);
        noteNumber('pending_batches', table, 0);
      } catch (error) {
        this.known.delete(table);
        await countPending(settings, table);
        if (isConnectionFault(error)) throw error;
        logger.error({ table }, describeError(error, false));
        failed.set(table, performance.now() + settings.cdc_extraction_interval_seconds * 1000);
        this.waiting.set(table, []);
      }
    }
    this.loaded = round;
    // One that has begun meanwhile is loaded first.
    if (this.newest === round) this.free();
  }

  /** Notes that all that was read up to the end of the round is in history: a few times a second, since a table's batches say it of that table. */
  private async note(link: Link): Promise<void> {
    const { loaded: round, unpaused, failed } = this;
    if (round === undefined || round === this.noted) return;
    [this.noted, this.notedAt] = [round, performance.now()];
    const { slot, to, last_commit_time, complete_at, followed, published } = round;
    const isPublished = await published.then(
      () => true,
      () => false,
    );
    const loaded = followed.filter((name) => unpaused.has(name) && !failed.has(name));
    if (isPublished) await noteStreamPosition(link.database(), slot, to, last_commit_time, loaded, complete_at);
  }
}
