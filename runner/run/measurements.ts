import { statfsSync } from 'node:fs';
import { totalmem } from 'node:os';
import path from 'node:path';

/** What a run measures of itself: seconds spent in each step, and how long changes took to arrive. One process, one run. */
const nothing = () => ({
  /** In seconds, not rounded. */
  steps: {} as Record<string, number>,
  table_errors: {} as Record<string, { at: string; since: string; error: string }>,
  table_success: {} as Record<string, string>,
  pending_batches: {} as Record<string, number>,
  batch_size: {} as Record<string, number>,
  latency: { count: 0, sum: 0, max: 0 },
});
let measured = nothing();

/** Forgets what was measured: a new run begins. */
export function resetMeasurements(): void {
  measured = nothing();
}

/** Runs one step of the work and adds its time, in seconds, to that of the step's name. */
export async function timed<T>(step: string, work: () => Promise<T>): Promise<T> {
  const started = performance.now();
  try {
    return await work();
  } finally {
    measured.steps[step] = (measured.steps[step] ?? 0) + (performance.now() - started) / 1000;
  }
}

/** Notes how long it took, in seconds, from the capture of a batch to its being visible in the warehouse. */
export function observeLatency(seconds: number): void {
  const { count, sum, max } = measured.latency;
  measured.latency = { count: count + 1, sum: sum + seconds, max: Math.max(max, seconds) };
}

/** Notes how the work on a table ended, in this round; a fault keeps the moment since which every round failed. */
export function noteTable(table: string, error?: string): void {
  const at = new Date().toISOString();
  const { [table]: before, ...others } = measured.table_errors;
  measured.table_errors =
    error === undefined ? others : { ...others, [table]: { at, since: before?.since ?? at, error } };
  if (error === undefined) measured.table_success[table] = at;
}

/** Notes of a table how many batches wait to be applied, or how many changes the next one may hold. */
export function noteNumber(what: 'pending_batches' | 'batch_size', table: string, number: number): void {
  measured[what][table] = number;
}

/** The tables whose last round failed, when, since when, and why. */
export const tableErrors = (): ReturnType<typeof nothing>['table_errors'] => measured.table_errors;

export const rounded = (value: number, digits = 3): number => Number(value.toFixed(digits));

/** What was measured so far, for performance_metrics: times in seconds, memory in bytes. */
export function measurements(): Record<string, unknown> {
  const { steps, latency, batch_size, ...tables } = measured;
  const { userCPUTime, systemCPUTime, maxRSS } = process.resourceUsage();
  return {
    step_seconds: Object.fromEntries(Object.entries(steps).map(([step, seconds]) => [step, rounded(seconds)])),
    latency_seconds:
      latency.count === 0 ? undefined : { average: rounded(latency.sum / latency.count), max: rounded(latency.max) },
    ...tables,
    batch_size: Object.keys(batch_size).length === 0 ? undefined : batch_size,
    cpu_seconds: rounded((userCPUTime + systemCPUTime) / 1_000_000),
    peak_memory_bytes: maxRSS * 1024,
  };
}

/** getrusage counts disk traffic in blocks of this size, in bytes. */
const BLOCK = 512;

/**
 * What this process uses of its machine since it was last asked, and how full the disk of `folder` is: shares from 0 to 1 (of the
 * processor, 1 is one core), memory and disk in bytes. Traffic that the page cache serves is no disk traffic.
 */
export function measureResources(folder: string): () => Record<string, number> {
  const look = () => ({ ...process.resourceUsage(), moment: performance.now() });
  let now = look();
  return () => {
    const before = now;
    now = look();
    const seconds = Math.max(0.001, (now.moment - before.moment) / 1000);
    const perSecond = (...names: ('userCPUTime' | 'systemCPUTime' | 'fsRead' | 'fsWrite')[]) =>
      names.reduce((sum, name) => sum + now[name] - before[name], 0) / seconds;
    const memory = process.memoryUsage.rss();
    return {
      cpu_utilization: rounded(perSecond('userCPUTime', 'systemCPUTime') / 1_000_000, 4),
      memory_bytes: memory,
      memory_utilization: rounded(memory / totalmem(), 4),
      disk_read_bytes_per_second: rounded(perSecond('fsRead') * BLOCK, 4),
      disk_written_bytes_per_second: rounded(perSecond('fsWrite') * BLOCK, 4),
      ...diskOf(folder),
    };
  };
}

/** A folder that is not there yet will be on the disk of the one above it. */
function diskOf(folder: string): Record<string, number> {
  try {
    const { bsize, blocks, bfree, bavail } = statfsSync(folder);
    const [used, usable] = [blocks - bfree, blocks - bfree + bavail];
    return { disk_free_bytes: bavail * bsize, disk_utilization: usable === 0 ? 0 : rounded(used / usable, 4) };
  } catch {
    return folder === path.dirname(folder) ? {} : diskOf(path.dirname(folder));
  }
}
