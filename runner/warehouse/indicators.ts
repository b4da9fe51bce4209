import type { Database } from '../base/database.js';
import { asJson, daysAgo, perform } from './call.js';

/** The indicators of a dimension, or of all together where dimension_name is null: seconds, and shares from 0 to 1 (sql/views/kpis.sql). */
export interface Kpis {
  readonly dimension_name: string | null;
  readonly batches: string;
  readonly changes: string;
  readonly records_processed_per_second: number | null;
  readonly batch_processing_time_p50: number | null;
  readonly batch_processing_time_p95: number | null;
  readonly batch_processing_time_p99: number | null;
  readonly end_to_end_latency_p50: number | null;
  readonly end_to_end_latency_p95: number | null;
  readonly end_to_end_latency_p99: number | null;
  readonly watermark_lag_seconds: number | null;
  readonly duplicate_rate: number | null;
  readonly missing_change_rate: number | null;
  readonly rejected_changes: string;
  readonly pending_batches: string | null;
}

/** The indicators now, over the window the warehouse is set to. */
export const kpis = async (warehouse: Database): Promise<Kpis[]> => warehouse<Kpis[]>`select * from tidemark.kpis`;

export interface ResourceKpis {
  readonly pipeline_name: string;
  readonly run_id: string;
  readonly host: string | null;
  readonly process_id: number | null;
  readonly cpu_utilization: number | null;
  readonly memory_bytes: string | null;
  readonly memory_utilization: number | null;
  readonly disk_read_bytes_per_second: number | null;
  readonly disk_written_bytes_per_second: number | null;
  readonly disk_free_bytes: string | null;
  readonly disk_utilization: number | null;
}

/** What each run that is alive uses of its machine. */
export const resourceKpis = async (warehouse: Database): Promise<ResourceKpis[]> =>
  warehouse<ResourceKpis[]>`select * from tidemark.resource_kpis`;

export interface ConnectionKpis {
  readonly connections: string;
  readonly tidemark_connections: string;
  readonly connections_allowed: number;
  readonly connection_pool_utilization: number;
}

/** Sessions of the warehouse server. */
export const connectionKpis = async (warehouse: Database): Promise<ConnectionKpis> =>
  (await warehouse<[ConnectionKpis]>`select * from tidemark.connection_kpis`)[0];

export interface Alert {
  readonly rule_name: string;
  readonly dimension_name: string | null;
  readonly severity: 'info' | 'warning' | 'critical';
  readonly condition: string;
  readonly measured: number;
  readonly since: string | null;
  readonly subject: string | null;
  readonly meaning: string;
}

/** The alerts that are on, the gravest first. */
export const alerts = async (warehouse: Database): Promise<Alert[]> =>
  warehouse<Alert[]>`select * from tidemark.alerts`;

/** Notes how checks ended, for the alert on violations. */
export async function noteChecks(
  warehouse: Database,
  results: readonly { suite: string; check: string; violations: number }[],
): Promise<void> {
  const noted = results.map(({ suite, check, violations }) => ({ suite, check, violations }));
  await perform(warehouse, 'note_checks', { results: asJson(JSON.stringify(noted)), now: daysAgo(0) });
}

/** Notes what a comparison of source and history found, for missing_change_rate. */
export const noteReconciliation = (
  warehouse: Database,
  {
    table,
    source_rows,
    missing,
    extra,
    different,
    repaired,
  }: Readonly<{
    table: string;
    source_rows: number;
    missing: number;
    extra: number;
    different: number;
    repaired: number;
  }>,
): Promise<void> =>
  perform(warehouse, 'note_reconciliation', {
    dimension_name: table,
    source_rows,
    missing,
    extra,
    different,
    repaired,
    reconciled_at: daysAgo(0),
  });
