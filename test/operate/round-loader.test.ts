import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { appliedFiles, batchFiles } from '../../runner/change-log/chain.js';
import { startCompressing, type Compressing } from '../../runner/change-log/applied.js';
import type { NewBatch } from '../../runner/change-log/publish.js';
import { loadNew } from '../../runner/load/chain.js';
import { loadTables } from '../../runner/load/tables.js';
import { streamTables } from '../../runner/stream/stream.js';
import { runChecks } from '../../runner/warehouse/checks.js';
import { startCli } from '../support/cli.js';
import { createPipeline, type TestPipeline } from '../support/databases.js';
import { createSourceTable, registerDimension, type TestColumn } from '../support/dimensions.js';
import { captureFromLog } from '../support/log.js';
import { until } from '../support/wait.js';

/** What the reader of the log has just written is made history of from memory, while it is published. */

const COLUMNS: readonly TestColumn[] = [
  { source: 'id', type: 'integer', role: 'business key' },
  { source: 'state', type: 'text', role: 'tracked' },
];

let pipeline: TestPipeline;
beforeEach(async () => {
  pipeline = await createPipeline({ CDC_EXTRACTION_INTERVAL_SECONDS: '1' });
  await createSourceTable(pipeline.source, 'things', COLUMNS);
  await registerDimension(pipeline.warehouse, 'things', 'things', COLUMNS);
  await captureFromLog(pipeline, 'things');
});
afterEach(async () => {
  await pipeline.drop();
});

const insert = (id: number) => pipeline.source`insert into things values (${id}, 'one')`;
const loaded = async () =>
  (await pipeline.warehouse<{ id: number }[]>`select id from dim_things_history order by id`).map(({ id }) => id);

describe('a batch that is being published', () => {
  let batch: NewBatch;
  let compressing: Compressing;
  beforeEach(async () => {
    await insert(1);
    const batches: NewBatch[] = [];
    await streamTables({
      settings: pipeline.settings,
      signal: new AbortController().signal,
      isEndless: false,
      onRound: (round) => Promise.resolve(void batches.push(...round.batches)),
    });
    [batch] = batches as [NewBatch];
    compressing = startCompressing(batch.log);
  });
  const load = (published: Promise<string>, lines = batch.lines) =>
    loadNew(pipeline.warehouse, pipeline.settings, { ...batch, lines, published }, compressing);

  it('is in history as soon as it is published, and not before', async () => {
    let publish: (file: string) => void = () => undefined;
    const loading = load(new Promise((resolve) => (publish = resolve)));
    const waits = async () =>
      (
        await pipeline.source`
          select from pg_stat_activity
          where datname = ${pipeline.settings.warehouse.database} and state = 'idle in transaction'
            and state_change < clock_timestamp() - interval '1 second'`
      ).length > 0;
    await until(waits);
    expect(await loaded()).toEqual([]);
    publish('');
    expect(await loading).toBe(true);
    expect(await loaded()).toEqual([1]);
    await compressing.finish();
    expect(await batchFiles(batch.log)).toEqual([]);
    expect((await appliedFiles(batch.log)).at(-1)).toMatch(new RegExp(`${batch.metadata.batch_id}.json.gz$`));
  });

  it('and that could not be, is not in history, until it is read from its file', async () => {
    const failed = Promise.reject(new Error('the disk is full'));
    failed.catch(() => undefined);
    expect(await load(failed)).toBe(false);
    expect(await loaded()).toEqual([]);
    await loadTables({ settings: pipeline.settings, tables: ['things'] });
    expect(await loaded()).toEqual([1]);
  });

  it('is refused where what is in memory is not what its checksum was taken of', async () => {
    const altered = Buffer.from(batch.lines.toString().replace('one', 'two'));
    await expect(load(Promise.resolve(''), altered)).rejects.toThrow('the checksum does not fit');
    expect(await loaded()).toEqual([]);
  });
});

it.each(['apply', 'stream published', 'commit', 'committed'])(
  'a reader that is killed at %s, while it loads from memory, leaves nothing that the next one does not make good',
  async (place) => {
    // The first two rounds are loaded from files: nothing was loaded by this process before.
    const env = { ...pipeline.env, NODE_ENV: 'test', TIDEMARK_FAILPOINT: `${place}:4:kill` };
    const { ended } = startCli(['stream', '--watch', '--load'], env);
    let [rows, isOver] = [0, false];
    void ended.then(() => (isOver = true));
    while (!isOver) {
      rows += 1;
      await insert(rows);
      await until(async () => isOver || (await loaded()).length === rows);
    }
    expect((await ended).code).toBeNull();
    const next = startCli(['stream', '--load'], pipeline.env);
    const { code, stderr } = await next.ended;
    expect(code, stderr).toBe(0);
    expect(await loaded()).toEqual(Array.from({ length: rows }, (_, index) => index + 1));
    const faults = (await runChecks(pipeline.warehouse, ['pipeline', 'scd2'])).filter(
      ({ violations }) => violations > 0,
    );
    expect(faults).toEqual([]);
  },
);
