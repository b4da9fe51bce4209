import { isDeepStrictEqual } from 'node:util';
import { isAway, type Database } from '../base/database.js';
import { TidemarkError, allDone } from '../base/errors.js';
import { failpoint } from '../base/failpoint.js';
import { lsnText, type Lsn } from '../base/replication.js';
import type { Settings } from '../base/settings.js';
import type { NewBatch } from '../change-log/publish.js';
import { timed } from '../run/measurements.js';
import { sizeLimits } from '../run/size-limits.js';
import type { SourceIdentity } from '../source/server.js';
import { describeRelation } from './layout.js';
import { parseMessage, type Message, type Relation } from './pgoutput.js';
import { isoOf, writePosition } from './position.js';
import { addChange, endTransaction, isNews, publishPart, sayStopped, stopTable, takePart } from './table.js';
import type { Change, FollowedTable, OpenTransaction, Part, RoundEnds } from './table.js';

/** What a reader of the log goes on from. */
export interface ReaderStart {
  readonly settings: Settings;
  readonly source: Database;
  readonly identity: SourceIdentity;
  readonly slot: string;
  readonly tables: readonly FollowedTable[];
  readonly from: Lsn;
  /** What the file of positions says; later than `from` where a table has to go back. */
  readonly known: Lsn;
  /** Of the last commit before, in microseconds since 1970. */
  readonly lastTime: bigint;
}

/** A round that is being published. */
export interface Round {
  readonly batches: readonly NewBatch[];
  /** Until all of them are; what fails it ends the session. */
  readonly published: Promise<void>;
  readonly changes: number;
  readonly slot: string;
  /** Every table that was read up to there. */
  readonly followed: readonly string[];
  readonly to: string;
  readonly last_commit_time: string;
  /** When, by the clock of the source, nothing more was committed; null where nobody has asked yet. */
  readonly complete_at: string | null;
}

/** Where the log of the source ended at a moment of its clock. */
export type LogEnd = Readonly<{ end: Lsn; at: string }>;

/**
 * So often the position is noted, and the server told: batches say themselves how far their tables are. Whoever goes on from a position leaves out
 * what each table has.
 */
export const NOTE_MS = 250;

/** Makes rounds of batches of what the log says: one round ends at the same place in the log for all tables. */
export class LogReader {
  /** The end of the last transaction that was read; of the last one that is durable; and of the last one that the file of positions has. */
  read: Lsn;
  durable: Lsn;
  noted: Lsn;
  /** Whether so much has gathered that no more is to be read. */
  isFull = false;
  private gathered = 0;
  private notedAt = -Infinity;
  /** What the file of positions says, unless somebody else writes it. */
  private known: Lsn;
  private time: bigint;
  private ahead: LogEnd | undefined;
  private completeAt: string | null = null;
  private open: OpenTransaction | undefined;
  private publishing: Promise<void> = Promise.resolve();
  private readonly domains = new Map<number, string>();
  /** A table of the source may have several histories. */
  private readonly byOid = new Map<number, readonly FollowedTable[]>();
  /** The tables that the open transaction has written to. */
  private readonly touched = new Set<FollowedTable>();
  private readonly most: number;
  private readonly excluded: readonly string[];

  /**
   * @param onRound told of each round that begins, whoever asked for it
   * @param onPublished and of each that is durable
   */
  constructor(
    private readonly start: ReaderStart,
    private readonly onRound: (round: Round) => void,
    private readonly onPublished: (round: Round) => void,
  ) {
    const { stream_exclude_origins } = start.settings;
    this.read = this.durable = this.noted = start.from;
    [this.time, this.known] = [start.lastTime, start.known];
    this.most = sizeLimits(start.settings).most;
    this.excluded = stream_exclude_origins.split(',').map((name) => name.trim());
  }

  get hasWhole(): boolean {
    return this.start.tables.some(({ whole: { count } }) => count > 0);
  }

  /** Once all before this end is durable, it is said that nothing was lacking then: a quiet table is as new as that. */
  expect(end: LogEnd): void {
    this.ahead ??= end;
  }

  /** All that was committed before this place has come. */
  keepUp(end: Lsn): void {
    if (this.open === undefined && end > this.read) this.read = end;
  }

  /** Takes a message; where it returns a promise, none may follow before that resolves. */
  take(bytes: Buffer): Promise<void> | undefined {
    const message = parseMessage(bytes);
    if (message.kind === 'relation') return this.takeRelation(message);
    if ('row' in message || 'old' in message || message.kind === 'truncate')
      return this.takeChange(message, bytes.length);
    this.takeOther(message);
    return undefined;
  }

  /** Takes a table out, by name; the others go on. */
  stop(table: FollowedTable, error: TidemarkError): void {
    stopTable(table, lsnText(this.open?.commit ?? this.read), error.message);
    sayStopped(table.mapping.dimension_name, error);
  }

  /**
   * Publishes what has gathered of whole transactions; where there is nothing of any, and `isForced`, what there is of the open one. After a
   * failure nothing follows: what it had in hand is read again by the next session. Where it is the last the position is noted in any case.
   */
  publish(isForced = false, isLast = false): Promise<void> {
    const next = this.publishing.then(() => this.publishNow(isForced, isLast));
    this.publishing = next;
    next.catch(() => undefined);
    return next;
  }

  private cut(isForced: boolean): Part[] {
    const { open, touched } = this;
    const whole = this.start.tables.filter(({ whole: { count } }) => count > 0);
    if (whole.length > 0 || !isForced || open === undefined) return whole.map((table) => takePart(table));
    return [...touched]
      .filter(({ lines }) => lines.count > 0)
      .map((table) => takePart(table, { commit: lsnText(open.commit), changes: table.lastTaken }));
  }

  private async publishNow(isForced: boolean, isLast: boolean): Promise<void> {
    const { slot, identity, tables } = this.start;
    const [parts, to, last_commit_time] = [this.cut(isForced), this.read, isoOf(this.time)];
    const isDue = isLast || performance.now() >= this.notedAt + NOTE_MS;
    const hasCome = this.ahead !== undefined && to >= this.ahead.end;
    if (parts.length === 0 && ((to === this.noted && !hasCome) || !isDue)) return;
    if (hasCome) [this.completeAt, this.ahead] = [this.ahead?.at ?? null, undefined];
    const complete_at = this.completeAt;
    const ends = { slot, from: lsnText(this.durable), to: lsnText(to), last_commit_time };
    failpoint('stream round');
    this.count();
    const batches = parts.map((part) => publishPart(part, ends, identity));
    const published = timed('publish', () => allDone(batches.map((batch) => batch.published)));
    const changes = parts.reduce((sum, { count }) => sum + count, 0);
    const followed = tables.flatMap(({ mapping, stopped }) => (stopped === null ? mapping.dimension_name : []));
    const round = { slot, to: ends.to, last_commit_time, complete_at, changes, batches, published, followed };
    this.onRound(round);
    await published;
    failpoint('stream published');
    this.durable = to;
    if (isDue) await this.note(ends);
    this.onPublished(round);
  }

  /** How much has gathered. */
  private count(): void {
    const { settings, tables } = this.start;
    this.gathered = tables.reduce((sum, { lines }) => sum + lines.length, 0);
    this.isFull = this.gathered >= settings.batch_max_bytes || tables.some(({ lines }) => lines.count >= this.most);
  }

  /** Batches say themselves how far their tables are. */
  private async note({ to, last_commit_time }: RoundEnds): Promise<void> {
    const { slot, identity, settings, tables } = this.start;
    const complete_at = this.completeAt;
    const known = tables.map(
      ({ mapping, newest: { sequence }, publication, stopped }) =>
        [mapping.dimension_name, { sequence, publication, stopped }] as const,
    );
    const position = { slot, ...identity, to, last_commit_time, complete_at, tables: Object.fromEntries(known) };
    await writePosition(settings.cdc_log_dir, position, this.known);
    [this.known, this.noted, this.notedAt] = [this.durable, this.durable, performance.now()];
    failpoint('stream position');
  }

  private async flush(): Promise<void> {
    while (this.start.tables.some(({ lines }) => lines.count > 0)) await this.publish(true);
  }

  private takeRelation(relation: Relation): Promise<void> | undefined {
    const { tables, source } = this.start;
    const following = tables.filter(({ stopped }) => stopped === null);
    const moved = following.filter(
      (each) => each.newest.relation_oid === String(relation.oid) && !isOf(each, relation),
    );
    for (const table of moved) this.stop(table, wasRenamed(table, relation));
    const named = following.filter((each) => isOf(each, relation));
    if (named.length === 0) return undefined;
    this.byOid.set(relation.oid, named);
    const altered = named.filter(({ layout }) => !isDeepStrictEqual(layout?.relation, relation));
    return altered.length === 0 ? undefined : this.describe(altered, relation, source);
  }

  private async describe(tables: readonly FollowedTable[], relation: Relation, source: Database): Promise<void> {
    if (tables.some(({ lines }) => lines.count > 0)) await this.flush();
    for (const table of tables)
      try {
        table.layout = await describeRelation(source, table.mapping, relation, this.domains, table.newest);
      } catch (error) {
        if (!(error instanceof TidemarkError) || isAway(error)) throw error;
        this.stop(table, error);
      }
  }

  private takeChange(change: Change, bytes: number): Promise<void> | undefined {
    const { open: transaction } = this;
    if (transaction === undefined) throw new Error('pgoutput sent a change outside of a transaction');
    if (change.kind === 'truncate') return this.takeTruncate(change, transaction);
    const tables = this.byOid.get(change.oid)?.filter((each) => isNews(each, transaction)) ?? [];
    const add = () => {
      for (const table of tables) this.add(table, transaction, change);
    };
    // A row that would make too much of it travels alone.
    const most = this.start.settings.batch_max_bytes;
    if (tables.some(({ lines }) => lines.count > 0 && lines.length + bytes > most)) return this.flush().then(add);
    add();
    return undefined;
  }

  private add(table: FollowedTable, transaction: OpenTransaction, change: Change): void {
    const before = table.lines.length;
    addChange(table, transaction, change);
    this.touched.add(table);
    this.gathered += table.lines.length - before;
    this.isFull ||= this.gathered >= this.start.settings.batch_max_bytes || table.lines.count >= this.most;
  }

  private async takeTruncate(change: Extract<Change, { kind: 'truncate' }>, transaction: OpenTransaction) {
    const emptied = change.oids.flatMap((oid) => this.byOid.get(oid) ?? []).filter((each) => isNews(each, transaction));
    if (this.start.settings.stream_on_truncate === 'stop')
      for (const table of emptied) this.stop(table, wasTruncated(table));
    const applied = emptied.filter(({ stopped }) => stopped === null);
    if (applied.length === 0) return;
    await this.flush();
    for (const table of applied) this.add(table, transaction, change);
    await this.flush();
  }

  private takeOther(message: Exclude<Message, Change | Relation>): void {
    const { time, open } = this;
    if (message.kind === 'begin') {
      const { lsn: commit, xid, time: own } = message;
      this.open = { commit, xid, time: own > time ? own : time + 1n, isExcluded: false };
    } else if (message.kind === 'origin') {
      if (open !== undefined) open.isExcluded = this.excluded.includes(message.name);
    } else if (message.kind === 'type') {
      if (message.schema === 'pg_catalog') this.domains.set(message.oid, message.name);
    } else if (message.kind === 'commit') {
      for (const table of this.touched) endTransaction(table);
      this.touched.clear();
      [this.read, this.time, this.open] = [message.end, open?.time ?? time, undefined];
    }
  }
}

const isOf = ({ mapping }: FollowedTable, { schema, table }: Relation): boolean =>
  mapping.source_schema === schema && mapping.source_table === table;

const wasRenamed = ({ mapping }: FollowedTable, { schema, table }: Relation): TidemarkError =>
  new TidemarkError(`source table ${mapping.source_schema}.${mapping.source_table} is called ${schema}.${table} now`, {
    detail: `table=${mapping.dimension_name}`,
    hint: `write the migration that follows: npx tidemark add --update ${mapping.source_schema}.${mapping.source_table} --source ${schema}.${table}`,
  });

const wasTruncated = ({ mapping }: FollowedTable): TidemarkError =>
  new TidemarkError(`source table ${mapping.source_schema}.${mapping.source_table} was truncated`, {
    detail: `table=${mapping.dimension_name}`,
    hint: 'STREAM_ON_TRUNCATE is stop: see whether it was meant',
  });
