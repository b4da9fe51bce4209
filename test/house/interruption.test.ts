import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { PROJECT_ROOT } from '../../runner/base/settings.js';
import { until } from '../support/wait.js';

/** What `make test` does, on one file that takes its time: interrupted when its server has been started. */

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'tidemark-interruption-'));
  spawnSync('chmod', ['711', folder]);
});
afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

const left = async () => (await readdir(folder)).filter((name) => name.startsWith('tidemark-'));
/** The servers that run in the folder. */
const servers = () =>
  spawnSync('ps', ['-A', '-o', 'args='], { encoding: 'utf8' })
    .stdout.split('\n')
    .filter((line) => line.includes('bin/postgres') && line.includes(folder));

/** Whether the server that is copied for each worker runs, in such a folder of a run, and whether one that was copied does. */
const isMaking = (run: string) => {
  const file = path.join(folder, run, 'postgres-18', 'template', 'postmaster.pid');
  return existsSync(file) && readFileSync(file, 'utf8').includes('ready');
};
const isAtWork = (run: string) => existsSync(path.join(folder, run, 'postgres-18', 'worker-1.port'));

/** A run that has a server, in a group of processes of its own, as at a terminal. */
async function startRun(hasServer: (run: string) => boolean): Promise<{ run: ChildProcess; ended: Promise<unknown> }> {
  const args = ['--import', 'tsx', 'test/support/run.ts', 'test/functions/history/history.property.test.ts'];
  const run = spawn(process.execPath, args, {
    cwd: PROJECT_ROOT,
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PATH: process.env.PATH, HOME: process.env.HOME, TMPDIR: folder, TEST_IS_BUILT: '1' },
  });
  let said = '';
  for (const output of [run.stdout, run.stderr]) output.on('data', (chunk: Buffer) => (said += chunk.toString()));
  const ended = once(run, 'close');
  const hasEnded = ended.then(() => {
    throw new Error(`the run ended before its server was seen: ${said}`);
  });
  hasEnded.catch(() => undefined);
  await Promise.race([until(async () => (await left()).some(hasServer)), hasEnded]);
  return { run, ended };
}

const signal = (run: ChildProcess, name: NodeJS.Signals) => process.kill(-(run.pid ?? Number.NaN), name);

test('a run that is interrupted leaves no server and no folder behind, and one that is killed leaves them to the next', async () => {
  const killed = await startRun(isMaking);
  signal(killed.run, 'SIGKILL');
  await killed.ended;
  const abandoned = (await left()).filter((name) => name.startsWith('tidemark-suite-'));
  expect(abandoned).toHaveLength(1);
  expect(servers()).toHaveLength(1);
  const interrupted = await startRun(isAtWork);
  expect(await left()).not.toContain(abandoned[0]);
  // Whoever is impatient interrupts it again and again, while it ends.
  const again = setInterval(() => {
    signal(interrupted.run, 'SIGINT');
  }, 10);
  interrupted.run.once('exit', () => {
    clearInterval(again);
  });
  await interrupted.ended;
  await until(async () => !(await left()).some((name) => name.startsWith('tidemark-suite-')));
  expect(servers()).toEqual([]);
});
