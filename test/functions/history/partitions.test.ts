import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { connect, type Database } from '../../../runner/base/database.js';
import { apply, batch, rolledBack, type TestTransaction } from '../../support/batches.js';
import { createWarehouseDatabase, type TestDatabase } from '../../support/databases.js';
import { registerDimension } from '../../support/dimensions.js';
import { explain, expectLookUps, type Node } from '../../support/plans.js';
import { PROPERTIES, TABLES, registerTables, tryProperty } from '../../support/properties.js';

/** The statements that make history, on one in 16 partitions: PostgreSQL reckons a look into all of them for each change, and must look into one. */

let warehouse: TestDatabase;
let sql: Database;
const KEYS = 40_000;

const change = (id: number, a: string, time: string) => ({
  ...{ id, a, touched: `2026-02-01T${time}:00Z`, operation_type: 'UPDATE', cdc_timestamp: `2026-02-01T${time}:00Z` },
});
const document = (name: string, captured: string, changes: readonly ReturnType<typeof change>[]) =>
  batch(name, captured, changes, { table: 'parted' });

/** Versions in force of so many keys, as if a batch had brought them. */
const fill = (session: Database | TestTransaction, name: string, hour: string, from: number, to: number) =>
  session.unsafe(`
    insert into dim_parted_history (id, a, valid_from, is_current, cdc_operation, cdc_timestamp, batch_id, created_at, updated_at, captured_at, change_line)
    select k, '${name}', '2026-02-01 ${hour}:00Z', true, 'INSERT', '2026-02-01 ${hour}:00Z', '${name}', now(), now(), '2026-02-01 ${hour}:30Z', k
    from generate_series(${String(from)}, ${String(to)}) as k`);

beforeAll(async () => {
  warehouse = await createWarehouseDatabase();
  sql = warehouse.sql;
  await registerTables(sql, 3);
  await registerDimension(
    sql,
    'parted',
    'parted',
    [
      { source: 'id', type: 'integer', role: 'business key' },
      { source: 'a', type: 'text', role: 'tracked' },
      { source: 'touched', type: 'timestamptz', role: 'effective time' },
    ],
    { partitions: 16 },
  );
  await apply(sql, document('b1', '09:30', [change(0, 'b1', '09:00')]));
  await fill(sql, 'b1', '09', 1, KEYS);
  await apply(sql, document('b2', '10:30', [change(KEYS + 1, 'b2', '10:00')]));
});
afterAll(async () => {
  await warehouse.drop();
});

const inSession = async <R>(work: (session: Database) => Promise<R>): Promise<R> => {
  // One of its own has no plan yet.
  const session = connect(warehouse.settings, 'test', 1);
  try {
    return await work(session);
  } finally {
    await session.end();
  }
};

/** Of a node that was never executed PostgreSQL says that it went round no time. */
const lookedInto = (plan: readonly (Node & { readonly 'Actual Loops'?: number })[]) =>
  new Set(
    plan
      .filter((node) => /_history_p\d+$/.test(node['Relation Name'] ?? '') && node['Node Type'] !== 'ModifyTable')
      .filter((node) => (node['Actual Loops'] ?? 0) > 0)
      .map((node) => node['Relation Name']),
  );

test.each([
  ['in order, on partitions that were never analysed,', '11:00', false],
  ['that is late, on partitions that were never analysed,', '09:45', false],
  ['in order', '11:00', true],
  ['that is late', '09:45', true],
])('a batch of one %s looks into one partition, by key', async (_, captured, isAnalysed) => {
  if (isAnalysed) await sql`analyze public.dim_parted_history`;
  const plan = await inSession((session) => explain(session, document('b9', captured, [change(7, 'X', '09:40')])));
  expectLookUps(plan, 'dim_parted_history');
  expect([...lookedInto(plan)]).toHaveLength(1);
});

test('partitions that grew are analysed together, which autovacuum never does', async () => {
  await rolledBack(sql, async (transaction) => {
    const estimate = async () => {
      const [row] = await transaction<[{ whole: number; parts: number }]>`
        select h.reltuples as whole, tidemark._estimate(h.oid)::integer as parts from pg_class as h where h.oid = 'dim_parted_history'::regclass`;
      return row;
    };
    await transaction`truncate dim_parted_history`;
    await transaction`analyze dim_parted_history`;
    expect(await estimate()).toEqual({ whole: 0, parts: 0 });
    await fill(transaction, 'b1', '09', 1, 20_000);
    await transaction`select tidemark._refresh_plans('dim_parted_history')`;
    expect(await estimate()).toEqual({ whole: 20000, parts: 20000 });
  });
});

/** Some of the properties, a few times each; all of them, and everything else of a history, by npm run test:partitions. */
const [SEED, RUNS] = [Number(process.env.TEST_SEED ?? Date.now() % 1_000_000_000), 4];
const SOME = PROPERTIES.filter(({ name }) =>
  /^(equals|takes rejected|keeps the surrogate key|is the same when several loaders race|tells)/.test(name),
);

describe.each(TABLES)('a history in partitions, in the order of $order', ({ table, order }) => {
  test.each(SOME.map((property) => [property.name, property] as const))('%s', async (_, property) => {
    const subject = { sql, settings: warehouse.settings, table, order };
    expect(await tryProperty(property, subject, { seed: SEED, runs: RUNS })).toBeGreaterThan(0);
  });
});
