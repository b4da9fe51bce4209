import { setTimeout as sleep } from 'node:timers/promises';
import { explainDatabaseError } from '../base/database.js';
import type { DatabaseSettings, Settings } from '../base/settings.js';
import { LockedError, TidemarkError, UsageError, describeError, withOutcome } from '../base/errors.js';
import { logger, warnOnce } from '../base/logger.js';
import { noteTable } from './measurements.js';
import type { DimensionMapping } from '../batch/mapping.js';

/** One table's part of a run that goes on with the other tables. */
export interface Selection {
  readonly settings: Settings;
  /** Names of dimensions; all where empty. */
  readonly tables: readonly string[];
  readonly signal?: AbortSignal | undefined;
  /** Most seconds for which a locked table is waited for, where LOCK_TIMEOUT_SECONDS are not less: few, or none, for who comes back to it anyway. */
  readonly lockPatience?: number | undefined;
}

/**
 * The mappings of the named tables; all where none is named.
 * @throws UsageError for a name that is not registered
 */
export function selectTables(mappings: readonly DimensionMapping[], tables: readonly string[]): DimensionMapping[] {
  const known = mappings.map((mapping) => mapping.dimension_name);
  const unknown = tables.filter((table) => !known.includes(table));
  if (unknown.length > 0)
    throw new UsageError(`no table of that name is registered: ${unknown.join(', ')}`, {
      hint: `registered are: ${known.join(', ')}`,
    });
  return mappings.filter((mapping) => tables.length === 0 || tables.includes(mapping.dimension_name));
}

/** The same, to extract or load them: without those that are paused. */
export function selectUnpaused(mappings: readonly DimensionMapping[], tables: readonly string[]): DimensionMapping[] {
  const selected = selectTables(mappings, tables);
  const paused = selected.filter((mapping) => mapping.is_paused).map((mapping) => mapping.dimension_name);
  if (paused.length > 0 && tables.length > 0)
    throw new UsageError(`paused: ${paused.join(', ')}`, {
      hint: `let it go on first: npx tidemark table resume ${paused[0] ?? ''}`,
    });
  if (paused.length > 0) logger.info(`paused, and left alone: ${paused.join(', ')}`);
  return selected.filter((mapping) => !mapping.is_paused);
}

/** Asked `ms` after the first attempt at a table that somebody has locked began: true where it is tried again. */
type Patience = (ms: number) => boolean;

/** As long as LOCK_TIMEOUT_SECONDS lets a session wait for a lock, and the selection has it, and nobody interrupts. */
export function patienceOf({ limits }: DatabaseSettings, { signal, lockPatience = Infinity }: Selection): Patience {
  const { lock_seconds: most = 0 } = limits ?? {};
  const seconds = Math.min(most === 0 ? Infinity : most, lockPatience);
  return (ms) => signal?.aborted !== true && ms < seconds * 1000;
}

/** Something to be done, and when it was tried first, where it met a lock. */
type Waiting<T> = Readonly<{ item: T; began?: number }>;

const PAUSE_MS = 1000;

/**
 * Works off a queue; several may do so together. What meets a table that somebody has locked comes last, and is tried again about each second.
 * @param patience by default a locked table is a failure as any other
 * @param done told how each one ended
 */
export async function workOff<I, T>(
  queue: Waiting<I>[],
  work: (item: I) => Promise<TableResult<T>>,
  done: (result: TableResult<T>) => void,
  patience: Patience = () => false,
): Promise<void> {
  for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
    const started = performance.now();
    const { item, began = started } = next;
    const result = await work(item);
    const error = 'error' in result ? result.error : undefined;
    if (error instanceof LockedError && patience(performance.now() - began)) {
      warnOnce(error.message, `${error.message}: it is waited for, and other tables are seen to meanwhile`);
      if (queue.every(({ began: tried }) => tried !== undefined))
        await sleep(Math.max(0, started + PAUSE_MS - performance.now()));
      queue.push({ item, began });
    } else done(result);
  }
}

/**
 * Does the same with every table. One that fails stops no other; the failures are thrown together at the end, with the results of the others.
 * @param database of which what the driver throws says where it happened
 */
export async function eachTable<T, R = T[]>(
  database: DatabaseSettings,
  mappings: readonly DimensionMapping[],
  work: (mapping: DimensionMapping) => Promise<T>,
  whole?: (results: T[]) => R,
  patience?: Patience,
): Promise<R> {
  const results: TableResult<T>[] = [];
  await workOff(
    mappings.map((item) => ({ item })),
    (mapping) => attempt(database, mapping.dimension_name, () => work(mapping)),
    (result) => results.push(result),
    patience,
  );
  return resultsOf(inOrder(mappings, results), whole);
}

/** Results in the order of the tables. */
export function inOrder<T extends { readonly table: string }>(
  mappings: readonly DimensionMapping[],
  results: T[],
): T[] {
  const names = mappings.map(({ dimension_name: name }) => name);
  return results.sort((one, other) => names.indexOf(one.table) - names.indexOf(other.table));
}

/** How the work on one table, or on one shard of it, ended. */
export type TableResult<T> =
  | { readonly table: string; readonly result: T }
  | { readonly table: string; readonly error: unknown };

/** Does the work on a table; what it throws is its result. */
export async function attempt<T>(
  database: DatabaseSettings,
  table: string,
  work: () => Promise<T>,
): Promise<TableResult<T>> {
  try {
    return { table, result: await work() };
  } catch (error) {
    return { table, error: explainDatabaseError(error, database, `table=${table} `) };
  }
}

/**
 * Notes how each table fared, and gives the results.
 * @param whole makes one of the results, all or those that there are
 * @throws what failed; where several did, each is said, and an error that names them is thrown. The results of the others go with it.
 */
export function resultsOf<T, R = T[]>(results: readonly TableResult<T>[], whole?: (results: T[]) => R): R {
  const failures = results.filter((each) => 'error' in each);
  for (const { table } of results) {
    const failure = failures.find((each) => each.table === table);
    noteTable(table, failure === undefined ? undefined : describeError(failure.error, false));
  }
  const done = results.flatMap((each) => ('result' in each ? [each.result] : []));
  const result = whole === undefined ? (done as R) : whole(done);
  const [first] = failures;
  if (first === undefined) return result;
  if (failures.length > 1) for (const { error } of failures) logger.error(describeError(error, false));
  const error = failures.length > 1 ? severalFailed(failures.map(({ table }) => table)) : first.error;
  throw withOutcome(error as Error, { result, failures });
}

function severalFailed(failed: readonly string[]): TidemarkError {
  const tables = [...new Set(failed)];
  if (tables.length === 1)
    return new TidemarkError(`${failed.length} shards of ${String(tables[0])} failed`, {
      hint: 'the lines above say why; the other shards are done',
    });
  return new TidemarkError(`${tables.length} tables failed: ${tables.join(', ')}`, {
    hint: 'the lines above say why; the other tables are done',
  });
}
