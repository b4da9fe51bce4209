import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWarehouseDatabase, type TestDatabase } from '../../support/databases.js';
import { apply, batch, change, deletion } from '../../support/batches.js';

let warehouse: TestDatabase;
beforeAll(async () => {
  warehouse = await createWarehouseDatabase();
  await apply(
    warehouse.sql,
    batch('b1', '10:00', [
      change(1, 'pending', '09:00'),
      change(1, 'confirmed', '09:10'),
      change(2, 'pending', '09:05'),
      deletion(2, '09:20'),
      change(2, 'pending', '09:40'),
      change(3, 'pending', '09:00'),
      deletion(3, '09:30'),
    ]),
  );
});
afterAll(async () => {
  await warehouse.drop();
});

describe('dim_orders_history_as_of', () => {
  const asOf = async (moment: string) =>
    (
      await warehouse.sql<{ v: string }[]>`
    select format('%s %s', order_key, order_status) as v from dim_orders_history_as_of(${moment}) order by order_key`
    ).map(({ v }) => v);

  test.each<[string, string, string[]]>([
    ['before everything there is nothing', '2026-02-01 08:59:59.999999', []],
    ['a version is there from its first moment on', '2026-02-01 09:00', ['1 pending', '3 pending']],
    [
      'in between, each order has the version of that time',
      '2026-02-01 09:05',
      ['1 pending', '2 pending', '3 pending'],
    ],
    ['up to the last microsecond of a version', '2026-02-01 09:09:59.999999', ['1 pending', '2 pending', '3 pending']],
    [
      'at the moment of a change the new version alone is there',
      '2026-02-01 09:10',
      ['1 confirmed', '2 pending', '3 pending'],
    ],
    ['at the moment of a deletion the order is gone', '2026-02-01 09:20', ['1 confirmed', '3 pending']],
    ['between deletion and return it stays gone', '2026-02-01 09:39:59.999999', ['1 confirmed']],
    ['an order that came back is there again', '2026-02-01 09:40', ['1 confirmed', '2 pending']],
    ['what is in force now is in force for ever', '2999-01-01', ['1 confirmed', '2 pending']],
    ['even at the end of time', 'infinity', ['1 confirmed', '2 pending']],
  ])('%s', async (_, moment, expected) => {
    expect(await asOf(moment)).toEqual(expected);
  });

  test('shows each order once at most, at any moment', async () => {
    const doubles = await warehouse.sql`
      select m.moment, v.order_key
      from (select valid_from as moment from public.dim_orders_history union select valid_to from public.dim_orders_history) as m
      cross join lateral public.dim_orders_history_as_of(m.moment) as v
      group by m.moment, v.order_key having count(*) > 1`;
    expect(doubles).toHaveLength(0);
  });

  test('gives whole versions, and the planner looks inside', async () => {
    expect(
      await warehouse.sql`select t::text from dim_orders_history_as_of('2026-02-01 09:00') as t where order_key = 1`,
    ).toEqual(
      await warehouse.sql`select t::text from public.dim_orders_history as t where order_key = 1 and not is_current`,
    );
    const plan = await warehouse.sql<
      { 'QUERY PLAN': string }[]
    >`explain select * from dim_orders_history_as_of('2026-02-01 09:00') where order_key = 1`;
    expect(plan.map((row) => row['QUERY PLAN']).join('\n')).toContain('dim_orders_history');
    expect(plan.map((row) => row['QUERY PLAN']).join('\n')).not.toContain('Function Scan');
  });
});

test('dim_orders_current shows the version in force of every order that exists, with all its columns', async () => {
  expect(
    await warehouse.sql`select order_key, order_status, valid_from, valid_to, is_current from dim_orders_current order by order_key`,
  ).toEqual([
    { order_key: 1, order_status: 'confirmed', valid_from: '2026-02-01 09:10:00', valid_to: null, is_current: true },
    { order_key: 2, order_status: 'pending', valid_from: '2026-02-01 09:40:00', valid_to: null, is_current: true },
  ]);
  const columns = async (table: string) =>
    warehouse.sql`select attname, atttypid from pg_attribute where attrelid = ${table}::regclass and attnum > 0 order by attnum`;
  expect(await columns('public.dim_orders_current')).toEqual(await columns('public.dim_orders_history'));
});
