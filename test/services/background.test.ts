import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, open, readFile, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { PROJECT_ROOT } from '../../runner/base/settings.js';
import { processIdentity } from '../../runner/base/process.js';
import { pipelineStatus, type PipelineStatus } from '../../runner/operate/status.js';
import { serviceStatuses, stopPipeline } from '../../runner/services/background.js';
import { cleanEnvironment, runCli, startCli, type CliResult } from '../support/cli.js';
import { createEmptyDatabase, createPipeline, environmentOf, type TestPipeline } from '../support/databases.js';
import { until } from '../support/wait.js';

const FAST = { CDC_EXTRACTION_INTERVAL_SECONDS: '1', MUTATION_INTERVAL_SECONDS: '1', SHUTDOWN_TIMEOUT_SECONDS: '20' };

let pipeline: TestPipeline;
const begin = async () => {
  pipeline = await createPipeline(FAST);
};
const end = async () => {
  await stopPipeline(pipeline.settings);
  await pipeline.drop();
};
const ofItsOwn = () => {
  beforeEach(begin);
  afterEach(end);
};

const run = (...args: string[]): Promise<CliResult> => runCli(args, pipeline.env);
const status = (): Promise<PipelineStatus> => pipelineStatus(pipeline.settings);
/** As status tells it, which besides asks both databases. */
const services = () => serviceStatuses(pipeline.settings);
const service = async (name: string) => (await services()).find((each) => each.service === name);
const states = async () => (await services()).map(({ state }) => state);
/** What a service says of its rounds; before it has said anything, none. */
const stateOf = async (name: string) =>
  JSON.parse(
    await readFile(path.join(pipeline.folder, 'run', `${name}.state.json`), 'utf8').catch(
      () => '{"rounds": 0, "failed_rounds": 0, "last_success_at": null}',
    ),
  ) as { rounds: number; failed_rounds: number; last_success_at: string | null };
const logLines = async (file: string) =>
  (await readFile(path.join(pipeline.folder, 'logs', file), 'utf8'))
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, string>);
const kill = (pid: number | null | undefined, signal: NodeJS.Signals) => {
  if (pid != null) process.kill(pid, signal);
};

/** Rows that source and current history do not share. */
async function differences(): Promise<number> {
  const columns =
    'customer_id, product_id, quantity, unit_price::text, total_amount::text, order_status, order_date::text';
  const source = await pipeline.source.unsafe<object[]>(`select id, ${columns} from orders order by id`);
  const history = await pipeline.warehouse.unsafe<object[]>(
    `select order_key as id, ${columns} from dim_orders_current order by order_key`,
  );
  const [here, there] = [source, history].map((rows) => new Set(rows.map((row) => JSON.stringify(row))));
  const missing = (from: Set<string> | undefined, other: Set<string> | undefined) =>
    [...(from ?? [])].filter((row) => other?.has(row) !== true).length;
  return missing(here, there) + missing(there, here);
}

const orders = async () => Number((await pipeline.source<{ n: string }[]>`select count(*) as n from orders`)[0]?.n);

/** Everything that the source holds has arrived, and every check passes. */
async function expectSettled(): Promise<void> {
  expect((await run('extract')).code).toBe(0);
  expect((await run('load')).code).toBe(0);
  expect(await differences()).toBe(0);
  const check = await run('check');
  expect(check.stdout).toContain('all passed');
  expect(check.code).toBe(0);
}

describe('the pipeline as a service', () => {
  ofItsOwn();

  test('carries hundreds of changes from the simulator to history, and stops with source and history equal and all checks green', async () => {
    // In processes of their own, which the services outlive.
    const started = await startCli(['start', '--simulate', '--json'], pipeline.env).ended;
    expect(started).toMatchObject({ code: 0 });
    expect((JSON.parse(started.stdout) as { state: string }[]).map(({ state }) => state)).toEqual([
      'running',
      'running',
      'running',
    ]);
    expect((await run('simulate', '--changes', '300', '--seed', '7')).code).toBe(0);
    await until(async () => (await differences()) < 20 && (await orders()) > 50);
    const stopped = await startCli(['stop', '--json'], pipeline.env).ended;
    expect((JSON.parse(stopped.stdout) as { how: string }[]).map(({ how }) => how)).toEqual([
      'stopped',
      'stopped',
      'stopped',
    ]);
    expect(await states()).toEqual(['stopped', 'stopped', 'stopped']);
    await expectSettled();
    const runs = await pipeline.warehouse<{ pipeline_name: string; status: string; changes: string }[]>`
      select distinct on (pipeline_name) pipeline_name, status, performance_metrics ->> 'changes' as changes from pipeline_metadata
      where performance_metrics ->> 'rounds' <> '1' order by pipeline_name, id`;
    expect(runs.map(({ pipeline_name, status: ended }) => [pipeline_name, ended])).toEqual([
      ['extract', 'succeeded'],
      ['load', 'succeeded'],
      ['simulate', 'succeeded'],
    ]);
    for (const { changes } of runs) expect(Number(changes)).toBeGreaterThan(10);
  });

  test('the reconciler runs where a table declares that its deletes are found so: start, status, logs, restart and stop know it', async () => {
    expect((await services()).map(({ service: name }) => name)).toEqual(['simulator', 'extractor', 'loader']);
    await pipeline.source`insert into orders (customer_id, product_id, quantity, unit_price, total_amount, order_status, order_date, last_updated, created_at) select g, 1, 1, 1, 1, 'pending', now(), now(), now() from generate_series(1, 40) as g`;
    await pipeline.warehouse`select tidemark.declare_deletes(p_dimension_name => 'orders', p_deletes => 'reconcile')`;
    for (const command of ['extract', 'load']) expect((await run(command)).code).toBe(0);
    await pipeline.source`delete from orders where id = (select min(id) from orders)`;
    const current = async () => (await pipeline.warehouse`select from dim_orders_current`).length;
    expect((await run('start')).stdout).toMatch(/^reconciler +running/m);
    await until(async () => (await current()) === 39);
    const before = await service('reconciler');
    expect(before).toMatchObject({ state: 'running', log_file: expect.stringContaining('reconcile') as string });
    await until(async () => (await stateOf('reconciler')).last_success_at !== null);
    expect((await run('logs', 'reconciler')).stdout).toMatch(
      /orders: 0 missing, 1 extra, 0 different .*1 change repaired/,
    );
    expect((await run('restart')).stdout).toMatch(/^reconciler +running/m);
    const after = await service('reconciler');
    expect(after?.pid).not.toBe(before?.pid);
    const runs = () => pipeline.warehouse`select from pipeline_metadata where pipeline_name = 'reconcile'`;
    await until(async () => (await runs()).length === 2);
    kill(after?.pid, 'SIGKILL');
    await until(async () => (await service('reconciler'))?.state === 'died');
    expect((await run('start')).stdout).toMatch(/^reconciler +running/m);
    await until(async () => (await runs()).length === 3);
    expect((await run('stop')).stdout).toMatch(/^reconciler \(process \d+\): stopped/m);
    expect(
      (
        await pipeline.warehouse`select status from pipeline_metadata where pipeline_name = 'reconcile' order by id`
      ).map(({ status: ended }) => String(ended)),
    ).toEqual(['succeeded', 'interrupted', 'succeeded']);
    await pipeline.warehouse`select tidemark.declare_deletes(p_dimension_name => 'orders', p_deletes => 'none')`;
    expect((await run('start')).stdout).not.toMatch(/^reconciler +running/m);
  });

  test('a service that dies is seen by status and started again by start, and nothing is lost', async () => {
    await run('start', '--simulate');
    for (const name of ['extractor', 'loader', 'simulator']) {
      const before = await service(name);
      kill(before?.pid, 'SIGKILL');
      expect(
        await until(async () => {
          const now = await service(name);
          return now?.state !== 'running' && now;
        }),
      ).toMatchObject({ state: 'died', pid: before?.pid });
      const again = await run('start', '--simulate');
      expect(again.stderr).toContain(`the ${name} had died`);
      expect(await service(name)).toMatchObject({ state: 'running' });
      expect((await service(name))?.pid).not.toBe(before?.pid);
    }
    const check = await run('check', 'pipeline');
    expect(check.stdout).toContain('ok    pipeline: no run is left unfinished');
    await run('stop');
    await expectSettled();
  });

  test('a record whose number now belongs to another process fools nobody, nor does one that cannot be read', async () => {
    const other = spawn('sleep', ['600']);
    await once(other, 'spawn');
    await mkdir(path.join(pipeline.folder, 'run'), { mode: 0o700 });
    const record = {
      service: 'extractor',
      pid: other.pid,
      identity: 'another life',
      since: '2026-01-01T00:00:00Z',
      run_id: 'x',
      source: 'x',
      warehouse: 'x',
    };
    await writeFile(path.join(pipeline.folder, 'run', 'extractor.json'), JSON.stringify(record));
    await writeFile(path.join(pipeline.folder, 'run', 'loader.json'), '{"service": "load');
    expect(await states()).toEqual(['stopped', 'died', 'stopped']);
    expect((await run('stop', '--json')).stdout).toContain('was dead already');
    expect(await processIdentity(other.pid ?? 0)).toBeDefined();
    await writeFile(path.join(pipeline.folder, 'run', 'extractor.json'), JSON.stringify(record));
    expect((await run('start')).code).toBe(0);
    expect(await states()).toEqual(['stopped', 'running', 'running']);
    other.kill();
  });

  test('start says what is wrong before anything runs', async () => {
    const password = await runCli(['start'], { ...pipeline.env, WAREHOUSE_DB_PASSWORD: 'sesame' });
    expect(password.stderr).toContain('WAREHOUSE_DB_PASSWORD');
    const away = await runCli(['start'], {
      ...pipeline.env,
      DB_PORT: '1',
      TIDEMARK_DATA_DIR: path.join(pipeline.folder, 'postgres'),
    });
    expect(away.stderr).toContain('the source database does not answer');
    await writeFile(path.join(pipeline.folder, 'logs'), '');
    const logs = await run('start');
    expect(logs.stderr).toContain('LOG_DIR');
    expect([password.code, away.code, logs.code]).toEqual([1, 1, 1]);
    expect(await states()).toEqual(['stopped', 'stopped', 'stopped']);
  });

  test('start refuses a source that has nothing to extract, and the simulator one that is not the demo', async () => {
    const nothing = await createEmptyDatabase();
    const env = { ...pipeline.env, ...environmentOf(nothing.settings) };
    expect((await runCli(['start'], env)).stderr).toContain('does not exist');
    expect((await runCli(['start', '--simulate'], env)).stderr).toContain('the source database is not the demo');
    await nothing.drop();
    expect(await states()).toEqual(['stopped', 'stopped', 'stopped']);
  });

  test('stop without anything to stop is no error', async () => {
    expect(await run('stop')).toMatchObject({ code: 0, stdout: 'nothing was running\n' });
  });
});

describe('trouble', () => {
  ofItsOwn();

  test('a source that is away for a while is met by the rounds that fail meanwhile and the one that succeeds after', async () => {
    await run('start', '--simulate');
    const name = pipeline.settings.source.database;
    await until(async () => (await stateOf('extractor')).rounds > 0);
    await pipeline.warehouse.unsafe(`alter database ${name} allow_connections false`);
    await pipeline.warehouse`select pg_terminate_backend(pid) from pg_stat_activity where datname = ${name}`;
    await until(
      async () => (await stateOf('extractor')).failed_rounds > 1 && (await stateOf('simulator')).failed_rounds > 0,
    );
    expect((await status()).source).toContain('the source database takes no connections now');
    await pipeline.warehouse.unsafe(`alter database ${name} allow_connections true`);
    const after = new Date().toISOString();
    await until(
      async () =>
        ((await stateOf('extractor')).last_success_at ?? '') > after &&
        ((await stateOf('simulator')).last_success_at ?? '') > after,
    );
    expect((await service('extractor'))?.last_error?.error).toBeTruthy();
    await run('stop');
    await expectSettled();
  });

  test('a warehouse that is away stops no extraction, and its runs go on under their names when it is back', async () => {
    await run('start', '--simulate');
    const name = pipeline.settings.warehouse.database;
    await until(async () => (await stateOf('loader')).rounds > 0 && (await stateOf('extractor')).rounds > 0);
    await pipeline.source.unsafe(`alter database ${name} allow_connections false`);
    await pipeline.source`select pg_terminate_backend(pid) from pg_stat_activity where datname = ${name}`;
    await until(async () => (await stateOf('loader')).failed_rounds > 0);
    const rounds = (await stateOf('extractor')).rounds;
    await until(async () => (await stateOf('extractor')).rounds > rounds + 1);
    await pipeline.source.unsafe(`alter database ${name} allow_connections true`);
    const after = new Date().toISOString();
    await until(async () => ((await stateOf('loader')).last_success_at ?? '') > after);
    const names = await until(async () => {
      const live = await pipeline.warehouse<
        { pipeline_name: string }[]
      >`select pipeline_name from tidemark.live_runs() order by 1`;
      return live.length === 3 && live.map(({ pipeline_name }) => pipeline_name);
    });
    expect(names).toEqual(['extract', 'load', 'simulate']);
    expect((await stateOf('extractor')).failed_rounds).toBeLessThanOrEqual(1);
    await run('stop');
    expect(await pipeline.warehouse`select 1 from pipeline_metadata where status <> 'succeeded'`).toHaveLength(0);
    await expectSettled();
  });

  test('SIGTERM finishes the batch in hand; a second signal ends it now, and the batch is rolled back', async () => {
    await run('simulate', '--changes', '20');
    await run('extract');
    const hold = await pipeline.warehouse.reserve();
    await hold`begin`;
    await hold`select tidemark._lock_dimension('orders', '')`;
    const child = spawn(process.execPath, [path.join(PROJECT_ROOT, 'dist', 'cli.js'), 'load', '--watch'], {
      env: cleanEnvironment({ ...pipeline.env, LOG_LEVEL: 'INFO' }),
      cwd: PROJECT_ROOT,
    });
    const ended = once(child, 'close');
    let said = '';
    child.stderr.on('data', (chunk: Buffer) => {
      said += chunk.toString();
    });
    const waits = () =>
      pipeline.warehouse`select 1 from pg_stat_activity where application_name = 'tidemark load' and wait_event_type = 'Lock'`;
    await until(async () => (await waits()).length > 0);
    child.kill('SIGTERM');
    // It goes on waiting for its batch: only the second signal ends it.
    await until(() =>
      Promise.resolve(said.includes('finishing the work in hand, for at most 20 seconds; a second signal ends it now')),
    );
    expect(await waits()).toHaveLength(1);
    expect(child.exitCode).toBeNull();
    child.kill('SIGTERM');
    expect(await ended).toEqual([null, 'SIGTERM']);
    await hold`rollback`;
    hold.release();
    await until(async () => (await waits()).length === 0);
    expect(await pipeline.warehouse`select 1 from dim_orders_history`).toHaveLength(0);
    await expectSettled();
  });

  test('a batch that does not end within the bound is given up and rolled back', async () => {
    await run('simulate', '--changes', '20');
    await run('extract');
    const hold = await pipeline.warehouse.reserve();
    await hold`begin`;
    await hold`select tidemark._lock_dimension('orders', '')`;
    const env = { ...pipeline.env, SHUTDOWN_TIMEOUT_SECONDS: '1' };
    await runCli(['start'], env);
    await until(
      async () =>
        (
          await pipeline.warehouse`select 1 from pg_stat_activity where application_name = 'tidemark load' and wait_event_type = 'Lock'`
        ).length > 0,
    );
    const stopped = JSON.parse((await runCli(['stop', '--json'], env)).stdout) as { service: string; how: string }[];
    expect(stopped.map(({ service: name, how }) => [name, how])).toEqual([
      ['extractor', 'stopped'],
      ['loader', 'gave up'],
    ]);
    expect(await pipeline.warehouse`select status from pipeline_metadata where pipeline_name = 'load'`).toEqual([
      { status: 'interrupted' },
    ]);
    expect((await logLines('scd2_loader.log')).map(({ msg }) => msg).join()).toContain(
      'did not end within 1 seconds of the signal',
    );
    await hold`rollback`;
    hold.release();
    expect(await pipeline.warehouse`select 1 from dim_orders_history`).toHaveLength(0);
    await expectSettled();
  });

  test('two stops at once end the batch in hand once, in its own time', async () => {
    await run('simulate', '--changes', '20');
    await run('extract');
    const hold = await pipeline.warehouse.reserve();
    await hold`begin`;
    await hold`select tidemark._lock_dimension('orders', '')`;
    await run('start');
    await until(
      async () =>
        (
          await pipeline.warehouse`select 1 from pg_stat_activity where application_name = 'tidemark load' and wait_event_type = 'Lock'`
        ).length > 0,
    );
    const stops = [run('stop', '--json'), run('stop', '--json')];
    await until(async () => (await service('extractor'))?.state === 'stopped');
    await hold`rollback`;
    hold.release();
    const how = (await Promise.all(stops)).map(({ stdout }) => stdout).sort();
    expect(how).toEqual(['[]\n', expect.stringContaining('"how":"stopped"') as string]);
    expect(await pipeline.warehouse`select 1 from pipeline_metadata where status <> 'succeeded'`).toHaveLength(0);
    expect((await pipeline.warehouse`select 1 from dim_orders_history`).length).toBeGreaterThan(0);
  });

  test('a run whose session is cut takes its row up again without waiting for its next round', async () => {
    await runCli(['start'], { ...pipeline.env, CDC_EXTRACTION_INTERVAL_SECONDS: '3600' });
    await until(async () => (await pipeline.warehouse`select 1 from tidemark.live_runs()`).length === 2);
    await pipeline.warehouse`select pg_terminate_backend(pid, 10000) from pg_stat_activity where application_name in ('tidemark extract run', 'tidemark load run')`;
    await until(async () => (await pipeline.warehouse`select 1 from tidemark.live_runs()`).length === 2);
  });

  test('a disk that is full under log and output ends no service', async () => {
    await mkdir(path.join(pipeline.folder, 'logs'), { recursive: true });
    await symlink('/dev/full', path.join(pipeline.folder, 'logs', 'scd2_loader.log'));
    const full = await open('/dev/full', 'w');
    const child = spawn(process.execPath, [path.join(PROJECT_ROOT, 'dist', 'cli.js'), 'load', '--watch', '--service'], {
      env: cleanEnvironment(pipeline.env),
      cwd: PROJECT_ROOT,
      stdio: ['ignore', full.fd, full.fd],
    });
    const ended = once(child, 'close');
    await until(async () => (await stateOf('loader').catch(() => ({ rounds: 0 }))).rounds > 2);
    child.kill('SIGTERM');
    expect(await ended).toEqual([0, null]);
    await full.close();
  });

  test('a single run that is interrupted finishes its batch and says so, in its row too', async () => {
    await run('simulate', '--changes', '20');
    await run('extract');
    const hold = await pipeline.warehouse.reserve();
    await hold`begin`;
    await hold`select tidemark._lock_dimension('orders', '')`;
    const child = spawn(process.execPath, [path.join(PROJECT_ROOT, 'dist', 'cli.js'), 'load', '--table', 'orders'], {
      env: cleanEnvironment(pipeline.env),
      cwd: PROJECT_ROOT,
    });
    const ended = once(child, 'close');
    await until(
      async () =>
        (
          await pipeline.warehouse`select 1 from pg_stat_activity where application_name = 'tidemark load' and wait_event_type = 'Lock'`
        ).length > 0,
    );
    child.kill('SIGINT');
    await hold`rollback`;
    hold.release();
    expect(await ended).toEqual([1, null]);
    expect(await pipeline.warehouse`select status from pipeline_metadata where pipeline_name = 'load'`).toEqual([
      { status: 'interrupted' },
    ]);
    expect((await pipeline.warehouse`select 1 from dim_orders_history`).length).toBeGreaterThan(0);
  });

  test('a clock that jumps a day to and fro loses nothing and stops nothing', async () => {
    const jump = `const Real = Date; let n = 0; const now = () => Real.now() + (n++ % 2 === 0 ? 86400000 : -86400000);
      globalThis.Date = class extends Real { constructor(...given) { super(...(given.length === 0 ? [now()] : given)); } static now() { return now(); } };`;
    await runCli(['start', '--simulate'], {
      ...pipeline.env,
      NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(jump)}`,
    });
    await until(
      async () => (await differences()) < 20 && (await orders()) > 10 && (await stateOf('loader')).rounds > 2,
    );
    expect((await stateOf('extractor')).failed_rounds + (await stateOf('loader')).failed_rounds).toBe(0);
    await run('stop');
    await expectSettled();
  });
});

describe('a pipeline that runs', () => {
  beforeAll(async () => {
    await begin();
    await run('simulate', '--changes', '30');
  });
  afterAll(end);

  test('two starts at once leave one of each', async () => {
    const both = await Promise.all([run('start'), run('start')]);
    expect(both.map(({ code }) => code)).toEqual([0, 0]);
    expect(both.map(({ stderr }) => stderr).join()).toContain('the extractor is already running');
    const { stdout } = await run('status', '--json');
    const pids = (JSON.parse(stdout) as PipelineStatus).services.flatMap(({ pid }) => (pid === null ? [] : [pid]));
    expect(pids).toHaveLength(2);
    const [row] = await pipeline.warehouse<{ n: string }[]>`select count(*) as n from tidemark.live_runs()`;
    expect(row?.n).toBe('2');
  });

  test('status tells what runs since when, and of a table watermark, lag, pending files, versions and last batch', async () => {
    const ordersOf = ({ tables }: PipelineStatus) => tables.find(({ table: name }) => name === 'orders');
    const seen = await until(async () => {
      const now = await status();
      return ordersOf(now)?.last_batch != null && ordersOf(now)?.pending === 0 && now;
    });
    expect(seen.services.map((each) => [each.service, each.state])).toEqual([
      ['simulator', 'stopped'],
      ['extractor', 'running'],
      ['loader', 'running'],
    ]);
    const table = ordersOf(seen);
    const [newest] = await pipeline.source<
      { at: string }[]
    >`select to_json(max(last_updated)) #>> '{}' as at from orders`;
    expect(table).toMatchObject({
      table: 'orders',
      watermark: newest?.at,
      pending: 0,
      historical: String(Number(table?.total) - Number(table?.current)),
      last_error: null,
    });
    expect(Number(table?.current)).toBe(await orders());
    expect(table?.lag_seconds).toBeGreaterThanOrEqual(0);
    const text = await run('status');
    expect(text.stdout).toMatch(/extractor +running +\d+/);
    expect(text.stdout).toMatch(/orders +\d{4}-/);
  });

  test('logs hold JSON lines with the run in each, the settings without passwords once, and the words of the original', async () => {
    const lines = await until(async () => {
      const now = await logLines('scd2_loader.log');
      return now.some(({ msg = '' }) => msg.startsWith('dim_orders_history summary')) && now;
    });
    expect((await readdir(path.join(pipeline.folder, 'logs'))).filter((name) => name.endsWith('.log')).sort()).toEqual([
      'extractor.log',
      'scd2_loader.log',
    ]);
    expect(new Set(lines.map(({ run_id }) => run_id)).size).toBe(1);
    const [known] = await pipeline.warehouse<
      { run_id: string }[]
    >`select run_id from pipeline_metadata where pipeline_name = 'load'`;
    expect(lines[0]?.run_id).toBe(known?.run_id);
    expect(lines.filter((line) => 'settings' in line)).toHaveLength(1);
    expect(JSON.stringify(lines)).toContain('"password":"***"');
    expect(JSON.stringify(lines)).not.toContain('"password":"postgres"');
    const messages = lines.map(({ msg }) => msg);
    expect(messages).toContain('Starting SCD Type 2 Loader');
    expect(messages).toContainEqual(expect.stringMatching(/^Successfully processed (\d+)\/\1 unique orders$/));
    expect(messages).toContainEqual(
      expect.stringMatching(/^dim_orders_history summary: total=\d+, current=\d+, historical=\d+$/),
    );
    expect((await logLines('extractor.log'))[0]).toMatchObject({
      level: 'info',
      service: 'extractor',
      msg: 'Starting CDC extractor',
    });
  });

  test('logs are shown for people to read, of one service or all, and followed', async () => {
    const elsewhere = { ...pipeline.env, LOG_DIR: path.join(pipeline.folder, 'other logs') };
    expect((await runCli(['logs'], elsewhere)).stderr).toContain('there are no logs');
    const shown = await run('logs', 'loader', '-n', '1');
    expect(shown.stdout).toMatch(/^loader +\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\] INFO: /);
    const following = startCli(['logs', '-f', '-n', '100000'], pipeline.env);
    await following.printed(/Starting CDC extractor/);
    const loaded = (await logLines('scd2_loader.log')).filter(({ msg = '' }) => msg.includes('unique orders')).length;
    await run('simulate', '--changes', '3');
    await following.printed(new RegExp(`(unique orders[^]*){${String(loaded + 1)}}`));
    following.kill('SIGINT');
    expect((await following.ended).code).toBe(0);
  });

  test('a second extractor in the foreground is told who holds the place; restart leaves the simulator as it was', async () => {
    const second = await run('extract', '--watch', '--service');
    expect(second.stderr).toMatch(/the extractor is already running \(process \d+, since /);
    expect(second.code).toBe(1);
    const before = await service('loader');
    expect((await run('restart')).code).toBe(0);
    expect(await states()).toEqual(['stopped', 'running', 'running']);
    expect((await service('loader'))?.pid).not.toBe(before?.pid);
  });

  test('another pipeline in the same folders is refused, not mistaken for the one that runs', async () => {
    const other = await createPipeline();
    const env = { ...other.env, TIDEMARK_RUN_DIR: pipeline.env.TIDEMARK_RUN_DIR ?? '' };
    for (const command of ['start', 'stop']) {
      const refused = await runCli([command], env);
      expect(refused.stderr).toContain('belongs to another pipeline');
      expect(refused.code).toBe(1);
    }
    await other.drop();
    expect(await states()).toEqual(['stopped', 'running', 'running']);
  });

  test('a warehouse that is silent stops no extraction', async () => {
    await until(async () => (await stateOf('extractor')).rounds > 0);
    const hold = await pipeline.warehouse.reserve();
    await hold`begin`;
    await hold`lock table pipeline_metadata`;
    const { rounds } = await stateOf('extractor');
    await until(async () => (await stateOf('extractor')).rounds > rounds + 1);
    await hold`rollback`;
    hold.release();
    expect((await stateOf('extractor')).failed_rounds).toBe(0);
  });

  test('restart stops nothing that it could not start again', async () => {
    await run('start', '--simulate');
    const before = await services();
    const refused = await runCli(['restart'], { ...pipeline.env, WAREHOUSE_DB_PASSWORD: 'sesame' });
    expect(refused.stderr).toContain('WAREHOUSE_DB_PASSWORD');
    expect(await states()).toEqual(['running', 'running', 'running']);
    expect((await services()).map(({ pid }) => pid)).toEqual(before.map(({ pid }) => pid));
    expect((await run('restart')).code).toBe(0);
    expect(await states()).toEqual(['running', 'running', 'running']);
  });

  test('a service whose record was removed registers again, and is found and stopped', async () => {
    const before = await services();
    await rm(path.join(pipeline.folder, 'run'), { recursive: true });
    await until(async () => (await states()).every((state) => state === 'running'));
    expect((await services()).map(({ pid }) => pid)).toEqual(before.map(({ pid }) => pid));
    const { stdout } = await run('stop', '--json');
    expect((JSON.parse(stdout) as { how: string }[]).map(({ how }) => how)).toEqual(['stopped', 'stopped', 'stopped']);
  });
});
