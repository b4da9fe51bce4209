import { withDatabase } from '../base/database.js';
import type { Settings } from '../base/settings.js';
import { readPosition, slotOf } from '../stream/position.js';
import { noteStreamPosition } from '../warehouse/functions.js';

/**
 * Loads, and notes how far in the log all tables of the slot are loaded then: up to that moment their histories together show what a
 * transaction could have seen (tidemark.consistent_until).
 * @param load loads all that waits of these tables
 */
export async function notingHowFar<T>(settings: Settings, load: () => Promise<T>): Promise<T> {
  const { slot } = slotOf(settings);
  // What is published later may not be loaded by then.
  const position = await readPosition(settings.cdc_log_dir, slot);
  const result = await load();
  if (position === undefined) return result;
  const { to, last_commit_time, tables } = position;
  const followed = Object.entries(tables).flatMap(([table, { stopped }]) => (stopped === null ? [table] : []));
  await withDatabase(settings.warehouse, 'load', (warehouse) =>
    noteStreamPosition(warehouse, slot, to, last_commit_time, followed),
  );
  return result;
}
