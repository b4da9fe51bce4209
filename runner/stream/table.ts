import { describeError, type TidemarkError } from '../base/errors.js';
import { logger } from '../base/logger.js';
import { lsnOf, type Lsn } from '../base/replication.js';
import type { DimensionMapping } from '../batch/mapping.js';
import { afterBatch, batchId, type BatchMetadata, type LogPlace } from '../batch/metadata.js';
import { checksumOf, type ChangeLog } from '../change-log/chain.js';
import { publishBatch, type NewBatch } from '../change-log/publish.js';
import { noteTable } from '../run/measurements.js';
import type { SourceIdentity } from '../source/server.js';
import { columnsOfBatch, unfilledColumns } from '../source/table.js';
import type { Layout } from './layout.js';
import { addLine, isSameKey, noLines, takeLines, type ChangeOf, type Lines } from './lines.js';
import type { Message } from './pgoutput.js';
import { isVisible, isoOf, microsOf } from './position.js';

/** A transaction that is being read: the place of its commit record, and when it was committed (microseconds since 1970). */
export interface OpenTransaction {
  readonly commit: Lsn;
  readonly time: bigint;
  readonly xid: number;
  /** True where its origin is one of those that are left out. */
  isExcluded: boolean;
}

/** How much has gathered up to some place in the lines, and what a batch of it says. */
interface Mark {
  readonly length: number;
  readonly count: number;
  readonly commits: number;
  readonly unchanged: number;
  /** Capture time of the last line. */
  readonly at: bigint;
}

const NOTHING: Mark = { length: 0, count: 0, commits: 0, unchanged: 0, at: 0n };

/** A table that is followed in the log: where its chain stands, and what has gathered for its next batch. */
export interface FollowedTable {
  readonly mapping: DimensionMapping;
  readonly log: ChangeLog;
  readonly publication: string;
  newest: BatchMetadata;
  /** All that was committed before is in its chain; and of the next commit so many changes. */
  readonly to: Lsn;
  /** The time of the last commit before that, of whichever table. */
  readonly lastCommitTime: string;
  readonly inside: LogPlace['inside'];
  readonly after: LogPlace['after'];
  stopped: { readonly at: string; readonly reason: string } | null;
  layout: Layout | undefined;
  readonly lines: Lines;
  /** What has gathered of transactions that have ended. */
  whole: Mark;
  unchanged: number;
  /** Capture time of the newest line, and the same in JSON. */
  at: bigint;
  atText: string;
  /**
   * The transaction that wrote last, whether it is left out, how many of its changes have come, the last of them that is in the lines, and whether one
   * was taken.
   */
  transaction: OpenTransaction | undefined;
  isLeftOut: boolean;
  changes: number;
  lastTaken: number;
  hasLines: boolean;
}

/** @param place where its chain stands in the log */
export function followTable(
  given: Pick<FollowedTable, 'mapping' | 'log' | 'publication' | 'newest' | 'to' | 'lastCommitTime'>,
  { inside, after }: LogPlace,
): FollowedTable {
  const none = { stopped: null, layout: undefined, whole: NOTHING, unchanged: 0, atText: '', transaction: undefined };
  const at = microsOf(given.newest.extracted_at);
  const counts = { changes: 0, lastTaken: 0, hasLines: false, isLeftOut: false };
  return { ...given, ...none, inside, after, lines: noLines(), at, ...counts };
}

export type Change = Extract<Message, { kind: 'insert' | 'update' | 'delete' | 'truncate' }>;

/** Whether a transaction is one that the chain has, that the sweep before it has read, or of an origin that is left out. */
function isLeftOut({ to, after }: FollowedTable, { commit, xid, isExcluded }: OpenTransaction): boolean {
  if (isExcluded || commit < to) return true;
  return after !== null && commit < lsnOf(after.until) && isVisible(after.snapshot, xid);
}

/** Counts a change of a transaction, and says whether it is still to be written: what of its transaction is in the chain is not. */
export function isNews(table: FollowedTable, transaction: OpenTransaction): boolean {
  const { inside } = table;
  if (table.transaction !== transaction)
    Object.assign(table, { transaction, isLeftOut: isLeftOut(table, transaction), changes: 0, hasLines: false });
  table.changes += 1;
  if (table.stopped !== null || table.isLeftOut) return false;
  return inside === null || lsnOf(inside.commit) !== transaction.commit || table.changes > inside.changes;
}

/** Adds the lines of a change. All of a transaction have one capture time, which is later than that of what is in the chain. */
export function addChange(table: FollowedTable, transaction: OpenTransaction, change: Change): void {
  const { lines, layout, inside } = table;
  table.lastTaken = table.changes;
  if (!table.hasLines) {
    const goesOn = inside !== null && lsnOf(inside.commit) === transaction.commit;
    if (!goesOn) table.at = transaction.time > table.at ? transaction.time : table.at + 1n;
    table.atText = `"${isoOf(table.at)}"`;
    table.hasLines = true;
  }
  const mayBeUnreadable = layout?.mayBeUnreadable;
  const of = (operation: ChangeOf['operation']): ChangeOf => ({ operation, at: table.atText, mayBeUnreadable });
  if (change.kind === 'truncate' || layout === undefined) {
    addLine(lines, of('TRUNCATE'), []);
    return;
  }
  const { columns, keys, effective } = layout;
  if (change.kind === 'delete') {
    addLine(lines, of('DELETE'), keys, change.old);
    return;
  }
  const old = change.kind === 'update' ? change.old : undefined;
  const hasMoved = old !== undefined && !isSameKey(keys, old, change.row);
  if (hasMoved) addLine(lines, of('DELETE'), keys, old);
  const operation = change.kind === 'insert' || hasMoved ? 'INSERT' : 'UPDATE';
  if (addLine(lines, { ...of(operation), effective }, columns, change.row, old, hasMoved)) table.unchanged += 1;
}

/** What has gathered, as far as it has come. */
function reached({ lines, whole, unchanged, at, hasLines, transaction }: FollowedTable): Mark {
  const isOpen = hasLines && transaction !== undefined;
  return { length: lines.length, count: lines.count, commits: whole.commits + (isOpen ? 1 : 0), unchanged, at };
}

/** The transaction has ended: what it wrote may be published. */
export function endTransaction(table: FollowedTable): void {
  if (table.hasLines && table.lines.count > 0) table.whole = reached(table);
  Object.assign(table, { transaction: undefined, changes: 0, hasLines: false });
}

/** Nothing of it is taken any more; what has gathered of the open transaction is forgotten. */
export function stopTable(table: FollowedTable, at: string, reason: string): void {
  table.stopped = { at, reason };
  table.hasLines = false;
  table.unchanged = table.whole.unchanged;
  table.lines.length = table.whole.length;
  table.lines.count = table.whole.count;
}

/** Says of a table that nothing of it is taken: now, and to those who ask how it fares. */
export function sayStopped(table: string, error: TidemarkError): void {
  const said = describeError(error, false);
  logger.error({ table }, said);
  noteTable(table, said);
}

/** What becomes one batch. */
export interface Part extends Mark {
  readonly table: FollowedTable;
  readonly bytes: Buffer;
  readonly layout: Layout | undefined;
  readonly inside: LogPlace['inside'];
}

/** Takes out what has gathered: of whole transactions; or `all`, so that the batch ends within one. */
export function takePart(table: FollowedTable, inside?: LogPlace['inside']): Part {
  const mark = inside == null ? table.whole : reached(table);
  const bytes = takeLines(table.lines, mark.length, mark.count);
  table.unchanged -= mark.unchanged;
  table.whole = NOTHING;
  return { ...mark, table, bytes, layout: table.layout, inside: inside ?? null };
}

/** Where a round begins and ends in the log, for all its tables. */
export type RoundEnds = Readonly<{ slot: string; from: string; to: string; last_commit_time: string }>;

/**
 * Publishes the next batch of a table, the newest one from now on. What a sweep left in its metadata stays, so that polling can go on from there.
 * It fails with an AlreadyPublishedError if somebody else has written to the chain.
 */
export function publishPart(part: Part, ends: RoundEnds, identity: SourceIdentity): NewBatch {
  const { table, bytes, layout, inside, commits, unchanged } = part;
  const { newest: before, after, mapping } = table;
  const { deletes, deleted_column: column, deleted_values: values } = mapping;
  const extracted_at = isoOf(part.at);
  const metadata = {
    ...before,
    batch_id: batchId(extracted_at, before, ''),
    format: 2 as const,
    shard: null,
    shard_layout: null,
    extracted_at,
    change_count: part.count,
    ...afterBatch(before),
    ...identity,
    ...(layout && { relation_oid: String(layout.relation.oid) }),
    ...(layout && columnsOfBatch(layout.described, unfilledColumns(layout.described, before))),
    checksum: checksumOf(bytes),
    log: {
      ...ends,
      ...{ commits, inside, unchanged, gap: null, entry: table.publication },
      ...(deletes === 'soft' && column !== null && { soft: { column, values } }),
      after: after !== null && lsnOf(ends.to) < lsnOf(after.until) ? after : null,
    },
  };
  table.newest = metadata;
  return { log: table.log, metadata, lines: bytes, published: publishBatch(table.log, metadata, bytes) };
}
