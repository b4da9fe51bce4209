import type { Settings } from '../base/settings.js';
import type { BatchMetadata, Horizon } from '../batch/metadata.js';
import type { Database, Transaction } from '../base/database.js';
import { failpoint } from '../base/failpoint.js';
import { logger, warnOnce } from '../base/logger.js';
import { chainName, type Shard } from '../batch/shard.js';
import { missingRight, noticesStep, readBeginning, readClock, readHorizon, readSnapshot } from '../source/horizon.js';
import type { HorizonReading } from '../source/horizon.js';
import type { PagePlace, SourceTable } from '../source/table.js';

/** What all pages of a sweep share, as their batches will say it, and where its first page begins. */
export interface SweepStart extends Pick<BatchMetadata, 'floor' | 'snapshot' | 'horizon' | 'full_sweep'> {
  readonly sweep: Omit<BatchMetadata['sweep'], 'complete' | 'undated' | 'fills'>;
  readonly place: PagePlace;
}

/** Of a sweep that no clock, and no transaction, bounds. */
const UNBOUNDED = {
  ...{ from_floor: null, from_high_watermark: null, from_transaction: null, before_transaction: null },
  counters: null,
};

export interface SweepSubject {
  readonly source: Database;
  readonly settings: Settings;
  readonly table: string;
  readonly described: SourceTable;
  /** undefined for the whole table. */
  readonly shard?: Shard | undefined;
  /** True where sweep follows sweep: a table that each one reads whole is left alone in between. */
  readonly isWatching?: boolean | undefined;
  /** Reads every row again, whatever its time and transaction: repeats are absorbed. Also accepts another source server. */
  readonly full: boolean;
  /** History columns that were added to the mapping: reads every row in which one of them has a value. */
  readonly fills: readonly string[];
}

/** Whether a chain went on from this very table: one that has taken its name since may hold rows that are older than the last sweep. */
export const isSameRelation = ({ relation_oid }: SourceTable, newest: BatchMetadata): boolean =>
  newest.relation_oid === null || newest.relation_oid === relation_oid;

/**
 * Begins a sweep where the one before it began to look: the floor before the snapshot, in a transaction of its own. It is a full one,
 * compared with the full one before it, when FULL_SWEEP_INTERVAL_SECONDS have passed since, the source's clock was set back, or columns
 * are to be filled; of a table without an effective time every one is.
 * @returns undefined where such a table is left alone this time
 */
export async function beginSweep(
  subject: SweepSubject,
  newest: BatchMetadata | undefined,
): Promise<SweepStart | undefined> {
  const { source, described } = subject;
  if (described.fallback !== null) return beginByClock(subject, newest);
  // A sweep that read by times alone saw no transactions, so that none can go on from it.
  const before = newest?.sweep.before_transaction === null || readsAll(subject, newest) ? undefined : newest;
  failpoint('floor');
  const horizon = await readHorizon(source, before);
  if (horizon.blind_sessions > 0) await warnOfBlindness(subject, horizon);
  const hasStepped = noticesStep(clockOf(subject), horizon, newest?.full_sweep?.clock ?? '');
  const isDue = before === undefined || isFullDue(subject, before, horizon, hasStepped) || subject.fills.length > 0;
  if (!isDue && isLeftAlone(subject, before, horizon.clock)) return undefined;
  const isFull = isDue || described.is_timeless;
  const continues = isFull ? before?.full_sweep?.snapshot : before.snapshot;
  failpoint('snapshot');
  const beginning = await readBeginning(source, continues ?? null, isFull ? undefined : before);
  const { snapshot, floor: from_floor, from_transaction, before_transaction } = beginning;
  return {
    floor: horizon.floor,
    horizon,
    snapshot,
    full_sweep: isFull ? { snapshot, clock: horizon.clock } : before.full_sweep,
    place: { isDated: !described.is_timeless, after: null },
    sweep: {
      is_full: isFull,
      from_high_watermark: isFull ? null : (before.high_watermark?.time ?? null),
      counters: described.is_timeless ? described.counters : null,
      ...{ from_floor, from_transaction, before_transaction },
    },
  };
}

/**
 * Begins the last sweep of a table before it is read from the log: all that no sweep has read yet, whatever its time, in the snapshot of a
 * transaction.
 * @param newest where it continues from; undefined to read every row
 */
export async function beginInSnapshot(
  session: Transaction,
  { is_timeless }: SourceTable,
  newest: BatchMetadata | undefined,
): Promise<SweepStart> {
  const horizon = await readHorizon(session, undefined);
  const beginning = await readBeginning(session, newest?.snapshot ?? null, undefined);
  const { snapshot, from_transaction, before_transaction } = beginning;
  return {
    floor: horizon.floor,
    horizon,
    snapshot,
    full_sweep: { snapshot, clock: horizon.clock },
    place: { isDated: !is_timeless, after: null },
    sweep: { ...UNBOUNDED, is_full: true, from_transaction, before_transaction },
  };
}

/** What was read from the log in between says nothing of what the next sweep has to read. */
const readsAll = ({ full, described }: SweepSubject, newest: BatchMetadata | undefined): boolean =>
  full || (newest !== undefined && (newest.log != null || !isSameRelation(described, newest)));

/**
 * Where PostgreSQL's counters of a table without an effective time stand still, nothing was written to it; and it has an interval of its own.
 * They were read before the snapshot of the sweep that noted them: what is counted late, they make read late, and it is not lost.
 */
function isLeftAlone({ settings, described, isWatching }: SweepSubject, before: BatchMetadata, clock: string): boolean {
  if (isWatching !== true || !described.is_timeless || before.full_sweep === null) return false;
  if (described.counters !== null && described.counters === before.sweep.counters) return true;
  const { table_scan_interval_seconds: scan, full_sweep_interval_seconds: whole } = settings;
  const seconds = described.fallback === null ? scan : Math.max(scan, whole);
  return Date.parse(clock) - Date.parse(before.full_sweep.clock) < seconds * 1000;
}

/** A source whose transactions mean nothing here is read from the clock at the start of the sweep before, again and again. */
async function beginByClock(subject: SweepSubject, newest: BatchMetadata | undefined): Promise<SweepStart | undefined> {
  const { source, settings, table, described, fills } = subject;
  warnOnce(
    `${table}: ${described.fallback ?? ''}`,
    described.is_timeless
      ? `${table}: ${described.fallback ?? ''}, which shows no transactions, and it has no effective time: each sweep writes all of it, ` +
          'and the load absorbs what has not changed ("extract --watch" does so every FULL_SWEEP_INTERVAL_SECONDS)'
      : `${table}: ${described.fallback ?? ''}, which shows no transactions: it is read by times alone, with repeats, and a row ` +
          `that becomes visible more than WATERMARK_ADVANCE_SECONDS (${settings.watermark_advance_seconds}) after its effective time is missed until "extract --full"`,
  );
  const clock = await readClock(source);
  const since = fills.length > 0 || readsAll(subject, newest) ? undefined : newest;
  if (since !== undefined && isLeftAlone(subject, since, clock)) return undefined;
  const snapshot = await readSnapshot(source);
  return {
    floor: clock,
    horizon: null,
    snapshot,
    full_sweep: described.is_timeless ? { snapshot, clock } : null,
    place: { isDated: !described.is_timeless, after: null },
    sweep: { ...UNBOUNDED, is_full: since === undefined || described.is_timeless, from_floor: since?.floor ?? null },
  };
}

/** Goes on with the newest sweep after its last page. */
export function resumeSweep(newest: BatchMetadata): SweepStart {
  const { floor, horizon, snapshot, full_sweep, sweep, high_watermark } = newest;
  const key = sweep.undated?.after;
  const undated = { isDated: false, after: key == null ? null : { time: null, key } };
  const place = sweep.undated === null ? { isDated: true, after: high_watermark } : undated;
  return { floor, horizon, snapshot, full_sweep, sweep, place };
}

/** Each chain looks at the clock by itself: it is its own watermark that a step may pass. */
const clockOf = ({ settings: { source, cdc_log_dir }, table, shard }: SweepSubject): string =>
  `${source.host}:${source.port}/${source.database} ${cdc_log_dir} ${chainName(table, shard?.name ?? '')}`;

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

async function warnOfBlindness({ source, table, settings }: SweepSubject, { blind_sessions }: HorizonReading) {
  const right = await missingRight(source);
  const remedy =
    right === undefined ? 'set track_activities = on for their roles' : `as a superuser of the source: ${right}`;
  warnOnce(
    `blind ${settings.source.user}`,
    `${table}: ${blind_sessions} sessions of the source do not show when their transactions began, so the clock is taken instead: ` +
      `what a transaction stamped more than WATERMARK_ADVANCE_SECONDS (${settings.watermark_advance_seconds}) before it commits is found by the next full sweep only. ${remedy}`,
  );
}
