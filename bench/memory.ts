import { spawn, type SpawnOptions } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { PROJECT_ROOT, type DatabaseSettings, type Settings } from '../runner/base/settings.js';
import { beginAgain } from './contenders.js';
import { atMost, figure, type Figure } from './figures.js';
import type { Size } from './scenarios.js';
import { addOrders, type Bench } from './server.js';

/** What the runner may need whatever waits for it, in megabytes. */
export const MOST_MEGABYTES = 150;

/** Loaded before a command: when it ends it tells, on a channel of its own, the most memory it has had, in kilobytes. */
const TELL_MOST_MEMORY = `
  import { existsSync, readFileSync, writeSync } from 'node:fs';
  const most = () => (existsSync('/proc/self/status') ? /VmHWM:\\s*([0-9]+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1] : process.resourceUsage().maxRSS);
  process.on('exit', () => writeSync(3, String(most())));`;

const TELL = `data:text/javascript,${encodeURIComponent(TELL_MOST_MEMORY)}`;

const endOf = (prefix: string, { host, port, database, user, password }: DatabaseSettings) => ({
  [`${prefix}HOST`]: host,
  [`${prefix}PORT`]: String(port),
  [`${prefix}NAME`]: database,
  [`${prefix}USER`]: user,
  [`${prefix}PASSWORD`]: password,
});

/** A command as a user would run it, with more of the environment; it tells its memory on channel 3. */
export function commandOf(
  settings: Settings,
  args: readonly string[],
  more: Record<string, string> = {},
): [string, string[], SpawnOptions] {
  const env = {
    PATH: process.env.PATH,
    ENV_FILE: '/dev/null',
    LOG_LEVEL: 'WARNING',
    ...endOf('DB_', settings.source),
    ...endOf('WAREHOUSE_DB_', settings.warehouse),
    CDC_LOG_DIR: settings.cdc_log_dir,
    LOG_DIR: settings.log_dir,
    TIDEMARK_DATA_DIR: settings.run_dir,
    ...more,
  };
  const whole = ['--import', TELL, path.join(PROJECT_ROOT, 'dist', 'cli.js'), ...args];
  return [process.execPath, whole, { env, stdio: ['ignore', 'ignore', 'pipe', 'pipe'] }];
}

/** Runs a command as a user would; it must be built. Returns the most memory it has had, in megabytes. */
export async function runCommand(
  settings: Settings,
  args: readonly string[],
  more: Record<string, string> = {},
): Promise<number> {
  const child = spawn(...commandOf(settings, args, more));
  const [faults, kilobytes] = [child.stdio[2], child.stdio[3]].map((stream) => text(stream as Readable));
  const [code] = (await once(child, 'close')) as [number | null];
  if (code !== 0) throw new Error(`tidemark ${args.join(' ')} ended with ${String(code)}: ${(await faults) ?? ''}`);
  return Number(await kilobytes) / 1024;
}

/** The same for a command on the orders, with batches of the size of the settings. */
export function mostMemoryOf(command: 'extract' | 'load', settings: Settings): Promise<number> {
  const size = String(settings.batch_size);
  const sizes = { BATCH_SIZE: size, BATCH_SIZE_MIN: size, BATCH_SIZE_MAX: size };
  return runCommand(settings, [command, '--table', 'orders'], sizes);
}

/** The most memory of the two commands over a backlog of many batches: as many megabytes as there are for ever, or they would grow. */
export async function runnerMemory(bench: Bench, { backlog }: Size, say: (line: string) => void): Promise<Figure[]> {
  await beginAgain(bench);
  await addOrders(bench, backlog);
  const figures: Figure[] = [];
  for (const command of ['extract', 'load'] as const) {
    say(`runner memory, ${command} of ${String(backlog)} changes`);
    const id = `memory_${command}`;
    const name = `runner memory, ${command} of ${String(Math.ceil(backlog / bench.settings.batch_size))} batches`;
    const measure = async () => [await mostMemoryOf(command, bench.settings)];
    figures.push(
      figure({ id, name, unit: 'MB', values: await measure(), target: atMost(MOST_MEGABYTES) }),
      figure({
        ...{ id: `${id}_floor`, floor_of: id, unit: 'MB', values: await measure() },
        name: `the same command, of which nothing waits`,
      }),
    );
  }
  return figures;
}
