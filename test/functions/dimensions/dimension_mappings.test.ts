import { afterAll, beforeAll, expect, test } from 'vitest';
import { dimensionMappings } from '../../../runner/warehouse/functions.js';
import { createWarehouseDatabase, type TestDatabase } from '../../support/databases.js';

let warehouse: TestDatabase;
beforeAll(async () => {
  warehouse = await createWarehouseDatabase();
});
afterAll(async () => {
  await warehouse.drop();
});

const tracked = ['customer_id', 'product_id', 'quantity', 'unit_price', 'total_amount', 'order_status', 'order_date'];
const TYPES: Readonly<Record<string, string>> = {
  unit_price: 'numeric(10,2)',
  total_amount: 'numeric(10,2)',
  order_status: 'character varying(50)',
  order_date: 'timestamp without time zone',
  valid_from: 'timestamp without time zone',
};
const typed = (columns: readonly { source: string; history: string; role: string }[]) =>
  columns.map((column) => ({ ...column, history_type: TYPES[column.history] ?? 'integer', can_widen: true }));
const OWN = [
  'valid_from',
  'valid_to',
  'is_current',
  'cdc_operation',
  'cdc_timestamp',
  'batch_id',
  'created_at',
  'updated_at',
  'captured_at',
  'change_line',
];
const HISTORY_COLUMNS = ['surrogate_key', 'order_key', ...tracked, ...OWN];

const FOLLOWED = {
  is_paused: false,
  ignored_columns: [],
  retired_columns: [],
  deletes: 'none',
  deleted_column: null,
  deleted_values: null,
  with_children: false,
  key_is_asserted: false,
  capture: 'poll',
};

const ORDERS = {
  dimension_name: 'orders',
  source_schema: 'public',
  source_table: 'orders',
  history_table: 'public.dim_orders_history',
  source_time_zone: 'UTC',
  ...FOLLOWED,
  history_columns: HISTORY_COLUMNS,
  columns: typed([
    { source: 'id', history: 'order_key', role: 'business key' },
    ...tracked.map((name) => ({ source: name, history: name, role: 'tracked' })),
    { source: 'last_updated', history: 'valid_from', role: 'effective time' },
    { source: 'created_at', history: 'valid_from', role: 'insert time' },
  ]),
};

test('a new warehouse knows orders, its columns in the order of the mapping', async () => {
  const mappings = await dimensionMappings(warehouse.sql);
  expect(mappings.map((mapping) => mapping.dimension_name)).toEqual(['customers', 'orders', 'products']);
  expect(mappings[1]).toEqual(ORDERS);
});

test('every dimension is a row, by name, with names as they are and the zone it declared', async () => {
  const columns = [
    { source: 'Touched "at"', history: 'valid_from', role: 'effective time' },
    { source: '{n}', history: 'order_key', role: 'business key' },
    { source: '100%', history: 'order_status', role: 'tracked' },
  ];
  await warehouse.sql`create table public."Other ""history""" (like public.dim_orders_history including all)`;
  await warehouse.sql`
    select tidemark.register_dimension(
      p_dimension_name => 'a_thing', p_source_schema => 'Some schema', p_source_table => 'it''s', p_history_relation => 'public."Other ""history"""',
      p_columns => ${JSON.stringify(columns)}::text::json, p_source_time_zone => 'Europe/Berlin')`;
  expect(
    (await dimensionMappings(warehouse.sql)).filter((mapping) =>
      ['a_thing', 'orders'].includes(mapping.dimension_name),
    ),
  ).toEqual([
    {
      dimension_name: 'a_thing',
      source_schema: 'Some schema',
      source_table: "it's",
      history_table: 'public."Other ""history"""',
      source_time_zone: 'Europe/Berlin',
      columns: typed(columns),
      ...FOLLOWED,
      history_columns: HISTORY_COLUMNS,
    },
    ORDERS,
  ]);
});
