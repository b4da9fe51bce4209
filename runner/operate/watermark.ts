import * as chain from '../change-log/chain.js';
import type { Settings } from '../base/settings.js';
import { quietCheckpoint, type BatchMetadata } from '../batch/metadata.js';
import type { Database } from '../base/database.js';
import { AlreadyPublishedError } from '../base/durable-file.js';
import { TidemarkError, UsageError } from '../base/errors.js';
import { shardNames, tableState } from '../extract/shard-layout.js';
import { publishCheckpoint } from '../change-log/publish.js';
import { chainName } from '../batch/shard.js';
import { readClock } from '../source/horizon.js';
import { isSameServer } from '../source/server.js';
import { ledgerChains, newestInLedger } from '../warehouse/batches.js';

/** How far a table has come: one entry, or one for each shard that it is extracted by now. */
export async function watermarksOf(
  settings: Settings,
  table: string,
  source: Database,
  warehouse: Database,
): Promise<Awaited<ReturnType<typeof watermarkOf>>[]> {
  const state = await tableState(settings, table, await ledgerChains(warehouse, table));
  return Promise.all(shardNames(state.present).map((shard) => watermarkOf(settings, table, shard, source, warehouse)));
}

/** How far one table or shard has come. Times are as the source prints them; null where there is none yet. */
async function watermarkOf(settings: Settings, table: string, shard: string, source: Database, warehouse: Database) {
  const log = await chain.openChangeLog(settings.cdc_log_dir, table, shard);
  const newest = await chain.newestCheckpoint(log);
  const clock = await readClock(source);
  const waiting = await Promise.all((await chain.batchFiles(log)).map(changesOf));
  return {
    table,
    shard: shard === '' ? null : shard,
    sequence: newest?.sequence ?? null,
    watermark: newest?.high_watermark?.time ?? null,
    extracted_at: newest?.extracted_at ?? null,
    /** False while a sweep is not finished. */
    is_complete: newest?.sweep.complete ?? false,
    /** Since the newest checkpoint, by the clock of the source; a quiet table has one each HEARTBEAT_SECONDS. */
    lag_seconds:
      newest === undefined
        ? null
        : Math.max(0, Math.round((Date.parse(clock) - Date.parse(newest.extracted_at)) / 1000)),
    waiting_batches: waiting.length,
    /** null where a file cannot be read: "load" says which, and why. */
    waiting_changes: waiting.reduce((sum, each) => (sum === null || each === null ? null : sum + each), 0),
    loaded_sequence: (await newestInLedger(warehouse, table, shard))?.sequence ?? null,
  };
}

/** How many changes a batch holds; null where it cannot be read, which is no reason to show nothing of the other tables. */
async function changesOf(file: string): Promise<number | null> {
  try {
    return (await chain.readBatch(file)).head.change_count;
  } catch (error) {
    if (error instanceof TidemarkError) return null;
    throw error;
  }
}

const lineOf = ({ sequence, extracted_at, batch_id, change_count, high_watermark, sweep }: BatchMetadata) => ({
  sequence,
  extracted_at,
  batch_id,
  changes: change_count,
  watermark: high_watermark?.time ?? null,
  sweep: sweep.is_full ? 'full' : 'ordinary',
  is_complete: sweep.complete,
});

/** The newest checkpoints of a table or shard, newest first. */
export async function listCheckpoints(
  settings: Settings,
  table: string,
  most: number,
  shard = '',
): Promise<ReturnType<typeof lineOf>[]> {
  const log = chain.changeLogOf(settings.cdc_log_dir, table, shard);
  const newest = (await chain.checkpointSequences(log)).slice(-most).reverse();
  const found = await Promise.all(newest.map((sequence) => chain.readCheckpoint(log, sequence)));
  return found.flatMap((each) => (each === undefined ? [] : [lineOf(each)]));
}

/** Where to rewind to: a sequence, or the newest checkpoint at or before an instant (ISO 8601). */
export type RewindTarget = { readonly sequence: number } | { readonly instant: string };

const MOST_RACES = 5;

/**
 * Lets extraction go on from an earlier checkpoint: what was written since is read once more, and absorbed where it is known. Nothing is
 * taken back: the earlier state becomes a new checkpoint of the chain.
 * @returns the checkpoint it goes on from; undefined if there is none so early, or the source was another server then, whose transactions mean
 * nothing in this one: everything is read again
 * @throws TidemarkError if nothing was extracted yet; UsageError if the sequence is yet to come
 */
export async function rewind(
  settings: Settings,
  table: string,
  target: RewindTarget,
  shard = '',
): Promise<BatchMetadata | undefined> {
  const log = await chain.openChangeLog(settings.cdc_log_dir, table, shard);
  for (let races = 0; ; races += 1) {
    const newest = await chain.newestCheckpoint(log);
    if (newest === undefined)
      throw new TidemarkError(`nothing of ${chainName(table, shard)} was extracted yet`, {
        detail: `table=${table} ${log.checkpoints}`,
        hint: 'npx tidemark extract reads it from the beginning',
      });
    if ('sequence' in target && target.sequence > newest.sequence)
      throw new UsageError(
        `--to is ${target.sequence}, but the newest checkpoint of ${chainName(table, shard)} is ${newest.sequence}`,
        { hint: `npx tidemark watermark show --table ${table} lists them` },
      );
    const found = await findCheckpoint(log, target);
    const earlier = found !== undefined && isSameServer(newest, found) ? found : undefined;
    try {
      await publishCheckpoint(log, rewound(newest, earlier));
      return earlier;
    } catch (error) {
      if (!(error instanceof AlreadyPublishedError) || races >= MOST_RACES) throw error;
    }
  }
}

function rewound(newest: BatchMetadata, earlier: BatchMetadata | undefined): BatchMetadata {
  const { floor, snapshot, horizon, sweep, full_sweep, high_watermark } = earlier ?? {
    ...newest,
    high_watermark: null,
    full_sweep: null,
    // Without transactions to go on from, the next sweep begins at the beginning.
    sweep: { ...newest.sweep, complete: true, before_transaction: null, undated: null },
  };
  return { ...quietCheckpoint(newest), floor, snapshot, horizon, sweep, full_sweep, high_watermark };
}

/** Checkpoints are captured in the order of their sequences, so that a few looks find an instant among many. */
async function findCheckpoint(log: chain.ChangeLog, target: RewindTarget): Promise<BatchMetadata | undefined> {
  const sequences = await chain.checkpointSequences(log);
  if ('sequence' in target)
    return chain.readCheckpoint(log, sequences.filter((each) => each <= target.sequence).at(-1) ?? 0);
  let [low, high] = [0, sequences.length];
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    const looked = await chain.readCheckpoint(log, sequences[middle] ?? 0);
    if (looked !== undefined && Date.parse(looked.extracted_at) <= Date.parse(target.instant)) low = middle + 1;
    else high = middle;
  }
  return low === 0 ? undefined : chain.readCheckpoint(log, sequences[low - 1] ?? 0);
}
