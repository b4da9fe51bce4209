import { readFile, writeFile } from 'node:fs/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { batchFiles, openChangeLog } from '../../runner/change-log/chain.js';
import { ChangeLogWatch } from '../../runner/change-log/watch.js';
import { extractTables } from '../../runner/extract/tables.js';
import { captureTable } from '../../runner/operate/capture.js';
import { runCli, startCli, type RunningCli } from '../support/cli.js';
import { beginEach, type TestPipeline } from '../support/databases.js';
import { captureFromLog, registerThings, stream } from '../support/log.js';
import { until } from '../support/wait.js';

/** So long that nothing here is seen because it was time to look. */
const INTERVAL = '3600';

let pipeline: TestPipeline;
let running: RunningCli[];
beginEach(
  (begun) => {
    pipeline = begun;
  },
  async () => {
    await registerThings(pipeline, 'things', 'others');
    await extract();
  },
  { CDC_EXTRACTION_INTERVAL_SECONDS: INTERVAL },
);
beforeEach(() => {
  running = [];
});
afterEach(async () => {
  for (const { kill } of running) kill('SIGTERM');
  await Promise.all(running.map(({ ended }) => ended));
});

const extract = (...tables: string[]) => extractTables({ settings: pipeline.settings, tables });
const insert = (table: string, id: number) =>
  pipeline.source`insert into ${pipeline.source(table)} values (${id}, 'one')`;
const loaded = async (table: string) =>
  (await pipeline.warehouse.unsafe<{ id: number }[]>(`select id from dim_${table}_history order by id`)).map(
    ({ id }) => id,
  );
const waiting = async (table: string) =>
  (await batchFiles(await openChangeLog(pipeline.settings.cdc_log_dir, table))).length;

/** Starts a part of the pipeline, and waits until it has done its first round. */
async function start(...args: string[]): Promise<RunningCli> {
  const process = startCli(args, pipeline.env);
  running.push(process);
  const [name = ''] = args;
  await until(async () => {
    const rows = await pipeline.warehouse`
      select from pipeline_metadata where pipeline_name = ${name} and (performance_metrics ->> 'rounds')::integer > 0`;
    return rows.length > 0;
  });
  return process;
}

describe('a loader that goes on until it is interrupted', () => {
  it('looks at all once an interval, also where the look fails before it has begun', () => {
    const watching = new ChangeLogWatch(pipeline.settings.cdc_log_dir, Number(INTERVAL) * 1000);
    expect(watching.take()).toBeUndefined();
    expect(watching.take()).toEqual(new Set());
  });

  it('wakes when a batch is published, also while another table cannot be loaded, and ends at once when it is told to', async () => {
    const loader = await start('load', '--watch');
    await insert('things', 1);
    await extract('things');
    await until(async () => (await loaded('things')).length === 1);
    // A file that is cut stops its own table.
    loader.kill('SIGSTOP');
    await insert('things', 2);
    await extract('things');
    // The one before it may still wait to be moved away.
    const file = (await batchFiles(await openChangeLog(pipeline.settings.cdc_log_dir, 'things'))).at(-1) ?? '';
    const whole = await readFile(file, 'utf8');
    await writeFile(file, whole.slice(0, -30));
    loader.kill('SIGCONT');
    await until(() => Promise.resolve(loader.stderr().includes('it is truncated')));
    for (const id of [1, 2]) {
      await insert('others', id);
      await extract('others');
      await until(async () => (await loaded('others')).length === id);
    }
    expect(await loaded('things')).toEqual([1]);
    loader.kill('SIGTERM');
    expect((await loader.ended).code).toBe(0);
  });

  it('loads what a reader of the log brings that has no table at first, and takes one up as soon as it is handed over', async () => {
    await start('load', '--watch');
    await start('stream', '--watch');
    await captureTable(pipeline.settings, 'things', 'log');
    for (const id of [1, 2]) {
      await insert('things', id);
      await until(async () => (await loaded('things')).length === id);
    }
  });
});

it('a table that is paused is read from the log all the same, and loaded when it goes on', async () => {
  await captureFromLog(pipeline, 'things', 'others');
  const pause = (isPaused: boolean) =>
    pipeline.warehouse`select tidemark.pause_dimension(p_dimension_name => 'things', p_is_paused => ${isPaused})`;
  await pause(true);
  await insert('things', 1);
  expect((await runCli(['stream', '--load'], pipeline.env)).code).toBe(0);
  expect([await waiting('things'), await loaded('things')]).toEqual([1, []]);
  const reader = startCli(['stream', '--watch', '--load'], pipeline.env);
  running.push(reader);
  await insert('things', 2);
  await insert('others', 2);
  await until(async () => (await loaded('others')).length === 1);
  expect([await waiting('things'), await loaded('things')]).toEqual([2, []]);
  const [noted] = await pipeline.warehouse`select tables from tidemark.stream_positions`;
  expect(noted).toEqual({ tables: ['others'] });
  await pause(false);
  await until(async () => (await loaded('things')).length === 2);
});

it('a table that cannot be loaded holds up no other of the log, nor its reader', async () => {
  await captureFromLog(pipeline, 'things', 'others');
  await insert('things', 1);
  await stream(pipeline);
  const [file = ''] = await batchFiles(await openChangeLog(pipeline.settings.cdc_log_dir, 'things'));
  const whole = await readFile(file, 'utf8');
  await writeFile(file, whole.slice(0, -30));
  const reader = startCli(['stream', '--watch', '--load'], pipeline.env);
  running.push(reader);
  await until(() => Promise.resolve(reader.stderr().includes('it is truncated')));
  for (const id of [1, 2, 3, 4]) {
    await insert('others', id);
    await until(async () => (await loaded('others')).length === id);
  }
  expect(await loaded('things')).toEqual([]);
  const [noted] = await pipeline.warehouse`select tables from tidemark.stream_positions`;
  expect(noted).toEqual({ tables: ['others'] });
});
