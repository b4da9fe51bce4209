import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, request, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { PROJECT_ROOT } from '../../runner/base/settings.js';
import type { Listening } from '../../runner/base/http.js';
import { serveMetrics } from '../../runner/operate/serve.js';
import { cleanEnvironment, runCli } from '../support/cli.js';
import { createEmptyDatabase, createPipeline, type TestPipeline } from '../support/databases.js';
import { empty } from '../support/batches.js';
import { until } from '../support/wait.js';

let pipeline: TestPipeline;
let server: Listening;
beforeAll(async () => {
  pipeline = await createPipeline({ METRICS_PORT: '0' });
  server = await serveMetrics(pipeline.settings);
});
afterEach(async () => {
  await empty(pipeline.warehouse);
});
afterAll(async () => {
  await server.close();
  await pipeline.drop();
});

interface Reply {
  readonly status: number;
  readonly body: string;
  readonly type: string;
  readonly headers: IncomingMessage['headers'];
}

async function ask(url: string, options: { method?: string; host?: string } = {}): Promise<Reply> {
  const asked = request(url, {
    method: options.method ?? 'GET',
    headers: options.host === undefined ? {} : { host: options.host },
  }).end();
  const [reply] = (await once(asked, 'response')) as [IncomingMessage];
  let body = '';
  for await (const chunk of reply) body += String(chunk);
  return { status: reply.statusCode ?? 0, body, type: reply.headers['content-type'] ?? '', headers: reply.headers };
}

/** The samples of a page by their name and labels. */
function samples(page: string): Record<string, number> {
  return Object.fromEntries(
    page
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'))
      .map((line) => {
        const place = line.lastIndexOf(' ');
        return [line.slice(0, place), Number(line.slice(place + 1))];
      }),
  );
}
const metrics = async () => samples((await ask(`${server.url}/metrics`)).body);

test('the metrics are the indicators of the warehouse', async () => {
  expect((await runCli(['simulate', '--changes', '30', '--seed', '3'], pipeline.env)).code).toBe(0);
  for (const command of ['extract', 'load']) expect((await runCli([command], pipeline.env)).code).toBe(0);
  const [kpi] = await pipeline.warehouse`select * from tidemark.kpis where dimension_name = 'orders'`;
  const reply = await ask(`${server.url}/metrics`);
  expect(reply).toMatchObject({ status: 200, type: 'text/plain; version=0.0.4; charset=utf-8' });
  const found = samples(reply.body);
  expect(found).toMatchObject({
    'tidemark_up{end="source"}': 1,
    'tidemark_up{end="warehouse"}': 1,
    'tidemark_window_changes{table="orders"}': Number(kpi?.changes),
    'tidemark_window_batches{table="orders"}': Number(kpi?.batches),
    'tidemark_records_processed_per_second{table="orders"}': kpi?.records_processed_per_second as number,
    'tidemark_batch_processing_time_seconds{table="orders",percentile="95"}': kpi?.batch_processing_time_p95 as number,
    'tidemark_end_to_end_latency_seconds{table="orders",percentile="99"}': kpi?.end_to_end_latency_p99 as number,
    'tidemark_duplicate_rate{table="orders"}': 0,
    'tidemark_rejected_changes{table="orders"}': 0,
    'tidemark_pending_batches{table="orders"}': 0,
    'tidemark_runs{pipeline="extract"}': 0,
    'tidemark_alerts{severity="critical"}': 0,
  });
  expect(kpi?.changes).not.toBe('0');
  expect(found['tidemark_watermark_lag_seconds{table="orders"}']).toBeGreaterThan(0);
  expect(found['tidemark_missing_change_rate{table="orders"}']).toBeUndefined();
  expect(found.process_resident_memory_bytes).toBeGreaterThan(0);
});

test('a pipeline is driven into an alert and out again, seen in SQL, in status, in check and in the metrics', async () => {
  const sample = 'tidemark_alert{alert="Rejected Changes",severity="critical",table="orders",subject=""}';
  expect((await metrics())[sample]).toBeUndefined();
  await pipeline.warehouse.unsafe(`
    insert into tidemark.batches (dimension_name, batch_id, sequence, extracted_at, least_captured_at, greatest_captured_at, change_count, checksum, metadata, inserted_versions, closed_versions, absorbed_changes, rejected_changes, apply_started_at, applied_at)
    values ('orders', 'b1', 1, now(), now(), now(), 1, 'c', '{}', 0, 0, 0, 1, now(), now());
    insert into tidemark.rejected_changes (dimension_name, shard, batch_id, change_line, reason, change, rejected_at) values ('orders', '', 'b1', 1, 'r', '{}', now())`);
  expect([...(await pipeline.warehouse`select rule_name, measured from tidemark.alerts`)]).toEqual([
    { rule_name: 'Rejected Changes', measured: 1 },
  ]);
  expect(await metrics()).toMatchObject({
    [sample]: 1,
    'tidemark_alerts{severity="critical"}': 1,
    'tidemark_rejected_changes{table="orders"}': 1,
  });
  expect((await runCli(['status'], pipeline.env)).stdout).toMatch(
    /Alerts\n.*\n[^\n]*critical +Rejected Changes +orders +rejected_changes > 0 changes/,
  );
  expect(
    (JSON.parse((await runCli(['status', '--json'], pipeline.env)).stdout) as { alerts: { meaning: string }[] })
      .alerts[0]?.meaning,
  ).toContain('remove the cause');
  expect(await runCli(['check', 'alerts'], pipeline.env)).toMatchObject({
    code: 3,
    stdout: expect.stringMatching(/FAIL +alerts: no alert is critical \(1\)/) as unknown,
  });

  await pipeline.warehouse`delete from tidemark.rejected_changes`;
  expect(await metrics()).toMatchObject({ 'tidemark_alerts{severity="critical"}': 0 });
  expect((await metrics())[sample]).toBeUndefined();
  expect((await runCli(['status'], pipeline.env)).stdout).not.toContain('Alerts');
  expect((await runCli(['check', 'alerts'], pipeline.env)).code).toBe(0);
});

test('status tells the alerts also where a history is locked, and cannot be counted in time', async () => {
  await pipeline.warehouse`select tidemark.note_reconciliation('orders', 1000, 1, 1, 0, 0, now())`;
  const session = await pipeline.warehouse.reserve();
  await session.unsafe(
    "begin; set local idle_in_transaction_session_timeout = '25s'; lock table public.dim_orders_history in access exclusive mode",
  );
  const { code, stdout } = await runCli(['status'], pipeline.env);
  const isHeld = await session.unsafe('rollback').then(
    () => true,
    () => false,
  );
  session.release();
  await pipeline.warehouse`delete from tidemark.reconciliations`;
  // It did not wait for the lock.
  expect([code, isHeld]).toEqual([0, true]);
  expect(stdout).toContain('warehouse: versions are not counted: ');
  expect(stdout).toMatch(/Alerts\n.*\n[^\n]*critical +Missing Changes +orders/);
}, 60_000);

test('a table that fails is an alert while its loader runs', async () => {
  const { folder, env } = pipeline;
  const { mkdir, writeFile } = await import('node:fs/promises');
  await mkdir(path.join(folder, 'cdc_logs', 'orders'), { recursive: true });
  await writeFile(path.join(folder, 'cdc_logs', 'orders', 'changes_20200101_000000_000.json'), 'no batch');
  const loader = spawn(process.execPath, [path.join(PROJECT_ROOT, 'dist', 'cli.js'), 'load', '--watch'], {
    env: cleanEnvironment(env),
    stdio: 'ignore',
  });
  const sample = 'tidemark_alert{alert="Table Failing",severity="critical",table="orders",subject="load"}';
  await until(async () => (await metrics())[sample] === 1);
  expect(await metrics()).toMatchObject({
    'tidemark_runs{pipeline="load"}': 1,
    'tidemark_pending_batches{table="orders"}': 1,
  });
  expect(
    Object.keys(await metrics()).filter((name) => name.startsWith('tidemark_run_memory_bytes{pipeline="load"')),
  ).toHaveLength(1);
  loader.kill('SIGTERM');
  await once(loader, 'exit');
  const { rm } = await import('node:fs/promises');
  await rm(path.join(folder, 'cdc_logs', 'orders'), { recursive: true });
  expect(await metrics()).not.toHaveProperty([sample]);
});

describe('the server', () => {
  test('is alive, and ready while the warehouse is', async () => {
    expect(await ask(`${server.url}/healthz`)).toMatchObject({ status: 200, body: 'alive\n' });
    expect(await ask(`${server.url}/readyz`)).toMatchObject({ status: 200, body: 'ready\n' });
  });

  test('is alive but not ready without a warehouse, and says so in its metrics', async () => {
    const { settings } = pipeline;
    const lonely = await serveMetrics({ ...settings, warehouse: { ...settings.warehouse, port: 1 } });
    expect(await ask(`${lonely.url}/healthz`)).toMatchObject({ status: 200 });
    expect(await ask(`${lonely.url}/readyz`)).toMatchObject({
      status: 503,
      body: expect.stringContaining('the warehouse database does not answer') as unknown,
    });
    const reply = await ask(`${lonely.url}/metrics`);
    expect(reply.status).toBe(200);
    expect(samples(reply.body)).toMatchObject({ 'tidemark_up{end="source"}': 1, 'tidemark_up{end="warehouse"}': 0 });
    expect(reply.body).not.toContain('tidemark_window_changes');
    await lonely.close();
  });

  test('is not ready on a warehouse that is not migrated', async () => {
    const bare = await createEmptyDatabase('warehouse');
    const other = await serveMetrics({ ...pipeline.settings, warehouse: bare.settings });
    expect(await ask(`${other.url}/readyz`)).toMatchObject({
      status: 503,
      body: 'not ready: the warehouse is not migrated\n',
    });
    await other.close();
    await bare.drop();
  });

  test('answers GET and HEAD on its three pages alone', async () => {
    expect(await ask(`${server.url}/`)).toMatchObject({ status: 404 });
    expect(await ask(`${server.url}/metrics/../etc/passwd`)).toMatchObject({ status: 404 });
    expect(await ask(`${server.url}/healthz`, { method: 'POST' })).toMatchObject({
      status: 405,
      headers: expect.objectContaining({ allow: 'GET, HEAD' }) as unknown,
    });
    expect(await ask(`${server.url}/healthz?verbose=1`, { method: 'HEAD' })).toMatchObject({ status: 200, body: '' });
    expect((await ask(`${server.url}/healthz`)).headers).toMatchObject({
      'x-content-type-options': 'nosniff',
      'cache-control': 'no-store',
    });
  });

  test('on loopback refuses a page that resolved its own name to this machine', async () => {
    expect(await ask(`${server.url}/metrics`, { host: 'evil.example' })).toMatchObject({ status: 403 });
    expect(await ask(`${server.url}/healthz`, { host: 'localhost:9464' })).toMatchObject({ status: 200 });
    expect(await ask(`${server.url}/healthz`, { host: '[::1]:9464' })).toMatchObject({ status: 200 });
  });

  test('never shows a password', async () => {
    const { settings } = pipeline;
    const secret = await serveMetrics({
      ...settings,
      warehouse: { ...settings.warehouse, password: 'tide-secret-1' },
      source: { ...settings.source, password: 'tide-secret-2' },
    });
    const pages = await Promise.all(['metrics', 'readyz', 'healthz'].map((page) => ask(`${secret.url}/${page}`)));
    expect(pages.map(({ status }) => status)).toEqual([200, 503, 200]);
    expect(JSON.stringify(pages)).not.toContain('tide-secret');
    await secret.close();
  });
});

describe('tidemark serve', () => {
  test('says where it listens, and ends on SIGTERM with exit code 0', async () => {
    const child = spawn(process.execPath, [path.join(PROJECT_ROOT, 'dist', 'cli.js'), 'serve'], {
      env: cleanEnvironment(pipeline.env),
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let said = '';
    child.stderr.on('data', (chunk: Buffer) => {
      said += chunk.toString();
    });
    const url = await until(() => Promise.resolve(/serving (http:\/\/127\.0\.0\.1:\d+)\/metrics/.exec(said)?.[1]));
    expect(await ask(`${url}/healthz`)).toMatchObject({ status: 200 });
    child.kill('SIGTERM');
    expect(await once(child, 'exit')).toEqual([0, null]);
  });

  test('names the setting when its port is taken', async () => {
    const other = createServer().listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port } = other.address() as AddressInfo;
    const { code, stderr } = await runCli(['serve'], { ...pipeline.env, METRICS_PORT: String(port) });
    other.close();
    expect(code).toBe(1);
    expect(stderr).toContain(
      `the metrics cannot be served at 127.0.0.1:${String(port)}: another program listens there`,
    );
    expect(stderr).toContain('METRICS_PORT');
  });
});
