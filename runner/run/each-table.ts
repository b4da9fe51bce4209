import type { Settings } from '../base/settings.js';
import type { DimensionMapping } from '../batch/metadata.js';
import { UsageError } from '../base/errors.js';
import { logger } from '../base/logger.js';
import { attempt, resultsOf, type Outcome } from './results.js';

/** One table's part of a run that goes on with the other tables. */
export interface Selection {
  readonly settings: Settings;
  /** Names of dimensions; all where empty. */
  readonly tables: readonly string[];
  readonly signal?: AbortSignal | undefined;
}

/**
 * The mappings of the named tables; all where none is named.
 * @throws UsageError for a name that is not registered
 */
export function selectTables(mappings: readonly DimensionMapping[], tables: readonly string[]): DimensionMapping[] {
  const known = mappings.map((mapping) => mapping.dimension_name);
  const unknown = tables.filter((table) => !known.includes(table));
  if (unknown.length > 0)
    throw new UsageError(`no table of that name is registered: ${unknown.join(', ')}`, { hint: `registered are: ${known.join(', ')}` });
  return mappings.filter((mapping) => tables.length === 0 || tables.includes(mapping.dimension_name));
}

/** The same, to extract or load them: without those that are paused. */
export function select(mappings: readonly DimensionMapping[], tables: readonly string[]): DimensionMapping[] {
  const selected = selectTables(mappings, tables);
  const paused = selected.filter((mapping) => mapping.is_paused).map((mapping) => mapping.dimension_name);
  if (paused.length > 0 && tables.length > 0)
    throw new UsageError(`paused: ${paused.join(', ')}`, { hint: `let it go on first: npx tidemark table resume ${paused[0] ?? ''}` });
  if (paused.length > 0) logger.info(`paused, and left alone: ${paused.join(', ')}`);
  return selected.filter((mapping) => !mapping.is_paused);
}

/** Does the same with every table. One that fails stops no other; the failures are thrown together at the end. */
export async function eachTable<T>(mappings: readonly DimensionMapping[], work: (mapping: DimensionMapping) => Promise<T>): Promise<T[]> {
  const outcomes: Outcome<T>[] = [];
  for (const mapping of mappings) outcomes.push(await attempt(mapping.dimension_name, () => work(mapping)));
  return resultsOf(outcomes);
}
