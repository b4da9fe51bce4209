import { createHash } from 'node:crypto';
import * as z from 'zod';
import { UsageError } from '../base/errors.js';

/** How a table is cut into shards, as batch metadata carry it. */
export const shardLayoutSchema = z.object({
  /** As in of-4: the same for all its shards, and for no other way of cutting the table. */
  name: z.string(),
  count: z.number().int(),
  /** The column whose ranges are the shards; null where they follow from a hash of the key. */
  column: z.string().nullable(),
  /** Where the second shard begins, and the third, ..., as text; a value that equals a cut belongs to what begins there. */
  cuts: z.array(z.string()),
  /** False where a row may move from shard to shard, because the column is not part of its key. */
  by_key: z.boolean(),
});
export type ShardLayout = z.infer<typeof shardLayoutSchema>;

/** One shard: the part of a table that one chain of batches follows. */
export interface Shard {
  /** As in 2-of-4: names its folder, and ends the names of its batches. */
  readonly name: string;
  /** From 1. */
  readonly place: number;
  readonly layout: ShardLayout;
}

/** What was asked for: one shard; the whole table, said so; or nothing, which leaves tables alone that are extracted by shards. */
export type AskedShard = Shard | 'whole' | undefined;

const MOST_SHARDS = 1024;
const NAME = /^[0-9]{1,4}-of-[0-9]{1,4}(-by-[A-Za-z0-9_]{1,40}-[0-9a-f]{8})?$/;
const ACCEPTED = `accepted is <n>/<count>, as 2/4, or <n>/<column>:<cut>,<cut>,..., as 2/customer_id:10001,20001: the second of three, from 10001 up to, without, 20001`;

/** Whether a name can be that of a shard, and of a folder. */
export const isShardName = (name: string): boolean => NAME.test(name);

/** The layout that a shard of this name belongs to; empty for the whole table. The same as tidemark._shard_layout. */
export const layoutOf = (shard: string): string => shard.replace(/^[0-9]+-/, '');

/**
 * Reads what --shard says: 2/4 (by a hash of the key), or 2/customer_id:10001,20001 (by ranges of a column: no gap, no overlap). 1/1 is the whole table.
 * @throws UsageError for anything else
 */
export function parseShard(text: string | undefined): AskedShard {
  if (text === undefined) return undefined;
  const [, digits = '', rest = ''] = /^([0-9]{1,4})\/(.+)$/s.exec(text) ?? [];
  const [, counted] = /^([0-9]{1,4})$/.exec(rest) ?? [];
  const [, column, listed] = /^([^:]+):(.+)$/s.exec(rest) ?? [];
  const cuts = listed?.split(',') ?? [];
  const count = counted === undefined ? cuts.length + 1 : Number(counted);
  const place = Number(digits);
  if (digits === '' || (counted === undefined && column === undefined) || cuts.includes(''))
    throw new UsageError(`--shard is ${text}, ${ACCEPTED}`);
  if (count < 1 || count > MOST_SHARDS)
    throw new UsageError(`--shard is ${text}: there are from 1 to ${MOST_SHARDS} shards`);
  if (place < 1 || place > count) throw new UsageError(`--shard is ${text}: there are the shards 1 to ${count}`);
  if (column === undefined && count === 1) return 'whole';
  return shardOf({ name: layoutName(count, column, cuts), count, column: column ?? null, cuts, by_key: true }, place);
}

/** The shard of that number. */
export const shardOf = (layout: ShardLayout, place: number): Shard => ({
  name: `${place}-${layout.name}`,
  place,
  layout,
});

/** Every shard of a layout. */
export const shardsOf = (layout: ShardLayout): Shard[] =>
  Array.from({ length: layout.count }, (_, index) => shardOf(layout, index + 1));

/** What to give --shard for it. */
export function spellShard({ place, layout: { count, column, cuts } }: Shard): string {
  return column === null ? `${place}/${count}` : `${place}/${column}:${cuts.join(',')}`;
}

/** The table and, where it has one, the shard, as people read it. */
export const chainName = (table: string, shard: string): string => (shard === '' ? table : `${table} shard ${shard}`);

/** Says how it is cut, in letters that any file system takes; the digest tells cuts apart. */
function layoutName(count: number, column: string | undefined, cuts: readonly string[]): string {
  if (column === undefined) return `of-${count}`;
  const plain = column.replaceAll(/[^A-Za-z0-9_]/g, '').slice(0, 40);
  const digest = createHash('sha256')
    .update(JSON.stringify([column, ...cuts]))
    .digest('hex')
    .slice(0, 8);
  return `of-${count}-by-${plain === '' ? 'column' : plain}-${digest}`;
}
