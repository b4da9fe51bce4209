import { spawn } from 'node:child_process';
import path from 'node:path';
import yargs from 'yargs';
import { hideBin } from 'yargs/helpers';
import { PROJECT_ROOT } from '../../runner/base/settings.js';

/** `npm run soak -- --minutes 30`: the tests that print what they tried and lost, for as long as that. */
const { minutes, log } = await yargs(hideBin(process.argv))
  .scriptName('npm run soak --')
  .usage(
    '$0 [options]\n\nRuns the pipeline under faults for a while: kills, cut connections, long transactions, calls that fail. Prints what it tried and lost. Then tries the properties of histories at random.',
  )
  .option('minutes', { type: 'number', requiresArg: true, default: 10, describe: 'About how long, from 2' })
  .option('log', {
    type: 'boolean',
    default: false,
    describe: 'Only capture from the log, and a transaction of two million rows',
  })
  .check(({ minutes: given }) => given >= 2 || '--minutes is at least 2')
  .strict()
  .parseAsync();

const seconds = (share: number) => String(Math.round(minutes * 60 * share));
/** A part of the time for the whole pipeline, for extraction alone, for crashes, which take every step with every fault once whatever the time, and for the log. */
const env = {
  ...process.env,
  SOAK_SECONDS: seconds(0.3),
  CHAOS_SECONDS: seconds(0.15),
  CRASH_SECONDS: seconds(0.15),
  LOG_CHAOS_SECONDS: seconds(log ? 1 : 0.15),
  // Of the properties of histories, and of the relay: the suite tries some ten of each.
  PROPERTY_RUNS: String(Math.round(minutes * 4)),
  ...(log && { LOG_LARGE_ROWS: '2000000' }),
};
const ofLog = ['stream/chaos', 'stream/large'];
const faults = ['pipeline/soak', 'pipeline/chaos', 'pipeline/crash', 'stream/crash', 'stream/chaos'];
const properties = [
  'functions/history/history.property',
  'functions/history/logged.property',
  'functions/events/events.property',
  'functions/time-travel/as_known.property',
  'functions/time-travel/retract_batch.property',
  'events/relay',
];
const tests = (log ? ofLog : [...faults, ...properties]).map((name) => path.join('test', `${name}.test.ts`));
const limit = ['--testTimeout', String(minutes * 180_000 + 900_000)];
spawn(
  process.execPath,
  [path.join(PROJECT_ROOT, 'node_modules/vitest/vitest.mjs'), 'run', '--no-file-parallelism', ...limit, ...tests],
  { cwd: PROJECT_ROOT, env, stdio: 'inherit' },
).on('exit', (code) => {
  process.exitCode = code ?? 1;
});
