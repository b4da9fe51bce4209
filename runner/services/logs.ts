import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { access, constants, mkdir } from 'node:fs/promises';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { finished } from 'node:stream/promises';
import { prettyFactory } from 'pino-pretty';
import { createStream, type RotatingFileStream } from 'rotating-file-stream';
import { TidemarkError, sayToStderr } from '../base/errors.js';
import { type LogSink, prettyOptions } from '../base/logger.js';
import { assertSafeFolder } from '../base/safe-folder.js';
import type { Settings } from '../base/settings.js';

/** After a fault, a log file is tried again at most this often. */
const RETRY_MS = 10_000;

/** A log file that rotates by size and by day. */
export interface LogFile extends LogSink {
  /** Writes what is still in memory. */
  readonly close: () => Promise<void>;
}

/** The names of the original: logs/simulator.log, extractor.log, scd2_loader.log. */
export const logFileName = (settings: Settings, service: string): string =>
  path.join(settings.log_dir, `${service === 'loader' ? 'scd2_loader' : service}.log`);

/** Makes the folder of the log files, for this user alone. */
export async function ensureLogFolder({ log_dir }: Settings): Promise<void> {
  try {
    await mkdir(log_dir, { recursive: true, mode: 0o700 });
    await access(log_dir, constants.W_OK);
    await assertSafeFolder(log_dir, 'LOG_DIR');
  } catch (error) {
    if (error instanceof TidemarkError) throw error;
    throw new TidemarkError('the folder of the log files cannot be written', {
      detail: `${log_dir} (${String(error)})`,
      hint: 'give this user the folder, or set LOG_DIR to another one',
      cause: error,
    });
  }
}

/**
 * Opens the log file of a service (0600): a new one each day and each LOG_ROTATE_BYTES, the old ones compressed and LOG_ROTATE_FILES of them kept.
 * A log that cannot be written (full disk, read-only folder) never stops the service: lines then go to stderr, and the file is tried again.
 */
export function openLogFile(settings: Settings, service: string): LogFile {
  const file = logFileName(settings, service);
  let stream: RotatingFileStream | undefined = open(file, settings, fail);
  let failedAt = 0;
  function fail(error: Error): void {
    if (stream === undefined) return;
    stream = undefined;
    failedAt = Date.now();
    sayToStderr(`the log file cannot be written, lines go here meanwhile: ${error.message}\n`);
  }
  const write = (line: string) => {
    if (stream === undefined && Math.abs(Date.now() - failedAt) > RETRY_MS) {
      stream = open(file, settings, fail);
      // The last line before the fault may have been cut.
      stream.write('\n');
    }
    if (stream === undefined) sayToStderr(line);
    else stream.write(line);
  };
  const close = async () => {
    stream?.end();
    // What cannot be written any more has been said.
    if (stream !== undefined) await finished(stream).catch(() => undefined);
  };
  return { write, close };
}

function open(file: string, settings: Settings, fail: (error: Error) => void): RotatingFileStream {
  const { name } = path.parse(file);
  const rotatedName = (time: Date | number | null, index = 1) =>
    time === null ? path.basename(file) : `${name}.${new Date(time).toISOString().slice(0, 10)}.${index}.log.gz`;
  const stream = createStream(rotatedName, {
    path: path.dirname(file),
    size: `${settings.log_rotate_bytes}B`,
    interval: '1d',
    intervalUTC: true,
    intervalBoundary: true,
    // A service that was down at midnight rotates when it begins.
    initialRotation: true,
    maxFiles: settings.log_rotate_files,
    compress: 'gzip',
    history: `.${name}.history`,
    mode: 0o600,
  });
  stream.on('error', fail);
  stream.on('warning', (warning) => sayToStderr(`log file: ${warning.message}\n`));
  return stream;
}

export interface TailOptions {
  /** Lines from the end of each log. */
  readonly lines: number;
  /** Goes on with what comes, over rotations, until the signal. */
  readonly follow: boolean;
  /** Lines as they are in the file. */
  readonly json: boolean;
  readonly signal: AbortSignal;
}

/**
 * Shows the logs of services by the system's tail, which knows how to follow a file that rotates.
 * @returns false where there is no log to show
 */
export async function tailLogs(
  settings: Settings,
  services: readonly string[],
  options: TailOptions,
  out: NodeJS.WriteStream,
): Promise<boolean> {
  const files = services
    .map((service) => ({ service, file: logFileName(settings, service) }))
    .filter(({ file }) => options.follow || existsSync(file));
  const widest = Math.max(...services.map((service) => service.length));
  const pretty = prettyFactory({ ...prettyOptions(out.isTTY), ignore: 'pid,hostname,run_id,service,settings' });
  const show = (service: string) => (line: string) => {
    out.write(options.json ? `${line}\n` : `${service.padEnd(widest)}  ${pretty(line)}`);
  };
  await Promise.all(files.map(({ service, file }) => tail(file, options, show(service))));
  return files.length > 0;
}

async function tail(file: string, { lines, follow, signal }: TailOptions, show: (line: string) => void): Promise<void> {
  const args = ['-n', String(lines), ...(follow ? ['-F'] : []), file];
  const child = spawn('tail', args, { stdio: ['ignore', 'pipe', 'inherit'], signal });
  let fault: Error | undefined;
  child.once('error', (error) => (fault = error));
  for await (const line of createInterface(child.stdout)) show(line);
  // Its end is what the signal is for.
  if (fault === undefined || signal.aborted) return;
  throw new TidemarkError(`the logs cannot be shown: ${fault.message}`, {
    hint: 'it takes the program "tail"',
    cause: fault,
  });
}
