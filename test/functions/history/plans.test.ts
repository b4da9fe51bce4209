import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { PROJECT_ROOT } from '../../../runner/base/settings.js';
import { connect, type Database } from '../../../runner/base/database.js';
import { createWarehouseDatabase, type TestDatabase } from '../../support/databases.js';
import { apply, batch, change, deletion, rolledBack, type TestTransaction } from '../../support/batches.js';
import { IS_PARTITIONED } from '../../support/partitions.js';
import { explain, explainWithin, expectLookUps, nodes, type Node } from '../../support/plans.js';

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

const LINES = [
  change(1, 'X', '09:12'),
  change(1, 'Y', '09:13'),
  change(7, 'X', '09:12'),
  deletion(9, '09:12'),
  change(KEYS + 1, 'X', '09:12'),
];
const IN_ORDER = batch('b9', '10:00', LINES);
const LATE = batch('b9', '09:14', LINES);

test.each<[string, string, boolean]>([
  ['a batch in order, on a table that was never analysed,', IN_ORDER, true],
  ['a late batch, on a table that was never analysed,', LATE, true],
  ['a batch in order', IN_ORDER, false],
  ['a late batch', LATE, false],
])(
  '%s looks histories and absorbed changes up by key, and reads none of them through',
  async (_, document, isUnknown) => {
    if (!isUnknown) await sql`analyze`;
    // A session of its own has no plan yet.
    const session = connect(warehouse.settings, 'test');
    try {
      expectLookUps(await explain(session, document));
    } finally {
      await session.end();
    }
  },
);

test.each([
  ['a batch in order', IN_ORDER],
  ['a late batch', LATE],
])('%s whose events are published reads no history through, either', async (_, document) => {
  const session = connect(warehouse.settings, 'test');
  try {
    await session`select tidemark.publish_events('orders')`;
    const plan = await explain(session, document);
    expectLookUps(plan);
    expect(plan.filter((node) => node['Relation Name'] === 'events')).toHaveLength(1);
  } finally {
    await session`select tidemark.publish_events('orders', false)`;
    await session.end();
  }
});

test('a session that filled an empty table, known to be empty, looks versions up by key from then on', async () => {
  const filled = await createWarehouseDatabase();
  const session = connect(filled.settings, 'test');
  try {
    await session`vacuum analyze`;
    for (const [name, status, time] of [
      ['b0', 'A', '08:55'],
      ['b1', 'A', '09:05'],
      ['b2', 'B', '09:15'],
      ['b3', 'C', '09:25'],
    ] as const) {
      const ids = Array.from({ length: name === 'b0' ? 1 : KEYS }, (_value, id) => id);
      await apply(
        session,
        batch(
          name,
          time,
          ids.map((id) => change(id, status, time.replace('5', '0'))),
        ),
      );
      // The first late batch makes the other plan, too.
      if (name === 'b0') await apply(session, batch('late', '08:50', [change(0, 'Z', '08:45')]));
    }
    expectLookUps(await explain(session, IN_ORDER));
    expectLookUps(await explain(session, LATE));
  } finally {
    await session.end();
    await filled.drop();
  }
});

test('a session that made versions of one key, known to be all there are, compares no version with every change from then on', async () => {
  const filled = await createWarehouseDatabase();
  const session = connect(filled.settings, 'test');
  const changes = (status: string, time: string) =>
    Array.from({ length: 2_000 }, (_value, id) => change(id + 2, status, time));
  try {
    await apply(session, batch('b0', '08:55', [change(1, 'A', '08:50'), change(1, 'B', '08:51')]));
    await session`vacuum analyze`;
    await apply(session, batch('b1', '09:05', changes('A', '09:00')));
    const plan = await explain(session, batch('b2', '09:15', changes('B', '09:10')));
    expect(Math.max(...plan.map((node) => node['Rows Removed by Join Filter'] ?? 0))).toBe(0);
  } finally {
    await session.end();
    await filled.drop();
  }
});

test('a session that read a few events, known to be few, looks events and versions up from then on, however many there are', async () => {
  const filled = await createWarehouseDatabase();
  const session = connect(filled.settings, 'test');
  const page = (by: Database | TestTransaction, after: number) =>
    by`select event_position from tidemark.read_events(${after}, 100)`;
  try {
    await session`select tidemark.publish_events('orders')`;
    await apply(session, batch('b0', '08:55', [change(1, 'A', '08:50'), change(1, 'B', '08:51')]));
    await session`select tidemark.number_events()`;
    await session`vacuum analyze`;
    for (let n = 0; n < 6; n += 1) expect(await page(session, 0)).toHaveLength(2);
    for (const [name, status, time] of [
      ['b1', 'A', '09:05'],
      ['b2', 'B', '09:15'],
    ] as const) {
      const ids = Array.from({ length: 2_000 }, (_value, id) => id + 2);
      await apply(session, batch(name, time, ids.map((id) => change(id, status, time.replace('5', '0'))))); // prettier-ignore
    }
    await session`select tidemark.number_events()`;
    for (const beginning of ['select array_agg(g.group_id)', 'select p.dimension_name', 'select r.event_position']) {
      const plan = await explainWithin(session, beginning, (transaction) => page(transaction, 2_000));
      const scans = plan.filter((node) => node['Relation Name'] !== undefined);
      expect(scans.length).toBeGreaterThan(0);
      expect(scans.filter((node) => node['Node Type'] === 'Seq Scan' || (node['Actual Rows'] ?? 0) > 101)).toEqual([]);
    }
  } finally {
    await session.end();
    await filled.drop();
  }
});

const shown = (name: string): Promise<string> =>
  readFile(path.join(PROJECT_ROOT, 'sql', 'queries', `${name}.sql`), 'utf8');

const BETWEEN = "('2026-02-01 09:05', '2026-02-01 09:15')";

const [OF_ONE_KEY, CURRENT, BY_SURROGATE_KEY] = [
  'dim_orders_history_one_version_a_time',
  'dim_orders_history_one_current_version',
  'dim_orders_history_pkey',
];

/** What is said of the history by its name, and those of its indexes, is not said of partitions. */
const testWhole = test.skipIf(IS_PARTITIONED);

testWhole.each<[string, string | Promise<string>, string, number]>([
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

/** How a query reads what is large. */
async function scansOf(transaction: Database | TestTransaction, query: string): Promise<Node[]> {
  const [plan] = await transaction.unsafe<[{ 'QUERY PLAN': [{ Plan: Node }] }]>(
    `explain (analyze, timing off, format json) ${query}`,
  );
  return nodes(plan['QUERY PLAN'][0].Plan).filter((node) =>
    ['dim_orders_history', 'absorbed_changes'].includes(node['Relation Name'] ?? ''),
  );
}

testWhole(
  'what changed of an order between two moments is looked up by key, and so is the delete that ended it',
  async () => {
    await rolledBack(sql, async (transaction) => {
      await apply(
        transaction,
        batch(
          'gone',
          '09:40',
          Array.from({ length: KEYS / 2 }, (_, id) => deletion(id, '09:30')),
        ),
      );
      await transaction`analyze`;
      const difference = await scansOf(
        transaction,
        `select * from public.dim_orders_history_diff${BETWEEN} where order_key = 7`,
      );
      const changes = await scansOf(
        transaction,
        "select * from public.dim_orders_history_changes('-infinity', 'infinity') where order_key = 7",
      );
      expect([...difference, ...changes].filter((node) => node['Node Type'] === 'Seq Scan')).toEqual([]);
      expect(difference.map((node) => node['Actual Rows'])).toEqual([1, 1]);
      expect(Math.max(...changes.map((node) => node['Actual Rows'] ?? 0))).toBeLessThan(4);
      expect(changes.find((node) => node['Relation Name'] === 'absorbed_changes')?.['Actual Rows']).toBe(1);
    });
  },
);

testWhole('with the indexes for browsing, what changed between two moments is found by time', async () => {
  await rolledBack(sql, async (transaction) => {
    const [indexes] = await transaction<[{ is_on: boolean; make_statements: string[] }]>`
      select * from tidemark.browse_indexes('orders')`;
    expect(indexes.is_on).toBe(false);
    for (const statement of indexes.make_statements) await transaction.unsafe(statement.replace(' concurrently', ''));
    await apply(transaction, batch('last', '10:10', [change(7, 'late', '10:00'), deletion(8, '10:00')]));
    await transaction`analyze public.dim_orders_history`;
    for (const [asked, rows] of [
      ['diff', 2],
      ['changes', 2],
    ] as const) {
      const query = `select * from public.dim_orders_history_${asked}('2026-02-01 09:59', '2026-02-01 10:05')`;
      expect(await transaction.unsafe(query)).toHaveLength(rows);
      const scans = await scansOf(transaction, query);
      expect(
        scans.filter((node) => node['Node Type'] === 'Seq Scan' && node['Relation Name'] === 'dim_orders_history'),
      ).toEqual([]);
      expect(new Set(scans.map((node) => node['Index Name'])).size).toBeGreaterThan(1);
    }
    const [made] =
      await transaction`select is_on, make_statements, cardinality(drop_statements) as own from tidemark.browse_indexes('orders')`;
    expect(made).toEqual({ is_on: true, make_statements: null, own: 2 });
  });
});

testWhole(
  'an order as of a moment as it was known at another is looked up by indexes, in every table where its changes may be',
  async () => {
    const [first] = await sql<
      [{ at: string }]
    >`select applied_at::text as at from tidemark.batches where batch_id = 'b1'`;
    const query = `select * from public.dim_orders_history_as_known('2026-02-01 09:12', '${first.at}') where order_key = 7`;
    const [plan] = await sql.unsafe<[{ 'QUERY PLAN': [{ Plan: Node }] }]>(
      `explain (analyze, timing off, format json) ${query}`,
    );
    expect(plan['QUERY PLAN'][0].Plan['Actual Rows']).toBe(1);
    const used = [
      ...nodes(plan['QUERY PLAN'][0].Plan),
      ...(await explainWithin(sql, 'with anchored as', (transaction) => transaction.unsafe(query))),
    ];
    const scans = used.filter((node) =>
      ['dim_orders_history', 'absorbed_changes'].includes(node['Relation Name'] ?? ''),
    );
    expect(new Set(scans.map((node) => node['Index Name']))).toEqual(
      new Set([OF_ONE_KEY, 'absorbed_changes_business_key_idx']),
    );
    expect(Math.max(...used.map((node) => node['Actual Rows'] ?? 0))).toBeLessThan(10);
  },
);

testWhole.each(['change_frequency', 'current_orders'])('%s reads the history once', async (name) => {
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

testWhole.each(WALKS)('the check %s walks the keys by their own columns, and prints none', async (check) => {
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
