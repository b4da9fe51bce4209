import { newestCheckpoint, openChangeLog } from '../change-log/chain.js';
import type { BatchMetadata } from '../batch/metadata.js';
import { whileLocked } from '../base/advisory-lock.js';
import type { Link } from '../base/database.js';
import { assertFits, warnOfUnmapped } from '../source/changed-columns.js';
import { AlreadyPublishedError } from '../base/durable-file.js';
import { HeldError, TidemarkError } from '../base/errors.js';
import { logger, warnOnce } from '../base/logger.js';
import { removeUnpublished } from '../change-log/publish.js';
import { retrying } from '../run/retry.js';
import { chainName } from '../batch/shard.js';
import { isSameServer, readIdentity, type SourceIdentity } from '../source/server.js';
import { whileReading } from '../source/locked.js';
import { awaitExtraction, unlockExtraction } from '../source/lock.js';
import { describeShard } from '../source/shard.js';
import { describeTable, unfilledColumns, type TablePart } from '../source/table.js';
import { sweep, sweepForLog, type HandOver, type Published, type Sweeper } from './sweep.js';
import { isSameRelation } from './sweep-start.js';
import type { DimensionMapping } from '../batch/mapping.js';

/** What was published. `shard`: absent for the whole table; `watermark`: time of the high watermark after the run, null before the first change. */
export type ExtractResult = Readonly<Published & { table: string; shard?: string; watermark: string | null }>;

/** What extraction of one table needs, opened once and used for every poll. */
interface Extraction extends Omit<Sweeper, 'source' | 'table' | 'described' | 'fills' | 'log' | 'identity'> {
  readonly link: Link;
  readonly mapping: DimensionMapping;
  /** Metadata of the newest batch in the ledger: it counts where the change log is behind; 'unknown' while the warehouse is away. */
  readonly ledger: BatchMetadata | 'unknown' | undefined;
  /** Hands the table over to the log, after a last sweep. */
  readonly handOver?: HandOver | undefined;
}

type Extractor = Omit<Sweeper, 'fills'> &
  Pick<Extraction, 'ledger' | 'mapping' | 'handOver'> & { readonly part: TablePart | undefined };

const MOST_RACES = 5;

/**
 * Reads what changed in one table since its watermark and publishes it as batches: one sweep, page by page,
 * after the rest of an interrupted one. Faults that pass are tried again; what was published before them stands, and counts.
 * @throws TidemarkError if another extractor holds the table, or table, columns or folder are not as they must be.
 */
export async function extractTable(extraction: Extraction): Promise<ExtractResult> {
  const total = { batches: 0, changes: 0 };
  return retrying(
    chainName(extraction.mapping.dimension_name, extraction.shard?.name ?? ''),
    extraction.link,
    extraction.signal,
    () => whileReading(extraction.link.database(), extraction.mapping, () => extractOnce(extraction, total)),
  );
}

async function extractOnce(extraction: Extraction, total: Published): Promise<ExtractResult> {
  const { mapping, settings } = extraction;
  const source = extraction.link.database();
  const table = mapping.dimension_name;
  const part = extraction.shard === undefined ? undefined : await describeShard(source, mapping, extraction.shard);
  const shard = part?.shard;
  const described = await describeTable(source, mapping, part);
  const log = await openChangeLog(settings.cdc_log_dir, table, shard?.name);
  warnOfUnmapped(mapping, described);
  await assertFits(source, mapping, described, await newestKnown({ ...extraction, log }));
  if (described.lacks_index)
    warnOnce(
      `index ${table}`,
      `${table}: no index of ${described.relation} serves extraction, so that each page reads the whole table. On the source: ${described.index_statement}`,
    );
  const holder = await awaitExtraction(source, table, log.shard);
  if (holder !== undefined)
    throw new HeldError(`another extractor holds ${chainName(table, log.shard)}: ${holder}`, {
      detail: `table=${table}${log.shard === '' ? '' : ` shard=${log.shard}`}`,
      hint: `let it finish, or stop it; one extractor a ${log.shard === '' ? 'table' : 'shard'} is enough`,
    });
  return whileLocked(
    () => unlockExtraction(source, table, log.shard),
    async () => {
      const identity = await readIdentity(source);
      const extractor = { ...extraction, shard, part, source, table, log, described, identity };
      await removeUnpublished(log, await newestKnown(extractor));
      return sweepUntilDone(extractor, total);
    },
  );
}

/** Finishes an interrupted sweep, then runs one of its own. A lost race is begun again from the winner's checkpoint. */
async function sweepUntilDone(sweeper: Extractor, total: Published): Promise<ExtractResult> {
  let races = 0;
  for (let finished = false; !finished; ) {
    try {
      const newest = await newestKnown(sweeper);
      if (sweeper.handOver !== undefined && newest?.sweep.complete !== false) {
        await sweepLast(sweeper, sweeper.handOver, newest, total);
        break;
      }
      if (!sweeper.full) assertSameServer(sweeper, newest);
      const resumes = newest?.sweep.complete === false && !sweeper.full && isSameRelation(sweeper.described, newest);
      const fills = resumes ? newest.sweep.fills : unfilledColumns(sweeper.described, newest);
      await sweep({ ...sweeper, fills, described: await describeFilling(sweeper, fills) }, newest, resumes, total);
      finished = !resumes || sweeper.signal?.aborted === true;
    } catch (error) {
      races += 1;
      if (!(error instanceof AlreadyPublishedError) || races > MOST_RACES) throw error;
      logger.info({ table: sweeper.log.table }, 'another writer was quicker: reading again from its checkpoint');
    }
  }
  const newest = await newestKnown(sweeper);
  return {
    table: sweeper.log.table,
    ...(sweeper.shard === undefined ? {} : { shard: sweeper.shard.name }),
    ...total,
    watermark: newest?.high_watermark?.time ?? null,
  };
}

/** What another server, another relation, or times alone tell nothing of is read whole. */
async function sweepLast(sweeper: Extractor, handOver: HandOver, newest: BatchMetadata | undefined, total: Published) {
  const { described, identity } = sweeper;
  const fills = unfilledColumns(described, newest);
  const goesOn =
    newest !== undefined &&
    fills.length === 0 &&
    newest.sweep.before_transaction !== null &&
    isSameServer(identity, newest) &&
    isSameRelation(described, newest);
  await sweepForLog({ ...sweeper, fills }, handOver, newest, goesOn ? newest : undefined, total);
}

/** The table with queries that find, besides what changed, every value of these columns, which history does not have yet. */
async function describeFilling({ source, mapping, part, described, table }: Extractor, fills: readonly string[]) {
  if (fills.length === 0) return described;
  logger.info({ table, columns: fills }, 'columns were added to history: every row that has a value there is read');
  return describeTable(source, mapping, part, fills);
}

/** The newest metadata of the chain: that of the log, or of the ledger where the folder is gone or behind. */
export async function newestKnown(of: Pick<Extractor, 'log' | 'ledger'>): Promise<BatchMetadata | undefined> {
  const { log, ledger } = of;
  const newest = await newestCheckpoint(log);
  if (ledger === 'unknown') {
    if (newest !== undefined) return newest;
    throw new TidemarkError(
      'the change log has no checkpoint, and the warehouse, whose ledger could say where to go on, is away',
      {
        detail: `table=${log.table} ${log.checkpoints}`,
        hint: 'restore the folder, or extract when the warehouse is back',
      },
    );
  }
  if (ledger !== undefined && ledger.sequence > (newest?.sequence ?? 0)) return ledger;
  return newest;
}

/** Transaction numbers of another server mean nothing here: going on would miss rows without a word. */
function assertSameServer({ identity, log }: Extractor, newest: BatchMetadata | undefined): void {
  if (newest === undefined || isSameServer(identity, newest)) return;
  const shown = ({ system_identifier: server, database_oid: database, timeline }: SourceIdentity) =>
    `${server}/${database}/${String(timeline)}`;
  throw new TidemarkError('the source is not the database this change log was extracted from', {
    detail: `table=${log.table} server/database/timeline: expected ${shown(newest)}, found ${shown(identity)}`,
    hint: 'see that DB_HOST, DB_PORT and DB_NAME are right; if it was restored or failed over on purpose, compare and repair, then it goes on: npx tidemark reconcile --repair (or read every row again: npx tidemark extract --full)',
  });
}
