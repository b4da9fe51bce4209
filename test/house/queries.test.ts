// Runs on each version: the queries of sql/queries are for any.
import { readFile, readdir } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { PROJECT_ROOT } from '../../runner/base/settings.js';
import { apply, batch, deletion, rolledBack } from '../support/batches.js';
import { createWarehouseDatabase, type TestDatabase } from '../support/databases.js';
import { applyWorkedExample } from '../support/worked-example.js';

let warehouse: TestDatabase;
beforeAll(async () => {
  warehouse = await createWarehouseDatabase();
  await applyWorkedExample(warehouse.sql);
});
afterAll(async () => {
  await warehouse.drop();
});

const query = (name: string) => readFile(path.join(PROJECT_ROOT, 'sql', 'queries', `${name}.sql`), 'utf8');

const EXPECTED: Readonly<Record<string, readonly unknown[]>> = {
  current_orders: [
    { order_key: 1, customer_id: 101, order_status: 'confirmed', valid_from: '2026-02-01 09:10:00' },
    { order_key: 2, customer_id: 102, order_status: 'pending', valid_from: '2026-02-01 09:15:00' },
    { order_key: 3, customer_id: 103, order_status: 'pending', valid_from: '2026-02-01 09:30:00' },
  ],
  order_history_timeline: [
    {
      order_key: 1,
      order_status: 'pending',
      valid_from: '2026-02-01 09:00:00',
      valid_to: '2026-02-01 09:10:00',
      status: 'Expired: 2026-02-01 09:10:00',
    },
    { order_key: 1, order_status: 'confirmed', valid_from: '2026-02-01 09:10:00', valid_to: null, status: 'Current' },
  ],
  change_frequency: [
    { order_key: 1, total_changes: '2', first_seen: '2026-02-01 09:00:00', last_updated: '2026-02-01 09:10:00' },
    { order_key: 2, total_changes: '1', first_seen: '2026-02-01 09:15:00', last_updated: '2026-02-01 09:15:00' },
    { order_key: 3, total_changes: '1', first_seen: '2026-02-01 09:30:00', last_updated: '2026-02-01 09:30:00' },
  ],
};

test('the worked example becomes the history that sample_data shows', async () => {
  const [header, ...lines] = (await readFile(path.join(PROJECT_ROOT, 'sample_data', 'warehouse_output.csv'), 'utf8'))
    .trimEnd()
    .split('\n');
  const columns = (header ?? '').split(',');
  const rows = await warehouse.sql.unsafe<Record<string, string | null>[]>(
    `select ${columns.map((name) => `${name}::text`).join(', ')} from public.dim_orders_history order by order_key, valid_from`,
  );
  expect(rows.map((row) => columns.map((name) => row[name] ?? '').join(','))).toEqual(lines);
});

test.each(Object.entries(EXPECTED))('%s gives the rows of the worked example', async (name, rows) => {
  expect(await warehouse.sql.unsafe(await query(name))).toEqual(rows);
});

test('every query is shown', async () => {
  expect((await readdir(path.join(PROJECT_ROOT, 'sql', 'queries'))).sort()).toEqual(
    Object.keys(EXPECTED)
      .map((name) => `${name}.sql`)
      .sort(),
  );
});

test('an order that was deleted is in no current state, keeps its history, and has no last update', async () => {
  const found = await rolledBack(warehouse.sql, async (transaction) => {
    await apply(transaction, batch('later', '10:00', [deletion(1, '09:50')]));
    return {
      current: await transaction.unsafe(await query('current_orders')),
      timeline: await transaction.unsafe(await query('order_history_timeline')),
      frequency: await transaction.unsafe(await query('change_frequency')),
    };
  });
  expect(found.current).toEqual(EXPECTED.current_orders?.slice(1));
  expect(found.timeline.map((row) => row.status as string)).toEqual([
    'Expired: 2026-02-01 09:10:00',
    'Expired: 2026-02-01 09:50:00',
  ]);
  expect(found.frequency[0]).toEqual({
    order_key: 1,
    total_changes: '2',
    first_seen: '2026-02-01 09:00:00',
    last_updated: null,
  });
});
