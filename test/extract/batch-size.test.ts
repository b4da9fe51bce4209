import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { nextBatchSize, startSizing } from '../../runner/extract/batch-size.js';
import { loadSettings, type Settings } from '../../runner/base/settings.js';
import { extractTables } from '../../runner/extract/tables.js';
import { createPipeline, type TestPipeline } from '../support/databases.js';
import { batchesOf, createThings } from '../support/extraction.js';
import { loadTables } from '../../runner/load/tables.js';

const LIMITS = { least: 100, most: 1000, target_seconds: 10 };
const settingsOf = (environment: Record<string, string>): Settings => loadSettings(environment, '/');
const ADAPTIVE = { BATCH_SIZE: '100', BATCH_SIZE_MIN: '50', BATCH_SIZE_MAX: '800' };

describe('the size of the next batch', () => {
  it.each([
    ['doubles while batches are quick', 200, 9.9, 400],
    ['stays while they are not', 200, 10, 200],
    ['stays short of slow', 200, 59.9, 200],
    ['halves when they are slow', 400, 60, 200],
    ['is never above the most', 900, 1, 1000],
    ['is never below the least', 150, 90, 100],
  ])('%s', (_, size, seconds, expected) => {
    expect(nextBatchSize(size, seconds, LIMITS)).toBe(expected);
  });
});

describe('the batches of a table', () => {
  it('grow up to 10,000, or BATCH_SIZE where that is more, and never below BATCH_SIZE, unless limits are set', () => {
    const grown = [100, 3000, 20_000].map((least) => {
      const size = startSizing(settingsOf({ BATCH_SIZE: String(least) }), 'orders', undefined);
      for (let full = 0; full < 9; full += 1) size.measured({ changes: size.rows(), seconds: 0.1 });
      const most = size.rows();
      for (let slow = 0; slow < 9; slow += 1) size.measured({ changes: size.rows(), seconds: 100 });
      return [size.rows(), most];
    });
    expect(grown).toEqual([
      [100, 10_000],
      [3000, 10_000],
      [20_000, 20_000],
    ]);
  });

  it('are of BATCH_SIZE, whatever time they take, where BATCH_SIZE_MAX is the same', () => {
    const size = startSizing(settingsOf({ BATCH_SIZE: '100', BATCH_SIZE_MAX: '100' }), 'orders', 5000);
    for (const seconds of [0.1, 100]) size.measured({ changes: 100, seconds });
    expect(size.rows()).toBe(100);
  });

  it('begin with BATCH_SIZE and grow while more waits, up to BATCH_SIZE_MAX', () => {
    const size = startSizing(settingsOf(ADAPTIVE), 'orders', 800);
    const sizes = [1, 2, 3, 4, 5].map(() => {
      const rows = size.rows();
      size.measured({ changes: rows, seconds: 1 });
      return rows;
    });
    expect(sizes).toEqual([100, 200, 400, 800, 800]);
  });

  it('do not grow by pages that are not full: nothing waits', () => {
    const size = startSizing(settingsOf(ADAPTIVE), 'orders', 800);
    size.measured({ changes: 99, seconds: 0.1 });
    expect(size.rows()).toBe(100);
  });

  it('shrink by slow pages, full or not, down to BATCH_SIZE_MIN', () => {
    const size = startSizing(settingsOf(ADAPTIVE), 'orders', 800);
    for (const changes of [40, 30]) size.measured({ changes, seconds: 60 });
    expect(size.rows()).toBe(50);
  });

  it('stay below what the ledger says is loaded well, and begin there', () => {
    const settings = settingsOf(ADAPTIVE);
    const first = startSizing(settings, 'orders', 300);
    first.measured({ changes: 100, seconds: 1 });
    first.measured({ changes: 200, seconds: 1 });
    expect(first.rows()).toBe(300);
    expect(startSizing(settings, 'orders', 150).rows()).toBe(150);
  });

  it('go on from where they were in the next poll, and while the warehouse is away', () => {
    const settings = settingsOf(ADAPTIVE);
    startSizing(settings, 'orders', 150).measured({ changes: 100, seconds: 1 });
    const away = startSizing(settings, 'orders', undefined);
    away.measured({ changes: 150, seconds: 1 });
    expect(away.rows()).toBe(150);
    expect(startSizing(settings, 'customers', undefined).rows()).toBe(100);
  });
});

describe('of rows so large that BATCH_MAX_BYTES cuts the page short', () => {
  const cut = (rows_read: number) => ({ rows_read, has_more: true });

  it('twice as many are asked for as fitted, in the next poll too', () => {
    const settings = settingsOf({ BATCH_SIZE: '8000' });
    startSizing(settings, 'orders', undefined).read(cut(400));
    expect(startSizing(settings, 'orders', undefined).rows()).toBe(800);
  });

  it('never fewer than 20 are asked for', () => {
    const size = startSizing(settingsOf({ BATCH_SIZE: '8000' }), 'orders', undefined);
    size.read(cut(1));
    expect(size.rows()).toBe(20);
  });

  it('as soon as all that were asked for fit, more are, up to BATCH_SIZE again', () => {
    const size = startSizing(settingsOf({ BATCH_SIZE: '1000' }), 'orders', undefined);
    size.read(cut(100));
    const asked = [1, 2, 3, 4].map(() => {
      const rows = size.rows();
      size.read({ rows_read: rows, has_more: true });
      return rows;
    });
    expect(asked).toEqual([200, 400, 800, 1000]);
  });

  it('the last page, short because nothing is left, changes nothing', () => {
    const size = startSizing(settingsOf({ BATCH_SIZE: '1000' }), 'orders', undefined);
    size.read({ rows_read: 3, has_more: false });
    expect(size.rows()).toBe(1000);
  });
});

describe('a backlog', () => {
  let pipeline: TestPipeline;
  beforeEach(async () => {
    pipeline = await createPipeline({ BATCH_SIZE: '10', BATCH_SIZE_MAX: '40' });
    await createThings(pipeline);
  });
  afterEach(async () => {
    await pipeline.drop();
  });
  const extract = () => extractTables({ settings: pipeline.settings, tables: ['things'] });
  const sizes = async () => (await batchesOf(pipeline)).map(({ batch_metadata }) => batch_metadata.change_count);

  it('is written in batches that grow, and loads', async () => {
    await pipeline.source`insert into things select g, 'row', now() from generate_series(1, 120) as g`;
    await extract();
    expect(await sizes()).toEqual([10, 20, 40, 40, 10]);
    expect(await loadTables({ settings: pipeline.settings, tables: ['things'] })).toMatchObject([
      { batches: 5, inserted_versions: 120 },
    ]);
  });

  it('of 14,630 rows is eight batches by default', async () => {
    Object.assign(pipeline.settings, { batch_size: 100, batch_size_max: undefined });
    await pipeline.source`insert into things select g, 'row', now() from generate_series(1, 14630) as g`;
    await extract();
    expect(await sizes()).toEqual([100, 200, 400, 800, 1600, 3200, 6400, 1930]);
  });

  it('of rows that grow and shrink is read to its end', async () => {
    Object.assign(pipeline.settings, { batch_size: 100, batch_size_max: 100, batch_max_bytes: 20_000 });
    await pipeline.source`insert into things select g, repeat('x', case when g between 50 and 90 then 3000 else 3 end), now() + g * interval '1 ms' from generate_series(1, 300) as g`;
    await extract();
    const counts = await sizes();
    expect(counts.reduce((sum, count) => sum + count, 0)).toBe(300);
    expect(counts.filter((count) => count < 10).length).toBeGreaterThan(5);
    expect(counts.at(-1)).toBeGreaterThan(20);
    expect(await loadTables({ settings: pipeline.settings, tables: ['things'] })).toMatchObject([
      { inserted_versions: 300 },
    ]);
  });

  it('is written in smaller batches once the ledger shows that the large ones load slowly', async () => {
    await pipeline.source`insert into things select g, 'row', now() from generate_series(1, 70) as g`;
    await extract();
    await loadTables({ settings: pipeline.settings, tables: ['things'] });
    await pipeline.warehouse`update tidemark.batches set apply_started_at = applied_at - interval '61 s' where change_count = 40`;
    await pipeline.source`insert into things select g, 'row', now() from generate_series(101, 140) as g`;
    await extract();
    expect(await sizes()).toEqual([20, 20]);
  });
});
