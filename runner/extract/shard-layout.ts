import { inspectChains, type ChainState } from '../change-log/inspect.js';
import type { Settings } from '../base/settings.js';
import { TidemarkError, UsageError } from '../base/errors.js';
import { layoutOf, shardsOf, spellShard, type Shard, type ShardLayout } from '../batch/shard.js';
import type { LedgerChain } from '../warehouse/batches.js';

/** How a table is cut now, as its newest batch or quiet poll says: null where it is not; undefined where nothing was extracted yet. */
export type PresentLayout = ShardLayout | null | undefined;

/** A table as its change logs here and the ledger know it. */
export interface TableState {
  readonly table: string;
  readonly chains: readonly ChainState[];
  /** Empty while the warehouse is away. */
  readonly ledger: readonly LedgerChain[];
  readonly present: PresentLayout;
}

/** How a table is cut, and what waits to be loaded. Makes nothing. */
export async function tableState(
  settings: Settings,
  table: string,
  ledger: readonly LedgerChain[],
): Promise<TableState> {
  const chains = await inspectChains(settings.cdc_log_dir, table);
  let [present, latest]: [PresentLayout, string] = [undefined, ''];
  const known = [...chains.map(({ newest }) => ({ ...newest, layout: newest?.shard_layout })), ...ledger];
  // Instants of one zone: as text they are in the order of time.
  for (const { layout, extracted_at: at = '' } of known) if (at > latest) [present, latest] = [layout, at];
  return { table, chains, ledger, present };
}

/**
 * The latest instant at which rows were captured that this extraction may read too, by another chain: what it reads from then on is later,
 * though the clock of the source was set back since. Other chains are those of other layouts, repairs among them; and where a table is cut by
 * a column, as rows may move, those of the other shards.
 */
export function othersSince({ chains, ledger }: TableState, asked: Shard | undefined): string | null {
  const isOther = ({ shard }: { readonly shard: string }) =>
    layoutOf(shard) !== (asked?.layout.name ?? '') || (asked?.layout.column != null && shard !== asked.name);
  const known = [...chains.filter(isOther).map(({ newest }) => newest), ...ledger.filter(isOther)];
  return (
    known
      .flatMap((each) => each?.extracted_at ?? [])
      .sort()
      .at(-1) ?? null
  );
}

/** The layouts that the extractors of this process began with, by table: a layout that changes under a running one is not its to change back. */
export type BegunLayouts = Map<string, string>;

/**
 * Sees that the table may be extracted as asked. Another layout than the present one begins when everything of the present one is loaded:
 * its first sweep reads every row, so that it misses nothing, and repeats are absorbed.
 * @throws TidemarkError that says what is in the way
 */
export function assertLayout(
  { table, chains, present }: TableState,
  asked: Shard | undefined,
  begun: BegunLayouts | undefined,
): void {
  const [wanted, there] = [asked?.layout.name ?? '', present === undefined ? undefined : (present?.name ?? '')];
  const since = begun?.get(table);
  begun?.set(table, wanted);
  if (there === undefined || there === wanted) return;
  const where = `table=${table} present=${describeLayout(present)} asked=${describeLayout(asked?.layout ?? null)}`;
  if (since === wanted)
    throw new TidemarkError(`${table} is now extracted in another shard layout than this extractor's`, {
      detail: where,
      hint: `stop this one; start extractors of the present layout: npx tidemark extract --table ${table} ${shardOption(present)}`,
    });
  // What waits in the asked layout is in nobody's way: extractors of its shards that begin at once see each other's first batches.
  const waiting = chains
    .filter(({ shard, pending }) => pending > 0 && layoutOf(shard) !== wanted)
    .map(({ shard, pending }) => `${shard === '' ? 'whole table' : shard}: ${pending}`);
  if (waiting.length === 0) return;
  begun?.delete(table);
  throw new TidemarkError(`another shard layout of ${table} begins when everything of the present one is loaded`, {
    detail: `${where} waiting batches: ${waiting.join(', ')}`,
    hint: `stop the extractors of the present layout, then: npx tidemark load --table ${table}, and extract again. What still waits was never published, as its extractor was killed: extract that shard once more, and load`,
  });
}

/** @throws UsageError for a table that was named, but not the shard of it */
export function assertShardIsNamed({ table, present }: TableState): never {
  throw new UsageError(`${table} is extracted by shards (${describeLayout(present)}): say which`, {
    hint: `give one of them: ${shardOption(present)}; or --shard 1/1, to extract it whole again`,
  });
}

/** The chains of the present layout that are here; where it is not cut, the whole table. Its repairs are in the chain of the whole table. */
export const presentChains = ({ chains, present }: TableState): readonly ChainState[] =>
  chains.filter(({ shard }) => layoutOf(shard) === (present?.name ?? ''));

/** The shards of a layout by their names; the whole table is one without a name. */
export const shardNames = (layout: PresentLayout): string[] =>
  layout == null ? [''] : shardsOf(layout).map(({ name }) => name);

export const describeLayout = (layout: PresentLayout): string => (layout == null ? 'the whole table' : layout.name);

const shardOption = (layout: PresentLayout): string => {
  const [first] = layout == null ? [] : shardsOf(layout);
  return `--shard ${first === undefined ? '1/1' : spellShard(first)}`;
};
