import { mkdir } from 'node:fs/promises';
import { connect } from '../runner/base/database.js';
import {
  apply,
  applyAll,
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
import { atMost, figure, ratioOf, yardstick, type Figure } from './figures.js';
import { plainApply, plainInsert, plainRead, plainUpdate, plainWay } from './floors.js';
import { seconds } from './measure.js';
import { TELLS_PROCESSOR_TIME, serverTime } from './processor.js';
import { addOrders, type Bench } from './server.js';

export interface Size {
  /** Changes of the big batches. */
  readonly changes: number;
  /** Versions of the long history. */
  readonly history: number;
  readonly runs: number;
  /** Changes that wait when the runner's memory is measured. */
  readonly backlog: number;
  /** Tables that are registered at once. */
  readonly tables: number;
  /** Changes a second that are captured from the log. */
  readonly rates: readonly number[];
}

export const SIZES: Readonly<Record<'full' | 'quick' | 'smoke', Size>> = {
  full: { changes: 100_000, history: 5_000_000, runs: 3, backlog: 3_000_000, tables: 70, rates: [10_000, 20_000] },
  quick: { changes: 50_000, history: 1_000_000, runs: 3, backlog: 500_000, tables: 20, rates: [5000] },
  smoke: { changes: 10_000, history: 100_000, runs: 2, backlog: 100_000, tables: 5, rates: [1000] },
};

/** What the platform that Tidemark replaces took for 100,000 inserts, as measured on two such cores with its loader mended, in seconds. */
const ORIGINAL_SECONDS = 33;

/** What a batch costs whatever is in it: processor time of the server for batches of one change, in a session that has seen some. */
export async function batchesOfOne(
  { warehouse, settings }: Bench,
  { changes, runs }: Size,
  say: (line: string) => void,
): Promise<Figure[]> {
  if (!TELLS_PROCESSOR_TIME) {
    say('SKIPPED: batches of one change: nothing tells the processor time of the server here');
    return [];
  }
  const [batches, session] = [Math.min(100, changes / 50), connect(settings.warehouse, 'bench')];
  await warehouse`call bench.fill_history(25000, 2)`;
  await warehouse`truncate bench.plain`;
  await warehouse`insert into bench.plain overriding user value select * from public.dim_orders_history`;
  await warehouse`vacuum analyze bench.plain, public.dim_orders_history`;
  const [applied, plain]: [number[], number[]] = [[], []];
  // The first makes plans; it does not count.
  for (let run = 0; run <= runs; run += 1) {
    say(`batches of one change, run ${String(run)} of ${String(runs)}`);
    const each = await documents(warehouse, batches, 2 + run, 1);
    const taken = [
      await serverTime(session, () => applyAll(session, each)),
      await serverTime(session, () => plainApply(session, each, true)),
    ] as const;
    if (run === 0) continue;
    applied.push(taken[0] / 1000 / batches);
    plain.push(taken[1] / 1000 / batches);
  }
  await session.end();
  const unit = 'ms of processor time';
  return [
    figure({
      id: 'one',
      name: 'a batch of one UPDATE change',
      unit,
      values: applied,
      target: atMost(2),
    }),
    figure({
      id: 'one_floor',
      floor_of: 'one',
      name: 'JSON read, one version closed, one inserted',
      unit,
      values: plain,
    }),
  ];
}

/** Seconds of one run of INSERT and UPDATE, of the ways beside them, and of the plain statements below them. */
async function applyOnce(bench: Bench, inserts: readonly string[], updates: readonly string[], changes: number) {
  const { warehouse } = bench;
  const plain = (work: () => Promise<void>) => seconds(warehouse, work);
  const vacuum = () => warehouse`vacuum (analyze) public.dim_orders_history, bench.plain`;
  await empty(warehouse);
  const insert = await apply(warehouse, inserts);
  await vacuum();
  const copied = await copy(bench, 'true');
  await warehouse`truncate bench.plain`;
  const insert_alone = await plain(plainInsert(warehouse));
  await vacuum();
  const update_alone = await plain(plainUpdate(warehouse));
  await warehouse`truncate bench.plain`;
  const insert_floor = await plain(() => plainApply(warehouse, inserts, false));
  await vacuum();
  const update_floor = await plain(() => plainApply(warehouse, updates, true));
  const read = await plain(() => plainRead(warehouse, updates));
  const update = await apply(warehouse, updates);
  await empty(warehouse);
  await apply(warehouse, inserts);
  await vacuum();
  const loop = await applyRowByRow(warehouse, updates);
  // A thousand are enough to know what one costs.
  const few = Math.min(1000, changes);
  const alone = ((await applyRowByRow(warehouse, await documents(warehouse, few, 2, 1))) * changes) / few;
  return { insert, copied, insert_alone, update_alone, insert_floor, update_floor, read, update, loop, alone };
}

/** INSERT and UPDATE against COPY, against loops, and beside what PostgreSQL needs for the same, on the same rows, interleaved. */
export async function insertAndUpdate(
  bench: Bench,
  { changes, runs }: Size,
  say: (line: string) => void,
): Promise<Figure[]> {
  const { warehouse } = bench;
  const [inserts, updates] = [await documents(warehouse, changes, 0), await documents(warehouse, changes, 1)];
  const taken: Awaited<ReturnType<typeof applyOnce>>[] = [];
  for (let run = 0; run < runs; run += 1) {
    say(`insert and update, run ${String(run + 1)} of ${String(runs)}`);
    taken.push(await applyOnce(bench, inserts, updates, changes));
  }
  type Way = keyof (typeof taken)[number];
  const of = (way: Way): [string, number[]] => [way, taken.map((run) => run[way])];
  const toCopy = (id: Way, name: string, more: Pick<Figure, 'target' | 'floor_of'> = {}) =>
    ratioOf({ id, name, unit: 'x COPY', ...more }, of(id), of('copied'));
  const toApply = (id: Way, name: string) => ratioOf({ id, name, unit: 'x apply_batch' }, of(id), of('update'));
  const all = `${String(changes / 1000)}K`;
  return [
    toCopy('insert', `apply ${all} INSERT changes`, { target: atMost(2.2) }),
    toCopy('insert_floor', 'the same JSON read and inserted', { floor_of: 'insert' }),
    toCopy('update', `apply ${all} UPDATE changes`, { target: atMost(3.4) }),
    toCopy('update_floor', 'the same JSON read, versions closed, rows inserted', { floor_of: 'update' }),
    toCopy('read', 'the same JSON read by json_to_recordset, and no more'),
    toCopy('insert_alone', 'INSERT ... SELECT of as many finished rows'),
    toCopy('update_alone', 'UPDATE of as many rows, as closing them does'),
    toApply('loop', 'the same UPDATE changes by a row-at-a-time loop'),
    toApply('alone', 'the same, each change sent by itself and committed'),
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
  const what = { id: 'history', name: `1,000 changes to ${String(history / 1e6)}M versions`, target: atMost(1.2) };
  const ratio = ratioOf({ ...what, unit: `x the same to ${String(short / 1000)}K` }, ['long', long], ['short', brief]);
  return [ratio, yardstick(ratio, `the same to ${String(short / 1000)}K`)];
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
  const name = `1,000 changed of ${String(keys / 1e6)}M, by a snapshot that rescans`;
  const what = { id: 'rescan', name, unit: 'x apply_batch' };
  return [ratioOf(what, ['rescan', scan], ['apply', batch])];
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
  await warehouse`truncate bench.plain`;
  await warehouse`insert into bench.plain overriding user value select * from public.dim_orders_history`;
  await warehouse`vacuum public.dim_orders_history, bench.plain`;
  const [inOrder, behind, plain]: [number[], number[], number[]] = [[], [], []];
  for (let run = 0; run < runs; run += 1) {
    say(`late changes, run ${String(run + 1)} of ${String(runs)}`);
    const from = 1 + run * late;
    // State 50 is captured long after state 2: the batch of state 2 then comes late.
    const [ahead, after] = [
      await documents(warehouse, late, 50 + run, late, from),
      await documents(warehouse, late, 2 + run, late, from),
    ];
    inOrder.push(await apply(warehouse, ahead));
    behind.push(await apply(warehouse, after));
    plain.push(await seconds(warehouse, () => plainApply(warehouse, ahead, true)));
  }
  const ordered: [string, number[]] = ['in_order', inOrder];
  const what = { id: 'late', name: `${String(late / 1000)}K late changes into ${String(versions / 1e6)}M versions` };
  return [
    ratioOf({ ...what, unit: 'x in order', target: atMost(2) }, ['late', behind], ordered),
    ratioOf(
      { id: 'late_floor', floor_of: 'late', name: 'as many versions closed and inserted', unit: 'x in order' },
      ['plain', plain],
      ordered,
    ),
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
      await seconds(bench.source, () => rowToJson(bench.source, rows)),
    ] as const;
    if (run === 0) continue;
    paged.push(taken[0]);
    printed.push(taken[1]);
  }
  const name = `read a page of ${rows.toLocaleString('en')} rows`;
  const what = { id: 'page', name, unit: 'x row_to_json', target: atMost(2.5) };
  const ratio = ratioOf(what, ['page', paged], ['row_to_json', printed]);
  return [ratio, yardstick(ratio, 'row_to_json of the same rows in the same order')];
}

/** Extract, log and load, the whole way: by extractor and loader at once, as services do it, and by one after the other. */
export async function wholeWay(bench: Bench, { changes, runs }: Size, say: (line: string) => void): Promise<Figure[]> {
  const taken = { at_once: [] as number[], one_by_one: [] as number[], plain: [] as number[] };
  const copied: Record<keyof typeof taken, number[]> = { at_once: [], one_by_one: [], plain: [] };
  await beginAgain(bench);
  await mkdir(bench.settings.run_dir, { recursive: true });
  for (let run = 0; run < runs; run += 1) {
    say(`the whole way, run ${String(run + 1)} of ${String(runs)}`);
    for (const [way, go] of [
      ['at_once', endToEndAtOnce],
      ['one_by_one', endToEnd],
    ] as const) {
      await addOrders(bench, changes);
      taken[way].push(await go(bench));
      const [newest] = await bench.warehouse<
        [{ from: number }]
      >`select max(order_key) - ${changes}::integer as "from" from public.dim_orders_history`;
      copied[way].push(await copy(bench, `order_key > ${String(newest.from)}`));
    }
    await bench.warehouse`truncate bench.plain`;
    taken.plain.push(await seconds(bench.warehouse, () => plainWay(bench, changes)));
    copied.plain.push(copied.one_by_one[run] ?? Number.NaN);
  }
  const scaled = taken.at_once.map((time) => (ORIGINAL_SECONDS * (changes / 100_000)) / time);
  const name = `extract, log and load ${String(changes / 1000)}K changes`;
  const of = (way: keyof typeof taken, what: Omit<Figure, 'measured' | 'seconds' | 'unit'>) =>
    ratioOf({ ...what, unit: 'x COPY' }, [way, taken[way]], ['copy', copied[way]]);
  return [
    of('at_once', { id: 'whole', name: `${name}, extractor and loader at once`, target: atMost(4) }),
    of('plain', { id: 'whole_floor', floor_of: 'whole', name: 'pages by row_to_json, flushed to files, inserted' }),
    of('one_by_one', { id: 'whole_apart', name: `${name}, one after the other` }),
    figure({
      id: 'original',
      name: `the same, against ${String(ORIGINAL_SECONDS)} s a 100K of the platform that Tidemark replaces`,
      unit: 'x faster',
      values: scaled,
      seconds: { at_once: taken.at_once },
    }),
  ];
}
