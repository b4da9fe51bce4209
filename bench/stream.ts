import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect, type Database } from '../runner/base/database.js';
import type { Settings } from '../runner/base/settings.js';
import { extractTables } from '../runner/extract/tables.js';
import { loadTables } from '../runner/load/tables.js';
import { captureTable } from '../runner/operate/capture.js';
import { DEMO_SOURCE, runMigrations } from '../runner/warehouse/migrate.js';
import { MOST_MEGABYTES, commandOf } from './memory.js';
import { processorTimes } from './processor.js';
import { atLeast, atMost, figure, type Figure, type Measured as Row, type Target } from './figures.js';
import { addOrders, type Bench } from './server.js';

/**
 * Capture from the log at a rate, from commit at the source to queryable in the warehouse; then a native subscription of the same table, under
 * the same traffic, in the same run. Source, warehouse, subscriber and writers share one server, and whatever reads shares its cores.
 *
 * Latency is between two commits, by the server's own clock: that of the transaction of a writer, and that of the one which brought what it
 * wrote (`track_commit_timestamp`). Each transaction of a writer updates one row that no other touches, so that each is measured, and measuring
 * costs nothing while it lasts. PostgreSQL takes that time before it flushes the commit: the flush at the source counts, that in the
 * warehouse does not, and both are of the same disk. The subscription notes when it wrote that row, the last of its transaction.
 *
 * Processor time is that of the processes, by /proc.
 */

/** Each is one session at the source. */
const WRITERS = 4;
const KEYS = 40_000;
const [WARM_SECONDS, SECONDS, RUNS] = [3, 8, 3];
/** So often the writers are asked: each time they mark rows of their own. */
const WINDOWS = 3 + 2 * RUNS;
/** Of so many rows each is changed every other second, while a poll looks so often as it does by default. */
const [HOT_KEYS, HOT_RATE, LOOKS] = [100, 50, 3];
const NATIVE = 'tidemark_bench_native';

/** What the server of such a run needs. */
export const STREAM_SERVER = { wal_level: 'logical', track_commit_timestamp: 'on' };

const TARGETS = { p50: 50, p99: 150, fastP99: 400, fast: 20_000, micros: 50 };

type Say = (line: string) => void;

/** Traffic of a while: how much was written, and where its rows begin by which each transaction is found again. */
interface Traffic {
  readonly changes: number;
  readonly firstMarker: number;
}

interface Latency {
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
  /** From the first commit of the writers to the last that arrived. */
  readonly seconds: number;
}

/** Writes at a rate; each call has rows of its own to mark its transactions. */
function newWriters({ settings }: Bench, rate: number) {
  const pool = connect(settings.source, 'bench writers', WRITERS);
  const room = Math.ceil((rate * SECONDS) / 10) + 100;
  let next = KEYS + 1;
  const write = async (seconds: number, hot?: { readonly keys: number; readonly rate: number }): Promise<Traffic> => {
    const firstMarker = next;
    next += room;
    const each = (hot?.rate ?? rate) / WRITERS;
    const written = await Promise.all(
      Array.from(
        { length: WRITERS },
        (_, writer) => pool<{ p_changes: number }[]>`
        call bench.write(${writer}, ${WRITERS}, ${each}, ${seconds}, ${hot?.keys ?? KEYS}, ${firstMarker}, ${hot !== undefined}, 0)`,
      ),
    );
    return { changes: written.reduce((sum, [row]) => sum + Number(row?.p_changes), 0), firstMarker };
  };
  return { write, orders: KEYS + WINDOWS * room, end: () => pool.end() };
}

type Pids = Readonly<Record<string, readonly number[]>>;

/** How much of a processor each kind of process took while something was done, in microseconds. */
async function whileCounting(pids: Pids, work: () => Promise<void>): Promise<Record<string, number>> {
  const now = async () => Promise.all(Object.values(pids).map((each) => processorTimes(each)));
  const before = await now();
  await work();
  const after = await now();
  return Object.fromEntries(Object.keys(pids).map((name, place) => [name, (after[place] ?? 0) - (before[place] ?? 0)]));
}

async function until(isSo: () => Promise<boolean>): Promise<void> {
  while (!(await isSo())) await sleep(100);
}

async function commits({ source }: Bench, { firstMarker }: Traffic): Promise<string> {
  const [row] = await source<{ commits: string }[]>`select bench.commits(${firstMarker})::text as commits`;
  return row?.commits ?? '[]';
}

/** @param arrived the rows that mark transactions, where they have arrived: id, and when */
async function latencyOf(database: Database, committed: string, arrived: string): Promise<Latency> {
  const [row] = await database.unsafe<Latency[]>(
    `with arrival as (
      select c.committed_at, a.arrived_at
      from json_to_recordset($1::text::json) as c (id integer, committed_at timestamptz)
      join (${arrived}) as a on a.id = c.id
    ),
    latency as (
      select a.*, extract(epoch from a.arrived_at - a.committed_at)::float8 * 1000 as ms from arrival as a
    )
    select percentile_cont(0.5) within group (order by l.ms) as p50, percentile_cont(0.99) within group (order by l.ms) as p99,
      max(l.ms) as max, extract(epoch from max(l.arrived_at) - min(l.committed_at))::float8 as seconds
    from latency as l`,
    [committed],
  );
  if (row === undefined) throw new Error('nothing arrived');
  return row;
}

/** Tidemark's reader and loader as a user runs it; it must be built. */
function startReader(settings: Settings) {
  const child = spawn(...commandOf(settings, ['stream', '--watch', '--load']));
  const [faults, kilobytes] = [child.stdio[2], child.stdio[3]].map((stream) => text(stream as Readable));
  const closed = once(child, 'close') as Promise<[number | null]>;
  const failed = closed.then(async ([code]) => {
    throw new Error(`tidemark stream ended with ${String(code)}: ${(await faults) ?? ''}`);
  });
  failed.catch(() => undefined);
  /** Ends it. @returns the most memory it had, in megabytes */
  const end = async () => {
    child.kill('SIGTERM');
    await closed;
    return Number(await kilobytes) / 1024;
  };
  return { pid: child.pid ?? 0, failed, end };
}

const pidsOf = async (database: Database, query: string): Promise<number[]> =>
  (await database.unsafe<{ pid: number }[]>(query)).map(({ pid }) => pid);

const senderOf = (source: Database, application: string): Promise<number[]> =>
  pidsOf(source, `select pid from pg_stat_replication where application_name = '${application}'`);

/** Orders with a history, captured from the log; a second history of them stays with polling. */
async function prepare(bench: Bench, orders: number): Promise<void> {
  const { source, warehouse, settings } = bench;
  await source`truncate public.orders restart identity`;
  await source.file(new URL('./sql/traffic.sql', import.meta.url).pathname).simple();
  await addOrders(bench, orders);
  await warehouse`select bench.register_copy('orders_polled')`;
  await captureTable(settings, 'orders', 'log');
  await loadTables({ settings, tables: ['orders'] });
  await warehouse`vacuum analyze public.dim_orders_history`;
}

interface Measured {
  readonly traffic: Traffic;
  readonly latency: Latency;
  /** Microseconds a change, by process. */
  readonly micros: Readonly<Record<string, number>>;
}

/** Writes for a while, unmeasured; then several times, each until all has arrived. */
async function measure(
  bench: Bench,
  write: (seconds: number) => Promise<Traffic>,
  arrival: {
    readonly database: Database;
    readonly rows: string;
    readonly pids: () => Promise<Pids>;
    readonly hasAll: (traffic: Traffic) => Promise<boolean>;
  },
): Promise<Measured[]> {
  const warm = await write(WARM_SECONDS);
  await until(() => arrival.hasAll(warm));
  const measured: Measured[] = [];
  for (let run = 0; run < RUNS; run += 1) {
    let traffic = warm;
    const spent = await whileCounting(await arrival.pids(), async () => {
      traffic = await write(SECONDS);
      await until(() => arrival.hasAll(traffic));
    });
    const latency = await latencyOf(arrival.database, await commits(bench, traffic), arrival.rows);
    const micros = Object.entries(spent).map(([name, time]) => [name, time / traffic.changes] as const);
    measured.push({ traffic, latency, micros: Object.fromEntries(micros) });
  }
  return measured;
}

const MARKED_VERSIONS =
  'select order_key as id, pg_xact_commit_timestamp(xmin) as arrived_at from public.dim_orders_history where is_current';
/** A subscription gives its transactions the times of those at the source, so a trigger notes when a row that marks one was written. */
const MARKED_COPIES = 'select id, arrived_at from public.orders';
const NOTE_ARRIVAL = `
  alter table public.orders add column arrived_at timestamptz;
  create function public.note_arrival() returns trigger language plpgsql as 'begin new.arrived_at := clock_timestamp(); return new; end';
  create trigger note_arrival before update on public.orders for each row when (new.id > ${String(KEYS)}) execute function public.note_arrival();
  alter table public.orders enable always trigger note_arrival`;

/** Whether every transaction of the writers has arrived among these rows; those of the same moment as their beginning are none of them. */
async function hasArrived(bench: Bench, database: Database, rows: string, { firstMarker }: Traffic): Promise<boolean> {
  const [committed] = await bench.source<{ all: number }[]>`
    select count(*)::integer as all from public.orders as o where o.id >= ${firstMarker} and o.last_updated > o.created_at`;
  const [arrived] = await database.unsafe<{ all: number }[]>(rows, [firstMarker]);
  return committed !== undefined && committed.all === arrived?.all;
}

async function measureLog(
  bench: Bench,
  write: (seconds: number) => Promise<Traffic>,
  reader: ReturnType<typeof startReader>,
): Promise<Measured[]> {
  const { source, warehouse } = bench;
  await Promise.race([until(async () => (await senderOf(source, 'tidemark stream')).length > 0), reader.failed]);
  const arrived =
    'select count(*)::integer as all from public.dim_orders_history where order_key >= $1 and is_current and valid_from > order_date';
  const pids = async () => ({
    Node: [reader.pid],
    walsender: await senderOf(source, 'tidemark stream'),
    warehouse: await pidsOf(
      warehouse,
      "select pid from pg_stat_activity where datname = current_database() and application_name ~ '^tidemark (?!bench)'",
    ),
  });
  const hasAll = (traffic: Traffic) => hasArrived(bench, warehouse, arrived, traffic);
  const arrival = { database: warehouse, rows: MARKED_VERSIONS, pids, hasAll };
  return Promise.race([measure(bench, write, arrival), reader.failed]);
}

/** A subscription of the same table, into a database of its own. */
async function measureNative(bench: Bench, write: (seconds: number) => Promise<Traffic>): Promise<Measured[]> {
  const { source, settings } = bench;
  const { host, port, user, password, database } = settings.source;
  await source.unsafe(`create database ${NATIVE}`);
  const copied = { ...settings.source, database: NATIVE };
  await runMigrations(copied, DEMO_SOURCE);
  const copy = connect(copied, 'bench copy');
  try {
    await copy.unsafe(NOTE_ARRIVAL);
    await source.unsafe(`create publication ${NATIVE} for table public.orders`);
    // Not by the subscription: it would wait for itself, being of the same server.
    await source`select pg_create_logical_replication_slot(${NATIVE}, 'pgoutput')`;
    const place = `host=${host} port=${String(port)} user=${user} password=${password} dbname=${database}`;
    await copy.unsafe(
      `create subscription ${NATIVE} connection '${place}' publication ${NATIVE} with (create_slot = false)`,
    );
    await until(async () => (await copy`select from pg_subscription_rel where srsubstate <> 'r'`).length === 0);
    const arrived = 'select count(*)::integer as all from public.orders where id >= $1 and last_updated > created_at';
    const pids = async () => ({
      walsender: await senderOf(source, NATIVE),
      'apply worker': await pidsOf(copy, 'select pid from pg_stat_subscription where relid is null'),
    });
    const hasAll = (traffic: Traffic) => hasArrived(bench, copy, arrived, traffic);
    return await measure(bench, write, { database: copy, rows: MARKED_COPIES, pids, hasAll });
  } finally {
    await copy.end();
  }
}

/** States of a hot set of rows that the writers say they committed, and how many of them each way of capture has not. */
async function missedStates(
  { source, warehouse, settings }: Bench,
  write: (seconds: number, hot: { readonly keys: number; readonly rate: number }) => Promise<Traffic>,
): Promise<{ committed: number; by_poll: number; by_log: number }> {
  const { cdc_extraction_interval_seconds: interval } = settings;
  const look = () => extractTables({ settings, tables: ['orders_polled'] });
  await look();
  const writing = write(interval * LOOKS, { keys: HOT_KEYS, rate: HOT_RATE });
  for (let looks = 1; looks < LOOKS; looks += 1) {
    await sleep(interval * 1000);
    await look();
  }
  const { changes } = await writing;
  await look();
  await loadTables({ settings, tables: ['orders_polled'] });
  const [states] = await source<{ all: string }[]>`select json_agg(s.*)::text as all from bench.states as s`;
  const missing = async () => {
    const [row] = await warehouse<{ committed: number; by_poll: number; by_log: number }[]>`
      select count(*)::integer as committed,
        count(*) filter (where not exists (
          select from public.dim_orders_polled_history as h where h.order_key = s.order_id and h.valid_from = s.last_updated
        ))::integer as by_poll,
        count(*) filter (where not exists (
          select from public.dim_orders_history as h where h.order_key = s.order_id and h.valid_from = s.last_updated
        ))::integer as by_log
      from json_to_recordset(${states?.all ?? '[]'}::text::json) as s (order_id integer, last_updated timestamp)`;
    if (row?.committed !== changes) throw new Error('the writers did not keep every state');
    return row;
  };
  // The log needs no look, but a moment.
  await sleep(1000);
  return missing();
}

const sumOf = (micros: Readonly<Record<string, number>>) => Object.values(micros).reduce((sum, each) => sum + each, 0);

/** How many changes a batch of what was measured had. */
async function changesABatch({ warehouse }: Bench): Promise<number> {
  const [row] = await warehouse<{ mean: number }[]>`
    select avg(b.change_count)::float8 as mean from tidemark.batches as b where b.dimension_name = 'orders' and b.is_logged`;
  return row?.mean ?? Number.NaN;
}

const parts = (id: string, whose: string, all: readonly Measured[]): Figure[] =>
  Object.keys(all[0]?.micros ?? {}).map((name) =>
    figure({
      id: `${id}_${name.replaceAll(' ', '_')}`,
      name: `${whose}: processor time, ${name}`,
      unit: 'us a change',
      values: all.map(({ micros }) => micros[name] ?? Number.NaN),
    }),
  );

function figuresOf(rate: number, log: readonly Measured[], native: readonly Measured[], megabytes: number): Figure[] {
  const isFast = rate >= TARGETS.fast;
  const at = `at ${rate.toLocaleString('en')} a second`;
  const id = (name: string) => `${name}_${String(rate / 1000)}k`;
  const of = (what: Omit<Row, 'values'>, all: readonly Measured[], value: (one: Measured) => number) =>
    figure({ ...what, id: id(what.id), values: all.map(value) });
  const applied = ({ traffic, latency }: Measured) => traffic.changes / latency.seconds / (traffic.changes / SECONDS);
  const log50 = { id: 'log_p50', name: `log capture ${at}: commit to queryable, p50`, unit: 'ms' };
  const log99 = { ...log50, id: 'log_p99', name: `log capture ${at}: commit to queryable, p99` };
  const time = { id: 'log_time', name: `log capture ${at}: processor time, all`, unit: 'us a change' };
  const all = { id: 'log_applied', name: `log capture ${at}: applied`, unit: 'x generated' };
  /** The row of a native subscription, which is the floor of the same row of the log. */
  const floor = ({ id: of, unit }: Pick<Row, 'id' | 'unit'>, name: string) => {
    const of_native = `a native subscription ${at}: ${name}`;
    return { id: of.replace('log', 'native'), floor_of: id(of), name: of_native, unit };
  };
  return [
    of({ ...all, target: atLeast(0.95) }, log, applied),
    of(floor(all, 'applied'), native, applied),
    of({ ...log50, ...(isFast ? {} : { target: atMost(TARGETS.p50) }) }, log, ({ latency }) => latency.p50),
    of(floor(log50, 'p50'), native, ({ latency }) => latency.p50),
    of({ ...log99, target: atMost(isFast ? TARGETS.fastP99 : TARGETS.p99) }, log, ({ latency }) => latency.p99),
    of(floor(log99, 'p99'), native, ({ latency }) => latency.p99),
    of({ ...time, target: atMost(TARGETS.micros) }, log, ({ micros }) => sumOf(micros)),
    of(floor(time, 'processor time, all'), native, ({ micros }) => sumOf(micros)),
    ...parts(id('log'), `log capture ${at}`, log),
    ...parts(id('native'), `a native subscription ${at}`, native),
    figure({
      id: id('log_memory'),
      name: `log capture ${at}: most memory of the runner`,
      unit: 'MB',
      values: [megabytes],
      target: atMost(MOST_MEGABYTES),
    }),
  ];
}

/** The way of a change from commit to history, at so many changes a second; needs a server of the bench's own. */
export async function streamAtRate(bench: Bench, rate: number, say: Say): Promise<Figure[]> {
  const writers = newWriters(bench, rate);
  let reader: ReturnType<typeof startReader> | undefined;
  try {
    say(`${String(writers.orders)} orders, captured from the log`);
    await prepare(bench, writers.orders);
    reader = startReader(bench.settings);
    say(`capture from the log at ${String(rate)} changes a second`);
    const log = await measureLog(bench, writers.write, reader);
    const batch = await changesABatch(bench);
    say('states that polling and the log miss');
    const states = await missedStates(bench, writers.write);
    const megabytes = await reader.end();
    say('the same traffic to a native subscription');
    const native = await measureNative(bench, writers.write);
    const at = `at ${rate.toLocaleString('en')} a second`;
    const missed = (by: string, count: number, target?: Target) =>
      figure({
        id: `missed_${by}_${String(rate / 1000)}k`,
        name: `of ${String(states.committed)} states of rows that change every other second, missed by ${by}`,
        unit: 'states',
        values: [count],
        target,
      });
    return [
      ...figuresOf(rate, log, native, megabytes),
      figure({
        id: `log_batch_${String(rate / 1000)}k`,
        name: `log capture ${at}: a batch`,
        unit: 'changes',
        values: [batch],
      }),
      missed('the log', states.by_log, atMost(0)),
      missed('polling', states.by_poll),
    ];
  } finally {
    // Without its server it would try for ever.
    await reader?.end();
    await writers.end();
  }
}
