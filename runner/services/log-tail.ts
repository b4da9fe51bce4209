import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { prettyFactory } from 'pino-pretty';
import type { Settings } from '../base/settings.js';
import { TidemarkError } from '../base/errors.js';
import { logFileName } from './logs.js';
import { prettyOptions } from '../base/logger.js';

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
export async function tailLogs(settings: Settings, services: readonly string[], options: TailOptions, out: NodeJS.WriteStream): Promise<boolean> {
  const files = services.map((service) => ({ service, file: logFileName(settings, service) })).filter(({ file }) => options.follow || existsSync(file));
  const widest = Math.max(...services.map((service) => service.length));
  const pretty = prettyFactory({ ...prettyOptions(out.isTTY), ignore: 'pid,hostname,run_id,service,settings' });
  const show = (service: string, line: string) => { out.write(options.json ? `${line}\n` : `${service.padEnd(widest)}  ${pretty(line)}`); };
  await Promise.all(files.map(({ service, file }) => tail(file, options, (line) => { show(service, line); })));
  return files.length > 0;
}

async function tail(file: string, { lines, follow, signal }: TailOptions, show: (line: string) => void): Promise<void> {
  const child = spawn('tail', ['-n', String(lines), ...(follow ? ['-F'] : []), file], { stdio: ['ignore', 'pipe', 'inherit'] });
  const fault = new Promise<never>((_, reject) => { child.once('error', (error) => { reject(new TidemarkError(`the logs cannot be shown: ${error.message}`, { hint: 'it takes the program "tail"', cause: error })); }); });
  fault.catch(() => undefined);
  const end = () => { child.kill(); };
  signal.addEventListener('abort', end);
  try {
    await Promise.race([fault, showAll(child.stdout, show)]);
  } finally {
    signal.removeEventListener('abort', end);
  }
}

async function showAll(lines: NodeJS.ReadableStream, show: (line: string) => void): Promise<void> {
  for await (const line of createInterface(lines)) show(line);
}
