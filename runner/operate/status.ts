import { type ChainState } from '../change-log/inspect.js';
import { rememberedMappings } from '../change-log/known-mappings.js';
import type { DatabaseSettings, Settings } from '../base/settings.js';
import type { Database } from '../base/database.js';
import { tableState } from '../extract/shard-layout.js';
import { subscriptionStatus, type SubscriptionStatus } from '../warehouse/events.js';
import * as functions from '../warehouse/functions.js';
import { openPartitionings, type OpenPartitioning } from '../warehouse/partitions.js';
import { within } from '../base/timeout.js';
import { isLogged } from '../batch/mapping.js';
import { readPosition, slotOf, type Position } from '../stream/position.js';
import { askedOf, type Answer } from './asked.js';
import { formatSubscriptions } from './events.js';
import { describePartitioning } from './partition.js';
import { serviceStatuses, type ServiceStatus } from '../services/background.js';
import { shardsOf } from '../batch/shard.js';
import { formatRows, linesOf } from '../base/text-table.js';

export type TableStatus = Awaited<ReturnType<typeof tableStatus>> & ReturnType<typeof logStatus>;
type ShardStatus = ReturnType<typeof shardStatus>;

/** How the whole pipeline stands. */
export interface PipelineStatus {
  readonly services: readonly ServiceStatus[];
  /** Runs on this warehouse that are no services of this machine: of another machine, or in the foreground. */
  readonly other_runs: readonly functions.LiveRun[];
  /** null where it answers, else what is wrong. */
  readonly source: string | null;
  readonly warehouse: string | null;
  readonly tables: readonly TableStatus[];
  /** Batches that are out of history, the newest first; none are known while the warehouse is away. */
  readonly retractions: readonly functions.Retraction[];
  /** Who is told of events, how far, and what keeps them; none are known while the warehouse is away. */
  readonly subscriptions: readonly SubscriptionStatus[];
  /** Histories whose partitions are being made; none are known while the warehouse is away. */
  readonly partitionings: readonly OpenPartitioning[];
  /** The alerts that are on, the gravest first; none are known while the warehouse is away. */
  readonly alerts: readonly functions.Alert[];
}

const ANSWER_SECONDS = 5;
/** A little less, so that a server that is busy says itself that it gave up, and no session of its keeps this process from ending. */
const STATEMENT_SECONDS = 4;

/** Looks at everything and changes nothing; what does not answer is said and left out. */
export async function pipelineStatus(settings: Settings): Promise<PipelineStatus> {
  const services = await serviceStatuses(settings);
  const source = await inTime(settings.source, (database) => database`select 1`.execute());
  const warehouse = await inTime(settings.warehouse, async (database) => ({
    runs: await functions.liveRuns(database),
    alerts: await functions.alerts(database),
    retractions: await functions.retractionsOf(database, undefined, true),
    subscriptions: await subscriptionStatus(database),
    partitionings: await openPartitionings(database),
    mappings: await functions.dimensionMappings(database),
  }));
  // By itself, because it reads every history: one that is large, or locked, must not hide what runs and which alerts are on.
  const counted: Answer<functions.DimensionStatus[]> =
    warehouse.fault === null ? await inTime(settings.warehouse, functions.dimensionStatus) : { fault: warehouse.fault };
  const fault = warehouse.fault ?? (counted.fault === null ? null : `versions are not counted: ${counted.fault}`);
  const runs = warehouse.answer?.runs ?? [];
  const own = services.flatMap(({ state, run_id }) => (state === 'running' && run_id !== null ? [run_id] : []));
  const mappings = warehouse.answer?.mappings ?? (await rememberedMappings(settings.cdc_log_dir)) ?? [];
  const registered = counted.answer ?? mappings;
  const read = await readPosition(settings.cdc_log_dir, slotOf(settings).slot).catch(() => undefined);
  const names = registered.map((each) => each.dimension_name);
  const polled = lastPoll(services, runs);
  const statusOf = (table: string) => {
    const dimension = counted.answer?.find((each) => each.dimension_name === table);
    const capture = mappings.find((each) => each.dimension_name === table)?.capture ?? 'poll';
    const status = tableStatus(settings, table, dimension, polled, errorOf(services, runs, table));
    return status.then((each) => ({ ...each, ...logStatus(each, capture, read) }));
  };
  return {
    services,
    other_runs: runs.filter(({ run_id }) => !own.includes(run_id)),
    source: source.fault,
    warehouse: fault,
    tables: await Promise.all(names.sort().map(statusOf)),
    retractions: warehouse.answer?.retractions ?? [],
    subscriptions: warehouse.answer?.subscriptions ?? [],
    partitionings: warehouse.answer?.partitionings ?? [],
    alerts: warehouse.answer?.alerts ?? [],
  };
}

/** The question as well must be answered in time. */
const inTime = <T>(end: DatabaseSettings, ask: (database: Database) => Promise<T>): Promise<Answer<T>> => {
  const limits = { connect_seconds: ANSWER_SECONDS, ...end.limits, statement_seconds: STATEMENT_SECONDS };
  return askedOf({ ...end, limits }, 'status', (database) => within(ANSWER_SECONDS, ask(database)), ANSWER_SECONDS);
};

async function tableStatus(
  settings: Settings,
  table: string,
  dimension: functions.DimensionStatus | undefined,
  polled: string | null,
  error: string | null,
) {
  const { chains, present } = await tableState(settings, table, []);
  // What one extractor has polled says nothing of the shards of others.
  const chainOf = (name: string) => chains.find(({ shard }) => shard === name);
  const shards = present == null ? [] : shardsOf(present).map(({ name }) => shardStatus(name, chainOf(name), null));
  const { watermark, lag_seconds } =
    shards.length > 0 ? leastFar(shards) : shardStatus('', chainOf(''), error === null ? polled : null);
  return {
    table,
    watermark,
    lag_seconds,
    /** Of a table that is extracted by shards: each shard; the table is as far as the one that is least far. */
    shards,
    /** Batch files that wait to be applied. */
    pending: chains.length === 0 ? null : chains.reduce((sum, { pending }) => sum + pending, 0),
    total: dimension?.total ?? null,
    current: dimension?.current ?? null,
    historical: dimension?.historical ?? null,
    last_batch: dimension?.last_batch ?? null,
    last_applied_at: dimension?.last_applied_at ?? null,
    /** How deletes at the source are found: soft, reconcile or none. */
    deletes: dimension?.deletes ?? null,
    last_error: error,
  };
}

/** How a table is captured; of one that is captured from the log when what was read last was committed, and why nothing of it is read, if so. */
function logStatus(status: Awaited<ReturnType<typeof tableStatus>>, capture: string, read: Position | undefined) {
  const { watermark, lag_seconds, last_error, table } = status;
  if (!isLogged({ capture })) return { capture, watermark, lag_seconds, last_error };
  const stopped = read?.tables[table]?.stopped;
  const committed = read?.tables[table] === undefined || stopped != null ? null : read.last_commit_time;
  return {
    capture,
    watermark: committed,
    lag_seconds: committed === null ? null : secondsSince(committed, read?.complete_at),
    last_error:
      stopped == null
        ? last_error
        : `not read from ${stopped.at} of the log on: ${stopped.reason}; hand it over: npx tidemark table capture ${table} log`,
  };
}

/** Since the latest of these moments. */
function secondsSince(...moments: (string | null | undefined)[]): number | null {
  const latest = Math.max(...moments.flatMap((moment) => (moment == null ? [] : [Date.parse(moment)])));
  return latest === -Infinity ? null : Math.max(0, Math.round((Date.now() - latest) / 1000));
}

function shardStatus(shard: string, chain: ChainState | undefined, polled: string | null) {
  const { newest, pending = 0 } = chain ?? {};
  return {
    shard,
    /** Time of the newest row that was read; null before the first. */
    watermark: newest?.high_watermark?.time ?? null,
    /** Since the source was last read to the end, or seen to be quiet; null before that, or where nobody here can tell. */
    lag_seconds: secondsSince(newest?.extracted_at, newest === undefined ? null : polled),
    pending,
  };
}

/** A table has come as far as the shard that has come least far; nobody knows where one has not begun. */
function leastFar(shards: readonly ShardStatus[]): Pick<ShardStatus, 'watermark' | 'lag_seconds'> {
  if (shards.some(({ lag_seconds: lag }) => lag === null)) return { watermark: null, lag_seconds: null };
  const watermarks = shards.flatMap(({ watermark }) => watermark ?? []).sort();
  return { watermark: watermarks[0] ?? null, lag_seconds: Math.max(...shards.map(({ lag_seconds: lag }) => lag ?? 0)) };
}

/** When an extractor last read every table without a fault, here or on another machine. */
function lastPoll(services: readonly ServiceStatus[], runs: readonly functions.LiveRun[]): string | null {
  const moments = [
    ...services.map(({ service, last_success_at }) => service === 'extractor' && last_success_at),
    ...runs.map((run) => run.pipeline_name === 'extract' && run.performance_metrics.last_success_at),
  ].filter((moment) => typeof moment === 'string');
  return moments.sort().at(-1) ?? null;
}

type Faults = Readonly<Record<string, { at: string; error: string }>>;

function errorOf(services: readonly ServiceStatus[], runs: readonly functions.LiveRun[], table: string): string | null {
  const faults = [
    ...services.map(({ table_errors }) => table_errors),
    ...runs.map(({ performance_metrics }) => performance_metrics.table_errors as Faults | undefined),
  ];
  const said = faults
    .flatMap((each) => each?.[table] ?? [])
    .map(({ at, error }) => `${shortTime(at)} ${error.replaceAll(/\n\s*/g, '; ').replace(/^error: /, '')}`);
  return said.length === 0 ? null : [...new Set(said)].join('\n');
}

/** A moment without what goes without saying: UTC, and parts of a second. What is no moment stays as it is. */
const shortTime = <T>(value: T): T =>
  typeof value === 'string'
    ? (value.replace(/^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(\.\d+)?(Z|\+00(:00)?)?/, '$1 $2') as T)
    : value;

const formatShort = (rows: readonly object[], columns?: readonly string[]): string =>
  formatRows(
    rows.map((row) =>
      Object.fromEntries(Object.entries(row).map(([name, value]) => [name, shortTime<unknown>(value)])),
    ),
    columns,
  );

/** The services, one line each. */
export const formatServices = (services: readonly ServiceStatus[]): string =>
  formatShort(
    services.map(({ last_error: error, ...each }) => ({
      ...{ service: each.service, state: each.state, pid: each.pid, since: each.since },
      ...{ rounds: each.rounds, failed: each.failed_rounds, 'last success': each.last_success_at },
      'last error': error && `${shortTime(error.at)} ${error.error.split('\n')[0]?.replace(/^error: /, '') ?? ''}`,
    })),
  );

const HIDDEN_COLUMNS: readonly string[] = ['shards', 'last_error'] satisfies (keyof TableStatus)[];

/** What a person reads. All times are UTC. */
export function formatStatus(status: PipelineStatus, servers: string): string {
  const columns = Object.keys(status.tables[0] ?? {}).filter((column) => !HIDDEN_COLUMNS.includes(column));
  const shards = status.tables.flatMap(({ table, shards }) => shards.map((shard) => ({ table, ...shard })));
  const failed = status.tables.filter(({ last_error }) => last_error !== null);
  const errors = failed.map(({ table, last_error: error }) => `${table}: ${error ?? ''}`);
  const runs = status.other_runs.map(({ pipeline_name: run, start_time: since, performance_metrics: metrics }) => ({
    run,
    since,
    host: metrics.host ?? null,
    process: metrics.process_id ?? null,
  }));
  const on = status.alerts.map((each) => ({
    severity: each.severity,
    alert: each.rule_name,
    table: each.dimension_name,
    condition: each.condition,
    measured: Number(each.measured.toPrecision(4)),
    since: each.since,
    about: each.subject,
  }));
  const out = status.retractions.map((each) => ({
    ...{ table: each.dimension_name, batch: each.batch_id, changes: each.retracted_changes, since: each.retracted_at },
    ...{ by: each.retracted_by, reason: each.reason },
  }));
  const { subscriptions, partitionings } = status;
  return linesOf(
    formatServices(status.services),
    runs.length > 0 && `\nOther runs on this warehouse\n${formatShort(runs)}`,
    servers !== '' && `\n${servers}`,
    status.source !== null && `\nsource: ${status.source}`,
    status.warehouse !== null && `\nwarehouse: ${status.warehouse}`,
    status.tables.length > 0 && `\n${formatShort(status.tables, columns)}`,
    shards.length > 0 && `\nShards\n${formatShort(shards)}`,
    out.length > 0 && `\nBatches taken out of history\n${formatShort(out)}`,
    subscriptions.length > 0 && `\nSubscriptions to events\n${formatSubscriptions(subscriptions)}`,
    partitionings.length > 0 &&
      `\nPartitions that are being made\n${partitionings.map(describePartitioning).join('\n')}`,
    on.length > 0 && `\nAlerts\n${formatShort(on)}`,
    errors.length > 0 && `\nTables that failed in the last round\n${errors.join('\n')}`,
  );
}
