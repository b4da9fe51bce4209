import { setTimeout as sleep } from 'node:timers/promises';

/** How long to wait, in milliseconds, before more rows may be read after so many in so many milliseconds. */
export function pauseAfter(rows: number, elapsed: number, maxRowsPerSecond: number): number {
  return Math.max(0, (rows / maxRowsPerSecond) * 1000 - elapsed);
}

/** The function returned waits, after each page, until the rate is kept, or the signal comes. Nothing is held on the source meanwhile. */
export function limitRate(
  maxRowsPerSecond: number | undefined,
  signal: AbortSignal | undefined,
): (rows: number) => Promise<void> {
  const started = performance.now();
  let read = 0;
  return async (rows) => {
    read += rows;
    if (maxRowsPerSecond === undefined) return;
    const pause = pauseAfter(read, performance.now() - started, maxRowsPerSecond);
    if (pause > 0) await sleep(pause, undefined, { signal }).catch(() => undefined);
  };
}
