import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { runChecks } from '../../runner/warehouse/checks.js';
import { apply, batch, change, deletion } from '../support/batches.js';
import { isOnCluster } from '../support/cluster.js';
import { createWarehouseDatabase, type TestDatabase } from '../support/databases.js';
import { checksOf, findAfter, hasPsql, runWithPsql, type Violation } from './seeded.js';

let warehouse: TestDatabase;
beforeAll(async () => {
  warehouse = await createWarehouseDatabase();
  // Order 1 changes twice, 2 goes and comes back, 3 goes, 4 comes back at the moment it went, as what it was, 5 only repeats itself.
  await apply(
    warehouse.sql,
    batch(
      'b1',
      '10:00',
      [
        change(1, 'A', '09:00'),
        change(1, 'B', '09:10'),
        change(1, 'C', '09:20'),
        change(2, 'A', '09:00'),
        deletion(2, '09:10'),
        change(2, 'A', '09:30'),
        change(2, 'B', '09:40'),
        change(3, 'A', '09:00'),
        deletion(3, '09:10'),
        change(4, 'A', '09:00'),
        deletion(4, '09:10'),
        change(4, 'A', '09:10'),
        change(5, 'A', '09:00'),
        change(5, 'A', '09:10'),
      ],
      { sequence: 1 },
    ),
  );
  await apply(
    warehouse.sql,
    batch('b2', '11:00', [change(1, 'A', '10:30'), deletion(5, '10:30'), deletion(6, '10:30')], { sequence: 2 }),
  );
});
afterAll(async () => {
  await warehouse.drop();
});

const UNGUARDED = `
  drop index public.dim_orders_history_one_current_version;
  alter table public.dim_orders_history drop constraint dim_orders_history_one_version_a_time,
    drop constraint dim_orders_history_valid_from_precedes_valid_to, drop constraint dim_orders_history_current_has_no_end;`;

const update = (set: string, where: string) =>
  `${UNGUARDED} update public.dim_orders_history set ${set} where ${where};`;
const key = (order: number) => `{"order_key" : ${String(order)}}`;

/** The orders' history as one with partitions, where nothing keeps a surrogate key from being repeated. */
const asPartitioned = `
  create table public.parted (like public.dim_orders_history including defaults including constraints,
    primary key (surrogate_key, order_key), unique (order_key, valid_from)) partition by hash (order_key);
  create unique index on public.parted (order_key) where is_current;
  select tidemark.create_partitions('public.parted', 4);
  insert into public.parted select * from public.dim_orders_history;
  update tidemark.dimensions set history_relation = 'public.parted', distributed_by = null where dimension_name = 'orders';
  select tidemark._create_versions_view();`;

const COLUMNS = `customer_id, product_id, quantity, unit_price, total_amount, order_status, order_date,
  valid_from, valid_to, is_current, cdc_operation, cdc_timestamp, batch_id, captured_at, change_line`;

/** In the shard of another key, and in that of the same one. */
const REPEATED_ON_CLUSTER: readonly Violation[] = [
  {
    check: 'no_surrogate_key_is_repeated',
    seed: `insert into public.dim_orders_history (surrogate_key, order_key, ${COLUMNS}) overriding system value
      select h.surrogate_key, k.key, ${COLUMNS} from public.dim_orders_history as h, generate_series(9, 12) as k (key) where h.order_key = 3`,
    rows: [10, 11, 12, 3, 9].map((order) => ({ business_key: key(order), versions: '5' })),
  },
  {
    check: 'no_surrogate_key_is_repeated',
    seed: `alter table public.dim_orders_history drop constraint dim_orders_history_pkey;
      insert into public.dim_orders_history (surrogate_key, order_key, ${COLUMNS}) overriding system value
      select surrogate_key, order_key, ${COLUMNS.replace('valid_from, valid_to', "valid_from - interval '1 day', valid_from")} from public.dim_orders_history where order_key = 3`,
    rows: ['2026-01-31 09:00:00+00', '2026-02-01 09:00:00+00'].map((time) => ({
      business_key: key(3),
      valid_from: time,
    })),
  },
];

const VIOLATIONS: readonly Violation[] = [
  {
    check: 'a_gap_is_a_delete',
    seed: update("valid_to = '2026-02-01 09:15'", "order_key = 1 and valid_from = '2026-02-01 09:10'"),
    rows: [{ business_key: key(1), valid_to: '2026-02-01 09:15:00+00', next_valid_from: '2026-02-01 09:20:00+00' }],
  },
  {
    check: 'a_gap_is_a_delete',
    seed: update("valid_to = '2026-02-01 12:00', is_current = false", 'order_key = 1 and is_current'),
    rows: [{ business_key: key(1), valid_to: '2026-02-01 12:00:00+00', next_valid_from: null }],
  },
  {
    check: 'a_gap_is_a_delete',
    seed: 'delete from tidemark.absorbed_changes where business_key = \'{"order_key" : 3}\'',
    rows: [{ business_key: key(3), valid_to: '2026-02-01 09:10:00+00' }],
  },
  {
    check: 'a_gap_is_a_delete',
    seed: "update tidemark.absorbed_changes set closed_at = closed_at + interval '1 microsecond' where business_key = '{\"order_key\" : 3}'",
    rows: [{ business_key: key(3) }],
  },
  {
    check: 'a_gap_is_a_delete',
    seed: "update tidemark.absorbed_changes set closed_at = null, reason = 'unchanged' where business_key = '{\"order_key\" : 3}'",
    rows: [{ business_key: key(3) }],
  },
  {
    check: 'a_life_begins_with_an_insert',
    seed: update("cdc_operation = 'UPDATE'", 'order_key = 3'),
    rows: [{ business_key: key(3), cdc_operation: 'UPDATE', previous_valid_to: null }],
  },
  {
    check: 'a_life_begins_with_an_insert',
    seed: update("cdc_operation = 'UPDATE'", "order_key = 2 and valid_from = '2026-02-01 09:30'"),
    rows: [{ business_key: key(2), previous_valid_to: '2026-02-01 09:10:00+00' }],
  },
  {
    check: 'a_life_begins_with_an_insert',
    seed: update("cdc_operation = 'INSERT'", "order_key = 1 and valid_from = '2026-02-01 09:20'"),
    rows: [{ business_key: key(1), cdc_operation: 'INSERT' }],
  },
  {
    check: 'a_life_begins_with_an_insert',
    seed: 'delete from tidemark.absorbed_changes where business_key = \'{"order_key" : 4}\'',
    rows: [{ business_key: key(4), cdc_operation: 'INSERT' }],
  },
  {
    check: 'current_flag_agrees_with_open_end',
    seed: update('is_current = false', 'order_key = 1 and valid_to is null'),
    rows: [{ business_key: key(1), is_current: false, valid_to: null }],
  },
  {
    check: 'current_flag_agrees_with_open_end',
    seed: update('is_current = true', 'order_key = 3'),
    rows: [{ business_key: key(3), is_current: true, valid_to: '2026-02-01 09:10:00+00' }],
  },
  {
    check: 'current_flag_agrees_with_open_end',
    seed: `${UNGUARDED} alter table public.dim_orders_history alter is_current drop not null; update public.dim_orders_history set is_current = null where order_key = 3;`,
    rows: [{ business_key: key(3), is_current: null }],
  },
  {
    check: 'every_history_defends_itself',
    seed: 'drop index public.dim_orders_history_one_current_version',
    rows: [{ fault: 'history table public.dim_orders_history has no unique (business key) where is_current' }],
  },
  {
    check: 'every_history_defends_itself',
    seed: 'alter table public.dim_orders_history drop constraint dim_orders_history_one_version_a_time',
    rows: [{ fault: 'history table public.dim_orders_history has no unique (business key, valid_from)' }],
  },
  {
    check: 'every_history_defends_itself',
    seed: 'alter table public.dim_orders_history drop constraint dim_orders_history_valid_from_precedes_valid_to, drop constraint dim_orders_history_current_has_no_end',
    rows: [
      { fault: 'history table public.dim_orders_history has no check (is_current = (valid_to is null))' },
      { fault: 'history table public.dim_orders_history has no check (valid_to > valid_from)' },
    ],
  },
  {
    check: 'neighbours_differ',
    seed: update("order_status = 'B'", "order_key = 1 and valid_from = '2026-02-01 09:20'"),
    rows: [{ business_key: key(1), valid_from: '2026-02-01 09:20:00+00' }],
  },
  {
    check: 'no_surrogate_key_is_repeated',
    seed: `${asPartitioned} insert into public.parted select (p).* from (
      select jsonb_populate_record(h, '{"order_key": 9}') as p from public.parted as h where h.order_key = 3) as s`,
    rows: [3, 9].map((order) => ({ business_key: key(order), valid_from: '2026-02-01 09:00:00+00', versions: '2' })),
  },
  ...(isOnCluster() ? REPEATED_ON_CLUSTER : []),
  {
    check: 'one_current_version_a_key',
    seed: update('is_current = true, valid_to = null', 'order_key = 1'),
    rows: [{ business_key: key(1), current_versions: '4' }],
  },
  {
    check: 'valid_from_precedes_valid_to',
    seed: update('valid_to = valid_from', 'order_key = 3'),
    rows: [{ business_key: key(3) }],
  },
  {
    check: 'valid_from_precedes_valid_to',
    seed: update("valid_to = valid_from - interval '1 second'", 'order_key = 3'),
    rows: [{ business_key: key(3) }],
  },
  {
    check: 'versions_do_not_overlap',
    seed: update("valid_to = valid_to + interval '1 microsecond'", "order_key = 1 and valid_from = '2026-02-01 09:10'"),
    rows: [
      { business_key: key(1), valid_to: '2026-02-01 09:20:00.000001+00', next_valid_from: '2026-02-01 09:20:00+00' },
    ],
  },
  {
    check: 'versions_do_not_overlap',
    seed: update('valid_to = null', "order_key = 2 and valid_from = '2026-02-01 09:00'"),
    rows: [{ business_key: key(2), valid_to: null, next_valid_from: '2026-02-01 09:30:00+00' }],
  },
  {
    check: 'versions_do_not_overlap',
    seed: update("valid_from = '2026-02-01 09:00'", "order_key = 1 and valid_from = '2026-02-01 09:10'"),
    rows: [{ business_key: key(1), valid_from: '2026-02-01 09:00:00+00' }],
  },
];

test('good data, with lives that end and begin again, pass every check', async () => {
  expect(await findAfter(warehouse, 'scd2', '')).toEqual({});
  expect(
    (await runChecks(warehouse.sql, ['scd2'])).map(({ check, violations }) => [check.replaceAll(' ', '_'), violations]),
  ).toEqual((await checksOf('scd2')).map((check) => [check, 0]));
});

test('an empty warehouse passes every check', async () => {
  expect(await findAfter(warehouse, 'scd2', 'truncate tidemark.batches, public.dim_orders_history cascade')).toEqual(
    {},
  );
});

test.each(VIOLATIONS)('$check finds: $seed', async ({ check, seed, rows }) => {
  expect((await findAfter(warehouse, 'scd2', seed))[check]).toEqual(
    rows.map((row) => expect.objectContaining({ dimension_name: 'orders', ...row }) as unknown),
  );
});

// every_history_defends_itself shows what tidemark.dimension_faults finds.
test('every check is shown failing', async () => {
  expect([...new Set(VIOLATIONS.map(({ check }) => check))].sort()).toEqual(await checksOf('scd2'));
});

describe.skipIf(!hasPsql('scd2'))('with psql -f', () => {
  test('every check runs, and says nothing about good data', async () => {
    for (const check of await checksOf('scd2'))
      expect(runWithPsql(warehouse, 'scd2', check), check).toEqual({ status: 0, stdout: '', stderr: '' });
  });
});
