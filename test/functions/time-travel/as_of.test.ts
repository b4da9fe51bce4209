import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWarehouseDatabase, type TestDatabase } from '../../support/databases.js';
import { apply, batch, change, rolledBack, type TestTransaction } from '../../support/batches.js';
import { registerDimension } from '../../support/dimensions.js';

/** What tidemark.compile_dimension writes beside a history: <history>_as_of, for an instant and for a time without zone. */

let warehouse: TestDatabase;
beforeAll(async () => {
  warehouse = await createWarehouseDatabase();
  await registerDimension(warehouse.sql, 'shifts', 'shifts', [
    { source: 'id', type: 'integer', role: 'business key' },
    { source: 'name', type: 'text', role: 'tracked' },
    { source: 'changed', type: 'timestamptz', role: 'effective time' },
  ]);
  await registerDimension(
    warehouse.sql,
    'berliners',
    'berliners',
    [
      { source: 'id', type: 'integer', role: 'business key' },
      { source: 'name', type: 'text', role: 'tracked' },
      { source: 'changed', type: 'timestamp', role: 'effective time' },
    ],
    { timeType: 'timestamp', sourceTimeZone: 'Europe/Berlin' },
  );
  const row = (name: string, time: string) => ({
    id: 1,
    name,
    changed: time,
    operation_type: 'UPDATE',
    cdc_timestamp: time,
  });
  await apply(warehouse.sql, batch('o', '12:00', [change(1, 'pending', '09:00'), change(1, 'confirmed', '10:00')]));
  // The same two instants: 09:00 and 10:00 UTC are 10:00 and 11:00 in Berlin in winter.
  await apply(
    warehouse.sql,
    batch('s', '12:00', [row('early', '2026-02-01T09:00:00Z'), row('late', '2026-02-01T10:00:00Z')], {
      table: 'shifts',
    }),
  );
  await apply(
    warehouse.sql,
    batch('b', '12:00', [row('early', '2026-02-01T10:00:00'), row('late', '2026-02-01T11:00:00')], {
      table: 'berliners',
    }),
  );
});
afterAll(async () => {
  await warehouse.drop();
});

const ZONES = ['UTC', 'America/New_York', 'Asia/Kolkata'];

const inZone = <T>(zone: string, work: (transaction: TestTransaction) => Promise<T>): Promise<T> =>
  rolledBack(warehouse.sql, async (transaction) => {
    await transaction`select set_config('TimeZone', ${zone}, true)`;
    return work(transaction);
  });

const joined = (moment: string) => `
  select concat_ws(' ', o.order_status, s.name, b.name) as v
  from dim_orders_history_as_of(${moment}) as o
  left join dim_shifts_history_as_of(${moment}) as s on s.id = o.order_key
  left join dim_berliners_history_as_of(${moment}) as b on b.id = o.order_key`;

describe.each(ZONES)('in a session in %s', (zone) => {
  test('histories of any type of time join as of one instant', async () => {
    const found = await inZone(zone, async (transaction) =>
      Promise.all(
        ['08:59:59', '09:00', '09:59:59', '10:00'].map(async (time) => {
          const [row] = await transaction.unsafe<{ v: string }[]>(joined(`timestamptz '2026-02-01 ${time}+00'`));
          return row?.v;
        }),
      ),
    );
    expect(found).toEqual([undefined, 'pending early early', 'pending early early', 'confirmed late late']);
  });

  test('histories of any type of time join as of now()', async () => {
    const found = await inZone(zone, async (transaction) => {
      const local = (before: string, sourceZone: string) =>
        transaction<[{ v: string }]>`
          select to_char(now() at time zone ${sourceZone} - ${before}::interval, 'YYYY-MM-DD"T"HH24:MI:SS.US') as v`;
      const [extracted] = await local('0', 'UTC');
      const until = async (name: string, table: string, sourceZone: string, make: (time: string) => object) => {
        const [time] = await local('1 minute', sourceZone);
        await apply(
          transaction,
          batch(`${name}_now`, extracted.v, [{ operation_type: 'UPDATE', ...make(time.v) }], { table }),
        );
      };
      await until('o', 'orders', 'UTC', (time) => change(1, 'shipped', time));
      const row = (time: string) => ({ id: 1, name: 'newest', changed: time, cdc_timestamp: time });
      await until('s', 'shifts', 'UTC', (time) => row(`${time}Z`));
      await until('b', 'berliners', 'Europe/Berlin', row);
      return transaction.unsafe<{ v: string }[]>(joined('now()'));
    });
    expect(found).toEqual([{ v: 'shipped newest newest' }]);
  });

  test('a time without zone is in the zone of the source', async () => {
    const found = await inZone(zone, async (transaction) =>
      Promise.all(
        [
          "dim_orders_history_as_of(timestamp '2026-02-01 09:30')",
          "dim_shifts_history_as_of(timestamp '2026-02-01 09:30')",
          "dim_berliners_history_as_of(timestamp '2026-02-01 10:30')",
        ].map(
          async (call) =>
            (await transaction.unsafe(`select h.valid_to is not null as is_first from ${call} as h`))[0]
              ?.is_first as boolean,
        ),
      ),
    );
    expect(found).toEqual([true, true, true]);
  });

  test('a moment written without a type is in the zone of the session', async () => {
    const found = await inZone(zone, async (transaction) => {
      const [moment] = await transaction<[{ v: string }]>`
        select to_char(timestamptz '2026-02-01 09:30+00', 'YYYY-MM-DD HH24:MI') as v`;
      return transaction.unsafe<{ v: string }[]>(joined(`'${moment.v}'`));
    });
    expect(found).toEqual([{ v: 'pending early early' }]);
  });
});

test.each([
  ['dim_orders_history', 'order_key', "timestamptz '2026-02-01 09:30+00'"],
  ['dim_orders_history', 'order_key', 'now()'],
  ['dim_orders_history', 'order_key', "timestamp '2026-02-01 09:30'"],
  ['dim_shifts_history', 'id', "timestamp '2026-02-01 09:30'"],
  ['dim_berliners_history', 'id', 'now()'],
])('%s_as_of, of %s = 1 at %s, is looked up by an index', async (history, key, moment) => {
  const plan = await rolledBack(warehouse.sql, async (transaction) => {
    await transaction`set local enable_seqscan = off`;
    return transaction.unsafe<{ 'QUERY PLAN': string }[]>(
      `explain select * from ${history}_as_of(${moment}) where ${key} = 1`,
    );
  });
  const text = plan.map((row) => row['QUERY PLAN']).join('\n');
  expect(text).toMatch(/Index (Scan using|Cond)/);
  expect(text).not.toContain('Function Scan');
});

describe('tidemark.compile_dimension', () => {
  const signatures = (transaction: TestTransaction) => transaction<{ v: string; is_own: boolean }[]>`
    select p.oid::regprocedure::text as v, p.prosrc like '%Written by tidemark%' as is_own
    from pg_proc as p where p.proname = 'dim_orders_history_as_of' order by 1`;

  test('gives a registration that has one as-of function the other one, and leaves its own as it is', async () => {
    const found = await rolledBack(warehouse.sql, async (transaction) => {
      await transaction.unsafe(`
        drop function dim_orders_history_as_of(timestamp), dim_orders_history_as_of(timestamptz);
        create function dim_orders_history_as_of(p_moment timestamp) returns setof dim_orders_history language sql stable as
          'select h.* from public.dim_orders_history as h where h.valid_from <= p_moment and (h.valid_to > p_moment or h.valid_to is null)';
        select tidemark._compile_dimensions()`);
      return signatures(transaction);
    });
    expect(found).toEqual([
      { v: 'dim_orders_history_as_of(timestamp with time zone)', is_own: true },
      { v: 'dim_orders_history_as_of(timestamp without time zone)', is_own: false },
    ]);
  });

  test('writes them for a history whose name has to be quoted, and none where the name would be too long', async () => {
    const found = await rolledBack(warehouse.sql, async (transaction) => {
      await transaction`alter table dim_orders_history rename to "Orders' %s"`;
      await transaction`select tidemark.compile_dimension('orders')`;
      const rows = await transaction`select order_status from "Orders' %s_as_of"(timestamp '2026-02-01 09:30')`;
      await transaction.unsafe(`alter table "Orders' %s" rename to ${'x'.repeat(59)}`);
      await transaction`select tidemark.compile_dimension('orders')`;
      return { rows, long: await transaction`select 1 from pg_proc where proname like 'xxx%'` };
    });
    expect(found).toEqual({ rows: [{ order_status: 'pending' }], long: [] });
  });
});

test('tidemark.remove_dimension drops both as-of functions with the history', async () => {
  const left = await rolledBack(warehouse.sql, async (transaction) => {
    await transaction`select tidemark.remove_dimension('shifts', true)`;
    return transaction`select from pg_proc where proname = 'dim_shifts_history_as_of'`;
  });
  expect(left).toHaveLength(0);
});
