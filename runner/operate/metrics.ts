import { Gauge, Registry, collectDefaultMetrics } from 'prom-client';
import type { Settings } from '../base/settings.js';
import { withDatabase } from '../base/database.js';
import { TidemarkError } from '../base/errors.js';
import { logger } from '../base/logger.js';
import { alerts, indicators, type Alert, type Indicators } from '../warehouse/indicators.js';

/** How long a database may take to answer before it counts as away, in seconds: less than a scrape may last. */
const ANSWER_SECONDS = 4;

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
    kpis: await indicators(database, 'kpis'),
    resources: await indicators(database, 'resource_kpis'),
    connections: await indicators(database, 'connection_kpis'),
    alerts: await alerts(database),
  }));
  note('tidemark_up', 'Whether the database answers: 1 or 0.', { end: 'source' }, source === undefined ? 0 : 1);
  note('tidemark_up', '', { end: 'warehouse' }, found === undefined ? 0 : 1);
  if (found !== undefined) {
    noteTables(note, found.kpis);
    noteRuns(note, found.resources);
    for (const row of found.connections) noteRow(note, OF_THE_SERVER, {}, row);
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
    return await withDatabase(settings[end], 'metrics', question, ANSWER_SECONDS);
  } catch (error) {
    if (!(error instanceof TidemarkError)) throw error;
    logger.warn(`${error.message}: the metrics go without the ${end}`);
    return undefined;
  }
}

/** Notes a sample; null is no sample, because 0 would be a claim. */
type Note = (name: string, help: string, labels: Labels, value: string | number | null) => void;

function writerInto(registry: Registry): Note {
  return (name, help, labels, value) => {
    if (value === null) return;
    const known = registry.getSingleMetric(name) as Gauge | undefined;
    const gauge = known ?? new Gauge({ name, help, labelNames: Object.keys(labels), registers: [registry] });
    gauge.set({ ...labels }, Number(value));
  };
}

/** Metrics of a row of indicators: name, column, meaning. */
type Columns = readonly (readonly [name: string, column: string, meaning: string])[];

const OF_A_TABLE: Columns = [
  ['window_batches', 'batches', 'Batches applied in the window of tidemark.monitoring.'],
  ['window_changes', 'changes', 'Changes applied in the window.'],
  ['records_processed_per_second', 'records_processed_per_second', 'Changes applied for each second spent applying.'],
  ['watermark_lag_seconds', 'watermark_lag_seconds', 'Age of the moment up to which history holds all that was read.'],
  ['duplicate_rate', 'duplicate_rate', 'Share of the changes of the window that said nothing new.'],
  ['missing_change_rate', 'missing_change_rate', 'Share of source rows that history lacked when last reconciled.'],
  ['rejected_changes', 'rejected_changes', 'Changes that wait in tidemark.rejected_changes.'],
  ['pending_batches', 'pending_batches', 'Batch files that wait to be applied.'],
];

const OF_A_RUN: Columns = [
  ['run_cpu_utilization', 'cpu_utilization', 'Processor time of the last round for each second; 1 is one core.'],
  ['run_memory_bytes', 'memory_bytes', 'Resident memory.'],
  ['run_memory_utilization', 'memory_utilization', "Resident memory as a share of the machine's."],
  ['run_disk_read_bytes_per_second', 'disk_read_bytes_per_second', 'Bytes read from disk.'],
  ['run_disk_written_bytes_per_second', 'disk_written_bytes_per_second', 'Bytes written to disk.'],
  ['change_log_disk_free_bytes', 'disk_free_bytes', 'Free room on the disk of the change log.'],
  ['change_log_disk_utilization', 'disk_utilization', 'Used share of the disk of the change log.'],
];

const OF_THE_SERVER: Columns = [
  ['warehouse_connections', 'connections', 'Sessions of the warehouse server.'],
  ['warehouse_connections_allowed', 'connections_allowed', 'As many as it allows.'],
  ['connection_pool_utilization', 'connection_pool_utilization', 'Sessions as a share of those allowed.'],
];

const PROCESSING_TIME = 'How long batches of the window took to be applied.';
const LATENCY = 'From the effective time of the newest change of a batch until the warehouse showed it.';

function noteRow(note: Note, columns: Columns, labels: Labels, row: Indicators): void {
  for (const [name, column, meaning] of columns) note(`tidemark_${name}`, meaning, labels, row[column] ?? null);
}

function noteTables(note: Note, rows: readonly Indicators[]): void {
  for (const { dimension_name: table, ...row } of rows) {
    if (typeof table !== 'string') continue;
    noteRow(note, OF_A_TABLE, { table }, row);
    for (const percentile of ['50', '95', '99']) {
      const columns: Columns = [
        ['batch_processing_time_seconds', `batch_processing_time_p${percentile}`, PROCESSING_TIME],
        ['end_to_end_latency_seconds', `end_to_end_latency_p${percentile}`, LATENCY],
      ];
      noteRow(note, columns, { table, percentile }, row);
    }
  }
}

function noteRuns(note: Note, runs: readonly Indicators[]): void {
  for (const pipeline of ['extract', 'load']) {
    const alive = runs.filter(({ pipeline_name }) => pipeline_name === pipeline).length;
    note('tidemark_runs', 'Runs that are alive.', { pipeline }, alive);
  }
  for (const { pipeline_name: pipeline, host, process_id: process, ...row } of runs) {
    const labels = { pipeline: String(pipeline), host: String(host ?? ''), process: String(process ?? '') };
    noteRow(note, OF_A_RUN, labels, row);
  }
}

function noteAlerts(note: Note, on: readonly Alert[]): void {
  for (const severity of ['critical', 'warning', 'info']) {
    const such = on.filter((alert) => alert.severity === severity).length;
    note('tidemark_alerts', 'Alerts that are on.', { severity }, such);
  }
  for (const { rule_name: alert, severity, dimension_name, subject } of on) {
    const labels = { alert, severity, table: dimension_name ?? '', subject: subject ?? '' };
    note('tidemark_alert', 'An alert that is on, as tidemark.alerts has it.', labels, 1);
  }
}
