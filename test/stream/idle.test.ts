import { afterEach, beforeEach, expect, it } from 'vitest';
import { connect } from '../../runner/base/database.js';
import { renderMetrics } from '../../runner/operate/metrics.js';
import { pipelineStatus } from '../../runner/operate/status.js';
import { readPosition, slotOf } from '../../runner/stream/position.js';
import { streamTables } from '../../runner/stream/stream.js';
import { createEmptyDatabase, createPipeline, type TestDatabase, type TestPipeline } from '../support/databases.js';
import { createSourceTable, registerDimension, type TestColumn } from '../support/dimensions.js';
import { captureFromLog } from '../support/log.js';
import { until } from '../support/wait.js';

const COLUMNS: readonly TestColumn[] = [
  { source: 'id', type: 'integer', role: 'business key' },
  { source: 'state', type: 'text', role: 'tracked' },
];

let pipeline: TestPipeline;
let other: TestDatabase;
beforeEach(async () => {
  pipeline = await createPipeline({ STREAM_HEARTBEAT_SECONDS: '1' });
  other = await createEmptyDatabase();
  await createSourceTable(pipeline.source, 'things', COLUMNS);
  await registerDimension(pipeline.warehouse, 'things', 'things', COLUMNS);
  await captureFromLog(pipeline, 'things');
});
afterEach(async () => {
  await other.drop();
  await pipeline.drop();
});

it('a quiet database beside a busy one keeps no log for its slot, and what is known of it grows no older', async () => {
  const { slot } = slotOf(pipeline.settings);
  await pipeline.source`insert into things values (1, 'one')`;
  const ending = new AbortController();
  const reading = streamTables({ settings: pipeline.settings, signal: ending.signal, isEndless: true });
  const position = () => readPosition(pipeline.settings.cdc_log_dir, slot);
  const retained = async () => {
    const page = await renderMetrics(pipeline.settings);
    expect(page).toContain(`tidemark_slot_is_lost{slot="${slot}"} 0`);
    return Number(new RegExp(`^tidemark_slot_retained_bytes\\{slot="${slot}"\\} (.*)$`, 'm').exec(page)?.[1]);
  };
  await until(async () =>
    (await renderMetrics(pipeline.settings)).includes(`tidemark_slot_is_active{slot="${slot}"} 1`),
  );
  const MOST = 16 * 1024 ** 2;
  const admin = connect(pipeline.admin.source, 'test', 1);
  const before = await retained();
  for (let round = 0; round < 2; round += 1)
    await other.sql`select pg_logical_emit_message(false, 'noise', repeat('x', 1000000)) from generate_series(1, 16)`;
  // Where a slot begins again moves with what the server notes of its transactions: at a checkpoint, and now and then.
  await admin`checkpoint`;
  await admin.end();
  await until(async () => (await retained()) < MOST);
  expect(before).toBeLessThan(MOST);
  const known = await until(async () => {
    const now = await position();
    return now?.complete_at != null && now.complete_at > now.last_commit_time && now;
  });
  await until(async () => ((await position())?.complete_at ?? '') > (known.complete_at ?? ''));
  expect((await position())?.last_commit_time).toBe(known.last_commit_time);
  const things = (await pipelineStatus(pipeline.settings)).tables.find(({ table }) => table === 'things');
  const sinceCommit = (Date.now() - Date.parse(known.last_commit_time)) / 1000;
  expect(things?.lag_seconds).toBeLessThan(sinceCommit);
  ending.abort();
  await reading;
});
