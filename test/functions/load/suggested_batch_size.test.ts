import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { ledgerStates } from '../../../runner/warehouse/batches.js';
import { createWarehouseDatabase, type TestDatabase } from '../../support/databases.js';
import { empty } from '../../support/batches.js';

let warehouse: TestDatabase;
beforeAll(async () => {
  warehouse = await createWarehouseDatabase();
});
afterEach(async () => {
  await empty(warehouse.sql);
});
afterAll(async () => {
  await warehouse.drop();
});

const LIMITS = { least: 100, most: 10_000, target_seconds: 10 };

const suggestedSize = async (table: string): Promise<number | undefined> =>
  (await ledgerStates(warehouse.sql, [table], 'no shard of these', LIMITS)).get(table)?.batch_ceiling;

/** What is suggested after batches of so many changes that took so many seconds, the newest last. */
async function after(
  ...batches: readonly (readonly [changes: number, seconds: number])[]
): Promise<number | undefined> {
  for (const [index, [changes, seconds]] of batches.entries())
    await warehouse.sql`
      insert into tidemark.batches (dimension_name, batch_id, sequence, extracted_at, least_captured_at, greatest_captured_at, change_count, checksum, metadata, inserted_versions, closed_versions, absorbed_changes, apply_started_at, applied_at)
      select 'orders', ${`b${String(index)}`}, ${index + 1}, m, m, m, ${changes}, 'c', '{}', 0, 0, 0, m - make_interval(secs => ${seconds}), m
      from (select '2026-02-01 12:00+00'::timestamptz + make_interval(mins => ${index})) as t (m)`;
  return suggestedSize('orders');
}

test('it is the most there may be before anything was loaded, and while every batch loads within the target', async () => {
  expect(await after()).toBe(10_000);
  expect(await after([100, 0.1], [5000, 9.9])).toBe(10_000);
});

test('it is the size of a batch that took longer than the target', async () => {
  expect(await after([5000, 10], [100, 1])).toBe(5000);
});

test('it is half the size of one that took six times the target, and no less than the least', async () => {
  expect(await after([5000, 60])).toBe(2500);
  await empty(warehouse.sql);
  expect(await after([150, 600])).toBe(100);
});

test('it is the smallest of what the five newest batches say: older ones are forgotten', async () => {
  const quick = Array.from({ length: 4 }, () => [200, 1] as const);
  expect(await after([4000, 60], ...quick)).toBe(2000);
  await empty(warehouse.sql);
  expect(await after([4000, 60], ...quick, [200, 1])).toBe(10_000);
});

test('batches below the least say nothing of sizes, and other tables nothing of this one', async () => {
  expect(await after([3, 600])).toBe(10_000);
  await empty(warehouse.sql);
  expect(await after([5000, 60])).toBe(2500);
  expect(await suggestedSize('customers')).toBe(10_000);
});
