// Runs once
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { apply, batch, change, compile, deletion, empty, rolledBack, type Change } from '../../support/batches.js';
import { createWarehouseDatabase, type TestDatabase } from '../../support/databases.js';
import { registerDimension } from '../../support/dimensions.js';

/** <history>_as_known: what a history would have answered at a moment of the past. The property test has all there is to it; these are examples. */

let warehouse: TestDatabase;
beforeAll(async () => {
  warehouse = await createWarehouseDatabase();
  await registerDimension(
    warehouse.sql,
    'readings',
    'readings',
    [
      { source: 'At', type: 'timestamptz', role: 'business key' },
      { source: 'weight', type: 'double precision', role: 'business key', history: '_weight' },
      { source: 'local', type: 'timestamp', role: 'tracked' },
      { source: 'raw', type: 'bytea', role: 'tracked' },
      { source: 'seen', type: 'timestamp', role: 'untracked', history: 'p_known' },
      { source: 'touched', type: 'timestamp', role: 'effective time' },
    ],
    { timeType: 'timestamp', sourceTimeZone: 'Europe/Berlin' },
  );
});
beforeEach(async () => {
  await empty(warehouse.sql);
  await warehouse.sql`update tidemark.dimensions set pruned_before = null, pruned_known_at = null`;
});
afterAll(async () => {
  await warehouse.drop();
});

const now = async (): Promise<string> => {
  const [row] = await warehouse.sql<[{ at: string }]>`select clock_timestamp()::text as at`;
  return row.at;
};

/** Applies a batch. @returns the moment since which it is known */
async function load(name: string, captured: string, ...changes: readonly Change[]): Promise<string> {
  await apply(warehouse.sql, batch(name, captured, changes));
  return now();
}

const known = async (valid: string, moment: string): Promise<string[]> =>
  (
    await warehouse.sql<{ v: string }[]>`
      select format('%s %s', order_key, order_status) as v
      from dim_orders_history_as_known(${valid}, ${moment}) order by order_key`
  ).map(({ v }) => v);

test('a report from before a late file came can be made once more', async () => {
  const early = await load('b2', '10:00', change(1, 'shipped', '09:30'), change(2, 'pending', '09:30'));
  const late = await load(
    'b1',
    '09:20',
    change(1, 'pending', '09:10'),
    change(2, 'pending', '09:10'),
    change(3, 'pending', '09:10'),
  );
  expect(await known('2026-02-01 09:15', early)).toEqual([]);
  expect(await known('2026-02-01 09:15', late)).toEqual(['1 pending', '2 pending', '3 pending']);
  expect(await known('2026-02-01 09:45', early)).toEqual(['1 shipped', '2 pending']);
  expect(await known('2026-02-01 09:45', late)).toEqual(['1 shipped', '2 pending', '3 pending']);
  expect(await known('2026-02-01 09:45', '2000-01-01')).toEqual([]);
  expect(await known('2026-02-01 09:45', 'infinity')).toEqual(['1 shipped', '2 pending', '3 pending']);
});

test('a delete that was not known yet had not happened', async () => {
  const before = await load('b1', '10:00', change(1, 'pending', '09:00'));
  const after = await load('b2', '11:00', deletion(1, '10:30'));
  expect(await known('infinity', before)).toEqual(['1 pending']);
  expect(await known('infinity', after)).toEqual([]);
});

test('a version keeps its surrogate key, also where its change opens none any more; the clock of its row is gone with it', async () => {
  const early = await load('b2', '10:00', change(1, 'pending', '09:30'));
  const told = async (moment: string) => {
    const [row] = await warehouse.sql`
      select batch_id, valid_from, is_current, surrogate_key, created_at is not null as has_clock
      from dim_orders_history_as_known('infinity', ${moment})`;
    return row;
  };
  const version = { batch_id: 'b2', valid_from: '2026-02-01 09:30:00', is_current: true, surrogate_key: '1' };
  expect(await told(early)).toEqual({ ...version, has_clock: true });
  await load('b1', '09:20', change(1, 'pending', '09:10'));
  expect(await told(early)).toEqual({ ...version, has_clock: false });
  expect(await told('infinity')).toMatchObject({ batch_id: 'b1', surrogate_key: '2', has_clock: true });
});

describe('a change that was rejected', () => {
  test('is known since it was tried again, and never where it was dismissed', async () => {
    const { sql } = warehouse;
    await sql.unsafe(`alter table dim_orders_history add constraint no_bad_status check (order_status <> 'bad')`);
    await compile(sql);
    const rejected = await load('b1', '10:00', change(1, 'bad', '09:00'), change(2, 'bad', '09:00'));
    await sql`select tidemark.dismiss_rejected('orders', 'b1', 2, 'a test row')`;
    await sql.unsafe('alter table dim_orders_history drop constraint no_bad_status');
    await compile(sql);
    await sql`select * from tidemark.retry_rejected('orders')`;
    expect(await known('infinity', rejected)).toEqual([]);
    expect(await known('infinity', await now())).toEqual(['1 bad']);
  });
});

test('a history that got a column by hand is refused by name, until its functions are written again', async () => {
  await load('b1', '10:00', change(1, 'pending', '09:00'));
  const { sql } = warehouse;
  // It begins like one that was there.
  await sql.unsafe('alter table dim_orders_history add column quant text');
  await expect(known('infinity', 'infinity')).rejects.toMatchObject({
    code: 'TM023',
    detail: 'table=orders columns=quant',
    hint: expect.stringContaining("tidemark.compile_dimension('orders')") as string,
  });
  await compile(sql);
  expect(await known('infinity', 'infinity')).toEqual(['1 pending']);
  await sql.unsafe('alter table dim_orders_history drop column quant');
  await compile(sql);
});

test('what pruning has taken away is refused, and told from the moment on that the message names', async () => {
  await load('b1', '10:00', change(1, 'pending', '09:00'));
  const before = await load('b2', '10:10', change(1, 'pending', '09:30', { unit_price: 1 }));
  await load('b3', '10:20', change(1, 'pending', '09:30', { unit_price: 1 }));
  await load('b4', '10:30', change(1, 'shipped', '10:25'));
  await load('b5', '10:40', change(2, 'pending', '10:35'));
  const { sql } = warehouse;
  const [at] = await sql<[{ at: string }]>`select applied_at::text as at from tidemark.batches where batch_id = 'b4'`;
  await sql`update tidemark.batches set sequence = substring(batch_id from 2)::integer`;
  await sql`
    update tidemark.batches as b set previous_checksum = p.checksum from tidemark.batches as p where p.sequence = b.sequence - 1`;
  const [pruned] = await sql`select pruned_changes from tidemark.prune_absorbed_changes('orders', 'infinity', 100)`;
  expect(pruned).toEqual({ pruned_changes: '1' });
  await expect(known('infinity', before)).rejects.toMatchObject({
    code: 'TM028',
    message: 'what was known at that moment can no longer be told: it was pruned',
    detail: expect.stringContaining(`known_since=${at.at}`) as string,
  });
  expect(await known('infinity', at.at)).toEqual(['1 shipped']);
  // A history without a single key refuses it, too.
  await sql`truncate dim_orders_history`;
  await expect(known('infinity', before)).rejects.toMatchObject({ code: 'TM028' });
});

test('a batch that is taken out of history is known until then, and again since it came back', async () => {
  const { sql } = warehouse;
  await load('b1', '10:00', change(1, 'pending', '09:00'));
  const loaded = await load('b2', '10:10', change(1, 'shipped', '09:30'), change(2, 'pending', '09:30'));
  await sql`select * from tidemark.retract_batch('orders', 'b2', 'a test')`;
  const retracted = await now();
  await sql`select * from tidemark.restore_batch('orders', 'b2')`;
  expect(await known('2026-02-01 09:45', loaded)).toEqual(['1 shipped', '2 pending']);
  expect(await known('2026-02-01 09:45', retracted)).toEqual(['1 pending']);
  expect(await known('2026-02-01 09:45', 'infinity')).toEqual(['1 shipped', '2 pending']);
});

describe('moments and settings', () => {
  const reading = (weight: number, local: string, seen: string, time: string): Change => ({
    At: '2026-02-01T08:00:00+00:00',
    weight,
    local,
    raw: '\\x00ff',
    seen,
    touched: time,
    operation_type: 'UPDATE',
    cdc_timestamp: time,
  });

  test('a moment without zone is one of the source zone; the answer is the same whatever the session has set', async () => {
    const [a, b] = ['2026-02-01T10:00:00', '2026-02-01T10:30:00'];
    const load = async (name: string, captured: string, changes: readonly Change[]) => {
      await apply(warehouse.sql, batch(name, captured, changes, { table: 'readings' }));
      return now();
    };
    const first = await load('r1', '12:00', [reading(0.1, a, a, a)]);
    const second = await load('r2', '12:10', [
      reading(0.1, a, b, b),
      reading(0.30000000000000004, a, a, a),
      reading(0.3, a, a, a),
    ]);
    const told = (settings: readonly string[]) =>
      rolledBack(warehouse.sql, async (transaction) => {
        for (const setting of settings) await transaction.unsafe(`set local ${setting}`);
        const rows = await transaction.unsafe<{ told: string }[]>(`
          with told as (
            select m.place, k.* from (values (1, timestamptz '${first}'), (2, '${second}')) as m (place, moment)
            cross join lateral dim_readings_history_as_known(timestamp '2026-02-01 10:15', m.moment) as k
            union all
            select 3, k.* from dim_readings_history_as_known(timestamptz '2026-02-01 09:15+00', timestamp '2100-01-01') as k
          )
          select concat_ws(' ', place, extract(epoch from "At"), float8send(_weight), to_char(local, 'HH24:MI'), to_char(p_known, 'HH24:MI')) as told
          from told order by place, _weight`);
        return rows.map((row) => row.told.replaceAll('\\\\', '\\'));
      });
    const plain = await told(["bytea_output = 'hex'"]);
    expect(plain.map((line) => `${line.charAt(0)} ${line.slice(-11)}`)).toEqual([
      '1 10:00 10:00',
      ...[2, 3].flatMap((place) => [
        `${String(place)} 10:00 10:30`,
        `${String(place)} 10:00 10:00`,
        `${String(place)} 10:00 10:00`,
      ]),
    ]);
    for (const setting of [
      "TimeZone = 'Asia/Kolkata'",
      "DateStyle = 'SQL, DMY'",
      'extra_float_digits = -15',
      'array_nulls = off',
    ])
      expect(await told(["bytea_output = 'hex'", setting]), setting).toEqual(plain);
  });

  test('there is one function for each type of either moment', async () => {
    const [row] = await warehouse.sql`
      select array_agg(pg_get_function_identity_arguments(oid) order by oid::regprocedure::text) as all
      from pg_proc where proname = 'dim_orders_history_as_known'`;
    expect(row?.all).toHaveLength(4);
  });
});
