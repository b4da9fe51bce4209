import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { changeFrequency, dimensionStatus, lineage, longestHistories } from '../../../runner/warehouse/functions.js';
import { createWarehouseDatabase, type TestDatabase } from '../../support/databases.js';
import { registerDimension } from '../../support/dimensions.js';
import { apply, batch, change, deletion } from '../../support/batches.js';

const CHANGED_AT_NINE = {
  changed: '2026-02-01T09:00:00Z',
  operation_type: 'UPDATE',
  cdc_timestamp: '2026-02-01T09:00:00Z',
};

let warehouse: TestDatabase;
beforeAll(async () => {
  warehouse = await createWarehouseDatabase();
  await apply(
    warehouse.sql,
    batch('b1', '10:00', [
      change(1, 'A', '09:00'),
      change(1, 'B', '09:10'),
      change(2, 'A', '09:00'),
      change(3, 'A', '09:00'),
    ]),
  );
  await apply(
    warehouse.sql,
    batch('b2', '11:00', [change(1, 'C', '10:30', { quantity: 5 }), deletion(2, '10:40')], { sequence: 2 }),
  );
  await warehouse.sql.unsafe(`
    create table public.dim_seats_history (
      surrogate_key bigint generated always as identity primary key, "Hall" text not null, seat integer not null, guest text,
      valid_from timestamptz not null, valid_to timestamptz, is_current boolean not null, cdc_operation text not null, cdc_timestamp timestamptz not null,
      batch_id text not null, created_at timestamptz not null, updated_at timestamptz not null, captured_at timestamptz not null, change_line integer not null,
      unique ("Hall", seat, valid_from), check (valid_to > valid_from), check (is_current = (valid_to is null)));
    create unique index on public.dim_seats_history ("Hall", seat) where is_current;
    select tidemark.register_dimension('seats', 'public', 'seats', 'public.dim_seats_history', '[
      {"source": "hall", "history": "Hall", "role": "business key"}, {"source": "seat", "history": "seat", "role": "business key"},
      {"source": "guest", "history": "guest", "role": "tracked"}, {"source": "changed", "history": "valid_from", "role": "effective time"}]')`);
  const seat = (guest: string | null, time: string) => ({
    hall: "it's, A",
    seat: 7,
    guest,
    changed: `${time}Z`,
    operation_type: 'UPDATE',
    cdc_timestamp: `${time}Z`,
  });
  await apply(
    warehouse.sql,
    batch('s1', '2026-03-01T10:00:00', [seat('Ann', '2026-03-01T09:00:00'), seat(null, '2026-03-01T09:30:00')], {
      table: 'seats',
    }),
  );
  for (const [name, type, keys] of [
    ['invoices', 'text', ['INV-1', '{INV-2}']],
    ['tokens', 'uuid', ['0f8fad5b-d9cb-469f-a165-70867728950e']],
  ] as const) {
    await registerDimension(warehouse.sql, name, name, [
      { source: 'id', type, role: 'business key' },
      { source: 'changed', type: 'timestamptz', role: 'effective time' },
    ]);
    await apply(
      warehouse.sql,
      batch(
        name,
        '10:00',
        keys.map((id) => ({ id, ...CHANGED_AT_NINE })),
        { table: name },
      ),
    );
  }
  await registerDimension(warehouse.sql, 'documents', 'documents', [
    { source: 'id', type: 'integer', role: 'business key' },
    { source: 'document', type: 'json', role: 'tracked' },
    { source: 'is_open', type: 'boolean', role: 'tracked' },
    { source: 'tags', type: 'text[]', role: 'tracked' },
    { source: 'changed', type: 'timestamptz', role: 'effective time' },
  ]);
  await apply(
    warehouse.sql,
    batch(
      'documents',
      '10:00',
      [
        { id: 1, document: '{"a":"\\u0000"}', is_open: true, tags: '{a,b}', ...CHANGED_AT_NINE },
        {
          id: 1,
          document: '{"a":"\\u0000b"}',
          is_open: false,
          tags: null,
          ...CHANGED_AT_NINE,
          cdc_timestamp: '2026-02-01T09:30:00Z',
        },
      ],
      { table: 'documents' },
    ),
  );
});
afterAll(async () => {
  await warehouse.drop();
});

describe('tidemark.lineage', () => {
  test('gives each version of the key, oldest first, with batch, line, ledger and the columns that changed', async () => {
    const found = await lineage(warehouse.sql, 'orders', ['1']);
    expect(
      found.map((each) => [
        each.valid_from,
        each.valid_to,
        each.cdc_operation,
        each.batch_id,
        each.change_line,
        each.sequence,
        each.differences,
      ]),
    ).toEqual([
      ['2026-02-01 09:00:00', '2026-02-01 09:10:00', 'INSERT', 'b1', 1, null, null],
      ['2026-02-01 09:10:00', '2026-02-01 10:30:00', 'UPDATE', 'b1', 2, null, 'order_status: A → B'],
      ['2026-02-01 10:30:00', null, 'UPDATE', 'b2', 1, '2', 'quantity: 2 → 5, order_status: B → C'],
    ]);
    expect(found[0]).toMatchObject({
      extracted_at: '2026-02-01 10:00:00+00',
      applied_at: expect.stringMatching(/^20/) as string,
    });
  });

  test('takes a key of several columns, of any type and name, and shows nulls', async () => {
    const found = await lineage(warehouse.sql, 'seats', ["it's, A", '7']);
    expect(found.map(({ differences }) => differences)).toEqual([null, 'guest: Ann → null']);
    expect(await lineage(warehouse.sql, 'seats', ["it's, A", '8'])).toEqual([]);
  });

  test.each([
    ["'orders'", "'1'", 3],
    ["'orders'", '1', 3],
    ["'orders'", '1::bigint', 3],
    ["'orders'", "'1'::varchar", 3],
    ["'orders'", "array['1']", 3],
    ["'orders'", 'array[1]', 3],
    ["'seats'", "row('it''s, A', 7)", 2],
    ["'invoices'", "'INV-1'", 1],
    ["'invoices'", "'{INV-2}'", 1],
    ["'tokens'", "uuid '0f8fad5b-d9cb-469f-a165-70867728950e'", 1],
    ["'tokens'", "'0F8FAD5B-D9CB-469F-A165-70867728950E'", 1],
  ])('of %s takes the key as it is written: %s', async (dimension, key, versions) => {
    expect(await warehouse.sql.unsafe(`select from tidemark.lineage(${dimension}, ${key})`)).toHaveLength(versions);
  });

  test('shows what changed in a json column that holds \\u0000, and says of any column what PostgreSQL prints', async () => {
    const found = await warehouse.sql`select differences from tidemark.lineage('documents', 1)`;
    expect(found.map((row) => row.differences as string)).toEqual([
      null,
      'document: {"a":"\\u0000"} → {"a":"\\u0000b"}, is_open: true → false, tags: {a,b} → null',
    ]);
  });

  test('refuses a key of another number of columns (TM020), an unknown dimension, and a value of another type', async () => {
    await expect(lineage(warehouse.sql, 'seats', ['7'])).rejects.toMatchObject({
      code: 'TM020',
      detail: 'dimension=seats key=Hall, seat',
    });
    await expect(lineage(warehouse.sql, 'nothing', ['7'])).rejects.toMatchObject({ code: 'TM020' });
    await expect(lineage(warehouse.sql, 'orders', ['one'])).rejects.toMatchObject({ code: '22P02' });
  });
});

describe('tidemark.change_frequency and tidemark.longest_histories', () => {
  test('count keys by the number of their versions', async () => {
    expect(await changeFrequency(warehouse.sql, 'orders')).toEqual([
      { versions: '1', keys: '2' },
      { versions: '3', keys: '1' },
    ]);
    expect(await changeFrequency(warehouse.sql, 'nothing')).toEqual([]);
  });

  test('list the keys with most versions first, and say which are gone', async () => {
    const found = await longestHistories(warehouse.sql, 'orders', 2);
    expect(found.map((each) => [each.business_key, each.versions, each.is_current])).toEqual([
      ['{"order_key" : 1}', '3', true],
      ['{"order_key" : 2}', '1', false],
    ]);
  });
});

describe('tidemark.dimension_status', () => {
  test('counts the versions of every dimension and names its last batch; one without history has zeros', async () => {
    await warehouse.sql.unsafe('truncate public.dim_seats_history');
    const found = await dimensionStatus(warehouse.sql);
    expect(found.filter(({ dimension_name }) => ['orders', 'seats'].includes(dimension_name))).toMatchObject([
      {
        dimension_name: 'orders',
        total: '5',
        current: '2',
        historical: '3',
        last_batch: 'b2',
        last_applied_at: expect.stringMatching(/^20/) as string,
      },
      { dimension_name: 'seats', total: '0', current: '0', historical: '0', last_batch: 's1', deletes: 'none' },
    ]);
  });
});
