import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { formatChecks, runChecks } from '../runner/warehouse/checks.js';
import type { Database } from '../runner/base/database.js';
import { formatTable } from '../runner/base/text-table.js';
import { browseIndexes } from '../runner/warehouse/functions.js';
import { apply, beginAgain, documents } from './contenders.js';
import { spread } from './measure.js';
import { mostMemoryOf } from './memory.js';
import { HALF_KNOWN, consolePages } from './pages.js';
import { addOrders, type Bench } from './server.js';

/** How Tidemark fares with very many changes, or a very long history: figures and plans, no targets but those named beside them. */
export interface Scaled {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
}

export interface Scale {
  readonly figures: readonly Scaled[];
  readonly plans: readonly { readonly name: string; readonly plan: string }[];
}

const MANY = ['changes', 'versions', 'partitions', 'stream', 'events'] as const;

/** A number as 7, 20K or 5M; undefined where it is none. */
export function countOf(text: string): number | undefined {
  const [, digits, unit] = /^([0-9]+)([KM]?)$/.exec(text) ?? [];
  return digits === undefined ? undefined : Number(digits) * ({ K: 1e3, M: 1e6 }[unit ?? ''] ?? 1);
}

/** What is many, as "changes=10M" or "stream=10K". Undefined where it is none of them. */
export function parseScale(text: string): { what: (typeof MANY)[number]; count: number } | undefined {
  const [given, number = ''] = text.split('=');
  const [what, count] = [MANY.find((each) => each === given), countOf(number)];
  return what && count !== undefined ? { what, count } : undefined;
}

/** Extracts and loads so many changes by the two commands: memory, and the rate in the first and the last tenth of the batches. */
export async function manyChanges(bench: Bench, changes: number, say: (line: string) => void): Promise<Scale> {
  await beginAgain(bench);
  for (let left = changes; left > 0; left -= 1_000_000) await addOrders(bench, Math.min(left, 1_000_000));
  const figures: Scaled[] = [];
  const written = new Map<string, number>();
  for (const command of ['extract', 'load'] as const) {
    say(`${command} of ${String(changes)} changes`);
    const began = performance.now();
    const [before] = await bench.warehouse<[{ lsn: string }]>`select pg_current_wal_insert_lsn()::text as lsn`;
    figures.push({
      name: `${command}: most memory`,
      value: await mostMemoryOf(command, bench.settings),
      unit: 'MB, at most 150',
    });
    figures.push({
      name: `${command}: all`,
      value: changes / ((performance.now() - began) / 1000),
      unit: 'changes a second',
    });
    written.set(`files after ${command}`, await bytesBelow(bench.settings.cdc_log_dir));
    const [wal] = await bench.warehouse<[{ bytes: number }]>`
      select (pg_current_wal_insert_lsn() - ${before.lsn}::pg_lsn)::float8 as bytes`;
    if (command === 'load') written.set('write-ahead log of the warehouse', wal.bytes);
  }
  const [stored] = await bench.warehouse<[Record<string, number>]>`
    select pg_table_size(h)::float8 as "history table", pg_indexes_size(h)::float8 as "history indexes"
    from (values ('public.dim_orders_history'::regclass)) as t (h)`;
  for (const [name, bytes] of [...written, ...Object.entries(stored)])
    figures.push({ name, value: bytes / changes, unit: 'bytes a change' });
  for (const [command, moment] of [
    ['extract', 'extracted_at'],
    ['load', 'applied_at'],
  ] as const) {
    const [rate] = await bench.warehouse<[{ first: number; last: number }]>`
      with batch as (
        select b.change_count, b.${bench.warehouse(moment)} as moment, ntile(10) over (order by b.sequence) as tenth
        from tidemark.batches as b where b.dimension_name = 'orders'
      ),
      rate as (
        select r.tenth, sum(r.change_count) / nullif(extract(epoch from max(r.moment) - min(r.moment)), 0) as changes_a_second
        from (select *, row_number() over (partition by tenth order by moment) = 1 as is_first from batch) as s
        cross join lateral (select s.tenth, s.moment, case when s.is_first then 0 else s.change_count end as change_count) as r
        group by r.tenth
      )
      select min(changes_a_second) filter (where tenth = 1)::float8 as first, max(changes_a_second) filter (where tenth = 10)::float8 as last from rate`;
    figures.push({ name: `${command}: the first tenth`, value: rate.first, unit: 'changes a second' });
    figures.push({
      name: `${command}: the last tenth`,
      value: rate.last / rate.first,
      unit: 'x the first, at least 0.8',
    });
  }
  return { figures, plans: [] };
}

/** Bytes of the files of a folder and of those below it. */
async function bytesBelow(folder: string): Promise<number> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => stat(path.join(entry.parentPath, entry.name)));
  return (await Promise.all(files)).reduce((all, { size }) => all + size, 0);
}

const AS_OF = "public.dim_orders_history_as_of('2026-02-01 09:00:30')";

/** A history of so many versions, two a key: what changes, queries and checks cost on it. */
export async function manyVersions(
  { warehouse }: Bench,
  versions: number,
  say: (line: string) => void,
): Promise<Scale> {
  const figures: Scaled[] = [];
  const plans: { name: string; plan: string }[] = [];
  for (const [name, size] of [
    ['50K versions', Math.min(50_000, versions)],
    [`${String(versions)} versions`, versions],
  ] as const) {
    say(`a history of ${name}`);
    await warehouse`call bench.fill_history(${size / 2}, 2)`;
    await warehouse`vacuum public.dim_orders_history`;
    const taken: number[] = [];
    for (let run = 0; run < 4; run += 1)
      taken.push(await apply(warehouse, await documents(warehouse, 1000, 2 + run, 1000)));
    figures.push({ name: `1,000 changes to ${name}`, value: spread(taken.slice(1)).min * 1000, unit: 'ms' });
  }
  const BETWEEN = "('2026-02-01 09:01:00.5', '2026-02-01 09:01:00.501')";
  const between = [
    [
      'what differs between two moments, 1,000 of all keys',
      `select count(*) from public.dim_orders_history_diff${BETWEEN}`,
    ],
    ['the changes between two moments, 1,000', `select count(*) from public.dim_orders_history_changes${BETWEEN}`],
  ] as const;
  for (const [name, query] of between)
    figures.push({ name, value: (await explained(warehouse, query)).milliseconds, unit: 'ms in the server' });
  say('indexes for browsing');
  const [indexes] = await browseIndexes(warehouse, 'orders');
  for (const statement of indexes?.make_statements ?? []) await warehouse.unsafe(statement);
  const withIndexes: number[] = [];
  for (let run = 0; run < 4; run += 1)
    withIndexes.push(await apply(warehouse, await documents(warehouse, 1000, 6 + run, 1000)));
  figures.push({
    name: '1,000 changes, with the indexes for browsing',
    value: spread(withIndexes.slice(1)).min * 1000,
    unit: 'ms',
  });
  for (const [name, query] of [
    ...between.map(([what, asked]) => [`${what}, with the indexes for browsing`, asked] as const),
    [
      'what differs between two moments, one key',
      `select * from public.dim_orders_history_diff${BETWEEN} where order_key = 500001`,
    ],
    [
      'the story of one key',
      "select * from public.dim_orders_history_changes('-infinity', 'infinity') where order_key = 7",
    ],
    ['as of a moment, one key', `select * from ${AS_OF} where order_key = 7`],
    ['as of a moment, all keys', `select count(*), sum(total_amount) from ${AS_OF}`],
    ['current state, all keys', 'select count(*), sum(total_amount) from public.dim_orders_current'],
  ] as const) {
    const { milliseconds, plan } = await explained(warehouse, query);
    figures.push({ name, value: milliseconds, unit: 'ms in the server' });
    plans.push({ name, plan });
  }
  say('pages of the console');
  await warehouse`
    update tidemark.batches as b set applied_at = ${HALF_KNOWN}::timestamptz - interval '1 hour'
    where b.batch_id < (select percentile_disc(0.5) within group (order by m.batch_id) from tidemark.batches as m)`;
  for (const { name, query } of consolePages(versions / 2))
    figures.push({
      name: `console: ${name}`,
      value: (await explained(warehouse, query)).milliseconds,
      unit: `ms in the server, at most ${name.includes('known') ? '1,000' : '300'}`,
    });
  say('checks');
  const began = performance.now();
  const results = await runChecks(warehouse, ['scd2', 'pipeline']);
  figures.push({ name: 'checks, all of scd2 and pipeline', value: (performance.now() - began) / 1000, unit: 's' });
  plans.push({ name: 'checks', plan: formatChecks(results) });
  return { figures, plans };
}

/** Least time of several executions in the server, in milliseconds, and the plan. */
async function explained(warehouse: Database, query: string): Promise<{ milliseconds: number; plan: string }> {
  const times: number[] = [];
  let lines: string[] = [];
  for (let run = 0; run < 3; run += 1) {
    lines = (
      await warehouse.unsafe<{ 'QUERY PLAN': string }[]>(`explain (analyze, buffers, costs off, timing off) ${query}`)
    ).map((row) => row['QUERY PLAN']);
    times.push(Number(/Execution Time: ([0-9.]+) ms/.exec(lines.at(-1) ?? '')?.[1]));
  }
  return { milliseconds: spread(times).min, plan: lines.join('\n') };
}

export function formatScale({ figures, plans }: Scale): string {
  const rows = figures.map(({ name, value, unit }) => [name, value >= 100 ? value.toFixed(0) : value.toFixed(2), unit]);
  return [formatTable(['what', 'measured', 'unit'], rows), ...plans.map(({ name, plan }) => `${name}:\n${plan}`)].join(
    '\n\n',
  );
}
