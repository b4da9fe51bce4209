import path from 'node:path';
import { withDatabase, type Database } from '../base/database.js';
import { PACKAGE_ROOT, type Settings } from '../base/settings.js';
import { counted, formatRows } from '../base/text-table.js';
import { isLogged } from '../batch/mapping.js';
import { loadTables } from '../load/tables.js';
import { captureTable } from '../operate/capture.js';
import { slotOf } from '../stream/position.js';
import { dropSlot } from '../stream/setup.js';
import { streamTables } from '../stream/stream.js';
import { dimensionMappings } from '../warehouse/functions.js';
import { inTurn, runDemo, sayChecks, type Say } from './morning.js';

const run = <T extends object>(source: Database, name: string, parameters: string[] = []) =>
  source.file<T[]>(path.join(PACKAGE_ROOT, 'sql', 'demo', `${name}.sql`), parameters);

/**
 * Shows what the log has and polling has not: between two looks an order is changed three times, and another one is deleted. Orders are handed over
 * to the log for that, and go back to polling at the end, so that no slot stays that nobody reads; what is captured from the log already stays so.
 * Safe to repeat: each time two more orders arrive. The usual morning comes first, for it is stamped earlier.
 * @returns whether every check passed
 * @throws TidemarkError if the source holds tables that the demo did not make, or does not serve its log
 */
export async function runLogDemo(settings: Settings, signal: AbortSignal, say: Say): Promise<boolean> {
  await runDemo(settings, () => undefined);
  say('the morning of the usual demo is there: npx tidemark demo shows it');
  return inTurn(settings, async (source) => {
    const before = await logged(settings);
    const { slot } = slotOf(settings);
    try {
      if (!before.includes('orders')) say(`orders are read from the log now, through the replication slot ${slot}`);
      await captureTable(settings, 'orders', 'log', signal);
      return await showLog(source, settings, signal, say);
    } finally {
      if (!before.includes('orders')) await captureTable(settings, 'orders', 'poll');
      if (before.length === 0) await dropSlot(source, settings);
      if (!before.includes('orders'))
        say(
          `\norders are polled again${before.length === 0 ? `, and the slot ${slot} is dropped` : ''}; reconcile finds what is deleted`,
        );
    }
  });
}

/** The tables that are captured from the log. */
const logged = (settings: Settings): Promise<string[]> =>
  withDatabase(settings.warehouse, 'demo', async (warehouse) =>
    (await dimensionMappings(warehouse)).filter(isLogged).map(({ dimension_name: name }) => name),
  );

async function showLog(source: Database, settings: Settings, signal: AbortSignal, say: Say): Promise<boolean> {
  const look = async (): Promise<readonly string[]> => {
    const { changes } = await streamTables({ settings, signal, isEndless: false });
    const loaded = await loadTables({ settings, tables: ['orders'] });
    return [
      `       stream:  ${counted(changes, 'change')}`,
      ...loaded.map(
        ({ inserted_versions: opened, closed_versions: closed }) =>
          `       load:    ${counted(opened, 'version')} opened, ${closed} closed`,
      ),
    ];
  };
  // What was there before is no part of the story.
  await look();
  const [moved, deleted] = (await run<{ id: number }>(source, 'place_two_orders')).map(({ id }) => String(id));
  if (moved === undefined || deleted === undefined) throw new Error('no order was placed');
  say(`\nfirst look: orders ${moved} and ${deleted} have arrived`);
  (await look()).forEach(say);
  for (const status of ['confirmed', 'shipped', 'delivered']) await run(source, 'move_order', [moved, status]);
  await run(source, 'delete_order', [deleted]);
  say(`\nsecond look: order ${moved} was confirmed, shipped and delivered since, and order ${deleted} was deleted`);
  say(`       a poll:  order ${moved} is delivered`);
  (await look()).forEach(say);
  return withDatabase(settings.warehouse, 'demo', async (warehouse) => {
    const passed = await sayChecks(warehouse, say);
    const versions = await warehouse<Record<string, unknown>[]>`
      select h.order_key, h.order_status, h.valid_from, h.valid_to, h.is_current, h.cdc_operation
      from public.dim_orders_history as h
      where h.order_key in (${moved}::integer, ${deleted}::integer)
      order by h.order_key, h.valid_from`;
    say(`\nHistory of orders ${moved} and ${deleted} (dim_orders_history)\n${formatRows(versions)}`);
    return passed;
  });
}
