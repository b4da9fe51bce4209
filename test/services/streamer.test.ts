import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { pipelineStatus } from '../../runner/operate/status.js';
import { stopPipeline } from '../../runner/services/background.js';
import { runCli } from '../support/cli.js';
import { createPipeline, type TestPipeline } from '../support/databases.js';
import { createSourceTable, registerDimension, type TestColumn } from '../support/dimensions.js';
import { captureFromLog } from '../support/log.js';
import { until } from '../support/wait.js';

const COLUMNS: readonly TestColumn[] = [
  { source: 'id', type: 'integer', role: 'business key' },
  { source: 'state', type: 'text', role: 'tracked' },
];

let pipeline: TestPipeline;
beforeEach(async () => {
  pipeline = await createPipeline({ CDC_EXTRACTION_INTERVAL_SECONDS: '1', SHUTDOWN_TIMEOUT_SECONDS: '20' });
  await createSourceTable(pipeline.source, 'things', COLUMNS);
  await registerDimension(pipeline.warehouse, 'things', 'things', COLUMNS);
  await captureFromLog(pipeline, 'things');
});
afterEach(async () => {
  await stopPipeline(pipeline.settings);
  await pipeline.drop();
});

const run = (...args: string[]) => runCli(args, pipeline.env);
const services = async () => (await pipelineStatus(pipeline.settings)).services;
const service = async (name: string) => (await services()).find((each) => each.service === name);
const running = async () => (await services()).flatMap(({ service: name, state }) => (state === 'running' ? name : []));
const removeDemo = () =>
  pipeline.warehouse`select tidemark.remove_dimension(p_dimension_name => d.dimension_name, p_drop_history => true)
    from tidemark.dimensions as d where d.dimension_name <> 'things'`;
const states = async () =>
  (await pipeline.warehouse<{ state: string }[]>`select state from dim_things_history order by id, valid_from`).map(
    ({ state }) => state,
  );

describe('the reader of the log as a service', () => {
  test('runs beside the extractor where one table is captured from the log and others are polled; start, status, logs, restart and stop know it', async () => {
    expect((await run('start')).stdout).toMatch(/^streamer +running/m);
    expect(await running()).toEqual(['extractor', 'streamer', 'loader']);
    for (const state of ['one', 'two', 'three'])
      await pipeline.source`insert into things values (1, ${state}) on conflict (id) do update set state = excluded.state`;
    await until(async () => (await states()).length === 3);
    expect(await states()).toEqual(['one', 'two', 'three']);
    const told = await until(async () => {
      const now = await service('streamer');
      return now?.last_success_at != null && now;
    });
    expect(told).toMatchObject({ failed_rounds: 0, last_error: null, table_errors: {} });
    expect((await run('logs', 'streamer')).stdout).toContain('Starting reader of the log');
    const [noted] = await pipeline.warehouse`
      select status, performance_metrics ->> 'changes' as changes from pipeline_metadata where pipeline_name = 'stream'`;
    expect(noted).toEqual({ status: 'running', changes: '3' });
    const restarted = await run('restart');
    expect(restarted.stdout).toMatch(/^streamer +running/m);
    expect((await service('streamer'))?.pid).not.toBe(told.pid);
    await pipeline.source`delete from things`;
    await until(async () => (await pipeline.warehouse`select from dim_things_history where is_current`).length === 0);
    expect((await service('loader'))?.failed_rounds).toBe(0);
    expect((await run('stop')).stdout).toMatch(/^streamer \(process \d+\): stopped/m);
    const log = await readFile(path.join(pipeline.folder, 'logs', 'streamer.log'), 'utf8');
    expect(log.split('\n').filter((line) => /"level":"?(error|warn)/i.test(line))).toEqual([]);
  });

  test('runs without an extractor where no table is polled, and takes its place at a restart once the last one is handed over, with a reconciler that proves it', async () => {
    await pipeline.warehouse`select tidemark.declare_capture(p_dimension_name => 'things', p_capture => 'poll')`;
    await removeDemo();
    await run('start');
    expect(await running()).toEqual(['extractor', 'loader', 'reconciler']);
    await pipeline.warehouse`select tidemark.declare_capture(p_dimension_name => 'things', p_capture => 'both')`;
    await run('restart');
    expect(await running()).toEqual(['streamer', 'loader', 'reconciler']);
    await pipeline.warehouse`select tidemark.pause_dimension(p_dimension_name => 'things', p_is_paused => true)`;
    await run('stop');
    await run('start');
    expect(await running()).toEqual(['streamer', 'loader']);
  });

  test('waits in silence where no table is captured from the log, as a unit of systemd or a container may', async () => {
    await pipeline.warehouse`select tidemark.declare_capture(p_dimension_name => 'things', p_capture => 'poll')`;

    const ended = run('stream', '--watch', '--load', '--service');
    await until(async () => ((await service('streamer'))?.rounds ?? 0) > 1);
    expect(await service('streamer')).toMatchObject({ failed_rounds: 0, last_error: null });
    await pipeline.source`insert into things values (1, 'one')`;
    await pipeline.warehouse`select tidemark.declare_capture(p_dimension_name => 'things', p_capture => 'log')`;
    await until(async () => (await states()).length === 1);
    expect((await run('stop')).stdout).toMatch(/^streamer/);
    expect(await ended).toMatchObject({ code: 0 });
  });
});
