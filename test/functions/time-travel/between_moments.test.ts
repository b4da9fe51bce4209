// Runs once: history.property.test.ts compares moments on each version.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { apply, at, batch, change, deletion, rolledBack, type Change } from '../../support/batches.js';
import { wrongChanges, wrongDifferences } from '../../support/between-moments.js';
import { createWarehouseDatabase, type TestDatabase } from '../../support/databases.js';
import { registerDimension } from '../../support/dimensions.js';
import { IS_PARTITIONED } from '../../support/partitions.js';

/** What tidemark.compile_dimension writes beside a history: <history>_diff and <history>_changes. test/support/properties.ts tries them on random histories. */

const ODD = 'public."History of \'x\' %s"';

let warehouse: TestDatabase;
beforeAll(async () => {
  warehouse = await createWarehouseDatabase();
  await registerDimension(
    warehouse.sql,
    'odd',
    'odd',
    [
      { source: 'what', type: 'varchar(20)', role: 'business key' },
      { source: 'p_from', type: 'timestamptz', role: 'business key' },
      { source: 'before', type: 'text', role: 'tracked', history: '_before' },
      { source: 'p_moment', type: 'json', role: 'tracked' },
      { source: 'h', type: 'numeric', role: 'tracked', history: 'say "hi"' },
      { source: 'changed', type: 'text', role: 'untracked' },
      { source: 'touched', type: 'timestamptz', role: 'effective time' },
    ],
    { history: ODD },
  );
  await registerDimension(
    warehouse.sql,
    'berliners',
    'berliners',
    [
      { source: 'id', type: 'integer', role: 'business key' },
      { source: 'name', type: 'text', role: 'tracked' },
      { source: 'seen', type: 'text', role: 'untracked' },
      { source: 'changed', type: 'timestamp', role: 'effective time' },
    ],
    { timeType: 'timestamp', sourceTimeZone: 'Europe/Berlin' },
  );
  await apply(
    warehouse.sql,
    batch('o1', '12:00', [
      change(1, 'pending', '09:00'),
      change(1, 'confirmed', '09:10'),
      change(1, 'pending', '09:20'),
      change(2, 'pending', '09:05'),
      change(3, 'pending', '09:00'),
    ]),
  );
  await apply(warehouse.sql, batch('o2', '12:10', [change(4, 'pending', '09:30'), deletion(2, '09:40')]));
  await apply(
    warehouse.sql,
    batch('truncated', '12:20', [{ operation_type: 'TRUNCATE', cdc_timestamp: at('10:00') }], {
      format: 2,
      sequence: 1,
      previous_batch_id: null,
      columns: ['id'],
      log: { slot: 's' },
    }),
  );
  const odd = (what: string, before: string, time: string, changed: string): Change => ({
    ...{ what, p_from: '2026-01-01T00:00:00+00', before, p_moment: `{"t": "${before}"}`, h: before.length, changed },
    ...{ touched: `${at(time)}Z`, operation_type: 'UPDATE', cdc_timestamp: `${at(time)}Z` },
  });
  await apply(
    warehouse.sql,
    batch(
      'odd',
      '12:00',
      [
        odd('a', 'x', '09:00', 'u1'),
        odd('a', 'yy', '09:10', 'u2'),
        odd('a', 'yy', '09:20', 'u3'),
        odd('b', 'x', '09:10', 'u4'),
        {
          ...{ what: 'b', p_from: '2026-01-01T00:00:00+00', operation_type: 'DELETE' },
          cdc_timestamp: `${at('09:30')}Z`,
        },
      ],
      { table: 'odd' },
    ),
  );
  const berliner = (name: string, time: string, seen: string) => ({
    ...{ id: 1, name, seen, changed: at(time), operation_type: 'UPDATE', cdc_timestamp: at(time) },
  });
  await apply(
    warehouse.sql,
    batch(
      'b',
      '12:00',
      [berliner('early', '10:00', '1'), berliner('late', '11:00', '2'), berliner('late', '11:30', '3')],
      {
        table: 'berliners',
      },
    ),
  );
});
afterAll(async () => {
  await warehouse.drop();
});

const lines = async (query: string): Promise<string[]> =>
  (
    await warehouse.sql.unsafe<{ line: string }[]>(`select row(${query.replace(' from ', ')::text as line from ')}`)
  ).map(({ line }) => line);

describe('the net difference between two moments', () => {
  test.each([
    ['09:00', '09:10', ['(1,updated,{order_status},pending,confirmed)', '(2,created,,,pending)']],
    ['09:00', '09:20', ['(2,created,,,pending)']],
    ['08:00', '09:00', ['(1,created,,,pending)', '(3,created,,,pending)']],
    [
      '09:10',
      '09:40',
      ['(1,updated,{order_status},confirmed,pending)', '(2,deleted,,pending,)', '(4,created,,,pending)'],
    ],
    ['09:41', '09:59', []],
    ['09:40', '10:00', ['(1,deleted,,pending,)', '(3,deleted,,pending,)', '(4,deleted,,pending,)']],
    ['10:00', '09:00', []],
  ])(
    'from %s to %s is what is created, updated and deleted, and what came and went is none',
    async (from, to, rows) => {
      expect(
        await lines(
          `order_key, what, changed, (before).order_status, (after).order_status from dim_orders_history_diff('${at(from)}', '${at(to)}') order by order_key`,
        ),
      ).toEqual(rows);
    },
  );
});

describe('the changes between two moments', () => {
  test('are each version opened and each life ended, with batch and line of what did it, after the first moment and up to the second', async () => {
    expect(
      await lines(`order_key, what, happened_at::time, changed, batch_id, change_line, captured_at::time, applied_at is not null
        from dim_orders_history_changes('${at('09:00')}', '${at('10:00')}') order by happened_at, order_key`),
    ).toEqual([
      '(2,created,09:05:00,,o1,4,12:00:00,t)',
      '(1,updated,09:10:00,{order_status},o1,2,12:00:00,t)',
      '(1,updated,09:20:00,{order_status},o1,3,12:00:00,t)',
      '(4,created,09:30:00,,o2,1,12:10:00,t)',
      '(2,deleted,09:40:00,,o2,2,12:10:00,t)',
      '(1,deleted,10:00:00,,truncated,1,12:20:00,t)',
      '(3,deleted,10:00:00,,truncated,2,12:20:00,t)',
      '(4,deleted,10:00:00,,truncated,3,12:20:00,t)',
    ]);
  });

  test('name the delete of a key that has a time, in whatever zone the session is, and nobody where it was pruned', async () => {
    const found = await rolledBack(warehouse.sql, async (transaction) => {
      await transaction`set local timezone = 'Asia/Kolkata'`;
      const deleted = () =>
        transaction.unsafe<{ who: string | null }[]>(
          `select batch_id as who from "History of 'x' %s_changes"('-infinity', 'infinity') where what = 'deleted'`,
        );
      const before = await deleted();
      await transaction`delete from tidemark.absorbed_changes where dimension_name = 'odd'`;
      return [...before, ...(await deleted())];
    });
    expect(found).toEqual([{ who: 'odd' }, { who: null }]);
  });
});

describe('columns and names', () => {
  const compared = [
    { history: ODD, keys: ['what', 'p_from'], columns: ['_before', 'p_moment', 'say "hi"', 'changed'] },
    { history: 'public.dim_berliners_history', keys: ['id'], columns: ['name', 'seen'] },
    {
      history: 'public.dim_orders_history',
      keys: ['order_key'],
      columns: ['customer_id', 'quantity', 'order_status', 'order_date'],
    },
  ];
  test.each(compared)('of $history do no harm', async (history) => {
    expect(await wrongDifferences(warehouse.sql, history)).toEqual([]);
    expect(await wrongChanges(warehouse.sql, history)).toEqual([]);
  });

  test('of a key that are those of the answer have a mark before them', async () => {
    const [row] = await warehouse.sql`
      select * from "History of 'x' %s_diff"('2026-02-01 09:00+00', '2026-02-01 09:10+00') where "__what" = 'a'`;
    expect(row).toMatchObject({
      __what: 'a',
      __p_from: '2026-01-01 00:00:00+00',
      what: 'updated',
      changed: ['_before', 'p_moment', 'say "hi"', 'changed'],
    });
  });

  test.each(['UTC', 'America/New_York'])('an instant and a time of the source mean one moment, in %s', async (zone) => {
    const found = await rolledBack(warehouse.sql, async (transaction) => {
      await transaction`select set_config('TimeZone', ${zone}, true)`;
      return Promise.all(
        [
          "timestamptz '2026-02-01 09:30+00', timestamptz '2026-02-01 10:15+00'",
          "timestamp '2026-02-01 10:30', timestamp '2026-02-01 11:15'",
        ].flatMap((moments) =>
          ['diff', 'changes'].map(async (ending) => [
            ...(await transaction.unsafe(
              `select what, (before).name as was, (after).name as is_now from dim_berliners_history_${ending}(${moments})`,
            )),
          ]),
        ),
      );
    });
    expect(found).toEqual(Array(4).fill([{ what: 'updated', was: 'early', is_now: 'late' }]));
  });

  test('that are untracked show the last value of their version, also of a moment before it came', async () => {
    const seen = await warehouse.sql`
      select (select seen from dim_berliners_history_as_of(timestamp '2026-02-01 11:10')) as as_of,
        (select (before).seen || (after).seen from dim_berliners_history_diff(timestamp '2026-02-01 10:30', timestamp '2026-02-01 11:10')) as diff,
        (select count(*)::integer from dim_berliners_history_diff(timestamp '2026-02-01 11:10', timestamp '2026-02-01 11:40')) as later`;
    expect(seen).toEqual([{ as_of: '3', diff: '13', later: 0 }]);
  });
});

describe('tidemark.compile_dimension', () => {
  const signature = 'dim_orders_history_diff(timestamptz, timestamptz)';

  test.skipIf(IS_PARTITIONED)(
    'makes a function anew whose key has another type, and everybody may still call it',
    async () => {
      const found = await rolledBack(warehouse.sql, async (transaction) => {
        await transaction`alter default privileges revoke execute on functions from public`;
        await transaction`select tidemark.retype_history_column('orders', 'order_key', 'bigint')`;
        return transaction.unsafe(`
        select split_part(pg_get_function_result('${signature}'::regprocedure), ',', 1) as result,
          exists (select from pg_proc, aclexplode(proacl) where oid = '${signature}'::regprocedure and grantee = 0) as is_public`);
      });
      expect(found).toEqual([{ result: 'TABLE(order_key bigint', is_public: true }]);
    },
  );

  test('leaves one that somebody else wrote as it is', async () => {
    const found = await rolledBack(warehouse.sql, async (transaction) => {
      await transaction.unsafe(`
        drop function ${signature};
        create function dim_orders_history_diff(mine timestamptz, own timestamptz) returns integer language sql return 1;
        select tidemark.compile_dimension('orders')`);
      return transaction`select dim_orders_history_diff(now(), now()) as v`;
    });
    expect(found).toEqual([{ v: 1 }]);
  });
});
