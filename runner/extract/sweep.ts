import { startSizing } from './batch-size.js';
import { checksumOf, type ChangeLog } from '../change-log/chain.js';
import { afterBatch, batchId, batchMetadataSchema, type BatchMetadata, type LogPlace } from '../batch/metadata.js';
import type { Transaction } from '../base/database.js';
import { failpoint } from '../base/failpoint.js';
import { logger } from '../base/logger.js';
import { timed } from '../run/measurements.js';
import { knownRows } from './known-rows.js';
import { limitRate } from './rate-limit.js';
import { publishBatch, publishCheckpoint } from '../change-log/publish.js';
import { chainName } from '../batch/shard.js';
import { awaitFlush, readInsertPosition, type SourceIdentity } from '../source/server.js';
import { assertKeysUnique, columnsOfBatch, inSnapshot, readPage, unfilledColumns } from '../source/table.js';
import type { Page, PagePlace } from '../source/table.js';
import { beginInSnapshot, beginSweep, resumeSweep, type SweepStart, type SweepSubject } from './sweep-start.js';

/** What a sweep of one table works with. */
export interface Sweeper extends SweepSubject {
  readonly log: ChangeLog;
  readonly identity: SourceIdentity;
  /** When another chain of the table captured rows of this one last: what it reads is later. */
  readonly notBefore?: string | null;
  readonly onPage?: ((changes: number) => void) | undefined;
  /** Told, at the start of a sweep that reads every row, about how many there are. */
  readonly onEstimate?: ((rows: number) => void) | undefined;
  /** The greatest batch that is loaded well; undefined while the warehouse is away. */
  readonly batchCeiling?: number | undefined;
  /** Most rows to read in a second; undefined for no limit. */
  readonly maxRowsPerSecond?: number | undefined;
  /** Ends the sweep after the page in hand; the next one resumes it there. */
  readonly signal?: AbortSignal | undefined;
}

/** Batches and changes published so far. */
export type Published = Record<'batches' | 'changes', number>;

/** A page, where it was read, and whether the sweep goes on after it. */
type PageRead = Readonly<{ page: Page; place: PagePlace; isLast: boolean }>;

/**
 * Runs one sweep, page by page, each page a batch: the rest of the newest one where that was interrupted, else one of its own.
 * @param newest the newest checkpoint, where the sweep begins; undefined for the first
 * @param total is added to
 * @throws AlreadyPublishedError if another writer was quicker; what was published before stands
 */
export async function sweep(
  sweeper: Sweeper,
  newest: BatchMetadata | undefined,
  resumes: boolean,
  total: Published,
): Promise<void> {
  const start = resumes && newest !== undefined ? resumeSweep(newest) : await beginSweep(sweeper, newest);
  if (start === undefined) return;
  if (start.sweep.is_full && !resumes) await assertKeysUnique(sweeper.source, sweeper.table, sweeper.described);
  await sweepPages(sweeper, sweeper.source, start, newest, total);
}

/**
 * Notes that the log is read on from where a last sweep ends. `after`: the snapshot of that sweep, and a place of the log that was reached when
 * it had been taken.
 */
export type HandOver = (
  log: ChangeLog,
  newest: BatchMetadata,
  after: NonNullable<LogPlace['after']>,
) => Promise<unknown>;

/**
 * The last sweep of a table before it is read from the log: what no sweep has read yet, all in one snapshot.
 * @param continues the checkpoint it goes on from; undefined to read every row
 * @throws AlreadyPublishedError if another writer was quicker; what was published before stands
 */
export async function sweepForLog(
  sweeper: Sweeper,
  handOver: HandOver,
  newest: BatchMetadata | undefined,
  continues: BatchMetadata | undefined,
  total: Published,
): Promise<void> {
  await assertKeysUnique(sweeper.source, sweeper.table, sweeper.described);
  const read = await inSnapshot(sweeper.source, sweeper.described, async (session) => {
    const start = await beginInSnapshot(session, sweeper.described, continues);
    const until = await readInsertPosition(session);
    failpoint('last snapshot');
    const before = await sweepPages({ ...sweeper, signal: undefined }, session, start, newest, total);
    return { before, after: { snapshot: start.snapshot, until } };
  });
  failpoint('last sweep');
  if (read.before !== undefined) await handOver(sweeper.log, read.before, read.after);
}

/** @returns the newest checkpoint now */
async function sweepPages(
  sweeper: Sweeper,
  source: Transaction,
  start: SweepStart,
  newest: BatchMetadata | undefined,
  total: Published,
): Promise<BatchMetadata | undefined> {
  const { is_full, from_transaction } = start.sweep;
  const chain = chainName(sweeper.log.table, sweeper.log.shard);
  const size = startSizing(sweeper.settings, chain, sweeper.batchCeiling);
  // All that --full reads is to be written again.
  const known = knownRows(sweeper.settings, chain, sweeper.described, sweeper.full ? undefined : newest);
  const keepRate = limitRate(sweeper.maxRowsPerSecond, sweeper.signal);
  let before = newest;
  let [safeBefore, repeats] = [0n, 0];
  const { estimated_rows: estimate } = sweeper.described;
  if (from_transaction === null && is_full && estimate !== null)
    sweeper.onEstimate?.(Math.ceil(estimate / (sweeper.shard?.layout.count ?? 1)));
  for (let place: PagePlace | undefined = start.place; place !== undefined && sweeper.signal?.aborted !== true; ) {
    failpoint('page');
    const [here, began] = [place, performance.now()];
    const notBefore = later(before?.extracted_at ?? null, sweeper.notBefore ?? null);
    const { batch_max_bytes: bytes, watermark_advance_seconds: margin_seconds } = sweeper.settings;
    const limits = { rows: size.rows(), bytes, margin_seconds, known_rows: known.now() };
    const page = await timed('read', () => readPage(source, sweeper.described, start, here, limits, notBefore));
    const next = nextPlace(sweeper, start, place, page);
    const read = { page, place, isLast: next === undefined };
    size.read(page);
    repeats += page.rows_read - page.change_count;
    if (page.lines !== null) {
      if (page.newest_writer === null || BigInt(page.newest_writer) >= safeBefore)
        safeBefore = BigInt(await awaitFlush(source));
      failpoint('flushed');
      before = await publish(sweeper, start, read, before);
      total.batches += 1;
      total.changes += page.change_count;
      size.measured({ changes: page.change_count, seconds: (performance.now() - began) / 1000 });
      sweeper.onPage?.(page.change_count);
    } else if (read.isLast && (repeats > 0 || isCheckpointDue(sweeper, start, page, before))) {
      before = await publish(sweeper, start, read, before);
    }
    known.become(before, page.known_rows);
    place = next;
    if (place !== undefined) await keepRate(page.rows_read);
  }
  return before;
}

/** Of two instants of one zone (ISO 8601) the later one. */
const later = (one: string | null, other: string | null) => ((one ?? '') > (other ?? '') ? one : other);

/**
 * The pass over rows without an effective time comes last. Where transactions do not tell which were read before, in full sweeps only: else
 * each sweep would write all of them again.
 */
function nextPlace({ described }: Sweeper, start: SweepStart, place: PagePlace, page: Page): PagePlace | undefined {
  if (page.has_more) return { isDated: place.isDated, after: page.last_row };
  const seeksUndated = described.may_be_undated && (start.sweep.is_full || described.fallback === null);
  return place.isDated && seeksUndated ? { isDated: false, after: null } : undefined;
}

/** Publishes the changes of a page as a batch; of one without any, a checkpoint alone. */
async function publish(
  { log, described, identity, shard, fills }: Sweeper,
  { floor, snapshot, horizon, full_sweep, sweep }: SweepStart,
  { page, place, isLast }: PageRead,
  before: BatchMetadata | undefined,
): Promise<BatchMetadata> {
  const unfilled = unfilledColumns(described, before);
  const metadata = batchMetadataSchema.parse({
    batch_id: null,
    table: log.table,
    shard: shard?.name ?? null,
    shard_layout: shard?.layout ?? null,
    extracted_at: page.extracted_at,
    change_count: page.change_count,
    ...afterBatch(before),
    high_watermark: (place.isDated ? page.last_row : null) ?? before?.high_watermark ?? null,
    ...{ floor, snapshot, horizon, full_sweep },
    sweep: { ...sweep, complete: isLast, undated: place.isDated ? null : { after: page.last_row?.key ?? null }, fills },
    ...identity,
    relation_oid: described.relation_oid,
    ...columnsOfBatch(described, isLast ? unfilled.filter((column) => !fills.includes(column)) : unfilled),
    checksum: null,
  });
  const { lines } = page;
  if (lines === null) {
    await publishCheckpoint(log, metadata);
    return metadata;
  }
  const batch = { ...metadata, batch_id: batchId(page.extracted_at, before, log.shard), checksum: checksumOf(lines) };
  const file = await timed('publish', () => publishBatch(log, batch, lines));
  logger.debug({ file, changes: page.change_count }, 'batch published');
  return batch;
}

/**
 * Whether a sweep that ends without another change must say so: it ends what is open, was a full one, or the heartbeat is due. (One that found
 * what was known must too, or the next would look at it once more.)
 */
function isCheckpointDue({ settings }: Sweeper, start: SweepStart, page: Page, before: BatchMetadata | undefined) {
  if (before === undefined || start.sweep.is_full || !before.sweep.complete) return true;
  return Date.parse(page.extracted_at) - Date.parse(before.extracted_at) >= settings.heartbeat_seconds * 1000;
}
