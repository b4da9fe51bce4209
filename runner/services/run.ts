import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import { connect, type Database } from '../base/database.js';
import { HeldError, describeError, outcomeOf, sayAll } from '../base/errors.js';
import { logger, setLogContext, setLogLevel, setLogSink } from '../base/logger.js';
import { withoutSecrets, type Settings } from '../base/settings.js';
import { within } from '../base/timeout.js';
import { measurements, measureResources, resetMeasurements, rounded, tableErrors } from '../run/measurements.js';
import { onGiveUp, runRounds, sayInterrupted, type Rounds } from '../run/rounds.js';
import { continueRun, finishRun, startRun } from '../warehouse/functions.js';
import { OpenLineage } from './open-lineage.js';
import { ensureLogFolder, openLogFile } from './logs.js';
import { claimService, newState, releaseService, writeState, type RunState, type Service } from './record.js';

/** One execution of a part of the pipeline, and its row of pipeline_metadata. */
export interface NewRun {
  readonly id: string;
  readonly name: 'extract' | 'stream' | 'load' | 'reconcile' | 'relay' | 'simulate';
  /** How a run ends that threw nothing. */
  readonly endsAs: () => 'succeeded' | 'interrupted';
  /** The shard it extracts; undefined for whole tables. */
  readonly shard?: string | undefined;
  /** Pause between rounds in seconds; undefined runs one. */
  readonly interval?: number | undefined;
  /** Told how the run fares: when it begins, after every round, and when it ends. */
  readonly noteState?: ((state: RunState) => Promise<void>) | undefined;
}

/** How long a warehouse that does not answer may keep a run from its work, in seconds. */
const ANSWER_SECONDS = 5;
const LOST_SESSION_MS = 1000;
/** How often a round that has no end is noted. */
const TOLD_MS = 2000;

type Recorder = ReturnType<typeof newRecorder>;

/**
 * Does `work` as a run of the pipeline: its row says when it began, how it ended and what it measured. The row is written through a session
 * of its own, kept until the end, by which a live run is told from a dead one. Without a warehouse the work goes on, and is noted when it is back.
 */
export async function asRun<T>(
  settings: Settings,
  asked: NewRun,
  work: (run: Pick<Recorder, 'round' | 'tell'>) => Promise<T>,
): Promise<T> {
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
    if (lost.is) void recorder.note();
    lost.is = false;
  }, LOST_SESSION_MS).unref();
  const telling = setInterval(() => void recorder.noteTold(), TOLD_MS).unref();
  try {
    await recorder.note();
    const result = await work(recorder);
    await recorder.end(asked.endsAs());
    return result;
  } catch (error) {
    await recorder.end('failed', { last_error: asLastError(error) });
    throw error;
  } finally {
    clearInterval(watch);
    clearInterval(telling);
    await session.end({ timeout: 1 });
  }
}

function newRecorder(session: Database, asked: NewRun, resources: () => object) {
  const { id, name, shard, interval: interval_seconds, noteState } = asked;
  const began = performance.now();
  const state = newState(id);
  const totals: Record<string, number> = {};
  let [isKnown, busy] = [false, 0];
  const metrics = () => {
    const { rounds, failed_rounds, last_success_at, last_error } = state;
    return {
      ...totals,
      ...{ rounds, failed_rounds, last_success_at, last_error, shard, interval_seconds },
      rows_per_second: totals.changes === undefined || busy === 0 ? undefined : rounded(totals.changes / busy),
      ...measurements(),
      ...resources(),
      host: hostname(),
      process_id: process.pid,
      seconds: secondsSince(began),
    };
  };
  const report = async () => {
    if (!isKnown || !(await continueRun(session, id, metrics())))
      await startRun(session, name, id, secondsSince(began), metrics());
    isKnown = true;
  };
  let pending: Promise<void> | undefined;
  const note = async () => {
    await noteState?.({ ...state, table_errors: tableErrors() });
    pending ??= report().finally(() => (pending = undefined));
    await tolerant(pending);
  };
  /** Does one round of the work and notes what its results count: their numbers by name, added up; or why it failed, which it throws on. */
  const round = async <R extends object>(work: () => Promise<readonly R[]>): Promise<readonly R[]> => {
    const started = performance.now();
    state.rounds += 1;
    try {
      const results = await work();
      addUp(totals, results);
      state.last_success_at = new Date().toISOString();
      return results;
    } catch (error) {
      addUp(totals, (outcomeOf(error)?.result ?? []) as readonly R[]);
      state.failed_rounds += 1;
      state.last_error = asLastError(error);
      throw error;
    } finally {
      busy += secondsSince(started);
      state.last_round_at = new Date().toISOString();
      await note();
    }
  };
  const end = async (status: Parameters<typeof finishRun>[2], last?: Partial<RunState>) => {
    Object.assign(state, last);
    await note();
    const hasOnlyFailed = state.rounds > 0 && state.failed_rounds === state.rounds;
    await tolerant(finishRun(session, id, hasOnlyFailed ? 'failed' : status, metrics()));
  };
  return { round, note, end, ...newTeller(state, totals, note) };
}

/** For a round that has no end: what it has done by now counts as one that has ended, and another that has begun. */
function newTeller(state: RunState, totals: Record<string, number>, note: () => Promise<void>) {
  let isTold = false;
  const tell = (result: object) => {
    addUp(totals, [result]);
    state.rounds += 1;
    state.last_success_at = state.last_round_at = new Date().toISOString();
    isTold = true;
  };
  const noteTold = async () => {
    if (!isTold) return;
    isTold = false;
    await note();
  };
  return { tell, noteTold };
}

/** Adds the numbers of results to the totals, by name. */
function addUp(totals: Record<string, number>, results: readonly object[]): void {
  for (const [counted, value] of results.flatMap((result) => Object.entries<unknown>({ ...result })))
    if (typeof value === 'number') totals[counted] = (totals[counted] ?? 0) + value;
}

const secondsSince = (moment: number): number => rounded((performance.now() - moment) / 1000);

const asLastError = (error: unknown) => ({ at: new Date().toISOString(), error: describeError(error, false) });

/** The bookkeeping of a run never fails the run, nor keeps it waiting for long. */
async function tolerant(work: Promise<unknown>): Promise<void> {
  await within(ANSWER_SECONDS, work).catch((error: unknown) => {
    logger.debug(`the run was not noted in pipeline_metadata: ${String(error)}`);
  });
}

/** A part of the pipeline as its command runs it. */
export interface Part extends Pick<NewRun, 'name' | 'shard' | 'interval'> {
  /** The registered service of this machine that it is: logs to its file, and is seen by status and stop. Undefined in the foreground. */
  readonly service: Service | undefined;
  /** The line its log begins with. */
  readonly greeting: string;
  /** Waits for the next round in place of the interval. */
  readonly wait?: Rounds['wait'];
  /** Whether a reader of the log makes history as well. */
  readonly loads?: boolean;
}

/** What tells others of a part, where OPENLINEAGE_URL says whom. */
function lineageOf(settings: Settings, { name, interval, loads = false }: Part, id: string): OpenLineage | undefined {
  const { openlineage_url: url } = settings;
  if (url === undefined || !['extract', 'load', 'stream'].includes(name)) return undefined;
  const reads = `${name === 'stream' && !loads ? 'extract' : name}_datasets`;
  return new OpenLineage(settings, { name, id, reads, isWatching: interval !== undefined }, new URL(url));
}

/**
 * Runs a part of the pipeline, once or for ever, in the foreground or as a service; one run of pipeline_metadata either way.
 * @param round does one round and returns what it counted; one that has no end tells it from time to time
 * @param say tells a person the results of a round, with the error where some tables failed; a service logs them
 * @throws TidemarkError if it is to be a service and one is registered that lives
 */
export async function runPart<T extends object>(
  settings: Settings,
  part: Part,
  round: (signal: AbortSignal, tell: (result: object) => void) => Promise<readonly T[]>,
  say: (results: readonly T[], error?: unknown) => void,
): Promise<void> {
  const id = randomUUID();
  const lineage = lineageOf(settings, part, id);
  const service = part.service && (await becomeService(settings, part.service, part.greeting, id));
  let wasInterrupted = false;
  const endsAs = () => (wasInterrupted ? 'interrupted' : 'succeeded');
  try {
    lineage?.start();
    onGiveUp(async () => lineage?.end('ABORT'));
    const hasRest = await asRun(settings, { ...part, id, endsAs, noteState: service?.noteState }, async (run) => {
      wasInterrupted = await runRounds(settings, part, async (signal) => {
        await service?.stayRegistered();
        const began = new Date();
        const tell = (result: object) => {
          lineage?.note(result);
          run.tell(result);
        };
        await sayAll(
          run.round(() => round(signal, tell)),
          (results, error) => {
            lineage?.noteRound(results, error, began);
            say(results, error);
          },
        );
      });
      // Traffic has no rest to go on with.
      return wasInterrupted && part.name !== 'simulate';
    });
    // One that goes on until it is ended is done then.
    await lineage?.end(hasRest && part.interval === undefined ? 'ABORT' : 'COMPLETE');
    if (service !== undefined) logger.info('stopped');
    if (hasRest) sayInterrupted(part.name);
  } catch (error) {
    await lineage?.end('FAIL', error);
    if (service !== undefined) logger.error(describeError(error, logger.isLevelEnabled('debug')));
    throw error;
  } finally {
    await service?.end();
  }
}

/** Registers this process and sends its log to the file. How it fares is for those who look: a folder that cannot be written any more does not stop it. */
export async function becomeService(
  settings: Settings,
  service: Service,
  greeting: string,
  id: string,
): Promise<
  Record<'stayRegistered' | 'end', () => Promise<unknown>> & { noteState: (state: RunState) => Promise<void> }
> {
  await ensureLogFolder(settings);
  const { run_dir } = settings;
  const register = () => claimService(settings, service, id);
  const record = await register();
  const log = openLogFile(settings, service);
  setLogContext({ service, run_id: id });
  setLogSink(log);
  // Once, whatever LOG_LEVEL says: what it runs with is what its log is read for.
  setLogLevel('INFO');
  logger.info({ settings: withoutSecrets(settings) }, greeting);
  setLogLevel(settings.log_level);
  const warning = (what: string) => (error: unknown) => {
    if (error instanceof HeldError) throw error;
    logger.warn(`${what}: ${String(error)}`);
  };
  const end = async () => {
    await releaseService(run_dir, record).catch(warning('the record of the service stays'));
    await log.close();
  };
  onGiveUp(end);
  return {
    // The folder of records may have been emptied: without a record nobody could find this process.
    stayRegistered: () => register().catch(warning('the record of the service cannot be seen to')),
    noteState: (state: RunState) =>
      writeState(run_dir, service, state).catch(warning('how the service fares was not noted')),
    end,
  };
}
