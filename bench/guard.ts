import {
  insertAndUpdate,
  lateChanges,
  longHistory,
  pageOfRows,
  wholeWay,
  type Figure,
  type Size,
} from './scenarios.js';
import type { Bench } from './server.js';

/**
 * A guard against becoming slow: ratios in small, with limits three times and more what a quiet machine measures. On a quiet machine a
 * limit that is passed is no noise: something costs per change, or per version of the history, what it did not. On a busy one it may be,
 * which is why this is no part of the suite.
 */
const LIMITS: readonly (readonly [typeof longHistory, readonly number[]])[] = [
  [insertAndUpdate, [9, 14, 1, 1]],
  [longHistory, [4]],
  [lateChanges, [9]],
  [pageOfRows, [8]],
  [wholeWay, [30, 30]],
];

const SMALL: Size = { changes: 5000, history: 100_000, runs: 3, backlog: 300_000 };

/** The best of the runs, since noise only makes a run slower: of the two times of a ratio, the least each; below 1 where the first is quicker. */
function best({ name, bound, seconds }: Figure): number {
  const [measured, beside] = Object.values(seconds).map(({ min }) => min);
  if (measured === undefined || beside === undefined) throw new Error(`"${name}" compares nothing`);
  return bound === 'at most' ? measured / beside : beside / measured;
}

/** What passes its limit, a line each; nothing where all is well. */
export async function slowerThanLimits(bench: Bench, say: (line: string) => void): Promise<string[]> {
  const slower: string[] = [];
  for (const [scenario, limits] of LIMITS) {
    const figures = (await scenario(bench, SMALL, say)).filter(({ seconds }) => Object.keys(seconds).length === 2);
    if (figures.length !== limits.length) throw new Error(`${scenario.name} gives ${String(figures.length)} figures`);
    for (const [index, figure] of figures.entries()) {
      const [measured, limit] = [best(figure), limits[index] ?? 0];
      say(`${figure.name}: ${measured.toFixed(2)}, limit ${String(limit)}`);
      if (!(measured < limit)) slower.push(`${figure.name}: ${measured.toFixed(2)} passes ${String(limit)}`);
    }
  }
  return slower;
}
