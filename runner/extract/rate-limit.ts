import { setTimeout as sleep } from 'node:timers/promises';

/** Between two looks whether the run is to end: a long pause must not hold up an interruption. */
const LONGEST_NAP_MS = 200;

/** How long to wait, in milliseconds, before more rows may be read after so many in so many milliseconds. */
export function pauseAfter(rows: number, elapsed: number, maxRowsPerSecond: number): number {
  return Math.max(0, (rows / maxRowsPerSecond) * 1000 - elapsed);
}

/** The function returned waits, after each page, until the rate is kept. Nothing is held on the source meanwhile. */
export function limitRate(limit: {
  readonly maxRowsPerSecond?: number | undefined;
  readonly isStopping?: (() => boolean) | undefined;
}): (rows: number) => Promise<void> {
  const { maxRowsPerSecond, isStopping } = limit;
  const started = performance.now();
  let read = 0;
  return async (rows) => {
    read += rows;
    if (maxRowsPerSecond === undefined) return;
    for (let pause = 1; pause > 0 && isStopping?.() !== true; ) {
      pause = pauseAfter(read, performance.now() - started, maxRowsPerSecond);
      if (pause > 0) await sleep(Math.min(pause, LONGEST_NAP_MS));
    }
  };
}
