import { rm } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect, type Database } from '../runner/base/database.js';
import { inTransaction } from '../runner/base/transaction.js';
import { extractTables } from '../runner/extract/tables.js';
import { readBeginning, readClock } from '../runner/source/horizon.js';
import { NO_KNOWN_ROWS, describeTable, readPage } from '../runner/source/table.js';
import { applyBatch } from '../runner/warehouse/batches.js';
import { dimensionMappings } from '../runner/warehouse/functions.js';
import { seconds } from './measure.js';
import type { Bench, Ends } from './server.js';
import { loadTables } from '../runner/load/tables.js';

/** What is timed. Each takes the same rows, and returns seconds. */

/** Forgets all history. */
export async function empty(warehouse: Database): Promise<void> {
  await warehouse`truncate tidemark.batches, public.dim_orders_history restart identity cascade`;
}

/** Forgets the change log too, where a chain that goes on would not fit an empty ledger, and the orders of scenarios before, which would be read again. */
export async function beginAgain({ source, warehouse, settings }: Bench): Promise<void> {
  await source`truncate public.orders`;
  await empty(warehouse);
  await rm(settings.cdc_log_dir, { recursive: true, force: true });
}

const MIDNIGHT = Date.parse('2026-02-03T00:00:00Z');
const CHUNK = 10_000;
const PAUSE_MS = 20;

export interface Wanted {
  readonly name: string;
  readonly first: number;
  readonly last: number;
  readonly state: number;
  /** When the batch was captured. */
  readonly captured: Date;
  /** How many orders the changes are of, where they are not each of its own. */
  readonly keys?: number;
  /** Share of the changes that come late. */
  readonly late?: number;
}

/** A batch document of changes to orders from the first on, as many as from first to last, to a state. */
export async function document(warehouse: Database, wanted: Wanted): Promise<string> {
  const { name, first, last, state, captured, keys = null, late = 0 } = wanted;
  const [row] = await warehouse<[{ document: string }]>`
    select bench.document(
      ${name}, ${first}, ${last}, ${state}, ${captured.toISOString()}::text::timestamptz, ${keys}, ${late}) as document`;
  return row.document;
}

/** Batch documents that bring orders 1 to `keys` into a state, `chunk` changes each; captured on a day of that state. */
export async function documents(
  warehouse: Database,
  keys: number,
  state: number,
  chunk = CHUNK,
  from = 1,
): Promise<string[]> {
  const found: string[] = [];
  for (let first = from; first < from + keys; first += chunk) {
    const captured = new Date(MIDNIGHT + state * 86_400_000 + first);
    const name = `bench_${String(state).padStart(3, '0')}_${String(first).padStart(9, '0')}`;
    const last = Math.min(first + chunk, from + keys) - 1;
    found.push(await document(warehouse, { name, first, last, state, captured }));
  }
  return found;
}

export async function applyAll(warehouse: Database, batches: readonly string[]): Promise<void> {
  for (const batch of batches) await applyBatch(warehouse, batch);
}

/** tidemark.apply_batch, one transaction a document. */
export const apply = (warehouse: Database, batches: readonly string[]): Promise<number> =>
  seconds(warehouse, () => applyAll(warehouse, batches));

/** The same documents by a loop in PL/pgSQL. */
export const applyRowByRow = (warehouse: Database, batches: readonly string[]): Promise<number> =>
  seconds(warehouse, async () => {
    for (const batch of batches)
      await inTransaction(warehouse, 'isolation level read committed', async (sql) => {
        await sql`select bench.apply_row_by_row(${batch}::text::json)`;
      });
  });

/** COPY of history rows into an empty table with the same indexes: the yardstick. `condition` chooses the rows. */
export async function copy({ warehouse, settings }: Bench, condition: string): Promise<number> {
  const chunks: Buffer[] = [];
  // A connection of its own: the driver does not always give one back after COPY TO.
  const reader = connect(settings.warehouse, 'bench copy');
  for await (const chunk of await reader
    .unsafe(`copy (select * from public.dim_orders_history where ${condition}) to stdout`)
    .readable())
    chunks.push(chunk as Buffer);
  await reader.end({ timeout: 0 });
  await warehouse.unsafe(
    'drop table if exists bench.copied; create table bench.copied (like public.dim_orders_history including all)',
  );
  return seconds(warehouse, async () => {
    await pipeline(Readable.from(chunks), await warehouse`copy bench.copied from stdin`.writable());
  });
}

/** The whole way: extract, change log, load. The source holds what is to be captured. */
export const endToEnd = ({ settings, warehouse }: Bench): Promise<number> =>
  seconds(warehouse, async () => {
    await extractTables({ settings, tables: ['orders'] });
    await loadTables({ settings, tables: ['orders'] });
  });

/** The same with extractor and loader at once, as the services are: the loader takes what there is, until all is extracted and loaded. */
export const endToEndAtOnce = ({ settings, warehouse }: Bench): Promise<number> =>
  seconds(warehouse, async () => {
    const extracted = extractTables({ settings, tables: ['orders'] }).then(() => true);
    for (let isLast = false; !isLast; ) {
      isLast = await Promise.race([extracted, sleep(PAUSE_MS, false)]);
      await loadTables({ settings, tables: ['orders'] });
    }
  });

/** Reads the first page of all orders, as a sweep does: found, ordered, printed and handed over. */
export async function pageOf({ source, warehouse }: Ends, rows: number): Promise<() => Promise<void>> {
  const mapping = (await dimensionMappings(warehouse)).find(({ dimension_name }) => dimension_name === 'orders');
  if (mapping === undefined) throw new Error('orders is not registered');
  const described = await describeTable(source, mapping);
  const beginning = await readBeginning(source, null, undefined);
  const { snapshot, floor: from_floor, from_transaction, before_transaction } = beginning;
  const sweep = { from_floor, from_high_watermark: null, from_transaction, before_transaction };
  const bounds = { floor: await readClock(source), snapshot, sweep };
  const limits = { rows, bytes: 64 * 1024 * 1024, known_rows: NO_KNOWN_ROWS };
  return async () => {
    const page = await readPage(source, described, bounds, { isDated: true, after: null }, limits, null);
    if (page.change_count !== rows) throw new Error(`a page of ${String(page.change_count)} changes`);
  };
}

/** The same rows in the same order, printed by row_to_json and nothing else. */
export async function rowToJson(source: Database, rows: number): Promise<void> {
  await source`
    select row_to_json(o.*)::text from (select * from public.orders order by last_updated, id limit ${rows}::integer) as o`;
}

/** A snapshot that rescans source and history. */
export const rescan = (warehouse: Database, batchId: string): Promise<number> =>
  seconds(warehouse, async () => {
    await inTransaction(warehouse, 'isolation level read committed', async (sql) => {
      await sql`select bench.snapshot_by_rescan(${batchId})`;
    });
  });
