// Runs on each version: the demo makes the same on each.
import { expect, test } from 'vitest';
import { simulate } from '../../runner/demo/simulate.js';
import { createSourceDatabase } from '../support/databases.js';

test('a seed makes the same orders, customers and products on every version of PostgreSQL', async () => {
  const { sql, drop } = await createSourceDatabase();
  const traffic = { seed: 42, rate: undefined, duration: undefined, changes: 300, watch: false };
  await simulate(sql, { ...traffic, signal: new AbortController().signal });
  const [digests] = await sql`
    select
      (select md5(string_agg(concat_ws(' ', id, customer_id, product_id, quantity, unit_price, total_amount, order_status), ',' order by id)) from public.orders) as orders,
      (select md5(string_agg(concat_ws(' ', id, full_name, email, city, loyalty_tier), ',' order by id)) from public.customers) as customers,
      (select md5(string_agg(concat_ws(' ', id, title, category, unit_price, attributes, stock), ',' order by id)) from public.products) as products`;
  await drop();
  expect(digests).toEqual({
    orders: 'a4aa8201f7603b938ab749bcab0b4263',
    customers: '076b68dc2ab213b5ecf947421e423e44',
    products: '50a78ff630ddeaed3a28369a971b9221',
  });
});
