import { spawn } from 'node:child_process';
import path from 'node:path';
import yargs from 'yargs';
import { hideBin } from 'yargs/helpers';
import { PROJECT_ROOT } from '../../runner/base/settings.js';

/** `npm run soak -- --minutes 30`: the tests that print what they tried and lost, for as long as that. */
const { minutes } = await yargs(hideBin(process.argv))
  .scriptName('npm run soak --')
  .usage(
    '$0 [options]\n\nRuns the pipeline under faults for a while: kills, cut connections, long transactions, calls that fail. Prints what it tried and lost.',
  )
  .option('minutes', { type: 'number', requiresArg: true, default: 10, describe: 'About how long, from 2' })
  .check(({ minutes: given }) => given >= 2 || '--minutes is at least 2')
  .strict()
  .parseAsync();

/** Half of the time for the whole pipeline, a quarter for extraction alone, a quarter for crashes, which take every step once whatever the time. */
const env = {
  ...process.env,
  SOAK_SECONDS: String(Math.round((minutes * 60) / 2)),
  CHAOS_SECONDS: String(Math.round((minutes * 60) / 4)),
  CRASH_SECONDS: String(Math.round((minutes * 60) / 4)),
};
const tests = ['soak', 'chaos', 'crash'].map((name) => path.join('test', 'pipeline', `${name}.test.ts`));
const limit = ['--testTimeout', String(minutes * 60_000 + 600_000)];
spawn(
  process.execPath,
  [path.join(PROJECT_ROOT, 'node_modules/vitest/vitest.mjs'), 'run', '--no-file-parallelism', ...limit, ...tests],
  { cwd: PROJECT_ROOT, env, stdio: 'inherit' },
).on('exit', (code) => {
  process.exitCode = code ?? 1;
});
