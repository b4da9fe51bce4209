import path from 'node:path';
import { batchFiles, type ChangeLog } from '../change-log/chain.js';
import { countPending, openChains } from '../change-log/inspect.js';
import type { Settings } from '../base/settings.js';
import { withDatabase, withLink, type Database, type Link } from '../base/database.js';
import { describeError } from '../base/errors.js';
import { loadChain, sumOf, type Loading, type LoadResult } from './chain.js';
import { logger } from '../base/logger.js';
import { withProgress, type Progress } from '../run/progress.js';
import { attempt, inOrder, patienceOf, resultsOf, selectUnpaused, workOff } from '../run/each-table.js';
import type { Selection, TableResult } from '../run/each-table.js';
import type { DimensionMapping } from '../batch/mapping.js';
import { chainName, layoutOf } from '../batch/shard.js';
import { dimensionMappings, historySummary } from '../warehouse/functions.js';

export interface LoadSelection extends Selection {
  /** How many chains, of whichever tables, are loaded at once, each over a connection of its own; 1 by default. */
  readonly parallel?: number | undefined;
  /** Of the selected tables only these, if they are registered and not paused. */
  readonly only?: ReadonlySet<string> | undefined;
  /** What is registered of them, where who calls has asked already. */
  readonly known?: readonly DimensionMapping[];
}

/**
 * Applies the pending batches of the selected tables. A chain whose file is bad stops no other; failures are thrown at the end. Shards of one
 * layout are loaded at once; those of different layouts of a table, which may have had one key, one layout after the other.
 * @returns one result a table, its shards added up
 */
export async function loadTables(selection: LoadSelection): Promise<LoadResult[]> {
  const { settings, tables, signal, only, parallel = 1 } = selection;
  const all = selection.known ?? (await withDatabase(settings.warehouse, 'load', dimensionMappings));
  const selected =
    only === undefined
      ? selectUnpaused(all, tables)
      : all.filter(({ dimension_name: name, is_paused }) => only.has(name) && !is_paused);
  const names = selected.map(({ dimension_name: name }) => name);
  const outcomes: TableResult<LoadResult>[] = [];
  const { stages, waiting } = await planOf(settings, names, outcomes);
  const histories = new Map(selected.map(({ dimension_name: name, history_table: history }) => [name, history]));
  const patience = patienceOf(settings.warehouse, selection);
  const loadAll = async (shared?: Progress) => {
    for (const stage of stages) {
      const queue = stage.map((item) => ({ item }));
      const load = (link: Link) => (log: ChangeLog) =>
        loadOne(link, { settings, signal, log, history: histories.get(log.table) }, shared);
      const note = (result: TableResult<LoadResult>) => outcomes.push(result);
      const worker = () => withLink(settings.warehouse, 'load', (link) => workOff(queue, load(link), note, patience));
      const ended = await Promise.allSettled(Array.from({ length: Math.min(parallel, queue.length) }, worker));
      const faults = ended.flatMap((each) => (each.status === 'rejected' ? [each.reason as unknown] : []));
      if (faults.length > 0 && queue.length > 0) throw faults[0];
      for (const fault of faults) logger.warn(`one connection less to load over: ${describeError(fault, false)}`);
    }
  };
  try {
    // On one terminal there is room for one bar.
    await (parallel > 1 ? withProgress('load (batches)', waiting, loadAll) : loadAll());
  } finally {
    for (const table of names) await countPending(settings, table);
  }
  return resultsOf(inOrder(selected, outcomes), (results) =>
    names
      .filter((name) => results.some(({ table }) => table === name) || !outcomes.some(({ table }) => table === name))
      .map((name) => sumOf(name, results)),
  );
}

function loadOne(link: Link, loading: Loading, shared: Progress | undefined): Promise<TableResult<LoadResult>> {
  const { log, settings } = loading;
  const load = async ({ advance: onBatch }: Progress) => {
    const result = await loadChain(link, { ...loading, onBatch });
    await logSummary(link.database(), result);
    return result;
  };
  return attempt(settings.warehouse, log.table, async () => {
    if (shared !== undefined) return load(shared);
    return withProgress(`load ${chainName(log.table, log.shard)} (batches)`, (await batchFiles(log)).length, load);
  });
}

/** What is loaded at once, stage by stage, and how many batches wait. A table whose folder cannot be used is done with at once. */
async function planOf(settings: Settings, tables: readonly string[], outcomes: TableResult<LoadResult>[]) {
  const stages: ChangeLog[][] = [];
  let waiting = 0;
  for (const table of tables) {
    const planned = await attempt(settings.warehouse, table, async () => {
      const chains = await Promise.all(
        (await openChains(settings.cdc_log_dir, table)).map(async (log) => ({ log, files: await batchFiles(log) })),
      );
      waiting += chains.reduce((sum, { files }) => sum + files.length, 0);
      return stagedByLayout(chains);
    });
    if ('error' in planned) outcomes.push(planned);
    else for (const [index, logs] of planned.result.entries()) (stages[index] ??= []).push(...logs);
  }
  return { stages, waiting };
}

/** The layouts in which something waits, the one with the oldest batch first; all others are nobody's obstacle. */
function stagedByLayout(chains: readonly { readonly log: ChangeLog; readonly files: readonly string[] }[]) {
  const oldest = new Map<string, string>();
  for (const { log, files } of chains) {
    const [layout, first] = [layoutOf(log.shard), files.map((file) => path.basename(file))[0]];
    if (first !== undefined && first < (oldest.get(layout) ?? '\uffff')) oldest.set(layout, first);
  }
  const layouts = [...oldest].sort(([, one], [, other]) => (one < other ? -1 : 1)).map(([layout]) => layout);
  const stages: ChangeLog[][] = Array.from({ length: Math.max(1, layouts.length) }, () => []);
  for (const { log } of chains) stages[Math.max(0, layouts.indexOf(layoutOf(log.shard)))]?.push(log);
  return stages;
}

/** Counting reads the whole history: so it takes a hundredth of the time at most, however long the history is. */
const SUMMARY_SHARE = 100;
const nextSummary = new Map<string, number>();

async function logSummary(warehouse: Database, result: LoadResult): Promise<void> {
  const started = performance.now();
  if (result.batches === 0 || started < (nextSummary.get(result.table) ?? 0)) return;
  const { history_table, total, current, historical } = await historySummary(warehouse, result.table);
  logger.info(
    { table: result.table },
    `${history_table.replace(/^public\./, '')} summary: total=${total}, current=${current}, historical=${historical}`,
  );
  nextSummary.set(result.table, performance.now() + SUMMARY_SHARE * (performance.now() - started));
}
