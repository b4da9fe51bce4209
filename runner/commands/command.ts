import type { Argv, ArgumentsCamelCase, InferredOptionTypes, Options, PositionalOptions } from 'yargs';
import { EXIT, UsageError, failureDocument, sayAll } from '../base/errors.js';
import { logger } from '../base/logger.js';
import { loadSettings, type Settings } from '../base/settings.js';

/** What each module of this folder exports as "command": what it takes, and what it does. Its name and purpose stand in door.ts. */
export interface Command {
  readonly builder: (yargs: Argv) => Argv;
  readonly handler: (given: ArgumentsCamelCase) => Promise<void> | void;
}

/** Writes a result to stdout: as JSON where --json asks for it, else in words. `error` is what ended a run of which there is a result all the same. */
export type Print = (result: unknown, words: string, error?: unknown) => void;

/** What a command is given besides what was typed. The settings are read when they are asked for. */
export type Context = Readonly<{ settings: Settings; print: Print }>;

/** Options, by what is given with them. */
export const flag = (describe: string) => ({ type: 'boolean', describe }) as const;
export const number = (describe: string) => ({ type: 'number', requiresArg: true, describe }) as const;
export const text = (describe: string) => ({ type: 'string', requiresArg: true, describe }) as const;
export const texts = (describe: string) => ({ ...text(describe), array: true }) as const;
export const choice = <const C extends readonly string[]>(choices: C, describe: string) =>
  ({ type: 'string', choices, describe }) as const;

export const TABLE_OPTION = texts('Only these tables; all by default');
/** What the commands take that ask a history. */
export const tableOption = {
  type: 'string',
  demandOption: true,
  describe: 'The table, by the name of its dimension',
} as const;
export const KEY_OPTION = texts('Business key of one row (several values for a key of several columns)');
export const LAYOUTS = {
  json: flag('Print whole rows as JSON'),
  csv: { ...flag('Print values as CSV'), conflicts: 'json' },
} as const;
export const layoutOf = (given: {
  readonly json?: boolean | undefined;
  readonly csv?: boolean | undefined;
}): 'json' | 'csv' | 'table' => (given.json === true ? 'json' : given.csv === true ? 'csv' : 'table');
export const MOMENTS =
  'A moment: 2026-02-01, "2026-02-01 09:05" (in the zone of the source, or with +02), 09:05, now, today, yesterday, -2h, or batch:<id>: when it was captured (--known: applied).';

export const serviceOption = (service: string) =>
  ({
    ...flag(
      `With --watch: be the ${service} that status shows and stop ends, and log to LOG_DIR, as "tidemark start" does`,
    ),
    implies: 'watch',
  }) as const;

/**
 * Prints what a run over several tables came to, also where some failed, whose error goes on its way then.
 * @param isViolated whether it found what breaks a rule, which the exit code says
 */
export const printAll = <R>(
  work: Promise<R>,
  print: Print,
  words: (result: R) => string,
  isViolated: (result: R) => boolean = () => false,
): Promise<void> =>
  sayAll(work, (result, error) => {
    print(result, words(result), error);
    if (isViolated(result)) process.exitCode = EXIT.violations;
  });

/** What a service says of each table: as debug where there was nothing to do. */
export const logEach =
  <R extends Readonly<Record<'changes' | 'batches', number> & { table: string }>>(words: (result: R) => string) =>
  (results: readonly R[]): void => {
    for (const result of results)
      logger[result.batches > 0 ? 'info' : 'debug']({ table: result.table, changes: result.changes }, words(result));
  };

export interface Takes<P, O> {
  readonly positionals?: P;
  readonly options?: O;
  readonly epilogue?: string;
  /** What each of these does, by what is typed after "tidemark". */
  readonly examples?: Readonly<Record<string, string>>;
  /** False where there is no result to print. */
  readonly hasResult?: boolean;
}

export type Positionals = Readonly<Record<string, PositionalOptions>>;
export type Flags = Readonly<Record<string, Options>>;
export type Given<T> = ArgumentsCamelCase<InferredOptionTypes<T & { json: { type: 'boolean' } }>>;

/** A command by what it takes, typed by that, and what it does. One that has a result takes --json besides. */
export function defineCommand<const P extends Positionals, const O extends Flags>(
  { positionals, options, epilogue = '', examples = {}, hasResult = true }: Takes<P, O>,
  run: (given: Given<P & O>, context: Context) => Promise<void>,
): Command {
  return {
    builder: (yargs) => {
      for (const [name, each] of Object.entries(positionals ?? {})) yargs.positional(name, each);
      for (const [typed, what] of Object.entries(examples)) yargs.example(`npx $0 ${typed}`, what);
      const json = hasResult ? { json: flag('Print the result as JSON') } : {};
      return yargs.options({ ...json, ...options }).epilogue(epilogue);
    },
    handler: (given) => {
      const print: Print = (result, words, error) => {
        const document = error === undefined ? result : failureDocument(error, result);
        const isNothing = Array.isArray(result) && result.length === 0 && error !== undefined;
        const said = given.json === true ? JSON.stringify(document) : isNothing ? '' : words;
        if (said !== '') process.stdout.write(`${said}\n`);
      };
      return run(given as Given<P & O>, {
        print,
        get settings() {
          return loadSettings();
        },
      });
    },
  };
}

/** One that says what came of it, once: a result, and words for it. */
export const defineAnswer = <const P extends Positionals, const O extends Flags>(
  takes: Takes<P, O>,
  work: (given: Given<P & O>, settings: Settings) => Promise<readonly [result: unknown, words: string]>,
): Command =>
  defineCommand(takes, async (given, { settings, print }) => {
    print(...(await work(given, settings)));
  });

/** A command that has commands of its own, each by its name, with what it takes, and what it is for. */
export function defineGroup(
  commands: Readonly<Record<string, readonly [describe: string, command: Command]>>,
): Command {
  const names = Object.keys(commands).map((usage) => usage.replace(/ .*/, ''));
  const message = `give one of ${names.join(', ')}`;
  const assertKnown = ({ _: words }: { readonly _: readonly (string | number)[] }) => {
    if (words[1] !== undefined && !names.includes(String(words[1])))
      throw new UsageError(`there is no command ${words.slice(0, 2).join(' ')}`, { hint: message });
  };
  return {
    builder: (yargs) => {
      for (const [usage, [describe, { builder, handler }]] of Object.entries(commands))
        yargs.command(usage, describe, builder, handler);
      return yargs.middleware(assertKnown, true).demandCommand(1, 1, message, message);
    },
    handler: () => undefined,
  };
}

/**
 * A number that an option was given, or undefined where it was not: a whole one from `least`, or else any above 0.
 * @throws UsageError naming option, value and what is accepted
 */
export function numberOf<T extends number | undefined>(
  command: string,
  option: string,
  value: T,
  limits: { readonly least?: number; readonly most?: number; readonly mostName?: string } = {},
): T {
  const { least, most = Infinity, mostName } = limits;
  if (value === undefined) return value;
  const isNumber = typeof value === 'number' && Number.isFinite(value) && value <= most;
  if (isNumber && (least === undefined ? value > 0 : Number.isInteger(value) && value >= least)) return value;
  const named = mostName === undefined ? String(most) : `${mostName} (${most})`;
  const range = `a whole number from ${String(least)}${most === Infinity ? '' : ` to ${named}`}`;
  throw new UsageError(
    `--${option} is ${Number.isNaN(value) ? 'not a number' : String(value)}, accepted is ${least === undefined ? 'one number above 0' : range}`,
    { hint: `see "tidemark ${command} --help"` },
  );
}
