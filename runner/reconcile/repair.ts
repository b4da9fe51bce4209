import { checksumOf, type ChangeLog } from '../change-log/chain.js';
import { chunks, type Comparing, type Comparison, type Difference } from './compare.js';
import type { Settings } from '../base/settings.js';
import { afterBatch, batchId, batchMetadataSchema, type BatchMetadata } from '../batch/metadata.js';
import { failpoint } from '../base/failpoint.js';
import { AlreadyPublishedError } from '../base/durable-file.js';
import { TidemarkError } from '../base/errors.js';
import { publishBatch, publishCheckpoint } from '../change-log/publish.js';
import type { ShardLayout } from '../batch/shard.js';
import { compareAtSource, type Deletions } from '../source/comparison.js';
import { one } from '../source/file.js';
import { awaitFlush, awaitOpenTransactions, type SourceIdentity } from '../source/server.js';
import { NO_KNOWN_ROWS, columnsOfBatch, readKeyedPage, unfilledColumns } from '../source/table.js';
import { comparisonStates } from '../warehouse/functions.js';
import { sizeLimits } from '../run/size-limits.js';
import type { SweepStart } from '../extract/sweep-start.js';

export interface Repairing extends Comparing {
  readonly settings: Settings;
  readonly signal: AbortSignal | undefined;
  readonly log: ChangeLog;
  readonly identity: SourceIdentity;
  readonly newest: () => Promise<BatchMetadata | undefined>;
  /** Waits until the log of the source is read as far as it is now, which a repair must not be ahead of; undefined for a table that is polled. */
  readonly readLog: (() => Promise<void>) | undefined;
  /** Loads what has been published. */
  readonly load: () => Promise<unknown>;
  /** How the table is cut: a repair is of the whole table all the same, in the chain of the whole table. */
  readonly layout: ShardLayout | null;
  /** Where extraction goes on, if the source is another server than before; read before the comparison. */
  readonly restart: SweepStart | undefined;
}

const MOST_RACES = 5;

/**
 * Refuses to close more versions than both MAX_DELETE_PERCENT and MAX_DELETE_ROWS allow: a source that is empty, or of which a part was read, must not end its history, nor
 * in parts. Where more differ than one run looks at, as many are taken to be gone of the others: buckets are by the hash of the key.
 * @throws TidemarkError that says how many there would be
 */
export function assertFewDeletes(
  table: string,
  comparison: Comparison,
  { max_delete_percent: mostPercent, max_delete_rows: mostRows }: Settings,
): void {
  const found = comparison.differences.filter(({ kind }) => kind === 'extra').length;
  const deletes = Math.round(found / comparison.part_looked_at);
  if (deletes <= mostRows || deletes * 100 <= comparison.current_versions * mostPercent) return;
  throw new TidemarkError(
    `${deletes === found ? '' : 'about '}${deletes} of ${comparison.current_versions} rows of ${table} are gone from the source: more than MAX_DELETE_PERCENT (${mostPercent}) and MAX_DELETE_ROWS (${mostRows}) allow to close`,
    {
      detail: `table=${table} source_rows=${comparison.source_rows} current_versions=${comparison.current_versions}`,
      hint: 'see that the source is whole; if the rows were deleted on purpose: npx tidemark reconcile --repair --allow-deletes',
    },
  );
}

/** Reads the change lines of some keys, captured after an instant. */
type Reader = (
  keys: readonly string[],
  notBefore: string | null,
) => Promise<Deletions & { readonly has_more: boolean }>;

/** Writes the differences to the change log as ordinary batches: rows as they are now, and deletes of those that are gone. */
export async function publishRepairs(repairing: Repairing, differences: readonly Difference[]): Promise<number> {
  const { settings, described, source, queries } = repairing;
  const { most } = sizeLimits(settings);
  const limits = { rows: most + 1, bytes: settings.batch_max_bytes, known_rows: NO_KNOWN_ROWS };
  const readRows: Reader = (keys, notBefore) => readKeyedPage(source, described, keys, limits, notBefore);
  const readDeletes: Reader = async (keys, notBefore) => {
    const parameters = [JSON.stringify(keys), notBefore];
    const gone = one(await compareAtSource<Deletions>(source, described, queries.deletions, parameters));
    return { ...gone, has_more: false };
  };
  let published = 0;
  for (const read of [readRows, readDeletes]) {
    const found = differences.filter(({ kind }) => (kind === 'extra') === (read === readDeletes));
    for (const piece of chunks(found, most))
      published += await publishSmall(
        repairing,
        piece.map(({ key }) => key),
        read,
      );
  }
  return published;
}

/** Where nothing differs, a restart still needs its checkpoint: extraction goes on from there. */
export async function publishRestart(repairing: Repairing, clock: string): Promise<void> {
  const newest = await repairing.newest();
  const extractedAt =
    newest !== undefined && Date.parse(newest.extracted_at) > Date.parse(clock) ? newest.extracted_at : clock;
  await publishCheckpoint(repairing.log, { ...metadataOf(repairing, newest, null, 0, extractedAt), batch_id: null });
}

/** A batch that would be too large is published in halves; a single row travels alone. */
async function publishSmall(repairing: Repairing, wanted: readonly string[], read: Reader): Promise<number> {
  let keys = wanted;
  for (let races = 0; ; races += 1) {
    const stored = repairing.readLog && (await statesOf(repairing, keys));
    // The log may have brought what nobody sees yet at the source: an older row would come after it.
    if (stored !== undefined) await awaitOpenTransactions(repairing.source, repairing.table, repairing.signal);
    const before = await repairing.newest();
    const { lines, change_count, extracted_at, has_more } = await read(keys, before?.extracted_at ?? null);
    if (lines === null || extracted_at === null) return 0;
    if (has_more) {
      const middle = Math.ceil(keys.length / 2);
      return (
        (await publishSmall(repairing, keys.slice(0, middle), read)) +
        (await publishSmall(repairing, keys.slice(middle), read))
      );
    }
    await awaitFlush(repairing.source);
    failpoint('repair read');
    const place = stored === undefined ? { newest: before, changed: [] } : await passByLog(repairing, stored);
    const { newest, changed } = place;
    if (changed.length > 0) {
      if (races >= MOST_RACES) return 0;
      keys = keys.filter((key) => !changed.includes(key));
      if (keys.length === 0) return 0;
      continue;
    }
    try {
      await publishBatch(repairing.log, metadataOf(repairing, newest, lines, change_count, extracted_at), lines);
      return change_count;
    } catch (error) {
      if (!(error instanceof AlreadyPublishedError) || races >= MOST_RACES) throw error;
    }
  }
}

/** The rows of some keys as history has them, by the key; of one that it does not have, nothing. */
async function statesOf({ warehouse, table }: Repairing, keys: readonly string[]): Promise<Map<string, string>> {
  const found = await comparisonStates(warehouse, table, keys);
  const states = new Map(keys.map((key): [string, string] => [key, '']));
  for (const { key, content } of found) states.set(key, content);
  return states;
}

/**
 * A repair that was read must not come before what the log brings of the same rows: so the log passes by what it shows first. What it changed
 * meanwhile is left out: that is compared again by the next reconcile.
 * @param stored the rows as history had them before the repair was read
 * @returns the checkpoint after which the repair may come, if nothing else does; and the keys that have changed
 */
async function passByLog(repairing: Repairing, stored: ReadonlyMap<string, string>) {
  await repairing.readLog?.();
  const newest = await repairing.newest();
  await repairing.load();
  const now = await statesOf(repairing, [...stored.keys()]);
  return { newest, changed: [...stored.keys()].filter((key) => now.get(key) !== stored.get(key)) };
}

/** A repair leaves the watermark where it is: extraction goes on as if there had been none, or where a restart begins. */
function metadataOf(
  repairing: Repairing,
  newest: BatchMetadata | undefined,
  lines: string | null,
  changes: number,
  extractedAt: string,
): BatchMetadata & { batch_id: string } {
  const { restart, identity, described } = repairing;
  const watermark =
    restart === undefined
      ? newest
      : {
          ...restart,
          relation_oid: described.relation_oid,
          sweep: {
            ...{ complete: true, is_full: true, from_floor: null, from_high_watermark: null, from_transaction: null },
            before_transaction: restart.sweep.before_transaction,
          },
        };
  const metadata = batchMetadataSchema.parse({
    ...newest,
    ...watermark,
    ...{ log: null, format: undefined },
    table: repairing.table,
    shard: repairing.log.shard === '' ? null : repairing.log.shard,
    shard_layout: repairing.layout,
    extracted_at: extractedAt,
    change_count: changes,
    ...afterBatch(newest),
    high_watermark: newest?.high_watermark ?? null,
    ...identity,
    ...columnsOfBatch(described, unfilledColumns(described, newest)),
    checksum: lines === null ? null : checksumOf(lines),
  });
  return { ...metadata, batch_id: batchId(extractedAt, newest, '') };
}
