import { hostname } from 'node:os';
import type { Settings } from '../base/settings.js';
import { connect, type Database } from '../base/database.js';
import { describeError } from '../base/errors.js';
import { onGiveUp } from '../run/rounds.js';
import { logger, setLogContext } from '../base/logger.js';
import { measurements, measureResources, resetMeasurements } from '../run/measurements.js';
import { within } from '../base/timeout.js';
import { continueRun, finishRun, startRun } from '../warehouse/runs.js';

export type PipelineName = 'extract' | 'load' | 'reconcile' | 'simulate';

/** One execution of a part of the pipeline, and its row of pipeline_metadata. */
export interface Run {
  /** Does one round of the work and notes what its results count: their numbers by name, added up; or why it failed, which it throws on. */
  readonly round: <T extends object>(work: () => Promise<readonly T[]>) => Promise<readonly T[]>;
}

export interface NewRun {
  readonly id: string;
  readonly name: PipelineName;
  /** How a run ends that threw nothing. */
  readonly endsAs: () => 'succeeded' | 'interrupted';
  /** The shard it extracts; undefined for whole tables. */
  readonly shard?: string | undefined;
  /** Pause between rounds in seconds, of a run that goes on for ever. */
  readonly interval?: number | undefined;
}

interface Counts {
  readonly totals: Record<string, number>;
  rounds: number;
  failed_rounds: number;
  busy_seconds: number;
  last_success_at: string | null;
  last_error: { at: string; error: string } | null;
}

/** How long a warehouse that does not answer may keep a run from its work, in seconds. */
const PATIENCE_SECONDS = 5;
const LOST_SESSION_MS = 1000;

/**
 * Does `work` as a run of the pipeline: its row says when it began, how it ended and what it measured. The row is written through a session
 * of its own, kept until the end, by which a live run is told from a dead one. Without a warehouse the work goes on, and is noted when it is back.
 */
export async function asRun<T>(
  settings: Settings,
  { id, name, endsAs, interval, shard }: NewRun,
  work: (run: Run) => Promise<T>,
): Promise<T> {
  const lost = { is: false };
  const session = connect(settings.warehouse, `${name} run`, 1, PATIENCE_SECONDS, () => {
    lost.is = true;
  });
  const resources = measureResources(settings.cdc_log_dir);
  const recorder = newRecorder(session, id, name, () => ({
    ...resources(),
    ...(shard === undefined ? {} : { shard }),
    ...(interval === undefined ? {} : { interval_seconds: interval }),
  }));
  setLogContext({ run_id: id });
  resetMeasurements();
  onGiveUp(() => recorder.end('interrupted'));
  // A session that was cut is replaced at once and not at the end of the round, or the run would look dead until then.
  const watch = setInterval(() => {
    if (!lost.is) return;
    lost.is = false;
    void recorder.note();
  }, LOST_SESSION_MS).unref();
  try {
    await recorder.note();
    const result = await work(recorder.run);
    await recorder.end(endsAs());
    return result;
  } catch (error) {
    await recorder.end('failed', error);
    throw error;
  } finally {
    clearInterval(watch);
    await session.end({ timeout: 1 });
  }
}

interface Recorder {
  readonly run: Run;
  readonly note: () => Promise<void>;
  readonly end: (status: 'succeeded' | 'failed' | 'interrupted', error?: unknown) => Promise<void>;
}

function newRecorder(session: Database, id: string, name: PipelineName, surroundings: () => object): Recorder {
  const began = performance.now();
  const counts: Counts = {
    totals: {},
    rounds: 0,
    failed_rounds: 0,
    busy_seconds: 0,
    last_success_at: null,
    last_error: null,
  };
  let isKnown = false;
  const metrics = () => ({ ...metricsOf(counts), ...surroundings(), seconds: secondsSince(began) });
  let pending: Promise<void> | undefined;
  const tell = async () => {
    if (!isKnown || !(await continueRun(session, id, metrics())))
      await startRun(session, name, id, secondsSince(began), metrics());
    isKnown = true;
  };
  const note = () =>
    tolerant(
      () =>
        (pending ??= tell().finally(() => {
          pending = undefined;
        })),
    );
  const round: Run['round'] = async (work) => {
    const started = performance.now();
    counts.rounds += 1;
    try {
      const results = await work();
      addUp(counts.totals, results);
      counts.last_success_at = new Date().toISOString();
      return results;
    } catch (error) {
      counts.failed_rounds += 1;
      counts.last_error = asLastError(error);
      throw error;
    } finally {
      counts.busy_seconds += secondsSince(started);
      await note();
    }
  };
  const end: Recorder['end'] = async (status, error) => {
    if (error !== undefined) counts.last_error = asLastError(error);
    await note();
    const hasOnlyFailed = counts.rounds > 0 && counts.failed_rounds === counts.rounds;
    await tolerant(() => finishRun(session, id, hasOnlyFailed ? 'failed' : status, metrics()));
  };
  return { run: { round }, note, end };
}

const secondsSince = (moment: number): number => Number(((performance.now() - moment) / 1000).toFixed(3));

const asLastError = (error: unknown) => ({ at: new Date().toISOString(), error: describeError(error, false) });

/** The bookkeeping of a run never fails the run, nor keeps it waiting for long. */
async function tolerant(work: () => Promise<unknown>): Promise<void> {
  await within(PATIENCE_SECONDS, work()).catch((error: unknown) => {
    logger.debug(`the run was not noted in pipeline_metadata: ${String(error)}`);
  });
}

function metricsOf({ totals, busy_seconds, ...counts }: Counts): Record<string, unknown> {
  const rate =
    totals.changes === undefined || busy_seconds === 0
      ? {}
      : { rows_per_second: Number((totals.changes / busy_seconds).toFixed(1)) };
  return { ...totals, ...counts, ...rate, ...measurements(), host: hostname(), process_id: process.pid };
}

function addUp(totals: Record<string, number>, results: readonly object[]): void {
  for (const result of results)
    for (const [name, value] of Object.entries(result))
      if (typeof value === 'number') totals[name] = (totals[name] ?? 0) + value;
}
