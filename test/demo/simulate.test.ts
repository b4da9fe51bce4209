// Runs once: no version of PostgreSQL changes it.
import { afterEach, describe, expect, test } from 'vitest';
import { readTraffic, type SimulateArguments } from '../../runner/commands/simulate.js';
import { connect, type Database } from '../../runner/base/database.js';
import { UsageError } from '../../runner/base/errors.js';
import { LIFE_CYCLE, PRICES, simulate, type OrderStatus, type SimulateResult } from '../../runner/demo/simulate.js';
import { createEmptyDatabase, createSourceDatabase } from '../support/databases.js';
import { until } from '../support/wait.js';

type TestDatabase = Awaited<ReturnType<typeof createSourceDatabase>>;

const databases: TestDatabase[] = [];

async function demo(): Promise<TestDatabase> {
  const database = await createSourceDatabase();
  databases.push(database);
  return database;
}

async function empty(): Promise<TestDatabase> {
  const database = await createEmptyDatabase();
  databases.push(database);
  return database;
}

afterEach(async () => {
  for (const database of databases.splice(0)) await database.drop();
});

function run(
  sql: Database,
  options: SimulateArguments,
  signal = new AbortController().signal,
  roundSeconds = 1,
): Promise<SimulateResult> {
  return simulate(sql, { ...readTraffic(options, roundSeconds), signal });
}

interface Order {
  id: number;
  customer_id: number;
  product_id: number;
  quantity: number;
  unit_price: string;
  total_amount: string;
  order_status: OrderStatus;
}

const orders = (sql: Database) => sql<Order[]>`
  select id, customer_id, product_id, quantity, unit_price, total_amount, order_status from public.orders order by id`;

const count = (result: SimulateResult) => result.inserted + result.updated;

/** Every status reachable from another in any number of legal moves, itself included. */
function reachable(from: OrderStatus): Set<OrderStatus> {
  const seen = new Set<OrderStatus>([from]);
  for (const status of seen) for (const next of LIFE_CYCLE[status]) seen.add(next.value);
  return seen;
}

describe('a run', () => {
  test('without options is one round of ten changes', async () => {
    const { sql } = await demo();
    const result = await run(sql, {});
    expect(count(result)).toBe(10);
    expect(await orders(sql)).toHaveLength(result.inserted);
  });

  test('with the same seed on the same data makes the same orders, in as many transactions', async () => {
    const [first, second, other] = [await demo(), await demo(), await demo()];
    const results = [
      await run(first.sql, { seed: 42, changes: 300 }),
      await run(second.sql, { seed: 42, changes: 300 }),
    ];
    await run(other.sql, { seed: 43, changes: 300 });
    expect({ ...results[1], seconds: 0 }).toEqual({ ...results[0], seconds: 0 });
    expect(await orders(second.sql)).toEqual(await orders(first.sql));
    expect(await orders(other.sql)).not.toEqual(await orders(first.sql));
  });

  test('without a seed reports the one that repeats it', async () => {
    const [first, second] = [await demo(), await demo()];
    const { seed } = await run(first.sql, { changes: 60 });
    await run(second.sql, { changes: 60, seed });
    expect(await orders(second.sql)).toEqual(await orders(first.sql));
  });

  test('makes a thousand changes, of every kind there is, in fewer transactions', async () => {
    const { sql } = await demo();
    const result = await run(sql, { seed: 1, changes: 1000 });
    expect(count(result)).toBe(1000);
    expect(result.transactions).toBeLessThan(600);
    expect(new Set((await orders(sql)).map((order) => order.order_status))).toEqual(new Set(Object.keys(LIFE_CYCLE)));
  });

  test('keeps to its rate and ends with its duration', async () => {
    const { sql } = await demo();
    const result = await run(sql, { rate: 20, duration: 1.5 });
    expect(result.seconds).toBeGreaterThanOrEqual(1.5);
    expect(count(result)).toBeGreaterThan(0);
    expect(count(result)).toBeLessThanOrEqual(50);
  });

  test('that watches does round after round until the signal, and ends between transactions', async () => {
    const { sql } = await demo();
    const controller = new AbortController();
    const running = run(sql, { watch: true }, controller.signal, 1);
    const spread = async () =>
      (
        await sql`select extract(epoch from max(last_updated) - min(created_at)) > 0.9 as is_second_round from public.orders`
      )[0]?.is_second_round === true;
    await until(spread);
    controller.abort();
    const result = await running;
    expect(count(result)).toBeGreaterThan(10);
    expect(await orders(sql)).toHaveLength(result.inserted);
  });

  test('beside another one neither waits for ever nor breaks the life cycle', async () => {
    const { sql, settings } = await demo();
    const pool = connect(settings, 'test', 2);
    const results = await Promise.all([run(sql, { changes: 300 }), run(pool, { changes: 300 })]);
    await pool.end();
    expect(results.map(count)).toEqual([300, 300]);
    expect(await orders(sql)).toHaveLength(results.reduce((sum, result) => sum + result.inserted, 0));
  });
});

describe('customers and products', () => {
  test('change in every round, so that three tables flow together; in a longer run as often as each other', async () => {
    const { sql } = await demo();
    expect(await run(sql, { seed: 1 })).toMatchObject({ customers: 1, products: 1 });
    for (const seed of [2, 3, 4]) {
      const result = await run(sql, { seed, changes: 30 });
      expect([count(result), result.customers, result.products]).toEqual([30, 3, 3]);
    }
  });

  test('change the same for the same seed, and leave the orders of a seed as they are', async () => {
    const [first, second] = [await demo(), await demo()];
    const shop = (sql: Database) => sql`
      select 'customer' as kind, id, full_name as name, city as detail from customers union all select 'product', id, title, stock::text from products order by 1, 2`;
    const result = await run(first.sql, { seed: 42, changes: 300 });
    expect(result.customers).toBeGreaterThan(0);
    expect(result.products).toBeGreaterThan(0);
    expect(count(result)).toBe(300);
    await run(second.sql, { seed: 42, changes: 300 });
    expect(await shop(second.sql)).toEqual(await shop(first.sql));
    expect((await shop(first.sql)).length).toBeGreaterThan(2);
  });
});

describe('the orders', () => {
  test('only move along the life cycle, and keep what does not change', async () => {
    const { sql } = await demo();
    let before = new Map<number, Order>();
    for (let round = 0; round < 40; round += 1) {
      await run(sql, { seed: round });
      const after = await orders(sql);
      for (const order of after) {
        const old = before.get(order.id);
        expect(reachable(old?.order_status ?? 'pending')).toContain(order.order_status);
        if (old === undefined) continue;
        expect([order.customer_id, order.product_id, order.unit_price]).toEqual([
          old.customer_id,
          old.product_id,
          old.unit_price,
        ]);
        if (old.order_status !== 'pending') expect(order.quantity).toBe(old.quantity);
      }
      expect(after.length).toBeGreaterThanOrEqual(before.size);
      before = new Map(after.map((order) => [order.id, order]));
    }
  });

  test('move one legal step at a time', async () => {
    const { sql } = await demo();
    await sql.unsafe(`
      create table public.moves (old_status text, new_status text);
      create function public.note_move() returns trigger language plpgsql as $$
      begin
        insert into public.moves values (old.order_status, new.order_status);
        return new;
      end $$;
      create trigger note_move after update of order_status on public.orders for each row execute function public.note_move();`);
    await run(sql, { seed: 5, changes: 600 });
    const moves = await sql<
      { old_status: OrderStatus; new_status: OrderStatus }[]
    >`select distinct old_status, new_status from public.moves`;
    expect(moves.length).toBeGreaterThan(4);
    for (const move of moves) expect(LIFE_CYCLE[move.old_status].map((next) => next.value)).toContain(move.new_status);
  });

  test('have exact totals, one price a product, one to five pieces and plausible stamps', async () => {
    const { sql } = await demo();
    await run(sql, { seed: 7, changes: 400 });
    const wrong = await sql`
      select id from public.orders
      where total_amount <> quantity * unit_price or quantity not between 1 and 5 or last_updated < created_at
        or order_date <> created_at or abs(extract(epoch from last_updated - (now() at time zone 'UTC'))) > 600`;
    expect(wrong).toHaveLength(0);
    for (const order of await orders(sql)) expect(order.unit_price).toBe(PRICES[order.product_id]);
  });

  test('change several times within one transaction', async () => {
    const { sql } = await demo();
    await run(sql, { seed: 7, changes: 200 });
    const [row] =
      await sql`select count(*)::integer as shared from (select from public.orders group by xmin::text having count(*) > 1) as shared`;
    expect(row?.shared).toBeGreaterThan(0);
    const [again] =
      await sql`select count(*)::integer as moved from public.orders where cmax::text::bigint > 0 and last_updated = created_at and order_status <> 'pending'`;
    expect(again?.moved).toBeGreaterThan(0);
  });

  test('go on from rows that were there before, and from none', async () => {
    const { sql } = await demo();
    await sql`
      insert into public.orders (customer_id, product_id, quantity, unit_price, total_amount, order_status, order_date, last_updated)
      values (101, 201, 2, 29.99, 59.98, 'pending', '2026-02-01 09:00', '2026-02-01 09:00')`;
    const result = await run(sql, { seed: 3, changes: 50 });
    expect(await orders(sql)).toHaveLength(result.inserted + 1);
  });
});

describe('a database that is not the demo', () => {
  const insert = `insert into public.orders values (1, 101, 201, 2, 29.99, 59.98, 'pending', now(), now(), now())`;
  const table = `create table public.orders (id serial primary key, customer_id integer, product_id integer, quantity integer, unit_price numeric,
    total_amount numeric, order_status text, order_date timestamp, last_updated timestamp, created_at timestamp)`;
  const ledger =
    'create table public.tidemark_demo_migrations (id serial primary key, name varchar(255) not null, run_on timestamp not null)';

  test.each([
    ['is empty', []],
    ['has an orders table of its own', [table, insert]],
    ['has an orders table of its own and the ledger of a demo that failed there', [table, insert, ledger]],
  ])('is refused when it %s, and nothing is written', async (_, statements) => {
    const { sql } = await empty();
    for (const statement of statements) await sql.unsafe(statement);
    const before = statements.length > 0 ? await sql`select * from public.orders` : [];
    await expect(run(sql, {})).rejects.toMatchObject({
      message: 'the source database is not the demo',
      hint: expect.stringContaining('npx tidemark demo') as string,
    });
    if (statements.length > 0) expect(await sql`select * from public.orders`).toEqual(before);
  });
});

describe('the options', () => {
  test.each<[string, SimulateArguments]>([
    ['a rate of 0', { rate: 0 }],
    ['a negative rate', { rate: -1 }],
    ['a rate that is not a number', { rate: Number.NaN }],
    ['an infinite rate', { rate: Infinity }],
    ['a duration of 0', { duration: 0 }],
    ['a broken number of changes', { changes: 1.5 }],
    ['no changes at all', { changes: 0 }],
    ['a negative seed', { seed: -1 }],
    ['an option given twice', { changes: [1, 2] as unknown as number }],
    ['--watch with --changes', { watch: true, changes: 10 }],
    ['--watch with --duration', { watch: true, duration: 10 }],
  ])('refuse %s', (_, options) => {
    expect(() => readTraffic(options, 5)).toThrow(UsageError);
  });

  test('name what is wrong and what is accepted', () => {
    expect(() => readTraffic({ rate: Number.NaN }, 5)).toThrow(
      '--rate is not a number, accepted is one number above 0',
    );
  });

  test('take seed 0, a broken rate and a broken duration', () => {
    expect(readTraffic({ seed: 0, rate: 0.5, duration: 1.5 }, 5)).toMatchObject({ seed: 0, rate: 0.5, duration: 1.5 });
  });
});
