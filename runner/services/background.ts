import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { open, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isAway, withDatabase, type Database } from '../base/database.js';
import { TidemarkError, allDone, describeError, tolerateGone } from '../base/errors.js';
import { withLock } from '../base/lock-file.js';
import { logger } from '../base/logger.js';
import { processIdentity, signalProcess } from '../base/process.js';
import { PACKAGE_ROOT, PROJECT_ROOT, type DatabaseSettings, type Settings } from '../base/settings.js';
import { isLogged, isProven, isReconciled, type DimensionMapping } from '../batch/mapping.js';
import { rememberedMappings } from '../change-log/known-mappings.js';
import { serverStatuses, startServers } from '../embedded/servers.js';
import { requireDemoSource } from '../source/server.js';
import { describeTable } from '../source/table.js';
import { dimensionMappings } from '../warehouse/functions.js';
import { subscriptionStatus } from '../warehouse/events.js';
import { ensureLogFolder, logFileName } from './logs.js';
import { SERVICES, assertSamePipeline, findService, knownServices, makeRunFolder, outputFile } from './record.js';
import {
  readState,
  releaseService,
  type BaseService,
  type FoundService,
  type RunState,
  type Service,
} from './record.js';

/** What is known of a service without asking it. */
export interface ServiceStatus extends Partial<Omit<RunState, 'run_id'>> {
  readonly service: Service;
  /** `died`: it was started, not stopped, and its process is gone. */
  readonly state: 'running' | 'died' | 'stopped';
  readonly pid: number | null;
  readonly since: string | null;
  readonly run_id: string | null;
  readonly log_file: string;
}

const COMMANDS: Readonly<Record<BaseService, readonly string[]>> = {
  simulator: ['simulate'],
  extractor: ['extract'],
  streamer: ['stream', '--load'],
  loader: ['load'],
  reconciler: ['reconcile'],
  relay: ['relay'],
  console: ['console'],
};
const START_SECONDS = 30;
/** Beyond its own bound a service gets this long to end before it is killed, in seconds. */
const GRACE_SECONDS = 5;
const POLL_MS = 50;
const MOST_OUTPUT_BYTES = 1024 * 1024;

/** How every service stands; changes nothing. Those that not every pipeline needs are left out where they have never run. */
export async function serviceStatuses(settings: Settings): Promise<ServiceStatus[]> {
  const names = await knownServices(settings.run_dir);
  const statuses = await Promise.all(names.map((service) => serviceStatus(settings, service)));
  return statuses.filter((status) => status !== undefined);
}

async function serviceStatus(settings: Settings, service: Service): Promise<ServiceStatus | undefined> {
  const [found, state] = [await findService(settings.run_dir, service), await readState(settings.run_dir, service)];
  if (['reconciler', 'streamer', 'relay', 'console'].includes(service) && found === undefined && state === undefined)
    return undefined;
  const { pid = null, since = null, run_id = null, is_alive } = found ?? {};
  const known = found === undefined ? { ...state, table_errors: {} } : state?.run_id === run_id ? state : {};
  const standing = is_alive === undefined ? 'stopped' : is_alive ? 'running' : 'died';
  return { ...known, service, state: standing, pid, since, run_id, log_file: logFileName(settings, service) };
}

/**
 * Starts services in the background: brings up the embedded servers that were made here and are down, sees that both ends can be used, and
 * starts what does not run. Two at once take turns. What stands for capture is what the registered tables need of it.
 * @throws TidemarkError if an end cannot be used, or a service does not come up
 */
export async function startPipeline(settings: Settings, services: readonly BaseService[]): Promise<void> {
  await inTurn(settings, async () => {
    await bringUpServers(settings);
    const mappings = await assertReady(settings, services);
    const subscriptions = await assertUsable(settings, settings.warehouse, (warehouse) =>
      subscriptionStatus(warehouse),
    );
    const needed = neededOf(services, mappings, (subscriptions ?? []).length > 0);
    await ensureLogFolder(settings);
    await allDone(needed.map((service) => startUnlessRunning(settings, service)));
  });
}

/**
 * With the extractor or the streamer, whichever of both the tables need, the reconciler where their deletes are to be found, and the relay
 * where somebody is told of events. The log of a table that is paused is read all the same: the source would keep it.
 */
function neededOf(services: readonly BaseService[], mappings: readonly DimensionMapping[], isRelayed: boolean) {
  const captures = services.includes('extractor') || services.includes('streamer');
  const isNeeded: Partial<Record<BaseService, boolean>> = {
    extractor: captures && (mappings.length === 0 || !mappings.every(isLogged)),
    streamer: captures && mappings.some(isLogged),
    reconciler:
      captures && mappings.some((mapping) => !mapping.is_paused && (isReconciled(mapping) || isProven(mapping))),
    relay: captures && isRelayed,
  };
  return SERVICES.filter((service) => isNeeded[service] ?? services.includes(service));
}

async function inTurn<T>({ run_dir }: Settings, work: () => Promise<T>): Promise<T> {
  await makeRunFolder(run_dir);
  return withLock(path.join(run_dir, '.lock'), work);
}

/**
 * Sees that the services can do their work: both ends are there, the warehouse is migrated, the source has a table to extract, and is the demo
 * where the simulator is to write to it.
 * @returns the mappings of the tables
 * @throws TidemarkError or UsageError that says what is wrong
 */
export async function assertReady(settings: Settings, services: readonly Service[]): Promise<DimensionMapping[]> {
  const known =
    (await assertUsable(settings, settings.warehouse, dimensionMappings)) ??
    (await rememberedMappings(settings.cdc_log_dir));
  const described = known?.filter(({ is_paused }) => !is_paused) ?? [];
  await assertUsable(settings, settings.source, async (source) => {
    if (services.includes('simulator')) await requireDemoSource(source);
    const failures: unknown[] = [];
    for (const mapping of described)
      await describeTable(source, mapping).catch((error: unknown) => failures.push(error));
    // One table that is not as it must be stops no other.
    if (failures.length > 0 && failures.length === described.length) throw failures[0];
    for (const failure of failures) logger.warn(describeError(failure, false));
  });
  return known ?? [];
}

async function bringUpServers(settings: Settings): Promise<void> {
  for (const { role, state } of await serverStatuses(settings)) {
    if (state !== 'stopped') continue;
    const ask = withDatabase(settings[role], 'start', () => Promise.resolve(false));
    if (!(await ask.catch(isAway))) continue;
    await startServers(settings);
    return;
  }
}

/** A server that is away is no obstacle once the pipeline has run: the services try again. Any other fault would never pass. */
async function assertUsable<T>(settings: Settings, end: DatabaseSettings, use: (database: Database) => Promise<T>) {
  try {
    return await withDatabase(end, 'start', use);
  } catch (error) {
    if (!isAway(error) || (await rememberedMappings(settings.cdc_log_dir)) === undefined) throw error;
    logger.warn(`${(error as Error).message}: the services try again until it does`);
    return undefined;
  }
}

/** Starts a process of its own, which outlives this one; one that runs already stays as it is. */
async function startUnlessRunning(settings: Settings, service: BaseService): Promise<void> {
  const found = await findService(settings.run_dir, service);
  if (found?.is_alive === true) {
    assertSamePipeline(found, settings);
    logger.info(`the ${service} is already running (process ${found.pid})`);
    return;
  }
  if (found !== undefined)
    logger.warn(
      `the ${service} had died (process ${found.pid}, since ${found.since}): starting it again${await lastOutput(settings, service)}`,
    );
  const file = outputFile(settings.run_dir, service);
  const size = (await stat(file).catch(tolerateGone))?.size ?? 0;
  const output = await open(file, size > MOST_OUTPUT_BYTES ? 'w' : 'a', 0o600);
  try {
    const command = [
      path.join(PACKAGE_ROOT, 'dist', 'cli.js'),
      ...COMMANDS[service],
      ...(service === 'console' ? [] : ['--watch']),
      '--service',
    ];
    const stdio = ['ignore', output.fd, output.fd] as const;
    const child = spawn(process.execPath, command, { cwd: PROJECT_ROOT, detached: true, stdio: [...stdio] });
    child.unref();
    await once(child, 'spawn');
    await registered(settings, service, child);
    const log = path.relative('', logFileName(settings, service));
    logger.info(`the ${service} is running (process ${String(child.pid)}), log ${log}`);
  } finally {
    await output.close();
  }
}

/** Waits until the child has registered itself, or says why it ended. */
async function registered(settings: Settings, service: Service, child: ChildProcess): Promise<void> {
  for (const deadline = performance.now() + START_SECONDS * 1000; ; await sleep(POLL_MS)) {
    const isRegistered = (await findService(settings.run_dir, service))?.pid === child.pid;
    const hasEnded = child.exitCode !== null || child.signalCode !== null;
    if (isRegistered && !hasEnded) return;
    if (!hasEnded && performance.now() < deadline) continue;
    child.kill('SIGTERM');
    const fault = hasEnded
      ? `it ended with ${child.signalCode ?? `exit code ${String(child.exitCode)}`}`
      : `it has not come up within ${START_SECONDS} seconds`;
    throw new TidemarkError(`the ${service} did not start: ${fault}`, {
      detail: `${outputFile(settings.run_dir, service)}${await lastOutput(settings, service)}`,
      hint: 'the lines above say why; correct it, then start again',
    });
  }
}

/** The last lines that a service printed outside its log: why it could not begin, or how it died. */
async function lastOutput(settings: Settings, service: Service): Promise<string> {
  const said = (await readFile(outputFile(settings.run_dir, service), 'utf8').catch(() => '')).trim();
  return said === '' ? '' : `\n    ${said.split('\n').slice(-10).join('\n    ')}`;
}

/** How a service was ended. */
export type Stopped = Awaited<ReturnType<typeof stopService>>;

/** One line a service that was ended. */
export function formatStopped(stopped: readonly Stopped[]): string {
  return stopped.length === 0
    ? 'nothing was running'
    : stopped.map(({ service, pid, how }) => `${service} (process ${pid}): ${how}`).join('\n');
}

/**
 * Ends every service that runs here, or those that are named, when no start or other stop is at it: each finishes the round in hand within its
 * bound; one that does not is killed, which rolls back what it had not committed.
 * @throws TidemarkError if a service belongs to another OS user, or to another pipeline
 */
export async function stopPipeline(settings: Settings, services?: readonly Service[]): Promise<Stopped[]> {
  return inTurn(settings, async () => {
    const names = services ?? (await knownServices(settings.run_dir));
    const found = await Promise.all(names.map((service) => findService(settings.run_dir, service)));
    const records = found.filter((record) => record !== undefined);
    for (const record of records) if (record.is_alive) assertSamePipeline(record, settings);
    return Promise.all(records.map((record) => stopService(settings, record)));
  });
}

async function stopService(settings: Settings, record: FoundService) {
  const { service, pid } = record;
  let how: 'stopped' | 'gave up' | 'killed' | 'was dead already' = record.is_alive ? 'stopped' : 'was dead already';
  if (record.is_alive && !(await endsAfter(record, 'SIGTERM', settings.shutdown_timeout_seconds + GRACE_SECONDS))) {
    how = 'killed';
    await endsAfter(record, 'SIGKILL', GRACE_SECONDS);
  }
  const state = await readState(settings.run_dir, service);
  if (how === 'stopped' && state?.run_id === record.run_id && state.gave_up) how = 'gave up';
  await releaseService(settings.run_dir, record);
  logger.info(`the ${service} (process ${pid}) ${how === 'stopped' || how === 'killed' ? `was ${how}` : how}`);
  return { service, pid, how };
}

/** Sends a signal and waits, up to so many seconds, until the process is gone. */
async function endsAfter({ service, pid, identity }: FoundService, signal: NodeJS.Signals, seconds: number) {
  try {
    signalProcess(pid, signal);
  } catch (error) {
    throw new TidemarkError(`the ${service} (process ${pid}) cannot be stopped: it belongs to another OS user`, {
      cause: error,
      hint: 'stop it as that user, or as root',
    });
  }
  for (const deadline = performance.now() + seconds * 1000; performance.now() < deadline; await sleep(POLL_MS))
    if ((await processIdentity(pid)) !== identity) return true;
  return false;
}
