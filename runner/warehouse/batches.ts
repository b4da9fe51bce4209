import type { Database } from '../base/database.js';
import { TidemarkError } from '../base/errors.js';
import { failpoint } from '../base/failpoint.js';
import { inTransaction } from '../base/transaction.js';
import { documentParts, type Members } from '../batch/document.js';
import { type BatchMetadata, batchMetadataSchema } from '../batch/metadata.js';
import { type ShardLayout, shardLayoutSchema } from '../batch/shard.js';
import { row, rows, type Texts, type TextsOrNull, type Warehouse } from './call.js';

/** What is counted of changes that are applied. */
export const COUNTED = [
  'inserted_versions',
  'closed_versions',
  'absorbed_changes',
  'corrected_versions',
  'late_changes',
  'rejected_changes',
] as const;
export type Counted = (typeof COUNTED)[number];

/** Counts of one applied batch, as tidemark.apply_batch gives them. */
export type ApplyResult = Texts<Counted> & { readonly already_applied: boolean };

type NewestBatch = Texts<'batch_id' | 'sequence' | 'checksum'> & { readonly metadata: unknown };

const applyWhole = row<ApplyResult, [batch: string]>('apply_batch(p_batch => $1::text::json)');
const applyParts = row<ApplyResult, [metadata: string, changes: string]>(
  'apply_batch_parts(p_metadata => $1::text::json, p_changes => $2::text::json)',
);

/**
 * Applies one batch document, the text of its file, in a transaction of its own where it is not given one. One in Tidemark's own frame
 * travels in its two parts, so that the server need not take it apart.
 * @param published what the commit waits for; where it fails nothing is applied
 */
export async function applyBatch(
  warehouse: Warehouse,
  batch: string | Members,
  published?: Promise<unknown>,
): Promise<ApplyResult> {
  if ('begin' in warehouse)
    return inTransaction(warehouse, 'isolation level read committed', async (session) => {
      const result = await applyBatch(session, batch);
      await published;
      failpoint('commit');
      return result;
    });
  const parts = typeof batch === 'string' ? documentParts(batch) : batch;
  if (parts === undefined) return applyWhole(warehouse, batch as string);
  return applyParts(warehouse, parts.metadata, parts.changes);
}

/** The newest batch of a chain in the ledger; undefined where nothing was loaded. */
export const newestBatch = row<NewestBatch | undefined, [table: string, shard?: string]>(
  "newest_batch(p_dimension_name => $1, p_shard => coalesce($2, ''))",
);

/**
 * Lets the commits of a session wait for the disk where the server does not ask for it: a batch that a crash took out of the ledger again
 * would be missing there, because its file is moved away.
 */
export async function commitToDisk(warehouse: Database): Promise<void> {
  await warehouse`select set_config('synchronous_commit', 'on', false) where current_setting('synchronous_commit') = 'off'`;
}

/** What the ledger knows of one chain (empty shard: the whole table): where it stands, and how the table was cut then. */
export interface LedgerChain extends Texts<'shard' | 'extracted_at'> {
  /** null for the whole table. */
  readonly layout: ShardLayout | null;
}

/** What the ledger has of a table that is about to be extracted. */
export interface LedgerState {
  readonly chains: readonly LedgerChain[];
  /** Metadata of the newest batch of the chain that was asked for. */
  readonly newest: BatchMetadata | undefined;
  /** The greatest batch that is loaded well. */
  readonly batch_ceiling: number;
}

/** What the ledger has of each of many tables, in one question. @throws TidemarkError if the metadata of a newest batch cannot be read */
export async function ledgerStates(
  warehouse: Database,
  tables: readonly string[],
  shard: string,
  limits: Readonly<{ least: number; most: number; target_seconds: number }>,
): Promise<Map<string, LedgerState>> {
  const found = await warehouse<{ dimension_name: string; batch_ceiling: number; chains: ChainRow[] }[]>`
    select t.dimension_name,
      tidemark.suggested_batch_size(
        p_dimension_name => t.dimension_name, p_least => ${limits.least}, p_most => ${limits.most}, p_target_seconds => ${limits.target_seconds}
      ) as batch_ceiling,
      (
        select coalesce(json_agg(n.*), '[]') from tidemark.newest_batches(p_dimension_name => t.dimension_name) as n
      ) as chains
    from unnest(${tables as string[]}::text[]) as t (dimension_name)`;
  return new Map(
    found.map(({ dimension_name: table, batch_ceiling, chains }) => {
      const newest = readMetadata(
        table,
        chains.find((chain) => chain.shard === shard),
      );
      return [table, { chains: chains.map(chainOf), newest, batch_ceiling }];
    }),
  );
}

/** A batch of the ledger; who took it out of history, when and why, where somebody did. */
export type LedgerBatch = Texts<'batch_id' | 'extracted_at' | 'applied_at'> &
  TextsOrNull<'shard' | 'sequence' | 'retracted_at' | 'retracted_by' | 'reason'> & { readonly changes: number };

/** The newest batches that the ledger has of a table, or those that are retracted. */
export async function ledgerBatches(
  warehouse: Warehouse,
  table: string,
  onlyRetracted: boolean,
  limit: number,
): Promise<LedgerBatch[]> {
  return warehouse<LedgerBatch[]>`
    select b.batch_id, nullif(b.shard, '') as shard, b.sequence, b.extracted_at, b.applied_at, b.change_count as changes,
      b.retracted_at, r.retracted_by, r.reason
    from tidemark.batches as b
    left join tidemark.retractions as r using (dimension_name, shard, batch_id, retracted_at)
    where b.dimension_name = ${table} and (b.retracted_at is not null or not ${onlyRetracted})
    order by b.extracted_at desc, b.sequence desc nulls first, b.batch_id desc
    limit ${limit}`;
}

type ChainRow = Pick<NewestBatch, 'batch_id' | 'metadata'> & Texts<'shard' | 'extracted_at'>;

function chainOf({ shard, extracted_at, metadata }: ChainRow): LedgerChain {
  const layout = shardLayoutSchema.safeParse((metadata as { shard_layout?: unknown } | null)?.shard_layout);
  return { shard, extracted_at, layout: layout.success ? layout.data : null };
}

const newestOfChains = rows<ChainRow>('newest_batches(p_dimension_name => $1)');

/** Every chain of a table that the ledger knows. */
export async function ledgerChains(warehouse: Database, table: string): Promise<LedgerChain[]> {
  return (await newestOfChains(warehouse, table)).map(chainOf);
}

/** Metadata of the newest batch of a chain that was applied. @throws TidemarkError if it cannot be read */
export const newestInLedger = async (
  warehouse: Warehouse,
  table: string,
  shard = '',
): Promise<BatchMetadata | undefined> => readMetadata(table, await newestBatch(warehouse, table, shard));

function readMetadata(table: string, newest: Pick<NewestBatch, 'batch_id' | 'metadata'> | undefined) {
  if (newest === undefined) return undefined;
  const parsed = batchMetadataSchema.safeParse(newest.metadata);
  if (parsed.success) return parsed.data;
  throw new TidemarkError('the metadata of the newest batch in the ledger cannot be read', {
    detail: `table=${table} batch=${newest.batch_id}`,
    cause: parsed.error,
    hint: 'it was written by another version of Tidemark, or by hand',
  });
}

/** Names of batches that the ledger knows, and of those that are settled. */
export type Settled = Readonly<Record<'known' | 'settled', ReadonlySet<string>>>;

/** Those of the batches that are in the ledger of a chain, and of them those whose files nothing will ask for any more. */
export async function settledBatches(
  warehouse: Warehouse,
  table: string,
  shard: string,
  batchIds: readonly string[],
): Promise<Settled> {
  const [found] = await warehouse<[Record<keyof Settled, string[]>]>`
    select
      coalesce(array_agg(b.batch_id), '{}') as known,
      coalesce(array_agg(b.batch_id) filter (where s.batch_id is not null), '{}') as settled
    from tidemark.batches as b
    left join tidemark.settled_batches(p_dimension_name => ${table}, p_shard => ${shard}) as s using (batch_id)
    where b.dimension_name = ${table} and b.shard = ${shard} and b.batch_id = any (${batchIds as string[]}::text[])`;
  return { known: new Set(found.known), settled: new Set(found.settled) };
}
