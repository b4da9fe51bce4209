import { hostname } from 'node:os';
import type { Settings } from '../base/settings.js';
import { connect, type Database } from '../base/database.js';
import { describeError } from '../base/errors.js';
import { onGiveUp } from '../run/rounds.js';
import { logger, setLogContext } from '../base/logger.js';
import { measurements, measureResources, resetMeasurements, tableErrors } from '../run/measurements.js';
import { within } from '../base/timeout.js';
import { continueRun, finishRun, startRun } from '../warehouse/runs.js';
import type { RunState } from './record.js';

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
  /** Told how the run fares: when it begins, after every round, and when it ends. */
  readonly noteState?: ((state: RunState) => Promise<void>) | undefined;
}

/** How long a warehouse that does not answer may keep a run from its work, in seconds. */
const ANSWER_SECONDS = 5;
const LOST_SESSION_MS = 1000;

/**
 * Does `work` as a run of the pipeline: its row says when it began, how it ended and what it measured. The row is written through a session
 * of its own, kept until the end, by which a live run is told from a dead one. Without a warehouse the work goes on, and is noted when it is back.
 */
export async function asRun<T>(settings: Settings, asked: NewRun, work: (run: Run) => Promise<T>): Promise<T> {
  const lost = { is: false };
  const session = connect(settings.warehouse, `${asked.name} run`, 1, ANSWER_SECONDS, () => {
    lost.is = true;
  });
  setLogContext({ run_id: asked.id });
  resetMeasurements();
  const recorder = newRecorder(session, asked, measureResources(settings.cdc_log_dir));
  onGiveUp(() => recorder.end('interrupted', { gave_up: true }));
  // A session that was cut is replaced at once and not at the end of the round, or the run would look dead until then.
  const watch = setInterval(() => {
    if (!lost.is) return;
    lost.is = false;
    void recorder.note();
  }, LOST_SESSION_MS).unref();
  try {
    await recorder.note();
    const result = await work(recorder.run);
    await recorder.end(asked.endsAs());
    return result;
  } catch (error) {
    await recorder.end('failed', { last_error: asLastError(error) });
    throw error;
  } finally {
    clearInterval(watch);
    await session.end({ timeout: 1 });
  }
}

interface Recorder {
  readonly run: Run;
  readonly note: () => Promise<void>;
  readonly end: (status: 'succeeded' | 'failed' | 'interrupted', last?: Partial<RunState>) => Promise<void>;
}

function newRecorder(session: Database, asked: NewRun, resources: () => object): Recorder {
  const { id, name, shard, interval, noteState } = asked;
  const began = performance.now();
  const state = newState(id);
  const totals: Record<string, number> = {};
  let [isKnown, busy] = [false, 0];
  const metrics = () => ({
    ...totals,
    ...describe(state, busy, totals.changes),
    ...resources(),
    ...(shard === undefined ? {} : { shard }),
    ...(interval === undefined ? {} : { interval_seconds: interval }),
    seconds: secondsSince(began),
  });
  const tell = async () => {
    if (!isKnown || !(await continueRun(session, id, metrics())))
      await startRun(session, name, id, secondsSince(began), metrics());
    isKnown = true;
  };
  let pending: Promise<void> | undefined;
  const note = async () => {
    await noteState?.({ ...state, table_errors: tableErrors() });
    await tolerant(
      () =>
        (pending ??= tell().finally(() => {
          pending = undefined;
        })),
    );
  };
  const round: Run['round'] = async (work) => {
    const started = performance.now();
    state.rounds += 1;
    try {
      const results = await work();
      addUp(totals, results);
      state.last_success_at = new Date().toISOString();
      return results;
    } catch (error) {
      state.failed_rounds += 1;
      state.last_error = asLastError(error);
      throw error;
    } finally {
      busy += secondsSince(started);
      state.last_round_at = new Date().toISOString();
      await note();
    }
  };
  const end: Recorder['end'] = async (status, last) => {
    Object.assign(state, last);
    await note();
    const hasOnlyFailed = state.rounds > 0 && state.failed_rounds === state.rounds;
    await tolerant(() => finishRun(session, id, hasOnlyFailed ? 'failed' : status, metrics()));
  };
  return { run: { round }, note, end };
}

const newState = (run_id: string): RunState => ({
  run_id,
  rounds: 0,
  failed_rounds: 0,
  last_round_at: null,
  last_success_at: null,
  last_error: null,
  table_errors: {},
  gave_up: false,
});

const secondsSince = (moment: number): number => Number(((performance.now() - moment) / 1000).toFixed(3));

const asLastError = (error: unknown) => ({ at: new Date().toISOString(), error: describeError(error, false) });

/** The bookkeeping of a run never fails the run, nor keeps it waiting for long. */
async function tolerant(work: () => Promise<unknown>): Promise<void> {
  await within(ANSWER_SECONDS, work()).catch((error: unknown) => {
    logger.debug(`the run was not noted in pipeline_metadata: ${String(error)}`);
  });
}

function describe(state: RunState, busy: number, changes: number | undefined): object {
  const { rounds, failed_rounds, last_success_at, last_error } = state;
  const rate = changes === undefined || busy === 0 ? {} : { rows_per_second: Number((changes / busy).toFixed(1)) };
  const process_id = process.pid;
  return {
    rounds,
    failed_rounds,
    last_success_at,
    last_error,
    ...rate,
    ...measurements(),
    host: hostname(),
    process_id,
  };
}

function addUp(totals: Record<string, number>, results: readonly object[]): void {
  for (const result of results)
    for (const [name, value] of Object.entries(result))
      if (typeof value === 'number') totals[name] = (totals[name] ?? 0) + value;
}
