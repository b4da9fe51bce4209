import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { answer, timeline, type Asked } from '../../runner/operate/time-travel.js';
import { loadSettings, type Settings } from '../../runner/base/settings.js';
import { apply, batch, change, deletion } from '../support/batches.js';
import { runCli } from '../support/cli.js';
import { createWarehouseDatabase, type TestDatabase } from '../support/databases.js';
import { registerDimension } from '../support/dimensions.js';

/** What "tidemark as-of", "diff" and "history" print; tidemark.moment and tidemark.time_travel_query. */

let warehouse: TestDatabase;
let settings: Settings;
beforeAll(async () => {
  warehouse = await createWarehouseDatabase();
  settings = { ...loadSettings({ ENV_FILE: '/dev/null' }), warehouse: warehouse.settings };
  await registerDimension(
    warehouse.sql,
    'seats',
    'seats',
    [
      { source: 'what', type: 'varchar(20)', role: 'business key' },
      { source: 'seat', type: 'integer', role: 'business key' },
      { source: 'it\'s "%s\\', type: 'json', role: 'tracked' },
      { source: 'changed', type: 'timestamp', role: 'effective time' },
    ],
    { timeType: 'timestamp', sourceTimeZone: 'Europe/Berlin' },
  );
  await apply(
    warehouse.sql,
    batch('o1', '12:00', [
      change(1, 'pending', '09:00'),
      change(1, 'confirmed', '09:10'),
      change(2, 'pending', '09:05'),
      deletion(2, '09:40'),
    ]),
  );
  const seat = (value: string, time: string) => ({
    ...{ what: "A'; drop table x; --", seat: 7, 'it\'s "%s\\': value, changed: time, cdc_timestamp: time },
    operation_type: 'UPDATE',
  });
  await apply(
    warehouse.sql,
    batch('s1', '12:00', [seat('{"a": "\\u0000"}', '2026-02-01T10:00:00'), seat('{"a":\n2}', '2026-02-01T11:00:00')], {
      table: 'seats',
    }),
  );
});
afterAll(async () => {
  await warehouse.drop();
});

async function printed(asked: Asked, ...draw: (typeof timeline)[]): Promise<string> {
  const out = new PassThrough();
  const [shown] = await Promise.all([
    text(out),
    answer(settings, asked, draw[0], out).finally(() => {
      out.end();
    }),
  ]);
  return shown;
}

const lines = async (...given: Parameters<typeof printed>) => (await printed(...given)).trimEnd().split('\n');
const KEY = ["A'; drop table x; --", '7'];

describe('tidemark.moment', () => {
  const moment = async (given: string, table = 'seats', isKnown = false) => {
    const [row] = await warehouse.sql<[{ v: string }]>`
      select tidemark.moment(${table}, ${given}, ${isKnown}, timestamptz '2026-02-10 12:34:56+00')::text as v`;
    return row.v;
  };

  test.each([
    ['2026-02-01', '2026-01-31 23:00:00+00'],
    [' 2026-02-01 09:05 ', '2026-02-01 08:05:00+00'],
    ['2026-07-01 09:05', '2026-07-01 07:05:00+00'],
    ['2026-02-01T09:05:00Z', '2026-02-01 09:05:00+00'],
    ['2026-02-01 09:05+02', '2026-02-01 07:05:00+00'],
    ['09:05', '2026-02-10 08:05:00+00'],
    ['now', '2026-02-10 12:34:56+00'],
    ['Yesterday', '2026-02-08 23:00:00+00'],
    ['today', '2026-02-09 23:00:00+00'],
    ['-2h', '2026-02-10 10:34:56+00'],
    ['-90 min', '2026-02-10 11:04:56+00'],
    ['+1d', '2026-02-11 12:34:56+00'],
    ['-infinity', '-infinity'],
    ['batch:s1', '2026-02-01 12:00:00+00'],
  ])('%s is an instant, in the zone of the source where it has none: %s', async (given, expected) => {
    expect(await moment(given)).toBe(expected);
  });

  test('of a batch is the time of its capture, or, known, that at which it was applied', async () => {
    const [row] = await warehouse.sql`select applied_at::text as v from tidemark.batches where batch_id = 'o1'`;
    expect(await moment('batch:o1', 'orders')).toBe('2026-02-01 12:00:00+00');
    expect(await moment('batch:o1', 'orders', true)).toBe(row?.v);
  });

  test.each(['', 'soon', '01/02/2026', '2026-02-30', '-2 fortnights', '25:00', 'batch:o1'])(
    'is none: %s, and what is accepted is said',
    async (given) => {
      await expect(moment(given)).rejects.toMatchObject({
        code: '22023',
        hint: expect.stringContaining('batch') as string,
      });
    },
  );
});

describe('what is printed', () => {
  test('of a state is a table of what is mapped, CSV and JSON of all', async () => {
    const asked = { table: 'orders', moments: ['2026-02-01 09:06'], asked: 'as_of' } as const;
    const table = await lines({ ...asked, layout: 'table' });
    expect(table.map((line) => line.split(/ +/).slice(0, 2))).toEqual([
      ['order_key', 'customer_id'],
      ['1', '101'],
      ['2', '101'],
    ]);
    expect((await lines({ ...asked, key: ['2'], layout: 'csv' })).map((line) => line.split(',').slice(0, 2))).toEqual([
      ['surrogate_key', 'order_key'],
      ['3', '2'],
    ]);
    const json = JSON.parse(await printed({ ...asked, where: ['order_key=2'], layout: 'json' })) as object[];
    expect(json).toMatchObject([{ order_key: 2, unit_price: 29.99, batch_id: 'o1' }]);
    expect(await printed({ ...asked, where: ['order_status=x'], layout: 'json' })).toBe('[]\n');
  });

  test('of a state as it was known at another moment is what had been applied by then', async () => {
    const asked = { table: 'orders', moments: ['infinity'], asked: 'as_of', layout: 'csv' } as const;
    expect(await lines({ ...asked, known: 'batch:o1' })).toHaveLength(2);
    expect(await lines({ ...asked, known: '2026-01-01' })).toHaveLength(1);
  });

  test('of a difference says which columns differ and how, of any names and values', async () => {
    const asked = { table: 'seats', moments: ['2026-02-01 10:30', 'now'], asked: 'diff', key: KEY } as const;
    expect((await printed({ ...asked, layout: 'table' })).replaceAll(/ +/g, ' ')).toContain(
      `A'; drop table x; -- 7 updated it's "%s\\: {"a": "\\u0000"} → {"a":\n`,
    );
    expect(JSON.parse(await printed({ ...asked, layout: 'json' }))).toMatchObject([
      { _what: KEY[0], seat: 7, what: 'updated', changed: ['it\'s "%s\\'], after: { 'it\'s "%s\\': { a: 2 } } },
    ]);
    expect(await printed({ ...asked, layout: 'csv' })).toMatch(
      /^_what,seat,what,changed,before,after\nA'; drop table x; --,7,updated,/,
    );
  });

  test('of a key is the line of its life, on a terminal drawn', async () => {
    const asked = { table: 'orders', moments: ['-infinity', 'infinity'], asked: 'changes', key: ['2'] } as const;
    expect((await lines({ ...asked, layout: 'table' })).map((line) => line.replace(/ {2,}.*o1 */, ' | '))).toEqual([
      expect.stringMatching(/^happened_at +what +changes +batch_id +line +captured_at +applied_at$/),
      expect.stringMatching(/^2026-02-01 09:05:00 \| 3 +2026-02-01 12:00:00\+00 +20/),
      expect.stringMatching(/^2026-02-01 09:40:00 \| 4 +2026-02-01 12:00:00\+00 +20/),
    ]);
    expect(await lines({ ...asked, layout: 'table' }, timeline)).toEqual([
      expect.stringMatching(/^┌ 2026-02-01 09:05:00 {2}created {2}customer_id: 101, .*order_status: pending/),
      expect.stringMatching(/^│ {3}o1, line 3; captured 2026-02-01 12:00:00\+00, applied 20/),
      '└ 2026-02-01 09:40:00  deleted',
      expect.stringMatching(/^ {4}o1, line 4;/),
    ]);
  });

  test('of more rows than are held at a time is all of them, and the head of the table once', async () => {
    await apply(
      warehouse.sql,
      batch(
        'many',
        '12:30',
        Array.from({ length: 1200 }, (_, id) => change(1000 + id, 'pending', '12:20')),
      ),
    );
    const asked = { table: 'orders', moments: ['2026-02-01 12:25'], asked: 'as_of' } as const;
    const table = await lines({ ...asked, layout: 'table' });
    expect(table.filter((line) => line.startsWith('order_key'))).toHaveLength(1);
    expect(table).toHaveLength(1202);
    expect(JSON.parse(await printed({ ...asked, layout: 'json' }))).toHaveLength(1201);
  });
});

test.each<[Partial<Asked>, string, string]>([
  [{ table: 'order' }, 'no table is registered as order; did you mean orders?', 'registered are: customers, orders'],
  [
    { where: ['quantty=1'] },
    'the history of orders has no column quantty; did you mean quantity?',
    'it has surrogate_key',
  ],
  [{ where: ['quantity'] }, '--where quantity is no filter', 'column=value'],
  [{ moments: ['soon'] }, "'soon' is no moment", 'yesterday'],
  [{ moments: ['batch:o9'] }, 'no batch of orders is called o9', 'batch_id'],
  [{ key: ['1', '2'] }, 'the key does not fit the dimension', 'one value for each column'],
  [{ key: ['one'] }, 'invalid input syntax for type integer: "one"', ''],
])('%j is wrong usage, and what may be meant is said', async (given, message, hint) => {
  const asked: Asked = { table: 'orders', moments: ['now'], asked: 'as_of', layout: 'table', ...given };
  const error: unknown = await printed(asked).catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ name: 'UsageError', message });
  expect((error as { hint?: string }).hint ?? '').toContain(hint);
});

test('the command line takes -2h for a moment, and says that a key has no history', async () => {
  const env = { WAREHOUSE_DB_NAME: warehouse.settings.database, WAREHOUSE_DB_PORT: String(warehouse.settings.port) };
  const asOf = await runCli(['as-of', 'orders', '-2h', '--key', '1', '--csv'], env);
  expect(asOf).toMatchObject({ code: 0, stdout: expect.stringContaining('confirmed') as string });
  expect(await runCli(['history', 'orders', '77'], env)).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('the key has no history') as string,
  });
});
