import { withDatabase } from '../base/database.js';
import { UsageError } from '../base/errors.js';
import { logger } from '../base/logger.js';
import { counted } from '../base/text-table.js';
import { simulate, type SimulateResult, type Traffic } from '../demo/simulate.js';
import { runPart } from '../services/run.js';
import { defineCommand, flag, number, numberOf, serviceOption } from './command.js';

export type SimulateArguments = Readonly<
  Partial<Record<'seed' | 'rate' | 'duration' | 'changes', number | undefined>>
> & { readonly watch?: boolean | undefined };

/** A seed has 32 bits, as one that is drawn; more than that many changes would take days. */
const most = 4_294_967_295;

/**
 * Reads the options of the command line.
 * @throws UsageError for a value that is no such number, and for options that contradict each other
 */
export function readTraffic(given: SimulateArguments): Omit<Traffic, 'signal'> {
  const traffic = {
    seed: numberOf('simulate', 'seed', given.seed, { least: 0, most }),
    rate: numberOf('simulate', 'rate', given.rate),
    duration: numberOf('simulate', 'duration', given.duration),
    changes: numberOf('simulate', 'changes', given.changes, { least: 1, most }),
    watch: given.watch === true,
  };
  const end = traffic.changes === undefined ? (traffic.duration === undefined ? undefined : '--duration') : '--changes';
  if (traffic.watch && end !== undefined)
    throw new UsageError(`--watch goes on for ever, ${end} says when to stop`, { hint: `leave out --watch or ${end}` });
  return traffic;
}

function report({ inserted, updated, transactions, seconds, seed, customers, products }: SimulateResult): string {
  return (
    `inserted ${inserted}, updated ${updated} orders in ${transactions} transactions, ${seconds.toFixed(1)} seconds (seed ${seed})\n` +
    `changed or added besides: ${counted(customers, 'customer')}, ${counted(products, 'product')}`
  );
}

export const command = defineCommand(
  {
    examples: {
      'simulate --changes 1000 --seed 42': 'A thousand changes, the same each time',
      'simulate --watch --rate 20': 'Twenty changes a second, until interrupted',
    },
    options: {
      seed: number('Same seed on the same data, same orders'),
      rate: number('Changes a second; by default as fast as the database takes them'),
      duration: number('Stop after this many seconds'),
      changes: number('Stop after this many changes'),
      watch: flag('Go on until interrupted: a round every MUTATION_INTERVAL_SECONDS, or steadily at --rate'),
      service: serviceOption('simulator'),
    },
  },
  async (given, { settings, print }) => {
    const traffic = readTraffic(given);
    let rounds = 0;
    let result: SimulateResult | undefined;
    await runPart(
      settings,
      {
        name: 'simulate',
        service: given.service === true ? 'simulator' : undefined,
        greeting: `Starting Database Mutator on ${settings.source.database}`,
        interval: traffic.watch ? settings.mutation_interval_seconds : undefined,
      },
      async (signal) => {
        // Each round is a run of its own, with a seed of its own, so that a source that goes away is met by the next one.
        const seed = traffic.seed === undefined ? undefined : traffic.seed + rounds;
        result = await withDatabase(settings.source, 'simulate', (source) =>
          simulate(source, { ...traffic, seed, signal }),
        );
        rounds += 1;
        const { inserted, updated, transactions } = result;
        return [{ changes: inserted + updated, inserted, updated, transactions }];
      },
      () => {
        if (result === undefined) return;
        if (given.service === true) logger.info(given.json === true ? JSON.stringify(result) : report(result));
        else print(result, report(result));
      },
    );
  },
);
