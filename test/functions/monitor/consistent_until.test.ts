// Runs once: what it tries is plain SQL over rows.
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Database } from '../../../runner/base/database.js';
import { createWarehouseDatabase, type TestDatabase } from '../../support/databases.js';
import { apply, at, batch, empty, rolledBack, type Change, type TestTransaction } from '../../support/batches.js';
import { registerDimension } from '../../support/dimensions.js';

let warehouse: TestDatabase;
let sql: Database;
beforeAll(async () => {
  warehouse = await createWarehouseDatabase();
  sql = warehouse.sql;
  for (const name of ['accounts', 'payments'])
    await registerDimension(sql, name, name, [
      { source: 'id', type: 'integer', role: 'business key' },
      { source: 'amount', type: 'integer', role: 'tracked' },
    ]);
  await sql`select tidemark.declare_capture(d, 'log') from unnest(array['accounts', 'payments', 'orders']) as d`;
});
beforeEach(async () => {
  await empty(sql);
  await sql.unsafe('truncate tidemark.stream_positions; update tidemark.dimensions set commit_times_from = null');
});
afterAll(async () => {
  await warehouse.drop();
});

const document = (name: string, time: string, metadata: Change, amount: unknown = 1) =>
  batch(name, time, [{ id: 1, amount, operation_type: 'UPDATE' }], {
    table: 'accounts',
    columns: ['id', 'amount'],
    ...metadata,
  });
const ofLog = (sequence: number, committed: string, after: unknown = null): Change => ({
  sequence,
  log: { slot: 's', unchanged: 0, last_commit_time: `${at(committed)}Z`, after },
});

const note = (reader: Database | TestTransaction, time: string, tables = ['accounts', 'payments'], slot = 's') =>
  reader`select tidemark.note_stream_position(${slot}, '0/1', ${`${at(time)}Z`}, ${tables})`;

const until = async (tables: string[], reader: Database | TestTransaction = sql) => {
  const [row] = await reader<[{ from: string | null; until: string | null; reason: string | null }]>`
    select to_char(consistent_from, 'HH24:MI') as from, to_char(consistent_until, 'HH24:MI:SS.US') as until, reason
    from tidemark.consistent_until(${tables})`;
  return row;
};

describe('several histories are complete together', () => {
  test('up to the commit that all slots are loaded to, quiet tables included', async () => {
    await note(sql, '09:05', ['accounts']);
    await note(sql, '09:03', ['payments'], 't');
    expect(await until(['accounts'])).toEqual({ from: null, until: '09:05:00.000000', reason: null });
    expect(await until(['accounts', 'payments'])).toMatchObject({ until: '09:03:00.000000' });
    await note(sql, '09:02', ['payments'], 't');
    expect(await until(['payments'])).toMatchObject({ until: '09:03:00.000000' });
  });

  test.each([
    ['a table that is polled', 'customers', 'it is polled'],
    ['a table whose versions have the times of a column', 'orders', 'its versions have the times of a column'],
    ['a table that was taken out of its stream', 'payments', 'no stream keeps it'],
    ['a table that there is not', 'nothing', 'there is no such dimension'],
  ])('at no moment with %s', async (_, table, reason) => {
    await note(sql, '09:05', ['accounts', 'orders', 'customers']);
    expect(await until(['accounts', table])).toMatchObject({
      from: null,
      until: null,
      reason: expect.stringContaining(`${table}: ${reason}`) as string,
    });
  });

  test('after the hand-off of each, and from the moment on at which its changes have the times of their commits', async () => {
    await apply(sql, document('b1', '09:01', { sequence: 1 }));
    await note(sql, '09:00');
    expect(await until(['accounts'])).toMatchObject({
      until: null,
      reason: 'accounts: its hand-off is not passed yet',
    });
    await note(sql, '09:02');
    expect(await until(['accounts'])).toEqual({ from: '09:01', until: '09:02:00.000000', reason: null });
    // Of a commit from before the hand-off, which takes the time after it; then of commits that have their own.
    await apply(sql, document('l2', '09:03', { ...ofLog(2, '09:00'), previous_batch_id: 'b1' }));
    await apply(sql, document('l3', '09:04', { ...ofLog(3, '09:04', { until: '0/9' }), previous_batch_id: 'l2' }));
    await note(sql, '09:05');
    expect(await until(['accounts'])).toMatchObject({ from: '09:04', until: '09:05:00.000000' });
    await apply(sql, document('l4', '09:06', { ...ofLog(4, '09:06'), previous_batch_id: 'l3' }));
    expect(await until(['accounts'])).toMatchObject({ from: '09:04', until: '09:05:00.000000' });
    // Of a transaction that goes on in the next batch.
    const inside = { ...(ofLog(5, '09:06').log as Change), inside: { commit: '0/9', changes: 1 } };
    await apply(sql, document('l5', '09:08', { sequence: 5, log: inside, previous_batch_id: 'l4' }));
    expect(await until(['accounts'])).toMatchObject({ from: '09:04' });
    // A repair has another time than the commits that it replaces.
    await apply(sql, document('r6', '09:09', { sequence: 6 }));
    expect(await until(['accounts'])).toMatchObject({ until: null });
  });

  test('up to the first change that waits among the rejected, which is named', async () => {
    await apply(sql, document('l1', '09:04', ofLog(1, '09:04'), 'many'));
    await note(sql, '09:05');
    expect(await until(['accounts', 'payments'])).toEqual({
      from: null,
      until: '09:03:59.999999',
      reason: 'accounts: a change waits among the rejected',
    });
  });

  test('from the hand-off on, which is what was loaded when the log was declared to be read', async () => {
    await rolledBack(sql, async (transaction) => {
      await transaction`select tidemark.declare_capture('accounts', 'poll')`;
      await apply(transaction, document('b1', '09:01', { sequence: 1 }));
      await transaction`select tidemark.declare_capture('accounts', 'log')`;
      await note(transaction, '09:02');
      expect(await until(['accounts'], transaction)).toEqual({ from: '09:01', until: '09:02:00.000000', reason: null });
    });
  });
});

describe('a table that is captured from the log', () => {
  const lag = async (reader: TestTransaction) => {
    const [row] = await reader<[{ lag_seconds: number; is_expected: boolean }]>`
      select lag_seconds, is_expected from tidemark.table_progress('2026-02-01 10:00+00') where dimension_name = 'accounts'`;
    return row;
  };

  test('is as far behind as its slot is loaded, though nobody polls it, and is expected once a stream keeps it', async () => {
    await rolledBack(sql, async (transaction) => {
      await apply(transaction, document('l1', '09:00', ofLog(1, '09:00')));
      expect(await lag(transaction)).toEqual({ lag_seconds: 3600, is_expected: false });
      await note(transaction, '09:59');
      expect(await lag(transaction)).toEqual({ lag_seconds: 60, is_expected: true });
      await transaction`select tidemark.note_stream_position('s', '0/2', '2026-02-01 09:59Z', array['accounts'], '2026-02-01 09:59:50Z')`;
      expect(await lag(transaction)).toEqual({ lag_seconds: 10, is_expected: true });
    });
  });

  test('has the latency from its commits', async () => {
    await rolledBack(sql, async (transaction) => {
      await apply(
        transaction,
        document('l1', '09:00', { ...ofLog(1, '09:00'), high_watermark: { time: '2020-01-01', key: ['1'] } }),
      );
      await transaction`update tidemark.batches set apply_started_at = '2026-02-01 09:00:01Z', applied_at = '2026-02-01 09:00:02Z'`;
      const [row] = await transaction<[{ latency: number }]>`
        select end_to_end_latency_p95 as latency from tidemark.kpis('1 hour', '2026-02-01 09:30Z') where dimension_name = 'accounts'`;
      expect(row.latency).toBe(2);
    });
  });
});

test('a slot is as it was last reported, and forgotten when it is dropped', async () => {
  const reported = () => sql`
    select slot, wal_status, unconfirmed_bytes, slot_retained_share, seconds_behind, gap_from is not null as has_gap
    from tidemark.slot_kpis('2026-02-01 10:00Z')`;
  await sql`select tidemark.note_slot('s', 'extended', '0/1', 7, 25, 75, '2026-02-01 08:00Z', '2026-02-01 08:30Z')`;
  await sql`select tidemark.note_slot('s', 'reserved', '0/2', 5, 20, 80)`;
  await note(sql, '09:59');
  expect(await reported()).toEqual([
    {
      slot: 's',
      wal_status: 'reserved',
      unconfirmed_bytes: '5',
      slot_retained_share: 0.2,
      seconds_behind: 60,
      has_gap: true,
    },
  ]);
  await sql`select tidemark.forget_slot('s')`;
  expect(await reported()).toEqual([]);
});
