import * as z from 'zod';
import { BATCH_NAME, momentOf } from './name.js';
import { shardLayoutSchema } from './shard.js';

/** A place in the order of extraction: effective time and key of a row, as PostgreSQL prints them. */
const positionSchema = z.object({ time: z.string(), key: z.array(z.string()) });

/** Where a sweep stands. Its pages share floor and snapshot; the next page, or the next sweep, goes on from here. */
const sweepSchema = z.object({
  /** False while pages of the sweep are still to be read. */
  complete: z.boolean(),
  /** True for a sweep without a lower bound on the effective time. */
  is_full: z.boolean().default(false),
  /** Floor and high watermark of the sweep before: its lower bound; null for a full sweep. */
  from_floor: z.string().nullable(),
  from_high_watermark: z.string().nullable(),
  /** First transaction it may not have seen, and the first it leaves to the next sweep; null where the source shows no transactions. */
  from_transaction: z.string().nullable(),
  before_transaction: z.string().nullable(),
  /** What PostgreSQL had counted of a table without an effective time, before its snapshot; null where nothing is counted. */
  counters: z.string().nullable().default(null),
  /** The pass over rows without an effective time, and the key it has come to; null before that pass. */
  undated: z
    .object({ after: z.array(z.string()).nullable() })
    .nullable()
    .default(null),
  /** History columns that were added to the mapping: it reads every row in which one of them has a value. */
  fills: z.array(z.string()).default([]),
});

/** What was known of open transactions when a sweep began. Times are instants (ISO 8601) of the source's clock. */
const horizonSchema = z.object({
  clock: z.string(),
  /** The long ones, each by itself: nothing of it is stamped before `since`; and the floor of all others. */
  open_transactions: z.array(
    z.object({
      /** The session and its transaction, or the prepared transaction. */
      who: z.string(),
      since: z.string(),
      /** Its number, where it is prepared. */
      transaction: z.string().nullable(),
    }),
  ),
  floor_of_rest: z.string(),
});
export type Horizon = z.infer<typeof horizonSchema>;

/** Texts by the name of a column, which may be __proto__: z.record leaves that one out. */
const textsByName = z.custom<Readonly<Record<string, string>>>(
  (given) =>
    typeof given === 'object' &&
    given !== null &&
    !Array.isArray(given) &&
    Object.values(given).every((each) => typeof each === 'string'),
  'an object of texts',
);

/** What a batch was read from, where that is the write-ahead log of its source. Positions are LSNs as PostgreSQL prints them. */
const logSchema = z.object({
  slot: z.string(),
  /** The end of the commit before it, and of its last one. */
  from: z.string(),
  to: z.string(),
  /** How many transactions it holds of this table. */
  commits: z.number().int(),
  /** The time of the commit that ends at `to`, or of one after it of which nothing was published; later than that of every commit before it. */
  last_commit_time: z.string(),
  /** The commit within which it ends, and how many changes of the table have been written of that; null where it ends with a commit. */
  inside: z.object({ commit: z.string(), changes: z.number().int() }).nullable(),
  /** The snapshot of the sweep it goes on from: of transactions that it shows, and which were committed before `until`, nothing is taken. */
  after: z.object({ snapshot: z.string(), until: z.string() }).nullable(),
  /** How many lines leave out values that were not sent. */
  unchanged: z.number().int(),
  /** What marks a deleted row, where rows are marked: the load makes DELETEs of them. */
  soft: z.object({ column: z.string(), values: z.array(z.string()).nullable() }).optional(),
  /** The entry of the publication that it was read through: another one was made anew, and what was committed in between was not sent. */
  entry: z.string().nullable().default(null),
  /** Between these positions changes were lost with their slot: those that were committed between these moments. */
  gap: z.object({ from: z.string(), to: z.string(), since: z.string(), until: z.string() }).nullable(),
});
export type LogPlace = z.infer<typeof logSchema>;

/** batch_metadata of a batch file, and the whole of a checkpoint (a quiet poll has no batch: batch_id and checksum are null). */
export const batchMetadataSchema = z.object({
  batch_id: z.string().regex(BATCH_NAME).nullable(),
  table: z.string(),
  /** The shard it follows; null for the whole table. */
  shard: z.string().nullable(),
  /** How the table was cut when it was written; null for not at all. A repair is of the whole table and says how the table is cut. */
  shard_layout: shardLayoutSchema.nullable().default(null),
  sequence: z.number().int().min(1),
  extracted_at: z.string(),
  /** 2 where a loader that does not know it would misread the batch. */
  format: z.literal(2).optional(),
  change_count: z.number().int().min(0),
  /** High watermark of the batch before (its time); null for the first. */
  watermark: z.string().nullable(),
  /** Place of its last row in the order of extraction (a quiet poll: of the batch before); where an interrupted sweep goes on. */
  high_watermark: positionSchema.nullable(),
  floor: z.string(),
  snapshot: z.string(),
  horizon: horizonSchema.nullable().default(null),
  sweep: sweepSchema,
  /** Snapshot and clock at the start of the newest full sweep: where the next one goes on. */
  full_sweep: z.object({ snapshot: z.string(), clock: z.string() }).nullable().default(null),
  system_identifier: z.string(),
  database_oid: z.string(),
  timeline: z.number().int().nullable(),
  columns: z.array(z.string()),
  columns_fingerprint: z.string(),
  /** The types the columns had at the source, by name. */
  column_types: textsByName.optional(),
  /** The history columns that keys and values were mapped to when it was read: what a name meant then, whatever it means now. */
  history_columns: textsByName.optional(),
  /** History columns that were added to the mapping, and whose values no sweep has yet read in every row. */
  unfilled_columns: z.array(z.string()).default([]),
  /** Which relation of its database was read. */
  relation_oid: z.string().nullable().default(null),
  /** The batch before it in the chain, and its checksum; null for the first. */
  previous_batch_id: z.string().nullable(),
  previous_checksum: z.string().nullable(),
  /** SHA-256 of the change lines. */
  checksum: z.string().nullable(),
  /** Null in a repair, which comes from beside; absent where a sweep has read. */
  log: logSchema.nullish(),
});
export type BatchMetadata = z.infer<typeof batchMetadataSchema>;

/** The newest batch of a chain, as its newest checkpoint tells; nulls before the first batch. */
export function chainHead(newest: BatchMetadata | undefined): { batch_id: string | null; checksum: string | null } {
  return {
    batch_id: newest?.batch_id ?? newest?.previous_batch_id ?? null,
    checksum: newest?.checksum ?? newest?.previous_checksum ?? null,
  };
}

/** What the next batch of a chain says of those before it: its place, their watermark, and the newest of them. */
export function afterBatch(
  before: BatchMetadata | undefined,
): Pick<BatchMetadata, 'sequence' | 'watermark' | 'previous_batch_id' | 'previous_checksum'> {
  const { batch_id: previous_batch_id, checksum: previous_checksum } = chainHead(before);
  const watermark = before?.high_watermark?.time ?? null;
  return { sequence: (before?.sequence ?? 0) + 1, watermark, previous_batch_id, previous_checksum };
}

/** The next checkpoint of a chain, where there is no batch: it says what the newest one says, unless more is said of it. */
export const quietCheckpoint = (newest: BatchMetadata): BatchMetadata => ({
  ...newest,
  ...{ ...afterBatch(newest), batch_id: null, checksum: null, change_count: 0 },
});

/** The name of a batch: the instant of its snapshot to the millisecond (UTC), or the next one after the batch before it; and its shard. */
export function batchId(extractedAt: string, before: BatchMetadata | undefined, shard: string): string {
  const last = chainHead(before).batch_id;
  const moment = Math.max(Date.parse(extractedAt), last === null ? 0 : momentOf(last) + 1);
  const iso = new Date(moment).toISOString();
  return `changes_${iso.slice(0, 10).replaceAll('-', '')}_${iso.slice(11, 19).replaceAll(':', '')}_${iso.slice(20, 23)}${shard === '' ? '' : `_${shard}`}`;
}
