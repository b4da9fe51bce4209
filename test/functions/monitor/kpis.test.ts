// Runs once: what a version of PostgreSQL may change of it is tested elsewhere.
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { PROJECT_ROOT } from '../../../runner/base/settings.js';
import type { Transaction } from '../../../runner/base/database.js';
import { createWarehouseDatabase, type TestDatabase } from '../../support/databases.js';
import { registerDimension } from '../../support/dimensions.js';
import { empty, rolledBack } from '../../support/batches.js';

/** All tests look from the same moment. */
const NOW = '2026-02-01 12:00:00+00';

let warehouse: TestDatabase;
beforeAll(async () => {
  warehouse = await createWarehouseDatabase();
  await registerDimension(warehouse.sql, 'payments', 'payments', [
    { source: 'id', type: 'integer', role: 'business key' },
    { source: 'amount', type: 'numeric', role: 'tracked' },
    { source: 'paid_at', type: 'timestamptz', role: 'effective time' },
  ]);
});
afterEach(async () => {
  await empty(warehouse.sql);
});
afterAll(async () => {
  await warehouse.drop();
});

interface Seed {
  readonly table?: string;
  readonly changes?: number;
  readonly seconds?: number;
  readonly applied: string;
  readonly highWatermark?: string;
  readonly absorbed?: readonly string[];
  readonly extracted?: string;
}

let sequence = 0;
/** A batch in the ledger that took so many seconds, with changes absorbed for those reasons. */
async function applied(
  sql: Transaction,
  { table = 'orders', changes = 10, seconds = 1, applied: at, highWatermark, absorbed = [], extracted = at }: Seed,
): Promise<void> {
  const name = `batch ${String(++sequence)}`;
  const metadata = highWatermark === undefined ? {} : { high_watermark: { time: highWatermark, key: ['1'] } };
  await sql`
    insert into tidemark.batches (dimension_name, batch_id, sequence, extracted_at, least_captured_at, greatest_captured_at, change_count, checksum, metadata, inserted_versions, closed_versions, absorbed_changes, apply_started_at, applied_at)
    values (${table}, ${name}, ${sequence}, ${`2026-02-01 ${extracted}+00`}, ${`2026-02-01 ${extracted}+00`}, ${`2026-02-01 ${extracted}+00`}, ${changes}, 'c', ${JSON.stringify(metadata)}::text::json, ${changes - absorbed.length}, 0, ${absorbed.length},
      ${`2026-02-01 ${at}+00`}::timestamptz - make_interval(secs => ${seconds}), ${`2026-02-01 ${at}+00`})`;
  for (const [line, reason] of absorbed.entries())
    await sql`insert into tidemark.absorbed_changes (dimension_name, shard, batch_id, change_line, business_key, cdc_operation, cdc_timestamp, captured_at, reason, change)
      values (${table}, '', ${name}, ${line + 1}, '{}', 'UPDATE', now(), now(), ${reason}, '{}')`;
}

/** What a run reported when it was last heard of. */
async function reported(
  sql: Transaction,
  pipeline: 'extract' | 'load',
  at: string,
  metrics: object,
  status = 'running',
): Promise<void> {
  const moment = `2026-02-01 ${at}`;
  await sql`
    insert into public.pipeline_metadata (pipeline_name, run_id, start_time, end_time, status, performance_metrics, updated_at)
    values (${pipeline}, ${`run ${String(++sequence)}`}, ${moment}, ${status === 'running' ? null : moment}, ${status}, ${JSON.stringify(metrics)}::text::jsonb, ${moment})`;
}

type Row = Record<string, unknown>;
async function kpis(sql: Transaction, window = '1 hour'): Promise<Record<string, Row>> {
  const rows = await sql<(Row & { dimension_name: string | null })[]>`select * from tidemark.kpis(${window}, ${NOW})`;
  return Object.fromEntries(rows.map((row) => [row.dimension_name ?? 'all', row]));
}

const inTransaction = <T>(work: (sql: Transaction) => Promise<T>) => rolledBack(warehouse.sql, work);

describe('tidemark.kpis', () => {
  test('has a row of every dimension and one of all together, before anything was loaded', async () => {
    const rows = await inTransaction((sql) => kpis(sql));
    expect(Object.keys(rows)).toEqual(['customers', 'orders', 'payments', 'products', 'all']);
    expect(rows.all).toMatchObject({
      batches: '0',
      changes: '0',
      records_processed_per_second: null,
      batch_processing_time_p95: null,
      end_to_end_latency_p99: null,
      watermark_lag_seconds: null,
      duplicate_rate: null,
      missing_change_rate: null,
      rejected_changes: '0',
      pending_batches: null,
    });
  });

  test('counts the batches of the window alone, of each dimension and of all', async () => {
    const rows = await inTransaction(async (sql) => {
      await applied(sql, { applied: '10:59:59', changes: 1000 });
      await applied(sql, { applied: '11:30', changes: 30, seconds: 2 });
      await applied(sql, { applied: '11:40', changes: 10, seconds: 8 });
      await applied(sql, { table: 'payments', applied: '11:50', changes: 60, seconds: 10 });
      await applied(sql, { applied: '12:00:01', changes: 1000 });
      return kpis(sql);
    });
    expect(rows.orders).toMatchObject({ batches: '2', changes: '40', records_processed_per_second: 4 });
    expect(rows.payments).toMatchObject({ batches: '1', changes: '60', records_processed_per_second: 6 });
    expect(rows.all).toMatchObject({ batches: '3', changes: '100', records_processed_per_second: 5 });
  });

  test('gives percentiles of the time batches took', async () => {
    const rows = await inTransaction(async (sql) => {
      for (let seconds = 1; seconds <= 101; seconds += 1) await applied(sql, { applied: '11:30', seconds });
      return kpis(sql);
    });
    expect(rows.orders).toMatchObject({
      batch_processing_time_p50: 51,
      batch_processing_time_p95: 96,
      batch_processing_time_p99: 100,
    });
  });

  test('measures latency from the effective time, in the zone of the source where it has none', async () => {
    const rows = await inTransaction(async (sql) => {
      await sql`update tidemark.dimensions set source_time_zone = 'Europe/Berlin' where dimension_name = 'orders'`;
      await applied(sql, { applied: '11:30:00', highWatermark: '2026-02-01T12:29:50' });
      await applied(sql, { table: 'payments', applied: '11:30:00', highWatermark: '2026-02-01 11:29:30+00' });
      return kpis(sql);
    });
    expect(rows.orders).toMatchObject({ end_to_end_latency_p50: 10, end_to_end_latency_p99: 10 });
    expect(rows.payments).toMatchObject({ end_to_end_latency_p50: 30 });
    expect(rows.all).toMatchObject({ end_to_end_latency_p50: 20 });
  });

  test.each(['infinity', 'some time', '2026-02-01T', ''])(
    'leaves a time that is no instant out: %s',
    async (highWatermark) => {
      const rows = await inTransaction(async (sql) => {
        await applied(sql, { applied: '11:30', highWatermark });
        return kpis(sql);
      });
      expect(rows.orders).toMatchObject({ batches: '1', end_to_end_latency_p50: null });
    },
  );

  test('counts as duplicates the changes that said nothing new, not deletes', async () => {
    const rows = await inTransaction(async (sql) => {
      await applied(sql, {
        applied: '11:30',
        changes: 8,
        absorbed: ['unchanged', 'delete', 'unchanged', 'nothing to delete'],
      });
      await applied(sql, { table: 'payments', applied: '11:30', changes: 8, absorbed: [] });
      return kpis(sql);
    });
    expect([rows.orders?.duplicate_rate, rows.payments?.duplicate_rate, rows.all?.duplicate_rate]).toEqual([
      0.25, 0, 0.125,
    ]);
  });

  test('counts rejected changes whatever the window', async () => {
    const rows = await inTransaction(async (sql) => {
      await applied(sql, { applied: '08:00' });
      await sql`insert into tidemark.rejected_changes (dimension_name, shard, batch_id, change_line, reason, change, rejected_at) values ('orders', '', ${`batch ${String(sequence)}`}, 1, 'r', '{}', now())`;
      return kpis(sql);
    });
    expect([rows.orders?.rejected_changes, rows.payments?.rejected_changes, rows.all?.rejected_changes]).toEqual([
      '1',
      '0',
      '1',
    ]);
  });

  test('takes what is missing, and was not repaired, from the newest reconciliation', async () => {
    const rows = await inTransaction(async (sql) => {
      await sql`select tidemark.note_reconciliation('orders', 100, 50, 0, 0, 50, '2026-02-01 10:00+00')`;
      await sql`select tidemark.note_reconciliation('orders', 100, 1, 2, 3, 1, '2026-02-01 11:00+00')`;
      await sql`select tidemark.note_reconciliation('orders', 100, 99, 1, 3, 0, '2026-02-01 11:00+00')`;
      return kpis(sql);
    });
    expect([
      rows.orders?.missing_change_rate,
      rows.payments?.missing_change_rate,
      rows.all?.missing_change_rate,
    ]).toEqual([0.05, null, 0.05]);
  });

  test('says what waits as the run that looked last saw it', async () => {
    const rows = await inTransaction(async (sql) => {
      await reported(sql, 'load', '11:50', { pending_batches: { orders: 9, payments: 2 } });
      await reported(sql, 'extract', '11:55', { pending_batches: { orders: 3 } }, 'failed');
      return kpis(sql);
    });
    expect([rows.orders?.pending_batches, rows.payments?.pending_batches, rows.all?.pending_batches]).toEqual([
      '3',
      '2',
      '5',
    ]);
  });
});

describe('watermark_lag_seconds, as tidemark.table_progress has it', () => {
  const lag = async (work: (sql: Transaction) => Promise<unknown>) =>
    inTransaction(async (sql) => {
      await work(sql);
      return (await kpis(sql)).orders?.watermark_lag_seconds;
    });

  test('is the age of the last poll while no batch waits', async () => {
    expect(
      await lag(async (sql) => {
        await applied(sql, { applied: '11:00', extracted: '10:59' });
        await reported(sql, 'extract', '11:59:50', {
          table_success: { orders: '2026-02-01T11:59:48Z' },
          pending_batches: { orders: 0 },
        });
      }),
    ).toBe(12);
  });

  test('is the age of the newest batch that was applied while others wait, however fresh the poll', async () => {
    expect(
      await lag(async (sql) => {
        await applied(sql, { applied: '11:58', extracted: '11:50' });
        await reported(sql, 'extract', '11:59:50', {
          table_success: { orders: '2026-02-01T11:59:48Z' },
          pending_batches: { orders: 4 },
        });
      }),
    ).toBe(600);
  });

  test('comes from the ledger where no run has reported within a day', async () => {
    expect(
      await lag(async (sql) => {
        await applied(sql, { applied: '11:58', extracted: '11:50' });
        await sql`insert into public.pipeline_metadata (pipeline_name, run_id, start_time, status, performance_metrics, updated_at)
        values ('extract', 'old', '2026-01-01', 'running', '{"table_success": {"orders": "2026-02-01T11:59:59Z"}}', '2026-01-31 11:59')`;
      }),
    ).toBe(600);
  });

  test('of a table that is extracted by shards is that of the shard polled least recently, whatever the others do', async () => {
    const shards = (...polls: [string, string][]) =>
      lag(async (sql) => {
        await sql`update tidemark.dimensions set registered_at = '2026-02-01 11:00:00Z'`;
        await applied(sql, { applied: '11:59', extracted: '11:59' });
        await reported(sql, 'extract', '11:40', { table_success: { orders: '2026-02-01T11:40:00Z' } });
        for (const [shard, at] of polls)
          await reported(sql, 'extract', at, {
            shard,
            table_success: { orders: `2026-02-01T${at}:00Z` },
            pending_batches: { orders: 0 },
          });
      });
    expect(await shards(['1-of-2', '11:58'], ['2-of-2', '11:50'], ['3-of-3', '11:45'])).toBe(600);
    // Of a shard that nobody has polled nobody knows: it counts from the registration.
    expect(await shards(['1-of-2', '11:58'])).toBe(3600);
  });

  test('is never negative, whoever’s clock is ahead', async () => {
    expect(
      await lag(async (sql) => {
        await applied(sql, { applied: '12:00', extracted: '12:05' });
      }),
    ).toBe(0);
  });
});

test('tidemark.effective_time knows a zone from the last part of a date', async () => {
  const [row] = await warehouse.sql`
    select tidemark.effective_time('2026-02-01', 'UTC') as day, tidemark.effective_time('2026-02-01T09:00:00.5', 'Asia/Tokyo') as local,
      tidemark.effective_time('2026-02-01 09:00:00+05:30', 'Asia/Tokyo') as zoned, tidemark.effective_time('2026-02-01T09:00:00Z', 'Asia/Tokyo') as utc`;
  expect(row).toEqual({
    day: '2026-02-01 00:00:00+00',
    local: '2026-02-01 00:00:00.5+00',
    zoned: '2026-02-01 03:30:00+00',
    utc: '2026-02-01 09:00:00+00',
  });
});

test('of a year of batches and comparisons, indicators, alerts and status read those of the window, and the newest, alone', async () => {
  const read = await inTransaction(async (sql) => {
    await sql`insert into tidemark.batches (dimension_name, batch_id, sequence, extracted_at, least_captured_at, greatest_captured_at, change_count, previous_checksum, checksum, metadata, inserted_versions, closed_versions, absorbed_changes, apply_started_at, applied_at)
      select 'orders', 'b' || n, 50001 - n, m, m, m, 1, 'c', 'c', '{}', 1, 0, 0, m, m from generate_series(1, 50000) as n, lateral (select ${NOW}::timestamptz - n * interval '10 minutes' as m) as t`;
    await sql`insert into tidemark.reconciliations select 'orders', ${NOW}::timestamptz - n * interval '15 minutes', 1000, 0, 0, 0, 0 from generate_series(1, 35000) as n`;
    await sql`analyze tidemark.batches, tidemark.reconciliations`;
    const rowsRead = async () => {
      const [row] = await sql<[{ n: string }]>`
        select sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) as n from pg_stat_xact_user_tables where relid in ('tidemark.batches'::regclass, 'tidemark.reconciliations'::regclass)`;
      return Number(row.n);
    };
    const before = await rowsRead();
    const found = await sql`select batches from tidemark.kpis('1 hour', ${NOW}) where dimension_name = 'orders'`;
    const alerts = await sql`select rule_name from tidemark.alerts('1 hour', ${NOW})`;
    const [status] = await sql`select last_batch from tidemark.dimension_status() where dimension_name = 'orders'`;
    return {
      batches: (found[0] as { batches: string }).batches,
      alerts: alerts.length,
      last: status?.last_batch as string,
      rows: (await rowsRead()) - before,
    };
  });
  expect(read).toMatchObject({ batches: '5', alerts: 0, last: 'b1' });
  expect(read.rows).toBeGreaterThan(5);
  expect(read.rows).toBeLessThan(100);
});

test('every column of the indicators is described, in the database and in docs/operations.md', async () => {
  const columns = await warehouse.sql<{ name: string; comment: string | null }[]>`
    select a.attname as name, col_description(a.attrelid, a.attnum) as comment from pg_attribute as a
    where a.attrelid in ('tidemark.kpis'::regclass, 'tidemark.resource_kpis'::regclass, 'tidemark.connection_kpis'::regclass) and a.attnum > 0`;
  const docs = await readFile(path.join(PROJECT_ROOT, 'docs', 'operations.md'), 'utf8');
  expect(columns.length).toBeGreaterThan(30);
  expect(
    columns.filter(({ name, comment }) => comment === null || !docs.includes(`\`${name}\``)).map(({ name }) => name),
  ).toEqual([]);
});

test('the view shows the window that tidemark.monitoring sets', async () => {
  const spans = await inTransaction(async (sql) => {
    await sql`update tidemark.monitoring set kpi_window = '2 hours'`;
    return sql`select distinct window_end - window_start as span, abs(extract(epoch from clock_timestamp() - window_end)) < 600 as is_now from tidemark.kpis`;
  });
  expect([...spans]).toEqual([{ span: '02:00:00', is_now: true }]);
});

test('tidemark.connection_kpis and tidemark.resource_kpis show what runs', async () => {
  const [pool] = await warehouse.sql`select * from tidemark.connection_kpis`;
  expect(Number(pool?.tidemark_connections)).toBeGreaterThan(0);
  expect(pool?.connection_pool_utilization).toBeCloseTo(Number(pool?.connections) / Number(pool?.connections_allowed));
  await inTransaction(async (sql) => {
    await sql`select tidemark.start_run('load', 'alive', 0, '{"host": "here", "process_id": 7, "cpu_utilization": 0.25, "memory_bytes": 1000, "disk_utilization": 0.5}')`;
    await reported(sql, 'load', '11:00', { host: 'gone', backend_pid: 0 });
    expect([
      ...(await sql`select pipeline_name, run_id, host, process_id, cpu_utilization, memory_bytes, disk_utilization, disk_free_bytes from tidemark.resource_kpis`),
    ]).toEqual([
      {
        pipeline_name: 'load',
        run_id: 'alive',
        host: 'here',
        process_id: 7,
        cpu_utilization: 0.25,
        memory_bytes: '1000',
        disk_utilization: 0.5,
        disk_free_bytes: null,
      },
    ]);
  });
});
