// Runs once: what it tries is plain SQL over rows.
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { PROJECT_ROOT } from '../../../runner/base/settings.js';
import type { Database, Transaction } from '../../../runner/base/database.js';
import { runChecks } from '../../../runner/warehouse/checks.js';
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
  everything,
  rolledBack,
  versions,
  type Change,
} from '../../support/batches.js';
import { createWarehouseDatabase, type TestDatabase } from '../../support/databases.js';
import { registerDimension, type TestColumn } from '../../support/dimensions.js';

/** Each change has its own capture time: extracted_at of its line, or that of its batch where the line has none. */

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

/** A change that was captured then, whatever its batch says. */
const captured = (time: string, id: number, status: string, effective = '09:00'): Change =>
  change(id, status, effective, { extracted_at: `${at(time)}Z` });

const ledger = async () =>
  (
    await sql<
      { batch: string }[]
    >`select concat_ws(' ', batch_id, to_char(least_captured_at, 'HH24:MI'), to_char(greatest_captured_at, 'HH24:MI')) as batch from tidemark.batches order by batch_id`
  ).map((row) => row.batch);

const violations = async () =>
  (await runChecks(sql, ['pipeline', 'scd2'])).filter((check) => check.violations > 0).map(({ check }) => check);

/** What each version and each absorbed change says of its capture, by place. */
const captures = async () =>
  (
    await sql<{ capture: string }[]>`
      select format('%s:%s %s', batch_id, change_line, to_char(captured_at, 'HH24:MI')) as capture from (
        select batch_id, change_line, captured_at from public.dim_orders_history
        union all
        select batch_id, change_line, (change ->> 'extracted_at')::timestamptz from tidemark.absorbed_changes
      ) as c order by 1`
  ).map((row) => row.capture);

describe('the sample that the original platform published', () => {
  const sample = () => readFile(path.join(PROJECT_ROOT, 'sample_data', 'original_cdc_changes.json'), 'utf8');

  test('loads as it is, though its second change was captured five minutes after its batch', async () => {
    expect(await apply(sql, await sample())).toEqual(applied({ inserted_versions: 2 }));
    expect(await versions(sql)).toEqual(['1 confirmed [10:05, ) INSERT', '3 confirmed [10:10, ) INSERT']);
    expect(await captures()).toEqual(['batch_002:1 10:05', 'batch_002:2 10:10']);
    expect(await ledger()).toEqual(['batch_002 10:05 10:10']);
    expect(await violations()).toEqual([]);
  });

  test('and goes on from what was there', async () => {
    await apply(sql, batch('batch_001', '09:35', [change(1, 'pending', '09:00'), change(3, 'pending', '09:30')]));
    expect(await apply(sql, await sample())).toEqual(applied({ inserted_versions: 2, closed_versions: 2 }));
    expect(await versions(sql)).toEqual([
      '1 pending [09:00, 10:05) INSERT',
      '1 confirmed [10:05, ) UPDATE',
      '3 pending [09:30, 10:10) INSERT',
      '3 confirmed [10:10, ) UPDATE',
    ]);
  });
});

describe('the capture time of a change', () => {
  test('is its own, else that of its batch; a version and an absorbed change keep it', async () => {
    const stated = { ...change(4, 'A', '09:00'), extracted_at: null };
    await apply(
      sql,
      batch('b1', '10:00', [
        captured('09:50', 1, 'A'),
        JSON.stringify(change(2, 'A', '09:00')),
        JSON.stringify(stated),
        captured('10:20', 1, 'A'),
        { ...deletion(2, '09:30'), extracted_at: `${at('10:30')}Z` },
      ]),
    );
    expect(await captures()).toEqual(['b1:1 09:50', 'b1:2 10:00', 'b1:3 10:00', 'b1:4 10:20', 'b1:5 10:30']);
    expect(await absorbed(sql)).toEqual([
      'b1:4 UPDATE {"order_key" : 1} unchanged',
      'b1:5 DELETE {"order_key" : 2} delete 09:30',
    ]);
    expect(await ledger()).toEqual(['b1 09:50 10:30']);
  });

  test('decides whether an effective time can be right, and takes its place where it cannot', async () => {
    await apply(
      sql,
      batch('b1', '10:00', [
        captured('09:30', 1, 'A', '09:45'),
        captured('10:30', 2, 'A', '10:15'),
        captured('10:30', 3, 'A', '10:45'),
      ]),
    );
    expect(await versions(sql)).toEqual(['1 A [09:30, ) INSERT', '2 A [10:15, ) INSERT', '3 A [10:30, ) INSERT']);
  });

  test('is the effective time of a change that has none, a delete included', async () => {
    const timeless = { cdc_timestamp: null };
    await apply(
      sql,
      batch('b1', '10:00', [
        change(1, 'A', '', { cdc_timestamp: null, extracted_at: `${at('09:50')}Z` }),
        change(2, 'A', '', timeless),
        change(3, 'A', '', { cdc_timestamp: undefined }),
      ]),
    );
    await apply(
      sql,
      batch('b3', '10:20', [change(1, 'A', '', timeless), { id: 2, operation_type: 'DELETE', cdc_timestamp: null }]),
    );
    await apply(sql, batch('b2', '10:10', [change(1, 'B', '', timeless)]));
    expect(await versions(sql)).toEqual([
      '1 A [09:50, 10:10) INSERT',
      '1 B [10:10, 10:20) UPDATE',
      '1 A [10:20, ) UPDATE',
      '2 A [10:00, 10:20) INSERT',
      '3 A [10:00, ) INSERT',
    ]);
    expect(
      await sql`select bool_and(cdc_timestamp = captured_at at time zone 'UTC') as is_captured from dim_orders_history`,
    ).toEqual([{ is_captured: true }]);
    expect(await violations()).toEqual([]);
  });

  test('is reckoned in the zone of the source where its times have none', async () => {
    await rolledBack(sql, async (transaction) => {
      await transaction`update tidemark.dimensions set source_time_zone = 'Asia/Kolkata' where dimension_name = 'orders'`;
      await compile(transaction);
      await apply(
        transaction,
        batch('b1', '10:00', [
          captured('04:00', 1, 'A', '09:45'),
          change(2, 'A', '15:45'),
          change(3, 'A', '', { cdc_timestamp: null }),
        ]),
      );
      await apply(transaction, batch('b2', '09:00', [captured('04:10', 1, 'B', '09:50')]));
      expect(await versions(transaction)).toEqual([
        '1 A [09:30, 09:40) INSERT',
        '1 B [09:40, ) UPDATE',
        '2 A [15:30, ) INSERT',
        '3 A [15:30, ) INSERT',
      ]);
    });
  });

  test('of lines that do not rise sorts them within their key; equal ones keep their order', async () => {
    const lines = [
      captured('10:30', 1, 'C', '09:20'),
      captured('10:20', 1, 'B', '09:10'),
      captured('10:10', 1, 'A', '09:00'),
      captured('10:10', 2, 'A', '09:00'),
      captured('10:10', 2, 'B', '09:10'),
    ];
    const expected = [
      '1 A [09:00, 09:10) INSERT',
      '1 B [09:10, 09:20) UPDATE',
      '1 C [09:20, ) UPDATE',
      '2 A [09:00, 09:10) INSERT',
      '2 B [09:10, ) UPDATE',
    ];
    expect(await apply(sql, batch('b1', '10:05', lines))).toEqual(
      applied({ inserted_versions: 5, closed_versions: 3 }),
    );
    expect(await versions(sql)).toEqual(expected);
    expect(await violations()).toEqual([]);
  });
});

describe('a batch is in order', () => {
  const last = batch('b1', '10:00', [captured('10:00', 1, 'A', '09:00'), captured('10:20', 1, 'C', '09:20')]);

  test('where its earliest change was captured after the latest of all that is loaded', async () => {
    await apply(sql, last);
    expect(await apply(sql, batch('b2', '10:21', [captured('10:30', 1, 'E', '09:40')]))).toEqual(
      applied({ inserted_versions: 1, closed_versions: 1 }),
    );
    expect(await ledger()).toEqual(['b1 10:00 10:20', 'b2 10:30 10:30']);
  });

  test.each([
    ['that says of itself that it was read between two changes of the batch before', '10:10'],
    ['that says of itself that it was read after all that is loaded', '10:30'],
  ])('and not otherwise: a change of a batch %s takes its place', async (_, extractedAt) => {
    await apply(sql, last);
    const late = [captured('10:40', 1, 'D', '09:30'), captured('10:10', 1, 'B', '09:10')];
    expect(await apply(sql, batch('b2', extractedAt, late))).toEqual(
      applied({ inserted_versions: 2, closed_versions: 2, corrected_versions: 1, late_changes: 1 }),
    );
    expect(await versions(sql)).toEqual([
      '1 A [09:00, 09:10) INSERT',
      '1 B [09:10, 09:20) UPDATE',
      '1 C [09:20, 09:30) UPDATE',
      '1 D [09:30, ) UPDATE',
    ]);
    expect(await violations()).toEqual([]);
  });

  test('at one instant by sequence, name and line', async () => {
    await apply(sql, batch('b1', '10:00', [captured('10:20', 1, 'A', '09:00')], { sequence: 1 }));
    await apply(sql, batch('b3', '10:00', [captured('10:20', 1, 'C', '09:20')], { sequence: 3 }));
    await apply(sql, batch('b2', '10:20', [change(1, 'B', '09:10')], { sequence: 2 }));
    expect(await versions(sql)).toEqual([
      '1 A [09:00, 09:10) INSERT',
      '1 B [09:10, 09:20) UPDATE',
      '1 C [09:20, ) UPDATE',
    ]);
  });

  test('and is then one pass, however many times its lines have: nothing converges', async () => {
    const calls = (transaction: Transaction) => transaction<{ calls: string }[]>`
      select calls from pg_stat_xact_user_functions where schemaname = 'tidemark' and funcname like 'converge\\_%'`;
    const lines = (from: string) =>
      Array.from({ length: 5000 }, (_, line) =>
        change(line % 4000, from, '09:00', {
          extracted_at: `${at(`${from}:${String(59 - (line % 60)).padStart(2, '0')}.${String(line).padStart(6, '0')}`)}Z`,
        }),
      );
    await rolledBack(sql, async (transaction) => {
      await transaction`set local track_functions = 'all'`;
      await apply(transaction, batch('b1', '10:10', lines('10:10')));
      expect(await apply(transaction, batch('b2', '10:11', lines('10:11')))).toEqual(
        applied({ inserted_versions: 4000, closed_versions: 4000, absorbed_changes: 1000 }),
      );
      expect([...(await calls(transaction))]).toEqual([]);
      await apply(transaction, batch('b3', '10:12', lines('10:11').slice(0, 1)));
      expect([...(await calls(transaction))]).not.toEqual([]);
    });
  });
});

describe('a batch without a column', () => {
  const COLUMNS: readonly TestColumn[] = [
    { source: 'id', type: 'integer', role: 'business key' },
    { source: 'a', type: 'text', role: 'tracked' },
    { source: 'b', type: 'text', role: 'tracked' },
    { source: 'touched', type: 'timestamptz', role: 'effective time' },
  ];

  test('is known by its name, not by the capture time of its versions: the first value takes its place in them', async () => {
    await registerDimension(sql, 'parts', 'parts', COLUMNS);
    const line = (time: string, columns: Change) => ({
      id: 1,
      operation_type: 'UPDATE',
      cdc_timestamp: `${at('09:00')}Z`,
      extracted_at: `${at(time)}Z`,
      ...columns,
    });
    const stated = (columns: readonly string[]) => ({ table: 'parts', columns: ['id', ...columns, 'touched'] });
    await apply(sql, batch('b1', '10:00', [line('10:05', { a: 'x' })], stated(['a'])));
    expect(await apply(sql, batch('b2', '10:10', [line('10:15', { a: 'x', b: 'y' })], stated(['a', 'b'])))).toEqual(
      applied({ absorbed_changes: 1 }),
    );
    expect([...(await sql`select a, b from public.dim_parts_history`)]).toEqual([{ a: 'x', b: 'y' }]);
  });
});

describe('a rejected change', () => {
  test('keeps its own capture time: it takes its place, and the ledger knows it', async () => {
    await apply(
      sql,
      batch('b1', '10:00', [captured('10:20', 1, 'B', '09:20'), captured('09:50', 1, 'A'.repeat(51), '09:00')]),
    );
    await apply(sql, batch('b2', '10:30', [change(1, 'C', '09:30')]));
    expect(await ledger()).toEqual(['b1 09:50 10:20', 'b2 10:30 10:30']);
    await rolledBack(sql, async (transaction) => {
      await transaction`update tidemark.rejected_changes set change = replace(change::text, ${'A'.repeat(51)}, 'A')::json`;
      await transaction`select * from tidemark.retry_rejected(p_dimension_name => 'orders')`;
      expect(await versions(transaction)).toEqual([
        '1 A [09:00, 09:20) INSERT',
        '1 B [09:20, 09:30) UPDATE',
        '1 C [09:30, ) UPDATE',
      ]);
    });
  });

  test('of a ledger from before changes had capture times widens what it says of the batch', async () => {
    await apply(sql, batch('b1', '10:00', [change(1, 'A', '09:00'), captured('10:20', 2, 'A'.repeat(51))]));
    await sql`update tidemark.batches set least_captured_at = extracted_at, greatest_captured_at = extracted_at`;
    await sql`update tidemark.rejected_changes set change = replace(change::text, ${'A'.repeat(51)}, 'A')::json`;
    await sql`select * from tidemark.retry_rejected(p_dimension_name => 'orders')`;
    expect(await ledger()).toEqual(['b1 10:00 10:20']);
    await apply(sql, batch('b2', '10:10', [change(2, 'B', '08:00')]));
    expect(await versions(sql)).toEqual(['1 A [09:00, ) INSERT', '2 B [08:00, 09:00) INSERT', '2 A [09:00, ) UPDATE']);
  });
});

describe('the format of a batch', () => {
  const lines = [change(1, 'A', '09:00')];

  test.each([undefined, null, 1, 2])('%s is known', async (format) => {
    expect(await apply(sql, batch('b1', '10:00', lines, { format }))).toEqual(applied({ inserted_versions: 1 }));
  });

  test.each([3, 0, 'two', 2.5, {}])(
    '%j is not: the batch is refused (TM022), and nothing is written',
    async (format) => {
      const before = await everything(sql);
      await expect(apply(sql, batch('b1', '10:00', lines, { format }))).rejects.toMatchObject({
        code: 'TM022',
        message: 'the batch has a format that this release does not know',
        detail: expect.stringMatching(/^batch=b1 format=.* known=1, 2$/) as string,
        hint: expect.stringContaining('upgrade') as string,
      });
      expect(await everything(sql)).toEqual(before);
    },
  );

  test('is looked at before anything that a newer one may have otherwise', async () => {
    await expect(apply(sql, '{"batch_metadata": {"format": 3}, "changes": []}')).rejects.toMatchObject({
      code: 'TM022',
    });
  });
});

describe('what is reported of a batch', () => {
  test('is the capture time of each version, and of the table that of its latest change', async () => {
    await apply(sql, batch('b1', '10:00', [captured('10:20', 1, 'A'), captured('09:50', 2, 'A')]));
    const lineage = await sql`select extracted_at from tidemark.lineage(p_dimension_name => 'orders', p_key => 2)`;
    expect([...lineage]).toEqual([{ extracted_at: '2026-02-01 09:50:00+00' }]);
    const latest = '2026-02-01 10:20:00+00';
    const progress = await sql`
      select newest_extracted_at, lag_seconds from tidemark.table_progress(p_now => '2026-02-01 10:21+00') where dimension_name = 'orders'`;
    expect([...progress]).toEqual([{ newest_extracted_at: latest, lag_seconds: 60 }]);
    const listed = await sql`select last_extracted_at from tidemark.dimension_list() where dimension_name = 'orders'`;
    expect([...listed]).toEqual([{ last_extracted_at: latest }]);
  });
});

describe('the ledger of an earlier release', () => {
  test('gets the capture time of each batch for those of its changes', async () => {
    await apply(sql, batch('b1', '10:00', [change(1, 'A', '09:00')], { sequence: 1 }));
    await apply(sql, batch('b2', '10:10', [], { sequence: 2 }));
    const migration = path.join(PROJECT_ROOT, 'migrations', 'warehouse', '0015_each_change_has_its_capture_time.sql');
    await rolledBack(sql, async (transaction) => {
      await transaction.unsafe(`
        alter table tidemark.batches drop column least_captured_at, drop column greatest_captured_at;
        create index batches_extracted_at_idx on tidemark.batches (dimension_name, shard, extracted_at desc)`);
      await transaction.unsafe(await readFile(migration, 'utf8'));
      const batches = await transaction`
        select batch_id, extracted_at = least_captured_at and extracted_at = greatest_captured_at as is_filled from tidemark.batches order by 1`;
      expect([...batches]).toEqual([
        { batch_id: 'b1', is_filled: true },
        { batch_id: 'b2', is_filled: true },
      ]);
    });
  });
});
