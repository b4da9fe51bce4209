import type { Database } from '../../runner/base/database.js';
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
