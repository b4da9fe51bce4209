import { spawnSync } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { runChecks } from '../../../runner/warehouse/checks.js';
import { PROJECT_ROOT } from '../../../runner/base/settings.js';
import { connect, type Database } from '../../../runner/base/database.js';
import { createWarehouseDatabase, type TestDatabase } from '../../support/databases.js';
import {
  absorbed,
  alreadyApplied,
  apply,
  applied,
  batch,
  change,
  deletion,
  empty,
  everything,
  rolledBack,
  versions,
  type Change,
} from '../../support/batches.js';

let warehouse: TestDatabase;
let sql: Database;
beforeAll(async () => {
  warehouse = await createWarehouseDatabase();
  sql = warehouse.sql;
});
beforeEach(async () => {
  await empty(sql);
});
afterAll(async () => {
  await warehouse.drop();
});

const failure = (code: string, words: { message?: string; detail?: string; hint?: string } = {}) =>
  expect.objectContaining({
    code,
    ...Object.fromEntries(Object.entries(words).map(([name, text]) => [name, expect.stringContaining(text) as string])),
  }) as object;

const ORDER_1 = ['1 pending [09:00, 09:10) INSERT', '1 confirmed [09:10, ) UPDATE'];

describe('a change', () => {
  test('of a new key opens its first version', async () => {
    expect(
      await apply(sql, batch('b1', '10:00', [change(1, 'pending', '09:00'), change(2, 'pending', '09:15')])),
    ).toEqual(applied({ inserted_versions: 2 }));
    expect(await versions(sql)).toEqual(['1 pending [09:00, ) INSERT', '2 pending [09:15, ) INSERT']);
  });

  test('of a known key closes the version in force and opens the next one', async () => {
    await apply(sql, batch('b1', '09:05', [change(1, 'pending', '09:00', { operation_type: 'INSERT' })]));
    expect(await apply(sql, batch('b2', '10:00', [change(1, 'confirmed', '09:10')]))).toEqual(
      applied({ inserted_versions: 1, closed_versions: 1 }),
    );
    expect(await versions(sql)).toEqual(ORDER_1);
  });

  test('is an INSERT where a life begins and an UPDATE elsewhere, whatever extraction guessed', async () => {
    await apply(
      sql,
      batch('b1', '10:00', [
        change(1, 'pending', '09:00', { operation_type: 'UPDATE' }),
        change(1, 'confirmed', '09:10', { operation_type: 'INSERT' }),
      ]),
    );
    expect(await versions(sql)).toEqual(ORDER_1);
  });

  test('becomes a version each, chained to the next, when a batch has several of one key', async () => {
    const result = await apply(
      sql,
      batch('b1', '10:00', [
        change(1, 'pending', '09:00'),
        change(2, 'pending', '09:01'),
        change(1, 'confirmed', '09:10'),
        change(1, 'shipped', '09:20'),
        change(2, 'cancelled', '09:30'),
      ]),
    );
    expect(result).toEqual(applied({ inserted_versions: 5, closed_versions: 3 }));
    expect(await versions(sql)).toEqual([
      '1 pending [09:00, 09:10) INSERT',
      '1 confirmed [09:10, 09:20) UPDATE',
      '1 shipped [09:20, ) UPDATE',
      '2 pending [09:01, 09:30) INSERT',
      '2 cancelled [09:30, ) UPDATE',
    ]);
  });

  test.each<[string, Change[], object, string[]]>([
    ['each once', [change(9, 'A', '09:30'), change(8, 'A', '09:20')], { inserted_versions: 2 }, ['8 A', '9 A']],
    [
      'one of them twice',
      [change(8, 'A', '09:20'), change(9, 'A', '09:30'), change(8, 'B', '09:40')],
      { inserted_versions: 3, closed_versions: 1 },
      ['8 A', '8 B', '9 A'],
    ],
    [
      'one of them deleted',
      [change(8, 'A', '09:20'), deletion(9, '09:30')],
      { inserted_versions: 1, absorbed_changes: 1 },
      ['8 A', 'nothing to delete'],
    ],
    [
      'the greatest that there is among them',
      [change(8, 'A', '09:20'), change(7, 'B', '09:30')],
      { inserted_versions: 2, closed_versions: 1 },
      ['7 B', '8 A'],
    ],
    [
      'the greatest that there is among them, unchanged',
      [change(8, 'A', '09:20'), change(7, 'A', '09:30')],
      { inserted_versions: 1, absorbed_changes: 1 },
      ['8 A', 'unchanged'],
    ],
  ])('of keys beyond all that there are, %s, does what others do', async (_, changes, counts, opened) => {
    await apply(sql, batch('b1', '09:05', [change(3, 'A', '09:00'), change(7, 'A', '09:00')]));
    expect(await apply(sql, batch('b2', '10:00', changes))).toEqual(applied(counts));
    const rows = await sql<{ version: string }[]>`
      select order_key || ' ' || order_status as version from public.dim_orders_history where batch_id = 'b2'
      union all
      select reason from tidemark.absorbed_changes order by 1`;
    expect(rows.map(({ version }) => version)).toEqual(opened);
  });

  test('counts one closed version of an earlier batch and those that the batch opened itself', async () => {
    await apply(sql, batch('b1', '09:05', [change(1, 'pending', '09:00')]));
    expect(
      await apply(sql, batch('b2', '10:00', [change(1, 'confirmed', '09:10'), change(1, 'shipped', '09:20')])),
    ).toEqual(applied({ inserted_versions: 2, closed_versions: 2 }));
  });

  test('keeps the value of every column, its batch, its line, its capture and its own time', async () => {
    const values = {
      customer_id: 7,
      product_id: 8,
      quantity: 9,
      unit_price: 0.1,
      total_amount: 12345678.9,
      order_date: '2026-01-31T23:59:59.123456',
    };
    await apply(sql, batch('b1', '10:00', [change(1, 'x', '09:00'), change(5, 'pending', '11:00', values)]));
    const [row] = await sql`select t::text as row from public.dim_orders_history as t where order_key = 5`;
    const written = '"20[^"]*"';
    expect(row?.row).toMatch(
      new RegExp(
        `^\\(2,5,7,8,9,0.10,12345678.90,pending,"2026-01-31 23:59:59.123456","2026-02-01 10:00:00",,t,INSERT,"2026-02-01 11:00:00",b1,${written},${written},"2026-02-01 10:00:00\\+00",2\\)$`,
      ),
    );
  });

  test('takes its surrogate key in the order of the file, whatever its business key', async () => {
    await apply(
      sql,
      batch('b1', '10:00', [
        change(3, 'A', '09:00'),
        change(1, 'A', '09:00'),
        change(2, 'A', '09:00'),
        change(1, 'B', '09:10'),
        change(3, 'B', '09:10'),
      ]),
    );
    expect(
      await sql`select surrogate_key, order_key, change_line from public.dim_orders_history order by surrogate_key`,
    ).toEqual(
      [3, 1, 2, 1, 3].map((order_key, index) => ({
        surrogate_key: String(index + 1),
        order_key,
        change_line: index + 1,
      })),
    );
  });

  test('leaves other versions as they were, their updated_at included', async () => {
    await apply(sql, batch('b1', '09:05', [change(1, 'pending', '09:00'), change(2, 'pending', '09:00')]));
    const before = await sql`select t::text from public.dim_orders_history as t where order_key = 2`;
    await apply(sql, batch('b2', '10:00', [change(1, 'confirmed', '09:10')]));
    expect(await sql`select t::text from public.dim_orders_history as t where order_key = 2`).toEqual(before);
    const [touched] =
      await sql`select updated_at > created_at as is_later from public.dim_orders_history where order_key = 1 and not is_current`;
    expect(touched).toEqual({ is_later: true });
  });

  test('is written with the time of its transaction in UTC, wherever the session is', async () => {
    const row = await rolledBack(sql, async (transaction) => {
      await transaction`set local timezone = 'Asia/Tokyo'`;
      await apply(transaction, batch('b1', '10:00', [change(1, 'pending', '09:00')]));
      return transaction`select created_at = now() at time zone 'UTC' as created, updated_at = now() at time zone 'UTC' as updated from public.dim_orders_history`;
    });
    expect(row).toEqual([{ created: true, updated: true }]);
  });

  test('needs no extracted_at of its own', async () => {
    expect(await apply(sql, batch('b1', '10:00', [JSON.stringify(change(1, 'pending', '09:00'))]))).toEqual(
      applied({ inserted_versions: 1 }),
    );
  });

  test('may say the instants of its times in any zone', async () => {
    await apply(
      sql,
      batch('b1', '10:00', [
        change(1, 'pending', '2026-02-01T18:00:00+09:00', {
          extracted_at: '2026-02-01T19:00:00+09:00',
          order_date: '2026-02-01T18:00:00+09:00',
        }),
      ]),
    );
    expect(await versions(sql)).toEqual(['1 pending [09:00, ) INSERT']);
    expect(await sql`select order_date::text as order_date from public.dim_orders_history`).toEqual([
      { order_date: '2026-02-01 09:00:00' },
    ]);
  });
});

describe('a repeat', () => {
  test('of the version in force is absorbed and kept aside as it came', async () => {
    await apply(sql, batch('b1', '09:30', [change(1, 'pending', '09:00')]));
    const before = await sql`select t::text from public.dim_orders_history as t`;
    expect(await apply(sql, batch('b2', '10:00', [change(1, 'pending', '09:20')]))).toEqual(
      applied({ absorbed_changes: 1 }),
    );
    expect(await sql`select t::text from public.dim_orders_history as t`).toEqual(before);
    expect(await absorbed(sql)).toEqual(['b2:1 UPDATE {"order_key" : 1} unchanged']);
    expect(await sql`select shard, cdc_timestamp, captured_at, change from tidemark.absorbed_changes`).toEqual([
      {
        shard: '',
        cdc_timestamp: '2026-02-01 09:20:00+00',
        captured_at: '2026-02-01 10:00:00+00',
        change: {
          id: 1,
          customer_id: 101,
          product_id: 201,
          quantity: 2,
          unit_price: 29.99,
          total_amount: 59.98,
          order_status: 'pending',
          order_date: '2026-02-01T09:00:00',
          operation_type: 'UPDATE',
          cdc_timestamp: '2026-02-01T09:20:00+00:00',
          extracted_at: '2026-02-01T10:00:00+00:00',
        },
      },
    ]);
  });

  test('within a batch is absorbed, and a return to what was before is none: A, A, B, B, A', async () => {
    const states = ['A', 'A', 'B', 'B', 'A'].map((status, minute) => change(1, status, `09:0${String(minute)}`));
    expect(await apply(sql, batch('b1', '10:00', states))).toEqual(
      applied({ inserted_versions: 3, closed_versions: 2, absorbed_changes: 2 }),
    );
    expect(await versions(sql)).toEqual([
      '1 A [09:00, 09:02) INSERT',
      '1 B [09:02, 09:04) UPDATE',
      '1 A [09:04, ) UPDATE',
    ]);
    expect(await absorbed(sql)).toEqual([
      'b1:2 UPDATE {"order_key" : 1} unchanged',
      'b1:4 UPDATE {"order_key" : 1} unchanged',
    ]);
  });

  test('spread over a batch each gives the same: A, A, B, B, A', async () => {
    for (const [minute, status] of ['A', 'A', 'B', 'B', 'A'].entries()) {
      const time = `09:0${String(minute)}`;
      await apply(sql, batch(`b${String(minute)}`, time, [change(1, status, time)]));
    }
    expect(await versions(sql)).toEqual([
      '1 A [09:00, 09:02) INSERT',
      '1 B [09:02, 09:04) UPDATE',
      '1 A [09:04, ) UPDATE',
    ]);
    expect(await absorbed(sql)).toEqual([
      'b1:1 UPDATE {"order_key" : 1} unchanged',
      'b3:1 UPDATE {"order_key" : 1} unchanged',
    ]);
  });

  test('does not move the time from which a later change counts', async () => {
    await apply(sql, batch('b1', '10:00', [change(1, 'A', '09:00'), change(1, 'A', '09:30'), change(1, 'B', '09:10')]));
    expect(await versions(sql)).toEqual(['1 A [09:00, 09:10) INSERT', '1 B [09:10, ) UPDATE']);
  });

  test('with a number that prints alike in its column is a repeat, and is kept aside as it prints there', async () => {
    await apply(sql, batch('b1', '10:00', [change(1, 'A', '09:00', { unit_price: 29.9 })]));
    const line = JSON.stringify({ ...change(1, 'A', '09:10'), unit_price: 'PRICE' }).replace('"PRICE"', '29.900');
    expect(await apply(sql, batch('b2', '10:01', [line]))).toEqual(applied({ absorbed_changes: 1 }));
    expect(await sql`select (change -> 'unit_price')::text as unit_price from tidemark.absorbed_changes`).toEqual([
      { unit_price: '29.90' },
    ]);
  });

  test.each<[string, Change]>([
    ['customer_id', { customer_id: 102 }],
    ['product_id', { product_id: 202 }],
    ['quantity', { quantity: 3 }],
    ['unit_price', { unit_price: 29.98 }],
    ['total_amount', { total_amount: 59.99 }],
    ['order_status', { order_status: 'A ' }],
    ['order_date', { order_date: '2026-02-01T09:00:00.000001' }],
  ])('it is none when %s alone differs', async (_, difference) => {
    await apply(sql, batch('b1', '10:00', [change(1, 'A', '09:00')]));
    expect(await apply(sql, batch('b2', '10:01', [change(1, 'A', '09:10', difference)]))).toEqual(
      applied({ inserted_versions: 1, closed_versions: 1 }),
    );
  });
});

describe('a DELETE', () => {
  beforeEach(async () => {
    await apply(sql, batch('b1', '09:05', [change(1, 'pending', '09:00')]));
  });

  test('closes the version in force', async () => {
    expect(await apply(sql, batch('b2', '10:00', [deletion(1, '09:30')]))).toEqual(
      applied({ closed_versions: 1, absorbed_changes: 1 }),
    );
    expect(await versions(sql)).toEqual(['1 pending [09:00, 09:30) INSERT']);
    expect(await absorbed(sql)).toEqual(['b2:1 DELETE {"order_key" : 1} delete 09:30']);
  });

  test('closes a version that its own batch opened', async () => {
    expect(await apply(sql, batch('b2', '10:00', [change(2, 'pending', '09:00'), deletion(2, '09:30')]))).toEqual(
      applied({ inserted_versions: 1, closed_versions: 1, absorbed_changes: 1 }),
    );
    expect((await versions(sql)).at(-1)).toBe('2 pending [09:00, 09:30) INSERT');
  });

  test.each<[string, string, string]>([
    ['before', '08:00', '10:00'],
    ['equal to', '09:00', '10:00'],
    ['infinitely after', 'infinity', '10:00'],
    ['after its capture but also after', '10:00:00.000001', '10:00'],
  ])('with a time %s the valid_from in force closes at its capture', async (_, time, end) => {
    await apply(sql, batch('b2', '10:00', [deletion(1, time)]));
    expect(await versions(sql)).toEqual([`1 pending [09:00, ${end}) INSERT`]);
    expect(await absorbed(sql)).toEqual([`b2:1 DELETE {"order_key" : 1} delete ${end}`]);
  });

  test('of a key that is not there is absorbed, as is a second one', async () => {
    expect(
      await apply(sql, batch('b2', '10:00', [deletion(7, '09:30'), deletion(1, '09:30'), deletion(1, '09:40')])),
    ).toEqual(applied({ closed_versions: 1, absorbed_changes: 3 }));
    expect(await apply(sql, batch('b3', '10:01', [deletion(1, '09:50')]))).toEqual(applied({ absorbed_changes: 1 }));
    expect(await absorbed(sql)).toEqual([
      'b2:1 DELETE {"order_key" : 7} nothing to delete',
      'b2:2 DELETE {"order_key" : 1} delete 09:30',
      'b2:3 DELETE {"order_key" : 1} nothing to delete',
      'b3:1 DELETE {"order_key" : 1} nothing to delete',
    ]);
  });

  test('may carry all columns, and they count for nothing', async () => {
    expect(
      await apply(sql, batch('b2', '10:00', [{ ...change(1, 'anything', '09:30'), operation_type: 'DELETE' }])),
    ).toEqual(applied({ closed_versions: 1, absorbed_changes: 1 }));
    expect(await versions(sql)).toEqual(['1 pending [09:00, 09:30) INSERT']);
  });

  test('of one key leaves the others alone', async () => {
    await apply(sql, batch('b2', '09:10', [change(2, 'pending', '09:00')]));
    await apply(sql, batch('b3', '10:00', [deletion(1, '09:30')]));
    expect(await versions(sql)).toEqual(['1 pending [09:00, 09:30) INSERT', '2 pending [09:00, ) INSERT']);
  });
});

describe('a key that comes back after its DELETE', () => {
  beforeEach(async () => {
    await apply(sql, batch('b1', '09:40', [change(1, 'A', '09:00'), deletion(1, '09:30')]));
  });

  test('begins a new life at its own time, and the gap stays', async () => {
    expect(await apply(sql, batch('b2', '10:00', [change(1, 'B', '09:45')]))).toEqual(
      applied({ inserted_versions: 1 }),
    );
    expect(await versions(sql)).toEqual(['1 A [09:00, 09:30) INSERT', '1 B [09:45, ) INSERT']);
  });

  test('begins a new life even if it is what it was', async () => {
    expect(await apply(sql, batch('b2', '10:00', [change(1, 'A', '09:45')]))).toEqual(
      applied({ inserted_versions: 1 }),
    );
    expect(await versions(sql)).toEqual(['1 A [09:00, 09:30) INSERT', '1 A [09:45, ) INSERT']);
  });

  test('may begin at the moment of the DELETE', async () => {
    await apply(sql, batch('b2', '10:00', [change(1, 'B', '09:30')]));
    expect(await versions(sql)).toEqual(['1 A [09:00, 09:30) INSERT', '1 B [09:30, ) INSERT']);
  });

  test.each([
    ['an old', '09:10'],
    ['an infinite', '-infinity'],
    ['a future', '10:00:01'],
  ])('with %s time begins at its capture', async (_, time) => {
    await apply(sql, batch('b2', '10:00', [change(1, 'B', time)]));
    expect(await versions(sql)).toEqual(['1 A [09:00, 09:30) INSERT', '1 B [10:00, ) INSERT']);
  });

  test('with an old time never begins before its end, even where its capture does', async () => {
    await empty(sql);
    const batches = [
      [change(1, 'A', '09:40')],
      [change(1, 'B', '08:00')],
      [deletion(1, '08:00')],
      [change(1, 'C', '09:10')],
    ];
    for (const [index, changes] of batches.entries()) await apply(sql, batch(`c${String(index)}`, '09:40', changes));
    expect(await versions(sql)).toEqual([
      '1 A [09:40, 09:40:00.000001) INSERT',
      '1 B [09:40:00.000001, 09:40:00.000002) UPDATE',
      '1 C [09:40:00.000002, ) INSERT',
    ]);
  });

  test('within the batch that deleted it does the same', async () => {
    await apply(
      sql,
      batch('b2', '10:00', [
        change(1, 'B', '09:45'),
        deletion(1, '09:50'),
        change(1, 'B', '09:20'),
        deletion(1, '09:55'),
        change(1, 'C', '10:00'),
      ]),
    );
    expect(await versions(sql)).toEqual([
      '1 A [09:00, 09:30) INSERT',
      '1 B [09:45, 09:50) INSERT',
      '1 B [10:00, 10:00:00.000001) INSERT',
      '1 C [10:00:00.000001, ) INSERT',
    ]);
    expect(await absorbed(sql)).toEqual([
      'b1:2 DELETE {"order_key" : 1} delete 09:30',
      'b2:2 DELETE {"order_key" : 1} delete 09:50',
      'b2:4 DELETE {"order_key" : 1} delete 10:00:00.000001',
    ]);
  });
});

describe('a time that cannot be right', () => {
  test.each<[string, string, string]>([
    ['equal to the valid_from in force', '09:00', '10:00'],
    ['before it', '08:59:59.999999', '10:00'],
    ['infinite', 'infinity', '10:00'],
    ['infinite the other way', '-infinity', '10:00'],
    ['a microsecond after its capture', '10:00:00.000001', '10:00'],
    ['years after its capture', '2999-01-01T00:00:00', '10:00'],
    ['a microsecond after it, which is right', '09:00:00.000001', '09:00:00.000001'],
    ['the capture itself, which is right', '10:00', '10:00'],
  ])('gives way to the capture: %s', async (_, time, from) => {
    await apply(sql, batch('b1', '09:05', [change(1, 'A', '09:00')]));
    await apply(sql, batch('b2', '10:00', [change(1, 'B', time)]));
    expect(await versions(sql)).toEqual([`1 A [09:00, ${from}) INSERT`, `1 B [${from}, ) UPDATE`]);
  });

  test('is kept as the change said it', async () => {
    await apply(sql, batch('b1', '10:00', [change(1, 'A', '-infinity'), change(1, 'B', '2999-01-01T00:00:00')]));
    expect(await sql`select cdc_timestamp from public.dim_orders_history order by valid_from`).toEqual([
      { cdc_timestamp: '-infinity' },
      { cdc_timestamp: '2999-01-01 00:00:00' },
    ]);
  });

  test('shared by several changes of a batch spreads them a microsecond apart, in the order of the file', async () => {
    await apply(
      sql,
      batch(
        'b1',
        '10:00',
        ['A', 'B', 'C', 'D'].map((status) => change(1, status, '09:00')),
      ),
    );
    expect(await versions(sql)).toEqual([
      '1 A [09:00, 10:00) INSERT',
      '1 B [10:00, 10:00:00.000001) UPDATE',
      '1 C [10:00:00.000001, 10:00:00.000002) UPDATE',
      '1 D [10:00:00.000002, ) UPDATE',
    ]);
  });

  test('goes on from the last version where the capture is no later', async () => {
    await apply(
      sql,
      batch(
        'b1',
        '10:00',
        ['A', 'B', 'C'].map((status) => change(1, status, '09:00')),
      ),
    );
    await apply(sql, batch('b2', '10:00', [change(1, 'D', '09:00')]));
    expect((await versions(sql)).slice(2)).toEqual([
      '1 C [10:00:00.000001, 10:00:00.000002) UPDATE',
      '1 D [10:00:00.000002, ) UPDATE',
    ]);
  });

  test('does not hide that capture order is the truth: the last line of the file is what is in force', async () => {
    await apply(sql, batch('b1', '10:00', [change(1, 'A', '09:30'), change(1, 'B', '09:20'), change(1, 'C', '09:40')]));
    expect(await versions(sql)).toEqual([
      '1 A [09:30, 10:00) INSERT',
      '1 B [10:00, 10:00:00.000001) UPDATE',
      '1 C [10:00:00.000001, ) UPDATE',
    ]);
  });
});

describe('a batch', () => {
  const first = () => batch('b1', '10:00', [change(1, 'A', '09:00')], { sequence: 1, previous_checksum: null });

  test('is written to the ledger with its metadata and counts', async () => {
    const document = batch('b2', '10:00', [change(1, 'A', '09:00'), change(1, 'A', '09:01'), change(1, 'B', '09:02')], {
      sequence: 2,
      previous_checksum: 'before',
      floor: 'as it came',
    });
    await apply(sql, document);
    const [row] =
      await sql`select *, apply_started_at <= applied_at as in_time, metadata::text as metadata_text, extracted_at::text as extracted_at from tidemark.batches`;
    const metadata = (JSON.parse(document) as { batch_metadata: { checksum: string } }).batch_metadata;
    expect(row).toMatchObject({
      dimension_name: 'orders',
      shard: '',
      batch_id: 'b2',
      sequence: '2',
      extracted_at: '2026-02-01 10:00:00+00',
      change_count: 3,
      previous_checksum: 'before',
      checksum: metadata.checksum,
      inserted_versions: 2,
      closed_versions: 1,
      absorbed_changes: 1,
      corrected_versions: 0,
      late_changes: 0,
      rejected_changes: 0,
      in_time: true,
    });
    expect(JSON.parse(String(row?.metadata_text))).toEqual(metadata);
  });

  test('without a change is a row of the ledger', async () => {
    expect(await apply(sql, batch('b1', '10:00', []))).toEqual(applied());
    expect(await sql`select batch_id, change_count from tidemark.batches`).toEqual([
      { batch_id: 'b1', change_count: 0 },
    ]);
  });

  test('that was applied before changes nothing', async () => {
    await apply(sql, first());
    const before = await everything(sql);
    expect(await apply(sql, first())).toEqual(alreadyApplied());
    expect(await everything(sql)).toEqual(before);
  });

  test('that was applied before stays so after later ones', async () => {
    await apply(sql, first());
    await apply(sql, batch('b2', '11:00', [change(1, 'B', '10:30')], { sequence: 2 }));
    const before = await everything(sql);
    expect(await apply(sql, first())).toEqual(alreadyApplied());
    expect(await everything(sql)).toEqual(before);
  });

  test('of the same name with other content is a fork', async () => {
    await apply(sql, first());
    const before = await everything(sql);
    await expect(apply(sql, batch('b1', '10:00', [change(1, 'B', '09:00')], { sequence: 1 }))).rejects.toEqual(
      failure('TM003', { detail: 'batch=b1' }),
    );
    expect(await everything(sql)).toEqual(before);
  });

  test('in the same place of the chain with another name is a fork, even with the same content', async () => {
    await apply(sql, first());
    const before = await everything(sql);
    await expect(apply(sql, batch('b1x', '10:00', [change(1, 'A', '09:00')], { sequence: 1 }))).rejects.toEqual(
      failure('TM003', { detail: 'batch=b1x sequence=1' }),
    );
    expect(await everything(sql)).toEqual(before);
  });

  test('of the same name and content in another place of the chain is a fork', async () => {
    await apply(sql, first());
    await expect(apply(sql, batch('b1', '10:00', [change(1, 'A', '09:00')], { sequence: 2 }))).rejects.toEqual(
      failure('TM003'),
    );
  });

  test('whose name and place belong to two others is a fork', async () => {
    await apply(sql, first());
    await apply(sql, batch('b2', '10:01', [change(1, 'B', '10:00:30')], { sequence: 2 }));
    await expect(apply(sql, batch('b1', '10:00', [change(1, 'A', '09:00')], { sequence: 2 }))).rejects.toEqual(
      failure('TM003'),
    );
  });

  test('captured before one that is loaded is late, and takes its place', async () => {
    await apply(sql, batch('b2', '10:00', [change(1, 'B', '09:30')]));
    expect(await apply(sql, batch('b1', '09:20', [change(1, 'A', '09:00')]))).toEqual(
      applied({ inserted_versions: 1, closed_versions: 1, corrected_versions: 1, late_changes: 1 }),
    );
    expect(await versions(sql)).toEqual(['1 A [09:00, 09:30) INSERT', '1 B [09:30, ) UPDATE']);
    expect(
      await sql`select batch_id, corrected_versions, late_changes from tidemark.batches order by batch_id`,
    ).toEqual([
      { batch_id: 'b1', corrected_versions: 1, late_changes: 1 },
      { batch_id: 'b2', corrected_versions: 0, late_changes: 0 },
    ]);
  });

  test.each<[string, readonly [string, string, Change][], readonly string[]]>([
    [
      'two names',
      [
        ['c3', '12:00', {}],
        ['c1', '12:00', {}],
        ['c2', '12:00', {}],
      ],
      ['c1', 'c2', 'c3'],
    ],
    [
      'sequences, whatever their names',
      [
        ['c1', '12:00', { sequence: 2 }],
        ['c2', '12:00', { sequence: 1 }],
      ],
      ['c2', 'c1'],
    ],
    [
      'a document from outside the chain, which is the later one',
      [
        ['c1', '12:00', {}],
        ['c2', '12:00', { sequence: 1 }],
      ],
      ['c2', 'c1'],
    ],
    [
      'the instant before all',
      [
        ['c2', '12:00', {}],
        ['c1', '11:59:59.999999', { sequence: 9 }],
      ],
      ['c1', 'c2'],
    ],
  ])('of one instant is told apart by its place in the order of capture: %s', async (_, batches, expected) => {
    for (const [name, time, metadata] of batches)
      await apply(sql, batch(name, time, [change(1, name, '09:00')], metadata));
    expect((await versions(sql)).map((line) => line.split(' ')[1])).toEqual(expected);
  });

  test('of a shard is in order after its own shard; one of the whole table after all', async () => {
    const sharded = (id: string, time: string, shard: string, key: number) =>
      batch(id, time, [change(key, id, '09:00')], { shard });
    for (const document of [
      sharded('b1', '10:00', '1-of-2', 1),
      sharded('b2', '09:30', '2-of-2', 2),
      sharded('b3', '09:59', '1-of-2', 1),
      sharded('b4', '09:59', '', 2),
      sharded('b5', '10:00', '', 3),
    ])
      await apply(sql, document);
    expect(await sql`select batch_id, shard, late_changes from tidemark.batches order by batch_id`).toEqual([
      { batch_id: 'b1', shard: '1-of-2', late_changes: 0 },
      { batch_id: 'b2', shard: '2-of-2', late_changes: 0 },
      { batch_id: 'b3', shard: '1-of-2', late_changes: 1 },
      { batch_id: 'b4', shard: '', late_changes: 0 },
      { batch_id: 'b5', shard: '', late_changes: 0 },
    ]);
    expect((await runChecks(sql, ['pipeline', 'scd2'])).filter((check) => check.violations > 0)).toEqual([]);
  });

  test('of a shard keeps its shard with what it absorbs', async () => {
    await apply(
      sql,
      batch('b1', '10:00', [change(1, 'A', '09:00'), change(1, 'A', '09:10'), deletion(1, '09:20')], { shard: 'a' }),
    );
    expect(await sql`select shard, change_line from tidemark.absorbed_changes order by change_line`).toEqual([
      { shard: 'a', change_line: 2 },
      { shard: 'a', change_line: 3 },
    ]);
  });

  test('of a shard is in order after shards of another layout too, which may have had its keys', async () => {
    const sharded = (id: string, time: string, shard: string, state: string) =>
      batch(id, time, [change(1, state, '09:00')], { shard });
    for (const document of [
      sharded('b2', '10:00', '3-of-4', 'B'),
      sharded('b1', '09:30', '1-of-2', 'A'),
      sharded('b3', '09:45', '1-of-3-by-id-00000000', 'C'),
    ])
      await apply(sql, document);
    expect(await versions(sql)).toEqual([
      expect.stringContaining(' A '),
      expect.stringContaining(' C '),
      expect.stringContaining(' B '),
    ]);
    expect((await runChecks(sql, ['pipeline', 'scd2'])).filter((check) => check.violations > 0)).toEqual([]);
  });

  test('of shards between which a row may move is in order after all of them', async () => {
    const moving = { name: 'of-2-by-status-00000000', count: 2, column: 'status', cuts: ['N'], by_key: false };
    const sharded = (id: string, time: string, place: number, state: string) =>
      batch(id, time, [change(1, state, '09:00')], {
        shard: `${String(place)}-of-2-by-status-00000000`,
        shard_layout: moving,
      });
    for (const document of [sharded('b2', '10:00', 2, 'Z'), sharded('b1', '09:30', 1, 'A')]) await apply(sql, document);
    expect(await versions(sql)).toEqual([expect.stringContaining(' A '), expect.stringContaining(' Z ')]);
  });

  test('with the name of one of another shard is a fork', async () => {
    await apply(sql, batch('b1', '10:00', [change(1, 'A', '09:00')], { shard: '1-of-2', sequence: 1 }));
    for (const changes of [[change(1, 'A', '09:00')], [change(2, 'A', '09:00')]])
      await expect(apply(sql, batch('b1', '10:00', changes, { shard: '2-of-2', sequence: 1 }))).rejects.toEqual(
        failure('TM003', { detail: 'ledger: batch=b1 shard=1-of-2' }),
      );
    await apply(sql, batch('b2', '10:00', [change(2, 'A', '09:00')], { shard: '2-of-2', sequence: 1 }));
    expect((await runChecks(sql, ['pipeline', 'scd2'])).filter((check) => check.violations > 0)).toEqual([]);
  });

  test.each(['repeatable read', 'serializable'])('is refused in %s', async (level) => {
    await expect(sql.begin(`isolation level ${level}`, (transaction) => apply(transaction, first()))).rejects.toEqual(
      failure('TM006', { detail: level }),
    );
    expect(await everything(sql)).toEqual([[], [], [], []]);
  });
});

describe('two loaders at once', () => {
  let pair: readonly [Database, Database];
  beforeAll(() => {
    pair = [connect(warehouse.settings, 'test'), connect(warehouse.settings, 'test')];
  });
  afterAll(async () => {
    for (const loader of pair) await loader.end();
  });

  test('apply one batch once', async () => {
    const document = batch(
      'b1',
      '10:00',
      Array.from({ length: 300 }, (_, id) => change(id, 'A', '09:00')),
    );
    const results = await Promise.all(pair.map((loader) => apply(loader, document)));
    expect(results.map((result) => result.already_applied).sort()).toEqual([false, true]);
    expect(await sql`select count(*)::integer as n from public.dim_orders_history`).toEqual([{ n: 300 }]);
  });

  test('wait for each other: the second sees what the first did', async () => {
    const waiting = await rolledBack(sql, async (transaction) => {
      await apply(transaction, batch('b1', '10:00', [change(1, 'A', '09:00')]));
      const second = pair[0].begin((other) =>
        other`set local lock_timeout = '1ms'`.then(() => apply(other, batch('b1', '10:00', [change(1, 'A', '09:00')]))),
      );
      return second.catch((error: unknown) => error);
    });
    expect(waiting).toMatchObject({ code: '55P03' });
    expect(await apply(pair[0], batch('b1', '10:00', [change(1, 'A', '09:00')]))).toEqual(
      applied({ inserted_versions: 1 }),
    );
  });

  test('of different shards do not wait for each other, but do for the whole table', async () => {
    const outcomes = await rolledBack(sql, async (transaction) => {
      await apply(transaction, batch('b1', '10:00', [change(1, 'A', '09:00')], { shard: 'a' }));
      const attempt = (shard: string, key: number) =>
        pair[0]
          .begin((other) =>
            other`set local lock_timeout = '1ms'`.then(() =>
              apply(other, batch('b2', '10:00', [change(key, 'A', '09:00')], { shard })),
            ),
          )
          .then(
            () => 'applied',
            (error: unknown) => (error as { code: string }).code,
          );
      return [await attempt('b', 2), await attempt('a', 3), await attempt('', 4)];
    });
    expect(outcomes).toEqual(['applied', '55P03', '55P03']);
  });

  test('of shards between which a row may move wait for each other', async () => {
    const shard_layout = { by_key: false };
    const outcome = await rolledBack(sql, async (transaction) => {
      await apply(transaction, batch('b1', '10:00', [change(1, 'A', '09:00')], { shard: 'a', shard_layout }));
      return pair[0]
        .begin((other) =>
          other`set local lock_timeout = '1ms'`.then(() =>
            apply(other, batch('b2', '10:00', [change(2, 'A', '09:00')], { shard: 'b', shard_layout })),
          ),
        )
        .then(
          () => 'applied',
          (error: unknown) => (error as { code: string }).code,
        );
    });
    expect(outcome).toBe('55P03');
  });

  test('with different batches of the same keys lose and double nothing', async () => {
    const documents = Array.from({ length: 12 }, (_, index) =>
      batch(
        `b${String(index).padStart(2, '0')}`,
        `10:${String(index + 10)}`,
        [1, 2, 3].map((key) => change(key, `state ${String(index)}`, `10:${String(index + 10)}`)),
      ),
    );
    const outcomes = await Promise.all(
      [...documents, ...documents].map(async (document, index) => {
        const loader = index % 2 === 0 ? pair[0] : pair[1];
        return apply(loader, document).then(
          (result) => (result.already_applied ? 'already' : 'applied'),
          (error: unknown) => (error as { code: string }).code,
        );
      }),
    );
    const count = (outcome: string) => outcomes.filter((each) => each === outcome).length;
    expect([count('applied'), count('already')]).toEqual([12, 12]);
    const [found] =
      await sql`select count(*)::integer as versions, count(distinct (order_key, batch_id))::integer as different, (select count(*)::integer from tidemark.batches) as batches from public.dim_orders_history`;
    expect(found).toEqual({
      versions: 3 * count('applied'),
      different: 3 * count('applied'),
      batches: count('applied'),
    });
    expect((await runChecks(sql, ['pipeline', 'scd2'])).filter((check) => check.violations > 0)).toEqual([]);
  });
});

describe('a document', () => {
  const original = () => readFile(path.join(PROJECT_ROOT, 'sample_data', 'cdc_changes.json'), 'utf8');

  test('with the four basic fields only belongs to orders', async () => {
    expect(await apply(sql, await original())).toEqual(applied({ inserted_versions: 1 }));
    expect(await versions(sql)).toEqual(['1 confirmed [09:10, ) INSERT']);
    expect(
      await sql`select dimension_name, shard, sequence, checksum = tidemark.batch_checksum((${await original()}::text::json) -> 'changes') as is_its_own from tidemark.batches`,
    ).toEqual([{ dimension_name: 'orders', shard: '', sequence: null, is_its_own: true }]);
    expect(await apply(sql, await original())).toEqual(alreadyApplied());
  });

  test('may have its members in any order and any layout', async () => {
    const { batch_metadata, changes } = JSON.parse(
      batch('b1', '10:00', [change(1, 'A', '09:00')], { checksum: undefined }),
    ) as Change;
    expect(await apply(sql, JSON.stringify({ changes, something_else: 1, batch_metadata }, null, 4))).toEqual(
      applied({ inserted_versions: 1 }),
    );
  });

  test.each<[string, string, string]>([
    ['an array', '[]', 'must be a JSON object'],
    ['a text', '"batch"', 'must be a JSON object'],
    ['null', 'null', 'must be a JSON object'],
    ['an empty object', '{}', 'batch_metadata is missing'],
    [
      'metadata that are no object',
      '{"batch_metadata": [], "changes": []}',
      'batch_metadata is missing or not an object',
    ],
    ['no changes', '{"batch_metadata": {"batch_id": "b"}}', 'changes is missing'],
    [
      'changes that are no array',
      '{"batch_metadata": {"batch_id": "b"}, "changes": {}}',
      'changes is missing or not an array',
    ],
  ])('that is no batch is refused: %s', async (_, document, message) => {
    await expect(apply(sql, document)).rejects.toEqual(failure('TM001', { message }));
    expect(await everything(sql)).toEqual([[], [], [], []]);
  });

  test('that is SQL null is refused', async () => {
    await expect(sql`select * from tidemark.apply_batch(null)`).rejects.toEqual(failure('TM001'));
  });

  test.each<[string, Change, string]>([
    ['no batch_id', { batch_id: undefined }, 'batch_id'],
    ['a null batch_id', { batch_id: null }, 'batch_id'],
    ['an empty batch_id', { batch_id: '' }, 'batch_id'],
    ['a batch_id that its column cannot hold', { batch_id: 'b'.repeat(101) }, 'batch_id'],
    ['no change_count', { change_count: undefined }, 'change_count'],
    ['a broken change_count', { change_count: 1.5 }, 'change_count'],
    ['a negative change_count', { change_count: -1 }, 'change_count'],
    ['an enormous change_count', { change_count: 1e10 }, 'change_count'],
    ['a change_count above the changes', { change_count: 2 }, 'change_count'],
    ['a change_count below the changes', { change_count: 0 }, 'change_count'],
    ['sequence 0', { sequence: 0 }, 'sequence'],
    ['a sequence that is no number', { sequence: 'first' }, 'sequence'],
    ['a broken sequence', { sequence: 1.5 }, 'sequence'],
    ['no extracted_at', { extracted_at: undefined }, 'extracted_at'],
    ['an infinite extracted_at', { extracted_at: 'infinity' }, 'extracted_at'],
    ['extracted_at in words', { extracted_at: 'now' }, 'extracted_at'],
    ['extracted_at on a day there is not', { extracted_at: '2026-02-30T10:00:00Z' }, 'extracted_at'],
    ['extracted_at with a tail', { extracted_at: '2026-02-01T10:00:00Z or so' }, 'extracted_at'],
  ])('with %s is refused', async (_, metadata, message) => {
    await expect(apply(sql, batch('b1', '10:00', [change(1, 'A', '09:00')], metadata))).rejects.toEqual(
      failure('TM001', { message }),
    );
    expect(await everything(sql)).toEqual([[], [], [], []]);
  });

  test('of a table that is not registered is refused', async () => {
    await expect(apply(sql, batch('b1', '10:00', [], { table: 'Orders' }))).rejects.toEqual(
      failure('TM002', { detail: 'table=Orders' }),
    );
  });

  test.each<[string, (document: string) => string]>([
    ['a digit', (text) => text.replace('59.98', '59.99')],
    ['a space', (text) => text.replace('"id":1,', '"id": 1,')],
    ['the order of lines', (text) => text.replace(/(\{"id":1.*\}),\n(\{"id":2.*\})/, '$2,\n$1')],
  ])('in which %s was altered does not fit its checksum', async (_, alter) => {
    const document = batch('b1', '10:00', [change(1, 'A', '09:00'), change(2, 'A', '09:00')]);
    expect(alter(document)).not.toBe(document);
    await expect(apply(sql, alter(document))).rejects.toEqual(failure('TM008', { detail: 'batch=b1' }));
    expect(await everything(sql)).toEqual([[], [], [], []]);
  });

  test('with Windows line ends keeps its checksum only if it was written with them', async () => {
    const document = batch('b1', '10:00', [change(1, 'A', '09:00'), change(2, 'A', '09:00')]).replaceAll('\n', '\r\n');
    await expect(apply(sql, document)).rejects.toEqual(failure('TM008'));
  });
});

describe('the session of the caller', () => {
  /** What a batch leaves behind, times of writing apart. */
  const outcome = async (reader: Database) =>
    [
      await reader`select (to_jsonb(h) - 'created_at' - 'updated_at')::text as row from public.dim_orders_history as h order by surrogate_key`,
      await reader`select to_jsonb(a)::text as row from tidemark.absorbed_changes as a order by change_line`,
      await reader`select (to_jsonb(b) - 'apply_started_at' - 'applied_at')::text as row from tidemark.batches as b`,
    ].map((rows) => [...rows]);

  const document = () =>
    batch('b1', '10:00', [
      change(1, 'A', '09:00', { order_date: '2026-02-01T09:00:00' }),
      change(1, 'A', '09:01', { order_date: '2026-02-01T09:00:00' }),
      change(1, 'B', '09:02', { order_date: '2026-03-04T05:06:07.5' }),
      change(1, 'C', '09:01'),
      deletion(1, '09:30'),
      change(1, 'C', '09:10'),
      change(2, 'A', 'infinity'),
      deletion(9, '09:00'),
    ]);

  const HOSTILE = `
    create schema hostile;
    create function hostile.now() returns timestamptz language sql as 'select timestamptz ''1999-01-01''';
    create function hostile.transaction_timestamp() returns timestamptz language sql as 'select timestamptz ''1999-01-01''';
    create function hostile.isfinite(timestamptz) returns boolean language sql as 'select false';
    create function hostile.lag(text) returns text language sql as 'select ''lag''';
    create function hostile.count(bigint) returns bigint language sql as 'select 7::bigint';
    create function hostile.format(text, variadic text[]) returns text language sql as 'select ''format''';
    create function hostile.json_typeof(json) returns text language sql as 'select ''null''';
    create function hostile.json_to_recordset(json) returns setof record language sql as 'select 1 where false';
    create function hostile.is_equal(text, text) returns boolean language sql as 'select false';
    create function hostile.is_equal(integer, integer) returns boolean language sql as 'select false';
    create function hostile.is_less(timestamptz, timestamptz) returns boolean language sql as 'select true';
    create operator hostile.= (leftarg = text, rightarg = text, function = hostile.is_equal);
    create operator hostile.= (leftarg = integer, rightarg = integer, function = hostile.is_equal);
    create operator hostile.<= (leftarg = timestamptz, rightarg = timestamptz, function = hostile.is_less);
    create domain hostile.timestamptz as text;
    create table hostile.batches (dimension_name text);
    create table hostile.dim_orders_history (order_key integer);
    create temp table batches (batch_id text);
    create temp table dimensions (dimension_name text);
    create temp table pg_attribute (attname text);
    create temp table change (change_line integer);`;

  test.each<[string, string]>([
    ['in Tokyo', "set timezone = 'Asia/Tokyo'"],
    ['in a zone of its own making', "set timezone = '<X>-05:45'"],
    ['with days first', "set datestyle = 'SQL, DMY'"],
    ['with German dates', "set datestyle = 'German'"],
    [
      'with other intervals, numbers and bytes',
      "set intervalstyle = 'iso_8601'; set extra_float_digits = -15; set bytea_output = 'escape'",
    ],
    ['with quoted identifiers', 'set quote_all_identifiers = on'],
    ['with an empty search path', "set search_path = ''"],
    [
      'with functions, operators, types and tables that shadow what is meant',
      `${HOSTILE} set search_path = hostile, pg_temp, pg_catalog, public`,
    ],
    ['with plans that are never looked at twice', 'set plan_cache_mode = force_generic_plan'],
  ])('does not change what is written: %s', async (_, settings) => {
    await apply(sql, document());
    const expected = await outcome(sql);
    await empty(sql);
    const caller = connect(warehouse.settings, 'test');
    try {
      await caller.unsafe(settings);
      await caller`select * from tidemark.apply_batch(${document()}::pg_catalog.text::pg_catalog.json)`;
    } finally {
      await caller.end();
      await sql`drop schema if exists hostile cascade`;
    }
    expect(await outcome(sql)).toEqual(expected);
    expect(expected.map((rows) => rows.length)).toEqual([5, 3, 1]);
  });

  test('has its settings back afterwards', async () => {
    const settings = await rolledBack(sql, async (transaction) => {
      await transaction.unsafe(
        "set local timezone = 'Asia/Tokyo'; set local datestyle = 'SQL, DMY'; set local search_path = public",
      );
      await apply(transaction, document());
      return transaction`select current_setting('timezone') as zone, current_setting('datestyle') as style, current_setting('search_path') as path`;
    });
    expect(settings).toEqual([{ zone: 'Asia/Tokyo', style: 'SQL, DMY', path: 'public' }]);
  });
});

describe('through psql', () => {
  const psql = spawnSync('psql', ['--version'], { encoding: 'utf8' });
  const sample = path.join(PROJECT_ROOT, 'sample_data', 'cdc_changes.json');
  const run = (file: string) => {
    const { host, port, user, password, database } = warehouse.settings;
    return spawnSync('psql', ['-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1'], {
      encoding: 'utf8',
      input: `\\set batch \`cat '${file}'\`\nselect * from tidemark.apply_batch(:'batch'::json);\n`,
      env: {
        PATH: process.env.PATH ?? '',
        PGHOST: host,
        PGPORT: String(port),
        PGUSER: user,
        PGPASSWORD: password,
        PGDATABASE: database,
      },
    });
  };
  if (psql.error !== undefined)
    process.stderr.write('skipped: psql is not on the PATH, so apply_batch is not tried through it\n');

  test.skipIf(psql.error !== undefined)(
    'the worked example is one line of SQL, and its repeat changes nothing',
    async () => {
      expect(run(sample)).toMatchObject({ status: 0, stdout: '1|0|0|0|0|0|f\n', stderr: '' });
      expect(run(sample)).toMatchObject({ status: 0, stdout: '0|0|0|0|0|0|t\n' });
      expect(await versions(sql)).toEqual(['1 confirmed [09:10, ) INSERT']);
    },
  );

  test.skipIf(psql.error !== undefined)('a text with quotes, backslashes and colons arrives as it is', async () => {
    const folder = await mkdtemp(path.join(tmpdir(), 'tidemark-psql-'));
    try {
      const status = `it's "quoted" \\ :'batch' $1 %s ☃`;
      await writeFile(path.join(folder, 'batch.json'), batch('b1', '10:00', [change(1, status, '09:00')]));
      expect(run(path.join(folder, 'batch.json'))).toMatchObject({ status: 0, stdout: '1|0|0|0|0|0|f\n' });
      expect(await sql`select order_status from public.dim_orders_history`).toEqual([{ order_status: status }]);
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});
