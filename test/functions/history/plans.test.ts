import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { PROJECT_ROOT } from '../../../runner/base/settings.js';
import type { Database } from '../../../runner/base/database.js';
import { createWarehouseDatabase, type TestDatabase } from '../../support/databases.js';
import { apply, at, batch, change, deletion, rolledBack } from '../../support/batches.js';

/** The cost of a batch grows with the batch, never with the history: the statements themselves are explained, on a history that is large beside them. */

let warehouse: TestDatabase;
let sql: Database;
const KEYS = 20_000;

beforeAll(async () => {
  warehouse = await createWarehouseDatabase();
  sql = warehouse.sql;
  for (const [name, time] of [
    ['b1', '09:05'],
    ['b2', '09:15'],
    ['b3', '09:25'],
  ] as const)
    await apply(
      sql,
      batch(
        name,
        time,
        Array.from({ length: KEYS }, (_, id) => change(id, name, time.replace('5', '0'))),
      ),
    );
});
afterAll(async () => {
  await warehouse.drop();
});

interface Node {
  readonly 'Node Type': string;
  readonly 'Relation Name'?: string;
  readonly 'Index Name'?: string;
  readonly 'Actual Rows'?: number;
  readonly 'Sort Key'?: readonly string[];
  readonly 'Group Key'?: readonly string[];
  readonly Plans?: readonly Node[];
}

const nodes = (node: Node): Node[] => [node, ...(node.Plans ?? []).flatMap(nodes)];

/** Runs the statement that a function wrote for orders, explains it, and rolls it back. */
async function explain(writer: string, lines: string, extractedAt: string): Promise<Node[]> {
  return rolledBack(sql, async (transaction) => {
    const [row] = await transaction.unsafe<[{ statement: string }]>(`select tidemark.${writer}('orders') as statement`);
    const parameters = `'${lines}', '', 'b9', now(), '${at(extractedAt)}Z', null${writer === '_converge_statement' ? ', 9, null' : ", '-infinity'"}`;
    const types = `json, text, text, timestamptz, timestamptz, integer[]${writer === '_converge_statement' ? ', bigint, text[]' : ', timestamptz'}`;
    await transaction.unsafe(
      `set local search_path = pg_catalog, pg_temp; prepare applying (${types}) as ${row.statement}`,
    );
    try {
      const [plan] = await transaction.unsafe<[{ 'QUERY PLAN': [{ Plan: Node }] }]>(
        `explain (analyze, timing off, format json) execute applying (${parameters})`,
      );
      return nodes(plan['QUERY PLAN'][0].Plan);
    } finally {
      await transaction.unsafe('deallocate applying');
    }
  });
}

const LINES = JSON.stringify([
  change(1, 'X', '09:12'),
  change(1, 'Y', '09:13'),
  change(7, 'X', '09:12'),
  deletion(9, '09:12'),
  change(KEYS + 1, 'X', '09:12'),
]).replaceAll("'", "''");

test.each<[string, string, string, boolean]>([
  ['the one-pass statement, on a table that was never analysed,', '_apply_statement', '10:00', true],
  ['the converging statement, on a table that was never analysed,', '_converge_statement', '09:14', true],
  ['the one-pass statement', '_apply_statement', '10:00', false],
  ['the converging statement', '_converge_statement', '09:14', false],
])(
  '%s looks histories and absorbed changes up by key, and reads none of them through',
  async (_, writer, extractedAt, isUnknown) => {
    if (!isUnknown) await sql`analyze`;
    const plan = await explain(writer, LINES, extractedAt);
    const scans = plan.filter(
      (node) => node['Relation Name'] === 'dim_orders_history' && node['Node Type'] !== 'ModifyTable',
    );
    expect(scans.length).toBeGreaterThan(1);
    expect(
      scans.map((node) => node['Node Type']).filter((type) => !['Index Scan', 'Bitmap Heap Scan'].includes(type)),
    ).toEqual([]);
    expect(Math.max(...scans.map((node) => node['Actual Rows'] ?? 0))).toBeLessThan(4);
    expect(
      plan.filter(
        (node) =>
          node['Node Type'] === 'Seq Scan' &&
          ['absorbed_changes', 'batches', 'first_values'].includes(node['Relation Name'] ?? '') &&
          (node['Actual Rows'] ?? 0) > 3,
      ),
    ).toEqual([]);
  },
);

const shown = (name: string): Promise<string> =>
  readFile(path.join(PROJECT_ROOT, 'sql', 'queries', `${name}.sql`), 'utf8');

const [OF_ONE_KEY, CURRENT, BY_SURROGATE_KEY] = [
  'dim_orders_history_one_version_a_time',
  'dim_orders_history_one_current_version',
  'dim_orders_history_pkey',
];

test.each<[string, string | Promise<string>, string, number]>([
  ['the timeline of an order', shown('order_history_timeline'), OF_ONE_KEY, 3],
  [
    'an order as of a moment',
    "select * from public.dim_orders_history_as_of('2026-02-01 09:12') where order_key = 7",
    OF_ONE_KEY,
    1,
  ],
  ['the state of an order now', 'select * from public.dim_orders_current where order_key = 7', CURRENT, 1],
  [
    'the newest version of an order, deleted or not',
    'select * from public.dim_orders_history where order_key = 7 order by valid_from desc limit 1',
    OF_ONE_KEY,
    1,
  ],
  [
    'a version that a fact refers to',
    'select * from public.dim_orders_history where surrogate_key = 7',
    BY_SURROGATE_KEY,
    1,
  ],
])('%s is looked up by an index, and nothing is sorted', async (_, query, index, rows) => {
  await sql`analyze public.dim_orders_history`;
  const [plan] = await sql.unsafe<[{ 'QUERY PLAN': [{ Plan: Node }] }]>(
    `explain (analyze, timing off, format json) ${await query}`,
  );
  const used = nodes(plan['QUERY PLAN'][0].Plan);
  const scans = used.filter((node) => node['Relation Name'] !== undefined || node['Index Name'] !== undefined);
  expect(scans.map((node) => node['Index Name'] ?? 'none').filter((name) => name !== index)).toEqual(
    scans.length > 1 ? ['none'] : [],
  );
  expect(used.filter((node) => ['Seq Scan', 'Sort', 'Function Scan'].includes(node['Node Type']))).toEqual([]);
  expect(used[0]?.['Actual Rows']).toBe(rows);
});

test.each(['change_frequency', 'current_orders'])('%s reads the history once', async (name) => {
  const [plan] = await sql.unsafe<[{ 'QUERY PLAN': [{ Plan: Node }] }]>(
    `explain (analyze, timing off, format json) ${await shown(name)}`,
  );
  expect(
    nodes(plan['QUERY PLAN'][0].Plan).filter((node) => node['Relation Name'] === 'dim_orders_history'),
  ).toHaveLength(1);
});

const WALKS = [
  'a_gap_is_a_delete',
  'a_life_begins_with_an_insert',
  'neighbours_differ',
  'versions_do_not_overlap',
  'one_current_version_a_key',
];

test.each(WALKS)('the check %s walks the keys by their own columns, and prints none', async (check) => {
  const query = await readFile(path.join(PROJECT_ROOT, 'sql', 'checks', 'scd2', `${check}.sql`), 'utf8');
  const [plan] = await sql.unsafe<[{ 'QUERY PLAN': [{ Plan: Node }] }]>(
    `explain (analyze, timing off, format json) ${query}`,
  );
  const used = nodes(plan['QUERY PLAN'][0].Plan).filter((node) => (node['Actual Rows'] ?? 0) > 0);
  expect(used.some((node) => node['Relation Name'] === 'dim_orders_history')).toBe(true);
  expect(
    used
      .flatMap((node) => [...(node['Sort Key'] ?? []), ...(node['Group Key'] ?? [])])
      .filter((key) => key.includes('json')),
  ).toEqual([]);
});
