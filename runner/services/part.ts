import { randomUUID } from 'node:crypto';
import { withoutSecrets, type Settings } from '../base/settings.js';
import { HeldError, describeError } from '../base/errors.js';
import { onGiveUp, runRounds } from '../run/rounds.js';
import { ensureLogFolder, openLogFile } from './logs.js';
import { logger, setLogContext, setLogLevel, setLogSink } from '../base/logger.js';
import { tableErrors } from '../run/measurements.js';
import { asRun, type PipelineName } from './run.js';
import { claimService, releaseService, writeState, type Service, type ServiceState } from './record.js';

/** A part of the pipeline as its command runs it. */
export interface Part {
  readonly name: PipelineName;
  readonly service: Service;
  /** The shard it extracts; undefined for whole tables. */
  readonly shard?: string | undefined;
  /** The line its log begins with. */
  readonly greeting: string;
  /** Pause between rounds in seconds; undefined runs it once. */
  readonly interval: number | undefined;
  /** Runs as the registered service of this machine: logs to its file, and is seen by status and stop. */
  readonly asService: boolean;
}

/**
 * Runs a part of the pipeline, once or for ever, in the foreground or as a service; one run of pipeline_metadata either way.
 * @param round does one round and returns what it counted
 * @param say tells a person the results of a round; a service logs them
 * @returns whether a single run was interrupted before its end
 * @throws TidemarkError if it is to be a service and one is registered that lives
 */
export async function runPart<T extends object>(
  settings: Settings,
  part: Part,
  round: (signal: AbortSignal) => Promise<readonly T[]>,
  say: (results: readonly T[]) => void,
): Promise<boolean> {
  const id = randomUUID();
  const service = part.asService ? await becomeService(settings, part, id) : undefined;
  let wasInterrupted = false;
  try {
    await asRun(
      settings,
      {
        id,
        name: part.name,
        shard: part.shard,
        interval: part.interval,
        endsAs: () => (wasInterrupted ? 'interrupted' : 'succeeded'),
      },
      async (run) => {
        wasInterrupted = await runRounds(
          { interval: part.interval, boundSeconds: settings.shutdown_timeout_seconds },
          async (signal) => {
            const work = () => run.round(() => round(signal));
            say(await (service === undefined ? work() : service.noted(work)));
          },
        );
      },
    );
    if (service !== undefined) logger.info('stopped');
    return wasInterrupted;
  } catch (error) {
    if (service !== undefined) logger.error(describeError(error, logger.isLevelEnabled('debug')));
    throw error;
  } finally {
    await service?.end();
  }
}

interface BackgroundService {
  /** Does a round and notes how it went, for status. */
  readonly noted: <T>(work: () => Promise<T>) => Promise<T>;
  readonly end: () => Promise<void>;
}

async function becomeService(
  settings: Settings,
  { service, greeting }: Part,
  runId: string,
): Promise<BackgroundService> {
  await ensureLogFolder(settings);
  const record = await claimService(settings.run_dir, service, runId, settings);
  const log = openLogFile(settings, service);
  setLogContext({ service, run_id: runId });
  setLogSink(log);
  // Once, whatever LOG_LEVEL says: what it runs with is what its log is read for.
  setLogLevel('INFO');
  logger.info({ settings: withoutSecrets(settings) }, greeting);
  setLogLevel(settings.log_level);
  const state: ServiceState = {
    rounds: 0,
    failed_rounds: 0,
    last_round_at: null,
    last_success_at: null,
    last_error: null,
    table_errors: {},
    run_id: runId,
    gave_up: false,
  };
  // How it fares is for those who look: a folder that cannot be written any more does not stop it.
  const note = () =>
    writeState(settings.run_dir, service, state).catch((error: unknown) => {
      logger.warn(`how the service fares was not noted: ${String(error)}`);
    });
  await note();
  onGiveUp(async () => {
    state.gave_up = true;
    await note();
    await releaseService(settings.run_dir, record);
    await log.close();
  });
  return {
    noted: async (work) => {
      // The folder of records may have been emptied: without a record nobody could find this process.
      await claimService(settings.run_dir, service, runId, settings).catch((error: unknown) => {
        if (error instanceof HeldError) throw error;
        logger.warn(`the record of the service cannot be seen to: ${String(error)}`);
      });
      return noteRound(state, note, work);
    },
    end: async () => {
      await releaseService(settings.run_dir, record).catch((error: unknown) => {
        logger.warn(`the record of the service stays: ${String(error)}`);
      });
      await log.close();
    },
  };
}

async function noteRound<T>(state: ServiceState, note: () => Promise<void>, work: () => Promise<T>): Promise<T> {
  state.rounds += 1;
  try {
    const result = await work();
    state.last_success_at = new Date().toISOString();
    return result;
  } catch (error) {
    state.failed_rounds += 1;
    state.last_error = { at: new Date().toISOString(), error: describeError(error, false) };
    throw error;
  } finally {
    state.last_round_at = new Date().toISOString();
    state.table_errors = tableErrors();
    await note();
  }
}
