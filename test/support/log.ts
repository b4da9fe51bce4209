import type { Database } from '../../runner/base/database.js';
import type { BatchMetadata, LogPlace } from '../../runner/batch/metadata.js';
import { batchFiles, newestCheckpoint, openChangeLog, readBatch } from '../../runner/change-log/chain.js';
import { extractTables } from '../../runner/extract/tables.js';
import { slotOf } from '../../runner/stream/position.js';
import { beginFollowing } from '../../runner/stream/start.js';
import { streamTables, type StreamResult } from '../../runner/stream/stream.js';
import type { TestPipeline } from './databases.js';
import { createSourceTable, registerDimension, type TestColumn } from './dimensions.js';
import { dimensionMappingSchema, type DimensionMapping } from '../../runner/batch/mapping.js';
import { parseMessage, type Message } from '../../runner/stream/pgoutput.js';

/** What the write-ahead log of a test's database says, read by an ordinary session. */
export interface TestSlot {
  readonly slot: string;
  /** Messages since it was asked last. */
  readonly read: () => Promise<Message[]>;
}

/** Publishes tables, then makes a slot: what is committed from now on is read from it. It goes with its database. */
export async function createSlot(source: Database, tables: string, options = ''): Promise<TestSlot> {
  const [row] = await source<{ slot: string }[]>`select 'tidemark_' || current_database() as slot`;
  const slot = row?.slot ?? '';
  await source.unsafe(
    `create publication ${slot} for table ${tables} with (publish_via_partition_root = true${options})`,
  );
  await source`select pg_create_logical_replication_slot(${slot}, 'pgoutput')`;
  const read = async () => {
    const rows = await source<{ data: Buffer }[]>`
      select data from pg_logical_slot_get_binary_changes(${slot}, null, null,
        'proto_version', '1', 'publication_names', ${slot}, 'messages', 'true')`;
    return rows.map(({ data }) => parseMessage(data));
  };
  return { slot, read };
}

/** The mapping of a table as if it were registered: each column as it is called, `keys` its business key. */
export const mappingOf = (table: string, columns: readonly string[], keys: readonly string[]): DimensionMapping =>
  dimensionMappingSchema.parse({
    ...{ dimension_name: table, source_schema: 'public', source_table: table, source_time_zone: 'UTC' },
    history_table: `dim_${table}_history`,
    columns: columns.map((name) => ({
      ...{ source: name, history: name, role: keys.includes(name) ? 'business key' : 'tracked' },
    })),
  });

const THINGS: readonly TestColumn[] = [
  { source: 'id', type: 'integer', role: 'business key' },
  { source: 'state', type: 'text', role: 'tracked' },
];

/** Makes tables that have a key `id` and a `state`, and registers each under its name. */
export async function registerThings({ source, warehouse }: TestPipeline, ...tables: string[]): Promise<void> {
  for (const table of tables) {
    await createSourceTable(source, table, THINGS);
    await registerDimension(warehouse, table, table, THINGS);
  }
}

/** Hands tables over to the log, of which nothing changes meanwhile: publication, slot, and where each goes on. */
export async function captureFromLog(pipeline: TestPipeline, ...tables: string[]): Promise<void> {
  await publishForLog(pipeline, ...tables);
  await followLog(pipeline, ...tables);
}

/** All of it that a prepared pipeline can have: a slot is not copied. */
export async function publishForLog({ source, warehouse, settings }: TestPipeline, ...tables: string[]): Promise<void> {
  await extractTables({ settings, tables });
  const { publication } = slotOf(settings);
  await source.unsafe(
    `create publication ${publication} for table ${tables.join(', ')} with (publish_via_partition_root = true)`,
  );
  for (const table of tables)
    await warehouse`select tidemark.declare_capture(p_dimension_name => ${table}, p_capture => 'log')`;
}

/** The rest: the slot, and where each table goes on in it. */
export async function followLog({ source, settings }: TestPipeline, ...tables: string[]): Promise<void> {
  const { slot } = slotOf(settings);
  const [made] = await source<
    { lsn: string }[]
  >`select lsn::text from pg_create_logical_replication_slot(${slot}, 'pgoutput')`;
  for (const table of tables) {
    const log = await openChangeLog(settings.cdc_log_dir, table);
    const newest = await newestCheckpoint(log);
    if (newest === undefined) throw new Error('it was not extracted');
    await beginFollowing(log, newest, { slot, to: made?.lsn ?? '', after: null, gap: null });
  }
}

/** Reads the log once, as far as the source has come. */
export const stream = (
  { settings }: Pick<TestPipeline, 'settings'>,
  overrides: Partial<TestPipeline['settings']> = {},
): Promise<StreamResult> =>
  streamTables({ settings: { ...settings, ...overrides }, signal: new AbortController().signal, isEndless: false });

/** A batch as it stands in its file. */
export interface LoggedBatch {
  readonly batch_metadata: BatchMetadata & { readonly log: LogPlace };
  readonly changes: readonly Readonly<Record<string, unknown>>[];
}

/** Batches of a table that wait to be loaded, oldest first; of them those that came from the log. */
export async function loggedBatches(pipeline: TestPipeline, table: string): Promise<LoggedBatch[]> {
  const files = await batchFiles(await openChangeLog(pipeline.settings.cdc_log_dir, table));
  const batches = await Promise.all(files.map(async (file) => JSON.parse((await readBatch(file)).text) as LoggedBatch));
  return batches.filter(({ batch_metadata: { log } }) => log as unknown);
}

/** A change without its times. */
export const rowOf = (change: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> =>
  Object.fromEntries(Object.entries(change).filter(([name]) => !['cdc_timestamp', 'extracted_at'].includes(name)));

/** The changes in them, shortly: INSERT 1 one. */
export const changesIn = (batches: readonly LoggedBatch[]): string[] =>
  batches.flatMap(({ changes }) =>
    changes
      .map(rowOf)
      .map(({ operation_type, ...row }) =>
        [
          operation_type,
          ...Object.values(row).map((value) => (typeof value === 'object' ? JSON.stringify(value) : value)),
        ].join(' '),
      ),
  );
