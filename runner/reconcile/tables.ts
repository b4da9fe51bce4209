import { setTimeout as sleep } from 'node:timers/promises';
import { changeLogOf, newestCheckpoint, openChangeLog } from '../change-log/chain.js';
import { compareTable, type CompareLimits, type Comparison, type Difference } from './compare.js';
import type { Settings } from '../base/settings.js';
import type { BatchMetadata } from '../batch/metadata.js';
import { withLink, type Database } from '../base/database.js';
import { whileLocked } from '../base/advisory-lock.js';
import { HeldError, TidemarkError } from '../base/errors.js';
import { assertUnlocked } from '../base/locked-table.js';
import { newestKnown } from '../extract/table.js';
import { presentChains, tableState, type TableState } from '../extract/shard-layout.js';
import { logger, warnOnce } from '../base/logger.js';
import { timed } from '../run/measurements.js';
import { comparisonColumns, dimensionMappings, dueProofs, noteReconciliation } from '../warehouse/functions.js';
import { ledgerChains, newestInLedger } from '../warehouse/batches.js';
import { extractTables } from '../extract/tables.js';
import { assertFewDeletes, publishRepairs, publishRestart, type Repairing } from './repair.js';
import { retrying } from '../run/retry.js';
import { describeComparison } from '../source/comparison.js';
import { shardsOf } from '../batch/shard.js';
import { catchUpWithLog } from '../stream/stream.js';
import { lockExtraction, unlockExtraction } from '../source/lock.js';
import { impatient, whileReading } from '../source/locked.js';
import { isSameServer, readIdentity } from '../source/server.js';
import { assertKeysUnique, describeTable } from '../source/table.js';
import { beginSweep } from '../extract/sweep-start.js';
import { eachTable, patienceOf, selectUnpaused, type Selection } from '../run/each-table.js';
import { loadTables } from '../load/tables.js';
import { isLogged, isProven, isReconciled, type DimensionMapping } from '../batch/mapping.js';

export interface ReconcileSelection extends Selection {
  /** Writes the differences to the change log, and loads them. 'declared': only for tables whose deletes are to be found. */
  readonly repair: boolean | 'declared';
  /** Only tables whose deletes are to be found, and those that are due for a proof: where the source marks them, a row may be deleted in earnest all the same. */
  readonly onlyDeclared?: boolean;
  /** Lets a repair close more versions than MAX_DELETE_PERCENT and MAX_DELETE_ROWS allow. */
  readonly allowDeletes: boolean;
  /** Lets a repair undo what the retraction of a batch made differ. */
  readonly includeRetracted?: boolean;
  /** What one run looks at, where a test has less than tables have. */
  readonly limits?: CompareLimits;
}

/** What a comparison found, and what came of it. */
export type ReconcileResult = Awaited<ReturnType<typeof reconcileTable>>[number];

/** Compares the selected tables with their histories, and repairs what differs if told to. A table that fails stops no other. */
export async function reconcileTables(selection: ReconcileSelection): Promise<ReconcileResult[]> {
  const { settings, signal, onlyDeclared = false } = selection;
  return withLink(settings.warehouse, 'reconcile', async (warehouse) => {
    const all = selectUnpaused(await dimensionMappings(warehouse.database()), selection.tables);
    const due = onlyDeclared ? await dueProofs(warehouse.database(), settings.proof_interval_seconds) : [];
    const isDue = (table: string) => due.some(({ dimension_name: name }) => name === table);
    const selected = all.filter((mapping) => !onlyDeclared || isReconciled(mapping) || isDue(mapping.dimension_name));
    if (onlyDeclared && !all.some((mapping) => isReconciled(mapping) || isProven(mapping)))
      warnOnce(
        'nothing to reconcile',
        "every table is registered with deletes => 'none' or 'log': there is nothing to do until one is not. They are compared where --table names them",
      );
    return withLink(impatient(settings.source), 'reconcile', (source) => {
      const renew = async () => {
        await warehouse.renew();
        await source.renew();
      };
      // What was published and loaded before a fault is found to agree by the next attempt.
      return eachTable(
        settings.source,
        selected,
        (mapping) =>
          retrying(mapping.dimension_name, { renew }, signal, () =>
            whileReading(source.database(), mapping, () =>
              reconcileTable(selection, mapping, source.database(), warehouse.database()),
            ),
          ),
        (results) => results.flat(),
        patienceOf(settings.source, selection),
      );
    });
  });
}

async function reconcileTable(
  selection: ReconcileSelection,
  mapping: DimensionMapping,
  source: Database,
  warehouse: Database,
) {
  await assertUnlocked(warehouse, { table: mapping.dimension_name, relation: mapping.history_table, use: 'read' });
  const { columns } = await comparisonColumns(warehouse, mapping.dimension_name);
  const repairing = await prepare(selection, mapping, source, warehouse, columns);
  if (selection.repair === 'declared' && isReadFirst(await repairing.newest())) {
    logger.info({ table: mapping.dimension_name }, 'compared when it has been read once');
    return [];
  }
  await assertKeysUnique(source, mapping.dimension_name, repairing.described);
  const comparison = await timed('compare', () => compareTable(repairing));
  const unmeant = comparison.differences.filter((one) => selection.includeRetracted === true || !one.retracted);
  const count = (wanted: Difference['kind']) => unmeant.filter(({ kind }) => kind === wanted).length;
  const found = {
    table: mapping.dimension_name,
    source_rows: comparison.source_rows,
    current_versions: comparison.current_versions,
    missing: count('missing'),
    extra: count('extra'),
    different: count('different'),
    /** Differences that a retraction made, and that are meant: none of those above, unless the repair includes them. */
    retracted: comparison.differences.length - unmeant.length,
    unsettled: comparison.unsettled,
    /** Changes that were written to the change log and loaded. */
    repaired: 0,
    differences: comparison.differences,
  };
  const repairs = selection.repair === true || (selection.repair === 'declared' && isReconciled(mapping));
  try {
    if (repairs)
      found.repaired = await timed('repair', () =>
        repair(selection, repairing, { ...comparison, differences: unmeant }),
      );
    return [found];
  } finally {
    // What was found is noted also where the repair is refused, as it is for too many deletes.
    await noteReconciliation(warehouse, found).catch((error: unknown) => {
      logger.warn({ table: found.table }, `what was found is not noted: ${String(error)}`);
    });
  }
}

/** Whether a table is being read for the first time, or is yet to be: all that history lacks would seem to differ, for as long as that takes. */
const isReadFirst = (newest: BatchMetadata | undefined): boolean =>
  newest === undefined || (!newest.sweep.complete && newest.sweep.from_transaction === null);

async function prepare(
  { settings, signal, limits }: ReconcileSelection,
  mapping: DimensionMapping,
  source: Database,
  warehouse: Database,
  columns: readonly object[],
): Promise<Repairing> {
  const table = mapping.dimension_name;
  const log = await openChangeLog(settings.cdc_log_dir, table);
  const described = await describeTable(source, mapping);
  const identity = await readIdentity(source);
  const state = await tableState(settings, table, await ledgerChains(warehouse, table));
  assertShardsAreHere(state);
  const newest = async () => newestOfTable(settings, warehouse, table);
  const known = await newest();
  const isRestart = known !== undefined && !isSameServer(identity, known);
  if (isRestart)
    logger.warn(
      { table },
      `the source is another server than the one of ${known.extracted_at}: after the repair extraction goes on from here`,
    );
  const alone = { settings, tables: [table], signal, lockPatience: 0 };
  const load = () => loadTables({ ...alone, known: [mapping] });
  const readLog = isLogged(mapping) ? () => catchUpWithLog(settings, source, signal) : undefined;
  return {
    ...{ source, warehouse, table, described, settings, signal, log, identity, newest, limits, readLog, load },
    layout: state.present ?? null,
    queries: await describeComparison(source, described, mapping, columns),
    restart: isRestart
      ? await beginSweep({ source, settings, table, described, full: true, fills: [] }, undefined)
      : undefined,
    catchUp: async () => {
      const shards = state.present == null ? ['whole' as const] : shardsOf(state.present);
      await readLog?.();
      // Another server cannot be extracted from before it is reconciled; what was captured before is loaded.
      for (const shard of isRestart || readLog !== undefined ? [] : shards)
        await waitForOthers(table, () => extractTables({ ...alone, shard }));
      await load();
    },
  };
}

async function repair(
  { settings, allowDeletes }: ReconcileSelection,
  repairing: Repairing,
  comparison: Comparison,
): Promise<number> {
  const { table, source, restart } = repairing;
  if (!allowDeletes) assertFewDeletes(table, comparison, settings);
  const published = await waitForOthers(table, async () => {
    const holder = await lockExtraction(source, table);
    if (holder !== undefined)
      throw new HeldError(`another extractor holds ${table}: ${holder}`, { detail: `table=${table}` });
    return whileLocked(
      () => unlockExtraction(source, table),
      async () => {
        const changes = await publishRepairs(repairing, comparison.differences);
        if (changes === 0 && restart !== undefined) await publishRestart(repairing, restart.floor);
        if (restart !== undefined) await restartShards(repairing, restart.floor);
        return changes;
      },
    );
  });
  await repairing.load();
  return published;
}

/**
 * The newest of the chain of the whole table, to which repairs belong, captured no earlier than the newest of any chain. Where the table
 * was only ever extracted by shards it begins now, and says nothing of how far extraction has come.
 */
async function newestOfTable(settings: Settings, warehouse: Database, table: string) {
  const { chains } = await tableState(settings, table, []);
  const whole = await newestKnown({
    log: changeLogOf(settings.cdc_log_dir, table),
    ledger: await newestInLedger(warehouse, table),
  });
  const latest = chains
    .map(({ newest }) => newest)
    .reduce((one, other) => ((other?.extracted_at ?? '') > (one?.extracted_at ?? '') ? other : one), whole);
  if (latest === undefined || whole === latest) return whole;
  const { system_identifier, database_oid, timeline, extracted_at } = latest;
  if (whole !== undefined) return { ...whole, system_identifier, database_oid, timeline, extracted_at };
  return {
    ...latest,
    shard: null,
    sequence: 0,
    batch_id: null,
    previous_batch_id: null,
    checksum: null,
    previous_checksum: null,
    high_watermark: null,
    full_sweep: null,
    sweep: { ...latest.sweep, complete: true, before_transaction: null, undated: null },
  };
}

/** Every shard goes on from where the restart begins. */
async function restartShards(repairing: Repairing, clock: string): Promise<void> {
  const { layout, settings, table } = repairing;
  for (const { name } of layout === null ? [] : shardsOf(layout)) {
    const log = await openChangeLog(settings.cdc_log_dir, table, name);
    await publishRestart({ ...repairing, log, newest: () => newestCheckpoint(log) }, clock);
  }
}

/** What another machine extracts into a folder of its own is nothing that this one could read, or go on with. */
function assertShardsAreHere(state: TableState): void {
  const isHere = (name: string) =>
    presentChains(state).some(({ shard, newest }) => shard === name && newest !== undefined);
  const missing = (state.present == null ? [] : shardsOf(state.present))
    .map(({ name }) => name)
    .filter((name) => !isHere(name) && state.ledger.some(({ shard }) => shard === name));
  if (missing.length === 0) return;
  throw new TidemarkError(
    `the change log here lacks shards of ${state.table} that are extracted elsewhere: ${missing.join(', ')}`,
    {
      detail: `table=${state.table}`,
      hint: 'reconcile where all shards have their change log: a folder that the machines share',
    },
  );
}

const LONGEST_WAIT_MS = 60_000;
const PAUSE_MS = 200;

/** An extractor that goes on for ever gives its lock back between two polls. */
async function waitForOthers<T>(table: string, work: () => Promise<T>): Promise<T> {
  for (const deadline = performance.now() + LONGEST_WAIT_MS; ; await sleep(PAUSE_MS)) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof HeldError)) throw error;
      if (performance.now() > deadline)
        throw new TidemarkError(`${error.message}, and does not let go of it`, {
          detail: `table=${table}`,
          hint: 'reconcile again when its sweep is done',
          cause: error,
        });
    }
  }
}
