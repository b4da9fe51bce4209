import { describe, expect, it } from 'vitest';
import { pauseAfter } from '../../runner/extract/rate-limit.js';
import { extractTables } from '../../runner/extract/tables.js';
import { describeStanding } from '../../runner/run/progress.js';
import { runCli } from '../support/cli.js';
import { beginEach, type TestPipeline } from '../support/databases.js';
import { batchesOf, createThings } from '../support/extraction.js';
import { until } from '../support/wait.js';

let pipeline: TestPipeline;
beginEach(
  (begun) => {
    pipeline = begun;
  },
  async () => {
    await createThings(pipeline);
  },
  { BATCH_SIZE: '10', BATCH_SIZE_MAX: '10' },
);

describe('a backfill', () => {
  it('reads no more rows in a second than it was told to', async () => {
    await pipeline.source`insert into things select g, 'row', now() from generate_series(1, 40) as g`;
    const began = Date.now();
    await extractTables({ settings: pipeline.settings, tables: ['things'], maxRowsPerSecond: 50 });
    const instants = (await batchesOf(pipeline)).map(({ batch_metadata }) => Date.parse(batch_metadata.extracted_at));
    expect(instants).toHaveLength(4);
    // The fourth ten come when thirty have had their time, from the beginning of the run.
    expect((instants.at(-1) ?? 0) - began).toBeGreaterThanOrEqual(590);
  });

  it('ends soon when it is interrupted in a pause', async () => {
    await pipeline.source`insert into things select g, 'row', now() from generate_series(1, 40) as g`;
    const interruption = new AbortController();
    const extraction = extractTables({
      settings: pipeline.settings,
      tables: ['things'],
      maxRowsPerSecond: 0.001,
      signal: interruption.signal,
    });
    await until(async () => (await batchesOf(pipeline).catch(() => [])).length > 0);
    interruption.abort();
    expect(await extraction).toMatchObject([{ batches: 1 }]);
  });

  it('refuses a rate that is none', async () => {
    const { code, stderr } = await runCli(['extract', '--max-rows-per-second', '0'], pipeline.env);
    expect(stderr).toContain('--max-rows-per-second is 0, accepted is one number above 0');
    expect(code).toBe(2);
  });

  it('of a large table warns where no index serves it, with the statement that makes one', async () => {
    await pipeline.source`insert into things select g, repeat('x', 1000), now() from generate_series(1, 9000) as g`;
    await pipeline.source`create index on things (id, touched)`;
    const extract = () =>
      runCli(['extract', '--table', 'things'], { ...pipeline.env, BATCH_SIZE: '10000', BATCH_SIZE_MAX: '10000' });
    const first = await extract();
    const statement = /On the source: (create index concurrently on public.things \(touched, id\))$/m.exec(
      first.stderr,
    )?.[1];
    expect(first.stderr).toContain('no index of public.things serves extraction');
    await pipeline.source.unsafe(statement ?? '');
    expect((await extract()).stderr).not.toContain('index');
  });
});

describe('the progress of a run', () => {
  it.each([
    [{ done: 500, total: 1500, seconds: 10 }, 'extract: 500 of 1500, 50 a second, 20 s left'],
    [{ done: 500, total: 1_000_500, seconds: 10 }, 'extract: 500 of 1000500, 50 a second, 5 h 33 min left'],
    [{ done: 500, total: 10_000, seconds: 10 }, 'extract: 500 of 10000, 50 a second, 3 min 10 s left'],
    [{ done: 1600, total: 1500, seconds: 10 }, 'extract: 1600 of 1600, 160 a second'],
    [{ done: 500, total: undefined, seconds: 10 }, 'extract: 500, 50 a second'],
    [{ done: 0, total: 10, seconds: 0 }, 'extract: 0 of 10'],
  ])('%j is told as %s', (standing, text) => {
    expect(describeStanding({ label: 'extract', ...standing })).toBe(text);
  });

  it('that was too fast waits for the rest of its time', () => {
    expect(pauseAfter(100, 400, 100)).toBe(600);
    expect(pauseAfter(100, 1400, 100)).toBe(0);
  });
});
