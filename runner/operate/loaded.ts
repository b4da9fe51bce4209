import { withDatabase } from '../base/database.js';
import type { Settings } from '../base/settings.js';
import { isLogged } from '../batch/mapping.js';
import { readPosition, slotOf } from '../stream/position.js';
import { dimensionMappings, liveRuns, noteStreamPosition } from '../warehouse/functions.js';

/** The tables that a reader of the log loads itself, each round at once: it says how many of their batches wait. */
export const loadedByReaders = (settings: Settings): Promise<ReadonlySet<string>> =>
  withDatabase(settings.warehouse, 'load', async (warehouse) => {
    const runs = (await liveRuns(warehouse)).filter(({ pipeline_name: name }) => name === 'stream');
    const known = runs.flatMap(({ performance_metrics: said }) => Object.keys(said.pending_batches ?? {}));
    const logged = (await dimensionMappings(warehouse)).filter(isLogged).map(({ dimension_name: name }) => name);
    return new Set(logged.filter((name) => known.includes(name)));
  });

/**
 * Loads, and notes how far in the log all tables of the slot are loaded then: up to that moment their histories together show what a
 * transaction could have seen (tidemark.consistent_until).
 * @param load loads all that waits, and says of which tables
 */
export async function notingHowFar<T extends { readonly table: string }>(
  settings: Settings,
  load: () => Promise<readonly T[]>,
): Promise<readonly T[]> {
  const { slot } = slotOf(settings);
  // What is published later may not be loaded by then.
  const position = await readPosition(settings.cdc_log_dir, slot);
  const result = await load();
  if (position === undefined) return result;
  const { to, last_commit_time, complete_at, tables } = position;
  const followed = Object.keys(tables).filter(
    (name) => tables[name]?.stopped === null && result.some(({ table }) => table === name),
  );
  await withDatabase(settings.warehouse, 'load', (warehouse) =>
    noteStreamPosition(warehouse, slot, to, last_commit_time, followed, complete_at),
  );
  return result;
}
