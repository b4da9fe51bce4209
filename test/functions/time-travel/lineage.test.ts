import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { changeFrequency, dimensionStatus, lineage, longestHistories } from '../../../runner/warehouse/report.js';
import { createWarehouseDatabase, type TestDatabase } from '../../support/databases.js';
import { apply, batch, change, deletion } from '../../support/batches.js';

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
      { dimension_name: 'seats', total: '0', current: '0', historical: '0', last_batch: 's1' },
    ]);
  });
});
