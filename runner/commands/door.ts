import type { Command } from './command.js';
import { EXIT, UsageError, describeError, failureDocument, isTold, sayToStderr } from '../base/errors.js';

/** Every command with what follows its name, and what it is for, by task, in the order in which help shows them. */
const COMMANDS_BY_TASK: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  'To begin': {
    init: 'Begin a project: write its .env, check it, and propose the tables to add',
    db: 'Start, stop and look at the embedded PostgreSQL servers',
    demo: 'Make the demo source and replay a morning of orders, step by step, into history',
    simulate: 'Write demo traffic to the demo source: one round of ten changes by default',
  },
  'Your tables': {
    'add [sources..]': 'Write the migrations that register source tables, from their catalog',
    'migrate [action]': 'Bring the warehouse to the present: migrations, functions, registered dimensions',
    'table <action> [name] [how]': 'List the registered tables; pause one, read it from the log, or remove it',
  },
  'To run': {
    start: 'Run what is needed in the background; start again what has died',
    stop: 'End the services that run in the background: each finishes what it has in hand',
    restart: 'Stop the services and start again what was running',
    extract: 'Write what changed in the source since the watermark to the change log',
    'stream [action]': "Write what is committed at the source to the change log, from the source's own log",
    events: 'Publish what happens to histories as events; say who is told, and how far',
    load: 'Apply the pending batches of the change log to history',
    relay: 'Tell subscriptions of events, in their order, until each has them',
  },
  'To look': {
    console: 'Open pages in a browser: tables as of any moment, how a key came to be so, what changed, what waits',
    status: 'Show what runs, how far each table is, and what went wrong; changes nothing',
    'logs [service...]': "Show the last lines of the services' logs",
    'as-of <table> <moment>': 'Show a history as it was at a moment, or was known then',
    'diff <table> <from> <to>': 'Show what is different between two moments',
    'history <table> <key..>': 'Show what became of one key, and where each change came from',
    report: 'Write a report: how much history, what changes most, where versions came from',
    doctor: 'Look at connections, rights, tables, clocks and disk; exits 1 if one must be mended',
    'check [suite...]': 'Prove history and ledger by the assertions in sql/checks; exits 3 if one fails',
    'verify-log': 'Make history once more from the change log and compare; exits 3 if they differ',
  },
  'To mend': {
    reconcile: 'Compare source and history, and repair what differs; exits 3 if something does',
    'rejected [action]': 'List the changes that could not be applied; dismiss those that history need not have',
    'forget [table] [key..]': 'Erase what is known of a key: history, changes that are kept, and batch files',
    'batch <action> <table> [batch]': 'Take a batch that was wrong out of history, or bring it back; list batches',
    watermark: 'Show how far extraction has come, and let it go on from an earlier point',
    rebuild: 'Make a history from its change log again, and write what differs',
  },
  'To operate': {
    prune: 'Remove what is older than its retention setting says',
    serve: 'Serve /metrics for Prometheus, /healthz and /readyz until interrupted',
    grants: 'Print the statements that make the least-privilege roles, or run them',
    'export <what>': 'Write a history as files of Parquet; or all as sources and macros of a dbt project',
    completion: 'Print the script that lets your shell complete commands and options',
  },
};

const COMMANDS = Object.values(COMMANDS_BY_TASK).flatMap((commands) => Object.entries(commands));

/** These need no settings, or there are none yet. */
const WITHOUT_SETTINGS: readonly (string | undefined)[] = ['init', 'completion'];

/** What a script of completion (of yargs) puts before the words that were typed. */
const COMPLETING = '--get-yargs-completions';

let withStack = false;

const nameOf = (usage: string): string => usage.split(' ')[0] ?? '';

/** How wide help may be. */
const WIDTH = Math.max(60, Math.min(110, process.stderr.columns || 110));

const helpByTask = (): string =>
  Object.entries(COMMANDS_BY_TASK)
    .map(([task, commands]) => {
      const lines = Object.entries(commands).map(([usage, describe]) => {
        const head = `  tidemark ${nameOf(usage).padEnd(10)}  `;
        const fits = new RegExp(`\\S.{0,${WIDTH - head.length - 1}}(?!\\S)`, 'g');
        return `${head}${describe.match(fits)?.join(`\n${' '.repeat(head.length)}`) ?? ''}`;
      });
      return [`${task}:`, ...lines].join('\n');
    })
    .join('\n\n');

/** The error of a command that there is not, and which may have been meant. */
async function unknownCommand(word: string): Promise<UsageError> {
  const { nearest } = await import('../base/nearest.js');
  const near = nearest(
    word,
    COMMANDS.map(([usage]) => nameOf(usage)),
    word.length < 5 ? 1 : 2,
  );
  return new UsageError(`there is no command ${word}${near === undefined ? '' : `; did you mean ${near}?`}`, {
    hint: '"tidemark --help" lists the commands',
  });
}

/** What every command begins with, once its options are found to be right. */
async function readLogLevel(): Promise<void> {
  const [{ loadSettings }, { setLogLevel }] = await Promise.all([
    import('../base/settings.js'),
    import('../base/logger.js'),
  ]);
  const { log_level: level } = loadSettings();
  withStack = level === 'DEBUG';
  setLogLevel(level);
}

async function answer(given: readonly string[], version: string, find: Find): Promise<void> {
  if (given[0] === '--version') {
    process.stdout.write(`${version}\n`);
    return;
  }
  // Only the command that is called is loaded: loading them all takes longer than many a command.
  const isCompleting = given[0] === COMPLETING;
  const word = given.slice(isCompleting ? 2 : 0).find((each) => !each.startsWith('-'));
  const called = COMMANDS.map(([usage]) => nameOf(usage)).find((name) => name === word);
  const command = called === undefined ? undefined : await find(called);
  const unknown = called === undefined && word !== undefined ? await unknownCommand(word) : undefined;
  const hint = called === undefined ? '"tidemark --help" lists the commands' : `see "tidemark ${called} --help"`;
  const { default: yargs } = await import('yargs');
  // What is so long ago (-2h) would be taken for options; a blank before it does no harm.
  const words = given.map((each) => each.replace(/^-(?=[0-9.]+ *[a-z]+$)/, ' -'));
  const door = yargs(isCompleting ? words : [])
    .scriptName('tidemark')
    .usage(
      `$0 <command>\n\nChange data capture into SCD Type 2 history, from PostgreSQL to PostgreSQL.\n\n${helpByTask()}`,
    )
    .middleware(
      WITHOUT_SETTINGS.includes(called)
        ? []
        : [({ help, version: isAsked }) => (help === true || isAsked === true ? undefined : readLogLevel())],
    )
    .demandCommand(1, 'give a command')
    .strict()
    .epilogue(
      'Settings come from the environment and the .env file (see docs/settings.md).\nExit codes: 0 done, 1 failed, 2 wrong usage or settings, 3 violations found.',
    )
    .help()
    .version(version)
    // What is wrapped loses its indentation: the list of commands must not be.
    .wrap(called === undefined ? null : WIDTH)
    .fail((message: string | null, error: Error | undefined) => {
      if (error !== undefined && error.name !== 'YError') throw error;
      if (unknown !== undefined) throw unknown;
      throw new UsageError((message ?? error?.message ?? 'wrong usage').replaceAll(/\n+ */g, ' '), { hint });
    });
  // Help lists them by task, which yargs does not do: only who completes a word is given yargs' own list.
  for (const [usage, describe] of COMMANDS)
    if (nameOf(usage) === called) door.command(usage, describe, command?.builder, command?.handler);
    else if (isCompleting) door.command(usage, describe);
    else door.command(usage, false);
  if (called === undefined)
    door
      .example('npx $0 add --schema public', 'Write a migration for each table of a schema')
      .example('npx $0 start', 'Follow them in the background')
      .example('npx $0 extract --help', 'What a command takes, with examples');
  if (isCompleting) await door.parseAsync();
  // yargs would print help, or the version, and end the process.
  else
    await door.parseAsync(words, {}, (_error, _argv, said) => {
      if (said !== '') process.stdout.write(`${said}\n`);
    });
}

/** Where a command is, by its name. */
type Find = (name: string) => Promise<Command>;

/** Does what the command line asks for, and says how it failed; the exit code is that of the process. */
export async function callCommand(given: readonly string[], version: string, find: Find): Promise<void> {
  try {
    await answer(given, version, find);
  } catch (error) {
    sayToStderr(`${describeError(error, withStack)}\n`);
    if (given.includes('--json') && !isTold(error)) process.stdout.write(`${JSON.stringify(failureDocument(error))}\n`);
    process.exitCode = error instanceof Error && 'exitCode' in error ? Number(error.exitCode) : EXIT.failed;
  }
}
