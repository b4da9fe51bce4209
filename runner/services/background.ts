import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { open, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { PROJECT_ROOT, type Settings } from '../base/settings.js';
import { TidemarkError, tolerateGone } from '../base/errors.js';
import { ensureLogFolder, logFileName } from './logs.js';
import { logger } from '../base/logger.js';
import { processIdentity, signalProcess } from '../base/process.js';
import {
  assertSamePipeline,
  findService,
  knownServices,
  outputFile,
  readState,
  releaseService,
  type BaseService,
  type Service,
  type ServiceRecord,
  type RunState,
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

const COMMANDS: Readonly<Record<BaseService, string>> = {
  simulator: 'simulate',
  extractor: 'extract',
  loader: 'load',
  reconciler: 'reconcile',
};
const START_SECONDS = 30;
/** Beyond its own bound a service gets this long to end before it is killed, in seconds. */
const GRACE_SECONDS = 5;
const POLL_MS = 50;
const MOST_OUTPUT_BYTES = 1024 * 1024;

/** How every service stands; changes nothing. The reconciler, which not every pipeline needs, is left out where it has never run. */
export async function serviceStatuses(settings: Settings): Promise<ServiceStatus[]> {
  const names = await knownServices(settings.run_dir);
  const statuses = await Promise.all(names.map((service) => serviceStatus(settings, service)));
  return statuses.filter((status) => status !== undefined);
}

async function serviceStatus(settings: Settings, service: Service): Promise<ServiceStatus | undefined> {
  const [found, state] = [await findService(settings.run_dir, service), await readState(settings.run_dir, service)];
  const log_file = logFileName(settings, service);
  if (found !== undefined) {
    const { pid, since, run_id, is_alive } = found;
    const known = state?.run_id === run_id ? state : {};
    return { ...known, service, state: is_alive ? 'running' : 'died', pid, since, run_id, log_file };
  }
  if (service === 'reconciler' && state === undefined) return undefined;
  const nobody = { pid: null, since: null, run_id: null, table_errors: {} };
  return { ...state, service, state: 'stopped', ...nobody, log_file };
}

/**
 * Starts services in the background, each a process of its own that outlives this one; those that run already stay as they are.
 * @throws TidemarkError with what a service said if it does not come up
 */
export async function startServices(settings: Settings, services: readonly BaseService[]): Promise<void> {
  await ensureLogFolder(settings);
  const started = await Promise.allSettled(services.map((service) => startUnlessRunning(settings, service)));
  for (const result of started) if (result.status === 'rejected') throw result.reason;
}

async function startUnlessRunning(settings: Settings, service: BaseService): Promise<void> {
  const found = await findService(settings.run_dir, service);
  if (found?.is_alive === true) {
    assertSamePipeline(found, settings);
    logger.info(`the ${service} is already running (process ${String(found.pid)})`);
    return;
  }
  if (found !== undefined)
    logger.warn(
      `the ${service} had died (process ${String(found.pid)}, since ${found.since}): starting it again${await lastOutput(settings, service)}`,
    );
  await startService(settings, service);
}

async function startService(settings: Settings, service: BaseService): Promise<void> {
  const file = outputFile(settings.run_dir, service);
  const size = await stat(file).then((found) => found.size, tolerateGone);
  const output = await open(file, (size ?? 0) > MOST_OUTPUT_BYTES ? 'w' : 'a', 0o600);
  const command = [path.join(PROJECT_ROOT, 'dist', 'cli.js'), COMMANDS[service], '--watch', '--service'];
  try {
    const child = spawn(process.execPath, command, {
      cwd: PROJECT_ROOT,
      detached: true,
      stdio: ['ignore', output.fd, output.fd],
    });
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
      : `it has not come up within ${String(START_SECONDS)} seconds`;
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
export interface Stopped {
  readonly service: Service;
  readonly pid: number;
  readonly how: 'stopped' | 'gave up' | 'killed' | 'was dead already';
}

/** One line a service that was ended. */
export function formatStopped(stopped: readonly Stopped[]): string {
  return stopped.length === 0
    ? 'nothing was running'
    : stopped.map(({ service, pid, how }) => `${service} (process ${String(pid)}): ${how}`).join('\n');
}

/**
 * Ends every service that runs here, or those that are named: each finishes the round in hand within its bound; one that does not is killed, which rolls back what it
 * had not committed.
 * @throws TidemarkError if a service belongs to another OS user
 */
export async function stopServices(settings: Settings, services?: readonly Service[]): Promise<Stopped[]> {
  const found = await Promise.all(
    (services ?? (await knownServices(settings.run_dir))).map((service) => findService(settings.run_dir, service)),
  );
  for (const record of found) if (record?.is_alive === true) assertSamePipeline(record, settings);
  return Promise.all(found.filter((record) => record !== undefined).map((record) => stopService(settings, record)));
}

async function stopService(settings: Settings, record: ServiceRecord & { is_alive: boolean }): Promise<Stopped> {
  const { service, pid } = record;
  let how: Stopped['how'] = record.is_alive ? 'stopped' : 'was dead already';
  if (record.is_alive && !(await endsAfter(record, 'SIGTERM', settings.shutdown_timeout_seconds + GRACE_SECONDS))) {
    how = 'killed';
    await endsAfter(record, 'SIGKILL', GRACE_SECONDS);
  }
  const state = await readState(settings.run_dir, service);
  if (how === 'stopped' && state?.run_id === record.run_id && state.gave_up) how = 'gave up';
  await releaseService(settings.run_dir, record);
  logger.info(`the ${service} (process ${String(pid)}) ${how === 'stopped' || how === 'killed' ? `was ${how}` : how}`);
  return { service, pid, how };
}

/** Sends a signal and waits, up to so many seconds, until the process is gone. */
async function endsAfter(
  { service, pid, identity }: ServiceRecord,
  signal: NodeJS.Signals,
  seconds: number,
): Promise<boolean> {
  try {
    signalProcess(pid, signal);
  } catch (error) {
    throw new TidemarkError(
      `the ${service} (process ${String(pid)}) cannot be stopped: it belongs to another OS user`,
      { cause: error, hint: 'stop it as that user, or as root' },
    );
  }
  for (const deadline = performance.now() + seconds * 1000; performance.now() < deadline; await sleep(POLL_MS))
    if ((await processIdentity(pid)) !== identity) return true;
  return false;
}
