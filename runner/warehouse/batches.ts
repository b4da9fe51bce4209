import type { Database, Transaction } from '../base/database.js';
import { TidemarkError } from '../base/errors.js';
import { failpoint } from '../base/failpoint.js';
import { inTransaction } from '../base/transaction.js';
import { documentParts } from '../batch/document.js';
import type { DimensionMapping } from '../batch/mapping.js';
import { type BatchMetadata, batchMetadataSchema } from '../batch/metadata.js';
import { type ShardLayout, shardLayoutSchema } from '../batch/shard.js';
import { asJson, call, callForRow, type Texts, type Warehouse } from './call.js';

/** Counts of one applied batch, as tidemark.apply_batch gives them. */
export interface ApplyResult
  extends Texts<
    | 'inserted_versions'
    | 'closed_versions'
    | 'absorbed_changes'
    | 'corrected_versions'
    | 'late_changes'
    | 'rejected_changes'
  > {
  readonly already_applied: boolean;
}

/** One row that a transaction wrote: a version it opened or altered, or a change it absorbed or rejected. */
export interface Effect extends Texts<'effect' | 'batch_id'> {
  readonly business_key: string | null;
  readonly change_line: number;
  readonly valid_from: string | null;
  readonly valid_to: string | null;
  readonly reason: string | null;
  /** Its tracked and untracked columns, cut short: name=value, ... */
  readonly shown_values: string | null;
}

type NewestBatch = Texts<'batch_id' | 'sequence' | 'checksum'> & { readonly metadata: unknown };

/** Every registered dimension. */
export const dimensionMappings = (warehouse: Warehouse): Promise<DimensionMapping[]> =>
  call(warehouse, 'dimension_mappings');

/**
 * Applies one batch document, the text of its file, in a transaction of its own where it is not given one. One in Tidemark's own frame
 * travels in its two parts, so that the server need not take it apart.
 */
export async function applyBatch(warehouse: Warehouse, batch: string): Promise<ApplyResult> {
  if ('begin' in warehouse)
    return inTransaction(warehouse, 'isolation level read committed', async (session) => {
      const result = await applyBatch(session, batch);
      failpoint('commit');
      return result;
    });
  const parts = documentParts(batch);
  if (parts === undefined) return callForRow(warehouse, 'apply_batch', { batch: asJson(batch) });
  const [metadata, changes] = [asJson(parts.metadata), asJson(parts.changes)];
  return callForRow(warehouse, 'apply_batch_parts', { metadata, changes });
}

/** What the transaction has done to a history so far, the first `limit` rows of each kind. */
export const transactionEffects = (transaction: Transaction, table: string, limit: number): Promise<Effect[]> =>
  call(transaction, 'transaction_effects', { dimension_name: table, limit });

/** The newest batch of a chain in the ledger; undefined where nothing was loaded. */
export const newestBatch = async (warehouse: Warehouse, table: string, shard = ''): Promise<NewestBatch | undefined> =>
  (await call<NewestBatch>(warehouse, 'newest_batch', { dimension_name: table, shard }))[0];

/** Versions of a history, counted. */
export const historySummary = (
  warehouse: Warehouse,
  table: string,
): Promise<Texts<'history_table' | 'total' | 'current' | 'historical'>> =>
  callForRow(warehouse, 'history_summary', { dimension_name: table });

/**
 * Lets the commits of a session wait for the disk where the server does not ask for it: a batch that a crash took out of the ledger again
 * would be missing there, because its file is moved away.
 */
export async function commitToDisk(warehouse: Database): Promise<void> {
  await warehouse`select set_config('synchronous_commit', 'on', false) where current_setting('synchronous_commit') = 'off'`;
}

/** The statements that make the least-privilege roles of the warehouse. */
export const grantStatements = async (warehouse: Database, prefix: string): Promise<string[]> =>
  (await call(warehouse, 'grant_statements', { prefix })).map((row) => String(Object.values(row)[0]));

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
  const rows = await warehouse<{ dimension_name: string; batch_ceiling: number; chains: ChainRow[] }[]>`
    select t.dimension_name,
      tidemark.suggested_batch_size(
        p_dimension_name => t.dimension_name, p_least => ${limits.least}, p_most => ${limits.most}, p_target_seconds => ${limits.target_seconds}
      ) as batch_ceiling,
      (
        select coalesce(json_agg(n.*), '[]') from tidemark.newest_batches(p_dimension_name => t.dimension_name) as n
      ) as chains
    from unnest(${tables as string[]}::text[]) as t (dimension_name)`;
  return new Map(
    rows.map(({ dimension_name: table, batch_ceiling, chains }) => {
      const newest = chains.find((chain) => chain.shard === shard);
      return [
        table,
        {
          chains: chains.map(chainOf),
          newest: newest === undefined ? undefined : readMetadata(table, newest),
          batch_ceiling,
        },
      ];
    }),
  );
}

type ChainRow = Pick<NewestBatch, 'batch_id' | 'metadata'> & Texts<'shard' | 'extracted_at'>;

function chainOf({ shard, extracted_at, metadata }: ChainRow): LedgerChain {
  const layout = shardLayoutSchema.safeParse((metadata as { shard_layout?: unknown } | null)?.shard_layout);
  return { shard, extracted_at, layout: layout.success ? layout.data : null };
}

/** Every chain of a table that the ledger knows. */
export async function ledgerChains(warehouse: Database, table: string): Promise<LedgerChain[]> {
  return (await call<ChainRow>(warehouse, 'newest_batches', { dimension_name: table })).map(chainOf);
}

/** Metadata of the newest batch of a chain that was applied. @throws TidemarkError if it cannot be read */
export async function newestInLedger(
  warehouse: Warehouse,
  table: string,
  shard = '',
): Promise<BatchMetadata | undefined> {
  const newest = await newestBatch(warehouse, table, shard);
  return newest === undefined ? undefined : readMetadata(table, newest);
}

function readMetadata(
  table: string,
  { batch_id, metadata }: Pick<NewestBatch, 'batch_id' | 'metadata'>,
): BatchMetadata {
  const parsed = batchMetadataSchema.safeParse(metadata);
  if (parsed.success) return parsed.data;
  throw new TidemarkError('the metadata of the newest batch in the ledger cannot be read', {
    detail: `table=${table} batch=${batch_id}`,
    cause: parsed.error,
    hint: 'it was written by another version of Tidemark, or by hand',
  });
}
