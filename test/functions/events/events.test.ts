import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { connect, type Database, type Transaction } from '../../../runner/base/database.js';
import { inTransaction } from '../../../runner/base/transaction.js';
import { apply, at, batch, change, compile, deletion, empty } from '../../support/batches.js';
import { createWarehouseDatabase, type TestDatabase } from '../../support/databases.js';
import { cloudEventOf, eventsAfter, inWords } from '../../support/events.js';
import { restore, retract } from '../../support/retractions.js';
import { until } from '../../support/wait.js';

let warehouse: TestDatabase;
let sql: Database;
beforeAll(async () => {
  warehouse = await createWarehouseDatabase();
  sql = warehouse.sql;
  await publish();
});
afterEach(async () => {
  await sql`delete from tidemark.subscriptions`;
  await sql`truncate tidemark.events, tidemark.event_groups`;
  await sql`update tidemark.event_numbering set last_position = 0`;
  await empty(sql);
});
afterAll(async () => {
  await warehouse.drop();
});

const publish = (isOn = true, type: string | null = null) =>
  sql`select tidemark.publish_events(p_dimension_name => 'orders', p_is_on => ${isOn}, p_type => ${type})`;
const told = async (reader: Database = sql) => inWords(await eventsAfter(reader), 'order_status');
const number = async () => (await sql<[{ last: string }]>`select tidemark.number_events() as last`)[0].last;

/** Two lives of order 1, one of order 2. */
async function someHistory(): Promise<void> {
  await apply(sql, batch('b1', '10:01', [change(1, 'A', '09:01'), change(1, 'B', '09:03'), change(2, 'A', '09:01')]));
  await apply(sql, batch('b2', '10:02', [change(2, 'A', '09:04'), deletion(1, '09:05'), change(1, 'C', '09:06')]));
}

describe('events', () => {
  test('say what a batch did, with the state before and after, and nothing of what said nothing new', async () => {
    await someHistory();
    expect(await told()).toEqual([
      'created 1 09:01: - > A',
      'updated 1 09:03: A > B',
      'created 2 09:01: - > A',
      'deleted 1 09:05 end: B > -',
      'created 1 09:06: - > C',
    ]);
    const [, updated] = (await eventsAfter(sql)).map(cloudEventOf);
    expect(updated).toMatchObject({
      specversion: '1.0',
      type: 'tidemark.orders.updated',
      subject: '1',
      partitionkey: '{"order_key" : 1}',
      sequence: '0000000000000000002',
      time: '2026-02-01T09:03:00.000000Z',
      data: { key: { order_key: 1 }, changed: ['order_status'], lineage: { batch_id: 'b1', line: 2 } },
    });
    expect(updated?.id).toMatch(/^[^/]+\/orders\/2$/);
  });

  test('of late truth say what is corrected, and what was told before is superseded', async () => {
    await someHistory();
    await apply(
      sql,
      batch('late', '10:01:30', [change(2, 'X', '09:02'), change(1, 'B', '09:02'), deletion(1, '09:04')]),
    );
    expect(await told()).toEqual([
      'created 1 09:01: - > A',
      'updated 1 09:03: A > B',
      'created 2 09:01: - > A',
      'deleted 1 09:05 end: B > - (superseded)',
      'created 1 09:06: - > C',
      'retracted 1 09:05 end: - > -',
      'updated 2 09:02: A > X',
      'corrected 1 09:04 end: B > -',
      'updated 2 09:04: X > A',
    ]);
  });

  test('of a batch that is taken out and brought back say both', async () => {
    await someHistory();
    const before = await told();
    await retract(sql, 'orders', 'b2');
    await restore(sql, 'orders', 'b2');
    expect((await told()).slice(before.length)).toEqual([
      'retracted 1 09:06: - > -',
      'retracted 1 09:05 end: - > -',
      'corrected 1 09:05 end: B > -',
      'corrected 1 09:06: - > C',
    ]);
    expect((await told())[4]).toBe('created 1 09:06: - > - (superseded)');
  });

  test('are not written where they are off, and from before have no values once they were', async () => {
    await someHistory();
    await publish(false);
    await apply(sql, batch('b3', '10:03', [change(2, 'D', '09:09')]));
    expect((await told()).slice(0, 2)).toEqual([
      'created 1 09:01: - > - (superseded)',
      'updated 1 09:03: - > - (superseded)',
    ]);
    expect(await told()).toHaveLength(5);
    await publish();
    expect(
      await sql`select dimension_name, kept_events, oldest_position, newest_position, event_type
      from tidemark.event_tables() where events_since is not null`,
    ).toEqual([
      {
        dimension_name: 'orders',
        kept_events: '5',
        oldest_position: '1',
        newest_position: '5',
        event_type: 'tidemark.orders.{kind}',
      },
    ]);
    expect((await told())[0]).toBe('created 1 09:01: - > - (superseded)');
  });

  test('leave masked columns out, whose change they tell all the same', async () => {
    await sql`select tidemark.mask_column('orders', 'order_status')`;
    await someHistory();
    const [, updated] = (await eventsAfter(sql)).map(cloudEventOf);
    expect(updated?.data.changed).toEqual(['order_status']);
    expect(Object.keys(updated?.data.after ?? {})).toEqual(Object.keys(updated?.data.before ?? {}));
    expect(updated?.data.after).not.toHaveProperty('order_status');
    await sql`select tidemark.mask_column('orders', 'order_status', false)`;
  });

  test('have the type that is asked for, which must have a place for what happened', async () => {
    await expect(publish(true, 'order')).rejects.toMatchObject({ code: '22023' });
    await publish(true, 'order_{kind}');
    await someHistory();
    expect((await eventsAfter(sql)).map((event) => cloudEventOf(event).type).slice(0, 2)).toEqual([
      'order_created',
      'order_updated',
    ]);
    await publish(true, 'tidemark.orders.{kind}');
  });

  test('of a TRUNCATE say of each key that its life ended', async () => {
    const truncation = { operation_type: 'TRUNCATE', cdc_timestamp: at('09:08') };
    const all = [
      [change(1, 'A', '09:01'), change(2, 'A', '09:01')],
      [deletion(2, '09:02'), change(3, 'A', '09:02')],
      [truncation],
    ];
    for (const [index, changes] of all.entries()) {
      const sequence = index + 1;
      const previous = sequence === 1 ? null : `l${String(index)}`;
      const log = { slot: 's', unchanged: 0 };
      const metadata = {
        format: 2,
        sequence,
        columns: Object.keys(all[0]?.[0] ?? {}),
        previous_batch_id: previous,
        log,
      };
      const committed = changes.map((each) => ({ ...each, extracted_at: `${String(each.cdc_timestamp)}Z` }));
      await apply(sql, batch(`l${String(sequence)}`, ['09:01', '09:02', '09:08'][index] ?? '', committed, metadata));
    }
    expect(await told()).toEqual([
      'created 1 09:01: - > A',
      'created 2 09:01: - > A',
      'deleted 2 09:02 end: A > -',
      'created 3 09:02: - > A',
      'deleted 1 09:08 end: A > -',
      'deleted 3 09:08 end: A > -',
    ]);
  });

  test.each([
    ['are erased', false],
    ['stay as shells', true],
  ])('of a key that is forgotten lose it, and one tells those who have it: its versions %s', async (_, keepsShells) => {
    if (keepsShells) {
      const columns = [
        'customer_id',
        'product_id',
        'quantity',
        'unit_price',
        'total_amount',
        'order_status',
        'order_date',
      ];
      const dropped = columns.map((column) => `alter ${column} drop not null`).join(', ');
      await sql.unsafe(`alter table public.dim_orders_history ${dropped}`);
      await compile(sql);
    }
    await someHistory();
    await sql`select tidemark.subscribe('shop', 'webhook', 'https://shop.example/', 'now')`;
    const [{ id }] = await sql<[{ id: string }]>`
      select tidemark.begin_forgetting(
        p_dimension_name => 'orders', p_key => array['1'], p_reference => 'T-1', p_keep_shells => ${keepsShells}) as id`;
    await sql`select from tidemark.forget_keys(p_forgetting_ids => array[${id}::bigint], p_key => array['1'])`;
    expect(await sql`select from public.dim_orders_history`).toHaveLength(keepsShells ? 4 : 1);
    const events = await eventsAfter(sql);
    expect(inWords(events, 'order_status')).toEqual([
      'created ? 09:01: - > - (superseded)',
      'updated ? 09:03: - > - (superseded)',
      'created 2 09:01: - > A',
      'deleted ? 09:05 end: - > - (superseded)',
      'created ? 09:06: - > - (superseded)',
      expect.stringMatching(/^forgotten 1 /) as string,
    ]);
    expect(events.map((event) => event.partition_key).slice(0, 3)).toEqual([
      'forgotten',
      'forgotten',
      '{"order_key" : 2}',
    ]);
    await sql`select tidemark.acknowledge_events('shop', 6)`;
    expect((await told()).at(-1)).toMatch(/^forgotten \? /);
    expect(await sql`select from tidemark.events where business_key like '%: 1}'`).toEqual([]);
  });
});

describe('positions', () => {
  test('are given to what is committed: who reads on from one misses nothing that commits later', async () => {
    const [first, second] = [connect(warehouse.settings, 'test'), connect(warehouse.settings, 'test')];
    try {
      await sql`update tidemark.dimensions set change_order = 'capture'`;
      const drawn: string[] = [];
      await inTransaction(first, 'isolation level read committed', async (slow) => {
        await apply(slow, batch('slow', '10:01', [change(1, 'A', '09:01')], { shard: '1-of-2' }));
        await inTransaction(second, 'isolation level read committed', async (quick) => {
          await apply(quick, batch('quick', '10:01', [change(2, 'A', '09:01')], { shard: '2-of-2' }));
        });
        drawn.push(
          ...(await sql<{ id: string }[]>`select group_id as id from tidemark.event_groups`).map(({ id }) => id),
        );
        expect(await number()).toBe('1');
        expect(await told()).toEqual(['created 2 09:01: - > A']);
      });
      expect(await told()).toEqual(['created 2 09:01: - > A', 'created 1 09:01: - > A']);
      // The group that was read first had drawn the greater number: by that number the other would be lost.
      const [{ least }] = await sql<[{ least: string }]>`select min(group_id) as least from tidemark.event_groups`;
      expect(BigInt(least)).toBeLessThan(BigInt(drawn[0] ?? '0'));
    } finally {
      await Promise.all([first.end(), second.end()]);
    }
  });

  test('are given by one at a time, and one session at a time is the relay', async () => {
    await someHistory();
    const others = [1, 2, 3].map(() => connect(warehouse.settings, 'test'));
    try {
      expect(
        new Set(
          await Promise.all(
            others.map(async (other) => (await other<[{ n: string }]>`select tidemark.number_events() as n`)[0].n),
          ),
        ),
      ).toEqual(new Set(['5']));
      const asked = async (session: Database | undefined) =>
        (await (session ?? sql)<[{ is_relay: boolean }]>`select tidemark.try_relay() as is_relay`)[0].is_relay;
      expect([await asked(others[0]), await asked(others[1])]).toEqual([true, false]);
      await others[0]?.end();
      expect(await asked(others[1])).toBe(true);
    } finally {
      await Promise.all(others.map((other) => other.end()));
    }
  });
});

describe('a subscription', () => {
  const subscribe = (name: string, from: string, dimensions: string[] | null = null) =>
    sql`select tidemark.subscribe(p_subscription_name => ${name}, p_transport => 'webhook', p_target => 'https://shop.example/',
      p_from => ${from}, p_dimensions => ${dimensions}, p_secret => 'env:SECRET')`;
  const toBeTold = async (name: string, after: number | null = null) =>
    inWords(
      [
        ...(await sql`select * from tidemark.read_subscription(p_subscription_name => ${name}, p_after => ${after})`),
      ] as never,
      'order_status',
    );
  const status = async (name: string) =>
    (
      await sql`select state, acknowledged, events_pending, failed_position, last_error from tidemark.subscription_status() where subscription_name = ${name}`
    )[0];
  const acknowledge = async (name: string, position: number, from: number | null = null) =>
    (await sql<[{ is: boolean }]>`select tidemark.acknowledge_events(${name}, ${position}, ${from}) as is`)[0].is;

  test('begins now or with the oldest event, has an offset that only acknowledgement moves, and is due until it is paused', async () => {
    await someHistory();
    await subscribe('new', 'now');
    await subscribe('old', 'oldest', ['orders']);
    expect([await toBeTold('new'), (await toBeTold('old')).length]).toEqual([[], 5]);
    expect(await status('old')).toMatchObject({ state: 'active', acknowledged: '0', events_pending: '5' });
    expect(await acknowledge('old', 3)).toBe(true);
    expect(await acknowledge('old', 2)).toBe(false);
    expect(await toBeTold('old')).toEqual(['deleted 1 09:05 end: B > -', 'created 1 09:06: - > C']);
    const due = async () =>
      (await sql<{ name: string }[]>`select subscription_name as name from tidemark.due_subscriptions()`).map(
        ({ name }) => name,
      );
    await sql`select tidemark.pause_subscription('new', true, 'ann')`;
    expect(await due()).toEqual(['old']);
    await sql`select tidemark.pause_subscription('new', false)`;
    expect(await due()).toEqual(['new', 'old']);
    await sql`select tidemark.unsubscribe('old')`;
    expect(await due()).toEqual(['new']);
    await expect(sql`select tidemark.unsubscribe('old')`).rejects.toMatchObject({ code: 'TM032' });
    await expect(subscribe('new', 'now')).rejects.toMatchObject({ code: 'TM032' });
    await expect(subscribe('other', 'yesterday')).rejects.toMatchObject({ code: '22023' });
    await expect(subscribe('other', 'snapshot')).rejects.toMatchObject({ code: 'TM006' });
  });

  test('that begins with a snapshot is told what is in force, and then what comes after it, without a gap', async () => {
    await someHistory();
    const other = connect(warehouse.settings, 'test');
    try {
      await inTransaction(
        other,
        'isolation level repeatable read',
        async (snapshot) => {
          await snapshot`select from tidemark.dimensions`;
          // Committed after the snapshot was taken, and before it gave positions.
          await apply(sql, batch('b3', '10:03', [change(2, 'Z', '09:09')]));
          await snapshot`select tidemark.subscribe('whole', 'webhook', 'https://shop.example/', 'snapshot')`;
        },
        'tidemark.numbering',
      );
    } finally {
      await other.end();
    }
    await subscribe('all', 'oldest');
    await number();
    // The version of order 2 is told as it was; its update is told after it.
    expect(await toBeTold('whole')).toEqual([
      'created 2 09:01: - > A',
      'created 1 09:06: - > C',
      'updated 2 09:09: A > Z',
    ]);
    expect(await toBeTold('all')).toHaveLength(6);
  });

  test('is given the same batch until it is taken, by tidemark.next_events, and is past what it does not want', async () => {
    await someHistory();
    await subscribe('shop', 'oldest');
    await subscribe('customers', 'oldest', ['customers']);
    const since = async (name: string) =>
      (
        await sql<
          { since: string }[]
        >`select told_since as since from tidemark.subscriptions where subscription_name = ${name}`
      )[0]?.since ?? '';
    const next = async (name: string, position: number, from: number, limit: number, told = since(name)) =>
      (
        await sql<{ at: string }[]>`
          select event_position as at from tidemark.next_events(p_subscription_name => ${name}, p_position => ${position},
            p_from => ${from}, p_since => ${await told}, p_limit => ${limit})`
      ).map(({ at }) => Number(at));
    expect(await next('shop', 0, 0, 2)).toEqual([1, 2]);
    expect(await next('shop', 0, 0, 5)).toEqual([1, 2]);
    expect(await next('shop', 2, 0, 5)).toEqual([3, 4, 5]);
    expect(await next('shop', 2, 0, 5)).toEqual([]);
    expect(await next('shop', 4, 2, 5)).toEqual([5]);
    expect(await next('shop', 4, 4, 5, Promise.resolve('2020-01-01'))).toEqual([]);
    await sql`select tidemark.skip_event('shop', 5, 'nobody wants it')`;
    expect(await next('shop', 4, 4, 5)).toEqual([]);
    expect(await next('customers', 0, 0, 5)).toEqual([]);
    expect(await sql`select acknowledged from tidemark.subscriptions`).toEqual([
      { acknowledged: '5' },
      { acknowledged: '5' },
    ]);
  });

  test('stops at an event that it refuses, which is an alert, until it is resumed or the event skipped with a reason', async () => {
    await someHistory();
    await subscribe('shop', 'oldest');
    await sql`select tidemark.note_delivery_fault('shop', 'answers 503')`;
    expect(await status('shop')).toMatchObject({ state: 'active', last_error: 'answers 503' });
    await sql`select tidemark.note_delivery_fault('shop', 'answers 422', 2)`;
    expect(await status('shop')).toMatchObject({ state: 'failing', failed_position: '2' });
    expect(await sql`select rule_name, subject from tidemark.alerts where rule_name = 'Events Failing'`).toEqual([
      { rule_name: 'Events Failing', subject: 'shop: position 2: answers 422' },
    ]);
    expect(await sql`select metric, value from tidemark.metrics where metric = 'events_pending'`).toEqual([
      { metric: 'events_pending', value: 5 },
    ]);
    await expect(sql`select tidemark.skip_event('shop', 2, ' ')`).rejects.toMatchObject({ code: 'TM012' });
    await expect(sql`select tidemark.skip_event('shop', 99, 'gone')`).rejects.toMatchObject({ code: 'TM032' });
    await sql`select tidemark.skip_event('shop', 2, 'nobody wants it', 'ann')`;
    expect(await sql`select event_position, reason, skipped_by from tidemark.skipped_events`).toEqual([
      { event_position: '2', reason: 'nobody wants it', skipped_by: 'ann' },
    ]);
    expect(await status('shop')).toMatchObject({ state: 'active', events_pending: '4' });
    expect((await toBeTold('shop')).slice(0, 2)).toEqual(['created 1 09:01: - > A', 'created 2 09:01: - > A']);
  });

  test('is rewound to a position or an instant, not forward, and who acknowledges what was sent before moves nothing', async () => {
    await someHistory();
    await subscribe('shop', 'oldest');
    await acknowledge('shop', 5);
    const rewind = async (position: number | null, instant: string | null = null) =>
      (
        await sql<
          [{ to: string }]
        >`select tidemark.rewind_subscription('shop', ${position}, ${instant}::timestamptz) as to`
      )[0].to;
    expect(await rewind(3)).toBe('3');
    expect(await acknowledge('shop', 6, 5)).toBe(false);
    expect(await rewind(null, '2020-01-01')).toBe('0');
    await expect(rewind(4)).rejects.toMatchObject({ code: 'TM032' });
    expect(await acknowledge('shop', 5, 0)).toBe(true);
  });

  test('holds back what it has not had from being pruned', async () => {
    await someHistory();
    await subscribe('shop', 'oldest');
    await subscribe('customers', 'oldest', ['customers']);
    await sql`update tidemark.event_groups set noted_at = now() - interval '40 days'`;
    const prune = async () =>
      (await sql<[{ n: string }]>`select tidemark.prune_events(p_retention_days => 30) as n`)[0].n;
    expect(await prune()).toBe('0');
    await acknowledge('shop', 3);
    expect(await prune()).toBe('3');
    expect(await sql`select acknowledged from tidemark.subscriptions where subscription_name = 'customers'`).toEqual([
      { acknowledged: '5' },
    ]);
    expect(await toBeTold('shop')).toHaveLength(2);
    await apply(sql, batch('b3', '10:03', [change(2, 'D', '09:09')]));
    expect(await number()).toBe('6');
  });

  test.each(['rewind', 'prune'])(
    'is never rewound to events that go meanwhile, nor do those go that it is rewound to: %s comes first',
    async (first) => {
      await someHistory();
      await subscribe('shop', 'oldest');
      await acknowledge('shop', 5);
      await sql`update tidemark.event_groups set noted_at = now() - interval '40 days'`;
      const rewind = (by: Database | Transaction) => by`select tidemark.rewind_subscription('shop', 0)`;
      const prune = (by: Database | Transaction) => by`select tidemark.prune_events(30)`;
      const [early, late] = first === 'rewind' ? [rewind, prune] : [prune, rewind];
      const other = connect(warehouse.settings, 'test');
      try {
        let second: Promise<unknown> = Promise.resolve();
        await inTransaction(other, 'isolation level read committed', async (transaction) => {
          await early(transaction);
          second = late(sql).catch((error: unknown) => error);
          await until(async () => {
            const [{ waits }] = await transaction<[{ waits: boolean }]>`
              select exists (select from pg_locks as l where not l.granted) as waits`;
            return waits;
          });
        });
        if (first === 'prune') expect(await second).toMatchObject({ code: 'TM032' });
        else await second;
        expect(await toBeTold('shop')).toHaveLength(first === 'prune' ? 0 : 5);
      } finally {
        await other.end();
      }
    },
  );
});
