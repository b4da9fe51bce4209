import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  asKnownPage,
  asOfPage,
  batchList,
  browseColumns,
  changeHistogram,
  diffPage,
  diffSummary,
  keyMarks,
  keyVersions,
  moments,
  overview,
  rejectedCauses,
  schemaHistory,
  workList,
} from '../../../runner/warehouse/browse.js';
import type { Database, Transaction } from '../../../runner/base/database.js';
import { createWarehouseDatabase, type TestDatabase } from '../../support/databases.js';
import { registerDimension } from '../../support/dimensions.js';
import { apply, batch, change, deletion, rolledBack } from '../../support/batches.js';

/**
 * What the pages of the console ask: tidemark.as_of_page, tidemark.as_known_page, tidemark.browse_columns, tidemark.key_versions, tidemark.key_marks,
 * tidemark.change_histogram, tidemark.diff_page, tidemark.diff_summary, tidemark.batch_list, tidemark.schema_history, tidemark.rejected_causes,
 * tidemark.work_list, tidemark.overview, tidemark.moments; tidemark.reading_role is in test/console/server.test.ts.
 */

let warehouse: TestDatabase;
/** When the first batch of orders was applied, and the second, and the last. */
const known: string[] = [];
const clock = async () => {
  const [row] = await warehouse.sql<[{ at: string }]>`select clock_timestamp()::text as at`;
  known.push(row.at);
};
beforeAll(async () => {
  warehouse = await createWarehouseDatabase();
  const { sql } = warehouse;
  await apply(
    sql,
    batch('b1', '09:30', [
      change(1, 'A', '09:00'),
      change(1, 'B', '09:10'),
      change(2, 'A', '09:05'),
      change(3, 'A', '09:20'),
    ]),
  );
  await clock();
  const second = [change(1, 'B', '09:40'), deletion(2, '09:45'), change(3, 'A', '09:50', { quantity: 'many' })];
  await apply(sql, batch('b2', '10:00', second, { sequence: 2 }));
  await clock();
  await apply(sql, batch('b3', '11:00', [change(2, 'A', '10:30')], { sequence: 3 }));
  await clock();
  await registerDimension(sql, 'seats', 'seats', [
    { source: 'hall', type: 'varchar(3)', role: 'business key' },
    { source: 'seat', type: 'numeric', role: 'business key' },
    { source: 'guest', type: 'text', role: 'tracked' },
    { source: 'wishes', type: 'json', role: 'untracked' },
    { source: 'changed', type: 'timestamptz', role: 'effective time' },
  ]);
  const seat = (hall: string, number: number, guest: string | null) => ({
    ...{ hall, seat: number, guest, wishes: '{"tea": 1}', changed: '2026-02-01T09:00:00Z' },
    ...{ operation_type: 'UPDATE', cdc_timestamp: '2026-02-01T09:00:00Z' },
  });
  const seats = [seat('it"', 1, '<b>'), seat("o'", 10, null), seat("o'", 9, 'NULL')];
  await apply(sql, batch('s1', '2026-02-01T10:00:00', seats, { table: 'seats' }));
});
afterAll(async () => {
  await warehouse.drop();
});

/** Keys of a page, and the status of each. */
const page = async (moment: string | null, after: string[] | null = null, filters = {}, limit = 10) =>
  (await asOfPage(warehouse.sql, 'orders', moment, after, filters, limit)).map(
    ({ business_key: key, shown_values: values }) => `${key.join('/')} ${String(values[5])}`,
  );
const browsing = () =>
  warehouse.sql.unsafe(
    'create index orders_began on public.dim_orders_history (valid_from); create index orders_ended on public.dim_orders_history (valid_to) where valid_to is not null',
  );

describe('a page of a table as of a moment', () => {
  test('has the rows that were there then, in the order of the key', async () => {
    expect(await page('2026-02-01 09:05+00')).toEqual(['1 A', '2 A']);
    expect(await page('2026-02-01 09:10+00')).toEqual(['1 B', '2 A']);
    expect(await page('2026-02-01 10:00+00')).toEqual(['1 B', '3 A']);
    expect(await page('2026-01-01 00:00+00')).toEqual([]);
    expect(await page(null)).toEqual(['1 B', '2 A', '3 A']);
  });

  test('goes on after a key, and ends at its limit', async () => {
    expect(await page(null, null, {}, 2)).toEqual(['1 B', '2 A']);
    expect(await page(null, ['2'], {}, 2)).toEqual(['3 A']);
    expect(await page('2026-02-01 09:25+00', ['1'], {}, 1)).toEqual(['2 A']);
  });

  test('is filtered by values, and by null', async () => {
    expect(await page(null, null, { order_status: 'A', quantity: '2' })).toEqual(['2 A', '3 A']);
    expect(await page(null, null, { order_status: null })).toEqual([]);
    await expect(page(null, null, { quantity: 'x' })).rejects.toMatchObject({ code: '22P02' });
    await expect(page(null, null, { valid_from: 'x' })).rejects.toMatchObject({ code: '42703' });
  });

  test('is the same where few versions are from before the moment, which are sorted then', async () => {
    const moments = ['2026-02-01 09:05+00', '2026-02-01 09:45+00', '2027-01-01 00:00+00'];
    const walked = await Promise.all(moments.map((moment) => page(moment, ['0'], { order_status: 'A' }, 2)));
    await browsing();
    expect(await Promise.all(moments.map((moment) => page(moment, ['0'], { order_status: 'A' }, 2)))).toEqual(walked);
    await warehouse.sql.unsafe('drop index public.orders_began; drop index public.orders_ended');
  });

  test('takes a key of several columns, of whatever type, and tells null from the text "NULL"', async () => {
    const seats = await asOfPage(warehouse.sql, 'seats', null, ["o'", '2'], {}, 10);
    expect(seats.map(({ business_key: key, shown_values: [guest] }) => [...key, guest])).toEqual([
      ["o'", '9', 'NULL'],
      ["o'", '10', null],
    ]);
    expect(await asOfPage(warehouse.sql, 'seats', null, null, { wishes: '{"tea": 1}', hall: 'it"' }, 10)).toHaveLength(
      1,
    );
    await expect(asOfPage(warehouse.sql, 'seats', null, ["o'"], {}, 10)).rejects.toMatchObject({ code: 'TM020' });
    // A text that is too long is no key that is cut.
    expect(await keyVersions(warehouse.sql, 'seats', ['it"x', '1'], null, null, 10)).toEqual([]);
  });
});

describe('a page of a table as of a moment, as it was known', () => {
  /** A page of `limit` keys after the other, to its end. */
  const pages = async (
    sql: Database | Transaction,
    moment: string | null,
    then: string,
    limit: number,
    filters = {},
  ) => {
    const found: string[] = [];
    for (let after: string[] | null = null; ; ) {
      const part = await asKnownPage(sql, 'orders', moment, then, after, filters, limit);
      found.push(...part.map((row) => `${row.business_key.join('/')} ${String(row.shown_values?.[5])}`));
      if (part.length < limit) return found;
      after = [...(part.at(-1)?.business_key ?? [])];
    }
  };

  test('is what <history>_as_known says, whatever became known since, page by page', async () => {
    expect(await pages(warehouse.sql, '2026-02-01 09:50+00', known[0] ?? '', 2)).toEqual(['1 B', '2 A', '3 A']);
    expect(await pages(warehouse.sql, '2026-02-01 09:50+00', known[1] ?? '', 2)).toEqual(['1 B', '3 A']);
    expect(await pages(warehouse.sql, null, known[1] ?? '', 2, { order_key: '3' })).toEqual(['3 A']);
    expect(await pages(warehouse.sql, null, '2026-02-01 09:50+00', 2)).toEqual([]);
    await rolledBack(warehouse.sql, async (transaction) => {
      // Nothing is left of these keys in history.
      for (const id of ['b3', 'b2', 'b1'])
        await transaction`select tidemark.retract_batch(p_dimension_name => 'orders', p_batch_id => ${id}, p_reason => 'wrong')`;
      for (const then of known)
        for (const moment of ['2026-02-01 09:05+00', '2026-02-01 09:48+00']) {
          const told = await transaction<{ row: string }[]>`
            select format('%s %s', order_key, order_status) as row
            from public.dim_orders_history_as_known(${moment}::timestamptz, ${then}::timestamptz) order by order_key`;
          expect(await pages(transaction, moment, then, 1)).toEqual(told.map(({ row }) => row));
        }
      expect(await pages(transaction, null, known[2] ?? '', 1)).toEqual(['1 B', '2 A', '3 A']);
    });
  });

  test('takes a key of several columns, of whatever type', async () => {
    const seats = await asKnownPage(warehouse.sql, 'seats', null, known[2] ?? '', ["o'", '9'], { guest: null }, 10);
    expect(seats).toEqual([]);
    const [later] = await warehouse.sql<[{ at: string }]>`select clock_timestamp()::text as at`;
    const told = await asKnownPage(warehouse.sql, 'seats', null, later.at, ["o'", '9'], { guest: null }, 10);
    expect(told.map(({ business_key: key }) => key)).toEqual([["o'", '10']]);
  });

  test('is refused where it was pruned, with the moment from which on it can be told', async () => {
    await warehouse.sql`update tidemark.dimensions set pruned_known_at = ${known[1] ?? ''} where dimension_name = 'orders'`;
    const refused = { code: 'TM028', hint: expect.stringMatching(/^ask for .* or later/) as string };
    const page = (then: number) => asKnownPage(warehouse.sql, 'orders', null, known[then] ?? '', null, {}, 2);
    await expect(page(0)).rejects.toMatchObject(refused);
    await expect(keyVersions(warehouse.sql, 'orders', ['1'], known[0] ?? '', null, 2)).rejects.toMatchObject(refused);
    expect(await page(1)).toHaveLength(2);
    await warehouse.sql`update tidemark.dimensions set pruned_known_at = null`;
  });
});

describe('one key', () => {
  test('has the versions that were known at a moment', async () => {
    const versionsAt = async (then: string | null) =>
      (await keyVersions(warehouse.sql, 'orders', ['2'], then, null, 10)).map((its) => its.valid_to);
    const deleted = '2026-02-01 09:45:00+00';
    expect(await versionsAt(known[0] ?? '')).toEqual([null]);
    expect(await versionsAt(known[1] ?? '')).toEqual([deleted]);
    expect(await versionsAt(known[2] ?? '')).toEqual([deleted, null]);
    expect(await versionsAt(null)).toEqual([deleted, null]);
  });

  test('has its versions from the oldest on, and what changed in each', async () => {
    const versions = await keyVersions(warehouse.sql, 'orders', ['1'], null, null, 10);
    expect(
      versions.map(({ valid_from: from, changed, batch_id: id, change_line: line }) => [from, changed, id, line]),
    ).toEqual([
      ['2026-02-01 09:00:00+00', null, 'b1', 1],
      ['2026-02-01 09:10:00+00', ['order_status'], 'b1', 2],
    ]);
    const [newest] = await keyVersions(warehouse.sql, 'orders', ['1'], null, null, 1);
    expect(newest?.changed).toEqual(['order_status']);
    const [first] = await keyVersions(warehouse.sql, 'orders', ['1'], null, '2026-02-01 09:10+00', 10);
    expect(first?.valid_to).toBe('2026-02-01 09:10:00+00');
  });

  test('has marks for the changes that opened none', async () => {
    const marksOf = async (key: string) =>
      (await keyMarks(warehouse.sql, 'orders', [key], 10)).map(
        ({ kind, batch_id: id, change_line: line }) => `${kind} ${id}:${String(line)}`,
      );
    expect(await marksOf('1')).toEqual(['unchanged b2:1']);
    expect(await marksOf('2')).toEqual(['delete b2:2']);
    expect(await marksOf('3')).toEqual(['rejected b2:3']);
  });

  test('has its marks in whatever form it is asked', async () => {
    await rolledBack(warehouse.sql, async (sql) => {
      await registerDimension(sql, 'fees', 'fees', [
        { source: 'code', type: 'character(4)', role: 'business key' },
        { source: 'amount', type: 'numeric(10,2)', role: 'business key' },
        { source: 'since', type: 'timestamp(0)', role: 'business key' },
        { source: 'v', type: 'integer', role: 'tracked' },
        { source: 'changed', type: 'timestamptz', role: 'effective time' },
      ]);
      const fee = (v: unknown) => ({
        ...{ code: 'A   ', amount: '#', since: '2026-02-01T08:00:00', v, changed: '2026-02-01T09:00:00Z' },
        ...{ operation_type: 'UPDATE', cdc_timestamp: '2026-02-01T09:00:00Z' },
      });
      // As PostgreSQL prints it, which JavaScript would not.
      const lines = [fee(1), fee(1), fee('no number')].map((each) => JSON.stringify(each).replace('"#"', '5.00'));
      await apply(sql, batch('f1', '2026-02-01T10:00:00', lines, { table: 'fees' }));
      const asked = [
        ['A', '5', '2026-02-01 08:00'],
        ['A   ', '5.00', '2026-02-01 07:59:59.6'],
      ];
      for (const key of asked)
        expect((await keyMarks(sql, 'fees', key, 10)).map(({ kind }) => kind).sort()).toEqual([
          'rejected',
          'unchanged',
        ]);
    });
  });
});

describe('when a table changed', () => {
  test('is counted exactly where the history is small', async () => {
    const parts = await changeHistogram(warehouse.sql, 'orders', '2026-02-01 09:00+00', '2026-02-01 09:30+00', 3);
    expect(parts.map(({ changes, is_exact: exact }) => [changes, exact])).toEqual([
      ['2', true],
      ['1', true],
      ['1', true],
    ]);
    const [first] = await changeHistogram(warehouse.sql, 'orders', null, '2026-02-01 12:00+00', 60);
    expect(first?.starts_at).toBe('2026-02-01 09:00:00+00');
    expect(await changeHistogram(warehouse.sql, 'orders', null, '2026-01-01 00:00+00', 60)).toEqual([]);
  });
});

describe('what differs between two moments', () => {
  const differences = async (from: string, to: string, after: string[] | null = null, kind?: string, column?: string) =>
    (await diffPage(warehouse.sql, 'orders', from, to, after, kind, column, 2)).map(
      ({ business_key: [key], kind: what, changed, before_values: before, after_values: values, versions }) =>
        [key, what, changed, before?.[5], values?.[5], versions].join(' '),
    );
  const [nine, ten, noon] = ['2026-02-01 09:02+00', '2026-02-01 10:00+00', '2026-02-01 12:00+00'];

  test('is net: what came, went and changed, in the order of the key', async () => {
    expect(await differences(nine, ten)).toEqual(['1 updated order_status A B 1', '3 created   A 1']);
    expect(await differences(nine, ten, ['1'])).toEqual(['3 created   A 1']);
    expect(await differences('2026-02-01 09:30+00', ten)).toEqual(['2 deleted  A  0']);
    expect(await differences(nine, ten, null, 'updated')).toEqual(['1 updated order_status A B 1']);
    expect(await differences(nine, ten, null, undefined, 'quantity')).toEqual([]);
    // It was deleted and came back.
    expect(await differences('2026-02-01 09:30+00', noon)).toEqual([]);
    expect(await differences(noon, nine)).toEqual([]);
  });

  test('is counted, by kind and column', async () => {
    expect(await diffSummary(warehouse.sql, 'orders', nine, ten)).toEqual({
      ...{ created: '1', updated: '1', deleted: '0', is_exact: true },
      changed_columns: [{ column_name: 'order_status', keys: 1 }],
    });
  });

  test('is what <history>_diff says', async () => {
    const [counted] = await warehouse.sql`
      select count(*) filter (where change_kind = 'created')::text as created, count(*) filter (where change_kind = 'updated')::text as updated
      from public.dim_orders_history_diff(${nine}::timestamptz, ${ten}::timestamptz) as d (order_key, change_kind)`;
    expect(await diffSummary(warehouse.sql, 'orders', nine, ten)).toMatchObject({ ...counted });
  });
});

describe('the ledger', () => {
  test('is listed from the batch that was applied last, place by place, with whether its chain is whole', async () => {
    const all = await batchList(warehouse.sql, 'orders', undefined, undefined, 10);
    expect(
      all.map(({ batch_id: id, change_count: changes, rejected_changes: rejected }) => [id, changes, rejected]),
    ).toEqual([
      ['b3', 1, 0],
      ['b2', 3, 1],
      ['b1', 4, 0],
    ]);
    const next = await batchList(warehouse.sql, 'orders', all[0]?.applied_at, all[0]?.batch_id, 1);
    expect(next.map(({ batch_id: id }) => id)).toEqual(['b2']);
    expect(
      new Set(
        (await batchList(warehouse.sql, undefined, undefined, undefined, 10)).map(({ dimension_name: name }) => name),
      ).size,
    ).toBe(2);
  });

  test('says when the source of a table changed its shape', async () => {
    const changes = await schemaHistory(warehouse.sql, 'seats');
    expect(changes.map(({ batch_id: id, added, gone, note }) => [id, added, gone, note])).toEqual([
      ['s1', ['changed', 'guest', 'hall', 'seat', 'wishes'], [], 'the first batch'],
    ]);
  });
});

describe('the work list', () => {
  test('has rejected changes by their cause, without the values that differ', async () => {
    const [cause, ...others] = await rejectedCauses(warehouse.sql, 'orders', 10);
    expect(others).toEqual([]);
    expect(cause).toMatchObject({ column_name: 'quantity', changes: '1', batch_id: 'b2', change_line: 3 });
    expect(cause?.cause).toContain('"…"');
  });

  test('has checks that fail before others, and how comparisons ended', async () => {
    const { sql } = warehouse;
    await sql`select tidemark.note_checks('[{"suite": "a", "check": "fits", "violations": 0}, {"suite": "b", "check": "breaks", "violations": 2}]', now())`;
    await sql`select tidemark.note_reconciliation('orders', 3, 1, 0, 0, 0, now())`;
    expect(
      (await workList(sql, undefined, 10)).map(({ kind, subject, state }) => `${kind} ${subject ?? '-'} ${state}`),
    ).toEqual(['check b: breaks fails', 'check a: fits passed', 'comparison 3 rows of the source differs']);
  });
});

test('the overview has the ledger of the window in parts, and reads no history', async () => {
  const { sql } = warehouse;
  await sql`analyze public.dim_orders_history`;
  const rows = await overview(sql, '1 hour', 12);
  const orders = rows.find(({ dimension_name: name }) => name === 'orders');
  expect(orders).toMatchObject({
    changes: '8',
    rejected_changes: '1',
    versions_estimate: '5',
    current_estimate: '3',
    last_batch: 'b3',
  });
  expect(orders?.series.map(Number).reduce((sum, each) => sum + each, 0)).toBe(8);
  const [before, after] = await rolledBack(sql, async (transaction) => {
    const scans = () => transaction`
      select sum(pg_stat_get_xact_numscans(c.oid))::text as scans
      from pg_class as c
      where c.oid = any (select history_relation from tidemark.dimensions)
        or c.oid in (select indexrelid from pg_index where indrelid = any (select history_relation from tidemark.dimensions))`;
    return [await scans(), (await overview(transaction, '1 hour', 12)).length > 0 && (await scans())];
  });
  expect(after).toEqual(before);
});

test('moments are read as people write them', async () => {
  const [plain, zoned, empty, then, now] = await moments(warehouse.sql, [
    '2026-02-01 09:05',
    '2026-02-01T09:05+02',
    '',
    '-5 minutes',
    'now',
  ]);
  expect([plain, zoned, empty]).toEqual(['2026-02-01 09:05:00+00', '2026-02-01 07:05:00+00', null]);
  expect(Date.parse(now ?? '') - Date.parse(then ?? '')).toBe(300_000);
  await expect(moments(warehouse.sql, ['soon'])).rejects.toMatchObject({ code: '22023' });
  // One parser: what is said of one table is in the zone of its source, what is said of all in UTC, whatever the session's.
  await rolledBack(warehouse.sql, async (sql) => {
    await sql`update tidemark.dimensions set source_time_zone = 'Europe/Berlin' where dimension_name = 'orders'`;
    await sql`set local TimeZone = 'America/New_York'`;
    const written = [
      '2026-02-01 09:05',
      '2026-02-01T09:05Z',
      '2026-02-01',
      '09:05',
      'yesterday',
      '-2h',
      '- 90 minutes',
    ];
    const read = async (call: string) => {
      const [row] = await sql.unsafe<[{ all: string[] }]>(
        `select array_agg(to_char(m at time zone 'UTC', 'MM-DD HH24:MI') order by place) as all
        from unnest(array['${written.join("','")}']) with ordinality as w (text, place) cross join lateral (select ${call} as m) as r`,
      );
      return row.all;
    };
    const now = `timestamptz '2026-02-02 12:00Z'`;
    const [zoned, hours, minutes] = ['02-01 09:05', '02-02 10:00', '02-02 10:30'];
    expect(await read(`tidemark.moment('orders', w.text, false, ${now})`)).toEqual([
      ...['02-01 08:05', zoned, '01-31 23:00', '02-02 08:05', '01-31 23:00', hours, minutes],
    ]);
    expect(await read(`(tidemark.moments(array[w.text], ${now}) ->> 0)::timestamptz`)).toEqual([
      ...['02-01 09:05', zoned, '02-01 00:00', '02-02 09:05', '02-01 00:00', hours, minutes],
    ]);
  });
});

test('the columns that are shown are those of the key, then the others, with what the reader may read', async () => {
  const columns = await browseColumns(warehouse.sql, 'seats');
  expect(columns.map(({ column_name: name, type_name: type, is_readable: may }) => [name, type, may])).toEqual([
    ['hall', 'character varying(3)', true],
    ['seat', 'numeric', true],
    ['guest', 'text', true],
    ['wishes', 'json', true],
  ]);
  await expect(browseColumns(warehouse.sql, 'nothing')).rejects.toMatchObject({ code: 'TM002' });
});
