#!/usr/bin/env node
import './base/v8-memory.js';
import { readFileSync } from 'node:fs';
import type { Command } from './commands/command.js';
import { EXIT, UsageError, describeError, failureDocument, isTold, sayToStderr } from './base/errors.js';

/** Every command with what follows its name, and what it is for, in the order in which help shows them. */
const COMMANDS: Readonly<Record<string, string>> = {
  init: 'Begin a project: write its .env, check it, and propose the tables to add',
  db: 'start, stop and look at the embedded PostgreSQL servers',
  'migrate [action]': 'Bring the warehouse to the present: migrations, functions, registered dimensions',
  demo: 'Make the demo source and replay a morning of orders, step by step, into history',
  simulate: 'Write demo traffic to the demo source: one round of ten changes, unless told otherwise',
  extract: 'Read what changed in the source since the watermark and write it to the change log',
  load: 'Apply the pending batches of the change log to history',
  'rejected [action]':
    'List the changes that could not be applied and were set aside; dismiss those that history need not have',
  'check [suite...]': 'Prove history and ledger by the assertions in sql/checks; exits 3 if one fails',
  start:
    'Run extractor, loader and, where a table needs it, the reconciler in the background; start again what has died',
  stop: 'End the services that run in the background: each finishes what it has in hand',
  restart:
    'Stop the services and start again what was running (extractor and loader if nothing was); extractors of shards run on',
  status: 'Show what runs, and for each table how far it is and what went wrong; changes nothing',
  'logs [service...]': "Show the last lines of the services' logs, for people to read",
  report:
    "Write scd2_lineage_report_<time>.md: how much history, what changes most, and where a key's versions came from",
  doctor:
    'Look at the ground before a run: connections, rights, tables, clocks, disk; exits 1 if something must be mended',
  'add [sources..]': 'Write the migrations that register source tables, from their catalog',
  'table <action> [name]': 'List the registered tables; pause one, let it go on, or remove it',
  watermark: 'Show how far extraction has come, and let it go on from an earlier point',
  reconcile:
    'Compare the source with the current versions of history, and repair what differs; exits 3 if something does',
  'verify-log':
    'Make history once more from the change log and compare it with the one there is; exits 3 if they differ',
  rebuild:
    'Make a history from its change log again, and write what differs; versions that stay keep their surrogate key',
  prune: 'Remove what is older than its retention setting says: applied batches, absorbed changes, reports of runs',
  serve: 'Serve /metrics for Prometheus, /healthz and /readyz until interrupted',
  grants: 'Print the statements that make the least-privilege roles of source and warehouse, or run them',
};

let withStack = false;
let isToldToEnd = false;

const nameOf = (usage: string): string => usage.split(' ')[0] ?? '';

function wrongUsage(message: string, called: string | undefined): UsageError {
  if (called !== undefined)
    return new UsageError(message.replaceAll(/\n+ */g, ' '), { hint: `see "tidemark ${called} --help"` });
  return new UsageError(message.replace(/^Unknown argument: /, 'there is no command '), {
    hint: '"tidemark --help" lists the commands',
  });
}

/** What every command begins with, once its options are found to be right. */
async function readLogLevel(): Promise<void> {
  const [{ loadSettings }, { setLogLevel }] = await Promise.all([
    import('./base/settings.js'),
    import('./base/logger.js'),
  ]);
  const { log_level: level } = loadSettings();
  withStack = level === 'DEBUG';
  setLogLevel(level);
}

async function main(given: readonly string[]): Promise<void> {
  const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };
  if (given[0] === '--version') {
    process.stdout.write(`${version}\n`);
    return;
  }
  // Only the command that is called is loaded: loading them all takes longer than many a command.
  const word = given.find((each) => !each.startsWith('-'));
  const called = Object.keys(COMMANDS)
    .map(nameOf)
    .find((name) => name === word);
  const { command } = (called === undefined ? {} : await import(`./commands/${called}.js`)) as { command?: Command };
  const { default: yargs } = await import('yargs');
  const door = yargs(given)
    .scriptName('tidemark')
    .usage('$0 <command>\n\nChange data capture into SCD Type 2 history, PostgreSQL to PostgreSQL, SQL first.')
    // There may be no settings yet.
    .middleware(called === 'init' ? [] : [readLogLevel])
    .demandCommand(1, 'give a command')
    .recommendCommands()
    .strict()
    .epilogue(
      'Settings come from the environment and the .env file (.env.example documents them all).\nExit codes: 0 done, 1 failed, 2 wrong usage or settings, 3 a check or comparison found violations.',
    )
    .help()
    .version(version)
    .wrap(Math.min(110, process.stderr.columns || 110))
    .fail((message: string | null, error: Error | undefined) => {
      if (error !== undefined && error.name !== 'YError') throw error;
      throw wrongUsage(message ?? error?.message ?? 'wrong usage', called);
    });
  for (const [usage, describe] of Object.entries(COMMANDS))
    if (nameOf(usage) === called) door.command(usage, describe, command?.builder, command?.handler);
    else door.command(usage, describe);
  await door.parseAsync();
}

// Whoever reads the output may stop reading, as "head" does: that is no error. What goes on for ever is told to end; what ends by itself
// does what it was asked for, its run is noted, and its exit code holds. A full disk behind stderr must end nothing.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  if (!isToldToEnd && process.argv.some((each) => /^(--watch|--follow|-[a-z]*f)$/.test(each)))
    isToldToEnd = process.emit('SIGTERM') || process.exit(EXIT.done);
});
process.stderr.on('error', () => undefined);

main(process.argv.slice(2)).catch((error: unknown) => {
  sayToStderr(`${describeError(error, withStack)}\n`);
  if (process.argv.includes('--json') && !isTold(error))
    process.stdout.write(`${JSON.stringify(failureDocument(error))}\n`);
  process.exitCode = error instanceof Error && 'exitCode' in error ? Number(error.exitCode) : EXIT.failed;
});
