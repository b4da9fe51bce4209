import { afterAll, beforeAll, expect, test } from 'vitest';
import { createWarehouseDatabase, type TestDatabase } from '../../support/databases.js';
import { apply, batch, change, deletion, rolledBack } from '../../support/batches.js';

let warehouse: TestDatabase;
beforeAll(async () => {
  warehouse = await createWarehouseDatabase();
});
afterAll(async () => {
  await warehouse.drop();
});

test('tidemark.transaction_effects shows the first rows of each kind that this transaction wrote, and none that another did', async () => {
  await apply(
    warehouse.sql,
    batch('b1', '09:05', [
      change(1, 'A', '09:00'),
      change(2, 'A', '09:00'),
      change(1, 'A', '09:01'),
      change(null, 'A', '09:00'),
    ]),
  );
  const [before, effects] = await rolledBack(warehouse.sql, async (transaction) => {
    const ask = () =>
      transaction`select concat_ws(' ', effect, business_key, batch_id, change_line, to_char(valid_from, 'HH24:MI'), to_char(valid_to, 'HH24:MI'), reason, substring(shown_values from 'order_status=[^,]*')) as line from tidemark.transaction_effects(p_dimension_name => 'orders', p_limit => 2)`;
    const none = await ask();
    await apply(
      transaction,
      batch('b2', '10:00', [
        ...[3, 4, 5].map((id) => change(id, 'A', '09:00')),
        change(1, 'A', '09:10'),
        deletion(2, '09:20'),
        deletion(9, '09:20'),
        change(6, 'A', '09:00', { quantity: 'x' }),
      ]),
    );
    return [none, (await ask()).map(({ line }) => String(line))];
  });
  expect(before).toEqual([]);
  expect(effects).toEqual([
    'opened {"order_key" : 3} b2 1 09:00 order_status=A',
    'opened {"order_key" : 4} b2 2 09:00 order_status=A',
    'altered {"order_key" : 2} b1 2 09:00 09:20 order_status=A',
    'absorbed {"order_key" : 1} b2 4 unchanged order_status=A',
    'absorbed {"order_key" : 2} b2 5 09:20 delete order_status=null',
    'rejected {"order_key" : 6} b2 7 quantity: invalid input syntax for type integer: "x" order_status=A',
  ]);
});

test('tidemark.transaction_effects shows each value cut short, and none of the key', async () => {
  const [row] = await rolledBack(warehouse.sql, async (transaction) => {
    await apply(transaction, batch('wide', '11:00', [change(7, 'x'.repeat(50), '09:00')]));
    return transaction<
      { shown_values: string }[]
    >`select shown_values from tidemark.transaction_effects(p_dimension_name => 'orders', p_limit => 2)`;
  });
  expect(row?.shown_values).toBe(
    `customer_id=101, product_id=201, quantity=2, unit_price=29.99, total_amount=59.98, order_status=${'x'.repeat(40)}..., order_date=2026-02-01T09:00:00`,
  );
});
