// Runs once: what it tries is plain SQL over rows.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { Ajv } from 'ajv';
import { Ajv2020 } from 'ajv/dist/2020.js';
import formats from 'ajv-formats';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { PROJECT_ROOT } from '../../../runner/base/settings.js';
import { apply, batch, change, deletion } from '../../support/batches.js';
import { createWarehouseDatabase, type TestDatabase } from '../../support/databases.js';
import { registerDimension, type TestColumn } from '../../support/dimensions.js';
import { eventsAfter } from '../../support/events.js';
import { retract } from '../../support/retractions.js';

/** Columns that a schema could get wrong. */
const ODD: readonly TestColumn[] = [
  { source: 'Order Id', type: 'bigint', role: 'business key' },
  { source: 'part', type: 'text', role: 'business key', history: '{part}' },
  { source: 'amount', type: 'numeric(10,2)', role: 'tracked' },
  { source: 'ratio', type: 'double precision', role: 'tracked' },
  { source: 'is_new', type: 'boolean', role: 'tracked' },
  { source: 'attributes', type: 'jsonb', role: 'tracked', history: 'say "hi"' },
  { source: 'tags', type: 'text[]', role: 'tracked' },
  { source: 'seen_at', type: 'timestamptz', role: 'tracked' },
  { source: 'secret', type: 'text', role: 'tracked' },
  { source: 'counter', type: 'integer', role: 'untracked' },
  { source: 'touched', type: 'timestamptz', role: 'effective time' },
];

const cloudEvents = formats
  .default(new Ajv({ strict: false }))
  .compile(
    JSON.parse(
      readFileSync(path.join(PROJECT_ROOT, 'test', 'vendor', 'cloudevents', 'cloudevents.json'), 'utf8'),
    ) as object,
  );

let warehouse: TestDatabase;
beforeAll(async () => {
  warehouse = await createWarehouseDatabase();
  const { sql } = warehouse;
  await registerDimension(sql, 'odd_names', 'odd', ODD, { history: 'public.odd_history' });
  await sql`select tidemark.mask_column('odd_names', 'secret')`;
  for (const name of ['orders', 'odd_names']) await sql`select tidemark.publish_events(p_dimension_name => ${name})`;
  const odd = (part: string, values: object) => ({
    'Order Id': 9007199254740993n.toString(),
    part,
    ...{
      amount: null,
      ratio: null,
      is_new: null,
      attributes: null,
      tags: null,
      seen_at: null,
      secret: 's',
      counter: 1,
    },
    touched: '2026-02-01T09:01:00Z',
    operation_type: 'UPDATE',
    cdc_timestamp: '2026-02-01T09:01:00Z',
    ...values,
  });
  await apply(sql, batch('b1', '10:01', [change(1, 'A', '09:01'), change(1, 'B', '09:03'), change(2, 'A', '09:01')]));
  await apply(sql, batch('b2', '10:02', [deletion(2, '09:05')]));
  await retract(sql, 'orders', 'b2');
  const of = (name: string, time: string, changes: object[]) =>
    batch(name, time, changes as never, { table: 'odd_names' });
  await apply(
    sql,
    of('o1', '10:01', [
      odd('', {
        amount: 1.5,
        ratio: 'NaN',
        is_new: true,
        attributes: '{"a": [1]}',
        tags: '{a,"b c"}',
        seen_at: 'infinity',
      }),
      odd('a"b\\', { ratio: 0.1 }),
      odd('old', { cdc_timestamp: '0044-03-15T00:00:00Z BC', touched: '0044-03-15T00:00:00Z BC' }),
    ]),
  );
  await apply(
    sql,
    of('o2', '10:02', [odd('a"b\\', { ratio: 0.2, counter: 2, cdc_timestamp: '2026-02-01T09:02:00Z' })]),
  );
});
afterAll(async () => {
  await warehouse.drop();
});

test.each([
  ['orders', 5],
  ['odd_names', 4],
])('the events of %s are CloudEvents, and as the schema of the table says', async (table, count) => {
  const [{ event_schema }] = await warehouse.sql<
    [{ event_schema: string }]
  >`select tidemark.event_schema(p_dimension_name => ${table})`;
  const ofTable = formats
    .default(new Ajv2020({ allErrors: true, strictTypes: false }))
    .compile(JSON.parse(event_schema) as object);
  await warehouse.sql`select tidemark.number_events()`;
  const events = await warehouse.sql<{ event: string }[]>`
    select event from tidemark.read_events(p_after => 0, p_limit => 100, p_dimensions => ${[table]})`;
  expect(events).toHaveLength(count);
  for (const { event } of events) {
    const given = JSON.parse(event) as { data: object };
    expect([cloudEvents(given), cloudEvents.errors, event]).toEqual([true, null, event]);
    expect([ofTable(given), ofTable.errors, event]).toEqual([true, null, event]);
    expect(ofTable({ ...given, data: { ...given.data, more: 1 } })).toBe(false);
  }
  expect(event_schema).not.toContain('"secret" : {');
});

test('pages of events are what all of them are', async () => {
  const all = await eventsAfter(warehouse.sql);
  const pages = [];
  for (let last = '0'; ; ) {
    const page = await warehouse.sql<{ event_position: string }[]>`
      select * from tidemark.read_events(p_after => ${last}, p_limit => 2)`;
    pages.push(...page);
    if (page.length === 0) break;
    last = page.at(-1)?.event_position ?? last;
  }
  expect(pages).toEqual(all);
  expect(all).toHaveLength(9);
});
