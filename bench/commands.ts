import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp } from 'node:fs/promises';
import path from 'node:path';
import { PROJECT_ROOT } from '../runner/base/settings.js';
import { beginAgain } from './contenders.js';
import { atMost, figure, ratioOf, yardstick, type Figure } from './figures.js';
import { plainLook, plainTables } from './floors.js';
import { runCommand } from './memory.js';
import type { Size } from './scenarios.js';
import type { Bench } from './server.js';

/** What commands take as a user runs them, by the clock; they must be built. */

type Say = (line: string) => void;

async function secondsOf(work: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await work();
  return (performance.now() - began) / 1000;
}

async function run(command: string, args: readonly string[]): Promise<void> {
  const child = spawn(command, args, { cwd: PROJECT_ROOT, stdio: ['ignore', 'ignore', 'pipe'] });
  child.stderr.pipe(process.stderr);
  const [code] = (await once(child, 'close')) as [number | null];
  if (code !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${String(code)}`);
}

/** How long the command line takes to begin, beside a Node that does nothing. */
export async function start(_: Bench, { runs }: Size, say: Say): Promise<Figure[]> {
  say('the start of the command line');
  const [cli, node]: [number[], number[]] = [[], []];
  for (let count = 0; count < runs * 4; count += 1) {
    cli.push(await secondsOf(() => run(process.execPath, [path.join(PROJECT_ROOT, 'dist', 'cli.js'), '--version'])));
    node.push(await secondsOf(() => run(process.execPath, ['-e', '0'])));
  }
  const what = { id: 'start', name: 'tidemark --version', unit: 'x node -e 0', target: atMost(2.5) };
  const ratio = ratioOf(what, ['tidemark', cli], ['node', node]);
  return [ratio, yardstick(ratio, 'node -e 0')];
}

/** Adds tables at the source until there are so many beside the demo's, and registers them by files that `migrate` has not seen; returns where they are. */
export async function addTables({ source, settings }: Bench, tables: number): Promise<Record<string, string>> {
  const dimensions = path.join(settings.run_dir, '..', 'dimensions');
  await cp(path.join(PROJECT_ROOT, 'migrations', 'dimensions'), dimensions, { recursive: true });
  await source.unsafe(`
    do $$ begin
      for i in 1..${String(tables)} loop
        execute format('create table if not exists public.many_%s (id integer primary key, a text, b numeric, c timestamp, updated_at timestamptz not null)', i);
      end loop;
    end $$`);
  const env = { DIMENSIONS_DIR: dimensions };
  await runCommand(settings, ['add', 'public.many_*', '--deletes', 'reconcile'], env);
  return env;
}

/** Many tables of which nothing waits: to register them, and to look at them. */
export async function manyTables(bench: Bench, { tables, runs }: Size, say: Say): Promise<Figure[]> {
  const { settings } = bench;
  say(`${String(tables)} tables`);
  await beginAgain(bench);
  const env = await addTables(bench, tables);
  const taken = { migrate: [] as number[], extract: [] as number[], reconcile: [] as number[] };
  taken.migrate.push(await secondsOf(() => runCommand(settings, ['migrate'], env)));
  await runCommand(settings, ['extract'], env);
  for (let count = 0; count < runs; count += 1)
    for (const command of ['extract', 'reconcile'] as const)
      taken[command].push(await secondsOf(() => runCommand(settings, [command], env)));
  const plain = {
    migrate: [await secondsOf(() => plainTables(bench.warehouse, tables))],
    extract: [await secondsOf(() => plainLook(bench, tables, false))],
    reconcile: [await secondsOf(() => Promise.all([plainLook(bench, tables, false), plainLook(bench, tables, true)]))],
  };
  const floors = {
    migrate: 'as many tables made, like their histories',
    extract: 'as many tables asked for newer rows, in one session',
    reconcile: 'as many tables counted at both ends, in a session each',
  };
  return (['migrate', 'extract', 'reconcile'] as const).flatMap((command) => {
    const what = { id: `tables_${command}`, unit: 's' };
    const name = `${command} of ${String(tables)} ${command === 'migrate' ? 'new' : 'quiet'} tables`;
    const floor = { id: `${what.id}_floor`, floor_of: what.id, name: floors[command], values: plain[command] };
    return [
      figure({ ...what, name, values: taken[command], target: atMost(tables / 20) }),
      figure({ ...what, ...floor }),
    ];
  });
}

/** The whole suite as `npm test` runs it: on both versions of PostgreSQL, whatever the bench runs on. */
export async function suite(say: Say): Promise<Figure[]> {
  say('npm test');
  const minutes = (await secondsOf(() => run('npm', ['test', '--silent']))) / 60;
  return [figure({ id: 'suite', name: 'npm test', unit: 'minutes', values: [minutes], target: atMost(8) })];
}
