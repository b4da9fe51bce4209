import type { Database } from '../base/database.js';
import { one, runFile } from './file.js';
import { inSnapshot, type SourceTable } from './table.js';
import type { DimensionMapping } from '../batch/mapping.js';

/** Queries that ask the source what sql/functions/compare ask the warehouse. */
export type ComparisonQueries = Readonly<Record<'checksums' | 'digests' | 'states' | 'deletions', string>>;

/** Change lines of rows that are gone. */
export type Deletions = Readonly<{ lines: string | null; change_count: number; extracted_at: string | null }>;

/** A row of the source: its key, what history would hold of it, and the transaction that wrote it ("" where that is not known). */
export type SourceState = Readonly<Record<'key' | 'content' | 'written_by', string>>;

/** Writes the queries for a table and the columns that history stores of it. */
export async function describeComparison(
  source: Database,
  table: SourceTable,
  mapping: DimensionMapping,
  columns: readonly object[],
): Promise<ComparisonQueries> {
  const effective = mapping.columns.find(({ role }) => role === 'effective time')?.source ?? null;
  const queries = await runFile<ComparisonQueries>(source, 'describe_comparison', [
    table.relation,
    JSON.stringify(columns),
    table.fallback,
    effective,
    mapping.source_time_zone,
    table.deleted_condition,
    table.rows,
    table.readable,
  ]);
  return one(queries);
}

/** Asks one of the queries of the source, in a snapshot of its own. */
export async function compareAtSource<T extends object>(
  source: Database,
  table: SourceTable,
  query: string,
  parameters: readonly (string | null)[],
): Promise<T[]> {
  return inSnapshot(source, table, async (session) => [...(await session.unsafe<T[]>(query, [...parameters]))]);
}
