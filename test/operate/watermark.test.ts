import { readFile, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { batchFiles, changeLogOf } from '../../runner/change-log/chain.js';
import { listCheckpoints, rewind } from '../../runner/operate/watermark.js';
import { runCli } from '../support/cli.js';
import { preparePipeline, type PreparedPipeline, type TestPipeline } from '../support/databases.js';
import { captured, createThings, extractThings } from '../support/extraction.js';
import { loadTables } from '../../runner/load/tables.js';

let prepared: PreparedPipeline;
let pipeline: TestPipeline;
beforeAll(async () => {
  const prepare = async (first: TestPipeline) => {
    await createThings(first);
    for (const id of [1, 2, 3]) {
      await first.source`insert into things values (${id}, 'new', clock_timestamp())`;
      await extractThings(first, { heartbeat_seconds: 0 });
    }
  };
  const settings = { BATCH_SIZE: '10', BATCH_SIZE_MAX: '10', WATERMARK_ADVANCE_SECONDS: '0' };
  prepared = await preparePipeline(prepare, settings);
});
afterAll(() => prepared.drop());
beforeEach(async () => {
  pipeline = await prepared.begin();
});
afterEach(async () => {
  await pipeline.drop();
});

const load = () => loadTables({ settings: pipeline.settings, tables: ['things'] });
const checkpoints = () => listCheckpoints(pipeline.settings, 'things', 100);

describe('watermark rewind', () => {
  it('lets extraction go on from an earlier checkpoint: what came after it is read again, and absorbed', async () => {
    const first = (await checkpoints()).findLast(({ changes }) => changes > 0);
    const [before] = await load();
    expect(before?.inserted_versions).toBe(3);
    expect((await rewind(pipeline.settings, 'things', { sequence: (first?.sequence ?? 0) + 1 }))?.batch_id).toBeNull();
    expect(await extractThings(pipeline)).toMatchObject({ changes: 2 });
    expect(await load()).toMatchObject([{ inserted_versions: 0, absorbed_changes: 2 }]);
    expect(await extractThings(pipeline)).toMatchObject({ changes: 0 });
  });

  it('finds the checkpoint of an instant', async () => {
    const [newest, ...earlier] = await checkpoints();
    for (const each of earlier)
      expect((await rewind(pipeline.settings, 'things', { instant: each.extracted_at }))?.extracted_at).toBe(
        each.extracted_at,
      );
    expect(newest).toBeDefined();
  });

  it('to before the first checkpoint reads everything again', async () => {
    expect(await rewind(pipeline.settings, 'things', { instant: '2000-01-01T00:00:00Z' })).toBeUndefined();
    expect(await extractThings(pipeline)).toMatchObject({ changes: 3 });
    expect((await captured(pipeline)).length).toBe(6);
  });

  it('to a checkpoint of another server reads everything again: its transactions mean nothing in this one', async () => {
    const [, before] = await checkpoints();
    const file = path.join(
      changeLogOf(pipeline.settings.cdc_log_dir, 'things').checkpoints,
      `${String(before?.sequence)}.json`,
    );
    const ahead = '"snapshot": "900000000:900000000:"';
    await writeFile(
      file,
      (await readFile(file, 'utf8'))
        .replace(/"timeline": \d+/, '"timeline": 41')
        .replaceAll(/"snapshot": "[^"]*"/g, ahead),
    );
    expect(await rewind(pipeline.settings, 'things', { sequence: before?.sequence ?? 0 })).toBeUndefined();
    expect(await extractThings(pipeline)).toMatchObject({ changes: 3 });
  });

  it('into the middle of a sweep goes on in the middle of it', async () => {
    await pipeline.source`insert into things select g, 'many', clock_timestamp() from generate_series(101, 135) as g`;
    await extractThings(pipeline);
    const open = (await checkpoints()).filter(({ is_complete: isComplete, changes }) => !isComplete && changes === 10);
    expect(await rewind(pipeline.settings, 'things', { sequence: open[0]?.sequence ?? 0 })).toMatchObject({
      sweep: { complete: false },
    });
    expect(await extractThings(pipeline)).toMatchObject({ changes: 5 });
  });
});

describe('tidemark watermark', () => {
  it('lists how far each table has come, and what waits', async () => {
    const { code, stdout } = await runCli(['watermark', 'list', '--json'], pipeline.env);
    expect(code).toBe(0);
    const known = (text: string) =>
      (
        JSON.parse(text) as { table: string; waiting_batches: number; loaded_sequence: number; sequence: number }[]
      ).filter(({ table }) => ['orders', 'things'].includes(table));
    expect(known(stdout)).toMatchObject([
      { table: 'orders', sequence: null, waiting_batches: 0, loaded_sequence: null },
      { table: 'things', is_complete: true, waiting_batches: 3, waiting_changes: 3, loaded_sequence: null },
    ]);
    await load();
    const [, things] = known((await runCli(['watermark', 'list', '--json'], pipeline.env)).stdout);
    expect(things?.waiting_batches).toBe(0);
    expect(things?.loaded_sequence).toBeLessThanOrEqual(things?.sequence ?? 0);
  });

  it('shows the newest checkpoints, and rewinds by sequence or instant', async () => {
    expect(
      (await runCli(['watermark', 'show', '--table', 'things', '--last', '2'], pipeline.env)).stdout.trim().split('\n'),
    ).toHaveLength(3);
    const rewound = await runCli(['watermark', 'rewind', '--table', 'things', '--to', '1'], pipeline.env);
    expect(rewound).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('things: extraction goes on from checkpoint 1 of') as string,
    });
    expect(
      (await runCli(['watermark', 'rewind', '--table', 'things', '--to', '2000-01-01T00:00:00Z'], pipeline.env)).stdout,
    ).toContain('from the beginning');
  });

  it('shows how far all tables are where a batch of one cannot be read', async () => {
    const log = changeLogOf(pipeline.settings.cdc_log_dir, 'things');
    const [first = ''] = await batchFiles(log);
    await truncate(first, 20);
    const { code, stdout } = await runCli(['watermark', 'list', '--json'], pipeline.env);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toContainEqual(
      expect.objectContaining({ table: 'things', waiting_batches: 3, waiting_changes: null }),
    );
    expect(JSON.parse(stdout)).toContainEqual(expect.objectContaining({ table: 'orders' }));
  });

  it.each([
    [
      ['rewind', '--table', 'things', '--to', '999'],
      /--to is 999, but the newest checkpoint of things is \d+\n.*watermark show --table things/,
    ],
    [['rewind', '--table', 'things', '--to', 'yesterday'], '--to is yesterday, accepted is a sequence, or an instant'],
    [['show'], 'this is for one table at a time'],
    [[], 'give one of list, show, rewind'],
  ])('refuses %j', async (args, message) => {
    const { code, stderr } = await runCli(['watermark', ...args], pipeline.env);
    expect(stderr).toMatch(message);
    expect(code).toBe(2);
  });

  it('says so where nothing was extracted yet', async () => {
    const { code, stderr } = await runCli(['watermark', 'rewind', '--table', 'orders', '--to', '1'], pipeline.env);
    expect(stderr).toContain('nothing of orders was extracted yet');
    expect(code).toBe(1);
  });
});
