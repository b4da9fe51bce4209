import type { Database } from '../base/database.js';
import { UsageError } from '../base/errors.js';
import { spellShard, type Shard } from '../batch/shard.js';
import { runFile } from './file.js';
import type { TablePart } from './table.js';
import type { DimensionMapping } from '../batch/mapping.js';

/** A shard as the source knows it. */
export type DescribedShard = TablePart & Readonly<{ shard: Shard }>;

type ShardRow = Readonly<{ relation: string; is_key: boolean | null; condition: string | null; cuts_query: string }>;

/**
 * Says what belongs to a shard, from the source's catalog. Undefined where there is no such table, which is the business of describeTable.
 * @throws UsageError if the table lacks the column, or the cuts are no values of it, or not in ascending order
 */
export async function describeShard(
  source: Database,
  mapping: DimensionMapping,
  shard: Shard,
): Promise<DescribedShard | undefined> {
  const { column, cuts, count } = shard.layout;
  const [found] = await runFile<ShardRow>(source, 'describe_shard', [
    mapping.source_schema,
    mapping.source_table,
    JSON.stringify(mapping.columns),
    JSON.stringify({ place: shard.place, count, column, cuts }),
  ]);
  if (found === undefined) return undefined;
  const where = { detail: `table=${mapping.dimension_name} shard=${spellShard(shard)}` };
  if (found.condition === null)
    throw new UsageError(`source table ${found.relation} has no column ${String(column)} to be cut by`, where);
  const rows = await source.unsafe<{ is_ascending: boolean }[]>(found.cuts_query).catch((error: unknown) => {
    if (!(error instanceof Error) || !('code' in error) || !/^(22|42)/.test(String(error.code))) throw error;
    const message = `the cuts of --shard cannot be values of column ${String(column)}: ${error.message}`;
    throw new UsageError(message, { ...where, cause: error });
  });
  if (rows[0]?.is_ascending !== true) throw new UsageError('the cuts of --shard are not in ascending order', where);
  const by_key = column === null || found.is_key === true;
  return { shard: { ...shard, layout: { ...shard.layout, by_key } }, condition: found.condition, may_move: !by_key };
}
