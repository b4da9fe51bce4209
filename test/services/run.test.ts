import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { asRun } from '../../runner/services/run.js';
import { runCli } from '../support/cli.js';
import { createPipeline, type TestPipeline } from '../support/databases.js';

let pipeline: TestPipeline;
beforeEach(async () => {
  pipeline = await createPipeline();
});
afterEach(async () => {
  await pipeline.drop();
});

const runs = () => pipeline.warehouse<{ pipeline_name: string; status: string; metrics: string }[]>`
  select pipeline_name, status, performance_metrics::text as metrics from pipeline_metadata order by id`;
const metrics = async (name: string) =>
  JSON.parse((await runs()).find(({ pipeline_name }) => pipeline_name === name)?.metrics ?? 'null') as Record<
    string,
    unknown
  >;

describe('a run', () => {
  test('of every command is a row of pipeline_metadata that says how it ended, what it counted and what it measured', async () => {
    for (const command of ['simulate', 'extract', 'load']) expect((await runCli([command], pipeline.env)).code).toBe(0);
    expect((await runs()).map(({ pipeline_name, status }) => [pipeline_name, status])).toEqual([
      ['simulate', 'succeeded'],
      ['extract', 'succeeded'],
      ['load', 'succeeded'],
    ]);
    expect(await metrics('simulate')).toMatchObject({ changes: 10, rounds: 1, failed_rounds: 0 });
    const extracted = await metrics('extract');
    expect(Number(extracted.batches)).toBeGreaterThan(0);
    expect(extracted).toMatchObject({
      step_seconds: { read: expect.any(Number) as number, publish: expect.any(Number) as number },
      last_error: null,
    });
    const loaded = await metrics('load');
    expect(loaded).toMatchObject({
      changes: extracted.changes,
      batches: extracted.batches,
      step_seconds: { apply: expect.any(Number) as number },
    });
    for (const name of ['rows_per_second', 'peak_memory_bytes', 'cpu_seconds', 'seconds'])
      expect(loaded[name]).toBeGreaterThan(0);
    expect(loaded.latency_seconds).toMatchObject({ max: expect.any(Number) as number });
  });

  test('that fails says why, and leaves no row marked running', async () => {
    await runCli(['extract'], pipeline.env);
    await writeFile(path.join(pipeline.settings.cdc_log_dir, 'orders', 'changes_20260101_000000_000.json'), 'nonsense');
    expect((await runCli(['load'], pipeline.env)).code).toBe(1);
    expect((await runs()).map(({ status }) => status)).toEqual(['succeeded', 'failed']);
    expect((await metrics('load')).last_error).toMatchObject({
      error: expect.stringContaining('a batch file cannot be loaded') as string,
    });
  });

  test('that was interrupted says so', async () => {
    await asRun(pipeline.settings, { id: 'run 1', name: 'load', endsAs: () => 'interrupted' }, (run) =>
      run.round(() => Promise.resolve([])),
    );
    expect(await runs()).toMatchObject([{ status: 'interrupted' }]);
  });

  test('adds up what its rounds count, those that fail included', async () => {
    await asRun(pipeline.settings, { id: 'run 1', name: 'load', endsAs: () => 'succeeded' }, async (run) => {
      for (const changes of [1, 2])
        await run.round(() =>
          Promise.resolve([
            { table: 'orders', changes },
            { table: 'customers', changes },
          ]),
        );
      await run.round(() => Promise.reject(new Error('no'))).catch(() => undefined);
    });
    expect(await metrics('load')).toMatchObject({
      changes: 6,
      rounds: 3,
      failed_rounds: 1,
      last_error: { error: 'error: no' },
    });
  });

  test('of which every round failed has failed', async () => {
    await asRun(pipeline.settings, { id: 'run 1', name: 'load', endsAs: () => 'succeeded' }, async (run) => {
      await run.round(() => Promise.reject(new Error('no'))).catch(() => undefined);
    });
    expect(await runs()).toMatchObject([{ status: 'failed' }]);
  });

  test('does its work though the warehouse does not answer', async () => {
    const away = { ...pipeline.settings, warehouse: { ...pipeline.settings.warehouse, port: 1 } };
    expect(
      await asRun(away, { id: 'run 1', name: 'extract', endsAs: () => 'succeeded' }, () => Promise.resolve('done')),
    ).toBe('done');
  });
});
