import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Transaction } from '../../../runner/base/database.js';
import { createWarehouseDatabase, type TestDatabase } from '../../support/databases.js';
import { apply, batch, change, rolledBack, type TestTransaction } from '../../support/batches.js';
import { IS_PARTITIONED } from '../../support/partitions.js';

/**
 * What happens to a dimension after its registration: tidemark.dimension_list, tidemark.ignore_columns, tidemark.pause_dimension,
 * tidemark.remove_dimension, tidemark.retire_source_column and tidemark.retype_history_column.
 */

let warehouse: TestDatabase;
beforeAll(async () => {
  warehouse = await createWarehouseDatabase();
});
afterAll(async () => {
  await warehouse.drop();
});

/** What a statement says when it fails; undefined where it does not. */
const failureOf = (transaction: TestTransaction, statement: string): Promise<unknown> =>
  transaction
    .savepoint((inner) => inner.unsafe(statement))
    .then(
      () => undefined,
      (error: unknown) => error,
    );

const fill = (transaction: Transaction) =>
  apply(
    transaction,
    batch('b1', '10:00', [
      change(1, 'pending', '09:00'),
      change(1, 'confirmed', '09:10'),
      change(2, 'pending', '09:00'),
    ]),
  );

describe('every function refuses a dimension that is not registered', () => {
  test.each([
    ["tidemark.ignore_columns('nothing', array['a'])"],
    ["tidemark.pause_dimension('nothing', true)"],
    ["tidemark.remove_dimension('nothing')"],
    ["tidemark.retire_source_column('nothing', 'a')"],
    ["tidemark.retype_history_column('nothing', 'a', 'text')"],
  ])('%s', async (call) => {
    await expect(warehouse.sql.unsafe(`select ${call}`)).rejects.toMatchObject({
      code: 'TM002',
      hint: expect.stringContaining('table list') as string,
    });
  });
});

test('a history table that was dropped by hand is said to be gone (TM025): by what compares, replays or loads, which write nothing', async () => {
  const failures = await rolledBack(warehouse.sql, async (transaction) => {
    await transaction`drop table dim_orders_history cascade`;
    const calls = ["tidemark.comparison_columns('orders')", "tidemark.open_replay('orders', false)"];
    const failed = [];
    for (const call of calls) failed.push(await failureOf(transaction, `select ${call}`));
    failed.push(
      await fill(transaction).then(
        () => undefined,
        (error: unknown) => error,
      ),
    );
    return failed;
  });
  expect(failures).toHaveLength(3);
  for (const failure of failures)
    expect(failure).toMatchObject({ code: 'TM025', hint: expect.stringContaining('table remove orders') as string });
});

describe('tidemark.pause_dimension', () => {
  test('is seen in the list and the mapping, keeps the moment it was first said, and is taken back', async () => {
    const seen = await rolledBack(warehouse.sql, async (transaction) => {
      const look = async () =>
        (
          await transaction`
        select l.state, m.is_paused, (d.paused_at = '2026-01-01 00:00+00') is true as is_first from tidemark.dimension_list() as l
        join tidemark.dimension_mappings() as m using (dimension_name) join tidemark.dimensions as d using (dimension_name) where dimension_name = 'orders'`
        )[0];
      await transaction`select tidemark.pause_dimension('orders', true)`;
      await transaction`update tidemark.dimensions set paused_at = '2026-01-01 00:00+00' where paused_at is not null`;
      await transaction`select tidemark.pause_dimension('orders', true)`;
      const paused = await look();
      await transaction`select tidemark.pause_dimension('orders', false)`;
      return [paused, await look()];
    });
    expect(seen).toEqual([
      { state: 'paused', is_paused: true, is_first: true },
      { state: 'active', is_paused: false, is_first: false },
    ]);
  });
});

describe('tidemark.dimension_list', () => {
  test('shows where each dimension stands', async () => {
    const rows = await rolledBack(warehouse.sql, async (transaction) => {
      await fill(transaction);
      return transaction`select dimension_name, source_table, history_table, state, columns, batches, last_extracted_at, last_applied_at is not null as is_applied from tidemark.dimension_list()`;
    });
    expect(rows.map((row) => row.dimension_name as string)).toEqual(['customers', 'orders', 'products']);
    expect(rows[1]).toMatchObject({
      source_table: 'public.orders',
      history_table: 'public.dim_orders_history',
      state: 'active',
      columns: '10',
      batches: '1',
      last_extracted_at: '2026-02-01 10:00:00+00',
      is_applied: true,
    });
    expect(rows[0]).toMatchObject({ batches: '0', last_extracted_at: null, is_applied: false });
  });
});

describe('tidemark.ignore_columns', () => {
  test('may be repeated, and refuses a column that history has', async () => {
    const outcome = await rolledBack(warehouse.sql, async (transaction) => {
      await transaction`select tidemark.ignore_columns('orders', array['note', 'note', 'other'])`;
      await transaction`select tidemark.ignore_columns('orders', array['note'])`;
      const failure = await failureOf(transaction, "select tidemark.ignore_columns('orders', array['x', 'quantity'])");
      return {
        failure,
        rows: await transaction`select ignored_columns from tidemark.dimension_mappings() where dimension_name = 'orders'`,
      };
    });
    expect(outcome.rows).toEqual([{ ignored_columns: ['note', 'other'] }]);
    expect(outcome.failure).toMatchObject({ code: 'TM007', detail: 'dimension=orders columns=quantity' });
  });
});

describe('tidemark.retire_source_column', () => {
  test.each([
    ['id', 'history cannot do without the column'],
    ['last_updated', 'history cannot do without the column'],
    ['nothing', 'the column is not mapped to history'],
    ['quantity', 'history column quantity is not null, but from now on nothing fills it'],
  ])('refuses %s: %s', async (column, message) => {
    await expect(warehouse.sql`select tidemark.retire_source_column('orders', ${column})`).rejects.toMatchObject({
      code: 'TM007',
      message,
      hint: expect.any(String) as string,
    });
  });

  test('takes the insert time, and what may be null; a batch without the column loads, and versions nothing', async () => {
    const outcome = await rolledBack(warehouse.sql, async (transaction) => {
      await fill(transaction);
      await transaction`alter table dim_orders_history alter column quantity drop not null`;
      await transaction`select tidemark.retire_source_column('orders', 'created_at'), tidemark.retire_source_column('orders', 'quantity')`;
      const { quantity, created_at, ...rest } = change(2, 'pending', '09:20');
      const result = await apply(transaction, batch('b2', '11:00', [rest]));
      const [mapping] = await transaction<{ retired_columns: string[]; names: string[] }[]>`
        select retired_columns, (select array_agg(c ->> 'source') from json_array_elements(columns) as c) as names from tidemark.dimension_mappings() where dimension_name = 'orders'`;
      return { result, mapping, left: [quantity, created_at] };
    });
    expect(outcome.result).toMatchObject({ inserted_versions: '0', absorbed_changes: '1' });
    expect(outcome.mapping?.retired_columns).toEqual(['quantity', 'created_at']);
    expect(outcome.mapping?.names).not.toContain('quantity');
  });
});

describe('tidemark.retype_history_column', () => {
  test.skipIf(IS_PARTITIONED)('makes room, and leaves views in place', async () => {
    const rows = await rolledBack(warehouse.sql, async (transaction) => {
      await fill(transaction);
      await transaction`create view version_count as select count(*) as n from tidemark.versions`;
      await transaction`select tidemark.retype_history_column('orders', 'customer_id', 'bigint'), tidemark.retype_history_column('orders', 'order_key', 'text')`;
      await apply(transaction, batch('b2', '11:00', [change(3, 'pending', '10:30', { customer_id: 5_000_000_000 })]));
      return transaction`select n, (select max(customer_id) from dim_orders_history) as customer, (select pg_typeof(order_key)::text from dim_orders_history limit 1) as type from version_count`;
    });
    expect(rows).toEqual([{ n: '4', customer: '5000000000', type: 'text' }]);
  });

  test.each([
    [
      "tidemark.retype_history_column('orders', 'unit_price', 'numeric(12,4)')",
      'TM007',
      'a value of history would not print the same in the new type',
      '',
    ],
    [
      "tidemark.retype_history_column('orders', 'batch_id', 'text')",
      'TM007',
      'no source column is mapped to the history column',
      '',
    ],
    [
      "tidemark.retype_history_column('orders', 'quantity', 'bigint')",
      'TM024',
      'history cannot follow to another type: public.summed shows the column, and is a materialized view',
      'create materialized view summed as select sum(quantity) from dim_orders_history',
    ],
    [
      "tidemark.retype_history_column('orders', 'quantity', 'bigint')",
      'TM024',
      'history cannot follow to another type: cannot drop view public.dim_orders_current because other objects depend on it',
      `create function dependent() returns setof dim_orders_current language sql as 'select * from dim_orders_current'`,
    ],
  ])('refuses %s: %s %s', async (call, code, message, dependent) => {
    const failure = await rolledBack(warehouse.sql, async (transaction) => {
      await fill(transaction);
      await transaction.unsafe(dependent);
      return failureOf(transaction, `select ${call}`);
    });
    expect(failure).toMatchObject({ code, message });
  });
});

describe('tidemark.remove_dimension', () => {
  const left = (transaction: Transaction) => transaction<{ n: number }[]>`
    select count(*)::integer as n from (
      select dimension_name from tidemark.dimensions union all select dimension_name from tidemark.dimension_columns union all select dimension_name from tidemark.batches
      union all select dimension_name from tidemark.absorbed_changes union all select dimension_name from tidemark.rejected_changes union all select dimension_name from tidemark.versions
      union all select dimension_name from tidemark.ignored_columns) as t where dimension_name = 'orders'`;

  test('keeps the history and nothing else', async () => {
    const outcome = await rolledBack(warehouse.sql, async (transaction) => {
      await fill(transaction);
      await apply(
        transaction,
        batch('b2', '11:00', [change(2, 'pending', '09:00'), change(3, 'x'.repeat(60), '10:00')]),
      );
      await transaction`select tidemark.ignore_columns('orders', array['note'])`;
      const [removed] = await transaction`select tidemark.remove_dimension('orders') as history`;
      return {
        removed,
        left: await left(transaction),
        versions: await transaction`select count(*)::integer as n from public.dim_orders_history`,
      };
    });
    expect(outcome).toEqual({
      removed: { history: 'public.dim_orders_history' },
      left: [{ n: 0 }],
      versions: [{ n: 3 }],
    });
  });

  test('drops the history too where that is said, with its view and both its as-of functions', async () => {
    const gone = await rolledBack(warehouse.sql, async (transaction) => {
      await transaction`select tidemark.remove_dimension('orders', true)`;
      return transaction`select to_regclass('public.dim_orders_history') as h, to_regclass('public.dim_orders_current') as c, (select count(*)::integer from pg_proc where proname = 'dim_orders_history_as_of') as f`;
    });
    expect(gone).toEqual([{ h: null, c: null, f: 0 }]);
  });

  test('drops nothing that somebody else has built on, and then removes nothing either', async () => {
    const outcome = await rolledBack(warehouse.sql, async (transaction) => {
      await transaction`create view mine as select order_key from dim_orders_history`;
      const failure = await failureOf(transaction, "select tidemark.remove_dimension('orders', true)");
      return { failure, rows: await transaction`select 1 from tidemark.dimensions where dimension_name = 'orders'` };
    });
    expect(outcome.failure).toMatchObject({
      code: 'TM013',
      detail: expect.stringContaining('mine depends on') as string,
    });
    expect(outcome.rows).toHaveLength(1);
  });

  test('of the last one leaves the view of all versions in place, empty', async () => {
    const rows = await rolledBack(warehouse.sql, async (transaction) => {
      await fill(transaction);
      await transaction`select tidemark.remove_dimension(dimension_name) from (select dimension_name from tidemark.dimensions) as d`;
      return transaction`select count(*)::integer as n from tidemark.versions`;
    });
    expect(rows).toEqual([{ n: 0 }]);
  });
});
