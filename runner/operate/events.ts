import { setTimeout as sleep } from 'node:timers/promises';
import { withDatabase } from '../base/database.js';
import { UsageError } from '../base/errors.js';
import type { Settings } from '../base/settings.js';
import { formatRows } from '../base/text-table.js';
import { inTransaction } from '../base/transaction.js';
import { transportOf } from '../events/open.js';
import { selectTables } from '../run/each-table.js';
import * as events from '../warehouse/events.js';
import { dimensionMappings, type Warehouse } from '../warehouse/functions.js';

/** Does one thing with the events of a warehouse. */
export const withEvents = <T>(settings: Settings, work: (warehouse: Warehouse) => Promise<T>): Promise<T> =>
  withDatabase(settings.warehouse, 'events', work);

interface Subscription {
  readonly name: string;
  readonly url: string;
  readonly from: 'now' | 'oldest' | 'snapshot';
  /** All by default. */
  readonly tables: readonly string[];
  readonly secret: string | undefined;
}

/**
 * Begins a subscription. A snapshot is numbered and read in one transaction that holds the lock of positions from before its snapshot on.
 * @returns the position after which it begins
 * @throws UsageError for a URL that nothing takes, or that has a password in it, which would stand in the warehouse
 */
export function subscribe(settings: Settings, { name, url, from, tables, secret }: Subscription): Promise<string> {
  const transport = transportOf(url);
  if (new URL(url).password !== '')
    throw new UsageError('the URL has a password in it, which would stand in the warehouse', {
      hint: 'leave it out and say where it is: --secret file:/path/of/a/file, or --secret env:NAME',
    });
  return withDatabase(settings.warehouse, 'events', async (warehouse) => {
    selectTables(await dimensionMappings(warehouse), tables);
    const level = from === 'snapshot' ? 'repeatable read' : 'read committed';
    return inTransaction(
      warehouse,
      `isolation level ${level}`,
      (transaction) =>
        events.subscribe(transaction, name, transport, url, from, tables.length > 0 ? tables : undefined, secret),
      from === 'snapshot' ? 'tidemark.numbering' : undefined,
    );
  });
}

/**
 * Gives positions to what has none, and hands over the events after one, page by page; then, where `intervalSeconds` is given, what comes.
 * @param say takes one event, JSON in one line
 */
export function tail(
  settings: Settings,
  { after, limit, tables, intervalSeconds }: Tail,
  signal: AbortSignal,
  say: (event: string) => void,
): Promise<void> {
  return withDatabase(settings.warehouse, 'events', async (warehouse) => {
    selectTables(await dimensionMappings(warehouse), tables);
    let left = limit;
    let last = after;
    while (left > 0 && !signal.aborted) {
      await events.numberEvents(warehouse);
      const page = await events.readEvents(
        warehouse,
        last,
        Math.min(left, PAGE),
        tables.length > 0 ? tables : undefined,
      );
      for (const { event } of page) say(event);
      last = page.at(-1)?.event_position ?? last;
      left -= page.length;
      if (page.length > 0) continue;
      if (intervalSeconds === undefined) return;
      await sleep(intervalSeconds * 1000, undefined, { signal }).catch(() => undefined);
    }
  });
}

interface Tail {
  readonly after: string;
  readonly limit: number;
  readonly tables: readonly string[];
  readonly intervalSeconds: number | undefined;
}

const PAGE = 500;

export function formatSubscriptions(all: readonly events.SubscriptionStatus[]): string {
  if (all.length === 0) return 'nobody is told of events: npx tidemark events subscribe <name> --to <url>';
  const shown = all.map((each) => ({
    subscription: each.subscription_name,
    state: each.state,
    to: each.target,
    offset: each.acknowledged,
    last: each.last_position,
    pending: each.events_pending,
    lag: `${String(Math.round(each.events_lag_seconds))} s`,
  }));
  const faults = all.flatMap(({ subscription_name: name, failed_position: position, last_error: error }) => [
    ...(error === null ? [] : [`${name}: ${error}`]),
    ...(position === null
      ? []
      : [
          `${name} is stopped by the event at ${position}: "npx tidemark events resume ${name}" tells it once more, ` +
            `"events skip ${name} ${position} --reason ..." never`,
        ]),
  ]);
  return [formatRows(shown), ...faults].join('\n');
}
