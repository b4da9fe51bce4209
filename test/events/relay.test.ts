import fc from 'fast-check';
import { createHmac } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { connect, type Database } from '../../runner/base/database.js';
import { outcomeOf } from '../../runner/base/errors.js';
import { Relay } from '../../runner/events/relay.js';
import { apply, batch, change, deletion } from '../support/batches.js';
import { runCli } from '../support/cli.js';
import { createPipeline, type TestPipeline } from '../support/databases.js';
import { registerDimension } from '../support/dimensions.js';
import { eventsAfter } from '../support/events.js';
import { startReceiver, type Received, type Receiver } from '../support/receiver.js';
import { until } from '../support/wait.js';

const SEED = Number(process.env.TEST_SEED ?? Date.now() % 1_000_000_000);
const RUNS = Number(process.env.PROPERTY_RUNS ?? 8);
process.stderr.write(`property of the relay: TEST_SEED=${String(SEED)} PROPERTY_RUNS=${String(RUNS)}\n`);

let pipeline: TestPipeline;
let receiver: Receiver;
let relay: Relay;
/** Sessions of loaders, one for each shard of things. */
let loaders: Database[];
const quiet = new AbortController().signal;
beforeAll(async () => {
  pipeline = await createPipeline({ EVENT_PRIVATE_ADDRESSES: 'allow' });
  receiver = await startReceiver();
  loaders = [1, 2].map(() => connect(pipeline.settings.warehouse, 'test'));
  await registerDimension(pipeline.warehouse, 'things', 'things', [
    { source: 'id', type: 'integer', role: 'business key' },
    { source: 'label', type: 'text', role: 'tracked' },
  ]);
  for (const table of ['orders', 'things']) await pipeline.warehouse`select tidemark.publish_events(${table})`;
});
afterAll(async () => {
  await receiver.close();
  await Promise.all(loaders.map((loader) => loader.end()));
  await pipeline.drop();
});
beforeEach(() => {
  relay = new Relay(pipeline.settings);
});
afterEach(async () => {
  delete process.env.TIDEMARK_FAILPOINT;
  await relay.close();
  for (const { subscription_name: name } of await status())
    await pipeline.warehouse`select tidemark.unsubscribe(${name})`;
  receiver.answer(204);
  receiver.requests.length = 0;
});

const status = () =>
  pipeline.warehouse<
    Record<'subscription_name' | 'state' | 'acknowledged' | 'last_position' | 'events_pending' | 'last_error', string>[]
  >`select * from tidemark.subscription_status()`;
const subscribe = (
  name: string,
  given: { readonly url?: string; readonly secret?: string; readonly tables?: readonly string[] } = {},
) => {
  const { url = receiver.url, secret = null, tables = null } = given;
  return pipeline.warehouse`
    select tidemark.subscribe(p_subscription_name => ${name}, p_transport => 'webhook', p_target => ${url},
      p_secret => ${secret}, p_dimensions => ${tables as string[]})`;
};
const statusOf = async (name: string) =>
  (await status()).find(({ subscription_name: each }) => each === name) ?? expect.fail(`no subscription ${name}`);
/** Tells of all there is; the results, and what failed. */
const tell = async (by = relay) => {
  try {
    return { told: await by.round(quiet), failed: [] };
  } catch (error) {
    const { result, failures } = outcomeOf(error) ?? expect.fail(String(error));
    return { told: result, failed: failures.map(({ error: each }) => (each as Error).message) };
  }
};

let batches = 0;
/** So many minutes after the first batch. */
const minute = (n: number) => new Date(Date.UTC(2026, 1, 1) + n * 60_000).toISOString().slice(0, 19);
/** Loads a batch with a change of each of these orders, a deletion where the number is negative. */
const load = (...ids: number[]) => loadAt((batches += 1), ids);
/** Loads changes of things, the shards of them at once: each has its keys. */
const loadShards = async (ids: readonly number[]) => {
  const when = batches;
  const loadShard = async (loader: Database, n: number) => {
    const at = minute(when);
    const lines = ids
      .filter((id) => Math.abs(id) % 2 === n)
      .map((id, place) => {
        const operation_type = id < 0 ? 'DELETE' : 'UPDATE';
        const row = { id: Math.abs(id), operation_type, cdc_timestamp: null };
        return id < 0 ? row : { ...row, label: `${String(when)} ${String(place)}` };
      });
    const shard = `${String(n + 1)}-of-2`;
    await apply(
      loader,
      batch(`changes_${String(when).padStart(8, '0')}_${String(n)}`, at, lines, { table: 'things', shard }),
    );
  };
  await Promise.all(loaders.map(loadShard));
};
/** One that was captured before the last three. */
const loadLate = (id: number) => loadAt((batches += 1) - 3.5, [id]);
const loadAt = async (when: number, ids: readonly number[]) => {
  const at = minute(when);
  const lines = ids.map((id, n) => (id < 0 ? deletion(-id, at) : change(id, `${String(batches)} ${String(n)}`, at)));
  await apply(pipeline.warehouse, batch(`changes_${String(batches).padStart(8, '0')}`, at, lines));
};
const retractNewest = () => pipeline.warehouse`
  select tidemark.retract_batch('orders', max(b.batch_id), p_reason => 'a test')
  from tidemark.batches as b where b.dimension_name = 'orders' and b.retracted_at is null`;

interface CloudEvent {
  readonly id: string;
  readonly type: string;
  readonly partitionkey: string;
  readonly sequence: string;
}
const eventsIn = ({ body }: Received) => JSON.parse(body) as CloudEvent[];
const received = () => receiver.requests.flatMap(eventsIn);
const names = () => receiver.requests.map(({ headers }) => String(headers['webhook-id']));

describe('a subscription', () => {
  test('is told of each event in its order, once, under a secret that is read where it is said to be', async () => {
    const file = path.join(pipeline.settings.cdc_log_dir, '..', 'secret');
    await writeFile(file, 'whsec_c2VjcmV0\n', { mode: 0o600 });
    await subscribe('shop', { secret: `file:${file}` });
    for (const id of [1, 1, 2, -1]) await load(id);
    expect(await tell()).toEqual({ told: [{ subscription: 'shop', events: 4 }], failed: [] });
    expect(received().map(({ type }) => type)).toEqual([
      'tidemark.orders.created',
      'tidemark.orders.updated',
      'tidemark.orders.created',
      'tidemark.orders.deleted',
    ]);
    expect(receiver.requests[0]?.headers['webhook-signature']).toMatch(/^v1,/);
    expect(await tell()).toEqual({ told: [], failed: [] });
    const { acknowledged, last_position, events_pending } = await statusOf('shop');
    expect({ acknowledged, events_pending }).toEqual({ acknowledged: last_position, events_pending: '0' });
  });

  test('that wants nothing of what happened is not asked to take it, and has nothing to wait for', async () => {
    await subscribe('others', { tables: ['things'] });
    await load(1);
    expect(await tell()).toEqual({ told: [], failed: [] });
    expect(receiver.requests).toEqual([]);
    const { acknowledged, last_position } = await statusOf('others');
    expect(acknowledged).toBe(last_position);
  });

  test('that cannot be told holds up no other, is tried again after a pause, and says why meanwhile', async () => {
    const away = await startReceiver();
    away.answer((_, response) => response.writeHead(503, { 'retry-after': '3000' }).end());
    await subscribe('away', { url: away.url });
    await subscribe('shop');
    await load(1, 2);
    expect(await tell()).toEqual({
      told: [{ subscription: 'shop', events: 2 }],
      failed: ['subscription away could not be told: the receiver answers 503'],
    });
    const { state, last_error } = await statusOf('away');
    expect([state, last_error]).toEqual([
      'active',
      expect.stringContaining('the receiver answers 503; where: receiver'),
    ]);
    away.answer(204);
    await load(1);
    expect(await tell()).toEqual({ told: [{ subscription: 'shop', events: 1 }], failed: [] });
    expect(away.requests).toHaveLength(1);
    // One that was begun anew knows of no pause.
    const next = new Relay(pipeline.settings);
    await relay.close();
    expect(await tell(next)).toEqual({ told: [{ subscription: 'away', events: 3 }], failed: [] });
    await next.close();
    await away.close();
  });

  test('is stopped by an event that it refuses, with an alert, until it is resumed or the event skipped', async () => {
    await subscribe('shop');
    await load(1, 2, 3);
    const { last_position: first } = await statusOf('shop');
    const refused = String(Number(first) + 2);
    receiver.answer((request, response) =>
      response
        .writeHead(eventsIn(request).some(({ sequence }) => Number(sequence) === Number(refused)) ? 422 : 204)
        .end(),
    );
    expect(await tell()).toEqual({
      told: [{ subscription: 'shop', events: 1 }],
      failed: ['subscription shop is stopped: the receiver answers 422 to this one event'],
    });
    const failing = { state: 'failing', failed_position: refused, acknowledged: String(Number(refused) - 1) };
    expect(await statusOf('shop')).toMatchObject(failing);
    const alerts = await pipeline.warehouse`select * from tidemark.alerts where rule_name = 'Events Failing'`;
    expect(alerts).toHaveLength(1);
    expect(await tell()).toEqual({ told: [], failed: [] });
    await pipeline.warehouse`select tidemark.pause_subscription('shop', false)`;
    expect((await tell()).failed).toHaveLength(1);
    expect(await statusOf('shop')).toMatchObject(failing);
    await pipeline.warehouse`select tidemark.skip_event('shop', ${refused}, 'nobody needs it')`;
    expect(await tell()).toEqual({ told: [{ subscription: 'shop', events: 1 }], failed: [] });
    expect(await statusOf('shop')).toMatchObject({ state: 'active', events_pending: '0', last_error: null });
  });

  test('that is paused while it is told, or ended, is told nothing after the batch in hand', async () => {
    for (const statement of ["pause_subscription('shop', true)", "unsubscribe('shop')"]) {
      await subscribe('shop');
      await load(...Array.from({ length: 150 }, (_, n) => n + 1));
      receiver.answer((_, response) => {
        receiver.answer(204);
        void pipeline.warehouse.unsafe(`select tidemark.${statement}`).then(() => response.writeHead(204).end());
      });
      expect((await tell()).told).toEqual([{ subscription: 'shop', events: 100 }]);
      const [left] = await status();
      if (left === undefined) continue;
      expect(left).toMatchObject({ state: 'paused', events_pending: '50' });
      await pipeline.warehouse`select tidemark.unsubscribe('shop')`;
    }
  });

  test('is told under the secret that is in its file once a receiver has refused the one before', async () => {
    const file = path.join(pipeline.settings.cdc_log_dir, '..', 'turned');
    await writeFile(file, 'whsec_c2VjcmV0\n', { mode: 0o600 });
    await subscribe('shop', { secret: `file:${file}` });
    await load(1);
    receiver.answer((_, response) => response.writeHead(503, { 'retry-after': '0' }).end());
    await tell();
    const [signed] = receiver.requests;
    await writeFile(file, 'bm90aGluZw==\n', { mode: 0o600 });
    receiver.answer(204);
    await until(async () => {
      await tell();
      return receiver.requests.length === 2;
    });
    const { headers, body } = receiver.requests.at(-1) ?? expect.fail('nothing came');
    const [name, time] = [String(headers['webhook-id']), String(headers['webhook-timestamp'])];
    const hmac = createHmac('sha256', 'nothing').update(`${name}.${time}.${body}`).digest('base64');
    expect(headers['webhook-signature']).toBe(`v1,${hmac}`);
    expect([name, body]).toEqual([signed?.headers['webhook-id'], signed?.body]);
  });

  test('that is rewound while it is told is told again from there', async () => {
    await subscribe('shop');
    const { acknowledged } = await statusOf('shop');
    await load(1, 2);
    receiver.answer((_, response) => {
      receiver.answer(204);
      void pipeline.warehouse`select tidemark.rewind_subscription('shop', ${acknowledged}::bigint)`.then(() =>
        response.writeHead(204).end(),
      );
    });
    await tell();
    await tell();
    expect(await statusOf('shop')).toMatchObject({ events_pending: '0' });
    expect(received().map(({ sequence }) => Number(sequence) - Number(acknowledged))).toEqual([1, 2, 1, 2]);
  });

  test.each([204, 410])(
    'that takes the place of another of its name, while that one is told and answers %i, is told all that is its own',
    async (status) => {
      const [former, own] = [await startReceiver(), receiver];
      await load(3);
      await pipeline.warehouse`select tidemark.number_events()`;
      await subscribe('shop', { url: former.url });
      const { acknowledged } = await statusOf('shop');
      await load(1, 2);
      former.answer((_, response) => {
        former.answer(204);
        // From where the other began, too.
        void pipeline.warehouse`select tidemark.unsubscribe('shop')`
          .then(() => subscribe('shop', { url: own.url }))
          .then(() => pipeline.warehouse`select tidemark.rewind_subscription('shop', ${acknowledged}::bigint)`)
          .then(() => response.writeHead(status).end());
      });
      await tell();
      expect(await statusOf('shop')).toMatchObject({ state: 'active', events_pending: '2', last_error: null });
      expect(await tell()).toEqual({ told: [{ subscription: 'shop', events: 2 }], failed: [] });
      expect(received()).toHaveLength(2);
      await former.close();
    },
  );

  test('whose events cannot be read says why, holds up no other, and goes on once they can', async () => {
    const name = 'public.dim_things_history';
    await subscribe('odd', { tables: ['things'] });
    await subscribe('both');
    await subscribe('shop', { tables: ['orders'] });
    await load(1);
    await loadShards([1, 2]);
    await pipeline.warehouse.unsafe(`alter table ${name} rename to elsewhere`);
    const { told, failed } = await tell();
    await pipeline.warehouse.unsafe(`alter table public.elsewhere rename to dim_things_history`);
    expect({ told, failed: [...failed].sort() }).toEqual({
      told: [{ subscription: 'shop', events: 1 }],
      failed: ['both', 'odd'].map(
        (each) => `subscription ${each} could not be told: relation "${name}" does not exist`,
      ),
    });
    for (const each of ['both', 'odd'])
      expect(await statusOf(each)).toMatchObject({
        state: 'active',
        last_error: expect.stringContaining('does not exist') as string,
      });
    const next = new Relay(pipeline.settings);
    await relay.close();
    const toldThen = ['both', 'odd'].map((subscription, n) => ({ subscription, events: 3 - n }));
    expect(await tell(next)).toEqual({ told: expect.arrayContaining(toldThen) as unknown, failed: [] });
    await next.close();
  });

  test('is told by a broker whose client is not installed which command installs it, and so is who asks', async () => {
    const url = 'amqp://guest@127.0.0.1:1';
    await pipeline.warehouse`
      select tidemark.subscribe(p_subscription_name => 'broker', p_transport => 'rabbitmq', p_target => ${url})`;
    await load(1);
    // As where there is no such package: Node says so.
    const hook = path.join(pipeline.folder, 'hook.mjs');
    await writeFile(hook, "import { register } from 'node:module'; register('./resolver.mjs', import.meta.url);");
    await writeFile(
      path.join(pipeline.folder, 'resolver.mjs'),
      "export const resolve = (name, context, next) => next(name === 'amqplib' ? 'no-amqplib' : name, context);",
    );
    const { code, stderr } = await runCli(['relay'], { ...pipeline.env, NODE_OPTIONS: `--import ${hook}` });
    expect([code, stderr]).toEqual([1, expect.stringMatching(/is not installed[\s\S]*next: +npm install amqplib/)]);
    expect((await statusOf('broker')).last_error).toBe(
      'the client of RabbitMQ is not installed; next:  npm install amqplib',
    );
  });

  test('shows nobody what its URL may hold that is secret, whatever fails', async () => {
    const { host } = new URL(receiver.url);
    await subscribe('shop', { url: `http://key-in-user@${host}/events?token=key-in-query` });
    await load(1);
    receiver.answer(503);
    const { failed } = await tell();
    receiver.answer((_, response) => response.destroy());
    const said = await runCli(['relay'], { ...pipeline.env, LOG_LEVEL: 'DEBUG' });
    expect(receiver.requests.at(-1)?.headers.authorization).toBe(
      `Basic ${Buffer.from('key-in-user:').toString('base64')}`,
    );
    expect(receiver.requests.at(-1)?.path).toBe('/events?token=key-in-query');
    const printed = [failed, said, await status()].map((each) => JSON.stringify(each));
    for (const args of [['events', 'status'], ['events', 'status', '--json'], ['status'], ['metrics']])
      printed.push(JSON.stringify(await runCli(args, pipeline.env)));
    for (const each of printed) expect(each).not.toMatch(/key-in-/);
    expect((await status())[0]).toMatchObject({ target: `http://***@${host}/events?***` });
  });
});

const cutRelay = () => pipeline.warehouse`
  select pg_terminate_backend(l.pid) from pg_locks as l join pg_stat_activity as a on a.pid = l.pid
  where a.application_name = 'tidemark relay' and l.locktype = 'advisory' and l.granted`;

test('a relay whose session is cut while there is nothing to tell goes on by another session', async () => {
  await subscribe('shop');
  await tell();
  await cutRelay();
  await load(1);
  await until(async () => {
    await tell();
    return received().length === 1;
  });
  expect(await statusOf('shop')).toMatchObject({ events_pending: '0' });
});

test('of two relays one stands by until the session of the other is cut', async () => {
  const [second, once] = [new Relay(pipeline.settings, 0.01), new Relay(pipeline.settings)];
  await subscribe('shop');
  await tell();
  await load(1);
  expect(await second.round(quiet)).toEqual([]);
  await expect(once.round(quiet)).rejects.toThrow('another relay tells the subscriptions of events');
  expect(receiver.requests).toEqual([]);
  await cutRelay();
  await until(async () => {
    await second.round(quiet);
    return received().length === 1;
  });
  for (const each of [second, once]) await each.close();
});

describe('wherever the relay is killed between sending and noting', () => {
  test.each(['publish', 'published'])(
    '%s: the batch comes again, the same under the same name, and the rest after it',
    async (place) => {
      await subscribe('shop');
      await load(...Array.from({ length: 12 }, (_, n) => n + 1));
      const died = runCli(['relay'], { ...pipeline.env, NODE_ENV: 'test', TIDEMARK_FAILPOINT: `${place}:1:kill` });
      expect((await died).code).toBeNull();
      const before = names();
      expect(before).toHaveLength(place === 'publish' ? 0 : 1);
      await load(1);
      await tell();
      expect(receiver.requests.map((request) => eventsIn(request).length)).toEqual([...before.map(() => 12), 12, 1]);
      expect(new Set(names()).size).toBe(2);
      expect(await statusOf('shop')).toMatchObject({ events_pending: '0' });
    },
  );

  /** How a receiver may answer: taking it, failing, gone in the middle, refusing what comes together. */
  const ANSWERS = {
    takes: 204,
    fails: 500,
    is_cut: (_: Received, response: ServerResponse) => response.destroy(),
    takes_and_is_cut: (_: Received, response: ServerResponse) => response.destroy(),
    takes_singles: (request: Received, response: ServerResponse) =>
      response.writeHead(eventsIn(request).length > 1 ? 413 : 200).end(),
  };
  const step = fc.record({
    keys: fc.array(
      fc.integer({ min: -3, max: 3 }).filter((key) => key !== 0),
      { maxLength: 6 },
    ),
    things: fc.array(fc.constantFrom(-2, -1, 1, 2, 3, 4), { maxLength: 4 }),
    isLate: fc.boolean(),
    retracts: fc.boolean(),
    answer: fc.constantFrom(...(Object.keys(ANSWERS) as (keyof typeof ANSWERS)[])),
    failpoint: fc.constantFrom('', '', 'publish:1:EPIPE', 'published:1:EPIPE', 'published:2:EPIPE'),
  });

  /** By a relay that knows nothing of those before it. */
  const tellOnce = async () => {
    const own = new Relay(pipeline.settings);
    await tell(own);
    delete process.env.TIDEMARK_FAILPOINT;
    await own.close();
  };

  /** What came is what there is to read after a position. */
  const assertAllTold = async (from: string) => {
    const [first, named] = [new Map<string, CloudEvent>(), new Map<string, string>()];
    for (const request of receiver.requests) {
      const events = eventsIn(request);
      for (const event of events) if (!first.has(event.id)) first.set(event.id, event);
      const [name, ids] = [String(request.headers['webhook-id']), events.map(({ id }) => id).join(' ')];
      expect(named.get(name) ?? ids).toBe(ids);
      named.set(name, ids);
    }
    const seen = (events: readonly CloudEvent[]) =>
      [...new Set(events.map(({ partitionkey: key }) => key))]
        .sort()
        .map((key) =>
          events
            .filter(({ partitionkey: each }) => each === key)
            .map(({ id, type, sequence }) => `${key} ${id} ${type} ${sequence}`),
        );
    const all = (await eventsAfter(pipeline.warehouse, from)).map(({ event }) => JSON.parse(event) as CloudEvent);
    expect(seen([...first.values()])).toEqual(seen(all));
  };

  test('property: every event comes, of each key in their order, under one name, however often, from shards too', async () => {
    let [events, requests] = [0, 0];
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 2, maxLength: 6 }), async (steps) => {
        await subscribe('shop');
        const { acknowledged: from } = await statusOf('shop');
        for (const { keys, things, isLate, retracts, answer, failpoint } of steps) {
          await load(...keys);
          // Some is committed while it is told already.
          const loading = loadShards(things);
          if (isLate) await loadLate(keys[0] ?? 1);
          if (retracts) await retractNewest();
          receiver.answer(ANSWERS[answer]);
          process.env.TIDEMARK_FAILPOINT = failpoint;
          await tellOnce();
          await loading;
        }
        receiver.answer(204);
        await tellOnce();
        expect(await statusOf('shop')).toMatchObject({ events_pending: '0', last_error: null });
        await assertAllTold(from);
        events += received().length;
        requests += receiver.requests.length;
        receiver.requests.length = 0;
        await pipeline.warehouse`select tidemark.unsubscribe('shop')`;
      }),
      { seed: SEED, numRuns: RUNS, endOnFailure: process.env.TEST_SHRINK === undefined },
    );
    process.stderr.write(`property of the relay: ${String(events)} events in ${String(requests)} requests\n`);
    expect(events).toBeGreaterThan(RUNS);
  });
});
