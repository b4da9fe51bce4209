import { afterEach, describe, expect, test } from 'vitest';
import { readTraffic, type SimulateArguments } from '../../runner/commands/simulate.js';
import { connect, type Database } from '../../runner/base/database.js';
import { UsageError } from '../../runner/base/errors.js';
import { simulate, type SimulateResult } from '../../runner/demo/simulate.js';
import { startCli } from '../support/cli.js';
import { createEmptyDatabase, createPipeline, createSourceDatabase } from '../support/databases.js';
import { until } from '../support/wait.js';

type TestDatabase = Awaited<ReturnType<typeof createSourceDatabase>>;

const databases: Pick<TestDatabase, 'drop'>[] = [];

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
): Promise<SimulateResult> {
  return simulate(sql, { ...readTraffic(options), signal });
}

/** Where an order may go from each status. */
const LIFE_CYCLE = {
  pending: ['confirmed', 'cancelled'],
  confirmed: ['shipped', 'cancelled'],
  shipped: ['delivered'],
  delivered: ['refunded'],
  refunded: [],
  cancelled: [],
} as const;
type OrderStatus = keyof typeof LIFE_CYCLE;

/** Price of a piece by product. */
const PRICES: Readonly<Record<number, string>> = {
  201: '29.99',
  202: '49.99',
  203: '19.99',
  204: '5.49',
  205: '12.00',
  206: '249.00',
  207: '0.99',
  208: '89.95',
  209: '34.50',
  210: '1299.00',
};

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
  for (const status of seen) for (const next of LIFE_CYCLE[status]) seen.add(next);
  return seen;
}

/** From here on, every change of an order is noted in public.moves. */
const noteMoves = (sql: Database) =>
  sql.unsafe(`
    create table public.moves (old_status text, new_status text, is_edited boolean);
    create function public.note_move() returns trigger language plpgsql as $$
    begin
      insert into public.moves values (old.order_status, new.order_status, new.quantity <> old.quantity);
      return new;
    end $$;
    create trigger note_move after update on public.orders for each row execute function public.note_move();`);

/** Neither a step along the life cycle with the same quantity, nor another quantity of an order that is pending. */
async function illegalMoves(sql: Database) {
  const moves = await sql<{ old_status: OrderStatus; new_status: OrderStatus; is_edited: boolean }[]>`
    select distinct old_status, new_status, is_edited from public.moves`;
  return moves.filter(({ old_status, new_status, is_edited }) =>
    is_edited
      ? old_status !== 'pending' || new_status !== 'pending'
      : !(LIFE_CYCLE[old_status] as readonly OrderStatus[]).includes(new_status),
  );
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
    const pipeline = await createPipeline({ MUTATION_INTERVAL_SECONDS: '1' });
    databases.push(pipeline);
    const running = startCli(['simulate', '--watch', '--json'], pipeline.env);
    await until(
      async () =>
        (
          await pipeline.source`select extract(epoch from max(last_updated) - min(created_at)) > 0.9 as is_second_round from public.orders`
        )[0]?.is_second_round === true,
    );
    running.kill('SIGTERM');
    const { code, stdout } = await running.ended;
    const rounds = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as SimulateResult);
    expect(code).toBe(0);
    expect(rounds.length).toBeGreaterThan(1);
    for (const round of rounds.slice(0, -1)) expect(count(round)).toBe(10);
    expect(await orders(pipeline.source)).toHaveLength(rounds.reduce((sum, { inserted }) => sum + inserted, 0));
  });

  test('that watches at a rate goes on steadily until the signal', async () => {
    const { sql } = await demo();
    const controller = new AbortController();
    const running = run(sql, { watch: true, rate: 40 }, controller.signal);
    await until(async () => (await orders(sql)).length > 15);
    controller.abort();
    const result = await running;
    expect(count(result)).toBeGreaterThan(15);
    expect(count(result)).toBeLessThanOrEqual(40 * (result.seconds + 1));
    expect(await orders(sql)).toHaveLength(result.inserted);
  });

  test('beside another one neither waits for ever nor breaks the life cycle', async () => {
    const { sql, settings } = await demo();
    await noteMoves(sql);
    const pool = connect(settings, 'test', 2);
    const results = await Promise.all([run(sql, { changes: 300 }), run(pool, { changes: 300 })]);
    await pool.end();
    expect(results.map(count)).toEqual([300, 300]);
    expect(await illegalMoves(sql)).toEqual([]);
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
    await noteMoves(sql);
    await run(sql, { seed: 5, changes: 600 });
    expect(await illegalMoves(sql)).toEqual([]);
    expect(await sql`select distinct old_status, new_status, is_edited from public.moves`).toHaveLength(7);
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

  test('of one transaction are stamped all with its beginning, or each with its own time', async () => {
    const { sql } = await demo();
    await sql`create table public.stamps (transaction text, stamped timestamp, began timestamp)`;
    await sql.unsafe(`
      create function public.note_stamp() returns trigger language plpgsql as $$
      begin
        insert into public.stamps values (pg_current_xact_id()::text, new.last_updated, now());
        return new;
      end $$;
      create trigger note_stamp after insert or update on public.orders for each row execute function public.note_stamp();`);
    await run(sql, { seed: 6, changes: 300 });
    const transactions = await sql<{ at_beginning: number; changes: number }[]>`
      select count(*) filter (where stamped = began)::integer as at_beginning, count(*)::integer as changes
      from public.stamps group by transaction having count(*) > 1`;
    const kinds = transactions.map(({ at_beginning, changes }) =>
      at_beginning === changes ? 'beginning' : at_beginning === 0 ? 'own' : 'mixed',
    );
    expect(new Set(kinds)).toEqual(new Set(['beginning', 'own']));
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

  test('that another transaction holds are left alone, and not waited for', async () => {
    const { sql, settings } = await demo();
    await run(sql, { seed: 1, changes: 100 });
    const before = await orders(sql);
    const holder = await sql.reserve();
    await holder`begin`;
    await holder`select from public.orders for update`;
    const impatient = connect(settings, 'test');
    await impatient`set lock_timeout = '1s'`;
    const result = await run(impatient, { seed: 2, changes: 50 });
    expect(result.updated).toBeGreaterThan(0);
    expect((await orders(impatient)).slice(0, before.length)).toEqual(before);
    await impatient.end();
    await holder`rollback`;
    holder.release();
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
    expect(() => readTraffic(options)).toThrow(UsageError);
  });

  test('name what is wrong and what is accepted', () => {
    expect(() => readTraffic({ rate: Number.NaN })).toThrow('--rate is not a number, accepted is one number above 0');
  });

  test('take seed 0, a broken rate and a broken duration', () => {
    expect(readTraffic({ seed: 0, rate: 0.5, duration: 1.5 })).toMatchObject({ seed: 0, rate: 0.5, duration: 1.5 });
  });
});
