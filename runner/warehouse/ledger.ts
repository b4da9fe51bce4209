import { batchMetadataSchema, type BatchMetadata } from '../batch/metadata.js';
import type { Database } from '../base/database.js';
import { TidemarkError } from '../base/errors.js';
import { shardLayoutSchema, type ShardLayout } from '../batch/shard.js';
import { newestBatch, newestBatches } from './batches.js';

/** What the ledger knows of one chain: where it stands, and how the table was cut then. */
export interface LedgerChain {
  /** Empty for the whole table. */
  readonly shard: string;
  readonly extracted_at: string;
  /** null for the whole table. */
  readonly layout: ShardLayout | null;
}

/** Every chain of a table that the ledger knows. */
export async function ledgerChains(warehouse: Database, table: string): Promise<LedgerChain[]> {
  return (await newestBatches(warehouse, table)).map(({ shard, extracted_at, metadata }) => {
    const layout = shardLayoutSchema.safeParse((metadata as { shard_layout?: unknown } | null)?.shard_layout);
    return { shard, extracted_at, layout: layout.success ? layout.data : null };
  });
}

/** Metadata of the newest batch of a chain that was applied. @throws TidemarkError if it cannot be read */
export async function newestInLedger(warehouse: Database, table: string, shard = ''): Promise<BatchMetadata | undefined> {
  const newest = await newestBatch(warehouse, table, shard);
  if (newest === undefined) return undefined;
  const { batch_id, metadata } = newest;
  const parsed = batchMetadataSchema.safeParse(metadata);
  if (parsed.success) return parsed.data;
  throw new TidemarkError('the metadata of the newest batch in the ledger cannot be read', {
    detail: `table=${table} batch=${batch_id}`, cause: parsed.error, hint: 'it was written by another version of Tidemark, or by hand',
  });
}
