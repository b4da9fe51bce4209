import { randomInt } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
// The one locale, and its shared generator: the package's main entry loads every locale, which takes ten times as long.
import { faker } from '@faker-js/faker/locale/en';
import type { PendingQuery, Row } from 'postgres';
import type { Database, Transaction } from '../base/database.js';
import { inTransaction } from '../base/transaction.js';
import { startProgress } from '../run/progress.js';
import { requireDemoSource } from '../source/server.js';
import { changeShop, drawFrom, type ShopCounts } from './shop.js';

export interface Traffic {
  /** Repeats a run: the same seed on the same data makes the same orders. Drawn and reported where undefined. */
  readonly seed: number | undefined;
  /** Changes a second on average; undefined: as fast as the database takes them. */
  readonly rate: number | undefined;
  /** Stop after this many seconds. */
  readonly duration: number | undefined;
  /** Stop after this many changes. */
  readonly changes: number | undefined;
  /** Go on until the signal: a round every `roundSeconds`, or steadily where there is a rate. */
  readonly watch: boolean;
  readonly roundSeconds: number;
  /** Ends the run once the transaction in hand is committed. */
  readonly signal: AbortSignal;
}

export interface SimulateResult extends ShopCounts {
  /** Orders; customers and products change besides. */
  readonly inserted: number;
  readonly updated: number;
  readonly transactions: number;
  readonly seconds: number;
  readonly seed: number;
}

export type OrderStatus = 'pending' | 'confirmed' | 'shipped' | 'delivered' | 'refunded' | 'cancelled';

/** Where an order may go from each status, and how often of all times it moves on from there. */
export const LIFE_CYCLE: Readonly<
  Record<OrderStatus, readonly { readonly value: OrderStatus; readonly weight: number }[]>
> = {
  pending: [
    { value: 'confirmed', weight: 9 },
    { value: 'cancelled', weight: 1 },
  ],
  confirmed: [
    { value: 'shipped', weight: 9 },
    { value: 'cancelled', weight: 1 },
  ],
  shipped: [{ value: 'delivered', weight: 1 }],
  delivered: [{ value: 'refunded', weight: 1 }],
  refunded: [],
  cancelled: [],
};

/** Price of a piece by product: numeric text, so that no floating point ever touches an amount. */
export const PRICES: Readonly<Record<number, string>> = {
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

type ChangeKind = 'place' | 'edit' | 'move' | 'refund';
interface Order {
  readonly id: number;
  readonly order_status: OrderStatus;
  readonly quantity: number;
}
type Stamp = PendingQuery<Row[]>;
interface Counts {
  inserted: number;
  updated: number;
  transactions: number;
  customers: number;
  products: number;
}

const ROUND_CHANGES = 10;
/** In the order given: mostly small transactions, now and then one that touches many orders. */
const TRANSACTION_SIZES = [
  { value: 1, weight: 4 },
  { value: 2, weight: 3 },
  { value: 4, weight: 2 },
  { value: 50, weight: 1 },
];
const KINDS: readonly { value: ChangeKind; weight: number }[] = [
  { value: 'place', weight: 30 },
  { value: 'move', weight: 50 },
  { value: 'edit', weight: 15 },
  { value: 'refund', weight: 5 },
];
const CHANGES_FROM: Readonly<Record<Exclude<ChangeKind, 'place'>, readonly OrderStatus[]>> = {
  edit: ['pending'],
  move: ['pending', 'confirmed', 'shipped'],
  refund: ['delivered'],
};

/**
 * Writes demo traffic: new orders, quantity edits and moves through the life cycle, several of them in one transaction,
 * and for every ten of these a change of a customer and one of a product.
 * With neither rate, duration, changes nor watch it is one round of ten changes. Orders are never deleted.
 * @returns what was committed, and the seed that repeats it
 * @throws TidemarkError when the database is not the demo source; nothing is written then
 */
export async function simulate(source: Database, traffic: Traffic): Promise<SimulateResult> {
  await requireDemoSource(source);
  const seed = faker.seed(traffic.seed ?? randomInt(2 ** 32));
  const draw = drawFrom(seed);
  const done: Counts = { inserted: 0, updated: 0, transactions: 0, customers: 0, products: 0 };
  const started = performance.now();
  const elapsed = () => (performance.now() - started) / 1000;
  const progress = startProgress('simulate', totalOf(traffic));
  try {
    while (!isOver(traffic, done, elapsed())) {
      const before = changesOf(done);
      const counts = await inTransaction(source, 'isolation level read committed', (transaction) =>
        changeOrders(transaction, transactionSize(traffic, before)),
      );
      done.inserted += counts.inserted;
      done.updated += counts.updated;
      done.transactions += 1;
      const elsewhere = await changeShop(source, draw, before, changesOf(done));
      done.customers += elsewhere.customers;
      done.products += elsewhere.products;
      progress.advance(changesOf(counts));
      await pause(traffic, done, elapsed);
    }
  } finally {
    progress.stop();
  }
  return { ...done, seconds: Number(elapsed().toFixed(3)), seed };
}

const changesOf = (counts: Pick<Counts, 'inserted' | 'updated'>) => counts.inserted + counts.updated;

const isOneRound = (traffic: Traffic) =>
  !traffic.watch && traffic.changes === undefined && traffic.duration === undefined;

const lastChange = (traffic: Traffic) => traffic.changes ?? (isOneRound(traffic) ? ROUND_CHANGES : Infinity);

function isOver(traffic: Traffic, done: Counts, seconds: number): boolean {
  return traffic.signal.aborted || changesOf(done) >= lastChange(traffic) || seconds >= (traffic.duration ?? Infinity);
}

/** Never more than are left to do, than the rate allows in a second, or than belong in the round. */
function transactionSize(traffic: Traffic, done: number): number {
  const inSecond = traffic.rate === undefined ? Infinity : Math.ceil(traffic.rate);
  const inRound = traffic.watch && traffic.rate === undefined ? ROUND_CHANGES - (done % ROUND_CHANGES) : Infinity;
  return Math.min(faker.helpers.weightedArrayElement(TRANSACTION_SIZES), lastChange(traffic) - done, inSecond, inRound);
}

/** Waits until the next transaction is due; a signal or the end of the duration cuts it short. */
async function pause(traffic: Traffic, done: Counts, elapsed: () => number): Promise<void> {
  const rounds = Math.floor(changesOf(done) / ROUND_CHANGES);
  const steady = traffic.rate === undefined ? 0 : changesOf(done) / traffic.rate;
  const due = traffic.watch && traffic.rate === undefined ? rounds * traffic.roundSeconds : steady;
  while (elapsed() < due && !isOver(traffic, done, elapsed())) {
    const seconds = Math.min(due, traffic.duration ?? Infinity) - elapsed();
    // A minute at most: a longer timer than 24 days would fire at once.
    await sleep(Math.max(0, Math.min(seconds, 60)) * 1000, undefined, { signal: traffic.signal }).catch(
      () => undefined,
    );
  }
}

/** How many changes there will be, where that can be told beforehand. */
function totalOf(traffic: Traffic): number | undefined {
  const inTime =
    traffic.rate === undefined || traffic.duration === undefined
      ? Infinity
      : Math.ceil(traffic.rate * traffic.duration);
  const total = Math.min(lastChange(traffic), inTime);
  return Number.isFinite(total) ? total : undefined;
}

/** The changes of one transaction, all stamped the same way, as one application does it; often one order several times. */
async function changeOrders(transaction: Transaction, size: number): Promise<Pick<Counts, 'inserted' | 'updated'>> {
  const counts = { inserted: 0, updated: 0 };
  const stamp = faker.datatype.boolean() ? transaction`clock_timestamp()` : transaction`now()`;
  let order: Order | undefined;
  for (let change = 0; change < size; change += 1) {
    const kind = faker.helpers.weightedArrayElement(KINDS);
    const same = faker.datatype.boolean(0.4) ? order : undefined;
    const changed = kind === 'place' ? undefined : await changeOrder(transaction, stamp, kind, same);
    counts[changed === undefined ? 'inserted' : 'updated'] += 1;
    order = changed ?? (await placeOrder(transaction, stamp));
  }
  return counts;
}

async function placeOrder(transaction: Transaction, stamp: Stamp): Promise<Order | undefined> {
  const product = Number(faker.helpers.arrayElement(Object.keys(PRICES)));
  const [order] = await transaction<Order[]>`
    with placed as materialized (select ${stamp}::timestamp as at)
    insert into public.orders (customer_id, product_id, quantity, unit_price, total_amount, order_status, order_date, last_updated, created_at)
    select ${faker.number.int({ min: 101, max: 150 })}, ${product}, new.quantity, new.price, new.quantity * new.price, 'pending', at, at, at
    from placed, (values (${faker.number.int({ min: 1, max: 5 })}::integer, ${PRICES[product] ?? ''}::numeric)) as new (quantity, price)
    returning id, order_status, quantity`;
  return order;
}

/** Changes `same` where its status allows, else some recent order; undefined where none can be changed. */
async function changeOrder(
  transaction: Transaction,
  stamp: Stamp,
  kind: keyof typeof CHANGES_FROM,
  same: Order | undefined,
): Promise<Order | undefined> {
  const isFit = same !== undefined && CHANGES_FROM[kind].includes(same.order_status);
  const order = isFit ? same : await pickOrder(transaction, kind);
  if (order === undefined) return undefined;
  const { id, order_status } = order;
  // Another writer may have changed the row since, or hold it: it is left alone then, so nobody waits and nothing deadlocks.
  const unchanged = transaction`(select id from public.orders where id = ${id} and order_status = ${order_status} for update skip locked)`;
  const quantity = 1 + ((order.quantity - 1 + faker.number.int({ min: 1, max: 4 })) % 5);
  const columns =
    kind === 'edit'
      ? transaction`quantity = ${quantity}, total_amount = ${quantity} * unit_price`
      : transaction`order_status = ${faker.helpers.weightedArrayElement(LIFE_CYCLE[order_status])}`;
  const [changed] = await transaction<Order[]>`
    update public.orders set ${columns}, last_updated = ${stamp} where id = ${unchanged} returning id, order_status, quantity`;
  return changed;
}

/** Only recent orders change, as in a shop; so the pick costs the same however large the table is. */
async function pickOrder(transaction: Transaction, kind: keyof typeof CHANGES_FROM): Promise<Order | undefined> {
  const [order] = await transaction<Order[]>`
    with recent as (select id, order_status, quantity from public.orders order by id desc limit 200),
    fit as (select * from recent where order_status = any(${[...CHANGES_FROM[kind]]}))
    select * from fit order by id
    offset (select ${faker.number.int(1_000_000_000)}::integer % greatest(count(*), 1) from fit) limit 1`;
  return order;
}
