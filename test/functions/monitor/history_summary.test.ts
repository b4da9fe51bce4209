import { afterAll, beforeAll, expect, test } from 'vitest';
import { historySummary } from '../../../runner/warehouse/functions.js';
import { createWarehouseDatabase, type TestDatabase } from '../../support/databases.js';
import { apply, batch, change, deletion, empty } from '../../support/batches.js';

let warehouse: TestDatabase;
beforeAll(async () => {
  warehouse = await createWarehouseDatabase();
});
afterAll(async () => {
  await warehouse.drop();
});

test('a history without versions counts nothing', async () => {
  expect(await historySummary(warehouse.sql, 'orders')).toEqual({
    history_table: 'public.dim_orders_history',
    total: '0',
    current: '0',
    historical: '0',
  });
});

test('versions are counted, and apart whether they are in force', async () => {
  await empty(warehouse.sql);
  await apply(
    warehouse.sql,
    batch('b1', '10:00', [
      change(1, 'A', '09:00'),
      change(1, 'B', '09:10'),
      change(1, 'C', '09:20'),
      change(2, 'A', '09:00'),
      change(3, 'A', '09:00'),
      deletion(3, '09:10'),
      change(4, 'A', '09:00'),
    ]),
  );
  expect(await historySummary(warehouse.sql, 'orders')).toEqual({
    history_table: 'public.dim_orders_history',
    total: '6',
    current: '3',
    historical: '3',
  });
});

test('a dimension that is not registered has no row', async () => {
  expect(await historySummary(warehouse.sql, 'Orders')).toBeUndefined();
});

test('versions of another dimension do not count', async () => {
  await warehouse.sql.unsafe(`
    create table public.other (like public.dim_orders_history including all);
    select tidemark.register_dimension('other', 'public', 'other', 'public.other', '[
      {"source": "id", "history": "order_key", "role": "business key"}, {"source": "t", "history": "valid_from", "role": "effective time"}]');`);
  expect(await historySummary(warehouse.sql, 'other')).toEqual({
    history_table: 'public.other',
    total: '0',
    current: '0',
    historical: '0',
  });
});
