import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Database } from '../../../runner/base/database.js';
import { newestBatch } from '../../../runner/warehouse/batches.js';
import { createWarehouseDatabase, type TestDatabase } from '../../support/databases.js';
import { apply, batch, change, empty } from '../../support/batches.js';

let warehouse: TestDatabase;
let sql: Database;
beforeAll(async () => {
  warehouse = await createWarehouseDatabase();
  sql = warehouse.sql;
});
beforeEach(async () => {
  await empty(sql);
});
afterAll(async () => {
  await warehouse.drop();
});

test('there is none where nothing was loaded', async () => {
  expect(await newestBatch(sql, 'orders')).toBeUndefined();
});

test('it is the batch with the highest sequence, with its checksum and metadata as they came', async () => {
  for (const sequence of [9, 10, 11])
    await apply(
      sql,
      batch(`b${String(sequence)}`, `10:${String(sequence + 10)}`, [change(1, String(sequence), '09:00')], {
        sequence,
        floor: 'floor',
      }),
    );
  const document = JSON.parse(batch('b11', '10:21', [change(1, '11', '09:00')], { sequence: 11, floor: 'floor' })) as {
    batch_metadata: { checksum: string };
  };
  expect(await newestBatch(sql, 'orders')).toEqual({
    batch_id: 'b11',
    sequence: '11',
    checksum: document.batch_metadata.checksum,
    metadata: document.batch_metadata,
  });
});

test('it is the end of the chain, whatever the clocks said', async () => {
  for (const sequence of [1, 2])
    await apply(
      sql,
      batch(`b${String(sequence)}`, `10:0${String(sequence)}`, [change(1, String(sequence), '09:00')], { sequence }),
    );
  await sql`update tidemark.batches set extracted_at = '2026-02-01T00:00:00Z', applied_at = '2026-02-01T00:00:00Z' where sequence = 2`;
  expect(await newestBatch(sql, 'orders')).toMatchObject({ batch_id: 'b2', sequence: '2' });
});

test('a document from outside the chain is never the newest', async () => {
  await apply(sql, batch('b1', '10:00', [change(1, 'A', '09:00')], { sequence: 1 }));
  await apply(sql, batch('by hand', '11:00', [change(1, 'B', '10:30')]));
  expect(await newestBatch(sql, 'orders')).toMatchObject({ batch_id: 'b1' });
});

test('every shard and every dimension has its own', async () => {
  await apply(sql, batch('b1', '10:00', [change(1, 'A', '09:00')], { shard: 'a', sequence: 7 }));
  await apply(sql, batch('b2', '10:00', [change(2, 'A', '09:00')], { shard: 'b', sequence: 3 }));
  expect(await newestBatch(sql, 'orders', 'a')).toMatchObject({ batch_id: 'b1', sequence: '7' });
  expect(await newestBatch(sql, 'orders', 'b')).toMatchObject({ batch_id: 'b2', sequence: '3' });
  expect(await newestBatch(sql, 'orders')).toBeUndefined();
  expect(await newestBatch(sql, 'Orders', 'a')).toBeUndefined();
});

test('tidemark.newest_batches gives that of every chain, the whole table first', async () => {
  const newestBatches = () =>
    sql`
    select shard, batch_id, sequence, extracted_at from tidemark.newest_batches(p_dimension_name => 'orders')`.values();
  expect(await newestBatches()).toEqual([]);
  await apply(sql, batch('b1', '10:00', [change(1, 'A', '09:00')], { shard: '2-of-2', sequence: 7 }));
  await apply(sql, batch('b2', '10:30', [change(1, 'B', '09:00')], { shard: '2-of-2', sequence: 8 }));
  await apply(
    sql,
    batch('b3', '10:10', [change(2, 'A', '09:00')], { shard: '1-of-2', sequence: 3, shard_layout: null }),
  );
  await apply(sql, batch('b4', '10:40', [change(3, 'A', '09:00')], { sequence: 1 }));
  await apply(sql, batch('b5', '10:50', [change(3, 'A', '09:00')]));
  expect(await newestBatches()).toEqual([
    ['', 'b4', '1', '2026-02-01T10:40:00+00:00'],
    ['1-of-2', 'b3', '3', '2026-02-01T10:10:00+00:00'],
    ['2-of-2', 'b2', '8', '2026-02-01T10:30:00+00:00'],
  ]);
});
