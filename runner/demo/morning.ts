import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { Readable } from 'node:stream';
import { formatChecks, runChecks } from '../warehouse/checks.js';
import { PROJECT_ROOT, type DatabaseSettings, type Settings } from '../base/settings.js';
import { withDatabase, type Database, type Transaction } from '../base/database.js';
import { inTransaction } from '../base/transaction.js';
import { TidemarkError } from '../base/errors.js';
import { DEMO_SOURCE, runMigrations } from '../warehouse/migrate.js';
import { extractTables } from '../extract/tables.js';
import { asRun } from '../services/run.js';
import { counted, formatRows } from '../base/text-table.js';
import { historySummary } from '../warehouse/batches.js';
import { loadTables } from '../load/tables.js';

const ORDERS_CSV = path.join(PROJECT_ROOT, 'sample_data', 'source_orders.csv');
const endsAs = () => 'succeeded' as const;
const CONFIRMED_AT = '2026-02-01 09:10:00';

/** One moment of the morning: what is written to the source, and what to say when it is there already. */
interface Moment {
  readonly title: string;
  readonly already: string;
  /** Returns how many rows it changed; 0 where it had happened before. */
  readonly happen: (source: Database) => Promise<number>;
}

const MORNING: readonly Moment[] = [
  {
    title: '09:00  order 1 arrives',
    already: 'order 1 is already there',
    happen: (source) => insertOrders(source, [1]),
  },
  { title: '09:10  order 1 is confirmed', already: 'order 1 has already moved on', happen: confirmFirstOrder },
  {
    title: '09:30  orders 2 and 3 have arrived',
    already: 'orders 2 and 3 are already there',
    happen: (source) => insertOrders(source, [2, 3]),
  },
];

/**
 * Makes the demo source and replays one morning of orders, extracting and loading after each moment, then proves the result.
 * Safe to repeat: what is already there is said and left alone.
 * @param say takes one line of output at a time
 * @returns whether every check passed
 * @throws TidemarkError if the source holds tables that the demo did not make; nothing is written then
 */
export async function runDemo(settings: Settings, say: (line: string) => void): Promise<boolean> {
  return withDatabase(settings.source, 'demo', async (lock) => {
    // Two at once take turns: the second finds the morning replayed.
    await lock`select pg_advisory_lock(hashtextextended('tidemark.demo', 0))`;
    return replayMorning(settings, say);
  });
}

async function replayMorning(settings: Settings, say: (line: string) => void): Promise<boolean> {
  await makeDemoSource(settings.source, say);
  await fillShop(settings, say);
  for (const moment of MORNING) {
    const changed = await withDatabase(settings.source, 'demo', moment.happen);
    say(changed > 0 ? `\n${moment.title}` : `\n${moment.title}: ${moment.already}`);
    const extracted = await asRun(settings, { id: randomUUID(), name: 'extract', endsAs }, (run) =>
      run.round(() => extractTables({ settings, tables: ['orders'] })),
    );
    for (const { changes, batches } of extracted)
      say(`       extract: ${counted(changes, 'change')} in ${counted(batches, 'batch')}`);
    const loaded = await asRun(settings, { id: randomUUID(), name: 'load', endsAs }, (run) =>
      run.round(() => loadTables({ settings, tables: ['orders'] })),
    );
    for (const { inserted_versions, closed_versions, absorbed_changes } of loaded)
      say(
        `       load:    ${counted(inserted_versions, 'version')} opened, ${String(closed_versions)} closed, ${counted(absorbed_changes, 'change')} absorbed`,
      );
  }
  return withDatabase(settings.warehouse, 'demo', async (warehouse) => {
    const results = await runChecks(warehouse, []);
    say(`\n${formatChecks(results)}`);
    await sayHistory(warehouse, say);
    return results.every(({ violations }) => violations === 0);
  });
}

/** A few customers and products, so that several tables flow. Their history is as short as that of a shop that opens today. */
async function fillShop(settings: Settings, say: (line: string) => void): Promise<void> {
  const tables = ['customers', 'products'];
  const added = await withDatabase(settings.source, 'demo', (source) =>
    inTransaction(source, 'isolation level read committed', insertShop),
  );
  say(
    added > 0
      ? '\n08:00  the shop has three customers and three products'
      : '\n08:00  the shop has three customers and three products: they are already there',
  );
  const extracted = await extractTables({ settings, tables });
  const loaded = await loadTables({ settings, tables });
  for (const { table, changes } of extracted) {
    const versions = loaded.find((result) => result.table === table)?.inserted_versions ?? 0;
    say(
      `       ${`${table}:`.padEnd(10)} ${counted(changes, 'change')} extracted, ${counted(versions, 'version')} opened`,
    );
  }
}

async function insertShop(transaction: Transaction): Promise<number> {
  const customers = await transaction`
    insert into public.customers (id, full_name, email, city, loyalty_tier, updated_at, created_at)
    select c.*, '2026-02-01 08:00+00', '2026-02-01 08:00+00'
    from (values
      (101, 'Ada Brandt', 'ada@example.com', 'Berlin', 'gold'),
      (102, 'João Costa', 'joao@example.com', 'Lisbon', 'basic'),
      (103, 'Hana Ito', 'hana@example.com', null, 'silver')) as c (id, full_name, email, city, loyalty_tier)
    on conflict (id) do nothing`;
  const products = await transaction`
    insert into public.products (id, title, category, unit_price, attributes, stock, last_updated, created_at)
    select p.id, p.title, p.category, p.unit_price, p.attributes::jsonb, p.stock, '2026-02-01 08:00+00', '2026-02-01 08:00+00'
    from (values
      (201, 'Teapot', 'kitchen', 29.99, '{"colour": "white"}', 40),
      (202, 'Desk lamp', 'office', 49.99, '{}', 12),
      (203, 'Notebook', 'office', 19.99, '{"pages": 120}', 300)) as p (id, title, category, unit_price, attributes, stock)
    on conflict (id) do nothing`;
  return customers.count + products.count;
}

/** Creates the demo schema in an empty database, or brings the one it made to the present. */
export async function makeDemoSource(settings: DatabaseSettings, say: (line: string) => void): Promise<void> {
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
      detail: `${settings.database} on ${settings.host}:${String(settings.port)}: ${state.foreign_tables.slice(0, 5).join(', ')}`,
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

/** Copies the sample orders in, and keeps those that are asked for and not there yet. */
async function insertOrders(source: Database, ids: readonly number[]): Promise<number> {
  return inTransaction(source, 'isolation level read committed', async (transaction) => {
    // Read before the copy begins: one that is begun and left by a fault ends the process when its connection does.
    const orders = await readFile(ORDERS_CSV, 'utf8');
    await transaction`create temporary table sample_orders (like public.orders) on commit drop`;
    const copy = await transaction`copy sample_orders from stdin with (format csv, header match)`.writable();
    await pipeline(Readable.from([orders]), copy);
    const inserted = await transaction`
      insert into public.orders
      select s.* from sample_orders as s where s.id = any (${[...ids]}::integer[])
      order by s.id
      on conflict (id) do nothing`;
    if (inserted.count > 0)
      await transaction`select setval('public.orders_id_seq', greatest((select max(id) from public.orders), (select last_value from public.orders_id_seq)))`;
    return inserted.count;
  });
}

async function confirmFirstOrder(source: Database): Promise<number> {
  const updated = await source`
    update public.orders set order_status = 'confirmed', last_updated = ${CONFIRMED_AT}::timestamp
    where id = 1 and order_status = 'pending' and last_updated < ${CONFIRMED_AT}::timestamp`;
  return updated.count;
}

async function sayHistory(warehouse: Database, say: (line: string) => void): Promise<void> {
  const versions = await warehouse<Record<string, unknown>[]>`
    select h.surrogate_key, h.order_key, h.customer_id, h.order_status, h.valid_from, h.valid_to, h.is_current, h.cdc_operation
    from public.dim_orders_history as h
    where h.order_key <= 3
    order by h.order_key, h.valid_from`;
  say(`\nHistory of orders 1 to 3 (dim_orders_history)\n${formatRows(versions)}`);
  const { total, current, historical } = await historySummary(warehouse, 'orders');
  say(`\n${counted(total, 'version')}: ${current} current, ${historical} historical`);
}
