import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { Transaction } from '../../../runner/base/database.js';
import { createWarehouseDatabase, type TestDatabase } from '../../support/databases.js';
import { empty, rolledBack } from '../../support/batches.js';

const NOW = '2026-02-01 12:00:00+00';

let warehouse: TestDatabase;
beforeAll(async () => {
  warehouse = await createWarehouseDatabase();
});
afterEach(async () => {
  await empty(warehouse.sql);
});
afterAll(async () => {
  await warehouse.drop();
});

interface Found {
  readonly rule_name: string;
  readonly measured: number;
  readonly since: string | null;
  readonly condition: string;
  readonly severity: string;
  readonly subject: string | null;
  readonly dimension_name: string | null;
}

/** The alerts that are on after `seed`; in brief unless one is asked for in full. */
const alertsAfter = (seed: string): Promise<Found[]> =>
  rolledBack(warehouse.sql, async (sql) => {
    await sql.unsafe(seed);
    return [...(await look(sql))];
  });
const look = (sql: Transaction) => sql<Found[]>`select * from tidemark.alerts('1 hour', ${NOW})`;
const names = (found: readonly Found[]) => found.map(({ rule_name }) => rule_name);

const batch = ({
  name = 'b1',
  sequence = '1',
  previous = 'null',
  checksum = 'c1',
  seconds = 1,
  changes = 100,
  applied = '11:59',
  absorbed = 0,
  shard = '',
} = {}) => `
  insert into tidemark.batches (dimension_name, shard, batch_id, sequence, extracted_at, least_captured_at, greatest_captured_at, change_count, previous_checksum, checksum, metadata, inserted_versions, closed_versions, absorbed_changes, apply_started_at, applied_at)
  values ('orders', '${shard}', '${name}', ${sequence}, '2026-02-01 ${applied}+00', '2026-02-01 ${applied}+00', '2026-02-01 ${applied}+00', ${String(changes)}, ${previous}, '${checksum}', '{}', 0, 0, ${String(absorbed)},
    '2026-02-01 ${applied}+00'::timestamptz - interval '${String(seconds)} s', '2026-02-01 ${applied}+00');`;
const absorbed = (name: string, count: number) => `
  insert into tidemark.absorbed_changes select 'orders', '', '${name}', line, '{}', 'UPDATE', now(), now(), 'unchanged', null, '{}'
  from generate_series(1, ${String(count)}) as line;`;
const ALIVE = `(select jsonb_build_object('backend_pid', a.pid, 'backend_start', a.backend_start) from pg_stat_activity as a where a.pid = pg_backend_pid())`;
const run = (pipeline: string, metrics: object, status = 'running', at = '11:59') => `
  insert into public.pipeline_metadata (pipeline_name, run_id, start_time, end_time, status, performance_metrics, updated_at)
  select '${pipeline}', 'run ' || count(*), '2026-02-01 09:00', ${status === 'running' ? 'null' : `'2026-02-01 ${at}'`}, '${status}', ${ALIVE} || '${JSON.stringify(metrics)}', '2026-02-01 ${at}'
  from public.pipeline_metadata;`;
const polled = (time: string, interval: number | null = 10) => ({
  table_success: { orders: `2026-02-01T${time}Z` },
  pending_batches: { orders: 0 },
  ...(interval === null ? {} : { interval_seconds: interval }),
});

test('nothing is on before anything ran, nor while all is well', async () => {
  expect(await alertsAfter('')).toEqual([]);
  expect(
    await alertsAfter(
      batch() +
        batch({ name: 'b2', sequence: '4', previous: "'c1'", checksum: 'c4' }) +
        run('extract', polled('11:59:55')) +
        run('load', { interval_seconds: 10 }),
    ),
  ).toEqual([]);
});

describe('an alert is on above its threshold, and off again at it', () => {
  test('High Latency', async () => {
    const [alert] = await alertsAfter(batch({ seconds: 130, applied: '11:40' }));
    expect(alert).toMatchObject({
      rule_name: 'High Latency',
      dimension_name: 'orders',
      severity: 'warning',
      condition: 'batch_processing_time_p95 > 120s',
      measured: 130,
      since: '2026-02-01 11:40:00+00',
    });
    expect(await alertsAfter(batch({ seconds: 120 }))).toEqual([]);
    expect(await alertsAfter(batch({ seconds: 130, applied: '10:40' }))).toEqual([]);
  });

  test('Processing Backlog, while extraction is expected', async () => {
    const late = { ...polled('11:59:58'), pending_batches: { orders: 1 } };
    const [alert] = await alertsAfter(batch({ applied: '11:50' }) + run('extract', late));
    expect(alert).toMatchObject({
      rule_name: 'Processing Backlog',
      severity: 'critical',
      condition: 'watermark_lag_seconds > 300s',
      measured: 600,
      since: '2026-02-01 11:55:00+00',
    });
    expect(await alertsAfter(batch({ applied: '11:55' }) + run('extract', late))).toEqual([]);
    expect(names(await alertsAfter(run('extract', late) + run('load', { interval_seconds: 10 })))).toEqual([]);
    expect(
      await alertsAfter(
        batch({ applied: '11:50' }) + run('extract', { ...late, interval_seconds: undefined }, 'succeeded'),
      ),
    ).toEqual([]);
    expect(names(await alertsAfter(batch({ applied: '11:50' }) + run('extract', late, 'interrupted')))).toEqual([
      'Processing Backlog',
    ]);
  });

  test('High Duplicate Rate', async () => {
    const [alert] = await alertsAfter(
      batch({ changes: 10_000, absorbed: 100, applied: '11:40' }) + absorbed('b1', 100),
    );
    expect(alert).toMatchObject({
      rule_name: 'High Duplicate Rate',
      measured: 0.01,
      condition: 'duplicate_rate > 0.0001',
      since: '2026-02-01 11:40:00+00',
    });
    expect(await alertsAfter(batch({ changes: 1_000_000, absorbed: 100 }) + absorbed('b1', 100))).toEqual([]);
  });

  test('High Duplicate Rate, of enough changes: one of five, or 99 of a hundred, are a small table', async () => {
    expect(await alertsAfter(batch({ changes: 5, absorbed: 1 }) + absorbed('b1', 1))).toEqual([]);
    expect(await alertsAfter(batch({ changes: 100, absorbed: 99 }) + absorbed('b1', 99))).toEqual([]);
    const some = "update tidemark.alert_rules set least_changes = 1 where rule_name = 'High Duplicate Rate';";
    expect(names(await alertsAfter(some + batch({ changes: 5, absorbed: 1 }) + absorbed('b1', 1)))).toEqual([
      'High Duplicate Rate',
    ]);
  });

  test('Missing Changes', async () => {
    const compared = (missing: number, at: string, repaired = 0) =>
      `select tidemark.note_reconciliation('orders', 1000, ${String(missing)}, 0, 0, ${String(repaired)}, '2026-02-01 ${at}+00');`;
    const [alert] = await alertsAfter(compared(2, '10:00'));
    expect(alert).toMatchObject({ rule_name: 'Missing Changes', measured: 0.002, since: '2026-02-01 10:00:00+00' });
    expect(await alertsAfter(compared(2, '10:00') + compared(0, '11:00'))).toEqual([]);
    expect(await alertsAfter(compared(2, '10:00', 2))).toEqual([]);
    expect(await alertsAfter(compared(2, '10:00', 1))).toMatchObject([{ measured: 0.001 }]);
  });

  test('Rejected Changes', async () => {
    const [alert] =
      await alertsAfter(`${batch()} insert into tidemark.rejected_changes (dimension_name, shard, batch_id, change_line, reason, change, rejected_at)
      values ('orders', '', 'b1', 1, 'r', '{}', '2026-02-01 09:30+00'), ('orders', '', 'b1', 2, 'r', '{}', '2026-02-01 09:40+00')`);
    expect(alert).toMatchObject({
      rule_name: 'Rejected Changes',
      measured: 2,
      condition: 'rejected_changes > 0 changes',
      since: '2026-02-01 09:30:00+00',
    });
  });

  test('Table Failing, since its first failure, and off when the next round succeeds', async () => {
    const failed = {
      table_errors: { orders: { at: '2026-02-01T11:59:00Z', since: '2026-02-01T11:30:00Z', error: 'a bad file' } },
    };
    const [alert] = await alertsAfter(run('load', failed));
    expect(alert).toMatchObject({
      rule_name: 'Table Failing',
      dimension_name: 'orders',
      measured: 1,
      since: '2026-02-01 11:30:00+00',
      subject: 'load',
    });
    expect(await alertsAfter(run('load', { table_errors: {} }))).toEqual([]);
    expect(await alertsAfter(run('load', failed, 'failed'))).toEqual([]);
  });

  test('No Recent Batch, counted in the extractor’s own intervals', async () => {
    const [alert] = await alertsAfter(run('extract', polled('11:57:00', 20)));
    expect(alert).toMatchObject({
      rule_name: 'No Recent Batch',
      measured: 9,
      condition: 'intervals_without_poll > 6 intervals',
      since: '2026-02-01 11:57:00+00',
    });
    expect(await alertsAfter(run('extract', polled('11:57:00', 30)))).toEqual([]);
    expect(await alertsAfter(run('extract', polled('11:57:00', null)))).toEqual([]);
  });

  test('No Recent Batch, not while a single run by hand follows one that died', async () => {
    expect(names(await alertsAfter(run('extract', polled('11:57:00'), 'interrupted')))).toEqual(['No Recent Batch']);
    expect(
      await alertsAfter(
        run('extract', polled('11:57:00'), 'interrupted') + run('extract', polled('11:57:00', null), 'succeeded'),
      ),
    ).toEqual([]);
    expect(
      names(
        await alertsAfter(run('extract', polled('11:57:00')) + run('extract', polled('11:57:00', null), 'succeeded')),
      ),
    ).toEqual(['No Recent Batch']);
  });

  test('Gap In Chain', async () => {
    const second = batch({ name: 'b2', sequence: '2', previous: "'c1'", checksum: 'c2', applied: '11:30' });
    const [alert] = await alertsAfter(second);
    expect(alert).toMatchObject({
      rule_name: 'Gap In Chain',
      measured: 1,
      since: '2026-02-01 11:30:00+00',
      subject: 'b2',
    });
    expect(await alertsAfter(batch({ applied: '09:00' }) + second)).toEqual([]);
    expect(names(await alertsAfter(batch({ checksum: 'another' }) + second))).toEqual(['Gap In Chain']);
  });

  test('Gap In Chain, of each shard for itself', async () => {
    const first = (place: number) =>
      batch({ name: `b1_${String(place)}-of-2`, shard: `${String(place)}-of-2`, checksum: `c1 of ${String(place)}` });
    const second = (place: number, previous: string) =>
      batch({
        name: `b2_${String(place)}-of-2`,
        shard: `${String(place)}-of-2`,
        sequence: '2',
        previous: `'${previous}'`,
        checksum: `c2 of ${String(place)}`,
      });
    expect(await alertsAfter(first(1) + first(2) + second(1, 'c1 of 1') + second(2, 'c1 of 2'))).toEqual([]);
    expect(await alertsAfter(first(1) + first(2) + second(1, 'c1 of 1') + second(2, 'c1 of 1'))).toMatchObject([
      { rule_name: 'Gap In Chain', measured: 1, subject: 'b2_2-of-2' },
    ]);
  });

  test('Check Violations, since the first failure in a row', async () => {
    const noted = (violations: number, at: string) =>
      `select tidemark.note_checks('[{"suite": "scd2", "check": "versions do not overlap", "violations": ${String(violations)}}]', '2026-02-01 ${at}+00');`;
    const [alert] = await alertsAfter(noted(1, '08:00') + noted(0, '09:00') + noted(3, '10:00') + noted(2, '11:00'));
    expect(alert).toMatchObject({
      rule_name: 'Check Violations',
      measured: 2,
      since: '2026-02-01 10:00:00+00',
      subject: 'scd2: versions do not overlap',
    });
    expect(await alertsAfter(noted(1, '08:00') + noted(0, '09:00'))).toEqual([]);
  });

  test('Disk Nearly Full', async () => {
    const [alert] = await alertsAfter(run('extract', { host: 'here', disk_utilization: 0.95 }));
    expect(alert).toMatchObject({
      rule_name: 'Disk Nearly Full',
      measured: 0.95,
      since: '2026-02-01 11:59:00+00',
      subject: 'extract on here',
    });
    expect(await alertsAfter(run('extract', { host: 'here', disk_utilization: 0.9 }))).toEqual([]);
  });

  test('Connections Nearly Used Up', async () => {
    const [alert] = await alertsAfter(
      "update tidemark.alert_rules set threshold = 0 where rule_name = 'Connections Nearly Used Up'",
    );
    expect(alert).toMatchObject({ rule_name: 'Connections Nearly Used Up', severity: 'warning' });
  });

  test('Slot Falls Behind, by what the source may keep for it', async () => {
    const note = (retained: number, safe: number | null) =>
      `select tidemark.note_slot('s', 'extended', '0/1', 1, ${String(retained)}, ${String(safe)});`;
    expect(await alertsAfter(note(51, 49))).toMatchObject([{ rule_name: 'Slot Falls Behind', subject: 's' }]);
    const [alert] = await alertsAfter(note(6 * 2 ** 30, null));
    expect(alert).toMatchObject({
      rule_name: 'Slot Falls Behind',
      severity: 'warning',
      condition: 'slot_retained_share > 0.5',
      measured: 0.6,
    });
    expect(await alertsAfter(note(50, 50) + note(5 * 2 ** 30, null))).toEqual([]);
  });

  test('Slot Lost, from when to when, while it is and for a window after', async () => {
    const note = (status: string, from: string, to: string) =>
      `select tidemark.note_slot('s', '${status}', null, null, null, null, ${from}, ${to});`;
    const [lost] = await alertsAfter(note('lost', "'2026-02-01 09:00+00'", 'null'));
    expect(lost).toMatchObject({
      rule_name: 'Slot Lost',
      severity: 'critical',
      since: '2026-02-01 09:00:00+00',
      subject: 's: states of rows are lost from 2026-02-01 09:00:00+00 on',
    });
    const replaced = note('reserved', "'2026-02-01 09:00+00'", "'2026-02-01 11:30+00'");
    expect(await alertsAfter(replaced)).toMatchObject([
      { subject: 's: states of rows are lost from 2026-02-01 09:00:00+00 to 2026-02-01 11:30:00+00' },
    ]);
    expect(names(await alertsAfter(replaced + note('reserved', 'null', 'null')))).toEqual(['Slot Lost']);
    expect(await alertsAfter(note('reserved', "'2026-02-01 09:00+00'", "'2026-02-01 10:30+00'"))).toEqual([]);
    expect(await alertsAfter(`${replaced} select tidemark.forget_slot('s');`)).toEqual([]);
  });

  test('Pipeline Stopped, for information, until something runs again', async () => {
    const stopped = run('load', { interval_seconds: 10 }, 'succeeded');
    const [alert] = await alertsAfter(stopped);
    expect(alert).toMatchObject({
      rule_name: 'Pipeline Stopped',
      severity: 'info',
      since: '2026-02-01 11:59:00+00',
      subject: 'load',
    });
    expect(await alertsAfter(stopped + run('load', {}, 'succeeded'))).toEqual([]);
  });
});

describe('a table that is paused', () => {
  const pause = "select tidemark.pause_dimension('orders', true);";
  const failing = {
    ...polled('11:50:00'),
    table_errors: { orders: { at: '2026-02-01T11:50:00Z', since: '2026-02-01T11:50:00Z', error: 'x' } },
  };
  const seed = `${batch({ applied: '11:50' })}${run('extract', { ...failing, pending_batches: { orders: 1 } })} select tidemark.note_reconciliation('orders', 1000, 2, 0, 0, 0, '2026-02-01 10:00+00');`;

  test('is not missed: no lag, no missed rounds, no failures, nothing missing', async () => {
    expect(names(await alertsAfter(seed)).sort()).toEqual([
      'Missing Changes',
      'No Recent Batch',
      'Processing Backlog',
      'Table Failing',
    ]);
    expect(await alertsAfter(seed + pause)).toEqual([]);
    expect(names(await alertsAfter(`${seed}${pause} select tidemark.pause_dimension('orders', false);`)).length).toBe(
      4,
    );
  });

  test('still has the alerts that its data gives reason for', async () => {
    expect(
      names(
        await alertsAfter(`${batch({ previous: "'lost'" })} insert into tidemark.rejected_changes (dimension_name, shard, batch_id, change_line, reason, change, rejected_at)
      values ('orders', '', 'b1', 1, 'r', '{}', '2026-02-01 09:30+00'); ${pause}`),
      ),
    ).toEqual(['Gap In Chain', 'Rejected Changes']);
  });

  test('that was removed is an alert of no run that remembers it', async () => {
    const gone = { table_errors: { gone: { at: '2026-02-01T11:59:00Z', since: '2026-02-01T11:30:00Z', error: 'x' } } };
    expect(await alertsAfter(run('load', gone))).toEqual([]);
  });
});

test('a subscription that refuses an event is stopped, and named until it goes on', async () => {
  const stopped =
    "select tidemark.subscribe('shop', 'webhook', 'https://shop.example/'); select tidemark.note_delivery_fault('shop', 'answers 422', 2);";
  expect((await alertsAfter(stopped))[0]).toMatchObject({
    rule_name: 'Events Failing',
    severity: 'warning',
    subject: 'shop: position 2: answers 422',
  });
  expect(await alertsAfter(`${stopped} select tidemark.pause_subscription('shop', false);`)).toEqual([]);
});

test('every rule is shown on', async () => {
  const rules = (await warehouse.sql<{ rule_name: string }[]>`select rule_name from tidemark.alert_rules`).map(
    ({ rule_name }) => rule_name,
  );
  const shown = [
    ...(await import('node:fs'))
      .readFileSync(new URL(import.meta.url), 'utf8')
      .matchAll(/toMatchObject\(\{\s*rule_name: '([^']+)'/g),
  ].map(([, name]) => name);
  expect([...new Set(shown)].sort()).toEqual(rules.sort());
});

test('thresholds, severities and rules themselves are changed by update', async () => {
  const latency =
    "update tidemark.alert_rules set severity = 'critical', threshold = 5 where rule_name = 'High Latency';";
  expect((await alertsAfter(batch({ seconds: 6 }) + latency))[0]).toMatchObject({
    rule_name: 'High Latency',
    severity: 'critical',
    condition: 'batch_processing_time_p95 > 5s',
  });
  expect(
    await alertsAfter(`${batch({ seconds: 6 }) + latency} update tidemark.alert_rules set is_enabled = false`),
  ).toEqual([]);
});

test('the gravest come first', async () => {
  const found = await alertsAfter(
    batch({ seconds: 130, previous: "'lost'" }) + run('load', { interval_seconds: 10 }, 'succeeded'),
  );
  expect(found.map(({ severity }) => severity)).toEqual(['critical', 'warning', 'info']);
});

describe('a table that is captured from the log', () => {
  const logged = (where = 'true') => `update tidemark.dimensions set capture = 'log' where ${where};`;
  const loadedUntil = (complete: string) =>
    `select tidemark.note_stream_position('s', '0/1', '2026-02-01 11:00+00', '{orders}', ${complete});`;

  test('is no older than its reader, however quiet it is, and nobody waits for it to be polled', async () => {
    const over = run('extract', polled('11:50')) + logged(`dimension_name = 'orders'`);
    expect(names(await alertsAfter(over + loadedUntil(`'2026-02-01 11:59:50+00'`)))).toEqual([]);
    expect(names(await alertsAfter(over + loadedUntil('null')))).toEqual(['Processing Backlog']);
  });

  test('is not as new as its reader while batches of it wait, as the reader says that loads them', async () => {
    const waits = (batches: number) =>
      run('stream', { pending_batches: { orders: batches } }) + logged() + loadedUntil(`'2026-02-01 11:59:50+00'`);
    expect(names(await alertsAfter(batch({ applied: '11:30' }) + waits(1)))).toEqual(['Processing Backlog']);
    expect(names(await alertsAfter(batch({ applied: '11:30' }) + waits(0)))).toEqual([]);
  });

  test('misses its reader when that stops, and no extractor where none is polled', async () => {
    const stopped = (name: string) => run(name, { interval_seconds: 10 }, 'succeeded');
    expect(await alertsAfter(stopped('stream'))).toEqual([]);
    expect(await alertsAfter(stopped('stream') + logged())).toMatchObject([
      { rule_name: 'Pipeline Stopped', subject: 'stream' },
    ]);
    expect(await alertsAfter(stopped('extract') + logged())).toEqual([]);
    const missed = await rolledBack(warehouse.sql, async (sql) => {
      await sql.unsafe(logged(`dimension_name = 'orders'`));
      return sql<{ pipeline: string }[]>`
        select labels ->> 'pipeline' as pipeline from tidemark.metrics where metric = 'runs' and value = 0 order by 1`;
    });
    expect(missed.map(({ pipeline }) => pipeline)).toEqual(['extract', 'load', 'stream']);
  });
});
