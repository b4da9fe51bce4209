import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  comparisonChecksums,
  comparisonColumns,
  comparisonDigests,
  comparisonStates,
} from '../../../runner/warehouse/functions.js';
import { createWarehouseDatabase, type TestDatabase } from '../../support/databases.js';
import { registerDimension } from '../../support/dimensions.js';

let warehouse: TestDatabase;
beforeAll(async () => {
  warehouse = await createWarehouseDatabase();
  await registerDimension(warehouse.sql, 'things', 'things', [
    { source: 'Id', history: 'key', type: 'integer', role: 'business key' },
    { source: 'part', type: 'text', role: 'business key' },
    { source: 'price', type: 'numeric(10,2)', role: 'tracked' },
    { source: 'changed_at', type: 'timestamptz', role: 'effective time' },
  ]);
  await warehouse.sql`
    insert into dim_things_history (key, part, price, valid_from, valid_to, is_current, cdc_operation, cdc_timestamp, batch_id, created_at, updated_at, captured_at, change_line)
    select g, 'a "b"', case when g % 2 = 0 then g end, '2026-02-01'::timestamptz + v * interval '1 day', case v when 0 then '2026-02-02'::timestamptz end, v = 1, 'INSERT', now(), 'x', now(), now(), now(), 1
    from generate_series(1, 100) as g, generate_series(0, 1) as v`;
});
afterAll(async () => {
  await warehouse.drop();
});

test('tidemark.comparison_columns names what is stored of a row, with the types it is stored with', async () => {
  expect(await comparisonColumns(warehouse.sql, 'things')).toEqual({
    deletes: 'none',
    columns: [
      { source: 'Id', role: 'business key', stored_type: 'integer' },
      { source: 'part', role: 'business key', stored_type: 'text' },
      { source: 'price', role: 'tracked', stored_type: 'numeric(10,2)' },
    ],
  });
});

test('tidemark.comparison_checksums covers each version in force once, and changes where one does', async () => {
  const before = await comparisonChecksums(warehouse.sql, 'things', 16);
  expect(before.reduce((sum, { row_count }) => sum + Number(row_count), 0)).toBe(100);
  expect(before.every(({ bucket }) => bucket >= 0 && bucket < 16)).toBe(true);
  await warehouse.sql`update dim_things_history set price = 3 where key = 7 and is_current`;
  const after = await comparisonChecksums(warehouse.sql, 'things', 16);
  const changed = before.filter(
    ({ bucket, checksum }) => after.find((each) => each.bucket === bucket)?.checksum !== checksum,
  );
  expect(changed).toHaveLength(1);
  const digests = await comparisonDigests(
    warehouse.sql,
    'things',
    16,
    changed.map(({ bucket }) => bucket),
  );
  expect(digests.map(({ key }) => key)).toContain('["7", "a \\"b\\""]');
});

test('tidemark.comparison_digests gives the keys of the wanted buckets, all of them when all are wanted', async () => {
  const all = await comparisonDigests(warehouse.sql, 'things', 4, [0, 1, 2, 3]);
  expect(new Set(all.map(({ key }) => key)).size).toBe(100);
  const some = await comparisonDigests(warehouse.sql, 'things', 4, [2]);
  expect(some.length).toBeGreaterThan(0);
  expect(some.length).toBeLessThan(100);
  expect(await comparisonDigests(warehouse.sql, 'things', 4, [])).toEqual([]);
});

test('tidemark.comparison_states shows the rows of some keys, a null apart from an empty text', async () => {
  const states = await comparisonStates(warehouse.sql, 'things', [
    '["1", "a \\"b\\""]',
    '["2", "a \\"b\\""]',
    '["1000", "a"]',
  ]);
  expect(states.map(({ content }) => content).sort()).toEqual(['(1,"a ""b""",)', '(2,"a ""b""",2.00)']);
});
