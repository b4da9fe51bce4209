import { statfs } from 'node:fs/promises';
import { backOff } from 'exponential-backoff';
import { tryLock } from '../base/advisory-lock.js';
import { withLink, type Database, type Link, type Transaction } from '../base/database.js';
import { HeldError, LockedError, TidemarkError, hasCode } from '../base/errors.js';
import { failpoint } from '../base/failpoint.js';
import { logger } from '../base/logger.js';
import type { Settings } from '../base/settings.js';
import { inTransaction } from '../base/transaction.js';
import { selectTables } from '../run/each-table.js';
import { withProgress } from '../run/progress.js';
import { retrying } from '../run/retry.js';
import { dimensionMappings } from '../warehouse/functions.js';
import * as partitions from '../warehouse/partitions.js';

/**
 * Makes a history partitioned by hash of its key, or plain, while it is loaded and read. PostgreSQL cannot do that to a table, so it is copied:
 *
 * 1. triggers list which versions are written from now on, whoever writes them;
 * 2. the copy is filled, in the order of keys, a slice and what was listed meanwhile in each transaction;
 * 3. its indexes and constraints are made, and it is compared with the history, whole;
 * 4. it takes the place of the history in one transaction, under the lock of which the rest of the list is copied.
 *
 * How far it is the copy itself says, so that whoever is cut off goes on by the same command.
 */

/** What was done, or would be. */
export interface Partitioned extends Omit<partitions.PartitionPlan, 'begun_partitions'> {
  readonly table: string;
  readonly partitions: number;
  /** `kept`: it was so already; `given up`: and a copy that was begun is gone. */
  readonly outcome: 'planned' | 'made' | 'kept' | 'given up';
  /** How many versions it has; null where nothing was copied. */
  readonly versions: number | null;
}

export interface PartitionOptions {
  readonly signal?: AbortSignal | undefined;
  readonly isDryRun?: boolean;
  /** Versions that a transaction copies. */
  readonly slice?: number;
  /** How often a lock that is not to be had is asked for. */
  readonly attempts?: number;
}

const SLICE = 50_000;
const ATTEMPTS = 40;
/** How often what took too long is tried: others wait each time. */
const SLOW_ATTEMPTS = 4;
const LONGEST_PAUSE_MS = 10_000;
/** A lock is waited for so long, as others queue behind whoever waits; less than what makes PostgreSQL look for a deadlock and end one of those in it. */
const LOCK_MS = 900;
/** And held so long at most, with that. */
const STATEMENT_MS = 2000;
/** So few that are left are copied under the lock. */
const FEW = 1000;
const ROUNDS = 10;

/** One who is at it, with a session that has the lock which says so. */
interface Work {
  readonly settings: Settings;
  readonly table: string;
  readonly partitions: number;
  readonly options: PartitionOptions;
  /** Does something with the session, again after a fault that passes. */
  readonly step: <T>(work: (warehouse: Database) => Promise<T>) => Promise<T>;
}

/**
 * @param count how many partitions the history is to have; 0: it is to be a plain table
 * @throws UsageError if no such table is registered; HeldError where somebody is at it; TidemarkError where it cannot be, naming what stands in
 *   the way, or the history was in use each time that its lock was asked for
 */
export const partitionTable = (
  settings: Settings,
  table: string,
  count: number,
  options: PartitionOptions = {},
): Promise<Partitioned> =>
  withLink(settings.warehouse, 'partition', async (link) => {
    selectTables(await dimensionMappings(link.database()), [table]);
    const work = { settings, table, partitions: count, options, step: stepper(link, table, options.signal) };
    const { begun_partitions: begun, ...plan } = await partitions.partitionPlan(link.database(), table, count);
    const result = { table, partitions: count, ...plan, versions: null };
    if (options.isDryRun === true) return { ...result, outcome: 'planned' };
    if (plan.partitions_now === count) {
      if (begun === null) return { ...result, outcome: 'kept' };
      await briefly(work, 'the copy is given up', partitions.abandonPartitioning);
      return { ...result, outcome: 'given up' };
    }
    if (begun === null) await assertRoom(link.database(), plan);
    return { ...result, versions: await convert(work, Number(plan.versions_estimate)), outcome: 'made' };
  });

/** What a copy is for that was begun, and what ends it. */
export const partitioningAt = (
  open: partitions.OpenPartitioning,
): Readonly<Record<'what' | 'size' | 'remedy', string>> => {
  const { dimension_name: table, partitions: count, partitions_now: now, copied_bytes: bytes } = open;
  const command = (number: number) => `npx tidemark table partition ${table} ${number}`;
  return {
    what: count === 0 ? 'a plain table' : `${count} partitions`,
    size: gibibytes(Number(bytes)),
    remedy: `go on: ${command(count)}; or give it up: ${command(now)}`,
  };
};

/** A line for people. */
export const describePartitioning = (open: partitions.OpenPartitioning): string => {
  const { what, size, remedy } = partitioningAt(open);
  const { dimension_name: table, begun_at: since, begun_by: who, is_running } = open;
  const state = `${table}: a copy with ${what}, ${size}, begun ${since} by ${who}`;
  return is_running ? `${state}, is being made` : `${state}, was cut off; ${remedy}`;
};

function stepper(link: Link, table: string, signal: AbortSignal | undefined): Work['step'] {
  let held: Database | undefined;
  return (work) =>
    retrying(table, link, signal, async () => {
      const warehouse = link.database();
      if (held !== warehouse) {
        const holder = await tryLock(warehouse, `tidemark.partitioning ${table}`);
        if (holder !== undefined)
          throw new HeldError(`the partitions of ${table} are being made by another process: ${holder}`, {
            detail: `table=${table}`,
            hint: 'let it finish, or end it: the same command goes on then where it was',
          });
        // Slices, indexes and the comparison take as long as the history is large; who is cut off there would be cut off again.
        await warehouse`select set_config('statement_timeout', '0', false), set_config('lock_timeout', '0', false)`;
        held = warehouse;
      }
      return work(warehouse);
    });
}

async function convert(work: Work, estimate: number): Promise<number> {
  const { table, step } = work;
  // Under its lock a few triggers are made; what takes longer comes before.
  const begin = (transaction: Transaction) => partitions.beginPartitioning(transaction, table, work.partitions);
  const isNew = await briefly(work, 'the copy is begun', begin, 0);
  if (!isNew) logger.info({ table }, `${table}: the copy that was begun is gone on with`);
  failpoint('partition begun');
  await fill(work, estimate);
  while (await step((warehouse) => partitions.completeCopy(warehouse, table))) {
    failpoint('partition rule');
    assertGoesOn(work);
  }
  await step((warehouse) => partitions.analyzeCopy(warehouse, table));
  logger.info({ table }, `${table}: the copy is compared with the history`);
  const versions = await step((warehouse) => partitions.compareCopy(warehouse, table));
  failpoint('partition compared');
  assertGoesOn(work);
  await catchUp(work);
  await briefly(work, 'the copy takes the place of the history', async (transaction) => {
    // None is open where the answer to a commit was lost.
    const open = await partitions.openPartitionings(transaction);
    if (open.some(({ dimension_name: name }) => name === table))
      await partitions.finishPartitioning(transaction, table);
    failpoint('partition swap');
  });
  failpoint('partition swapped');
  return Number(versions);
}

const copySlice = ({ table, options: { slice = SLICE }, step }: Work) =>
  step((warehouse) =>
    inTransaction(warehouse, 'isolation level repeatable read', (transaction) =>
      partitions.copyVersions(transaction, table, slice),
    ),
  );

const fill = (work: Work, estimate: number) =>
  withProgress(`copy ${work.table} (versions)`, estimate > 0 ? estimate : undefined, async ({ advance }) => {
    for (;;) {
      const { copied_versions: copied } = await copySlice(work);
      failpoint('partition slice');
      if (copied === '0') return;
      advance(Number(copied));
      assertGoesOn(work);
    }
  });

/** What was written while the copy was completed; what is written during the last of it is left for the lock. */
async function catchUp(work: Work): Promise<void> {
  for (let round = 0; round < ROUNDS; round += 1) {
    const { copied_versions: copied, listed_versions: listed } = await copySlice(work);
    if (Number(copied) + Number(listed) < FEW) return;
    assertGoesOn(work);
  }
}

function assertGoesOn({ table, partitions: count, options: { signal } }: Work): void {
  if (signal?.aborted !== true) return;
  throw new TidemarkError(`the partitions of ${table} are not made yet: interrupted`, {
    detail: `table=${table}`,
    hint: `npx tidemark table partition ${table} ${count} goes on with it`,
  });
}

/**
 * Does what takes a lock that keeps others from the history, in a transaction: asked for again and again, a moment each time.
 * @param most milliseconds that it may take, with the wait; 0: it is done with all that takes long before it asks for the lock
 */
async function briefly<T>(
  work: Work,
  what: string,
  change: (transaction: Transaction, table: string) => Promise<T>,
  most = STATEMENT_MS,
): Promise<T> {
  const { table, step, options } = work;
  const attempts = options.attempts ?? ATTEMPTS;
  const attempt = () =>
    step(async (warehouse) =>
      inTransaction(warehouse, 'isolation level read committed', async (transaction) => {
        await transaction`select set_config('lock_timeout', ${String(LOCK_MS)}, true), set_config('statement_timeout', ${String(most)}, true)`;
        return change(transaction, table);
      }).catch((error: unknown) => {
        throw hasCode(error, ...IN_USE) ? new LockedError('in use', { cause: error }) : error;
      }),
    );
  return backOff(attempt, {
    numOfAttempts: attempts,
    maxDelay: LONGEST_PAUSE_MS,
    startingDelay: 250,
    jitter: 'full',
    retry: (error: unknown, number) => {
      const most = isSlow(error) ? Math.min(attempts, SLOW_ATTEMPTS) : attempts;
      const goesOn = error instanceof LockedError && options.signal?.aborted !== true && number < most;
      if (goesOn)
        logger.info(
          { table },
          `${table}: ${isSlow(error) ? 'it took too long' : 'in use'}, and nobody is to wait: ${what} later (${number} of ${most})`,
        );
      return goesOn;
    },
  }).catch(async (error: unknown) => {
    if (!(error instanceof LockedError)) throw error;
    assertGoesOn(work);
    const users = await step((warehouse) => partitions.historyUsers(warehouse, table));
    const detail = `table=${table}${users === null ? '' : ` users=${users}`}`;
    const longest = `${STATEMENT_MS / 1000} s`;
    throw new LockedError(
      isSlow(error)
        ? `${table}: it took longer than ${longest} each time that was tried: ${what} when it does not`
        : `the history of ${table} was in use each of ${attempts} times: ${what} when it is not`,
      {
        detail,
        hint: isSlow(error)
          ? 'nothing is lost: run the same command again when the server has less to do; the more partitions the history has or gets, the longer it takes, and some two hundred are about the most (docs/scale.md)'
          : `see what they do there, or end them, and run the same command again: it goes on where it was, and nobody waited longer than ${longest} for it`,
        cause: error.cause,
      },
    );
  });
}

/** Whether there was a lock, and no time left to do it under it. */
const isSlow = (error: unknown): boolean => error instanceof LockedError && hasCode(error.cause, '57014');

/** No lock, no time left to do it under one, a deadlock. */
const IN_USE = ['55P03', '57014', '40P01'];

/** A server on this machine tells where its data is to whoever may know; of any other nobody can say what room it has. */
async function assertRoom(warehouse: Database, plan: Pick<partitions.PartitionPlan, 'history_table' | 'table_bytes'>) {
  const needed = Number(plan.table_bytes);
  const [server] = await warehouse<[{ folder: string | null }]>`
    select case
      when (inet_server_addr() is null or inet_server_addr() = inet_client_addr()) and pg_has_role('pg_read_all_settings', 'usage')
        then current_setting('data_directory', true)
    end as folder`;
  const free = server.folder === null ? undefined : await freeBytes(server.folder);
  if (free === undefined)
    logger.info(
      `a copy of ${plan.history_table} needs about ${gibibytes(needed)}; what room the server has cannot be seen from here`,
    );
  else if (free < needed)
    throw new TidemarkError(
      `there is no room for a copy of ${plan.history_table}: it needs about ${gibibytes(needed)}, and ${gibibytes(free)} are free`,
      {
        code: 'ENOSPC',
        detail: `history_table=${plan.history_table} folder=${server.folder ?? ''}`,
        hint: 'nothing was changed: free some room first',
      },
    );
}

const freeBytes = (folder: string): Promise<number | undefined> =>
  statfs(folder).then(
    ({ bavail, bsize }) => bavail * bsize,
    () => undefined,
  );

const gibibytes = (bytes: number): string => `${(bytes / 1024 ** 3).toFixed(3)} GiB`;
