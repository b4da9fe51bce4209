import { afterAll, beforeAll, expect, test } from 'vitest';
import { runnerMemory } from '../../bench/memory.js';
import { plot } from '../../bench/plot.js';
import { formatScale, manyChanges, manyVersions, parseScale } from '../../bench/scale.js';
import { byBatchSize, byHistorySize } from '../../bench/scaling.js';
import {
  againstRescan,
  formatFigures,
  insertAndUpdate,
  lateChanges,
  longHistory,
  pageOfRows,
  wholeWay,
  type Size,
} from '../../bench/scenarios.js';
import { openBench, type Bench } from '../../bench/server.js';
import { setLogLevel } from '../../runner/base/logger.js';

/** That the bench runs, in small. What it measures depends on the machine and is asserted nowhere; `npm run bench -- --guard` does that. */
const TINY: Size = { changes: 500, history: 2000, runs: 1, backlog: 300_000 };

let bench: Bench;
beforeAll(async () => {
  setLogLevel('WARNING');
  bench = await openBench(false, 2500);
});
afterAll(async () => {
  await bench.end();
});

const quiet = () => undefined;

test.each<[string, typeof longHistory, number]>([
  ['INSERT and UPDATE in batches', insertAndUpdate, 4],
  ['a long history', longHistory, 1],
  ['a snapshot that rescans', againstRescan, 1],
  ['late changes', lateChanges, 1],
  ['a page of rows', pageOfRows, 1],
  ['extract, log and load', wholeWay, 3],
])('%s: each figure is measured and printed', async (_, scenario, rows) => {
  const figures = await scenario(bench, TINY, quiet);
  expect(figures).toHaveLength(rows);
  for (const { ratio } of figures) expect(ratio.min).toBeGreaterThan(0);
  const printed = formatFigures(figures);
  for (const { name } of figures) expect(printed).toContain(name);
});

// 50 batches of 2 MB. While nothing gave back what batches left, the commands came to 160 and 170 MB; now to 90 and 115.
test('a backlog of many batches takes little memory', async () => {
  const batches = { ...bench, settings: { ...bench.settings, batch_size: 6000, batch_size_max: 6000 } };
  for (const { name, ratio } of await runnerMemory(batches, TINY, quiet)) expect(ratio.max, name).toBeLessThan(150);
});

test.each<[string, typeof manyChanges, number, readonly string[]]>([
  ['changes', manyChanges, 60_000, ['extract: the last tenth', 'load: the last tenth', 'load: most memory']],
  [
    'versions',
    manyVersions,
    20_000,
    ['1,000 changes to 20000 versions', 'as of a moment, one key', 'checks, all of scd2 and pipeline'],
  ],
])('a run in scale measures many %s, and every check passes on them', async (_, scenario, count, names) => {
  const found = await scenario(bench, count, quiet);
  expect(found.figures.map(({ name }) => name)).toEqual(expect.arrayContaining([...names]));
  expect(found.figures.filter(({ value }) => !(value > 0))).toEqual([]);
  expect(formatScale(found)).not.toContain('FAIL');
});

test.each([
  ['changes=10M', { what: 'changes', count: 10_000_000 }],
  ['versions=200K', { what: 'versions', count: 200_000 }],
  ['versions=7', { what: 'versions', count: 7 }],
  ['stream=10K', { what: 'stream', count: 10_000 }],
  ['events=5', { what: 'events', count: 5 }],
  ['rows=1M', undefined],
  ['changes=1G', undefined],
])('a scale is given as %s', (text, meant) => {
  expect(parseScale(text)).toEqual(meant);
});

test('the page draws every figure, and the curves of batch and history size', async () => {
  const size = { ...TINY, changes: 1000, history: 10_000, runs: 1 };
  const figures = await lateChanges(bench, size, quiet);
  const page = plot({ cores: 2 }, figures, [
    await byBatchSize(bench, size, quiet),
    await byHistorySize(bench, size, quiet),
  ]);
  expect(page.match(/<h2>/g)).toHaveLength(2);
  expect(page).toContain('late changes into');
  expect(page).not.toMatch(/NaN|Infinity/);
});
