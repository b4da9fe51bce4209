import { afterAll, beforeAll, expect, test } from 'vitest';
import { renderMetrics } from '../../runner/operate/metrics.js';
import { pipelineStatus } from '../../runner/operate/status.js';
import { createPipeline, type TestPipeline } from '../support/databases.js';
import { empty } from '../support/batches.js';
import { runCli } from '../support/cli.js';

/** Every rule of tidemark.alert_rules, driven in and out again, and seen in SQL, in status, in the metrics, and in the suite of checks that is for the gravest. */

let pipeline: TestPipeline;
beforeAll(async () => {
  pipeline = await createPipeline();
});
afterAll(async () => {
  await pipeline.drop();
});

interface Drill {
  readonly rule: string;
  readonly severity: 'critical' | 'warning' | 'info';
  readonly table?: string;
  readonly subject?: string;
  /** What has happened, and what ends it, as SQL that is committed. */
  readonly into: string;
  readonly outOf: string;
}

/** A batch that was applied a minute ago. */
const batch = ({
  name = 'b1',
  sequence = 1,
  previous = 'null',
  seconds = 1,
  changes = 100,
  absorbed = 0,
  ago = 1,
} = {}) => `
  insert into tidemark.batches (dimension_name, batch_id, sequence, extracted_at, least_captured_at, greatest_captured_at, change_count, previous_checksum, checksum, metadata, inserted_versions, closed_versions, absorbed_changes, apply_started_at, applied_at)
  select 'orders', '${name}', ${String(sequence)}, m, m, m, ${String(changes)}, ${previous}, '${name}', '{}', 0, 0, ${String(absorbed)}, m - interval '${String(seconds)} s', m
  from (select now() - interval '${String(ago)} min') as t (m);`;
const absorb =
  "insert into tidemark.absorbed_changes select 'orders', '', 'b1', line, '{}', 'UPDATE', now(), now(), 'unchanged', null, '{}' from generate_series(1, 100) as line;";
const reject = `insert into tidemark.rejected_changes (dimension_name, shard, batch_id, change_line, reason, change, rejected_at) values ('orders', '', 'b1', 1, 'r', '{}', now());`;
/** A run of an extractor or loader that lives: its session is one that this test holds. */
const run = (name: string, metrics: string, status = 'running') => `
  insert into public.pipeline_metadata (pipeline_name, run_id, start_time, end_time, status, performance_metrics)
  select '${name}', 'run of ${name}', now() at time zone 'UTC', ${status === 'running' ? 'null' : "now() at time zone 'UTC'"}, '${status}',
    jsonb_build_object('backend_pid', a.pid, 'backend_start', a.backend_start) || ${metrics}
  from pg_stat_activity as a where a.pid = pg_backend_pid();`;
const report = (name: string, metrics: string) =>
  `update public.pipeline_metadata set performance_metrics = performance_metrics || ${metrics}, updated_at = now() at time zone 'UTC' where run_id = 'run of ${name}';`;
const polled = (
  ago: string,
  pending: number,
) => `jsonb_build_object('interval_seconds', 10, 'table_success', jsonb_build_object('orders', now() - interval '${ago}', 'customers', now(), 'products', now()),
  'pending_batches', jsonb_build_object('orders', ${String(pending)}), 'table_errors', '{}'::jsonb)`;

const DRILLS: readonly Drill[] = [
  {
    rule: 'High Latency',
    severity: 'warning',
    table: 'orders',
    into: batch({ seconds: 121 }),
    outOf:
      batch({ name: 'b2', sequence: 2, previous: "'b1'" }) +
      "update tidemark.batches set applied_at = applied_at - interval '2 hours', apply_started_at = apply_started_at - interval '2 hours' where batch_id = 'b1'",
  },
  {
    rule: 'Processing Backlog',
    severity: 'critical',
    table: 'orders',
    into: batch({ ago: 6 }) + run('extract', polled('1 s', 1)),
    outOf: report('extract', polled('1 s', 0)),
  },
  {
    rule: 'High Duplicate Rate',
    severity: 'warning',
    table: 'orders',
    into: batch({ absorbed: 100 }) + absorb,
    outOf: batch({ name: 'b2', sequence: 2, previous: "'b1'", changes: 10_000_000 }),
  },
  {
    rule: 'Missing Changes',
    severity: 'critical',
    table: 'orders',
    into: "select tidemark.note_reconciliation('orders', 1000, 1, 1, 0, 0, now() - interval '1 hour')",
    outOf: "select tidemark.note_reconciliation('orders', 1000, 1, 1, 0, 2, now())",
  },
  {
    rule: 'Rejected Changes',
    severity: 'critical',
    table: 'orders',
    into: batch() + reject,
    outOf: 'delete from tidemark.rejected_changes',
  },
  {
    rule: 'Table Failing',
    severity: 'critical',
    table: 'orders',
    subject: 'load',
    into: run('load', `'{"table_errors": {"orders": {"at": "2026-02-01T11:59:00Z", "error": "a bad file"}}}'`),
    outOf: report('load', `'{"table_errors": {}}'`),
  },
  {
    rule: 'No Recent Batch',
    severity: 'critical',
    table: 'orders',
    into: run('extract', polled('61 s', 0)),
    outOf: report('extract', polled('1 s', 0)),
  },
  {
    rule: 'Gap In Chain',
    severity: 'critical',
    table: 'orders',
    subject: 'b2',
    into: batch({ ago: 2 }) + batch({ name: 'b2', sequence: 2, previous: "'lost'" }),
    outOf: "update tidemark.batches set previous_checksum = 'b1' where batch_id = 'b2'",
  },
  {
    rule: 'Check Violations',
    severity: 'critical',
    subject: 'scd2: versions do not overlap',
    into: `select tidemark.note_checks('[{"suite": "scd2", "check": "versions do not overlap", "violations": 2}]', now())`,
    outOf: `select tidemark.note_checks('[{"suite": "scd2", "check": "versions do not overlap", "violations": 0}]', now())`,
  },
  {
    rule: 'Disk Nearly Full',
    severity: 'warning',
    subject: 'extract on here',
    into: run('extract', `'{"host": "here", "disk_utilization": 0.91}'`),
    outOf: report('extract', `'{"disk_utilization": 0.9}'`),
  },
  {
    rule: 'Connections Nearly Used Up',
    severity: 'warning',
    into: "update tidemark.alert_rules set threshold = 0.001 where rule_name = 'Connections Nearly Used Up'",
    outOf: "update tidemark.alert_rules set threshold = 0.8 where rule_name = 'Connections Nearly Used Up'",
  },
  {
    rule: 'Slot Falls Behind',
    severity: 'warning',
    subject: 's',
    into: "select tidemark.note_slot('s', 'extended', '0/1', 60, 60, 40)",
    outOf: "select tidemark.note_slot('s', 'reserved', '0/1', 40, 40, 60)",
  },
  {
    rule: 'Slot Lost',
    severity: 'critical',
    subject: 's: states of rows are lost from 2026-02-01 09:00:00+00 on',
    into: "select tidemark.note_slot('s', 'lost', null, null, null, null, '2026-02-01 09:00+00')",
    outOf: "select tidemark.forget_slot('s')",
  },
  {
    rule: 'Events Failing',
    severity: 'warning',
    subject: 'shop: position 2: answers 422',
    into: "select tidemark.subscribe('shop', 'webhook', 'https://shop.example/'); select tidemark.note_delivery_fault('shop', 'answers 422', 2)",
    outOf: "select tidemark.unsubscribe('shop')",
  },
  {
    rule: 'Pipeline Stopped',
    severity: 'info',
    subject: 'load',
    into: run('load', `'{"interval_seconds": 10}'`, 'succeeded'),
    outOf: run('load', `'{"interval_seconds": 10}'`).replace("'run of load'", "'another run'"),
  },
];

const inSql = async (): Promise<string[]> =>
  (await pipeline.warehouse`select rule_name from tidemark.alerts`).map(({ rule_name }) => rule_name as string);
const inStatus = async (): Promise<string[]> =>
  (await pipelineStatus(pipeline.settings)).alerts.map(({ rule_name }) => rule_name);
const samples = async () =>
  (await renderMetrics(pipeline.settings)).split('\n').filter((line) => line.startsWith('tidemark_alert'));
const sampleOf = ({ rule, severity, table = '', subject = '' }: Drill) =>
  `tidemark_alert{alert="${rule}",severity="${severity}",table="${table}",subject="${subject}"} 1`;
const inChecks = async () => (await runCli(['check', 'alerts'], pipeline.env)).code === 3;

test.each(DRILLS.map((drill) => [drill.rule, drill] as const))('%s comes and goes', async (rule, drill) => {
  // Runs live as long as the session that wrote them.
  const session = await pipeline.warehouse.reserve();
  try {
    expect(await inSql()).toEqual([]);
    await session.unsafe(drill.into);
    expect([await inSql(), await inStatus()]).toEqual([[rule], [rule]]);
    expect(await samples()).toEqual(
      expect.arrayContaining([sampleOf(drill), `tidemark_alerts{severity="${drill.severity}"} 1`]),
    );
    // A check that failed is found by itself.
    expect(await inChecks()).toBe(drill.severity === 'critical' && rule !== 'Check Violations');
    await session.unsafe(drill.outOf);
    expect([await inSql(), await inStatus()]).toEqual([[], []]);
    expect((await samples()).filter((line) => line.startsWith('tidemark_alert{') || line.endsWith(' 1'))).toEqual([]);
  } finally {
    session.release();
    await empty(pipeline.warehouse);
    await pipeline.warehouse.unsafe('truncate tidemark.check_results, tidemark.reconciliations');
  }
});

test('every rule has its drill', async () => {
  const rules = (await pipeline.warehouse`select rule_name from tidemark.alert_rules`).map(
    ({ rule_name }) => rule_name as string,
  );
  expect(DRILLS.map(({ rule }) => rule).sort()).toEqual(rules.sort());
});
