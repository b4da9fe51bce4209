import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Database } from '../../../runner/base/database.js';
import { noteRemovedFiles } from '../../../runner/warehouse/functions.js';
import { settledBatches } from '../../../runner/warehouse/batches.js';
import { createWarehouseDatabase, type TestDatabase } from '../../support/databases.js';
import { apply, batch, change, empty } from '../../support/batches.js';

/** tidemark.settled_batches: the batches of a chain whose files retention may remove; tidemark.note_removed_files: those it did. */

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

/** A batch of one change, of a key that no other has; a status that is null cannot be applied. */
async function load(sequence: number, status: string | null = 'pending', shard?: string): Promise<void> {
  const name = `b${String(sequence)}${shard === undefined ? '' : ` ${shard}`}`;
  const key = shard === '2-of-2' ? 100 + sequence : sequence;
  await apply(
    sql,
    batch(
      name,
      `10:${String(10 + sequence)}`,
      [change(key, 'x', '09:00', { order_status: status, quantity: status === null ? 'none' : 1 })],
      { sequence, shard },
    ),
  );
}

const settled = async (shard = '') =>
  (
    await sql<
      { batch_id: string }[]
    >`select batch_id from tidemark.settled_batches('orders', ${shard}) order by sequence`
  ).map(({ batch_id }) => batch_id);

test('all of a chain are settled where nothing is rejected, and none where nothing was loaded', async () => {
  expect(await settled()).toEqual([]);
  for (const sequence of [1, 2, 3]) await load(sequence);
  expect(await settled()).toEqual(['b1', 'b2', 'b3']);
});

test('those from the first with a rejected change on are not, until that one is dismissed', async () => {
  for (const sequence of [1, 2, 3]) await load(sequence, sequence === 2 ? null : 'pending');
  expect(await settled()).toEqual(['b1']);
  await sql`select tidemark.dismiss_rejected('orders', 'b2', 1, 'history need not have it')`;
  expect(await settled()).toEqual(['b1', 'b2', 'b3']);
  await sql`select tidemark.dismiss_rejected('orders', 'b2', 1, null)`;
  expect(await settled()).toEqual(['b1']);
});

test('a rejected change of one shard keeps no file of another', async () => {
  for (const shard of ['1-of-2', '2-of-2'])
    for (const sequence of [1, 2]) await load(sequence, shard === '1-of-2' && sequence === 1 ? null : 'pending', shard);
  expect([await settled('1-of-2'), await settled('2-of-2')]).toEqual([[], ['b1 2-of-2', 'b2 2-of-2']]);
});

test('a document from outside the chain is none of them', async () => {
  await apply(sql, batch('elsewhere', '10:10', [change(1, 'pending', '09:00')]));
  expect(await settled()).toEqual([]);
});

test('of batches that are asked for, those that the ledger does not have are told apart from those that are not settled', async () => {
  for (const sequence of [1, 2]) await load(sequence, sequence === 2 ? null : 'pending');
  expect(await settledBatches(sql, 'orders', '', ['b1', 'b2', 'b3'])).toEqual({
    known: new Set(['b1', 'b2']),
    settled: new Set(['b1']),
  });
});

test('that files are removed is noted of settled batches of the chain alone, with the instant, and once', async () => {
  for (const sequence of [1, 2, 3]) await load(sequence, sequence === 3 ? null : 'pending');
  await load(1, 'pending', '1-of-2');
  const noted = () =>
    sql<
      { batch_id: string; file_removed_at: string }[]
    >`select batch_id, file_removed_at from tidemark.batches where file_removed_at is not null order by batch_id`;
  await noteRemovedFiles(sql, 'orders', '', ['b1', 'b3', 'b1 1-of-2', 'unheard of']);
  const [first] = await noted();
  expect(await noted()).toMatchObject([{ batch_id: 'b1' }]);
  await noteRemovedFiles(sql, 'orders', '', ['b1', 'b2']);
  expect(await noted()).toEqual([first, { batch_id: 'b2', file_removed_at: expect.any(String) as string }]);
});
