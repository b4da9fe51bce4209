import { existsSync } from 'node:fs';
import { mkdir, readFile, statfs, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { connect, type Database } from '../runner/base/database.js';
import { formatTable } from '../runner/base/text-table.js';
import { addTables } from './commands.js';
import { applyAll, document, documents, empty } from './contenders.js';
import { runCommand } from './memory.js';
import { TELLS_PROCESSOR_TIME, serverTime } from './processor.js';
import type { Bench } from './server.js';

/** How costs grow: one thing is made larger at a time, the others stay. Least of three runs, after one that does not count. */
export interface Curve {
  readonly name: string;
  readonly across: string;
  readonly unit: string;
  readonly points: readonly Point[];
}

export interface Point {
  readonly at: number;
  readonly cost: number;
}

interface Factor {
  readonly title: string;
  readonly across: string;
  readonly unit: string;
  readonly sizes: readonly number[];
  /** On two quiet cores, for one size. */
  readonly seconds: (size: number) => number;
  readonly bytes: (size: number) => number;
  /** A share of the changes and rows will do to see that it runs. */
  readonly cost: (bench: Bench, size: number, share: number) => Promise<number>;
}

/** Recorded after each size, so that a run which was ended goes on where it was. */
export interface Growth {
  readonly machine: Readonly<Record<string, unknown>>;
  readonly curves: Readonly<Record<string, Curve>>;
}

const RUNS = 3;
const PER_CHANGE = 'us of processor time a change';
const [FIRST, LATER] = [new Date('2027-01-01T00:00:00Z'), new Date('2027-01-31T00:00:00Z')];
const after = (moment: Date, minutes: number) => new Date(moment.getTime() + minutes * 60_000);

/** Least of some runs of `run`, after one that fills caches and plans. */
async function leastOf(run: (count: number) => Promise<number>): Promise<number> {
  let least = Number.POSITIVE_INFINITY;
  for (let count = 0; count <= RUNS; count += 1) {
    const taken = await run(count);
    if (count > 0) least = Math.min(least, taken);
  }
  return least;
}

/** Microseconds of the server a change, in a session of its own. */
async function applied(bench: Bench, changes: number, batches: (run: number) => Promise<string[]>): Promise<number> {
  const session = connect(bench.settings.warehouse, 'bench');
  try {
    return await leastOf(async (run) => {
      const each = await batches(run);
      await bench.warehouse`checkpoint`;
      return (await serverTime(session, () => applyAll(session, each))) / changes;
    });
  } finally {
    await session.end();
  }
}

async function fill(warehouse: Database, versions: number): Promise<void> {
  await warehouse`call bench.fill_history(${versions / 2}, 2)`;
  await warehouse`vacuum public.dim_orders_history`;
}

async function byBatch(bench: Bench, size: number, share: number): Promise<number> {
  const changes = Math.min(200 * size, Math.max(size, 10_000 * share));
  await fill(bench.warehouse, 200_000 * share);
  return applied(bench, changes, (run) => documents(bench.warehouse, changes, 2 + run, size));
}

async function byHistory(bench: Bench, size: number): Promise<number> {
  await fill(bench.warehouse, size);
  return applied(bench, 1000, (run) => documents(bench.warehouse, 1000, 2 + run, 1000));
}

async function byKeys(bench: Bench, keys: number, share: number): Promise<number> {
  const changes = 10_000 * share;
  await fill(bench.warehouse, 2 * changes);
  return applied(bench, changes, async (run) => {
    const [state, captured] = [2 + run * changes, after(FIRST, run)];
    const wanted = { name: `keys_${String(keys)}_${String(run)}`, first: 1, last: changes, state, captured, keys };
    return [await document(bench.warehouse, wanted)];
  });
}

async function byLateShare(bench: Bench, percent: number, share: number): Promise<number> {
  const changes = 5000 * share;
  await fill(bench.warehouse, 8 * changes);
  const ahead = { name: 'ahead', first: 1, last: 4 * changes, state: 50, captured: FIRST };
  await applyAll(bench.warehouse, [await document(bench.warehouse, ahead)]);
  return applied(bench, changes, async (run) => {
    const [first, captured] = [1 + run * changes, after(LATER, run)];
    const wanted = { name: `late_${String(run)}`, first, last: first + changes - 1, state: 51, captured };
    return [await document(bench.warehouse, { ...wanted, late: percent / 100 })];
  });
}

async function byWidth(bench: Bench, columns: number, share: number): Promise<number> {
  const changes = 1000 * share;
  await empty(bench.warehouse);
  await bench.warehouse`select bench.register_wide(${columns})`;
  const cost = await applied(bench, changes, async (run) => {
    const [name, captured] = [`wide_${String(run)}`, after(FIRST, run).toISOString()];
    const [row] = await bench.warehouse<[{ document: string }]>`
      select bench.wide_document(${columns}, ${name}, 1, ${changes}, ${run}, ${captured}::text::timestamptz) as document`;
    return [row.document];
  });
  // It has no table at the source, and what is measured next may look for one.
  await bench.warehouse`select tidemark.remove_dimension(${`wide_${String(columns)}`}, true)`;
  return cost;
}

const TABLES = 4;

/** Four tables, of which each loader takes the next one that nobody has. */
async function byLoaders(bench: Bench, loaders: number, share: number): Promise<number> {
  const [batches, size] = [8, 2500 * share];
  const name = (table: number) => `orders_${String(table)}`;
  for (let table = 0; table < TABLES; table += 1) await bench.warehouse`select bench.register_copy(${name(table)})`;
  const sessions = Array.from({ length: loaders }, () => connect(bench.settings.warehouse, 'bench'));
  const taken = await leastOf(async (run) => {
    const of = async (table: number) => {
      const all = await documents(bench.warehouse, batches * size, loaders * 10 + run, size, 1 + loaders * 1_000_000);
      return all.map((text) => text.replace('"table" : "orders"', `"table" : "${name(table)}"`));
    };
    const waiting = await Promise.all(Array.from({ length: TABLES }, (_, table) => of(table)));
    await bench.warehouse`checkpoint`;
    const began = performance.now();
    await Promise.all(
      sessions.map(async (session) => {
        for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) await applyAll(session, next);
      }),
    );
    return ((performance.now() - began) * 1000) / (TABLES * batches * size);
  });
  await Promise.all(sessions.map((session) => session.end()));
  return taken;
}

async function byTables(bench: Bench, tables: number): Promise<number> {
  const env = await addTables(bench, tables);
  await runCommand(bench.settings, ['migrate'], env);
  return leastOf(async () => {
    const began = performance.now();
    await runCommand(bench.settings, ['extract'], env);
    return (performance.now() - began) / tables;
  });
}

const HISTORY = [10_000, 50_000, 100_000, 500_000, 1_000_000, 5_000_000, 50_000_000];
const [SMALL, BYTES_A_VERSION, VERSIONS_A_SECOND] = [300 * 2 ** 20, 330, 40_000];

/**
 * @param versions of the longest history
 * @param tables the most
 */
export const factorsOf = (versions: number, tables: number): Readonly<Record<string, Factor>> => {
  const steady = (seconds: number) => ({ seconds: () => seconds, bytes: () => SMALL });
  return {
    batch: {
      ...{
        title: 'The size of a batch',
        across: 'UPDATE changes a batch',
        unit: PER_CHANGE,
        cost: byBatch,
        ...steady(12),
      },
      sizes: [1, 10, 100, 1000, 10_000, 100_000],
    },
    history: {
      ...{ title: 'The length of the history', across: 'versions before', unit: PER_CHANGE, cost: byHistory },
      sizes: HISTORY.filter((size) => size <= versions),
      seconds: (size) => 2 + size / VERSIONS_A_SECOND,
      // The log that is written meanwhile stays until the next checkpoint.
      bytes: (size) => SMALL + size * BYTES_A_VERSION + Math.min(size * BYTES_A_VERSION, 8 * 2 ** 30),
    },
    keys: {
      ...{ title: 'Keys a batch', across: 'keys of 10,000 changes', unit: PER_CHANGE, cost: byKeys, ...steady(8) },
      sizes: [1, 10, 100, 1000, 10_000],
    },
    late: {
      ...{
        title: 'Late changes',
        across: 'percent of 5,000 changes that come late',
        unit: PER_CHANGE,
        cost: byLateShare,
      },
      ...{ sizes: [0, 10, 25, 50, 75, 100], ...steady(8) },
    },
    width: {
      ...{ title: 'The width of a row', across: 'tracked columns', unit: PER_CHANGE, cost: byWidth, ...steady(6) },
      sizes: [5, 10, 20, 50, 100, 200, 400],
    },
    loaders: {
      ...{ title: 'Loaders', across: 'loaders of four tables', unit: 'us of the clock a change', cost: byLoaders },
      ...{ sizes: [1, 2, 3, 4], ...steady(15) },
    },
    // Last: the tables stay.
    tables: {
      ...{
        title: 'Tables',
        across: 'tables, of which nothing waits',
        unit: 'ms of the clock a table, to extract',
        cost: byTables,
      },
      sizes: [1, 5, 20, 70, 200, 500].filter((size) => size <= tables),
      seconds: (size) => 8 + size / 4,
      bytes: (size) => SMALL + size * 2 ** 20,
    },
  };
};

type Factors = ReturnType<typeof factorsOf>;
const isDone = (growth: Growth, name: string, size: number) =>
  growth.curves[name]?.points.some(({ at }) => at === size) ?? false;
const left = (growth: Growth, factors: Factors) =>
  Object.entries(factors).flatMap(([name, factor]) =>
    factor.sizes.filter((size) => !isDone(growth, name, size)).map((size) => ({ name, factor, size })),
  );

/** What a run would still measure, and what it takes of time and disk. */
export function announce(growth: Growth, factors: Factors): { text: string; bytes: number } {
  const waiting = left(growth, factors);
  const rows = Object.entries(factors).map(([name, { title, sizes }]) => {
    const own = waiting.filter((each) => each.name === name);
    const seconds = own.reduce((sum, { factor, size }) => sum + factor.seconds(size), 0);
    const bytes = Math.max(0, ...own.map(({ factor, size }) => factor.bytes(size)));
    const done = `${String(sizes.length - own.length)} of ${String(sizes.length)}`;
    return {
      cells: [title, sizes.join(', '), done, (seconds / 60).toFixed(1), (bytes / 2 ** 30).toFixed(1)],
      seconds,
      bytes,
    };
  });
  const minutes = rows.reduce((sum, { seconds }) => sum + seconds, 0) / 60;
  const bytes = Math.max(...rows.map((row) => row.bytes));
  const table = formatTable(
    ['what grows', 'sizes', 'done', 'minutes', 'GiB at most'],
    rows.map(({ cells }) => cells),
  );
  return {
    text: `${table}\nin all some ${minutes.toFixed(0)} minutes on two quiet cores, ${(bytes / 2 ** 30).toFixed(1)} GiB of disk at most`,
    bytes,
  };
}

/** What was recorded there by the same machine; nothing where there is no such file. @throws Error where another one made it */
export async function recorded(file: string, machine: Growth['machine']): Promise<Growth> {
  if (!existsSync(file)) return { machine, curves: {} };
  const growth = JSON.parse(await readFile(file, 'utf8')) as Growth;
  const differs = ['model', 'cores', 'postgresql'].filter((name) => growth.machine[name] !== machine[name]);
  if (differs.length === 0) return growth;
  throw new Error(
    `${file} was made where ${differs.join(' and ')} differ: remove it, or name another file with --record`,
  );
}

/** Measures what is not recorded yet, and records each point as it comes. */
export async function grow(
  bench: Bench,
  asked: { readonly file: string; readonly growth: Growth; readonly factors: Factors; readonly share?: number },
  say: (line: string) => void,
): Promise<Growth> {
  const { file, growth, factors, share = 1 } = asked;
  if (!TELLS_PROCESSOR_TIME)
    throw new Error('nothing tells the processor time of the server here: it must be of this machine, and that Linux');
  const { text, bytes } = announce(growth, factors);
  say(text);
  const disk = await statfs(tmpdir());
  if (disk.bavail * disk.bsize < bytes)
    throw new Error(
      `${tmpdir()} has ${((disk.bavail * disk.bsize) / 2 ** 30).toFixed(1)} GiB left: free some, or set TMPDIR to another disk`,
    );
  await mkdir(path.dirname(file), { recursive: true });
  let now = growth;
  for (const { name, factor, size } of left(growth, factors)) {
    const cost = await factor.cost(bench, size, share);
    say(`${factor.title}: ${size.toLocaleString('en')} ${factor.across}: ${cost.toFixed(2)} ${factor.unit}`);
    const points = [...(now.curves[name]?.points ?? []), { at: size, cost }].sort((one, other) => one.at - other.at);
    const { title, across, unit } = factor;
    now = { ...now, curves: { ...now.curves, [name]: { name: title, across, unit, points } } };
    await writeFile(file, `${JSON.stringify(now, null, 2)}\n`);
  }
  return now;
}
