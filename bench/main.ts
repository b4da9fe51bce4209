import os from 'node:os';
import { writeFile } from 'node:fs/promises';
import yargs from 'yargs';
import { hideBin } from 'yargs/helpers';
import { setLogLevel } from '../runner/base/logger.js';
import { manyEvents } from './events.js';
import { runnerMemory } from './memory.js';
import { manyPartitions } from './partitions.js';
import { plot } from './plot.js';
import { byBatchSize, byHistorySize, type Curve } from './scaling.js';
import { formatScale, manyChanges, manyVersions, parseScale } from './scale.js';
import {
  SIZES,
  againstRescan,
  formatFigures,
  insertAndUpdate,
  lateChanges,
  pageOfRows,
  longHistory,
  wholeWay,
  type Figure,
} from './scenarios.js';
import { openBench, type Bench } from './server.js';
import { STREAM_SERVER, streamAtRate } from './stream.js';

const say = (() => {
  const began = performance.now();
  return (line: string) => {
    process.stderr.write(`${((performance.now() - began) / 1000).toFixed(0).padStart(5)} s  ${line}\n`);
  };
})();

const SCALES = {
  ...{ changes: manyChanges, versions: manyVersions, partitions: manyPartitions },
  ...{ stream: streamAtRate, events: manyEvents },
};

interface Options {
  readonly size: keyof typeof SIZES;
  readonly given: boolean;
  readonly json: boolean;
  readonly html?: string | undefined;
  readonly scale?: string | undefined;
}

async function options(): Promise<Options> {
  return yargs(hideBin(process.argv))
    .scriptName('npm run bench --')
    .usage(
      '$0 [options]\n\nMeasures Tidemark against COPY and other ways to the same history. Ratios of one run; times mean little elsewhere.',
    )
    .option('size', {
      choices: ['full', 'quick', 'smoke'] as const,
      default: 'full' as const,
      describe: 'full: as the targets say; quick: for a laptop; smoke: to see that it runs',
    })
    .option('quick', { type: 'boolean', describe: 'The same as --size quick' })
    .option('scale', {
      type: 'string',
      requiresArg: true,
      describe:
        'Instead: changes=10M through extract and load, a history of versions=50M, one of partitions=2M versions in partitions beside a whole one, stream=10K changes a second from the log, or events=100K to their receivers; other numbers, with K or M, as well',
    })
    .option('given', {
      type: 'boolean',
      default: false,
      describe:
        'Use the servers of the settings instead of an embedded one; makes and drops databases tidemark_bench_*',
    })
    .option('json', { type: 'boolean', default: false, describe: 'Print the figures as JSON' })
    .option('html', {
      type: 'string',
      requiresArg: true,
      describe: 'Also measure the cost against batch size and history size, and write a page with all of it drawn',
    })
    .check(({ scale, given }) => {
      if (scale === undefined) return true;
      const asked = parseScale(scale);
      if (asked?.what === 'stream' && given)
        return 'stream=N looks at the processes of its server: it takes one of its own';
      return asked !== undefined || 'scale is changes=N, versions=N, partitions=N, stream=N or events=N';
    })
    .strict()
    .parseAsync()
    .then((given) => ({ ...given, size: given.quick === true ? ('quick' as const) : given.size }));
}

/** Runs the scenarios of the targets; with a page to write, also those of its curves. */
async function measureTargets(bench: Bench, { size, html }: Options): Promise<{ figures: Figure[]; curves: Curve[] }> {
  const figures: Figure[] = [];
  const curves: Curve[] = [];
  for (const scenario of [insertAndUpdate, longHistory, againstRescan, lateChanges, pageOfRows, wholeWay, runnerMemory])
    figures.push(...(await scenario(bench, SIZES[size], say)));
  if (html !== undefined)
    for (const scenario of [byBatchSize, byHistorySize]) curves.push(await scenario(bench, SIZES[size], say));
  return { figures, curves };
}

async function main(): Promise<void> {
  const given = await options();
  setLogLevel('WARNING');
  const scale = parseScale(given.scale ?? '');
  const bench = await openBench(given.given, 10_000, scale?.what === 'stream' ? STREAM_SERVER : {});
  const machine = {
    cores: os.cpus().length,
    load: Number(os.loadavg()[0]?.toFixed(1)),
    model: os.cpus()[0]?.model ?? '',
    memory_gib: Math.round(os.totalmem() / 2 ** 30),
    node: process.version,
    postgresql: bench.version,
    size: given.scale ?? given.size,
  };
  const print = (figures: object, text: string) => {
    process.stdout.write(
      given.json
        ? `${JSON.stringify({ machine, ...figures })}\n`
        : `${Object.entries(machine)
            .map(([name, value]) => `${name}: ${String(value)}`)
            .join('\n')}\n\n${text}\n`,
    );
  };
  try {
    if (scale !== undefined) {
      const found = await SCALES[scale.what](bench, scale.count, say);
      print(found, formatScale(found));
      return;
    }
    const { figures, curves } = await measureTargets(bench, given);
    if (given.html !== undefined) await writeFile(given.html, plot(machine, figures, curves));
    print({ figures }, formatFigures(figures));
  } finally {
    await bench.end();
  }
}

await main();
