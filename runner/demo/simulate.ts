import { randomInt } from 'node:crypto';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Database, Transaction } from '../base/database.js';
import { PACKAGE_ROOT } from '../base/settings.js';
import { inTransaction } from '../base/transaction.js';
import { withProgress } from '../run/progress.js';
import { requireDemoSource } from '../source/server.js';

export interface Traffic {
  /** Repeats a run: the same seed on the same data makes the same orders. Drawn and reported where undefined. */
  readonly seed: number | undefined;
  /** Changes a second on average; undefined: as fast as the database takes them. */
  readonly rate: number | undefined;
  /** Stop after this many seconds. */
  readonly duration: number | undefined;
  /** Stop after this many changes. */
  readonly changes: number | undefined;
  /** With a rate: go on until the signal. */
  readonly watch: boolean;
  /** Ends the run once the transaction in hand is committed. */
  readonly signal: AbortSignal;
}

type OrderCounts = Readonly<{ inserted: number; updated: number }>;

export interface SimulateResult extends OrderCounts {
  /** Changes of customers and products, besides those of orders. */
  readonly customers: number;
  readonly products: number;
  readonly transactions: number;
  readonly seconds: number;
  readonly seed: number;
}

const ROUND_CHANGES = 10;
const MOST_IN_TRANSACTION = 100;

const file = (name: string) => path.join(PACKAGE_ROOT, 'sql', 'demo', name);
const changesOf = ({ inserted, updated }: OrderCounts) => inserted + updated;

/**
 * Writes demo traffic, which the statements of sql/demo make: new orders, quantity edits and moves through the life cycle, several of them in one
 * transaction, and for every ten of these a change of a customer and one of a product.
 * With neither rate and watch, duration nor changes it is one round of ten changes. Orders are never deleted.
 * @returns what was committed, and the seed that repeats it
 * @throws TidemarkError when the database is not the demo source; nothing is written then
 */
export async function simulate(source: Database, traffic: Traffic): Promise<SimulateResult> {
  await requireDemoSource(source);
  const seed = traffic.seed ?? randomInt(2 ** 32);
  const done = { inserted: 0, updated: 0, transactions: 0, customers: 0, products: 0 };
  const [last, end] = [lastChange(traffic), traffic.duration ?? Infinity];
  const started = performance.now();
  const elapsed = () => (performance.now() - started) / 1000;
  const isOver = () => traffic.signal.aborted || changesOf(done) >= last || elapsed() >= end;
  await withProgress('simulate', totalOf(traffic, last), async ({ advance }) => {
    while (!isOver()) {
      const before = changesOf(done);
      const most = Math.min(MOST_IN_TRANSACTION, Math.ceil(traffic.rate ?? Infinity), last - before);
      const counts = await inTransaction(source, 'isolation level read committed', (transaction) =>
        changeOrders(transaction, seed, done.transactions, most),
      );
      done.inserted += counts.inserted;
      done.updated += counts.updated;
      done.transactions += 1;
      const elsewhere = await changeShop(source, seed, before, changesOf(done));
      done.customers += elsewhere.customers;
      done.products += elsewhere.products;
      advance(changesOf(counts));
      const due = traffic.rate === undefined ? 0 : changesOf(done) / traffic.rate;
      while (elapsed() < due && !isOver()) await pause(Math.min(due, end) - elapsed(), traffic.signal);
    }
  });
  return { ...done, seconds: Number(elapsed().toFixed(3)), seed };
}

/** How many changes a run makes at most. */
function lastChange({ changes, duration, rate, watch }: Traffic): number {
  const isOneRound = duration === undefined && !(watch && rate !== undefined);
  return changes ?? (isOneRound ? ROUND_CHANGES : Infinity);
}

/** How many changes there will be, where that can be told beforehand. */
function totalOf({ rate = Infinity, duration = Infinity }: Traffic, last: number): number | undefined {
  const total = Math.min(last, Math.ceil(rate * duration));
  return Number.isFinite(total) ? total : undefined;
}

/** The statements of the transaction of that number in the run, of which each says whether another one follows. */
async function changeOrders(transaction: Transaction, seed: number, number: number, most: number) {
  const counts = { inserted: 0, updated: 0 };
  for (let [statement, goesOn] = [0, true]; goesOn; statement += 1) {
    const [made] = await transaction.file<(OrderCounts & { goes_on: boolean })[]>(file('change_orders.sql'), [
      seed,
      number,
      statement,
      most - changesOf(counts),
    ]);
    counts.inserted += made?.inserted ?? 0;
    counts.updated += made?.updated ?? 0;
    goesOn = made?.goes_on === true;
  }
  return counts;
}

/** One customer and one product for every round of changes of orders that was completed since `before`. */
async function changeShop(source: Database, seed: number, before: number, now: number) {
  const [first, last] = [Math.floor(before / ROUND_CHANGES) + 1, Math.floor(now / ROUND_CHANGES)];
  if (last < first) return { customers: 0, products: 0 };
  const customers = await source.file(file('change_customers.sql'), [seed, first, last]);
  const products = await source.file(file('change_products.sql'), [seed, first, last]);
  return { customers: customers.count, products: products.count };
}

/** Ended by the signal as well. A minute at most: a longer timer than 24 days would fire at once. */
async function pause(seconds: number, signal: AbortSignal): Promise<void> {
  await sleep(Math.max(0, Math.min(seconds, 60)) * 1000, undefined, { signal }).catch(() => undefined);
}
