import { withDatabase } from '../base/database.js';
import { TidemarkError, describeError } from '../base/errors.js';
import { logger } from '../base/logger.js';
import { lsnText } from '../base/replication.js';
import type { Settings } from '../base/settings.js';
import { isLogged, type DimensionMapping } from '../batch/mapping.js';
import type { BatchMetadata, LogPlace } from '../batch/metadata.js';
import { newestCheckpoint, openChangeLog, type ChangeLog } from '../change-log/chain.js';
import { inspectChains } from '../change-log/inspect.js';
import { extractTables } from '../extract/tables.js';
import { loadTables } from '../load/tables.js';
import type { Capture } from '../registration/options.js';
import { removeTable, type RemovedTable } from '../registration/registered.js';
import { selectTables } from '../run/each-table.js';
import { readPublication } from '../source/log.js';
import { awaitOpenTransactions, readInsertPosition } from '../source/server.js';
import { holdSlot, slotOf } from '../stream/position.js';
import { applySetup, setupStatements, unpublish, unpublishStatement } from '../stream/setup.js';
import { beginFollowing, placeInLog, readKnownLog, standOf, type Stand } from '../stream/start.js';
import { catchUpWithLog, reportSlot } from '../stream/stream.js';
import { declareCapture, dimensionMappings } from '../warehouse/functions.js';

/**
 * Hands a table over from polling to the log, and back. It is one procedure, whether it is the first table, one that is added later, or one whose
 * slot was lost:
 *
 * 1. publication, then slot, so that no change is left out; a reader at work goes on, but gives up no log (`holdSlot`);
 * 2. a place C of the log; then every transaction ends that was open when C was reached, for a commit record precedes what it makes visible;
 * 3. one last sweep, in a single snapshot S, of all that no sweep has read;
 * 4. the checkpoint of the hand-over: the log is read from C on, without the transactions that S shows.
 *
 * A transaction that S shows was read by a sweep, and is left out; one that S does not show commits after C, and is in the log: each is there once.
 */

export interface Captured {
  readonly table: string;
  readonly capture: Capture;
  /** False where nothing had to be done. */
  readonly is_changed: boolean;
  /** Changes that sweeps read before the log. */
  readonly changes: number;
  /** Between these positions states of rows were lost; what they came to was read, and what was deleted is found by reconcile. */
  readonly gap: LogPlace['gap'];
  /** Of a table that went back to polling. */
  readonly left?: LeftAtSource;
}

/**
 * @param capture poll, log, or both: the log, and comparisons as a proof
 * @throws UsageError if no such table is registered; TidemarkError if the source cannot serve its log, or publishing would break its application
 */
export async function captureTable(
  settings: Settings,
  table: string,
  capture: Capture,
  signal?: AbortSignal,
): Promise<Captured> {
  const [mapping] = await mappingsOf(settings, table);
  if (mapping === undefined) throw new Error(`${table} is not registered`);
  if (capture === 'poll') return backToPolling(settings, mapping, signal);
  const before = mapping.capture === 'poll' ? undefined : await standBefore(settings, mapping);
  if (before?.fault === null) {
    if (mapping.capture !== capture) await declare(settings, table, capture);
    return { table, capture, is_changed: mapping.capture !== capture, changes: 0, gap: null };
  }
  assertAlone(mapping);
  await withDatabase(settings.source, 'capture', async (source) => {
    await applySetup(source, await setupStatements(source, settings, [mapping]));
  });
  let changes = 0;
  if (mapping.capture === 'poll') {
    await loadShards(settings, table, signal);
    // What can be read before takes no part in the last sweep, which holds one snapshot for as long as it takes.
    const swept = await extractTables({ settings, tables: [table], shard: 'whole', signal });
    for (const each of swept) changes += each.changes;
    await declare(settings, table, capture);
  }
  const handed = await handOver(settings, mapping, before, signal);
  return { table, capture, is_changed: true, changes: changes + handed.changes, gap: handed.gap };
}

const mappingsOf = (settings: Settings, table: string): Promise<readonly DimensionMapping[]> =>
  withDatabase(settings.warehouse, 'capture', async (warehouse) =>
    selectTables(await dimensionMappings(warehouse), [table]),
  );

const declare = (settings: Settings, table: string, capture: Capture): Promise<void> =>
  withDatabase(settings.warehouse, 'capture', (warehouse) => declareCapture(warehouse, table, capture));

/** How far the chain of a table has come in the log, and why the reader cannot go on from there, if so; undefined where it was never followed. */
async function standBefore(settings: Settings, mapping: DimensionMapping): Promise<Stand | undefined> {
  const log = await openChangeLog(settings.cdc_log_dir, mapping.dimension_name);
  const newest = await newestCheckpoint(log);
  const place = newest && (await placeInLog(log, newest, slotOf(settings).slot));
  if (newest === undefined || place === undefined) return undefined;
  const known = await withDatabase(settings.source, 'capture', (source) => readKnownLog(source, settings));
  return standOf(known, mapping, newest, place);
}

/** Whether rows of its own can be told apart is asked of the source, where it is published. */
function assertAlone({ dimension_name: table, with_children }: DimensionMapping): void {
  if (!with_children) return;
  throw new TidemarkError(`${table} is read with the tables that inherit from it, which the log has by themselves`, {
    detail: `table=${table}`,
    hint: 'leave it to polling',
  });
}

/** The log is one whole: a table that was cut into shards is read as one from here on, which begins when all of them are loaded. */
async function loadShards(settings: Settings, table: string, signal: AbortSignal | undefined): Promise<void> {
  const isCut = (await inspectChains(settings.cdc_log_dir, table)).some(
    ({ shard, pending }) => shard !== '' && pending > 0,
  );
  if (isCut) await loadTables({ settings, tables: [table], signal });
}

async function handOver(
  settings: Settings,
  mapping: DimensionMapping,
  before: Stand | undefined,
  signal: AbortSignal | undefined,
): Promise<Pick<Captured, 'changes' | 'gap'>> {
  const { slot, publication } = slotOf(settings);
  const { dimension_name: table } = mapping;
  const release = await holdSlot(settings.cdc_log_dir, slot, table);
  try {
    const { from, entry } = await withDatabase(settings.source, 'capture', async (source) => {
      const position = await readInsertPosition(source);
      await awaitOpenTransactions(source, table, signal);
      const { source_schema, source_table } = mapping;
      const published = await readPublication(source, publication);
      return { from: position, entry: published?.entries.get(`${source_schema}.${source_table}`) ?? null };
    });
    const lost: { gap: LogPlace['gap'] } = { gap: null };
    const begin = (log: ChangeLog, newest: BatchMetadata, after: NonNullable<LogPlace['after']>) => {
      if (before !== undefined)
        lost.gap = { from: lsnText(before.to), to: from, since: before.lastCommitTime, until: newest.extracted_at };
      return beginFollowing(log, newest, { slot, to: from, after, entry, ...lost });
    };
    const swept = await extractTables({ settings, tables: [table], handOver: begin, signal });
    const { gap } = lost;
    if (gap !== null)
      await withDatabase(settings.source, 'capture', (source) =>
        reportSlot(settings, source, { from: gap.since, to: gap.until }),
      );
    return { changes: swept.reduce((sum, { changes }) => sum + changes, 0), gap };
  } finally {
    await release();
  }
}

/**
 * What was committed until now is read from the log first, where that can be: polling would find no delete, and no state in between. The next
 * sweep reads every row again: what the log brought already is absorbed.
 */
async function backToPolling(settings: Settings, mapping: DimensionMapping, signal: AbortSignal | undefined) {
  const { dimension_name: table, capture } = mapping;
  const polled = { table, capture: 'poll', changes: 0, gap: null } as const;
  if (capture === 'poll') return { ...polled, is_changed: false };
  await withDatabase(settings.source, 'capture', (source) => catchUpWithLog(settings, source, signal)).catch(
    (error: unknown) => {
      if (signal?.aborted === true) throw error;
      logger.warn({ table }, `the log is not read to its end: ${describeError(error, false)}`);
    },
  );
  await declare(settings, table, 'poll');
  return { ...polled, is_changed: true, left: await leaveLog(settings, mapping) };
}

/** What is left at the source of a table that is not read from its log any more, for whoever may remove it. */
export interface LeftAtSource {
  /** Takes the table out of the publication. */
  readonly statement?: string;
  /** The slot, where no table is read through it any more. */
  readonly slot?: string;
}

/** The reader lets go of the table at once; the publication gives it up, if this user may, and no other history of it is read from the log. */
async function leaveLog(settings: Settings, mapping: DimensionMapping): Promise<LeftAtSource> {
  const { slot } = slotOf(settings);
  const release = await holdSlot(settings.cdc_log_dir, slot, mapping.dimension_name);
  await release();
  const logged = (await withDatabase(settings.warehouse, 'capture', dimensionMappings)).filter(isLogged);
  const left: { statement?: string; slot?: string } = logged.length > 0 ? {} : { slot };
  if (logged.some((other) => isOfOneSource(other, mapping))) return left;
  try {
    await withDatabase(settings.source, 'capture', (source) => unpublish(source, settings, mapping));
  } catch (error) {
    logger.warn({ table: mapping.dimension_name }, `the publication keeps it: ${describeError(error, false)}`);
    left.statement = unpublishStatement(settings, mapping);
  }
  return left;
}

const isOfOneSource = (one: DimensionMapping, other: DimensionMapping): boolean =>
  one.source_schema === other.source_schema && one.source_table === other.source_table;

/** Takes a table out of Tidemark, and out of what is read from the log. @throws as removeTable does */
export async function removeCaptured(
  settings: Settings,
  table: string,
  dropHistory: boolean,
): Promise<RemovedTable & { readonly left?: LeftAtSource }> {
  const [mapping] = await mappingsOf(settings, table);
  const removed = await removeTable(settings, table, dropHistory);
  if (mapping === undefined || !isLogged(mapping)) return removed;
  return { ...removed, left: await leaveLog(settings, mapping) };
}
