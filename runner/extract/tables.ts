import { rememberMappings, rememberedMappings } from '../change-log/known-mappings.js';
import type { Settings } from '../base/settings.js';
import { isAway, withDatabase, withLink, type Database, type Link } from '../base/database.js';
import type { HandOver } from './sweep.js';
import { extractTable, type ExtractResult } from './table.js';
import * as layouts from './shard-layout.js';
import { UsageError } from '../base/errors.js';
import { logger, warnOnce } from '../base/logger.js';
import { within } from '../base/timeout.js';
import { withProgress } from '../run/progress.js';
import { sizeLimits } from '../run/size-limits.js';
import { eachTable, patienceOf, selectUnpaused, type Selection } from '../run/each-table.js';
import { chainName, type AskedShard } from '../batch/shard.js';
import { impatient } from '../source/locked.js';
import { dimensionMappings } from '../warehouse/functions.js';
import { type LedgerState, ledgerStates } from '../warehouse/batches.js';
import { countPending } from '../change-log/inspect.js';
import type { DimensionMapping } from '../batch/mapping.js';

/** How long a warehouse that has taken a question may be silent before extraction goes on without it, in seconds. */
const ANSWER_SECONDS = 20;

export interface ExtractSelection extends Selection {
  /** Reads every row again. */
  readonly full?: boolean;
  /** Most rows to read in a second, for each table; undefined for no limit. */
  readonly maxRowsPerSecond?: number | undefined;
  /** The shard of each table; without it tables that are extracted by shards are left alone. */
  readonly shard?: AskedShard;
  /** Hands these tables over to the log, after a last sweep. */
  readonly handOver?: HandOver | undefined;
  /** True for a process that extracts again and again. */
  readonly isWatching?: boolean | undefined;
  /** Kept by a process that extracts again and again. */
  readonly begun?: layouts.BegunLayouts | undefined;
}

/** What the warehouse knows that extraction needs; without it, what was remembered of it. */
interface Knowledge {
  readonly mappings: readonly DimensionMapping[];
  /** What the ledger has of each table; undefined while the warehouse is away. */
  readonly ledger: ReadonlyMap<string, LedgerState> | undefined;
}

/**
 * Extracts the changes of the selected tables. A table that fails stops no other; the failures are thrown together at the end.
 * Goes on while the warehouse is away, with the mappings as it last gave them.
 */
export async function extractTables(selection: ExtractSelection): Promise<ExtractResult[]> {
  const { settings } = selection;
  const asked: { known?: Knowledge } = {};
  try {
    return await withDatabase(settings.warehouse, 'extract', async (warehouse) => {
      const known = (asked.known = await within(
        ANSWER_SECONDS,
        askWarehouse(warehouse, settings, nameOf(selection.shard)),
      ));
      return extractWith(selection, known);
    });
  } catch (error) {
    if (asked.known !== undefined) throw error;
    return extractWith(selection, await recall(error, settings));
  }
}

/** What was remembered of a warehouse that is away; an error that has another reason, or nothing to fall back on, goes on its way. */
async function recall(error: unknown, settings: Settings): Promise<Knowledge> {
  const mappings = isAway(error) ? await rememberedMappings(settings.cdc_log_dir) : undefined;
  if (mappings === undefined) throw error;
  logger.warn(`${(error as Error).message}: extraction goes on with the mappings it last gave`);
  return { mappings, ledger: undefined };
}

async function askWarehouse(warehouse: Database, settings: Settings, shard: string): Promise<Knowledge> {
  const mappings = await dimensionMappings(warehouse);
  await rememberMappings(settings.cdc_log_dir, mappings);
  const tables = mappings.map(({ dimension_name }) => dimension_name);
  return { mappings, ledger: await ledgerStates(warehouse, tables, shard, sizeLimits(settings)) };
}

const nameOf = (shard: AskedShard): string => (typeof shard === 'object' ? shard.name : '');

async function extractWith(selection: ExtractSelection, { mappings, ledger }: Knowledge): Promise<ExtractResult[]> {
  const { settings, signal, full = false, isWatching, maxRowsPerSecond } = selection;
  const shard = typeof selection.shard === 'object' ? selection.shard : undefined;
  const tables = await withoutSharded(selection, withoutLogged(selection, mappings), ledger);
  const extract = async (link: Link, mapping: DimensionMapping) => {
    const table = mapping.dimension_name;
    const state = await layouts.tableState(settings, table, ledger?.get(table)?.chains ?? []);
    layouts.assertLayout(state, shard, selection.begun);
    return withProgress(`extract ${chainName(table, nameOf(shard))}`, undefined, ({ advance, expect }) =>
      extractTable({
        ...{ link, mapping, settings, full, isWatching, shard, maxRowsPerSecond, signal },
        ledger: ledger === undefined ? 'unknown' : ledger.get(table)?.newest,
        notBefore: layouts.othersSince(state, shard),
        batchCeiling: ledger?.get(table)?.batch_ceiling,
        handOver: selection.handOver,
        onPage: advance,
        onEstimate: expect,
      }),
    ).finally(() => countPending(settings, table));
  };
  return withLink(impatient(settings.source), 'extract', (link) =>
    eachTable(
      settings.source,
      tables,
      (mapping) => extract(link, mapping),
      undefined,
      patienceOf(settings.source, selection),
    ),
  );
}

/** Tables that are read from the log are the business of its reader. @throws UsageError if one was named */
function withoutLogged({ tables, handOver }: ExtractSelection, mappings: readonly DimensionMapping[]) {
  const selected = selectUnpaused(mappings, tables);
  const logged = handOver === undefined ? selected.filter(({ capture }) => capture !== 'poll') : [];
  const [named] = tables.length > 0 ? logged : [];
  if (named !== undefined)
    throw new UsageError(`${named.dimension_name} is read from the log`, {
      hint: `npx tidemark stream; or go back to polling: npx tidemark table capture ${named.dimension_name} poll`,
    });
  return selected.filter((mapping) => !logged.includes(mapping));
}

/** Where no shard is named, tables that are extracted by shards are the business of other extractors. @throws UsageError if one was named */
async function withoutSharded(
  { settings, tables, shard }: ExtractSelection,
  selected: readonly DimensionMapping[],
  ledger: Knowledge['ledger'],
): Promise<DimensionMapping[]> {
  const kept: DimensionMapping[] = [];
  for (const mapping of selected) {
    const table = mapping.dimension_name;
    // A change log that cannot be read stops its own table, later.
    const state =
      shard === undefined
        ? await layouts.tableState(settings, table, ledger?.get(table)?.chains ?? []).catch(() => undefined)
        : undefined;
    if (state?.present == null) kept.push(mapping);
    else if (tables.length > 0) layouts.assertShardIsNamed(state);
    else
      warnOnce(
        `shards ${table}`,
        `${table} is extracted by shards (${layouts.describeLayout(state.present)}), and left alone here: their extractors are told --shard`,
      );
  }
  return kept;
}
