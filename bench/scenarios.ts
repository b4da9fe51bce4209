import { formatTable } from '../runner/base/text-table.js';
import {
  apply,
  applyRowByRow,
  beginAgain,
  copy,
  documents,
  empty,
  endToEnd,
  endToEndAtOnce,
  pageOf,
  rescan,
  rowToJson,
} from './contenders.js';
import { seconds, spread, type Spread } from './measure.js';
import { addOrders, type Bench } from './server.js';

/** A row of the table: a ratio of two times measured in one run, and what it should be. */
export interface Figure {
  readonly name: string;
  readonly unit: string;
  readonly ratio: Spread;
  readonly target: number;
  /** Whether the target is the most or the least it should be. */
  readonly bound: 'at most' | 'at least';
  readonly isMet: boolean;
  /** Seconds behind the ratio, by name: for the curious; they mean little elsewhere. */
  readonly seconds: Readonly<Record<string, Spread>>;
}

export interface Size {
  /** Changes of the big batches. */
  readonly changes: number;
  /** Versions of the long history. */
  readonly history: number;
  readonly runs: number;
  /** Changes that wait when the runner's memory is measured. */
  readonly backlog: number;
}

export const SIZES: Readonly<Record<'full' | 'quick' | 'smoke', Size>> = {
  full: { changes: 100_000, history: 5_000_000, runs: 3, backlog: 3_000_000 },
  quick: { changes: 50_000, history: 1_000_000, runs: 3, backlog: 500_000 },
  smoke: { changes: 10_000, history: 100_000, runs: 2, backlog: 100_000 },
};

/** What the platform that Tidemark replaces publishes for 100,000 records, in seconds. */
const ORIGINAL_SECONDS = 5.1 * 60;

interface Comparison {
  readonly name: string;
  readonly unit: string;
  readonly target: number;
  readonly bound: Figure['bound'];
  readonly ratios: readonly number[];
  readonly seconds: Readonly<Record<string, readonly number[]>>;
}

function figure({ name, unit, target, bound, ratios, seconds }: Comparison): Figure {
  const ratio = spread(ratios);
  const isMet = bound === 'at most' ? ratio.median <= target : ratio.median >= target;
  return {
    name,
    unit,
    ratio,
    target,
    bound,
    isMet,
    seconds: Object.fromEntries(Object.entries(seconds).map(([each, figures]) => [each, spread(figures)])),
  };
}

const two = (number: number) => (number >= 100 ? number.toFixed(0) : number.toFixed(2));

/** The table that the bench prints. */
export function formatFigures(figures: readonly Figure[]): string {
  return formatTable(
    ['what', 'min', 'median', 'max', 'unit', 'target', 'met'],
    figures.map(({ name, ratio, unit, bound, target, isMet }) => [
      name,
      two(ratio.min),
      two(ratio.median),
      two(ratio.max),
      unit,
      `${bound} ${String(target)}`,
      isMet ? 'yes' : 'no',
    ]),
  );
}

const each = (ones: readonly number[], others: readonly number[]) =>
  ones.map((one, index) => one / (others[index] ?? Number.NaN));

/** INSERT and UPDATE against COPY and against a loop, on the same rows, interleaved. */
export async function insertAndUpdate(
  bench: Bench,
  { changes, runs }: Size,
  say: (line: string) => void,
): Promise<Figure[]> {
  const { warehouse } = bench;
  const [inserts, updates] = [await documents(warehouse, changes, 0), await documents(warehouse, changes, 1)];
  const [insert, update, copied, loop, alone]: [number[], number[], number[], number[], number[]] = [
    [],
    [],
    [],
    [],
    [],
  ];
  for (let run = 0; run < runs; run += 1) {
    say(`insert and update, run ${String(run + 1)} of ${String(runs)}`);
    await empty(warehouse);
    insert.push(await apply(warehouse, inserts));
    await warehouse`vacuum (analyze) public.dim_orders_history`;
    copied.push(await copy(bench, 'true'));
    update.push(await apply(warehouse, updates));
    await empty(warehouse);
    await apply(warehouse, inserts);
    await warehouse`vacuum (analyze) public.dim_orders_history`;
    loop.push(await applyRowByRow(warehouse, updates));
    // A thousand are enough to know what one costs.
    alone.push(
      (await applyRowByRow(warehouse, await documents(warehouse, Math.min(1000, changes), 2, 1))) *
        (changes / Math.min(1000, changes)),
    );
  }
  const thousands = `${String(changes / 1000)}K`;
  return [
    figure({
      name: `apply ${thousands} INSERT changes`,
      unit: 'x COPY',
      target: 1.8,
      bound: 'at most',
      ratios: each(insert, copied),
      seconds: { apply: insert, copy: copied },
    }),
    figure({
      name: `apply ${thousands} UPDATE changes`,
      unit: 'x COPY',
      target: 3,
      bound: 'at most',
      ratios: each(update, copied),
      seconds: { apply: update, copy: copied },
    }),
    figure({
      name: `the same by a row-at-a-time loop`,
      unit: 'x apply_batch',
      target: 5,
      bound: 'at least',
      ratios: each(loop, update),
      seconds: { loop, apply: update },
    }),
    figure({
      name: `the same, each change sent by itself and committed`,
      unit: 'x apply_batch',
      target: 5,
      bound: 'at least',
      ratios: each(alone, update),
      seconds: { alone, apply: update },
    }),
  ];
}

/** 1,000 changes to a long history against the same to a short one. */
export async function longHistory(
  { warehouse }: Bench,
  { history, runs }: Size,
  say: (line: string) => void,
): Promise<Figure[]> {
  const measured: Record<string, number[]> = { long: [], short: [] };
  const short = Math.min(50_000, history / 2);
  for (const [name, versions] of [
    ['short', short],
    ['long', history],
  ] as const) {
    say(`history of ${String(versions)} versions`);
    await warehouse`call bench.fill_history(${versions / 2}, 2)`;
    await warehouse`vacuum public.dim_orders_history`;
    // The first fills caches and plans; it does not count.
    for (let run = 0; run <= runs; run += 1) {
      const taken = await apply(warehouse, await documents(warehouse, 1000, 2 + run, 1000));
      if (run > 0) measured[name]?.push(taken);
    }
  }
  const { long = [], short: brief = [] } = measured;
  return [
    figure({
      name: `1,000 changes to ${String(history / 1e6)}M versions`,
      unit: `x the same to ${String(short / 1000)}K`,
      target: 1.5,
      bound: 'at most',
      ratios: each(long, brief),
      seconds: measured,
    }),
  ];
}

/** 1,000 changed of many: a batch of them against a snapshot that rescans. */
export async function againstRescan(
  { warehouse }: Bench,
  { history, runs }: Size,
  say: (line: string) => void,
): Promise<Figure[]> {
  const keys = Math.min(1_000_000, history / 2);
  await warehouse`call bench.fill_history(${keys}, 1)`;
  await warehouse.unsafe(`drop table if exists bench.source; create table bench.source as
    select order_key as id, customer_id, product_id, quantity, unit_price, total_amount, order_status, order_date, valid_from as last_updated from public.dim_orders_history;
    alter table bench.source add primary key (id); analyze bench.source`);
  await warehouse`vacuum public.dim_orders_history`;
  const [scan, batch]: [number[], number[]] = [[], []];
  for (let run = 0; run < runs; run += 1) {
    say(`1,000 changed of ${String(keys)}, run ${String(run + 1)} of ${String(runs)}`);
    const from = 1 + run * 2000;
    await warehouse`update bench.source set quantity = quantity + 100, last_updated = '2026-02-04' where id between ${from} and ${from + 999}`;
    scan.push(await rescan(warehouse, 'changes_20260201_000000_000'));
    const changed = await documents(warehouse, 1000, 2 + run, 1000, from + 1000);
    batch.push(await apply(warehouse, changed));
    await warehouse`
      update bench.source as s set quantity = h.quantity, total_amount = h.total_amount, order_status = h.order_status
      from public.dim_orders_history as h where h.order_key = s.id and h.is_current and s.id between ${from + 1000} and ${from + 1999}`;
  }
  return [
    figure({
      name: `1,000 changed of ${String(keys / 1e6)}M, by a snapshot that rescans`,
      unit: 'x apply_batch',
      target: 20,
      bound: 'at least',
      ratios: each(scan, batch),
      seconds: { rescan: scan, apply: batch },
    }),
  ];
}

/** Late changes into a long history against the same number in order. */
export async function lateChanges(
  { warehouse }: Bench,
  { history, changes, runs }: Size,
  say: (line: string) => void,
): Promise<Figure[]> {
  const versions = Math.min(2_000_000, history);
  const late = Math.min(10_000, changes);
  await warehouse`call bench.fill_history(${versions / 2}, 2)`;
  await warehouse`vacuum public.dim_orders_history`;
  const [inOrder, behind]: [number[], number[]] = [[], []];
  for (let run = 0; run < runs; run += 1) {
    say(`late changes, run ${String(run + 1)} of ${String(runs)}`);
    const from = 1 + run * late;
    // State 50 is captured long after state 2: the batch of state 2 then comes late.
    inOrder.push(await apply(warehouse, await documents(warehouse, late, 50 + run, late, from)));
    behind.push(await apply(warehouse, await documents(warehouse, late, 2 + run, late, from)));
  }
  return [
    figure({
      name: `${String(late / 1000)}K late changes into ${String(versions / 1e6)}M versions`,
      unit: 'x in order',
      target: 3,
      bound: 'at most',
      ratios: each(behind, inOrder),
      seconds: { late: behind, in_order: inOrder },
    }),
  ];
}

/** A page of a backlog against row_to_json of its rows. */
export async function pageOfRows(
  bench: Bench,
  { changes, runs }: Size,
  say: (line: string) => void,
): Promise<Figure[]> {
  const rows = Math.min(10_000, changes);
  await beginAgain(bench);
  await addOrders(bench, rows * 10);
  const [paged, printed]: [number[], number[]] = [[], []];
  const page = await pageOf(bench, rows);
  // The first fills caches; it does not count.
  for (let run = 0; run <= runs * 3; run += 1) {
    if (run % 3 === 1)
      say(`a page of ${String(rows)} rows, runs ${String(run)} to ${String(run + 2)} of ${String(runs * 3)}`);
    const taken = [
      await seconds(bench.source, page),
      await seconds(bench.source, rowToJson(bench.source, rows)),
    ] as const;
    if (run === 0) continue;
    paged.push(taken[0]);
    printed.push(taken[1]);
  }
  return [
    figure({
      name: `read a page of ${rows.toLocaleString('en')} rows`,
      unit: 'x row_to_json',
      target: 2.5,
      bound: 'at most',
      ratios: each(paged, printed),
      seconds: { page: paged, row_to_json: printed },
    }),
  ];
}

/** Extract, log and load, the whole way: by extractor and loader at once, as services do it, and by one after the other. */
export async function wholeWay(bench: Bench, { changes, runs }: Size, say: (line: string) => void): Promise<Figure[]> {
  const taken = { at_once: [] as number[], one_by_one: [] as number[] };
  const copied = { at_once: [] as number[], one_by_one: [] as number[] };
  await beginAgain(bench);
  for (let run = 0; run < runs; run += 1) {
    say(`the whole way, run ${String(run + 1)} of ${String(runs)}`);
    for (const [way, go] of [
      ['at_once', endToEndAtOnce],
      ['one_by_one', endToEnd],
    ] as const) {
      await addOrders(bench, changes);
      taken[way].push(await go(bench));
      const [newest] = await bench.warehouse<
        [{ from: string }]
      >`select max(order_key) - ${changes}::integer as "from" from public.dim_orders_history`;
      copied[way].push(await copy(bench, `order_key > ${newest.from}`));
    }
  }
  const scaled = taken.at_once.map((time) => (ORIGINAL_SECONDS * (changes / 100_000)) / time);
  const [name, target] = [
    `extract, log and load ${String(changes / 1000)}K changes`,
    { unit: 'x COPY', target: 4, bound: 'at most' },
  ] as const;
  return [
    figure({
      name: `${name}, extractor and loader at once`,
      ...target,
      ratios: each(taken.at_once, copied.at_once),
      seconds: { at_once: taken.at_once, copy: copied.at_once },
    }),
    figure({
      name: `${name}, one after the other`,
      ...target,
      ratios: each(taken.one_by_one, copied.one_by_one),
      seconds: { one_by_one: taken.one_by_one, copy: copied.one_by_one },
    }),
    figure({
      name: "the whole way at once, against the original's published 5.1 minutes for 100K",
      unit: 'x faster',
      target: 60,
      bound: 'at least',
      ratios: scaled,
      seconds: { at_once: taken.at_once },
    }),
  ];
}
