// Runs on each version: what is known of a slot is not the same on each.
import { afterAll, beforeAll, expect, it } from 'vitest';
import { pipelineStatus } from '../../runner/operate/status.js';
import { runCli } from '../support/cli.js';
import { createPipeline, type TestPipeline } from '../support/databases.js';
import { createSourceTable, registerDimension, type TestColumn } from '../support/dimensions.js';
import { captureFromLog, stream } from '../support/log.js';
import { slotOf } from '../../runner/stream/position.js';

const COLUMNS: readonly TestColumn[] = [
  { source: 'id', type: 'integer', role: 'business key' },
  { source: 'state', type: 'text', role: 'tracked' },
];

let pipeline: TestPipeline;
beforeAll(async () => {
  pipeline = await createPipeline();
  await createSourceTable(pipeline.source, 'things', COLUMNS);
  await registerDimension(pipeline.warehouse, 'things', 'things', COLUMNS);
  await captureFromLog(pipeline, 'things');
});
afterAll(async () => {
  await pipeline.drop();
});

it('status shows how a table is captured, the last commit that was read of the log, and that a table was stopped, why, and what to do', async () => {
  const things = async () => (await pipelineStatus(pipeline.settings)).tables.find(({ table }) => table === 'things');
  expect(await things()).toMatchObject({ capture: 'log', watermark: null, lag_seconds: null, last_error: null });
  await pipeline.source`insert into things values (1, 'one')`;
  await stream(pipeline);
  const seen = await things();
  expect(Date.now() - Date.parse(seen?.watermark ?? '')).toBeLessThan(600_000);
  expect(seen?.lag_seconds).toBeGreaterThanOrEqual(0);
  await pipeline.source.unsafe(`alter publication ${slotOf(pipeline.settings).publication} drop table things`);
  await stream(pipeline);
  expect(await things()).toMatchObject({
    lag_seconds: null,
    last_error: expect.stringMatching(
      /^not read from [0-9A-F/]+ of the log on: things is not in the publication any more; hand it over: npx tidemark table capture things log$/,
    ) as string,
  });
  const { stdout } = await runCli(['status'], pipeline.env);
  expect(stdout).toMatch(/table .* capture/);
  expect(stdout).toContain('things: not read from ');
});
