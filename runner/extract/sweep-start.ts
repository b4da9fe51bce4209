import type { Settings } from '../base/settings.js';
import type { BatchMetadata, Horizon } from '../batch/metadata.js';
import type { Database } from '../base/database.js';
import { failpoint } from '../base/failpoint.js';
import { logger, warnOnce } from '../base/logger.js';
import { chainName, type Shard } from '../batch/shard.js';
import {
  type HorizonReading,
  missingRight,
  noticesStep,
  readBeginning,
  readClock,
  readHorizon,
  readSnapshot,
} from '../source/horizon.js';
import type { PagePlace, SourceTable, SweepBounds } from '../source/table.js';

/** What all pages of a sweep share, and where its first page begins. */
export interface SweepStart extends Pick<BatchMetadata, 'floor' | 'snapshot' | 'horizon' | 'full_sweep'> {
  readonly bounds: SweepBounds;
  /** True for a sweep without a lower bound on the effective time. */
  readonly is_full: boolean;
  readonly place: PagePlace;
}

export interface SweepSubject {
  readonly source: Database;
  readonly settings: Settings;
  readonly table: string;
  readonly described: SourceTable;
  /** undefined for the whole table. */
  readonly shard?: Shard | undefined;
  /** Reads every row again, whatever its time and transaction: repeats are absorbed. Also accepts another source server. */
  readonly full: boolean;
}

/**
 * Begins a sweep where the one before it began to look: the floor before the snapshot, in a transaction of its own. It is a full one,
 * compared with the full one before it, when FULL_SWEEP_INTERVAL_SECONDS have passed since or the source's clock was set back.
 */
export async function beginSweep(subject: SweepSubject, newest: BatchMetadata | undefined): Promise<SweepStart> {
  const { source, settings, described } = subject;
  if (described.fallback !== null) return beginByClock(subject, newest);
  // A sweep that read by times alone saw no transactions, so that none can go on from it.
  const before = subject.full || newest?.sweep.before_transaction === null ? undefined : newest;
  failpoint('floor');
  const horizon = await readHorizon(source, before);
  if (horizon.blind_sessions > 0) await warnOfBlindness(subject, horizon);
  const hasStepped = noticesStep(clockOf(subject), horizon, newest?.full_sweep?.clock ?? '');
  const isFull = before === undefined || isFullDue(subject, before, horizon, hasStepped);
  const continues = isFull ? before?.full_sweep?.snapshot : before.snapshot;
  failpoint('snapshot');
  const beginning = await readBeginning(source, continues ?? null, isFull ? undefined : before);
  return {
    floor: horizon.floor,
    horizon,
    snapshot: beginning.snapshot,
    is_full: isFull,
    full_sweep: isFull ? { snapshot: beginning.snapshot, clock: horizon.clock } : before.full_sweep,
    place: { isDated: true, after: null },
    bounds: {
      own_floor: horizon.floor,
      floor: beginning.floor,
      high_watermark: isFull ? null : (before.high_watermark?.time ?? null),
      margin_seconds: settings.watermark_advance_seconds,
      from_transaction: beginning.from_transaction,
      before_transaction: beginning.before_transaction,
      snapshot: beginning.snapshot,
    },
  };
}

/** A source whose transactions mean nothing here is read from the clock at the start of the sweep before, again and again. */
async function beginByClock(
  { source, settings, table, described, full }: SweepSubject,
  newest: BatchMetadata | undefined,
): Promise<SweepStart> {
  warnOnce(
    `${table}: ${described.fallback ?? ''}`,
    `${table}: ${described.fallback ?? ''}, which shows no transactions: it is read by times alone, with repeats, and a row ` +
      `that becomes visible more than WATERMARK_ADVANCE_SECONDS (${String(settings.watermark_advance_seconds)}) after its effective time is missed until "extract --full"`,
  );
  const clock = await readClock(source);
  const since = full ? undefined : newest;
  return {
    floor: clock,
    horizon: null,
    snapshot: await readSnapshot(source),
    is_full: since === undefined,
    full_sweep: null,
    place: { isDated: true, after: null },
    bounds: {
      own_floor: clock,
      floor: since?.floor ?? null,
      high_watermark: null,
      margin_seconds: settings.watermark_advance_seconds,
      from_transaction: null,
      before_transaction: null,
      snapshot: null,
    },
  };
}

/** Goes on with the newest sweep after its last page. */
export function resumeSweep(settings: Settings, newest: BatchMetadata): SweepStart {
  const { floor, horizon, snapshot, full_sweep, sweep, high_watermark } = newest;
  return {
    floor,
    horizon,
    snapshot,
    full_sweep,
    is_full: sweep.is_full,
    place:
      sweep.undated === null
        ? { isDated: true, after: high_watermark }
        : { isDated: false, after: sweep.undated.after === null ? null : { time: null, key: sweep.undated.after } },
    bounds: {
      own_floor: floor,
      floor: sweep.from_floor,
      high_watermark: sweep.from_high_watermark,
      margin_seconds: settings.watermark_advance_seconds,
      from_transaction: sweep.from_transaction,
      before_transaction: sweep.before_transaction,
      snapshot,
    },
  };
}

/** Each chain looks at the clock by itself: it is its own watermark that a step may pass. */
const clockOf = ({ settings: { source, cdc_log_dir }, table, shard }: SweepSubject): string =>
  `${source.host}:${String(source.port)}/${source.database} ${cdc_log_dir} ${chainName(table, shard?.name ?? '')}`;

function isFullDue(
  { settings, table }: SweepSubject,
  { full_sweep, horizon }: BatchMetadata,
  now: Horizon,
  hasStepped: boolean,
): boolean {
  if (full_sweep === null) return true;
  const isSetBack = hasStepped || (horizon !== null && Date.parse(now.clock) < Date.parse(horizon.clock));
  if (isSetBack)
    logger.warn(
      { table, clock: now.clock, before: horizon?.clock },
      'the clock of the source was set back: every row that was written since is looked for, whatever its time',
    );
  return (
    isSetBack || Date.parse(now.clock) - Date.parse(full_sweep.clock) >= settings.full_sweep_interval_seconds * 1000
  );
}

async function warnOfBlindness(
  { source, table, settings }: SweepSubject,
  { blind_sessions }: HorizonReading,
): Promise<void> {
  const right = await missingRight(source);
  const remedy =
    right === undefined ? 'set track_activities = on for their roles' : `as a superuser of the source: ${right}`;
  warnOnce(
    `blind ${settings.source.user}`,
    `${table}: ${String(blind_sessions)} sessions of the source do not show when their transactions began, so the clock is taken instead: ` +
      `what a transaction stamped more than WATERMARK_ADVANCE_SECONDS (${String(settings.watermark_advance_seconds)}) before it commits is found by the next full sweep only. ${remedy}`,
  );
}
