import type { Argv, ArgumentsCamelCase, InferredOptionTypes, Options, PositionalOptions } from 'yargs';
import { UsageError } from '../base/errors.js';

/** What each module of this folder exports as "command": what it takes, and what it does. Its name and purpose stand in cli.ts. */
export interface Command {
  readonly builder: (yargs: Argv) => Argv;
  readonly handler: (given: ArgumentsCamelCase) => Promise<void> | void;
}

/** Writes a result to stdout: as JSON where --json asks for it, else in words. */
export type Print = (result: unknown, words: string) => void;

export const JSON_OPTION = { type: 'boolean', describe: 'Print the result as JSON' } as const;
export const TABLE_OPTION = {
  type: 'string',
  array: true,
  requiresArg: true,
  describe: 'Only these tables; all by default',
} as const;
export const serviceOption = (service: string) =>
  ({
    type: 'boolean',
    implies: 'watch',
    describe: `With --watch: be the ${service} that status shows and stop ends, and log to LOG_DIR, as "tidemark start" does`,
  }) as const;

interface Takes<P, O> {
  readonly positionals?: P;
  readonly options?: O;
  readonly epilogue?: string;
}

/** A command by what it takes, typed by that, and what it does. */
export function defineCommand<
  const P extends Readonly<Record<string, PositionalOptions>>,
  const O extends Readonly<Record<string, Options>>,
>(
  { positionals, options, epilogue = '' }: Takes<P, O>,
  run: (given: ArgumentsCamelCase<InferredOptionTypes<P & O>>, print: Print) => Promise<void>,
): Command {
  return {
    builder: (yargs) => {
      for (const [name, each] of Object.entries(positionals ?? {})) yargs.positional(name, each);
      return yargs.options(options ?? {}).epilogue(epilogue);
    },
    handler: (given) =>
      run(given as ArgumentsCamelCase<InferredOptionTypes<P & O>>, (result, words) => {
        process.stdout.write(`${given.json === true ? JSON.stringify(result) : words}\n`);
      }),
  };
}

/** A command that has commands of its own, each by its name and what it is for. */
export function defineGroup(
  commands: Readonly<Record<string, readonly [describe: string, command: Command]>>,
): Command {
  const message = `give one of ${Object.keys(commands).join(', ')}`;
  return {
    builder: (yargs) => {
      for (const [name, [describe, { builder, handler }]] of Object.entries(commands))
        yargs.command(name, describe, builder, handler);
      return yargs.demandCommand(1, 1, message, message);
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
  const named = mostName === undefined ? String(most) : `${mostName} (${String(most)})`;
  const range = `a whole number from ${String(least)}${most === Infinity ? '' : ` to ${named}`}`;
  throw new UsageError(
    `--${option} is ${Number.isNaN(value) ? 'not a number' : String(value)}, accepted is ${least === undefined ? 'one number above 0' : range}`,
    { hint: `see "tidemark ${command} --help"` },
  );
}
