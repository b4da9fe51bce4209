import type { CommandModule } from 'yargs';
import { loadSettings } from '../base/settings.js';
import { withDatabase } from '../base/database.js';
import { UsageError } from '../base/errors.js';
import { logger } from '../base/logger.js';
import { runPart } from '../services/part.js';
import { simulate, type SimulateResult, type Traffic } from '../demo/simulate.js';
import { counted } from '../base/text-table.js';

export interface SimulateArguments {
  readonly seed?: number | undefined;
  readonly rate?: number | undefined;
  readonly duration?: number | undefined;
  readonly changes?: number | undefined;
  readonly watch?: boolean | undefined;
  readonly service?: boolean | undefined;
  readonly json?: boolean | undefined;
}

/**
 * Reads the options of the command line; `roundSeconds` is the pause of --watch in seconds.
 * @throws UsageError for a value that is no such number, and for options that contradict each other
 */
export function readTraffic(given: SimulateArguments, roundSeconds: number): Omit<Traffic, 'signal'> {
  const traffic = {
    seed: wholeNumber('seed', given.seed, 0),
    rate: positive('rate', given.rate),
    duration: positive('duration', given.duration),
    changes: wholeNumber('changes', given.changes, 1),
    watch: given.watch === true,
    roundSeconds,
  };
  const end = traffic.changes === undefined ? (traffic.duration === undefined ? undefined : '--duration') : '--changes';
  if (traffic.watch && end !== undefined)
    throw new UsageError(`--watch goes on for ever, ${end} says when to stop`, { hint: `leave out --watch or ${end}` });
  return traffic;
}

function positive(name: string, value: unknown): number | undefined {
  if (value === undefined) return undefined;
  if (typeof value === 'number' && Number.isFinite(value) && value > 0) return value;
  throw wrongOption(name, value, 'one number above 0');
}

function wholeNumber(name: string, value: unknown, least: number): number | undefined {
  if (value === undefined) return undefined;
  // The generator's seed is 32 bits wide; more than that many changes would take days.
  if (typeof value === 'number' && Number.isInteger(value) && value >= least && value <= 4_294_967_295) return value;
  throw wrongOption(name, value, `one whole number from ${String(least)} to 4294967295`);
}

function wrongOption(name: string, value: unknown, accepted: string): UsageError {
  const shown = typeof value === 'number' && Number.isNaN(value) ? 'not a number' : String(value);
  return new UsageError(`--${name} is ${shown}, accepted is ${accepted}`, { hint: 'see "tidemark simulate --help"' });
}

function report(result: SimulateResult): string {
  const { inserted, updated, transactions, seconds, seed, customers, products } = result;
  return (
    `inserted ${String(inserted)}, updated ${String(updated)} orders in ${String(transactions)} transactions, ${seconds.toFixed(1)} seconds (seed ${String(seed)})\n` +
    `changed or added besides: ${counted(customers, 'customer')}, ${counted(products, 'product')}`
  );
}

export const simulateCommand: CommandModule<object, SimulateArguments> = {
  command: 'simulate',
  describe: 'Write demo traffic to the demo source: one round of ten changes, unless told otherwise',
  builder: {
    seed: { type: 'number', requiresArg: true, describe: 'Same seed on the same data, same orders' },
    rate: {
      type: 'number',
      requiresArg: true,
      describe: 'Changes a second; by default as fast as the database takes them',
    },
    duration: { type: 'number', requiresArg: true, describe: 'Stop after this many seconds' },
    changes: { type: 'number', requiresArg: true, describe: 'Stop after this many changes' },
    watch: {
      type: 'boolean',
      describe: 'Go on until interrupted: a round every MUTATION_INTERVAL_SECONDS, or steadily at --rate',
    },
    service: {
      type: 'boolean',
      implies: 'watch',
      describe:
        'With --watch: be the simulator that status shows and stop ends, and log to LOG_DIR, as "tidemark start" does',
    },
    json: { type: 'boolean', describe: 'Print the result as JSON' },
  },
  handler: async (given) => {
    const settings = loadSettings();
    const traffic = readTraffic(given, settings.mutation_interval_seconds);
    const interval = traffic.watch ? settings.mutation_interval_seconds : undefined;
    const part = {
      name: 'simulate',
      service: 'simulator',
      greeting: `Starting Database Mutator on ${settings.source.database}`,
      interval,
      asService: given.service === true,
    } as const;
    let [rounds, said] = [0, ''];
    const round = async (signal: AbortSignal) => {
      const result = await withDatabase(settings.source, 'simulate', (source) =>
        simulate(source, { ...roundOf(traffic, rounds), signal }),
      );
      rounds += 1;
      said = given.json === true ? JSON.stringify(result) : report(result);
      const { inserted, updated, transactions } = result;
      return [{ changes: inserted + updated, inserted, updated, transactions }];
    };
    const say = () => {
      if (part.asService) logger.info(said);
      else process.stdout.write(`${said}\n`);
    };
    await runPart(settings, part, round, say);
  },
};

/** Watching without a rate, each round is a run of its own, so that a source that goes away is met by the next one. */
function roundOf(traffic: Omit<Traffic, 'signal'>, rounds: number): Omit<Traffic, 'signal'> {
  if (!traffic.watch || traffic.rate !== undefined) return traffic;
  return { ...traffic, watch: false, seed: traffic.seed === undefined ? undefined : traffic.seed + rounds };
}
