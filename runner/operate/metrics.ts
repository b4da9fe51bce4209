import { Gauge, Registry, collectDefaultMetrics } from 'prom-client';
import type { Settings } from '../base/settings.js';
import { withDatabase } from '../base/database.js';
import { TidemarkError } from '../base/errors.js';
import { logger } from '../base/logger.js';
import {
  alerts,
  connectionKpis,
  kpis,
  resourceKpis,
  type Alert,
  type ConnectionKpis,
  type Kpis,
  type ResourceKpis,
} from '../warehouse/indicators.js';

/** How long a database may take to answer before it counts as away, in seconds: less than a scrape may last. */
const PATIENCE_SECONDS = 4;

type Value = string | number | null;
type Labels = Readonly<Record<string, string>>;

/** What the page of metrics says about the server itself: processor, memory, event loop. */
const own = new Registry();
collectDefaultMetrics({ register: own });
// Sums of others on the page, named as counters are, which they are not: "promtool check metrics" refuses them.
for (const kind of ['handles', 'requests', 'resources']) own.removeSingleMetric(`nodejs_active_${kind}_total`);

/** Everything there is to say, in the text format of Prometheus. A database that is away is said by tidemark_up and leaves its part out. */
export async function renderMetrics(settings: Settings): Promise<string> {
  const registry = new Registry();
  const note = writerInto(registry);
  const source = await ask(settings, 'source', async (database) => {
    await database`select 1`;
    return true;
  });
  const found = await ask(settings, 'warehouse', async (database) => ({
    kpis: await kpis(database),
    resources: await resourceKpis(database),
    connections: await connectionKpis(database),
    alerts: await alerts(database),
  }));
  note('tidemark_up', 'Whether the database answers: 1 or 0.', { end: 'source' }, source === undefined ? 0 : 1);
  note('tidemark_up', '', { end: 'warehouse' }, found === undefined ? 0 : 1);
  if (found !== undefined) {
    for (const row of found.kpis) if (row.dimension_name !== null) noteKpis(note, row.dimension_name, row);
    noteRuns(note, found.resources);
    noteConnections(note, found.connections);
    noteAlerts(note, found.alerts);
  }
  return `${await registry.metrics()}\n${await own.metrics()}`;
}

/** The media type that renderMetrics writes. */
export const METRICS_TYPE = own.contentType;

async function ask<T>(
  settings: Settings,
  end: 'source' | 'warehouse',
  question: Parameters<typeof withDatabase<T>>[2],
): Promise<T | undefined> {
  try {
    return await withDatabase(settings[end], 'metrics', question, PATIENCE_SECONDS);
  } catch (error) {
    if (!(error instanceof TidemarkError)) throw error;
    logger.warn(`${error.message}: the metrics go without the ${end}`);
    return undefined;
  }
}

/** Notes a sample; null is no sample, because 0 would be a claim. */
type Note = (name: string, help: string, labels: Labels, value: Value) => void;

function writerInto(registry: Registry): Note {
  const gauges = new Map<string, Gauge>();
  return (name, help, labels, value) => {
    if (value === null) return;
    const gauge = gauges.get(name) ?? new Gauge({ name, help, labelNames: Object.keys(labels), registers: [registry] });
    gauges.set(name, gauge);
    gauge.set({ ...labels }, Number(value));
  };
}

function noteKpis(note: Note, table: string, row: Kpis): void {
  const labels = { table };
  note('tidemark_window_batches', 'Batches applied in the window of tidemark.monitoring.', labels, row.batches);
  note('tidemark_window_changes', 'Changes applied in the window.', labels, row.changes);
  note(
    'tidemark_records_processed_per_second',
    'Changes applied for each second spent applying.',
    labels,
    row.records_processed_per_second,
  );
  for (const [percentile, time, latency] of [
    ['50', row.batch_processing_time_p50, row.end_to_end_latency_p50],
    ['95', row.batch_processing_time_p95, row.end_to_end_latency_p95],
    ['99', row.batch_processing_time_p99, row.end_to_end_latency_p99],
  ] as const) {
    note(
      'tidemark_batch_processing_time_seconds',
      'How long batches of the window took to be applied.',
      { table, percentile },
      time,
    );
    note(
      'tidemark_end_to_end_latency_seconds',
      'From the effective time of the newest change of a batch until the warehouse showed it.',
      { table, percentile },
      latency,
    );
  }
  note(
    'tidemark_watermark_lag_seconds',
    'Age of the moment up to which history holds all that was read.',
    labels,
    row.watermark_lag_seconds,
  );
  note(
    'tidemark_duplicate_rate',
    'Share of the changes of the window that said nothing new.',
    labels,
    row.duplicate_rate,
  );
  note(
    'tidemark_missing_change_rate',
    'Share of the source rows whose state history lacked when last reconciled.',
    labels,
    row.missing_change_rate,
  );
  note('tidemark_rejected_changes', 'Changes that wait in tidemark.rejected_changes.', labels, row.rejected_changes);
  note('tidemark_pending_batches', 'Batch files that wait to be applied.', labels, row.pending_batches);
}

function noteRuns(note: Note, runs: readonly ResourceKpis[]): void {
  for (const pipeline of ['extract', 'load'])
    note(
      'tidemark_runs',
      'Runs that are alive.',
      { pipeline },
      runs.filter((run) => run.pipeline_name === pipeline).length,
    );
  for (const run of runs) {
    const labels = { pipeline: run.pipeline_name, host: run.host ?? '', process: String(run.process_id ?? '') };
    note(
      'tidemark_run_cpu_utilization',
      'Processor time of the last round for each second; 1 is one core.',
      labels,
      run.cpu_utilization,
    );
    note('tidemark_run_memory_bytes', 'Resident memory.', labels, run.memory_bytes);
    note(
      'tidemark_run_memory_utilization',
      "Resident memory as a share of the machine's.",
      labels,
      run.memory_utilization,
    );
    note('tidemark_run_disk_read_bytes_per_second', 'Bytes read from disk.', labels, run.disk_read_bytes_per_second);
    note(
      'tidemark_run_disk_written_bytes_per_second',
      'Bytes written to disk.',
      labels,
      run.disk_written_bytes_per_second,
    );
    note(
      'tidemark_change_log_disk_free_bytes',
      'Free room on the disk of the change log.',
      labels,
      run.disk_free_bytes,
    );
    note(
      'tidemark_change_log_disk_utilization',
      'Used share of the disk of the change log.',
      labels,
      run.disk_utilization,
    );
  }
}

function noteConnections(note: Note, pool: ConnectionKpis): void {
  note('tidemark_warehouse_connections', 'Sessions of the warehouse server.', {}, pool.connections);
  note('tidemark_warehouse_connections_allowed', 'As many as it allows.', {}, pool.connections_allowed);
  note(
    'tidemark_connection_pool_utilization',
    'Sessions as a share of those allowed.',
    {},
    pool.connection_pool_utilization,
  );
}

function noteAlerts(note: Note, on: readonly Alert[]): void {
  for (const severity of ['critical', 'warning', 'info'])
    note(
      'tidemark_alerts',
      'Alerts that are on.',
      { severity },
      on.filter((alert) => alert.severity === severity).length,
    );
  for (const alert of on) {
    const labels = {
      alert: alert.rule_name,
      severity: alert.severity,
      table: alert.dimension_name ?? '',
      subject: alert.subject ?? '',
    };
    note('tidemark_alert', 'An alert that is on, as tidemark.alerts has it.', labels, 1);
  }
}
