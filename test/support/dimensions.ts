import type { Database, Transaction } from '../../runner/base/database.js';
import { quoted } from '../../runner/base/sql-text.js';
import { distributedBy, onCluster } from './cluster.js';
import { inPartitions } from './partitions.js';

/** A column of a test's own dimension: its name at the source, its type, and its role. */
export interface TestColumn {
  readonly source: string;
  readonly type: string;
  readonly role: 'business key' | 'effective time' | 'insert time' | 'tracked' | 'untracked';
  /** Name in the history; the source's by default. */
  readonly history?: string;
}

/** Makes a table at the source from the columns of a dimension. */
export async function createSourceTable(
  source: Database,
  table: string,
  columns: readonly TestColumn[],
): Promise<void> {
  const keys = columns.filter(({ role }) => role === 'business key').map(({ source: name }) => quoted(name));
  await source.unsafe(
    `create table ${table} (${columns.map((column) => `${quoted(column.source)} ${column.type}`).join(', ')}, primary key (${keys.join(', ')}))`,
  );
}

export interface DimensionOptions {
  readonly timeType?: 'timestamp' | 'timestamptz';
  readonly changeOrder?: 'capture' | 'effective_time';
  readonly noOverlap?: boolean;
  /** The zone of times without zone; UTC by default. */
  readonly sourceTimeZone?: string;
  /** The history table, as SQL names it; made of the dimension's name by default. */
  readonly history?: string;
  /** Into how many partitions it is parted; by default as the suite is told. */
  readonly partitions?: number | undefined;
  /** The column of the history that it is distributed by; null: by none. By default as the suite is told, but for one in partitions. */
  readonly distributedBy?: string | null;
}

/** Makes a history table for the columns and registers the dimension, as a migration would. */
export async function registerDimension(
  warehouse: Database | Transaction,
  name: string,
  sourceTable: string,
  columns: readonly TestColumn[],
  options: DimensionOptions = {},
): Promise<void> {
  const { timeType = 'timestamptz', changeOrder = 'capture', noOverlap = false, sourceTimeZone = 'UTC' } = options;
  const stored = columns.filter(({ role }) => !role.endsWith(' time'));
  const keys = stored
    .filter(({ role }) => role === 'business key')
    .map((column) => quoted(column.history ?? column.source));
  const told = options.partitions === undefined ? distributedBy(keys) : null;
  const by = options.distributedBy === undefined ? told : options.distributedBy;
  const history = options.history ?? `public.dim_${name}_history`;
  await warehouse.unsafe(
    onCluster(
      inPartitions(
        `
    create table ${history} (
      surrogate_key bigint generated always as identity primary key,
      ${stored.map((column) => `${quoted(column.history ?? column.source)} ${column.type},`).join('\n')}
      valid_from ${timeType} not null, valid_to ${timeType}, is_current boolean not null, cdc_operation text not null,
      cdc_timestamp ${timeType} not null, batch_id text not null, created_at timestamptz not null, updated_at timestamptz not null,
      captured_at timestamptz not null, change_line integer not null,
      unique (${keys.join(', ')}, valid_from), check (valid_to > valid_from), check (is_current = (valid_to is null)));
    create unique index on ${history} (${keys.join(', ')}) where is_current`,
        options.partitions,
      ),
      by,
    ),
  );
  const isCapture = !columns.some(({ role }) => role === 'effective time');
  const mapping = columns.map(({ source, role, history: target }) => ({
    source,
    role,
    history: role.endsWith('time') ? 'valid_from' : (target ?? source),
  }));
  await warehouse`
    select tidemark.register_dimension(
      p_dimension_name => ${name}, p_source_schema => 'public', p_source_table => ${sourceTable},
      p_history_relation => ${history}::text::regclass, p_columns => ${JSON.stringify(mapping)}::text::json,
      p_change_order => ${changeOrder}, p_no_overlap => ${noOverlap}, p_source_time_zone => ${sourceTimeZone},
      p_effective_time => ${isCapture ? 'capture' : 'column'}, p_distributed_by => ${by})`;
}
