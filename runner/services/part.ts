import { randomUUID } from 'node:crypto';
import { withoutSecrets, type Settings } from '../base/settings.js';
import { HeldError, describeError } from '../base/errors.js';
import { onGiveUp, runRounds } from '../run/rounds.js';
import { ensureLogFolder, openLogFile } from './logs.js';
import { logger, setLogContext, setLogLevel, setLogSink } from '../base/logger.js';
import { asRun, type PipelineName } from './run.js';
import { claimService, releaseService, writeState, type RunState, type Service } from './record.js';

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
  const { name, shard, interval } = part;
  const id = randomUUID();
  const service = part.asService ? await becomeService(settings, part, id) : undefined;
  let wasInterrupted = false;
  const endsAs = () => (wasInterrupted ? 'interrupted' : 'succeeded');
  try {
    await asRun(settings, { id, name, shard, interval, endsAs, noteState: service?.noteState }, async (run) => {
      const bounds = { interval, boundSeconds: settings.shutdown_timeout_seconds };
      wasInterrupted = await runRounds(bounds, async (signal) => {
        await service?.stayRegistered();
        say(await run.round(() => round(signal)));
      });
    });
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
  readonly stayRegistered: () => Promise<void>;
  readonly noteState: (state: RunState) => Promise<void>;
  readonly end: () => Promise<void>;
}

/** Registers this process and sends its log to the file. How it fares is for those who look: a folder that cannot be written any more does not stop it. */
async function becomeService(settings: Settings, { service, greeting }: Part, id: string): Promise<BackgroundService> {
  await ensureLogFolder(settings);
  const register = () => claimService(settings.run_dir, service, id, settings);
  const record = await register();
  const log = openLogFile(settings, service);
  setLogContext({ service, run_id: id });
  setLogSink(log);
  // Once, whatever LOG_LEVEL says: what it runs with is what its log is read for.
  setLogLevel('INFO');
  logger.info({ settings: withoutSecrets(settings) }, greeting);
  setLogLevel(settings.log_level);
  const end = async () => {
    await releaseService(settings.run_dir, record).catch((error: unknown) => {
      logger.warn(`the record of the service stays: ${String(error)}`);
    });
    await log.close();
  };
  onGiveUp(end);
  return {
    // The folder of records may have been emptied: without a record nobody could find this process.
    stayRegistered: async () => {
      await register().catch((error: unknown) => {
        if (error instanceof HeldError) throw error;
        logger.warn(`the record of the service cannot be seen to: ${String(error)}`);
      });
    },
    noteState: (state) =>
      writeState(settings.run_dir, service, state).catch((error: unknown) => {
        logger.warn(`how the service fares was not noted: ${String(error)}`);
      }),
    end,
  };
}
