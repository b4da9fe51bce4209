// Runs once: what it tries is plain SQL over rows.
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { connect, type Database, type Transaction } from '../../../runner/base/database.js';
import { inTransaction } from '../../../runner/base/transaction.js';
import { runChecks } from '../../../runner/warehouse/checks.js';
import {
  absorbed,
  alreadyApplied,
  apply,
  at,
  batch,
  change,
  compile,
  deletion,
  empty,
  rolledBack,
  versions,
  type Change,
} from '../../support/batches.js';
import { createWarehouseDatabase, type TestDatabase } from '../../support/databases.js';
import { restore, retract } from '../../support/retractions.js';
import { until } from '../../support/wait.js';

let warehouse: TestDatabase;
let sql: Database;
beforeAll(async () => {
  warehouse = await createWarehouseDatabase();
  sql = warehouse.sql;
});
afterEach(async () => {
  await empty(sql);
  await sql`update tidemark.dimensions set pruned_before = null`;
});
afterAll(async () => {
  await warehouse.drop();
});

/** Applies batches that follow each other in a chain, one a minute from 10:01. */
async function applyChain(...contents: readonly (readonly Change[])[]): Promise<string[]> {
  let previous: string | null = null;
  const documents: string[] = [];
  for (const [index, changes] of contents.entries()) {
    const document = batch(`b${String(index + 1)}`, `10:0${String(index + 1)}`, changes, {
      sequence: index + 1,
      previous_checksum: previous,
    });
    await apply(sql, document);
    documents.push(document);
    previous = (JSON.parse(document) as { batch_metadata: { checksum: string } }).batch_metadata.checksum;
  }
  return documents;
}

const state = (status: string, time: string) => [change(1, status, time)];
const keys = async () =>
  Object.fromEntries(
    (
      await sql<{ order_status: string; surrogate_key: string }[]>`
        select order_status, surrogate_key from public.dim_orders_history order by valid_from`
    ).map((row) => [row.order_status, row.surrogate_key]),
  );
const out = (reader: Database | Transaction = sql) =>
  reader`select batch_id, change_line, cdc_operation, surrogate_key, rejected is not null as was_rejected
    from tidemark.retracted_changes order by batch_id, change_line`;
const violations = async () =>
  (await runChecks(sql, ['pipeline', 'scd2'])).filter((result) => result.violations > 0).map(({ check }) => check);

describe('a batch that is taken out', () => {
  test('leaves the history of all other changes, whose versions keep their keys, and says who did it, when and why', async () => {
    await applyChain(state('A', '09:01'), [...state('B', '09:02'), deletion(2, '09:02')], state('C', '09:03'));
    const before = await keys();
    const [done] = await sql`
      select * from tidemark.retract_batch(p_dimension_name => 'orders', p_batch_id => 'b2', p_reason => 'a test', p_who => 'ann')`;
    expect(done).toEqual({
      retracted_changes: '2',
      removed_versions: '1',
      opened_versions: '0',
      closed_versions: '0',
      corrected_versions: '1',
      already_retracted: false,
    });
    expect(await versions(sql)).toEqual(['1 A [09:01, 09:03) INSERT', '1 C [09:03, ) UPDATE']);
    expect(await keys()).toEqual({ A: before.A, C: before.C });
    expect([...(await out())]).toEqual([
      { batch_id: 'b2', change_line: 1, cdc_operation: 'UPDATE', surrogate_key: before.B, was_rejected: false },
      { batch_id: 'b2', change_line: 2, cdc_operation: 'DELETE', surrogate_key: null, was_rejected: false },
    ]);
    const [note] = await sql`
      select r.batch_id, r.retracted_by, r.reason, r.retracted_changes, r.restored_at, r.retracted_at = b.retracted_at as is_of_ledger
      from tidemark.retractions as r join tidemark.batches as b using (dimension_name, shard, batch_id)`;
    expect(note).toEqual({
      batch_id: 'b2',
      retracted_by: 'ann',
      reason: 'a test',
      retracted_changes: 2,
      restored_at: null,
      is_of_ledger: true,
    });
    expect(await violations()).toEqual([]);
  });

  test('is brought back under the keys that its versions had, and so is what was absorbed without it', async () => {
    await applyChain(state('A', '09:01'), state('B', '09:02'), [change(1, 'A', '09:03')]);
    const rows = () =>
      sql`select surrogate_key, valid_from, valid_to, batch_id from public.dim_orders_history order by 1`;
    const before = [...(await rows())];
    await retract(sql, 'orders', 'b2');
    expect(await versions(sql)).toEqual(['1 A [09:01, ) INSERT']);
    expect(await absorbed(sql)).toEqual(['b3:1 UPDATE {"order_key" : 1} unchanged']);
    const [done] = await restore(sql, 'orders', 'b2');
    expect(done).toEqual({
      restored_changes: '1',
      opened_versions: '2',
      closed_versions: '2',
      corrected_versions: '0',
      already_restored: false,
    });
    expect([...(await rows())]).toEqual(before);
    expect([...(await out())]).toEqual([]);
    expect(await absorbed(sql)).toEqual([]);
    const [note] =
      await sql`select restored_at > retracted_at as is_later, restored_by = session_user as is_own from tidemark.retractions`;
    expect(note).toEqual({ is_later: true, is_own: true });
    expect(await violations()).toEqual([]);
  });

  test('stays out when it is taken out or loaded again, and is brought back once; each time is kept', async () => {
    const documents = await applyChain(state('A', '09:01'), state('B', '09:02'));
    await retract(sql, 'orders', 'b2');
    expect((await retract(sql, 'orders', 'b2'))[0]).toMatchObject({ already_retracted: true, retracted_changes: '0' });
    expect(await apply(sql, documents[1] ?? '')).toEqual(alreadyApplied());
    expect(await versions(sql)).toEqual(['1 A [09:01, ) INSERT']);
    await restore(sql, 'orders', 'b2');
    expect((await restore(sql, 'orders', 'b2'))[0]).toMatchObject({ already_restored: true, restored_changes: '0' });
    await retract(sql, 'orders', 'b2');
    expect([
      ...(await sql`select restored_at is null as is_out from tidemark.retractions order by retracted_at`),
    ]).toEqual([{ is_out: false }, { is_out: true }]);
  });

  test('takes its rejected changes with it, which are not tried again, and come back as they were', async () => {
    await applyChain(state('A', '09:01'), [
      change(1, 'B', '09:02', { quantity: 'many' }),
      change(2, 'B', '09:02', { quantity: 'some' }),
    ]);
    await sql`select tidemark.dismiss_rejected('orders', 'b2', 2, 'not needed')`;
    const rejected = () => sql`select * from tidemark.rejected_changes order by change_line`;
    const before = [...(await rejected())];
    await retract(sql, 'orders', 'b2');
    expect([...(await rejected())]).toEqual([]);
    expect((await out()).map(({ was_rejected }) => was_rejected as boolean)).toEqual([true, true]);
    await sql`select tidemark.retry_rejected('orders')`;
    await restore(sql, 'orders', 'b2');
    expect([...(await rejected())]).toEqual(before);
    expect(await violations()).toEqual(['no change is rejected']);
  });

  test('settles no rejected change any more: another later change does, or it waits again', async () => {
    await applyChain([change(1, 'A', '09:01', { quantity: 'many' })], state('B', '09:02'), state('C', '09:03'));
    const settled = async () =>
      (await sql`select settled_by_batch from tidemark.rejected_changes`).map(
        (row) => row.settled_by_batch as string | null,
      );
    expect(await settled()).toEqual(['b2']);
    await retract(sql, 'orders', 'b2');
    expect(await settled()).toEqual(['b3']);
    await retract(sql, 'orders', 'b3');
    expect(await settled()).toEqual([null]);
    await restore(sql, 'orders', 'b2');
    expect(await settled()).toEqual(['b2']);
  });

  test('is not there for what is loaded after it, late or not', async () => {
    await applyChain(state('A', '09:01'), state('B', '09:02'));
    await retract(sql, 'orders', 'b2');
    await apply(sql, batch('late', '10:01:30', state('L', '09:01:30')));
    await apply(sql, batch('next', '10:09', state('B', '09:09')));
    const without = ['1 A [09:01, 09:01:30) INSERT', '1 L [09:01:30, 09:09) UPDATE', '1 B [09:09, ) UPDATE'];
    expect(await versions(sql)).toEqual(without);
    await restore(sql, 'orders', 'b2');
    expect(await versions(sql)).toEqual([
      '1 A [09:01, 09:01:30) INSERT',
      '1 L [09:01:30, 09:02) UPDATE',
      '1 B [09:02, ) UPDATE',
    ]);
    expect(await absorbed(sql)).toEqual(['next:1 UPDATE {"order_key" : 1} unchanged']);
  });

  test('is named with what it said last of a key, in the form that is compared with the source', async () => {
    await applyChain(state('A', '09:01'), [...state('B', '09:02'), change(2, 'X', '09:02')], [deletion(2, '09:03')]);
    const said = () =>
      sql`select * from tidemark.retracted_states('orders', ${JSON.stringify(['["1"]', '["2"]', '["3"]'])}::text::json)`;
    expect([...(await said())]).toEqual([]);
    await retract(sql, 'orders', 'b2');
    await retract(sql, 'orders', 'b3');
    const [one, two, ...more] = await said();
    expect(one).toEqual({ key: '["1"]', content: '(1,101,201,2,29.99,59.98,B,"2026-02-01 09:00:00")', batch_id: 'b2' });
    expect([two, ...more]).toEqual([{ key: '["2"]', content: null, batch_id: 'b3' }]);
  });

  test('is found again, if it must not be, by the check that each change is in one place', async () => {
    await applyChain(state('A', '09:01'), state('B', '09:02'));
    await retract(sql, 'orders', 'b2');
    await sql`update tidemark.batches set retracted_at = null`;
    expect(await violations()).toContain('every change is in one place');
    await sql`update tidemark.batches set retracted_at = applied_at`;
    expect(await violations()).toContain('every change is in one place');
  });

  test('keeps pruning from what is later than it', async () => {
    await applyChain(
      state('A', '09:01'),
      state('A', '09:01'),
      state('B', '09:02'),
      state('B', '09:02'),
      state('B', '09:02'),
      state('B', '09:02'),
    );
    await retract(sql, 'orders', 'b3');
    const prune = async () => (await sql`select * from tidemark.prune_absorbed_changes('orders', 'infinity', 1000)`)[0];
    // b3 is out: what says B comes with b4, and the last repeat of A may matter.
    expect(await prune()).toEqual({ pruned_changes: '0', pruned_before: '2026-02-01 10:03:00+00' });
    await restore(sql, 'orders', 'b3');
    expect(await prune()).toMatchObject({ pruned_changes: '2' });
  });
});

describe('a batch is not taken out', () => {
  test.each([
    ['of a table that is not registered', "tidemark.retract_batch('nothing', 'b1', 'wrong')", 'TM002'],
    ['that the ledger does not have', "tidemark.retract_batch('orders', 'b9', 'wrong')", 'TM027'],
    ['without a reason', "tidemark.retract_batch('orders', 'b1', ' ')", 'TM012'],
    ['without any reason', "tidemark.retract_batch('orders', 'b1', null)", 'TM012'],
  ])('%s', async (_, call, code) => {
    await applyChain(state('A', '09:01'));
    await expect(sql.unsafe(`select ${call}`)).rejects.toMatchObject({ code });
    await expect(sql.unsafe("select tidemark.restore_batch('orders', 'b9')")).rejects.toMatchObject({ code: 'TM027' });
  });

  test('in REPEATABLE READ', async () => {
    await applyChain(state('A', '09:01'));
    for (const call of ["retract_batch('orders', 'b1', 'wrong')", "restore_batch('orders', 'b1')"])
      await expect(
        sql.begin('isolation level repeatable read', (transaction) => transaction.unsafe(`select tidemark.${call}`)),
      ).rejects.toMatchObject({ code: 'TM006' });
  });

  test('where something was pruned that might matter without it', async () => {
    await applyChain(state('A', '09:01'), state('A', '09:01'), state('B', '09:02'), state('C', '09:03'));
    await sql`select tidemark.prune_absorbed_changes('orders', 'infinity', 1000)`;
    await expect(sql.unsafe("select tidemark.retract_batch('orders', 'b3', 'wrong')")).rejects.toMatchObject({
      code: 'TM018',
      detail: 'table=orders batch=b3 captured_at=2026-02-01 10:03:00+00 pruned_before=2026-02-01 10:04:00+00',
    });
    await retract(sql, 'orders', 'b4');
    expect(await versions(sql)).toHaveLength(2);
  });

  test('while a loader has the table: it waits, and sees what that did', async () => {
    await applyChain(state('A', '09:01'), state('B', '09:02'));
    const other = connect(warehouse.settings, 'test');
    try {
      let waiting: Promise<unknown> | undefined;
      await sql.begin('isolation level read committed', async (transaction) => {
        await apply(transaction, batch('b3', '10:03', state('C', '09:03')));
        waiting = retract(other, 'orders', 'b2');
        await until(
          async () => (await transaction`select from pg_locks where locktype = 'advisory' and not granted`).length > 0,
        );
        expect(await versions(transaction)).toHaveLength(3);
      });
      await waiting;
      expect(await versions(sql)).toEqual(['1 A [09:01, 09:03) INSERT', '1 C [09:03, ) UPDATE']);
    } finally {
      await other.end();
    }
  });

  test('in part: a session that ends in the middle leaves everything as it was', async () => {
    await applyChain(state('A', '09:01'), state('B', '09:02'));
    const other = connect(warehouse.settings, 'test');
    await expect(
      inTransaction(other, 'isolation level read committed', async (transaction) => {
        await retract(transaction, 'orders', 'b2');
        await transaction`select pg_terminate_backend(pg_backend_pid())`;
      }),
    ).rejects.toThrow();
    await other.end({ timeout: 0 });
    expect(await versions(sql)).toHaveLength(2);
    expect([...(await out())]).toEqual([]);
    expect(await violations()).toEqual([]);
  });
});

describe('a batch of the log', () => {
  const COLUMNS = Object.keys(change(1, 'A', '09:00')).filter(
    (name) => !['operation_type', 'cdc_timestamp'].includes(name),
  );
  const logged = (sequence: number, changes: readonly Change[]): string =>
    batch(
      `l${String(sequence)}`,
      String(changes.at(-1)?.cdc_timestamp),
      changes.map((one) => ({ ...one, extracted_at: `${String(one.cdc_timestamp)}Z` })),
      {
        format: 2,
        sequence,
        columns: COLUMNS,
        previous_batch_id: sequence === 1 ? null : `l${String(sequence - 1)}`,
        log: { slot: 's', unchanged: changes.filter((one) => 'unchanged' in one).length },
      },
    );
  /** A change whose status the log left out, because it did not change. */
  const kept = (quantity: number, time: string): Change => {
    const { order_status: left, ...rest } = change(1, '', time, { quantity });
    return { ...rest, unchanged: left === '' ? ['order_status'] : [] };
  };
  const truncation = (time: string): Change => ({ operation_type: 'TRUNCATE', cdc_timestamp: at(time) });

  test('says of a value that did not change what it was, also while it is out', async () => {
    for (const document of [logged(1, state('A', '09:01')), logged(2, state('B', '09:02'))]) await apply(sql, document);
    await retract(sql, 'orders', 'l2');
    // The one after it in the chain is loaded all the same.
    await apply(sql, logged(3, [kept(7, '09:03')]));
    expect(await versions(sql)).toEqual(['1 A [09:01, 09:03) INSERT', '1 B [09:03, ) UPDATE']);
  });

  test('is not taken out where it is a TRUNCATE', async () => {
    for (const document of [logged(1, state('A', '09:01')), logged(2, [truncation('09:02')])])
      await apply(sql, document);
    await expect(sql.unsafe("select tidemark.retract_batch('orders', 'l2', 'wrong')")).rejects.toMatchObject({
      code: 'TM027',
    });
  });

  test('that deleted a row before a TRUNCATE leaves the row to be ended by that', async () => {
    const documents = [state('A', '09:01'), [deletion(1, '09:02')], [truncation('09:03')], state('B', '09:04')];
    for (const [index, changes] of documents.entries()) await apply(sql, logged(index + 1, changes));
    await retract(sql, 'orders', 'l2');
    expect(await versions(sql)).toEqual(['1 A [09:01, 09:03) INSERT', '1 B [09:04, ) INSERT']);
    expect(await violations()).not.toContain('every change is in one place');
    await restore(sql, 'orders', 'l2');
    expect(await versions(sql)).toEqual(['1 A [09:01, 09:02) INSERT', '1 B [09:04, ) INSERT']);
    expect(await violations()).not.toContain('every change is in one place');
  });
});

test('a dry run shows by example what became of it', async () => {
  await applyChain(state('A', '09:01'), [...state('B', '09:02'), change(2, 'X', '09:02')], [change(1, 'B', '09:03')]);
  const effects = await rolledBack(sql, async (transaction) => {
    await retract(transaction, 'orders', 'b2');
    return transaction<{ effect: string; batch_id: string; change_line: number }[]>`
      select effect, batch_id, change_line from tidemark.transaction_effects('orders', 5)`;
  });
  expect(effects.map(({ effect, batch_id, change_line }) => `${effect} ${batch_id}:${String(change_line)}`)).toEqual([
    'retracted b2:1',
    'retracted b2:2',
    'opened b3:1',
    'altered b1:1',
  ]);
});

test('a rule that was made meanwhile is no hindrance to a retraction', async () => {
  await applyChain(state('A', '09:01'), state('B', '09:02'));
  await rolledBack(sql, async (transaction) => {
    await transaction`alter table public.dim_orders_history add constraint no_b check (order_status <> 'B') not valid`;
    await compile(transaction);
    await retract(transaction, 'orders', 'b2');
    expect(await versions(transaction)).toEqual(['1 A [09:01, ) INSERT']);
  });
});
