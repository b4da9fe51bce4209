// Runs once: history.property.test.ts prunes on each version.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { PROJECT_ROOT } from '../../../runner/base/settings.js';
import type { Database, Transaction } from '../../../runner/base/database.js';
import { createWarehouseDatabase, type TestDatabase } from '../../support/databases.js';
import { registerDimension } from '../../support/dimensions.js';
import {
  absorbed,
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
async function applyChain(...contents: readonly (readonly Change[])[]): Promise<void> {
  let previous: string | null = null;
  for (const [index, changes] of contents.entries()) {
    const document = batch(`b${String(index + 1)}`, `10:0${String(index + 1)}`, changes, {
      sequence: index + 1,
      previous_checksum: previous,
    });
    await apply(sql, document);
    previous = (JSON.parse(document) as { batch_metadata: { checksum: string } }).batch_metadata.checksum;
  }
}

interface Pruned {
  readonly pruned_changes: string;
  readonly pruned_before: string | null;
}
const prune = async (
  before = 'infinity',
  database: Database | Transaction = sql,
  limit = 1000,
): Promise<Pruned | undefined> =>
  (
    await database<
      Pruned[]
    >`select * from tidemark.prune_absorbed_changes(p_dimension_name => 'orders', p_before => ${before}, p_limit => ${limit})`
  )[0];
const violations = async () => [
  ...(await sql.unsafe(
    readFileSync(path.join(PROJECT_ROOT, 'sql/checks/pipeline/every_change_is_in_one_place.sql'), 'utf8'),
  )),
];

const same = (status: string) => [change(1, status, '09:00')];

test('of repeats the last before the end of the chain stays, and the ledger says how many went', async () => {
  await applyChain(same('A'), same('A'), same('A'), same('A'), same('A'));
  const before = await versions(sql);
  expect(await prune()).toEqual({ pruned_changes: '2', pruned_before: '2026-02-01 10:05:00+00' });
  expect(await absorbed(sql)).toEqual([
    'b4:1 UPDATE {"order_key" : 1} unchanged',
    'b5:1 UPDATE {"order_key" : 1} unchanged',
  ]);
  expect(await versions(sql)).toEqual(before);
  expect(
    (await sql`select batch_id, pruned_changes from tidemark.batches order by sequence`).map(
      ({ pruned_changes }) => pruned_changes as number | null,
    ),
  ).toEqual([null, 1, 1, null, null]);
  expect(await violations()).toEqual([]);
  expect(await prune()).toMatchObject({ pruned_changes: '0' });
});

test('a repeat goes when a version follows it, and the deletes that explain gaps stay', async () => {
  await applyChain(same('A'), same('A'), [deletion(1, '09:30')], [deletion(1, '09:31')], same('B'), [
    change(2, 'X', '09:00'),
  ]);
  await prune();
  expect(await absorbed(sql)).toEqual([expect.stringMatching(/^b3:1 DELETE .* delete /)]);
  expect(await violations()).toEqual([]);
});

test('only what was captured before the moment asked for goes, and no more at a time than asked for', async () => {
  await applyChain(same('A'), same('A'), same('A'), same('A'), same('A'));
  expect(await rolledBack(sql, (transaction) => prune(`${at('10:02')}Z`, transaction))).toMatchObject({
    pruned_changes: '0',
  });
  expect(await rolledBack(sql, (transaction) => prune(`${at('10:03:30')}Z`, transaction))).toMatchObject({
    pruned_changes: '1',
  });
  expect(await prune('infinity', sql, 1)).toMatchObject({ pruned_changes: '1' });
  expect(await prune('infinity', sql, 1)).toMatchObject({ pruned_changes: '1' });
  expect(await prune('infinity', sql, 1)).toMatchObject({ pruned_changes: '0' });
});

test('a repeat stays whose column the later one did not have', async () => {
  await registerDimension(sql, 'notes', 'notes', [
    { source: 'id', type: 'integer', role: 'business key' },
    { source: 'body', type: 'text', role: 'tracked' },
    { source: 'u', type: 'text', role: 'untracked' },
    { source: 'touched', type: 'timestamptz', role: 'effective time' },
  ]);
  const note = (values: Change) => ({
    id: 1,
    body: 'x',
    ...values,
    operation_type: 'UPDATE',
    cdc_timestamp: `${at('09:00')}Z`,
  });
  const columns = (...names: string[]) => ['id', 'body', ...names, 'touched'];
  let previous: string | null = null;
  for (const [index, values] of [{ u: 'p' }, { u: 'q' }, {}, { u: 'q' }].entries()) {
    const document = batch(`n${String(index)}`, `10:0${String(index)}`, [note(values)], {
      table: 'notes',
      sequence: index + 1,
      previous_checksum: previous,
      columns: 'u' in values ? columns('u') : columns(),
    });
    await apply(sql, document);
    previous = (JSON.parse(document) as { batch_metadata: { checksum: string } }).batch_metadata.checksum;
  }
  const pruneNotes = () =>
    sql<Pruned[]>`select pruned_changes from tidemark.prune_absorbed_changes('notes', 'infinity', 1000)`;
  expect([...(await pruneNotes())]).toEqual([{ pruned_changes: '0' }]);
  await sql`select tidemark.remove_dimension(p_dimension_name => 'notes', p_drop_history => true)`;
});

test('of a transaction in the log, what superseded others goes after them, however few go at a time', async () => {
  await registerDimension(sql, 'logs', 'logs', [
    { source: 'id', type: 'integer', role: 'business key' },
    { source: 'body', type: 'text', role: 'tracked' },
    { source: 'u', type: 'text', role: 'untracked' },
    { source: 'touched', type: 'timestamptz', role: 'effective time' },
  ]);
  await sql`select tidemark.declare_capture(p_dimension_name => 'logs', p_capture => 'log')`;
  let previous: Change | null = null;
  const load = async (index: number, columns: readonly string[], ...bodies: readonly string[]) => {
    const time = `10:0${String(index)}`;
    const changes = bodies.map((body) => ({
      id: 1,
      body,
      ...(columns.includes('u') ? { u: 'u' } : {}),
      operation_type: 'UPDATE',
      cdc_timestamp: `${at(time)}Z`,
    }));
    const document = batch(`l${String(index)}`, time, changes, {
      table: 'logs',
      sequence: index + 1,
      previous_batch_id: previous?.batch_id ?? null,
      previous_checksum: previous?.checksum ?? null,
      columns: ['id', ...columns, 'touched'],
      log: { slot: 's', unchanged: 0 },
    });
    await apply(sql, document);
    previous = (JSON.parse(document) as { batch_metadata: Change }).batch_metadata;
  };
  for (const [index, bodies] of [['x'], ['y', 'x'], ['x'], ['x']].entries())
    await load(index, ['body', 'u'], ...bodies);
  for (const left of [
    ['unchanged', 'unchanged', 'unchanged'],
    ['unchanged', 'unchanged'],
  ]) {
    await sql`select from tidemark.prune_absorbed_changes('logs', 'infinity', 1)`;
    expect(
      (await sql<{ reason: string }[]>`select reason from tidemark.absorbed_changes`).map(({ reason }) => reason),
    ).toEqual(left);
  }
  // One without a column folds what is there once more.
  await load(4, ['body'], 'x');
  expect([...(await sql`select body from dim_logs_history`)]).toEqual([{ body: 'x' }]);
  await sql`select tidemark.remove_dimension(p_dimension_name => 'logs', p_drop_history => true)`;
});

describe('nothing goes', () => {
  test('behind a gap in the chain, or where its beginning is missing', async () => {
    await applyChain(same('A'), same('A'), same('A'), same('A'));
    await rolledBack(sql, async (transaction) => {
      await transaction`update tidemark.batches set previous_checksum = 'lost' where batch_id = 'b3'`;
      expect(await prune('infinity', transaction)).toEqual({
        pruned_changes: '0',
        pruned_before: '2026-02-01 10:02:00+00',
      });
    });
    await rolledBack(sql, async (transaction) => {
      await transaction`update tidemark.batches set previous_checksum = 'lost' where batch_id = 'b1'`;
      expect(await prune('infinity', transaction)).toEqual({ pruned_changes: '0', pruned_before: null });
    });
    expect(await prune()).toMatchObject({ pruned_changes: '1' });
  });

  test('from the first batch on of which a rejected change waits', async () => {
    await applyChain(same('A'), [...same('A'), change(null, 'A', '09:00')], same('A'), same('A'), same('A'));
    expect(await prune()).toEqual({ pruned_changes: '0', pruned_before: '2026-02-01 10:02:00+00' });
    await sql`delete from tidemark.rejected_changes`;
    expect(await prune()).toMatchObject({ pruned_changes: '2' });
  });

  test('without a chain, or in the order of effective times', async () => {
    for (const minute of [1, 2, 3, 4])
      await apply(sql, batch(`b${String(minute)}`, `10:0${String(minute)}`, same('A')));
    expect(await prune()).toEqual({ pruned_changes: '0', pruned_before: null });
    await empty(sql);
    await applyChain(same('A'), same('A'), same('A'), same('A'));
    await rolledBack(sql, async (transaction) => {
      await transaction`update tidemark.dimensions set change_order = 'effective_time' where dimension_name = 'orders'`;
      await compile(transaction);
      expect(await prune('infinity', transaction)).toEqual({ pruned_changes: '0', pruned_before: null });
    });
  });
});

describe('the moment up to which changes may go', () => {
  test('is the capture time of the earliest change that is rejected, not that of its batch; one without a time has that of its batch', async () => {
    const own = (time: string) => change(2, 'A', '09:00', { quantity: 'many', extracted_at: `${at(time)}Z` });
    await applyChain(same('A'), same('A'), [...same('A'), own('10:02:30')], same('A'), same('A'));
    expect(await prune()).toMatchObject({ pruned_before: '2026-02-01 10:02:30+00' });
    await sql`update tidemark.rejected_changes set change = '{"extracted_at": "infinity"}'`;
    expect(await prune()).toMatchObject({ pruned_before: '2026-02-01 10:03:00+00' });
  });

  test('is the end of the chain: when its last batch was read, or its latest change where that is earlier', async () => {
    const own = (time: string) => [change(1, 'A', '09:00', { extracted_at: `${at(time)}Z` })];
    await applyChain(same('A'), same('A'), own('10:02:30'));
    expect(await prune()).toMatchObject({ pruned_before: '2026-02-01 10:02:30+00' });
    await empty(sql);
    await applyChain(same('A'), same('A'), own('10:20'));
    expect(await prune()).toMatchObject({ pruned_before: '2026-02-01 10:03:00+00' });
  });
});

describe('afterwards', () => {
  test('a batch from before is refused and nothing is written, one that is in the ledger is known, and later ones go on', async () => {
    await applyChain(same('A'), same('A'), same('A'), same('A'));
    await prune();
    const before = await versions(sql);
    await expect(apply(sql, batch('late', '10:03:30', same('B')))).rejects.toMatchObject({
      code: 'TM018',
      message: expect.stringContaining('before the moment up to which') as string,
    });
    expect(await versions(sql)).toEqual(before);
    expect(await apply(sql, batch('b2', '10:02', same('A'), { sequence: 2 }))).toMatchObject({ already_applied: true });
    expect(await apply(sql, batch('on time', '10:04', same('B')))).toMatchObject({ inserted_versions: '1' });
  });

  test('a batch is refused for one change that was captured before, whatever it says of itself, and one that is rejected anyway', async () => {
    await applyChain(same('A'), same('A'), same('A'), same('A'));
    await prune();
    const ledger = async () => [...(await sql`select batch_id from tidemark.batches order by batch_id`)];
    const before = [await versions(sql), await ledger()];
    const early = { extracted_at: `${at('10:03:59.999999')}Z` };
    for (const [time, changes] of [
      ['10:10', [change(2, 'A', '09:00'), change(1, 'B', '09:00', early), change(3, 'A', '09:00')]],
      ['10:10', [change(2, 'A', '09:00', { ...early, quantity: 'many' })]],
      ['10:03', [change(2, 'A', '09:00', { extracted_at: `${at('10:05')}Z` }), change(1, 'B', '09:00')]],
    ] as const)
      await expect(apply(sql, batch('late', time, changes))).rejects.toMatchObject({
        code: 'TM018',
        message: 'a change was captured before the moment up to which absorbed changes were pruned',
        detail: expect.stringMatching(/^table=orders batch=late captured_at=.* pruned_before=/) as string,
      });
    expect([await versions(sql), await ledger()]).toEqual(before);
    const late = [change(1, 'B', '09:30', { extracted_at: `${at('10:04')}Z` })];
    expect(await apply(sql, batch('read before', '10:03', late))).toMatchObject({ inserted_versions: '1' });
  });

  test('a change of a ledger from before changes had capture times is not applied out of its place either', async () => {
    const bad = change(2, 'A'.repeat(51), '09:00');
    await applyChain(same('A'), same('A'), same('A'), [...same('A'), bad], same('A'));
    expect(await prune()).toMatchObject({ pruned_changes: '1' });
    await sql`update tidemark.rejected_changes set change = (replace(change::text, ${'A'.repeat(51)}, 'A')::jsonb || '{"extracted_at": "2026-02-01T10:00:00Z"}')::json`;
    await expect(sql`select * from tidemark.retry_rejected(p_dimension_name => 'orders')`).rejects.toMatchObject({
      code: 'TM018',
    });
  });

  test('in which nothing went, no batch is refused', async () => {
    await applyChain(same('A'), same('B'));
    expect(await prune()).toMatchObject({ pruned_changes: '0' });
    expect(await apply(sql, batch('late', '10:01:30', same('C')))).toMatchObject({ inserted_versions: '1' });
  });
});

test('an unknown table and another isolation level are refused', async () => {
  await expect(sql`select tidemark.prune_absorbed_changes('nowhere', now(), 1)`).rejects.toMatchObject({
    code: 'TM002',
  });
  await expect(
    sql.begin('isolation level repeatable read', (transaction) => prune('infinity', transaction)),
  ).rejects.toMatchObject({ code: 'TM006' });
});

test('of a table that is cut, every shard must have begun, and the one that is least far bounds; a layout that is past holds nothing up', async () => {
  let previous: string | null = null;
  for (let turn = 1; turn <= 4; turn += 1) {
    const document = batch(`b${String(turn)}_1-of-2`, `10:0${String(turn)}`, same('A'), {
      shard: '1-of-2',
      sequence: turn,
      previous_checksum: previous,
    });
    await apply(sql, document);
    previous = (JSON.parse(document) as { batch_metadata: { checksum: string } }).batch_metadata.checksum;
  }
  expect(await prune()).toEqual({ pruned_changes: '0', pruned_before: null });
  await apply(
    sql,
    batch('b5_2-of-2', '10:00:30', [change(2, 'A', '09:00')], {
      shard: '2-of-2',
      sequence: 1,
      previous_checksum: null,
    }),
  );
  expect(await prune()).toEqual({ pruned_changes: '0', pruned_before: '2026-02-01 10:00:30+00' });
  await apply(sql, batch('b6', '10:10', [change(3, 'A', '09:00')], { sequence: 1, previous_checksum: null }));
  expect(await prune()).toEqual({ pruned_changes: '2', pruned_before: '2026-02-01 10:10:00+00' });
});

test('a repair of a table that is cut counts for its layout', async () => {
  const layout = { name: 'of-1', count: 1, column: null, cuts: [], by_key: true };
  let previous: string | null = null;
  for (let turn = 1; turn <= 4; turn += 1) {
    const document = batch(`b${String(turn)}_1-of-1`, `10:0${String(turn)}`, same('A'), {
      shard: '1-of-1',
      shard_layout: layout,
      sequence: turn,
      previous_checksum: previous,
    });
    await apply(sql, document);
    previous = (JSON.parse(document) as { batch_metadata: { checksum: string } }).batch_metadata.checksum;
  }
  await apply(
    sql,
    batch('b6', '10:10', [change(3, 'A', '09:00')], { shard_layout: layout, sequence: 1, previous_checksum: null }),
  );
  expect(await prune()).toEqual({ pruned_changes: '1', pruned_before: '2026-02-01 10:04:00+00' });
});
