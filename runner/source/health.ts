import type { Database } from '../base/database.js';
import type { DimensionMapping } from '../batch/mapping.js';
import { one, runFile } from './file.js';
import type { SourceTable } from './table.js';

/** What "doctor" looks at in a source table. */
export interface TableHealth {
  readonly is_local_time: boolean;
  readonly is_partitioned: boolean;
  /** True where a policy of row-level security applies to this role. */
  readonly is_hidden: boolean;
  /** Counts rows that were written without touching their effective time; null where that cannot be known. */
  readonly untouched: string | null;
}

export async function tableHealth(
  source: Database,
  described: SourceTable,
  mapping: DimensionMapping,
): Promise<TableHealth | undefined> {
  const effective = mapping.columns.find(({ role }) => role === 'effective time')?.source ?? null;
  const [health] = await runFile<TableHealth>(source, 'describe_health', [
    described.relation,
    effective,
    mapping.source_time_zone,
    described.fallback,
    described.rows,
  ]);
  return health;
}

/** Of a sample, the rows that were written since a full sweep and are stamped before it: only full sweeps find such updates. */
export async function untouchedRows(
  source: Database,
  { untouched }: TableHealth,
  since: { readonly snapshot: string; readonly clock: string },
): Promise<number> {
  if (untouched === null) return 0;
  const [row] = await source.unsafe<{ untouched: number }[]>(untouched, [since.snapshot, since.clock]);
  return row?.untouched ?? 0;
}

/** A row of sql/source/describe_log.sql. */
export interface LogHealth {
  readonly wal_level: string;
  readonly most_slots: number;
  readonly has_free_slot: boolean;
  readonly is_limited: boolean;
}

export const logHealth = async (source: Database, slot: string): Promise<LogHealth> =>
  one(await runFile<LogHealth>(source, 'describe_log', [slot]));

/** The statements that make the role which may read the registered tables of a source and nothing else. */
export async function sourceGrants(
  source: Database,
  role: string,
  mappings: readonly DimensionMapping[],
): Promise<string[]> {
  const rows = await runFile<{ line: string }>(source, 'grant_statements', [role, JSON.stringify(mappings)]);
  return rows.map(({ line }) => line);
}
