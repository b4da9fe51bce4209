import { TidemarkError, describeError } from '../base/errors.js';
import { logger } from '../base/logger.js';
import { noteTable } from './measurements.js';

/** How the work on one table, or on one shard of it, ended. */
export type Outcome<T> = { readonly table: string; readonly result: T } | { readonly table: string; readonly error: unknown };

/** Does the work on a table; what it throws is its outcome. */
export async function attempt<T>(table: string, work: () => Promise<T>): Promise<Outcome<T>> {
  try {
    return { table, result: await work() };
  } catch (error) {
    return { table, error };
  }
}

/** Notes how each table fared, and gives the results. @throws what failed; where several did, each is said, and an error that names them is thrown */
export function resultsOf<T>(outcomes: readonly Outcome<T>[]): T[] {
  const failures = outcomes.filter((outcome) => 'error' in outcome);
  for (const { table } of outcomes) {
    const failure = failures.find((each) => each.table === table);
    noteTable(table, failure === undefined ? undefined : describeError(failure.error, false));
  }
  if (failures.length === 0) return outcomes.flatMap((outcome) => ('result' in outcome ? [outcome.result] : []));
  if (failures.length === 1) throw failures[0]?.error;
  for (const { error } of failures) logger.error(describeError(error, false));
  const tables = [...new Set(failures.map(({ table }) => table))];
  if (tables.length === 1) throw new TidemarkError(`${String(failures.length)} shards of ${String(tables[0])} failed`, { hint: 'the lines above say why; the other shards are done' });
  throw new TidemarkError(`${String(tables.length)} tables failed: ${tables.join(', ')}`, { hint: 'the lines above say why; the other tables are done' });
}
