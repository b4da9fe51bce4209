import type { Database } from '../runner/base/database.js';

/** Seconds that `work` takes; a checkpoint before it, so that none falls into it. */
export async function seconds(database: Database, work: () => Promise<unknown>): Promise<number> {
  await database`checkpoint`;
  const started = performance.now();
  await work();
  return (performance.now() - started) / 1000;
}

/** Least, middle and greatest of some figures. */
export interface Spread {
  readonly min: number;
  readonly median: number;
  readonly max: number;
}

export function spread(figures: readonly number[]): Spread {
  const sorted = [...figures].sort((one, other) => one - other);
  const at = (place: number) => sorted[Math.min(sorted.length - 1, Math.max(0, place))] ?? Number.NaN;
  return { min: at(0), median: at(Math.floor(sorted.length / 2)), max: at(sorted.length - 1) };
}
