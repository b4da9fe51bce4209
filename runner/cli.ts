#!/usr/bin/env node
import './base/v8-memory.js';
import yargs, { type CommandModule } from 'yargs';
import { hideBin } from 'yargs/helpers';
import { loadSettings } from './base/settings.js';
import { EXIT, UsageError, describeError } from './base/errors.js';
import { sayToStderr, setLogLevel } from './base/logger.js';

/** In the order in which help shows them. Each is loaded when it is asked for: loading all takes longer than many a command. */
const COMMANDS: Readonly<Record<string, () => Promise<unknown>>> = {
  db: async () => (await import('./commands/db.js')).dbCommand,
  migrate: async () => (await import('./commands/migrate.js')).migrateCommand,
  demo: async () => (await import('./commands/demo.js')).demoCommand,
  simulate: async () => (await import('./commands/simulate.js')).simulateCommand,
  extract: async () => (await import('./commands/extract.js')).extractCommand,
  load: async () => (await import('./commands/load.js')).loadCommand,
  rejected: async () => (await import('./commands/rejected.js')).rejectedCommand,
  check: async () => (await import('./commands/check.js')).checkCommand,
  start: async () => (await import('./commands/start.js')).startCommand,
  stop: async () => (await import('./commands/stop.js')).stopCommand,
  restart: async () => (await import('./commands/restart.js')).restartCommand,
  status: async () => (await import('./commands/status.js')).statusCommand,
  logs: async () => (await import('./commands/logs.js')).logsCommand,
  report: async () => (await import('./commands/report.js')).reportCommand,
  doctor: async () => (await import('./commands/doctor.js')).doctorCommand,
  add: async () => (await import('./commands/add.js')).addCommand,
  table: async () => (await import('./commands/table.js')).tableCommand,
  watermark: async () => (await import('./commands/watermark.js')).watermarkCommand,
  reconcile: async () => (await import('./commands/reconcile.js')).reconcileCommand,
  'verify-log': async () => (await import('./commands/verify-log.js')).verifyLogCommand,
  rebuild: async () => (await import('./commands/rebuild.js')).rebuildCommand,
  prune: async () => (await import('./commands/prune.js')).pruneCommand,
  serve: async () => (await import('./commands/serve.js')).serveCommand,
  grants: async () => (await import('./commands/grants.js')).grantsCommand,
};

let withStack = false;
let isToldToEnd = false;

/** The command that was asked for; all of them where none of theirs is, so that help can show them and a misspelt one is guessed. */
async function commandsFor(given: readonly string[]): Promise<CommandModule[]> {
  const word = given.find((each) => !each.startsWith('-')) ?? '';
  const loaders = Object.entries(COMMANDS)
    .filter(([name], _, all) => name === word || !all.some(([other]) => other === word))
    .map(([, load]) => load);
  return (await Promise.all(loaders.map((load) => load()))) as CommandModule[];
}

function wrongUsage(message: string, given: readonly string[]): UsageError {
  const [word = ''] = given.filter((each) => !each.startsWith('-'));
  if (word in COMMANDS)
    return new UsageError(message.replaceAll(/\n+ */g, ' '), { hint: `see "tidemark ${word} --help"` });
  return new UsageError(message === `Unknown argument: ${word}` ? `there is no command ${word}` : message, {
    hint: '"tidemark --help" lists the commands',
  });
}

async function main(): Promise<void> {
  const given = hideBin(process.argv);
  await yargs(given)
    .scriptName('tidemark')
    .usage('$0 <command>\n\nChange data capture into SCD Type 2 history, PostgreSQL to PostgreSQL, SQL first.')
    .middleware(() => {
      const level = loadSettings().log_level;
      withStack = level === 'DEBUG';
      setLogLevel(level);
    })
    .command(await commandsFor(given))
    .demandCommand(1, 'give a command')
    .recommendCommands()
    .strict()
    .epilogue(
      'Settings come from the environment and the .env file (.env.example documents them all).\nExit codes: 0 done, 1 failed, 2 wrong usage or settings, 3 a check or comparison found violations.',
    )
    .help()
    .version()
    .wrap(Math.min(110, process.stderr.columns || 110))
    .fail((message: string | null, error: Error | undefined) => {
      if (error !== undefined && error.name !== 'YError') throw error;
      throw wrongUsage(message ?? error?.message ?? 'wrong usage', given);
    })
    .parseAsync();
}

// Whoever reads the output may stop reading, as "head" does: that is no error. What goes on for ever is told to end; what ends by itself
// does what it was asked for, its run is noted, and its exit code holds. A full disk behind stderr must end nothing.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  if (!isToldToEnd && process.argv.some((each) => /^(--watch|--follow|-[a-z]*f)$/.test(each)))
    isToldToEnd = process.emit('SIGTERM') || process.exit(EXIT.done);
});
process.stderr.on('error', () => undefined);

main().catch((error: unknown) => {
  sayToStderr(`${describeError(error, withStack)}\n`);
  process.exitCode = error instanceof Error && 'exitCode' in error ? Number(error.exitCode) : EXIT.failed;
});
