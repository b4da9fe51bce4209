import type { Database, Transaction } from '../base/database.js';
import type { BatchMetadata, Horizon } from '../batch/metadata.js';
import { one, runFile } from './file.js';

/** What a poll knows of the transactions that may still commit: read before its snapshot, outside any transaction of its own. */
export interface HorizonReading extends Horizon {
  /** No transaction that may still commit has stamped a row before this instant. */
  readonly floor: string;
  /** Before the clock was asked for and after it was read, in ms of the steady clock of this machine (performance.now). */
  readonly asked_at: number;
  readonly read_at: number;
  /** How many sessions do not show this role when their transaction began. */
  readonly blind_sessions: number;
}

/** Bounds of a sweep, as sql/source/begin_sweep.sql finds them; transactions as decimal numbers. */
export interface BeginningOfSweep {
  readonly snapshot: string;
  readonly from_transaction: string | null;
  readonly before_transaction: string;
  /** Floor of the sweep before, without those of its transactions that are open still; null from the beginning. */
  readonly floor: string | null;
}

/** A poll before this one: what it found open, and its floor. */
type EarlierPoll = Pick<BatchMetadata, 'floor' | 'horizon'>;

/** Transactions that are this old, in seconds, are listed by themselves: they may be open at the next poll too. */
const LISTED_AFTER = 10;

/**
 * Reads the floor. The order is what makes it a bound: the clock first, then sessions, then prepared
 * transactions, each in a transaction of its own, and only then may the snapshot of the sweep be taken.
 * @param before the poll before: what is prepared now and was not then counts from its floor; undefined where there was none
 */
export async function readHorizon(
  source: Transaction,
  before: EarlierPoll | undefined,
  listedAfter = LISTED_AFTER,
): Promise<HorizonReading> {
  const asked_at = performance.now();
  const clock = await readClock(source);
  const read_at = performance.now();
  await source`select pg_stat_clear_snapshot()`;
  const { open_transactions, floor_of_rest, blind_sessions } = one(
    await runFile<Sessions>(source, 'read_sessions', [clock, String(listedAfter)]),
  );
  const prepared = one(
    await runFile<Pick<HorizonReading, 'open_transactions' | 'floor'>>(source, 'read_prepared', [
      open_transactions,
      floor_of_rest,
      JSON.stringify(before?.horizon?.open_transactions ?? []),
      before?.horizon == null ? null : before.floor,
    ]),
  );
  return { clock, asked_at, read_at, floor_of_rest, blind_sessions, ...prepared };
}

/** What is seen of sessions; their transactions go on to the next question as they are. */
type Sessions = Pick<HorizonReading, 'floor_of_rest' | 'blind_sessions'> & { readonly open_transactions: string };

/** The source's clock; that of its newest change on a standby, which lies behind its primary. */
export async function readClock(source: Transaction): Promise<string> {
  const rows = await source<{ clock: string }[]>`
    select to_json(least(clock_timestamp(), case when pg_is_in_recovery() then pg_last_xact_replay_timestamp() end)) #>> '{}' as clock`;
  return one(rows).clock;
}

/** The snapshot a sweep begins with: it comes after the floor, and before the second look. */
export async function readSnapshot(source: Transaction): Promise<string> {
  return one(await source<{ snapshot: string }[]>`select pg_current_snapshot()::text as snapshot`).snapshot;
}

/**
 * Takes the snapshot that a sweep begins with, and finds its bounds.
 * @param continues the snapshot of the sweep that it continues from; null to read from the beginning
 * @param before the poll before, whose transactions hold the floor down once they have ended; undefined to read from the beginning of time
 */
export async function readBeginning(
  source: Transaction,
  continues: string | null,
  before: EarlierPoll | undefined,
): Promise<BeginningOfSweep> {
  const snapshot = await readSnapshot(source);
  const open = JSON.stringify(before?.horizon?.open_transactions ?? []);
  const stillOpen = open === '[]' ? '[]' : await lookTwice(source, open);
  const rows = await runFile<BeginningOfSweep>(source, 'begin_sweep', [
    snapshot,
    continues,
    open,
    before?.horizon?.floor_of_rest ?? before?.floor ?? null,
    stillOpen,
  ]);
  return { ...one(rows), snapshot };
}

/** Names of the sessions that two looks in a row found in the same transaction as then, as a JSON array. */
async function lookTwice(source: Transaction, open: string): Promise<string> {
  const look = async (found: string | null): Promise<string> => {
    await source`select pg_stat_clear_snapshot()`;
    return one(await runFile<{ who: string }>(source, 'second_look', [open, found])).who;
  };
  return look(await look(null));
}

/** What a role must be given so that it sees when the transactions of others began, as SQL; undefined where it has that already. */
export async function missingRight(source: Database): Promise<string | undefined> {
  const rows = await source<{ statement: string | null }[]>`
    select case
      when pg_has_role(current_user, 'pg_read_all_stats', 'usage') then null
      when pg_has_role(current_user, 'pg_read_all_stats', 'member') and current_setting('server_version_num')::integer < 160000
        then format('alter role %I inherit', current_user)
      when pg_has_role(current_user, 'pg_read_all_stats', 'member') then format('grant pg_read_all_stats to %I with inherit true', current_user)
      else format('grant pg_read_all_stats to %I', current_user)
    end as statement`;
  return one(rows).statement ?? undefined;
}

/** What notices that the clock of the source was set back, by the clock of this machine that never is. */
export type ClockReading = Pick<HorizonReading, 'clock' | 'asked_at' | 'read_at'>;

/** By chain: what was read last, and the clock at the beginning of the full sweep that was the newest one when a step was noticed. */
const watched = new Map<string, { readonly last: ClockReading; readonly doubted: string | undefined }>();

/** Clocks are slewed by less than a thousandth; one that has come a second less far was set back. */
const wasSetBack = (last: ClockReading, now: ClockReading): boolean =>
  Date.parse(now.clock) - Date.parse(last.clock) < (now.asked_at - last.read_at) * 0.999 - 1000;

/**
 * Whether the clock was set back since this process last looked, although it may read later than it did then; and still true of the next
 * look where no full sweep has been published since.
 * @param chain a table or shard of a source
 * @param fullSweep the clock at the beginning of its newest full sweep
 */
export function noticesStep(chain: string, now: ClockReading, fullSweep: string): boolean {
  const before = watched.get(chain);
  const isDoubted = before !== undefined && (wasSetBack(before.last, now) || before.doubted === fullSweep);
  watched.set(chain, { last: now, doubted: isDoubted ? fullSweep : undefined });
  return isDoubted;
}
