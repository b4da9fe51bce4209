import { statfsSync } from 'node:fs';
import { totalmem } from 'node:os';
import path from 'node:path';

/** What a run measures of itself: seconds spent in each step, and how long changes took to arrive. One process, one run. */

const steps = new Map<string, number>();
const tables = new Map<string, { at: string; since: string; error: string }>();
const successes = new Map<string, string>();
const pending = new Map<string, number>();
const batchSizes = new Map<string, number>();
const latency = { count: 0, sum: 0, max: 0 };

/** Runs one step of the work and adds its time, in seconds, to that of the step's name. */
export async function timed<T>(step: string, work: () => Promise<T>): Promise<T> {
  const started = performance.now();
  try {
    return await work();
  } finally {
    steps.set(step, (steps.get(step) ?? 0) + (performance.now() - started) / 1000);
  }
}

/** Notes how long it took, in seconds, from the capture of a batch to its being visible in the warehouse. */
export function observeLatency(seconds: number): void {
  latency.count += 1;
  latency.sum += seconds;
  latency.max = Math.max(latency.max, seconds);
}

/** Notes how the work on a table ended, in this round; a fault keeps the moment since which every round failed. */
export function noteTable(table: string, error?: string): void {
  const at = new Date().toISOString();
  if (error === undefined) {
    tables.delete(table);
    successes.set(table, at);
  } else {
    tables.set(table, { at, since: tables.get(table)?.since ?? at, error });
  }
}

/** Notes how many batches of a table wait to be applied. */
export function notePending(table: string, batches: number): void {
  pending.set(table, batches);
}

/** Notes how many changes the next batch of a table may hold. */
export function noteBatchSize(table: string, changes: number): void {
  batchSizes.set(table, changes);
}

/** The tables whose last round failed, when, since when, and why. */
export const tableErrors = (): Record<string, { at: string; since: string; error: string }> =>
  Object.fromEntries(tables);

/** Forgets what was measured: a new run begins. */
export function resetMeasurements(): void {
  steps.clear();
  tables.clear();
  successes.clear();
  pending.clear();
  batchSizes.clear();
  Object.assign(latency, { count: 0, sum: 0, max: 0 });
}

const rounded = (seconds: number): number => Number(seconds.toFixed(3));

/** What was measured so far, for performance_metrics: times in seconds, memory in bytes. */
export function measurements(): Record<string, unknown> {
  const { user, system } = process.cpuUsage();
  return {
    step_seconds: Object.fromEntries([...steps].map(([step, seconds]) => [step, rounded(seconds)])),
    ...(latency.count === 0
      ? {}
      : { latency_seconds: { average: rounded(latency.sum / latency.count), max: rounded(latency.max) } }),
    table_errors: tableErrors(),
    table_success: Object.fromEntries(successes),
    pending_batches: Object.fromEntries(pending),
    ...(batchSizes.size === 0 ? {} : { batch_size: Object.fromEntries(batchSizes) }),
    cpu_seconds: rounded((user + system) / 1_000_000),
    peak_memory_bytes: process.resourceUsage().maxRSS * 1024,
  };
}

/** getrusage counts disk traffic in blocks of this size, in bytes. */
const BLOCK = 512;

/**
 * What this process uses of its machine since it was last asked, and how full the disk of `folder` is: shares from 0 to 1 (of the
 * processor, 1 is one core), memory and disk in bytes. Traffic that the page cache serves is no disk traffic.
 */
export function measureResources(folder: string): () => Record<string, number> {
  let before = look();
  return () => {
    const now = look();
    const seconds = Math.max(0.001, (now.moment - before.moment) / 1000);
    const since = (name: 'cpu' | 'read' | 'written') => Number(((now[name] - before[name]) / seconds).toFixed(4));
    const memory = process.memoryUsage.rss();
    const measured = {
      cpu_utilization: since('cpu'),
      memory_bytes: memory,
      memory_utilization: Number((memory / totalmem()).toFixed(4)),
      disk_read_bytes_per_second: since('read'),
      disk_written_bytes_per_second: since('written'),
      ...diskOf(folder),
    };
    before = now;
    return measured;
  };
}

function look(): { moment: number; cpu: number; read: number; written: number } {
  const { userCPUTime, systemCPUTime, fsRead, fsWrite } = process.resourceUsage();
  return {
    moment: performance.now(),
    cpu: (userCPUTime + systemCPUTime) / 1_000_000,
    read: fsRead * BLOCK,
    written: fsWrite * BLOCK,
  };
}

/** A folder that is not there yet will be on the disk of the one above it. */
function diskOf(folder: string): Record<string, number> {
  for (let place = folder; ; place = path.dirname(place)) {
    try {
      const { bsize, blocks, bfree, bavail } = statfsSync(place);
      const usable = blocks - bfree + bavail;
      return {
        disk_free_bytes: bavail * bsize,
        disk_utilization: usable === 0 ? 0 : Number(((blocks - bfree) / usable).toFixed(4)),
      };
    } catch {
      if (place === path.dirname(place)) return {};
    }
  }
}
