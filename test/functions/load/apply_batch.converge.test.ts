// Runs once: history.property.test.ts proves the same at large, on each version.
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { runChecks } from '../../../runner/warehouse/checks.js';
import { connect, type Database } from '../../../runner/base/database.js';
import { createWarehouseDatabase, type TestDatabase } from '../../support/databases.js';
import { registerDimension, type TestColumn } from '../../support/dimensions.js';
import {
  absorbed,
  apply,
  applied,
  at,
  batch,
  change,
  deletion,
  empty,
  rolledBack,
  versions,
  type Change,
} from '../../support/batches.js';

/** Examples of what test/functions/history.property.test.ts proves at large: small enough to read, and with the counts of each batch. */

let warehouse: TestDatabase;
let sql: Database;
beforeAll(async () => {
  warehouse = await createWarehouseDatabase();
  sql = warehouse.sql;
});
beforeEach(async () => {
  await empty(sql);
});
afterEach(async () => {
  expect((await runChecks(sql, ['scd2', 'pipeline'])).filter(({ violations }) => violations > 0)).toEqual([]);
});
afterAll(async () => {
  await warehouse.drop();
});

describe('a late change', () => {
  test('that differs on both sides splits the version that was in force', async () => {
    await apply(sql, batch('b1', '09:05', [change(1, 'A', '09:00')]));
    await apply(sql, batch('b3', '09:35', [change(1, 'C', '09:30')]));
    expect(await apply(sql, batch('b2', '09:25', [change(1, 'B', '09:20')]))).toEqual(
      applied({ inserted_versions: 1, closed_versions: 1, corrected_versions: 1, late_changes: 1 }),
    );
    expect(await versions(sql)).toEqual([
      '1 A [09:00, 09:20) INSERT',
      '1 B [09:20, 09:30) UPDATE',
      '1 C [09:30, ) UPDATE',
    ]);
  });

  test('that equals what follows takes its place, and what followed is absorbed', async () => {
    await apply(sql, batch('b1', '09:05', [change(1, 'A', '09:00')]));
    await apply(sql, batch('b3', '09:35', [change(1, 'B', '09:30')]));
    expect(await apply(sql, batch('b2', '09:25', [change(1, 'B', '09:20')]))).toEqual(
      applied({ inserted_versions: 1, corrected_versions: 2, late_changes: 1 }),
    );
    expect(await versions(sql)).toEqual(['1 A [09:00, 09:20) INSERT', '1 B [09:20, ) UPDATE']);
    expect(await absorbed(sql)).toEqual(['b3:1 UPDATE {"order_key" : 1} unchanged']);
  });

  test('makes an absorbed change matter, which opens a version of its own batch and line', async () => {
    await apply(sql, batch('b1', '09:05', [change(1, 'A', '09:00')]));
    await apply(sql, batch('b3', '09:35', [change(2, 'A', '09:00'), change(1, 'A', '09:30')]));
    expect(await apply(sql, batch('b2', '09:25', [change(1, 'B', '09:20')]))).toEqual(
      applied({ inserted_versions: 2, closed_versions: 2, late_changes: 1 }),
    );
    expect(await versions(sql)).toEqual([
      '1 A [09:00, 09:20) INSERT',
      '1 B [09:20, 09:30) UPDATE',
      '1 A [09:30, ) UPDATE',
      '2 A [09:00, ) INSERT',
    ]);
    expect(
      await sql`select batch_id, change_line from public.dim_orders_history where order_key = 1 order by valid_from desc limit 1`,
    ).toEqual([{ batch_id: 'b3', change_line: 2 }]);
    expect(await absorbed(sql)).toEqual([]);
  });

  test('ends what an early DELETE had nothing to end in', async () => {
    await apply(sql, batch('b2', '09:35', [deletion(1, '09:30')]));
    expect(await absorbed(sql)).toEqual(['b2:1 DELETE {"order_key" : 1} nothing to delete']);
    expect(await apply(sql, batch('b1', '09:05', [change(1, 'A', '09:00')]))).toEqual(
      applied({ inserted_versions: 1, closed_versions: 1, late_changes: 1 }),
    );
    expect(await versions(sql)).toEqual(['1 A [09:00, 09:30) INSERT']);
    expect(await absorbed(sql)).toEqual(['b2:1 DELETE {"order_key" : 1} delete 09:30']);
  });

  test('is a DELETE: what follows begins a new life', async () => {
    await apply(sql, batch('b1', '09:05', [change(1, 'A', '09:00')]));
    await apply(sql, batch('b3', '09:35', [change(1, 'A', '09:30')]));
    expect(await apply(sql, batch('b2', '09:25', [deletion(1, '09:20')]))).toEqual(
      applied({ inserted_versions: 1, closed_versions: 1, absorbed_changes: 1, late_changes: 1 }),
    );
    expect(await versions(sql)).toEqual(['1 A [09:00, 09:20) INSERT', '1 A [09:30, ) INSERT']);
  });

  test('moves those that follow, where their own times cannot be right any more, even onto places that others leave', async () => {
    const keys = async () =>
      (
        await sql<{ order_status: string; surrogate_key: string; valid_from: string }[]>`
      select order_status, surrogate_key, valid_from::text from public.dim_orders_history order by valid_from`
      ).map((row) => [row.order_status, row.surrogate_key, row.valid_from.slice(11)]);
    for (const [name, status] of [
      ['b2', 'B'],
      ['b3', 'C'],
      ['b4', 'D'],
    ] as const)
      await apply(sql, batch(name, '09:00', [change(1, status, '09:00')]));
    expect(await keys()).toEqual([
      ['B', '1', '09:00:00'],
      ['C', '2', '09:00:00.000001'],
      ['D', '3', '09:00:00.000002'],
    ]);
    expect(await apply(sql, batch('b1', '09:00', [change(1, 'A', '09:00')]))).toEqual(
      applied({ inserted_versions: 1, closed_versions: 1, corrected_versions: 3, late_changes: 1 }),
    );
    expect(await keys()).toEqual([
      ['A', '4', '09:00:00'],
      ['B', '1', '09:00:00.000001'],
      ['C', '2', '09:00:00.000002'],
      ['D', '3', '09:00:00.000003'],
    ]);
  });

  test('touches the versions it changes and no other, of its key or another', async () => {
    for (const [index, time] of ['09:00', '09:10', '09:20', '09:30', '09:40'].entries())
      await apply(sql, batch(`b${String(index * 2)}`, time, [change(1, time, time), change(2, time, time)]));
    const written = async () =>
      new Map(
        (
          await sql`select order_key || ' ' || order_status as version, xmin::text, surrogate_key from public.dim_orders_history`
        ).map((row) => [String(row.version), [row.xmin, row.surrogate_key]]),
      );
    const before = await written();
    await apply(sql, batch('b5', '09:25', [change(1, 'late', '09:25')]));
    const after = await written();
    expect(
      [...before].filter(([version, row]) => String(after.get(version)) !== String(row)).map(([version]) => version),
    ).toEqual(['1 09:20']);
    expect(after.get('1 09:20')?.[1]).toEqual(before.get('1 09:20')?.[1]);
  });

  test('keeps created_at of the versions it corrects, and moves their updated_at', async () => {
    await apply(sql, batch('b2', '09:35', [change(1, 'B', '09:30')]));
    const [before] = await sql`select created_at, updated_at from public.dim_orders_history`;
    await apply(sql, batch('b1', '09:05', [change(1, 'A', '09:00')]));
    const [after] = await sql`select created_at, updated_at from public.dim_orders_history where order_status = 'B'`;
    expect(after?.created_at).toEqual(before?.created_at);
    expect(String(after?.updated_at) > String(before?.updated_at)).toBe(true);
  });
});

const EVENTS: readonly TestColumn[] = [
  { source: 'id', type: 'integer', role: 'business key' },
  { source: 'state', type: 'text', role: 'tracked' },
  { source: 'note', type: 'text', role: 'untracked' },
  { source: 'happened', type: 'timestamptz', role: 'effective time' },
];

/** Versions of a test's own dimension as `key state/note [from, to) operation`. */
const versionsOf = async (table: string) =>
  (
    await sql.unsafe<{ line: string }[]>(`
  select format('%s %s/%s [%s, %s) %s', id, state, note, to_char(valid_from, 'HH24:MI'), to_char(valid_to, 'HH24:MI'), cdc_operation) as line
  from public.dim_${table}_history order by id, valid_from`)
  ).map(({ line }) => line);

const event = (
  id: number,
  state: string | null,
  note: string | null,
  time: string,
  operation_type = 'UPDATE',
): Change => ({ id, state, note, operation_type, cdc_timestamp: `${at(time)}Z` });

describe('the order of effective times', () => {
  beforeAll(async () => {
    await registerDimension(sql, 'events', 'events', EVENTS, { changeOrder: 'effective_time' });
  });
  const events = (name: string, time: string, changes: readonly Change[]) =>
    apply(sql, batch(name, time, changes, { table: 'events' }));

  test('puts a change where it belongs, whenever it was read', async () => {
    await events('b1', '10:00', [event(1, 'C', 'c', '09:30'), event(1, 'A', 'a', '09:00')]);
    expect(await events('b2', '11:00', [event(1, 'B', 'b', '09:15')])).toEqual(
      applied({ inserted_versions: 1, closed_versions: 1, corrected_versions: 1, late_changes: 1 }),
    );
    expect(await versionsOf('events')).toEqual([
      '1 A/a [09:00, 09:15) INSERT',
      '1 B/b [09:15, 09:30) UPDATE',
      '1 C/c [09:30, ) UPDATE',
    ]);
  });

  test('takes of several changes of one time the last that was read, and keeps the others', async () => {
    await events('b2', '11:00', [event(1, 'B', 'b', '09:00'), event(1, 'B2', 'b2', '09:00')]);
    await events('b1', '10:00', [event(1, 'A', 'a', '09:00')]);
    expect(await versionsOf('events')).toEqual(['1 B2/b2 [09:00, ) INSERT']);
    expect(await absorbed(sql)).toEqual(['b1:1 UPDATE {"id" : 1} superseded', 'b2:1 UPDATE {"id" : 1} superseded']);
  });

  test('puts a change whose time cannot be right at its capture', async () => {
    await events('b1', '10:00', [event(1, 'A', 'a', '09:00'), event(1, 'B', 'b', '2999-01-01T00:00:00')]);
    await events('b2', '11:00', [event(1, 'C', 'c', '10:30')]);
    expect(await versionsOf('events')).toEqual([
      '1 A/a [09:00, 10:00) INSERT',
      '1 B/b [10:00, 10:30) UPDATE',
      '1 C/c [10:30, ) UPDATE',
    ]);
  });
});

describe('an untracked column', () => {
  beforeAll(async () => {
    await registerDimension(sql, 'things', 'things', EVENTS);
  });
  const things = (name: string, time: string, changes: readonly Change[], metadata: Change = {}) =>
    apply(sql, batch(name, time, changes, { table: 'things', ...metadata }));

  test('makes no version: the one in force takes its last value, and keeps its first one aside', async () => {
    await things('b1', '09:05', [event(1, 'A', 'first', '09:00'), event(2, 'A', 'same', '09:00')]);
    expect(
      await things('b2', '09:30', [
        event(1, 'A', 'second', '09:10'),
        event(1, 'A', 'third', '09:20'),
        event(2, 'A', 'same', '09:20'),
      ]),
    ).toEqual(applied({ absorbed_changes: 3 }));
    expect(await versionsOf('things')).toEqual(['1 A/third [09:00, ) INSERT', '2 A/same [09:00, ) INSERT']);
    expect(await sql`select values_before from tidemark.first_values`).toEqual([{ values_before: { note: 'first' } }]);
    expect(await sql`select updated_at > created_at as is_touched from public.dim_things_history order by id`).toEqual([
      { is_touched: true },
      { is_touched: false },
    ]);
  });

  test('is overwritten in the version that a batch closes, and in those it opens', async () => {
    await things('b1', '09:05', [event(1, 'A', 'a1', '09:00')]);
    expect(
      await things('b2', '09:30', [
        event(1, 'A', 'a2', '09:10'),
        event(1, 'B', 'b1', '09:15'),
        event(1, 'B', 'b2', '09:20'),
        event(1, 'C', 'c1', '09:25'),
      ]),
    ).toEqual(applied({ inserted_versions: 2, closed_versions: 2, absorbed_changes: 2 }));
    expect(await versionsOf('things')).toEqual([
      '1 A/a2 [09:00, 09:15) INSERT',
      '1 B/b2 [09:15, 09:25) UPDATE',
      '1 C/c1 [09:25, ) UPDATE',
    ]);
    expect(
      (await sql`select values_before ->> 'note' as note from tidemark.first_values order by 1`).map(({ note }) =>
        String(note),
      ),
    ).toEqual(['a1', 'b1']);
  });

  test('goes back to what it was where a late change ends the version before the one that overwrote it', async () => {
    await things('b1', '09:05', [event(1, 'A', 'a1', '09:00')]);
    await things('b3', '09:30', [event(1, 'A', 'a2', '09:20')]);
    await things('b2', '09:15', [event(1, 'B', 'b', '09:10')]);
    expect(await versionsOf('things')).toEqual([
      '1 A/a1 [09:00, 09:10) INSERT',
      '1 B/b [09:10, 09:20) UPDATE',
      '1 A/a2 [09:20, ) UPDATE',
    ]);
    expect(await sql`select * from tidemark.first_values`).toEqual([]);
  });
});

describe('a column that a batch did not have', () => {
  beforeAll(async () => {
    await registerDimension(sql, 'drifting', 'drifting', EVENTS);
  });
  const drifting = (name: string, time: string, changes: readonly Change[]) =>
    apply(
      sql,
      batch(
        name,
        time,
        changes.map((one) => JSON.parse(JSON.stringify(one)) as Change),
        { table: 'drifting' },
      ),
    );
  const without = (change: Change, ...names: string[]): Change =>
    Object.fromEntries(Object.entries(change).filter(([name]) => !names.includes(name)));

  test('equals anything, and takes its first value in place', async () => {
    await drifting('b1', '09:05', [without(event(1, null, 'n', '09:00'), 'state')]);
    expect(await drifting('b2', '09:15', [event(1, 'A', 'n', '09:10')])).toEqual(applied({ absorbed_changes: 1 }));
    expect(await versionsOf('drifting')).toEqual(['1 A/n [09:00, ) INSERT']);
    expect(await drifting('b3', '09:25', [event(1, 'B', 'n', '09:20')])).toEqual(
      applied({ inserted_versions: 1, closed_versions: 1 }),
    );
    expect(await drifting('b4', '09:35', [without(event(1, null, 'm', '09:30'), 'state')])).toEqual(
      applied({ absorbed_changes: 1 }),
    );
    expect(await versionsOf('drifting')).toEqual(['1 A/n [09:00, 09:20) INSERT', '1 B/m [09:20, ) UPDATE']);
  });

  test('takes its first value even where that is null', async () => {
    await drifting('b1', '09:05', [without(event(1, null, 'n', '09:00'), 'state')]);
    await drifting('b2', '09:15', [event(1, null, 'n', '09:10')]);
    expect(await drifting('b3', '09:25', [event(1, 'B', 'n', '09:20')])).toEqual(
      applied({ inserted_versions: 1, closed_versions: 1 }),
    );
  });

  test('that is untracked keeps what the version has', async () => {
    await drifting('b1', '09:05', [event(1, 'A', 'n', '09:00')]);
    await drifting('b2', '09:15', [without(event(1, 'A', null, '09:10'), 'note')]);
    expect(await versionsOf('drifting')).toEqual(['1 A/n [09:00, ) INSERT']);
  });

  test('and that history needs makes its changes rejected ones', async () => {
    await rolledBack(sql, async (transaction) => {
      await transaction`alter table public.dim_drifting_history alter state set not null`;
      await transaction`select tidemark.compile_dimension('drifting')`;
      expect(
        await apply(
          transaction,
          batch('b1', '09:05', [without(event(1, null, 'n', '09:00'), 'state')], { table: 'drifting' }),
        ),
      ).toEqual(applied({ rejected_changes: 1 }));
      expect(await transaction`select column_name, reason from tidemark.rejected_changes`).toEqual([
        { column_name: 'state', reason: 'state is null or missing' },
      ]);
    });
  });
});

describe('a mapping that changes', () => {
  const COLUMNS = EVENTS.slice(0, 2).concat(EVENTS.slice(3));
  const told = (id: number, values: Change, time: string): Change => ({
    id,
    ...values,
    operation_type: 'UPDATE',
    cdc_timestamp: `${at(time)}Z`,
  });
  beforeEach(async () => {
    await warehouse.drop();
    warehouse = await createWarehouseDatabase();
    sql = warehouse.sql;
    await registerDimension(sql, 'growing', 'growing', COLUMNS);
    await apply(
      sql,
      batch(
        'b1',
        '09:05',
        [told(1, { state: 'A' }, '09:00'), told(2, { state: 'A' }, '09:00'), told(2, { state: 'A' }, '09:01')],
        { table: 'growing' },
      ),
    );
  });

  test('by tidemark.add_dimension_column re-versions no row that did not change', async () => {
    await sql`alter table public.dim_growing_history add column size integer`;
    await sql`select tidemark.add_dimension_column(p_dimension_name => 'growing', p_source => 'Size', p_history => 'size', p_role => 'tracked')`;
    expect(
      await apply(
        sql,
        batch('b2', '09:15', [told(1, { state: 'A', Size: 3 }, '09:10'), told(3, { state: 'A', Size: 1 }, '09:10')], {
          table: 'growing',
        }),
      ),
    ).toEqual(applied({ inserted_versions: 1, absorbed_changes: 1 }));
    expect(
      await apply(sql, batch('b3', '09:25', [told(1, { state: 'A', Size: 4 }, '09:20')], { table: 'growing' })),
    ).toEqual(applied({ inserted_versions: 1, closed_versions: 1 }));
    expect(await sql`select id, size, is_current from public.dim_growing_history order by id, valid_from`).toEqual([
      { id: 1, size: 3, is_current: false },
      { id: 1, size: 4, is_current: true },
      { id: 2, size: null, is_current: true },
      { id: 3, size: 1, is_current: true },
    ]);
    expect(await sql`select tracked_values from tidemark.versions where business_key = '{"id" : 3}'`).toEqual([
      { tracked_values: '(A,1)' },
    ]);
  });

  test.each<[string, string, string, string]>([
    [
      'a role that only a registration can give',
      'alter table public.dim_growing_history add column size integer',
      'business key',
      'cannot be added as business key',
    ],
    [
      'a column that takes no null',
      'alter table public.dim_growing_history add column size integer not null default 0',
      'tracked',
      'is not null',
    ],
    ['a column that is not there', 'select 1', 'untracked', 'has no column size'],
  ])('by tidemark.add_dimension_column is refused with %s', async (_, alteration, role, message) => {
    await sql.unsafe(alteration);
    await expect(
      sql`select tidemark.add_dimension_column(p_dimension_name => 'growing', p_source => 'size', p_history => 'size', p_role => ${role})`,
    ).rejects.toMatchObject({ code: 'TM007', message: expect.stringContaining(message) as string });
    // A history that was altered by hand is compiled again: what was known of it has its columns, too.
    await sql`select tidemark.compile_dimension('growing')`;
  });

  test('by tidemark.rename_source_column goes on with the new name, kept changes included', async () => {
    await sql`select tidemark.rename_source_column(p_dimension_name => 'growing', p_from => 'state', p_to => 'The "State"')`;
    expect(await sql`select change::text from tidemark.absorbed_changes`).toEqual([
      { change: expect.stringContaining('"The \\"State\\"":"A"') as string },
    ]);
    const renamed = (name: string, time: string, id: number, state: string) =>
      apply(sql, batch(name, time, [told(id, { 'The "State"': state }, time)], { table: 'growing' }));
    expect(await renamed('b2', '09:10', 1, 'A')).toEqual(applied({ absorbed_changes: 1 }));
    expect(await renamed('b0', '09:04', 2, 'B')).toEqual(
      applied({ inserted_versions: 1, closed_versions: 1, corrected_versions: 1, late_changes: 1 }),
    );
    await expect(
      sql`select tidemark.rename_source_column(p_dimension_name => 'growing', p_from => 'state', p_to => 'other')`,
    ).rejects.toMatchObject({ code: 'TM007' });
  });
});

test('a role that may execute apply_batch, and nothing else, loads batches and cannot touch history otherwise', async () => {
  const role = `loader_${warehouse.settings.database}`.slice(0, 60);
  await sql.unsafe(`create role ${role} login password 'loader'; grant usage on schema tidemark to ${role}`);
  const loader = connect({ ...warehouse.settings, user: role, password: 'loader' }, 'test');
  try {
    const document = batch('b1', '10:00', [change(1, 'A', '09:00'), change(null, 'A', '09:00')]);
    await expect(apply(loader, document)).rejects.toMatchObject({ code: '42501' });
    await sql.unsafe(`grant execute on function tidemark.apply_batch, tidemark.retry_rejected to ${role}`);
    expect(await apply(loader, document)).toEqual(applied({ inserted_versions: 1, rejected_changes: 1 }));
    await loader`select * from tidemark.retry_rejected(p_dimension_name => 'orders')`;
    for (const statement of [
      'delete from public.dim_orders_history',
      'select * from tidemark.batches',
      'select * from tidemark._fold_changes(null, null, null, null)',
      'select * from tidemark.apply_orders(null, null, null, null, null)',
    ])
      await expect(loader.unsafe(statement)).rejects.toMatchObject({ code: '42501' });
    await empty(sql);
  } finally {
    await loader.end();
    await sql.unsafe(`drop owned by ${role}; drop role ${role}`);
  }
});

describe('a key that prints in several ways', () => {
  const KEYS: readonly (readonly [type: string, spellings: readonly [unknown, unknown, unknown, unknown]])[] = [
    ['numeric', ['5.0', '5', '5.00', '5.000']],
    ['double precision', ['-0', '0', '-0.0', '0.0']],
    ['char(4)', ['"k"', '"k "', '"k  "', '"k   "']],
  ];
  const ORDERS = [
    [0, 1, 2, 3],
    [0, 2, 3, 1],
    [3, 2, 1, 0],
    [2, 3, 0, 1],
  ];

  test.each(KEYS)(
    'is one key, in whatever order its changes are loaded: %s',
    async (type, [first, second, third, fourth]) => {
      const line = (key: unknown, time: string, rest: string) =>
        `{"k": ${String(key)}, ${rest}"cdc_timestamp": "2026-02-01T${time}:00Z", "extracted_at": "2026-02-01T${time}:30Z"}`;
      const change = (key: unknown, value: string, time: string) =>
        line(key, time, `"v": "${value}", "touched": "2026-02-01T${time}:00Z", "operation_type": "UPDATE", `);
      const documents = [
        ['09:10', change(first, 'A', '09:10')],
        ['09:12', change(second, 'M', '09:12')],
        ['09:20', change(third, 'A', '09:20')],
        ['09:25', line(fourth, '09:25', '"operation_type": "DELETE", ')],
      ].map(([time = '', text = '']) => batch(`b${time}`, `${time}:30`, [text], { table: 'spelled' }));
      for (const order of ORDERS) {
        const outcome = await rolledBack(sql, async (transaction) => {
          await registerDimension(transaction, 'spelled', 'spelled', [
            { source: 'k', type, role: 'business key' },
            { source: 'v', type: 'text', role: 'tracked' },
            { source: 'touched', type: 'timestamptz', role: 'effective time' },
          ]);
          for (const index of order) await apply(transaction, documents[index] ?? '');
          const versions =
            await transaction`select v, to_char(valid_from, 'HH24:MI') as from, to_char(valid_to, 'HH24:MI') as to from public.dim_spelled_history order by valid_from`;
          const keys =
            await transaction`select distinct business_key from tidemark.versions where dimension_name = 'spelled' union select business_key from tidemark.absorbed_changes where dimension_name = 'spelled'`;
          return { versions: [...versions], keys: keys.length };
        });
        expect(outcome, String(order)).toEqual({
          versions: [
            { v: 'A', from: '09:10', to: '09:12' },
            { v: 'M', from: '09:12', to: '09:20' },
            { v: 'A', from: '09:20', to: '09:25' },
          ],
          keys: 1,
        });
      }
    },
  );
});
