// Runs once: logged.property.test.ts proves the same at large, on each version.
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Database, Transaction } from '../../../runner/base/database.js';
import { registerDimension } from '../../support/dimensions.js';
import { createWarehouseDatabase, type TestDatabase } from '../../support/databases.js';
import {
  absorbed,
  apply,
  applied,
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

const COLUMNS = Object.keys(change(1, 'A', '09:00')).filter(
  (name) => !['operation_type', 'cdc_timestamp'].includes(name),
);

/** A batch of the log: each of its changes was committed at its effective time. */
const logged = (sequence: number, changes: readonly Change[], overrides: Change = {}): string => {
  const committed = (one: Change) => ({ ...one, extracted_at: `${String(one.cdc_timestamp)}Z` });
  const last = String(changes.at(-1)?.cdc_timestamp);
  return batch(`l${String(sequence)}`, last, changes.map(committed), {
    format: 2,
    sequence,
    columns: COLUMNS,
    previous_batch_id: sequence === 1 ? null : `l${String(sequence - 1)}`,
    log: { slot: 's', unchanged: changes.filter((one) => 'unchanged' in one).length },
    ...overrides,
  });
};

/** A change whose status the log left out, because it did not change. */
const kept = (id: number, quantity: number, time: string, overrides: Change = {}): Change => {
  const { order_status: left, ...rest } = change(id, '', time, { quantity, ...overrides });
  return { ...rest, ...(left === '' ? { unchanged: ['order_status'] } : { order_status: left }) };
};

const truncation = (time: string): Change => ({ operation_type: 'TRUNCATE', cdc_timestamp: at(time) });

const loadAll = async (reader: Database | Transaction, ...documents: string[]) => {
  for (const document of documents) await apply(reader, document);
};

const rejected = async () =>
  sql`select batch_id, change_line, column_name, reason, settled_by_batch from tidemark.rejected_changes order by batch_id, change_line`;

describe('a batch of the log', () => {
  test('is loaded after the batch before it in its chain, and not without it', async () => {
    const documents = [1, 2, 3].map((n) => logged(n, [change(1, `S${String(n)}`, `09:0${String(n)}`)]));
    await loadAll(sql, documents[0] ?? '');
    await expect(apply(sql, documents[2] ?? '')).rejects.toMatchObject({
      code: 'TM026',
      detail: 'table=orders batch=l3 sequence=3 previous_batch_id=l2',
    });
    await loadAll(sql, ...documents.slice(1));
    expect(await versions(sql)).toHaveLength(3);
  });

  test.each([
    ['of a shard', { shard: '1-of-2' }, 'it is of a shard'],
    ['without a place in the chain', { sequence: null }, 'it has no sequence'],
  ])('%s is none', async (_, overrides, message) => {
    await expect(apply(sql, logged(1, [change(1, 'A', '09:00')], overrides))).rejects.toMatchObject({
      code: 'TM001',
      message: expect.stringContaining(message) as string,
    });
  });

  test('for a table in the order of effective times is none', async () => {
    await rolledBack(sql, async (transaction) => {
      await transaction`update tidemark.dimensions set change_order = 'effective_time' where dimension_name = 'orders'`;
      await compile(transaction);
      await expect(
        transaction.savepoint((point) => apply(point, logged(1, [change(1, 'A', '09:00')]))),
      ).rejects.toMatchObject({ code: 'TM001', message: expect.stringContaining('effective times') as string });
    });
  });

  test('makes one version of what a transaction did to a row, also where its changes are in several batches', async () => {
    const first = [change(1, 'A', '09:00'), change(1, 'B', '09:00'), change(2, 'A', '09:00')];
    const second = [change(1, 'C', '09:00'), deletion(2, '09:00'), change(2, 'D', '09:00')];
    expect(await apply(sql, logged(1, first))).toEqual(applied({ inserted_versions: 2, absorbed_changes: 1 }));
    expect(await apply(sql, logged(2, second))).toMatchObject({ inserted_versions: '2', absorbed_changes: '1' });
    expect(await versions(sql)).toEqual(['1 C [09:00, ) INSERT', '2 D [09:00, ) INSERT']);
    expect(await absorbed(sql)).toEqual([
      'l1:1 UPDATE {"order_key" : 1} superseded',
      'l1:2 INSERT {"order_key" : 1} superseded',
      'l1:3 INSERT {"order_key" : 2} superseded',
      'l2:2 DELETE {"order_key" : 2} superseded',
    ]);
  });

  test('leaves changes of one capture time alone that were polled', async () => {
    const document = batch('b1', '09:00', [change(1, 'A', '08:00'), change(1, 'B', '08:30')], { columns: COLUMNS });
    expect(await apply(sql, document)).toMatchObject({ inserted_versions: '2', absorbed_changes: '0' });
  });
});

describe('a value that did not change', () => {
  const stored = async () => {
    const rows = await sql<{ batch_id: string; change_line: number; status: string }[]>`
      select batch_id, change_line, change ->> 'order_status' as status from tidemark.absorbed_changes order by 1, 2`;
    return rows.map((row) => `${row.batch_id}:${String(row.change_line)} ${row.status}`);
  };

  test('is that of the change before, in the batch or in history, and is kept with every change', async () => {
    await loadAll(
      sql,
      logged(1, [change(1, 'A', '09:00')]),
      logged(2, [kept(1, 2, '09:01'), kept(1, 3, '09:02'), change(1, 'B', '09:03'), kept(1, 3, '09:04')]),
      logged(3, [kept(1, 4, '09:05'), kept(1, 4, '09:06')]),
    );
    expect(await versions(sql)).toEqual([
      '1 A [09:00, 09:02) INSERT',
      '1 A [09:02, 09:03) UPDATE',
      '1 B [09:03, 09:04) UPDATE',
      '1 B [09:04, 09:05) UPDATE',
      '1 B [09:05, ) UPDATE',
    ]);
    expect(await stored()).toEqual(['l2:1 A', 'l3:2 B']);
  });

  test('is that of the row under its old key, where the key changed, and two swapped theirs', async () => {
    const moved = (from: number, to: number) => [
      deletion(from, '09:01'),
      kept(to, 2, '09:01', { operation_type: 'INSERT', unchanged_of: { id: from } }),
    ];
    await loadAll(
      sql,
      logged(1, [change(1, 'A', '09:00'), change(2, 'B', '09:00')]),
      logged(2, [...moved(1, 9), ...moved(2, 1), ...moved(9, 2)]),
    );
    expect(await versions(sql)).toEqual([
      '1 A [09:00, 09:01) INSERT',
      '1 B [09:01, ) UPDATE',
      '2 B [09:00, 09:01) INSERT',
      '2 A [09:01, ) UPDATE',
    ]);
    await empty(sql);
    await loadAll(
      sql,
      ...[[change(1, 'A', '09:00'), change(2, 'B', '09:00')], moved(1, 9), moved(2, 1), moved(9, 2)].map((lines, n) =>
        logged(n + 1, lines),
      ),
    );
    expect(await versions(sql)).toContain('2 A [09:01, ) UPDATE');
  });

  test('that history cannot know sets its change aside, with the remedy, until a repair says it', async () => {
    expect(await apply(sql, logged(1, [kept(1, 5, '09:00'), kept(1, 6, '09:01'), change(2, 'A', '09:01')]))).toEqual(
      applied({ inserted_versions: 1, rejected_changes: 2 }),
    );
    await loadAll(sql, logged(2, [kept(1, 7, '09:02')]));
    const reason =
      'column order_status did not change, and history does not have its value: "tidemark reconcile --repair" reads it';
    expect(await rejected()).toMatchObject(
      [1, 2, 1].map(() => ({ column_name: 'order_status', reason, settled_by_batch: null })),
    );
    await loadAll(
      sql,
      batch('r3', '09:03', [change(1, 'X', '09:02')], { sequence: 3, columns: COLUMNS, previous_batch_id: 'l2' }),
      logged(4, [kept(1, 8, '09:04')], { previous_batch_id: 'r3' }),
    );
    expect(await versions(sql)).toEqual(['1 X [09:02, 09:04) INSERT', '1 X [09:04, ) UPDATE', '2 A [09:01, ) INSERT']);
    expect(await rejected()).toMatchObject([1, 2, 3].map(() => ({ settled_by_batch: 'r3' })));
    await sql`select * from tidemark.retry_rejected(p_dimension_name => 'orders')`;
    expect(await rejected()).toHaveLength(3);
  });

  test('is taken from a change that waits among the rejected, which says it', async () => {
    const tooLong = 'x'.repeat(60);
    await loadAll(
      sql,
      logged(1, [change(1, 'A', '09:00')]),
      logged(2, [change(1, tooLong, '09:01')]),
      logged(3, [kept(1, 3, '09:02')]),
    );
    expect(await versions(sql)).toEqual(['1 A [09:00, ) INSERT']);
    expect(await rejected()).toMatchObject([{ batch_id: 'l2' }, { batch_id: 'l3', column_name: 'order_status' }]);
    expect(await sql`select change ->> 'order_status' as status from tidemark.rejected_changes`).toEqual([
      { status: tooLong },
      { status: tooLong },
    ]);
  });

  test('of a column that the state before lacks is not known', async () => {
    await loadAll(
      sql,
      batch('b1', '09:00', [{ ...change(1, 'A', '08:00'), customer_id: 5 }], { sequence: 1, columns: COLUMNS }),
    );
    await rolledBack(sql, async (transaction) => {
      await transaction`alter table dim_orders_history alter column order_status drop not null`;
      await compile(transaction);
      await loadAll(
        transaction,
        batch('b2', '09:01', [{ ...change(1, '', '09:01', { quantity: 7 }), order_status: undefined }], {
          sequence: 2,
          columns: COLUMNS.filter((name) => name !== 'order_status'),
        }),
        logged(3, [kept(1, 8, '09:02')], { previous_batch_id: 'b2' }),
      );
      expect(await transaction`select column_name from tidemark.rejected_changes`).toEqual([
        { column_name: 'order_status' },
      ]);
    });
  });

  test('of an untracked column is what it was then, whatever is shown now', async () => {
    await rolledBack(sql, async (transaction) => {
      await registerDimension(transaction, 'noted', 'noted', [
        { source: 'id', type: 'integer', role: 'business key' },
        { source: 'a', type: 'text', role: 'tracked' },
        { source: 'u', type: 'text', role: 'untracked' },
      ]);
      const document = (name: string, minute: string, line: Change, metadata: Change = {}) =>
        batch(name, minute, [{ id: 1, operation_type: 'UPDATE', ...line }], {
          table: 'noted',
          columns: ['id', 'a', 'u'],
          ...metadata,
        });
      const ofLog = (sequence: number) => ({ sequence, log: { unchanged: 2 - sequence } });
      await loadAll(
        transaction,
        document('l1', '09:02', { a: 'y', unchanged: ['u'] }, ofLog(1)),
        document('l2', '09:03', { a: 'x', u: 'q' }, { ...ofLog(2), previous_batch_id: 'l1' }),
        document('late', '09:01', { a: 'x', u: 'p' }),
      );
      await transaction`select * from tidemark.retry_rejected(p_dimension_name => 'noted')`;
      expect(await transaction`select a, u from dim_noted_history order by valid_from`).toEqual([
        { a: 'x', u: 'p' },
        { a: 'y', u: 'p' },
        { a: 'x', u: 'q' },
      ]);
    });
  });

  test('of a column that was renamed since is told by its present name', async () => {
    const documents = [logged(1, [change(1, 'A', '09:00')]), logged(2, [kept(1, 9, '09:01')])];
    await rolledBack(sql, async (transaction) => {
      await transaction`select tidemark.rename_source_column('orders', 'order_status', 'state')`;
      await loadAll(transaction, ...documents);
      expect(await versions(transaction)).toEqual(['1 A [09:00, 09:01) INSERT', '1 A [09:01, ) UPDATE']);
    });
  });

  test('of a key that cannot be read stops no other change', async () => {
    await loadAll(
      sql,
      logged(1, [change(1, 'A', '09:00')]),
      logged(2, [kept(1, 3, '09:01'), kept(1, 4, '09:02', { id: '99999999999' })]),
    );
    expect(await versions(sql)).toEqual(['1 A [09:00, 09:01) INSERT', '1 A [09:01, ) UPDATE']);
    expect(await rejected()).toMatchObject([{ batch_id: 'l2', change_line: 2 }]);
  });
});

describe('a truncation', () => {
  test('ends every key in force, by a delete each, and is one change', async () => {
    await loadAll(
      sql,
      logged(
        1,
        [1, 2, 3].map((id) => change(id, 'A', '09:00')),
      ),
      logged(2, [deletion(3, '09:01')]),
    );
    expect(await apply(sql, logged(3, [truncation('09:02')]))).toEqual(
      applied({ closed_versions: 2, absorbed_changes: 2 }),
    );
    await loadAll(sql, logged(4, [change(2, 'B', '09:03')]));
    expect(await versions(sql)).toEqual([
      '1 A [09:00, 09:02) INSERT',
      '2 A [09:00, 09:02) INSERT',
      '2 B [09:03, ) INSERT',
      '3 A [09:00, 09:01) INSERT',
    ]);
    expect(await sql`select change_count, truncated_keys from tidemark.batches where batch_id = 'l3'`).toEqual([
      { change_count: 1, truncated_keys: 2 },
    ]);
  });

  test('of more keys than are taken at a time gives each of them a line', async () => {
    const keys = Array.from({ length: 20_001 }, (_, id) => change(id, 'A', '09:00'));
    await loadAll(sql, logged(1, keys));
    expect(await apply(sql, logged(2, [truncation('09:02')]))).toEqual(
      applied({ closed_versions: 20_001, absorbed_changes: 20_001 }),
    );
    expect(
      await sql`select count(distinct change_line) as lines, max(change_line) as last from tidemark.absorbed_changes`,
    ).toEqual([{ lines: '20001', last: 20_001 }]);
    expect(await sql`select from dim_orders_history where is_current`).toEqual([]);
  });

  test('ends what was captured before it and is loaded after it, and nothing that was captured later', async () => {
    await loadAll(sql, logged(1, [change(1, 'A', '09:00')]), logged(2, [truncation('09:02')]));
    await loadAll(sql, batch('late', '09:01', [change(7, 'A', '09:00')], { columns: COLUMNS }));
    await loadAll(sql, batch('later', '09:03', [change(8, 'A', '09:00')], { columns: COLUMNS }));
    expect(await versions(sql)).toEqual([
      '1 A [09:00, 09:02) INSERT',
      '7 A [09:00, 09:02) INSERT',
      '8 A [09:00, ) INSERT',
    ]);
    expect(await sql`select truncated_keys, absorbed_changes from tidemark.batches where batch_id = 'l2'`).toEqual([
      { truncated_keys: 2, absorbed_changes: 2 },
    ]);
  });

  test('settles what was rejected before it, and ends it when it is tried again', async () => {
    await loadAll(sql, logged(1, [change(1, 'x'.repeat(60), '09:00')]), logged(2, [truncation('09:02')]));
    expect(await rejected()).toMatchObject([{ settled_by_batch: 'l2' }]);
    await rolledBack(sql, async (transaction) => {
      await transaction`select tidemark.retype_history_column('orders', 'order_status', 'varchar(80)')`;
      await transaction`select * from tidemark.retry_rejected(p_dimension_name => 'orders')`;
      expect(
        await transaction`select order_key, length(order_status) as letters, valid_to from dim_orders_history`,
      ).toEqual([{ order_key: 1, letters: 60, valid_to: '2026-02-01 09:02:00' }]);
    });
  });

  test('in the middle of a transaction is followed by what that wrote after it', async () => {
    await loadAll(
      sql,
      logged(1, [change(1, 'A', '09:00'), change(2, 'A', '09:00')]),
      logged(2, [change(1, 'B', '09:01'), change(3, 'A', '09:01')]),
      logged(3, [truncation('09:01')]),
      logged(4, [change(1, 'C', '09:01'), change(9, 'A', '09:01')]),
    );
    expect(await versions(sql)).toEqual([
      '1 A [09:00, 09:01) INSERT',
      '1 C [09:01, ) UPDATE',
      '2 A [09:00, 09:01) INSERT',
      '9 A [09:01, ) INSERT',
    ]);
    // What the transaction wrote after it is not noted for it.
    expect(await sql`select truncated_keys from tidemark.batches where batch_id = 'l3'`).toEqual([
      { truncated_keys: 3 },
    ]);
  });

  test('is only what the log says alone in its batch', async () => {
    await loadAll(sql, logged(1, [change(1, 'A', '09:00'), truncation('09:01')]));
    await loadAll(sql, batch('b1', '09:02', [truncation('09:02')], { columns: COLUMNS }));
    expect(await versions(sql)).toEqual(['1 A [09:00, ) INSERT']);
    expect(await rejected()).toHaveLength(2);
  });
});

describe('a row that is marked as deleted', () => {
  const declare = (reader: Database | Transaction, values: string[] | null) =>
    reader`select tidemark.declare_deletes('orders', 'soft', 'order_status', ${values}::text[])`;

  test('is a delete with all its columns, whose values the row has when it is marked no more', async () => {
    await rolledBack(sql, async (transaction) => {
      await declare(transaction, ['gone', 'lost']);
      await loadAll(
        transaction,
        logged(1, [change(1, 'A', '09:00')]),
        logged(2, [change(1, 'gone', '09:01', { quantity: 6 })]),
        logged(3, [kept(1, 7, '09:02')]),
        logged(4, [change(1, 'B', '09:03', { quantity: 7 }), change(2, 'lost', '09:03')]),
      );
      expect(await versions(transaction)).toEqual(['1 A [09:00, 09:01) INSERT', '1 B [09:03, ) INSERT']);
      expect(await absorbed(transaction)).toEqual([
        'l2:1 DELETE {"order_key" : 1} delete 09:01',
        'l3:1 DELETE {"order_key" : 1} nothing to delete',
        'l4:2 DELETE {"order_key" : 2} nothing to delete',
      ]);
    });
  });

  test('is so as its batch says, whatever is declared later', async () => {
    const soft = { slot: 's', unchanged: 0, soft: { column: 'order_status', values: ['gone'] } };
    await loadAll(
      sql,
      logged(1, [change(1, 'A', '09:00')], { log: soft }),
      logged(2, [change(1, 'gone', '09:01')], { log: soft }),
    );
    expect(await versions(sql)).toEqual(['1 A [09:00, 09:01) INSERT']);
  });
});

test('a replay leaves out what follows a batch of the log that is lost, and goes on where it is found', async () => {
  const documents = [1, 2, 3].map((n) => logged(n, [change(1, `S${String(n)}`, `09:0${String(n)}`)]));
  await loadAll(sql, ...documents);
  await rolledBack(sql, async (transaction) => {
    await transaction`select tidemark.open_replay('orders', true)`;
    const replayed = async (index: number) => {
      const [row] = await transaction<[{ done: boolean }]>`
        select tidemark.replay_batch('orders', ${documents[index] ?? ''}::text::json, false) as done`;
      return row.done;
    };
    expect([await replayed(0), await replayed(2), await replayed(1), await replayed(2)]).toEqual([
      true,
      false,
      true,
      true,
    ]);
    expect([...(await transaction`select * from tidemark.compare_replay('orders', 5)`)]).toEqual([]);
  });
});
