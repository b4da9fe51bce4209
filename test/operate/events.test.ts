import { readFileSync } from 'node:fs';
import { readFile, readdir } from 'node:fs/promises';
import path from 'node:path';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { PROJECT_ROOT } from '../../runner/base/settings.js';
import { extractTables } from '../../runner/extract/tables.js';
import { loadTables } from '../../runner/load/tables.js';
import { apply, batch, change } from '../support/batches.js';
import { runCli } from '../support/cli.js';
import { createPipeline, type TestPipeline } from '../support/databases.js';
import { asOwner } from '../support/roles.js';

let pipeline: TestPipeline;
const events = (...args: string[]) => runCli(['events', ...args], pipeline.env);
const json = async (...args: string[]) => JSON.parse((await events(...args, '--json')).stdout) as never;

beforeAll(async () => {
  pipeline = await createPipeline();
});
afterAll(async () => {
  await pipeline.drop();
});

test('events are turned on, told to who asks, and shown', async () => {
  expect(asOwner(pipeline.settings.warehouse).role).toBe('warehouse');
  const on = await events('on', 'orders', '--type', 'order_{kind}');
  expect([on.code, on.stderr]).toEqual([0, '']);
  const subscribed = await events(
    ...[
      'subscribe',
      'shop',
      '--to',
      'https://shop.example/events',
      '--table',
      'orders',
      '--secret',
      'file:/etc/shop.secret',
    ],
  );
  expect([subscribed.code, subscribed.stdout]).toEqual([
    0,
    'shop is told of events after 0, once the relay runs: npx tidemark relay\n',
  ]);
  await apply(pipeline.warehouse, batch('b1', '10:01', [change(1, 'A', '09:01'), change(1, 'B', '09:03')]));
  const { stdout } = await events('tail', '--table', 'orders');
  const told = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { type: string; sequence: string });
  expect(told.map(({ type, sequence }) => `${type} ${String(Number(sequence))}`)).toEqual([
    'order_created 1',
    'order_updated 2',
  ]);
  expect((await events('tail', '--after', '1', '--limit', '1')).stdout).toBe(`${stdout.trim().split('\n')[1] ?? ''}\n`);
  expect((await events('list')).stdout).toMatch(/^orders +2\d{3}-.* +order_\{kind\} +2 +1 +2$/m);
  expect((await events('status')).stdout).toMatch(/^shop +active +https:\/\/shop\.example\/events +0 +2 +2 +\d+ s$/m);

  await events('pause', 'shop');
  expect(await json('status')).toMatchObject([{ state: 'paused', events_pending: '2' }]);
  await events('resume', 'shop');
  await pipeline.warehouse`select tidemark.note_delivery_fault('shop', 'answers 422', 1)`;
  expect((await events('status')).stdout).toContain(
    'shop is stopped by the event at 1: "npx tidemark events resume shop"',
  );
  const whole = async (...args: string[]) => (await runCli(['status', ...args], pipeline.env)).stdout;
  expect(await whole()).toMatch(
    /^Subscriptions to events\n[\s\S]*^shop +failing +https:\/\/shop\.example\/events +0 +2 +2 +\d+ s\nshop: answers 422$/m,
  );
  expect(JSON.parse(await whole('--json'))).toMatchObject({
    subscriptions: [{ subscription_name: 'shop', state: 'failing', events_pending: '2', last_error: 'answers 422' }],
  });
  expect((await events('skip', 'shop', '1', '--reason', 'nobody wants it')).code).toBe(0);
  await pipeline.warehouse`select tidemark.acknowledge_events('shop', 2)`;
  expect(await json('rewind', 'shop', '--to', '0')).toEqual({ subscription: 'shop', acknowledged: '0' });
  expect(
    await json('subscribe', 'whole', '--to', 'amqps://tidemark@rabbit.example/shop', '--from', 'snapshot'),
  ).toEqual({
    subscription: 'whole',
    from: 'snapshot',
    acknowledged: '2',
  });
  expect(await json('status')).toMatchObject([
    { subscription_name: 'shop' },
    { subscription_name: 'whole', events_pending: '1' },
  ]);
  expect((await events('unsubscribe', 'whole')).stdout).toBe('whole is told no more\n');
  expect((await runCli(['prune'], { ...pipeline.env, EVENT_RETENTION_DAYS: '1' })).stdout).toContain(', 0 events');
  expect((await events('off', 'orders')).code).toBe(0);
  expect((await events('list')).stdout).toMatch(/^orders +- +order_\{kind\} +2 +1 +2$/m);
});

test('wrong usage is told before anything is done', async () => {
  for (const [args, said] of [
    [['subscribe', 'x', '--to', 'ftp://shop.example'], 'events cannot be sent there'],
    [['subscribe', 'x', '--to', 'amqp://me:hidden@rabbit.example'], 'the URL has a password in it'],
    [['subscribe', 'x', '--to', 'https://shop.example', '--secret', 'hunter2'], '--secret says where a secret is'],
    [['subscribe', 'x', '--to', 'https://shop.example', '--table', 'nothing'], 'nothing'],
    [['rewind', 'x', '--to', 'soon'], 'accepted is a position, or an instant'],
    [['skip', 'x', 'first', '--reason', 'r'], 'accepted is a position'],
    [['schema'], 'give a table, or --batch'],
    [['shout'], 'there is no command events shout'],
  ] as const) {
    const { code, stderr } = await events(...args);
    expect([code, stderr]).toEqual([2, expect.stringContaining(said)]);
    expect(stderr).not.toContain('hidden');
    expect(stderr).not.toContain('hunter2');
  }
  expect(await json('status')).toHaveLength(1);
});

test('the schema of a batch file is that of what extract writes, and of what others may', async () => {
  const valid = new Ajv2020({ allErrors: true, allowUnionTypes: true }).compile(
    JSON.parse((await events('schema', '--batch')).stdout) as object,
  );
  await pipeline.source`insert into orders (customer_id, product_id, quantity, unit_price, total_amount, order_status, order_date, last_updated)
    values (1, 2, 3, 4, 12, 'pending', now(), now()), (1, 2, 1, 4, 4, 'pending', now(), now())`;
  await extractTables({ settings: pipeline.settings, tables: ['orders'] });
  const folder = path.join(pipeline.settings.cdc_log_dir, 'orders');
  const [written] = (await readdir(folder)).filter((name) => name.startsWith('changes_'));
  const documents = [
    await readFile(path.join(folder, written ?? ''), 'utf8'),
    readFileSync(path.join(PROJECT_ROOT, 'sample_data', 'cdc_changes.json'), 'utf8'),
    batch('b9', '10:01', [change(1, 'A', '09:01')]),
  ].map((text) => JSON.parse(text) as { batch_metadata: object; changes: object[] });
  for (const document of documents) expect([valid(document), valid.errors]).toEqual([true, null]);
  const [first] = documents;
  expect(valid({ ...first, changes: [{ operation_type: 'MERGE', cdc_timestamp: null }] })).toBe(false);
  expect(valid({ ...first, batch_metadata: { batch_id: 'b1' } })).toBe(false);
  await loadTables({ settings: pipeline.settings, tables: ['orders'] });
  const ofTable = JSON.parse((await events('schema', 'orders')).stdout) as { title: string };
  expect(ofTable.title).toBe('Events of orders');
});
