import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { runChecks } from '../../../runner/warehouse/checks.js';
import type { Database, Transaction } from '../../../runner/base/database.js';
import { createWarehouseDatabase, type TestDatabase } from '../../support/databases.js';
import {
  alreadyApplied,
  apply,
  applied,
  at,
  batch,
  change,
  compile,
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

/** What was set aside, as `batch:line`, the key, the column, its value and the reason. */
const rejected = async (reader: Database | Transaction = sql) => [
  ...(await reader<
    { place: string; business_key: string; column_name: string | null; value: string | null; reason: string }[]
  >`
  select format('%s:%s', batch_id, change_line) as place, business_key, column_name, value, reason from tidemark.rejected_changes order by batch_id, rejected_changes.change_line`),
];

const retry = async (reader: Database | Transaction = sql) => {
  const [row] = await reader`select * from tidemark.retry_rejected(p_dimension_name => 'orders')`;
  return row;
};

const retried = (counts: Record<string, number>) => {
  const { already_applied, ...rest } = applied(counts);
  expect(already_applied).toBe(false);
  return rest;
};

describe('a change that cannot be applied', () => {
  /** The batch has it in line 2, between a good insert and a good update of what is there. */
  const between = (bad: Change | string, metadata: Change = {}) =>
    batch('b2', '10:00', [change(2, 'A', '09:00'), bad, change(1, 'B', '09:10')], metadata);
  const raw = (text: string) =>
    JSON.stringify({ ...change(3, 'A', '09:00'), extracted_at: `${at('10:00')}Z` }).replace('"unit_price":29.99', text);

  const cases: [string, Change | string, string | null, string][] = [
    ['a null key', change(null, 'A', '09:00'), 'id', 'null or missing'],
    ['a key that is no number', change(3, 'A', '09:00', { id: 'three' }), 'id', 'integer'],
    ['a key out of range', change(3, 'A', '09:00', { id: 3_000_000_000 }), 'id', 'range'],
    ['a broken key', change(3, 'A', '09:00', { id: 1.5 }), 'id', 'integer'],
    ['a text where a number belongs', change(3, 'A', '09:00', { quantity: 'two' }), 'quantity', 'integer'],
    ['an object where a number belongs', change(3, 'A', '09:00', { quantity: { n: 2 } }), 'quantity', 'integer'],
    [
      'a time that there is not',
      change(3, 'A', '09:00', { order_date: '2026-02-30T09:00:00' }),
      'order_date',
      'out of range',
    ],
    ['a number that would be rounded', raw('"unit_price":1.005'), 'unit_price', 'would be rounded'],
    ['a number that would be rounded, written small', raw('"unit_price":1005e-3'), 'unit_price', 'would be rounded'],
    ['a number too large', raw('"unit_price":123456789.01'), 'unit_price', 'overflow'],
    ['a text too long', change(3, 'A'.repeat(51), '09:00'), 'order_status', 'too long'],
    [
      'a null that history does not take',
      change(3, 'A', '09:00', { total_amount: null }),
      'total_amount',
      'null or missing',
    ],
    ['a column that history does not know', change(3, 'A', '09:00', { discount: 1 }), 'discount', 'not mapped'],
    [
      'a column of the history instead of the source',
      change(3, 'A', '09:00', { order_key: 3 }),
      'order_key',
      'not mapped',
    ],
    ['a column in capitals', change(3, 'A', '09:00', { ID: 3 }), 'ID', 'not mapped'],
    ['a missing column', change(3, 'A', '09:00', { quantity: undefined }), 'quantity', 'missing'],
    ['a missing key', change(3, 'A', '09:00', { id: undefined }), 'id', 'missing'],
    ['a DELETE without its key', { operation_type: 'DELETE', cdc_timestamp: at('09:00') }, 'id', 'missing'],
    [
      'a DELETE with a null key',
      { id: null, operation_type: 'DELETE', cdc_timestamp: at('09:00') },
      'id',
      'null or missing',
    ],
    [
      'a DELETE whose extracted_at is infinite',
      { ...deletion(3, '09:00'), extracted_at: '-infinity' },
      'extracted_at',
      'not an ISO 8601 instant',
    ],
    ['no operation_type', change(3, 'A', '09:00', { operation_type: undefined }), 'operation_type', 'missing'],
    [
      'a null operation_type',
      change(3, 'A', '09:00', { operation_type: null }),
      'operation_type',
      'INSERT, UPDATE or DELETE',
    ],
    [
      'an operation_type that there is not',
      change(3, 'A', '09:00', { operation_type: 'UPSERT' }),
      'operation_type',
      'UPSERT',
    ],
    [
      'an operation_type in lower case',
      change(3, 'A', '09:00', { operation_type: 'delete' }),
      'operation_type',
      'delete',
    ],
    [
      'a cdc_timestamp that is no time',
      change(3, 'A', '09:00', { cdc_timestamp: 'soon' }),
      'cdc_timestamp',
      'timestamp',
    ],
    [
      'an infinite extracted_at',
      change(3, 'A', '09:00', { extracted_at: 'infinity' }),
      'extracted_at',
      'not an ISO 8601 instant',
    ],
    [
      'an extracted_at that depends on when it is read',
      change(3, 'A', '09:00', { extracted_at: 'now' }),
      'extracted_at',
      'not an ISO 8601 instant',
    ],
    [
      'an extracted_at with a year of more than four digits',
      change(3, 'A', '09:00', { extracted_at: '294276-12-31T23:59:59.999999Z' }),
      'extracted_at',
      'not an ISO 8601 instant',
    ],
    [
      'an extracted_at before all years',
      change(3, 'A', '09:00', { extracted_at: '4713-01-01T00:00:00Z BC' }),
      'extracted_at',
      'not an ISO 8601 instant',
    ],
    [
      'an extracted_at that is a number',
      change(3, 'A', '09:00', { extracted_at: 20260201 }),
      'extracted_at',
      'not an ISO 8601 instant',
    ],
    [
      'an extracted_at on a day that there is not',
      change(3, 'A', '09:00', { extracted_at: '2026-02-30T10:00:00Z' }),
      'extracted_at',
      'out of range',
    ],
    [
      'an extracted_at that is no time',
      change(3, 'A', '09:00', { extracted_at: 'lately' }),
      'extracted_at',
      'timestamp',
    ],
    ['a number instead of a change', '42', null, 'not an object but number'],
    ['an array instead of a change', '[1, 2]', null, 'not an object but array'],
    ['null instead of a change', 'null', null, 'not an object but null'],
    ['a text instead of a change', '"change"', null, 'not an object but string'],
  ];

  test.each(cases)(
    '%s: it is set aside with its column, value and reason, and stops no other',
    async (_, bad, column, reason) => {
      await apply(sql, batch('b1', '09:05', [change(1, 'A', '09:00')]));
      const document = between(bad);
      expect(await apply(sql, document)).toEqual(
        applied({ inserted_versions: 2, closed_versions: 1, rejected_changes: 1 }),
      );
      expect(await versions(sql)).toEqual([
        '1 A [09:00, 09:10) INSERT',
        '1 B [09:10, ) UPDATE',
        '2 A [09:00, ) INSERT',
      ]);
      const original = (JSON.parse(document) as { changes: unknown[] }).changes[1];
      const read =
        typeof original === 'object' && original !== null && column !== null ? (original as Change)[column] : undefined;
      const value = column === 'unit_price' && typeof bad === 'string' ? /"unit_price":([^,]+)/.exec(bad)?.[1] : read;
      expect(await rejected()).toEqual(
        [
          {
            place: 'b2:2',
            business_key: expect.anything() as unknown,
            column_name: column,
            reason: expect.stringContaining(reason) as string,
            value:
              value === undefined || value === null ? null : typeof value === 'string' ? value : JSON.stringify(value),
          },
        ].map((row) => ({
          ...row,
          business_key:
            typeof original === 'object' && original !== null && !Array.isArray(original) ? row.business_key : null,
        })),
      );
      expect(await sql`select change from tidemark.rejected_changes`).toEqual([{ change: original }]);
      expect(await sql`select change_count, rejected_changes from tidemark.batches where batch_id = 'b2'`).toEqual([
        { change_count: 3, rejected_changes: 1 },
      ]);
      expect(
        (await runChecks(sql, ['pipeline', 'scd2']))
          .filter((check) => check.violations > 0)
          .map((check) => check.check),
      ).toEqual(['no change is rejected']);
      expect(await apply(sql, document)).toEqual(alreadyApplied());
    },
  );

  test('is set aside wherever it stands, however many there are and whichever their faults', async () => {
    const bad = [
      change(null, 'A', '09:00'),
      change(4, 'A', '09:00', { cdc_timestamp: 'soon' }),
      change(5, 'A', '09:00', { quantity: 'x' }),
      raw('"unit_price":1.005'),
      change(6, 'A', '09:00', { order_status: 'A'.repeat(51) }),
      change(7, 'A', '09:00', { discount: 1 }),
      '17',
    ];
    const changes = bad.flatMap((one, index) => [change(100 + index, 'A', '09:00'), one]);
    expect(await apply(sql, batch('b1', '10:00', changes))).toEqual(
      applied({ inserted_versions: 7, rejected_changes: 7 }),
    );
    expect((await rejected()).map(({ place }) => place).sort()).toEqual([
      'b1:10',
      'b1:12',
      'b1:14',
      'b1:2',
      'b1:4',
      'b1:6',
      'b1:8',
    ]);
    expect(
      (await sql`select change_line from public.dim_orders_history order by change_line`).map((row) =>
        Number(row.change_line),
      ),
    ).toEqual([1, 3, 5, 7, 9, 11, 13]);
  });

  test('may be all that a batch has', async () => {
    expect(
      await apply(sql, batch('b1', '10:00', [change(null, 'A', '09:00'), change(1, 'A', '09:00', { quantity: 'x' })])),
    ).toEqual(applied({ rejected_changes: 2 }));
    expect(await versions(sql)).toEqual([]);
  });

  test('does not touch a late batch otherwise than one in order', async () => {
    await apply(sql, batch('b3', '11:00', [change(1, 'C', '10:30')]));
    expect(await apply(sql, between(change(3, 'A', '09:00', { quantity: 'x' })))).toEqual(
      applied({
        inserted_versions: 2,
        closed_versions: 1,
        late_changes: 1,
        rejected_changes: 1,
        corrected_versions: 1,
      }),
    );
    expect(await versions(sql)).toEqual(['1 B [09:10, 10:30) INSERT', '1 C [10:30, ) UPDATE', '2 A [09:00, ) INSERT']);
  });

  test('is found where the batch states its columns once, too', async () => {
    const columns = [
      'id',
      'customer_id',
      'product_id',
      'quantity',
      'unit_price',
      'total_amount',
      'order_status',
      'order_date',
      'last_updated',
      'created_at',
    ];
    expect(await apply(sql, between(change(null, 'A', '09:00'), { columns }))).toEqual(
      applied({ inserted_versions: 2, rejected_changes: 1 }),
    );
    expect(await rejected()).toMatchObject([{ place: 'b2:2', column_name: 'id' }]);
  });

  test.each<[string, (columns: readonly string[]) => string[], string, string]>([
    ['a column that is not mapped', (columns) => [...columns, 'discount'], 'discount', 'is not mapped'],
    ['a key column too few', (columns) => columns.slice(1), 'id', 'is missing'],
  ])('is no matter of a change where the batch states %s: it is refused whole', async (_, alter, column, reason) => {
    const columns = [
      'id',
      'customer_id',
      'product_id',
      'quantity',
      'unit_price',
      'total_amount',
      'order_status',
      'order_date',
      'last_updated',
      'created_at',
    ];
    await expect(apply(sql, between(change(3, 'A', '09:00'), { columns: alter(columns) }))).rejects.toMatchObject({
      code: 'TM004',
      message: expect.stringContaining(reason) as string,
      detail: `table=orders batch=b2 column=${column}`,
    });
    expect(await everything(sql)).toEqual([[], [], [], []]);
  });

  test('is looked for in every line where columns are stated but nothing vouches for the lines', async () => {
    expect(
      await apply(sql, between(change(3, 'A', '09:00', { discount: 1 }), { columns: ['id'], checksum: undefined })),
    ).toEqual(applied({ inserted_versions: 2, rejected_changes: 1 }));
    expect(await rejected()).toMatchObject([{ place: 'b2:2', column_name: 'discount', value: '1' }]);
  });

  test('with a NUL escaped in a text makes a document that no parser of PostgreSQL reads', async () => {
    await expect(apply(sql, between(change(3, 'A\u0000B', '09:00')))).rejects.toMatchObject({ code: '22P05' });
    expect(await everything(sql)).toEqual([[], [], [], []]);
  });

  test.each<[string, string, string | null]>([
    ['one column', 'quantity > 0', 'quantity'],
    ['two columns', 'quantity * unit_price >= 0.5', null],
    ['two columns, in a way that fails', '1 / quantity >= 0 and customer_id > 0', null],
  ])(
    'against a check constraint of the history on %s is set aside with the name of the constraint',
    async (_, rule, column) => {
      const found = await rolledBack(sql, async (transaction) => {
        await transaction.unsafe(`alter table public.dim_orders_history add constraint no_zero check (${rule})`);
        await compile(transaction);
        await apply(transaction, between(change(3, 'A', '09:00', { quantity: 0 })));
        return rejected(transaction);
      });
      expect(found).toEqual([
        {
          place: 'b2:2',
          business_key: '{"order_key" : 3}',
          column_name: column,
          value: column === null ? null : '0',
          reason: expect.stringContaining('no_zero') as string,
        },
      ]);
    },
  );

  test('against a rule that no change breaks by itself surfaces as PostgreSQL says it', async () => {
    const error = await rolledBack(sql, async (transaction) => {
      await transaction`create table public.customers (id integer primary key)`;
      await transaction`alter table public.dim_orders_history add constraint customer_is_known foreign key (customer_id) references public.customers (id)`;
      return transaction
        .savepoint((inner) => apply(inner, between(change(3, 'A', '09:00'))))
        .catch((caught: unknown) => caught);
    });
    expect(error).toMatchObject({ code: '23503', constraint_name: 'customer_is_known' });
  });

  test('costs the others little: three of ten thousand', async () => {
    const changes = Array.from({ length: 10_000 }, (_, id) =>
      change(id, 'A', '09:00', [17, 5000, 9999].includes(id) ? { quantity: 'x' } : {}),
    );
    expect(await apply(sql, batch('b1', '10:00', changes))).toEqual(
      applied({ inserted_versions: 9997, rejected_changes: 3 }),
    );
    expect((await rejected()).map(({ place, business_key }) => [place, business_key])).toEqual([
      ['b1:18', '{"order_key" : 17}'],
      ['b1:5001', '{"order_key" : 5000}'],
      ['b1:10000', '{"order_key" : 9999}'],
    ]);
  });
});

describe('a rejected change that is tried again', () => {
  const LONG = 'longer than a rule allows';
  const RULE = 'short';
  const widen = async (transaction: Database | Transaction) => {
    await transaction.unsafe(`alter table public.dim_orders_history drop constraint ${RULE}`);
    await compile(transaction);
  };

  beforeAll(async () => {
    await sql.unsafe(`alter table public.dim_orders_history add constraint ${RULE} check (length(order_status) < 20)`);
    await compile(sql);
  });
  afterAll(async () => {
    await widen(sql);
  });
  beforeEach(async () => {
    await apply(sql, batch('b1', '09:05', [change(1, 'A', '09:00')], { sequence: 1 }));
    await apply(
      sql,
      batch('b2', '09:15', [change(2, 'A', '09:00'), change(1, LONG, '09:10'), change(2, LONG, '09:10')], {
        sequence: 2,
      }),
    );
    await apply(sql, batch('b3', '09:30', [change(1, 'C', '09:20'), deletion(2, '09:25')], { sequence: 3 }));
  });

  test('stays rejected while its cause is there', async () => {
    const before = await rejected();
    expect(await retry()).toEqual(retried({ rejected_changes: 2 }));
    expect(await rejected()).toEqual(before);
  });

  test('takes its right place once the cause is gone, and no trace of the rejection is left', async () => {
    await rolledBack(sql, async (transaction) => {
      await widen(transaction);
      expect(await retry(transaction)).toEqual(
        retried({ inserted_versions: 2, closed_versions: 2, corrected_versions: 2, late_changes: 2 }),
      );
      expect(await versions(transaction)).toEqual([
        '1 A [09:00, 09:10) INSERT',
        `1 ${LONG} [09:10, 09:20) UPDATE`,
        '1 C [09:20, ) UPDATE',
        '2 A [09:00, 09:10) INSERT',
        `2 ${LONG} [09:10, 09:25) UPDATE`,
      ]);
      expect(await rejected(transaction)).toEqual([]);
      expect(
        await transaction`select batch_id, inserted_versions, corrected_versions, late_changes, rejected_changes from tidemark.batches order by batch_id`,
      ).toEqual([
        { batch_id: 'b1', inserted_versions: 1, corrected_versions: 0, late_changes: 0, rejected_changes: 0 },
        { batch_id: 'b2', inserted_versions: 3, corrected_versions: 2, late_changes: 2, rejected_changes: 0 },
        { batch_id: 'b3', inserted_versions: 1, corrected_versions: 0, late_changes: 0, rejected_changes: 0 },
      ]);
      expect(await retry(transaction)).toEqual(retried({}));
    });
  });

  test('leaves aside what is still wrong', async () => {
    await rolledBack(sql, async (transaction) => {
      await transaction`update tidemark.rejected_changes set change = replace(change::text, ${LONG}, 'B')::json where business_key = '{"order_key" : 1}'`;
      expect(await retry(transaction)).toEqual(
        retried({
          inserted_versions: 1,
          closed_versions: 1,
          corrected_versions: 1,
          late_changes: 1,
          rejected_changes: 1,
        }),
      );
      expect((await rejected(transaction)).map(({ place }) => place)).toEqual(['b2:3']);
    });
  });

  test('needs a table that is registered', async () => {
    await expect(sql`select * from tidemark.retry_rejected(p_dimension_name => 'nothing')`).rejects.toMatchObject({
      code: 'TM002',
    });
  });

  test('is refused in repeatable read', async () => {
    await expect(
      sql.begin('isolation level repeatable read', (transaction) => retry(transaction)),
    ).rejects.toMatchObject({ code: 'TM006' });
  });
});

describe('a rejected change that is dismissed', () => {
  beforeEach(async () => {
    await apply(
      sql,
      batch('b1', '10:00', [
        change(1, 'A', '09:00'),
        change(null, 'A', '09:00'),
        change(2, 'A', '09:00', { quantity: 'two' }),
      ]),
    );
  });
  const dismiss = (
    batchId: string,
    line: number,
    reason: string | null,
    reader: Database | Transaction = sql,
  ) => reader`
    select tidemark.dismiss_rejected(p_dimension_name => 'orders', p_batch_id => ${batchId}, p_change_line => ${line}, p_reason => ${reason})`;

  test('is not tried again, is counted with its batch, raises no alert and fails no check; taken back it does all that', async () => {
    await dismiss('b1', 3, 'a slip');
    expect(await retry()).toEqual(retried({ rejected_changes: 1 }));
    expect(
      await sql`select change_line, dismissed_by = session_user as is_mine, dismiss_reason from tidemark.rejected_changes order by change_line`,
    ).toEqual([
      { change_line: 2, is_mine: null, dismiss_reason: null },
      { change_line: 3, is_mine: true, dismiss_reason: 'a slip' },
    ]);
    await dismiss('b1', 2, 'a slip');
    expect(await retry()).toEqual(retried({}));
    expect(await sql`select rejected_changes from tidemark.batches`).toEqual([{ rejected_changes: 2 }]);
    expect((await runChecks(sql, ['pipeline'])).filter(({ violations }) => violations > 0)).toEqual([]);
    expect(await sql`select from tidemark.alerts where rule_name = 'Rejected Changes'`).toEqual([]);
    expect(
      await sql`select rejected_changes from tidemark.kpis(interval '1 hour', now()) where dimension_name = 'orders'`,
    ).toEqual([{ rejected_changes: '0' }]);
    await dismiss('b1', 3, null);
    expect(await sql`select from tidemark.alerts where rule_name = 'Rejected Changes'`).toHaveLength(1);
    expect(await retry()).toEqual(retried({ rejected_changes: 1 }));
  });

  test.each<[string, string, number, string | null]>([
    ['where there is none', 'b1', 1, 'a slip'],
    ['that is not there to be taken back', 'b9', 2, null],
    ['that was not dismissed to be taken back', 'b1', 2, null],
  ])('is none %s', async (_, batchId, line, reason) => {
    expect(await dismiss(batchId, line, reason)).toEqual([{ dismiss_rejected: '0' }]);
    expect(await sql`select from tidemark.rejected_changes where dismissed_at is not null`).toEqual([]);
  });

  test('is refused without a reason', async () => {
    await expect(dismiss('b1', 2, ' ')).rejects.toMatchObject({ code: 'TM012', detail: 'table=orders' });
  });

  test('may be one of many: of a table, a batch, a column, or with a text in the reason of the rejection', async () => {
    await apply(
      sql,
      batch('b2', '10:05', [
        change(null, 'A', '09:00'),
        change(4, 'A', '09:00', { quantity: 'four' }),
        change(5, 'A', '09:00', { customer_id: 'five' }),
      ]),
    );
    const dismissed = (given: Record<string, string>) =>
      rolledBack(sql, async (transaction) => {
        const named = Object.entries(given).map(([name, value]) => `p_${name} => '${value}'`);
        const [row] = await transaction.unsafe<[{ n: string }]>(`
          select tidemark.dismiss_rejected(${[
            "'orders', p_reason => 'not needed'",
            ...(given.batch_id === undefined ? ['p_batch_id => null'] : []),
            'p_change_line => null',
            ...named,
          ].join(', ')}) as n`);
        const places = await transaction<{ v: string }[]>`
          select batch_id || ':' || change_line as v from tidemark.rejected_changes
          where dismiss_reason = 'not needed' order by batch_id, change_line`;
        expect(Number(row.n)).toBe(places.length);
        return places.map(({ v }) => v);
      });
    expect(await dismissed({})).toEqual(['b1:2', 'b1:3', 'b2:1', 'b2:2', 'b2:3']);
    expect(await dismissed({ batch_id: 'b2' })).toEqual(['b2:1', 'b2:2', 'b2:3']);
    expect(await dismissed({ column_name: 'quantity' })).toEqual(['b1:3', 'b2:2']);
    expect(await dismissed({ fault: 'type integer' })).toEqual(['b1:3', 'b2:2', 'b2:3']);
    expect(await dismissed({ fault: 'type integer', column_name: 'quantity', batch_id: 'b1' })).toEqual(['b1:3']);
    const [{ cause }] = await sql<[{ cause: string }]>`
      select cause from tidemark.rejected_causes('orders', 10) where column_name = 'quantity'`;
    expect(await dismissed({ cause, column_name: 'quantity' })).toEqual(['b1:3', 'b2:2']);
    expect(await dismissed({ cause: 'another' })).toEqual([]);
  });
});

describe('a rejected change is settled', () => {
  const bad = (id: number, time: string, overrides: Change = {}) =>
    change(id, 'A', time, { quantity: 'two', ...overrides });
  /** What waits, and what is settled by which change. */
  const states = async (reader: Database | Transaction = sql) =>
    (
      await reader<{ v: string }[]>`
        select concat_ws(' ', batch_id || ':' || change_line, settled_by_batch || ':' || settled_by_line) as v
        from tidemark.rejected_changes order by batch_id, change_line`
    ).map(({ v }) => v);
  const first = batch('b1', '10:00', [bad(1, '09:00'), bad(2, '09:00'), change(3, 'A', '09:00')], { sequence: 1 });

  test.each<[string, Change]>([
    ['an update', change(1, 'B', '10:30')],
    ['a deletion that closes a version, or finds none', deletion(1, '10:30')],
  ])('by %s of its key that was captured later, and by no other', async (_, later) => {
    await apply(sql, first);
    expect(await states()).toEqual(['b1:1', 'b1:2']);
    await apply(sql, batch('b2', '11:00', [change(3, 'B', '10:30'), later], { sequence: 2 }));
    expect(await states()).toEqual(['b1:1 b2:2', 'b1:2']);
    expect((await runChecks(sql, ['pipeline'])).filter(({ check }) => check === 'no change is rejected')).toMatchObject(
      [{ check: 'no change is rejected', violations: 1 }],
    );
    expect(await sql`select measured from tidemark.alerts where rule_name = 'Rejected Changes'`).toEqual([
      { measured: 1 },
    ]);
    expect(
      await sql`select rejected_changes from tidemark.kpis(interval '1 hour', now()) where dimension_name = 'orders'`,
    ).toEqual([{ rejected_changes: '1' }]);
  });

  test('by a change that says nothing new', async () => {
    await apply(sql, batch('b0', '09:30', [change(1, 'A', '09:00')]));
    await apply(sql, first);
    await apply(sql, batch('b2', '11:00', [change(1, 'A', '10:30')], { sequence: 2 }));
    expect(await states()).toEqual(['b1:1 b2:1', 'b1:2']);
  });

  test('by a later line of its own batch, and not by an earlier one', async () => {
    await apply(
      sql,
      batch('b1', '10:00', [change(1, 'A', '09:00'), bad(1, '09:10'), bad(2, '09:00'), change(2, 'B', '09:10')]),
    );
    expect(await states()).toEqual(['b1:2', 'b1:3 b1:4']);
  });

  test('not by another one that was rejected', async () => {
    await apply(sql, first);
    await apply(sql, batch('b2', '11:00', [bad(1, '10:30')], { sequence: 2 }));
    expect(await states()).toEqual(['b1:1', 'b1:2', 'b2:1']);
  });

  test('also where the later change was loaded before it', async () => {
    await apply(sql, batch('b2', '11:00', [change(1, 'B', '10:30')]));
    await apply(sql, first);
    expect(await states()).toEqual(['b1:1 b2:1', 'b1:2']);
  });

  test('not by one that was captured before it and loaded later', async () => {
    await apply(sql, first);
    await apply(sql, batch('b0', '09:30', [change(1, 'B', '09:10')]));
    expect(await states()).toEqual(['b1:1', 'b1:2']);
  });

  test('not where its key cannot be read', async () => {
    await apply(sql, batch('b1', '10:00', [change(null, 'A', '09:00'), bad(1, '09:00', { id: 'one' }), '42']));
    await apply(sql, batch('b2', '11:00', [change(1, 'B', '10:30'), change(null, 'A', '09:00')]));
    expect(await states()).toEqual(['b1:1', 'b1:2', 'b1:3', 'b2:2']);
  });

  test('in the order of effective times by one of a later time, whichever was captured first', async () => {
    const found = await rolledBack(sql, async (transaction) => {
      await transaction`update tidemark.dimensions set change_order = 'effective_time' where dimension_name = 'orders'`;
      await compile(transaction);
      await apply(transaction, batch('b1', '10:00', [bad(1, '09:30'), bad(2, '09:30')]));
      await apply(transaction, batch('b2', '11:00', [change(1, 'B', '09:10'), change(2, 'B', '09:40')]));
      const before = await states(transaction);
      await apply(transaction, batch('b0', '09:59', [change(1, 'B', '09:50')]));
      return [before, await states(transaction)];
    });
    expect(found).toEqual([
      ['b1:1', 'b1:2 b2:2'],
      ['b1:1 b0:1', 'b1:2 b2:2'],
    ]);
  });

  test('and stays so while its cause is there, but takes its place by a retry when it is gone', async () => {
    await apply(sql, first);
    await apply(sql, batch('b2', '11:00', [change(1, 'B', '10:30')], { sequence: 2 }));
    expect(await retry()).toEqual(retried({ rejected_changes: 2 }));
    expect(await states()).toEqual(['b1:1 b2:1', 'b1:2']);
    await sql`update tidemark.rejected_changes set change = replace(change::text, '"two"', '2')::json`;
    await retry();
    expect(await states()).toEqual([]);
    expect(await versions(sql)).toEqual([
      '1 A [09:00, 10:30) INSERT',
      '1 B [10:30, ) UPDATE',
      '2 A [09:00, ) INSERT',
      '3 A [09:00, ) INSERT',
    ]);
  });

  test('and is no batch that holds back the files of a chain', async () => {
    const settled = async () =>
      (await sql<{ v: string }[]>`select batch_id as v from tidemark.settled_batches('orders', '') order by 1`).map(
        ({ v }) => v,
      );
    await apply(sql, batch('b1', '10:00', [bad(1, '09:00')], { sequence: 1 }));
    expect(await settled()).toEqual([]);
    await apply(sql, batch('b2', '11:00', [change(1, 'B', '10:30')], { sequence: 2 }));
    expect(await settled()).toEqual(['b1', 'b2']);
  });
});
