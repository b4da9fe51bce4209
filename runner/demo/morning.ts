import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { formatChecks, runChecks } from '../warehouse/checks.js';
import { PACKAGE_ROOT, shownPath, type DatabaseSettings, type Settings } from '../base/settings.js';
import { withDatabase, type Database } from '../base/database.js';
import { TidemarkError, hasCode } from '../base/errors.js';
import { DEMO_SOURCE, migrateWarehouse, runMigrations } from '../warehouse/migrate.js';
import { registeringFiles, writeDimensionFile } from '../registration/files.js';
import { extractTables } from '../extract/tables.js';
import { makeRoles } from '../operate/grants.js';
import { asRun } from '../services/run.js';
import { counted, formatRows } from '../base/text-table.js';
import { historySummary } from '../warehouse/functions.js';
import { loadTables } from '../load/tables.js';

/** What is written to the source, what to say when it is there already, the file of sql/demo that writes it, and the sample orders that it places. */
type Moment = readonly [title: string, already: string, file: string, orders?: readonly string[]];

/** Takes one line of output at a time. */
export type Say = (line: string) => void;

const SHOP: Moment = [
  '08:00  the shop has three customers and three products',
  'they are already there',
  'open_shop.sql',
];
const MORNING: readonly Moment[] = [
  ['09:00  order 1 arrives', 'order 1 is already there', 'place_orders.sql', ['1']],
  ['09:10  order 1 is confirmed', 'order 1 has already moved on', 'confirm_order.sql'],
  ['09:30  orders 2 and 3 have arrived', 'orders 2 and 3 are already there', 'place_orders.sql', ['2', '3']],
];

/**
 * Makes the demo source and replays one morning of orders, extracting and loading after each moment, then proves the result.
 * Safe to repeat: what is already there is said and left alone.
 * @returns whether every check passed
 * @throws TidemarkError if the source holds tables that the demo did not make; nothing is written then
 */
export async function runDemo(settings: Settings, say: Say): Promise<boolean> {
  return inTurn(settings, () => replayMorning(settings, say));
}

/** Works on the source of the demo. Two at once take turns: the second finds what the first has done. */
export const inTurn = <T>({ source: settings }: Settings, work: (source: Database) => Promise<T>): Promise<T> =>
  withDatabase(settings, 'demo', async (source) => {
    await source`select pg_advisory_lock(hashtextextended('tidemark.demo', 0))`;
    return work(source);
  });

async function replayMorning(settings: Settings, say: Say): Promise<boolean> {
  await makeDemoSource(settings.source, say);
  await registerDemoTables(settings, say);
  await sayRoles(settings.warehouse, say);
  await happen(settings, SHOP, say);
  const shop = await extractAndLoad(settings, ['customers', 'products']);
  for (const { table, changes } of shop.extracted) {
    const versions = shop.loaded.find((result) => result.table === table)?.inserted_versions ?? 0;
    say(
      `       ${`${table}:`.padEnd(10)} ${counted(changes, 'change')} extracted, ${counted(versions, 'version')} opened`,
    );
  }
  for (const moment of MORNING) {
    await happen(settings, moment, say);
    const { extracted, loaded } = await extractAndLoad(settings, ['orders']);
    for (const { changes, batches } of extracted)
      say(`       extract: ${counted(changes, 'change')} in ${counted(batches, 'batch')}`);
    for (const { inserted_versions, closed_versions, absorbed_changes } of loaded)
      say(
        `       load:    ${counted(inserted_versions, 'version')} opened, ${closed_versions} closed, ${counted(absorbed_changes, 'change')} absorbed`,
      );
  }
  return withDatabase(settings.warehouse, 'demo', async (warehouse) => {
    const passed = await sayChecks(warehouse, say);
    await sayHistory(warehouse, say);
    return passed;
  });
}

/** @returns whether every check passed */
export async function sayChecks(warehouse: Database, say: Say): Promise<boolean> {
  const results = await runChecks(warehouse, []);
  say(`\n${formatChecks(results)}`);
  return results.every(({ violations }) => violations === 0);
}

/** A file counts the rows that it writes: none where they are there already. */
async function happen(settings: Settings, [title, already, file, orders]: Moment, say: Say): Promise<void> {
  const sample = await readFile(path.join(PACKAGE_ROOT, 'sample_data', 'source_orders.csv'), 'utf8');
  const { count } = await withDatabase(settings.source, 'demo', (source) =>
    source.file(path.join(PACKAGE_ROOT, 'sql', 'demo', file), orders === undefined ? [] : [sample, orders]),
  );
  say(count > 0 ? `\n${title}` : `\n${title}: ${already}`);
}

async function extractAndLoad(settings: Settings, tables: readonly string[]) {
  const run = <T extends object>(name: 'extract' | 'load', work: () => Promise<readonly T[]>) =>
    asRun(settings, { id: randomUUID(), name, endsAs: () => 'succeeded' }, ({ round }) => round(work));
  const extracted = await run('extract', () => extractTables({ settings, tables }));
  const loaded = await run('load', () => loadTables({ settings, tables }));
  return { extracted, loaded };
}

/** Creates the demo schema in an empty database, or brings the one it made to the present. */
async function makeDemoSource(settings: DatabaseSettings, say: Say): Promise<void> {
  await withDatabase(settings, 'demo', async (source) => {
    const [state] = await source<{ foreign_tables: string[] | null }[]>`
      select array_agg(format('%I.%I', n.nspname, c.relname) order by 1) as foreign_tables
      from pg_class as c
      join pg_namespace as n on n.oid = c.relnamespace
      where c.relkind in ('r', 'p', 'f', 'm', 'v')
        and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')
        and to_regclass('public.tidemark_demo_migrations') is null`;
    if (state?.foreign_tables == null) return;
    throw new TidemarkError('the source database holds tables that the demo did not make', {
      detail: `${settings.database} on ${settings.host}:${settings.port}: ${state.foreign_tables.slice(0, 5).join(', ')}`,
      hint: 'the demo wants an empty database of its own: set DB_NAME to one; for your own tables use extract and load',
    });
  });
  const made = await runMigrations(settings, DEMO_SOURCE);
  say(
    made.length > 0
      ? 'source: made the demo tables orders, customers and products'
      : 'source: the demo tables are already there',
  );
}

/** Registers the demo's tables where no migration of the project does so: one that Tidemark is installed in begins without any. */
async function registerDemoTables({ warehouse, dimensions_dir: folder }: Settings, say: Say) {
  const written: string[] = [];
  const registered = (await registeringFiles(folder)).map(({ dimension }) => dimension);
  for (const [number, table] of ['orders', 'customers', 'products'].entries()) {
    if (registered.includes(table)) continue;
    const file = `000${number + 1}_register_${table}.sql`;
    const text = await readFile(path.join(PACKAGE_ROOT, 'migrations', 'dimensions', file), 'utf8');
    written.push(await writeDimensionFile(folder, `register_${table}`, text));
  }
  if (written.length === 0) return;
  await migrateWarehouse(warehouse, folder);
  say(`warehouse: registered the demo tables by ${written.map(shownPath).join(', ')}`);
}

/** The demo itself needs no role; the console reads as one of them, and acts as the other. Who may not make them goes without. */
async function sayRoles(warehouse: DatabaseSettings, say: Say) {
  try {
    await makeRoles(warehouse);
    say('warehouse: tidemark_analyst may read it, tidemark_loader may work on it: roles without a password');
  } catch (error) {
    if (!hasCode(error, '42501')) throw error;
    say(`warehouse: ${warehouse.user} may not make roles, so the console reads as ${warehouse.user}`);
  }
}

async function sayHistory(warehouse: Database, say: Say): Promise<void> {
  const versions = await warehouse<Record<string, unknown>[]>`
    select h.surrogate_key, h.order_key, h.customer_id, h.order_status, h.valid_from, h.valid_to, h.is_current, h.cdc_operation
    from public.dim_orders_history as h
    where h.order_key <= 3
    order by h.order_key, h.valid_from`;
  say(`\nHistory of orders 1 to 3 (dim_orders_history)\n${formatRows(versions)}`);
  const { total, current, historical } = await historySummary(warehouse, 'orders');
  say(`\n${counted(total, 'version')}: ${current} current, ${historical} historical`);
}
