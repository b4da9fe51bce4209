import { setTimeout as sleep } from 'node:timers/promises';
import { withDatabase } from '../base/database.js';
import { UsageError } from '../base/errors.js';
import type { Settings } from '../base/settings.js';
import { formatRows, linesOf } from '../base/text-table.js';
import { inTransaction } from '../base/transaction.js';
import { transportOf } from '../events/transport.js';
import { selectTables } from '../run/each-table.js';
import * as events from '../warehouse/events.js';
import { dimensionMappings, type Warehouse } from '../warehouse/functions.js';

/** Who is told: of which tables, all by default, and where the secret is by which they know who tells them. */
type Subscription = Readonly<Record<'name' | 'url' | 'from', string>> &
  Readonly<{ tables: readonly string[]; secret: string | undefined }>;

/**
 * Begins a subscription. A snapshot is numbered and read in one transaction that holds the lock of positions from before its snapshot on.
 * @returns the position after which it begins
 * @throws UsageError for a URL that nothing takes, or for a secret, which would stand in the warehouse
 */
export function subscribe(settings: Settings, { name, url, from, tables, secret }: Subscription): Promise<string> {
  if (secret !== undefined && !/^(file|env):./.test(secret))
    throw new UsageError('--secret says where a secret is, as file:/path or env:NAME', {
      hint: 'the secret itself does not stand in the warehouse',
    });
  const transport = transportOf(url);
  const { href, password } = new URL(url);
  if (password !== '')
    throw new UsageError('the URL has a password in it, which would stand in the warehouse', {
      hint: 'leave it out and say where it is: --secret file:/path/of/a/file, or --secret env:NAME',
    });
  const [level, lock] = from === 'snapshot' ? ['repeatable read', 'tidemark.numbering'] : ['read committed'];
  return withDatabase(settings.warehouse, 'events', async (warehouse) => {
    selectTables(await dimensionMappings(warehouse), tables);
    const wanted = tables.length > 0 ? tables : undefined;
    const work = (transaction: Warehouse) => events.subscribe(transaction, name, transport, href, from, wanted, secret);
    return inTransaction(warehouse, `isolation level ${level}`, work, lock);
  });
}

type Tail = Readonly<{ after: string; limit: number; tables: readonly string[]; isEndless: boolean }>;

const PAGE = 500;

/**
 * Gives positions to what has none, and hands over the events after one, page by page; then, where it is endless, what comes.
 * @param say takes one event, JSON in one line
 */
export function tail(
  settings: Settings,
  asked: Tail,
  signal: AbortSignal,
  say: (event: string) => void,
): Promise<void> {
  const { tables, isEndless } = asked;
  const pause = settings.cdc_extraction_interval_seconds * 1000;
  return withDatabase(settings.warehouse, 'events', async (warehouse) => {
    selectTables(await dimensionMappings(warehouse), tables);
    const wanted = tables.length > 0 ? tables : undefined;
    for (let { after, limit } = asked; limit > 0 && !signal.aborted; ) {
      await events.numberEvents(warehouse);
      const page = await events.readEvents(warehouse, after, Math.min(limit, PAGE), wanted);
      for (const { event } of page) say(event);
      after = page.at(-1)?.event_position ?? after;
      limit -= page.length;
      if (page.length === 0 && !isEndless) return;
      if (page.length === 0) await sleep(pause, undefined, { signal }).catch(() => undefined);
    }
  });
}

export function formatSubscriptions(all: readonly events.SubscriptionStatus[]): string {
  if (all.length === 0) return 'nobody is told of events: npx tidemark events subscribe <name> --to <url>';
  const shown = all.map(({ subscription_name: subscription, state, target: to, ...each }) => ({
    ...{ subscription, state, to, offset: each.acknowledged, last: each.last_position, pending: each.events_pending },
    lag: `${Math.round(each.events_lag_seconds)} s`,
  }));
  const faults = all.flatMap(({ subscription_name: name, failed_position: at, last_error: error }) => [
    error && `${name}: ${error}`,
    at &&
      `${name} is stopped by the event at ${at}: "npx tidemark events resume ${name}" tells it once more, "events skip ${name} ${at} --reason ..." never`,
  ]);
  return linesOf(formatRows(shown), ...faults);
}
