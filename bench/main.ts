import os from 'node:os';
import { existsSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import yargs from 'yargs';
import { hideBin } from 'yargs/helpers';
import { setLogLevel } from '../runner/base/logger.js';
import { manyTables, start, suite } from './commands.js';
import { manyEvents } from './events.js';
import { formatFigures, type Figure } from './figures.js';
import { announce, factorsOf, grow, recorded } from './growth.js';
import { runnerMemory } from './memory.js';
import { manyPartitions } from './partitions.js';
import { plot } from './plot.js';
import { load, untilQuiet } from './quiet.js';
import { countOf, formatScale, manyChanges, manyVersions, parseScale } from './scale.js';
import {
  SIZES,
  againstRescan,
  batchesOfOne,
  insertAndUpdate,
  lateChanges,
  longHistory,
  pageOfRows,
  wholeWay,
  type Size,
} from './scenarios.js';
import { openBench, type Bench } from './server.js';
import { STREAM_SERVER, streamAtRate } from './stream.js';

const say = (() => {
  const began = performance.now();
  return (line: string) => {
    process.stderr.write(`${((performance.now() - began) / 1000).toFixed(0).padStart(5)} s  ${line}\n`);
  };
})();

type Scenario = (bench: Bench, size: Size, say: (line: string) => void) => Promise<Figure[]>;

/** Those that share a server, in their order. */
const SHARED: Readonly<Record<string, Scenario>> = {
  one: batchesOfOne,
  apply: insertAndUpdate,
  history: longHistory,
  rescan: againstRescan,
  late: lateChanges,
  page: pageOfRows,
  whole: wholeWay,
  memory: runnerMemory,
  start,
};
/** Those that take a server each: what they leave would weigh on others; and the suite, which is long. */
const APART = ['log', 'tables', 'suite'] as const;
const SCENARIOS = [...Object.keys(SHARED), ...APART];

const RESULTS = path.join(import.meta.dirname, 'results');
const SCALES = { changes: manyChanges, versions: manyVersions, partitions: manyPartitions, events: manyEvents };

async function options() {
  return yargs(hideBin(process.argv))
    .scriptName('npm run bench --')
    .usage(
      '$0 [options]\n\nMeasures Tidemark beside COPY, what PostgreSQL itself needs, and other ways to the same history. Only ratios of one run mean anything.',
    )
    .option('size', {
      choices: ['full', 'quick', 'smoke'] as const,
      default: 'full' as const,
      describe: 'full: as the targets say; quick: for a laptop; smoke: to see that it runs',
    })
    .option('quick', { type: 'boolean', describe: 'The same as --size quick' })
    .option('only', {
      type: 'string',
      requiresArg: true,
      describe: `Some of it, with commas between: ${SCENARIOS.join(', ')}; the suite is measured only if it is named`,
    })
    .option('scale', {
      type: 'string',
      requiresArg: true,
      describe:
        'Instead: changes=10M through extract and load, a history of versions=50M, one of partitions=2M versions in partitions beside a whole one, stream=10K changes a second from the log, or events=100K to their receivers; other numbers, with K or M, as well',
    })
    .option('growth', {
      type: 'boolean',
      default: false,
      describe:
        'Instead: how costs grow with batches, history, keys, late changes, width, loaders, tables; goes on where an earlier run ended',
    })
    .option('history', {
      type: 'string',
      default: '5M',
      describe: 'With --growth: versions of the longest history, 50M at most',
    })
    .option('tables', { type: 'number', default: 500, describe: 'With --growth: the most tables' })
    .option('dry-run', { type: 'boolean', default: false, describe: 'With --growth: only say what it would take' })
    .option('postgres', {
      type: 'string',
      choices: ['18', '15'] as const,
      default: '18' as const,
      describe: 'Version of the embedded server',
    })
    .option('given', {
      type: 'boolean',
      default: false,
      describe:
        'Use the servers of the settings instead of an embedded one; makes and drops databases tidemark_bench_*',
    })
    .option('wait', { type: 'number', default: 10, describe: 'Minutes to wait until the load is below 0.5' })
    .option('busy', { type: 'boolean', default: false, describe: 'Measure whatever else runs' })
    .option('json', { type: 'boolean', default: false, describe: 'Print the figures as JSON' })
    .option('record', {
      type: 'string',
      describe: 'Also write them where "npm run bench:docs" finds them, or to the file that is named',
    })
    .option('html', { type: 'string', requiresArg: true, describe: 'Also write a page on which all of it is drawn' })
    .check(({ scale, given, growth, only, record }) => {
      const unknown = only?.split(',').filter((name) => !SCENARIOS.includes(name)) ?? [];
      if (unknown.length > 0) return `only ${SCENARIOS.join(', ')} are there, not ${unknown.join(', ')}`;
      if (growth && (given || scale !== undefined)) return '--growth takes a server of its own, and goes alone';
      if (scale === undefined) return true;
      const asked = parseScale(scale);
      if (asked?.what === 'stream' && given)
        return 'stream=N looks at the processes of its server: it takes one of its own';
      if (asked?.what === 'stream' && record !== undefined) return 'stream=N is not recorded: --only log is';
      return asked !== undefined || 'scale is changes=N, versions=N, partitions=N, stream=N or events=N';
    })
    .strict()
    .parseAsync()
    .then((given) => ({ ...given, size: given.quick === true ? ('quick' as const) : given.size }));
}

type Options = Awaited<ReturnType<typeof options>>;

/** Where it is recorded; undefined where it is not. */
const recordOf = (given: Options, name: string) =>
  given.record === '' ? path.join(RESULTS, `${name}.json`) : given.record;

async function withBench<T>(
  given: Options,
  work: (bench: Bench) => Promise<T>,
  server: Readonly<Record<string, string>> = {},
): Promise<T> {
  const bench = await openBench(given.given, 10_000, server, given.postgres);
  try {
    return await work(bench);
  } finally {
    await bench.end();
  }
}

const machineOf = (given: Options, version: string) => ({
  model: os.cpus()[0]?.model ?? '',
  cores: os.cpus().length,
  memory_gib: Math.round(os.totalmem() / 2 ** 30),
  // Without the compiler, which says little.
  postgresql: version.split(' on ')[0] ?? '',
  node: process.version,
  size: given.growth ? 'growth' : (given.scale ?? given.size),
  load: load(),
  measured_on: new Date().toISOString().slice(0, 10),
});
type Machine = ReturnType<typeof machineOf>;

/** Runs the scenarios of the targets. */
async function measureTargets(given: Options): Promise<{ machine: Machine; figures: Figure[] }> {
  const wanted = (name: string) => given.only?.split(',').includes(name) ?? name !== 'suite';
  const size = SIZES[given.size];
  const figures: Figure[] = [];
  const machine = await withBench(given, async (bench) => {
    const found = machineOf(given, bench.version);
    for (const [name, scenario] of Object.entries(SHARED))
      if (wanted(name)) figures.push(...(await scenario(bench, size, say)));
    return found;
  });
  if (wanted('log') && !given.given)
    for (const rate of size.rates)
      figures.push(...(await withBench(given, (bench) => streamAtRate(bench, rate, say), STREAM_SERVER)));
  if (wanted('tables')) figures.push(...(await withBench(given, (bench) => manyTables(bench, size, say))));
  if (wanted('suite')) figures.push(...(await suite(say)));
  return { machine, figures };
}

/** Writes figures to a file: with --only they take the places of those of the same names. */
async function record(file: string, found: { machine: Machine; figures: Figure[] }, isPart: boolean): Promise<void> {
  const known =
    isPart && existsSync(file) ? (JSON.parse(await readFile(file, 'utf8')) as typeof found) : { ...found, figures: [] };
  const ids = new Set(found.figures.map(({ id }) => id));
  const kept = known.figures.flatMap((each) =>
    ids.has(each.id) ? found.figures.filter(({ id }) => id === each.id) : each,
  );
  const more = found.figures.filter(({ id }) => !known.figures.some((each) => each.id === id));
  await mkdir(path.dirname(file), { recursive: true });
  await writeFile(file, `${JSON.stringify({ machine: known.machine, figures: [...kept, ...more] }, null, 2)}\n`);
}

function print({ json }: Options, machine: Machine, found: object, text: string): void {
  const about = Object.entries(machine).map(([name, value]) => `${name}: ${String(value)}`);
  process.stdout.write(json ? `${JSON.stringify({ machine, ...found })}\n` : `${about.join('\n')}\n\n${text}\n`);
}

async function measureGrowth(given: Options): Promise<void> {
  const factors = factorsOf(countOf(given.history) ?? 5_000_000, given.tables);
  await withBench(given, async (bench) => {
    const machine = machineOf(given, bench.version);
    const file = recordOf(given, 'growth') ?? path.join(RESULTS, 'growth.json');
    const growth = await recorded(file, machine);
    if (given.dryRun) return process.stdout.write(`${announce(growth, factors).text}\n`);
    const found = await grow(bench, { file, growth, factors }, say);
    const curves = Object.values(found.curves);
    if (given.html !== undefined) await writeFile(given.html, plot(machine, [], curves));
    print(
      given,
      machine,
      found,
      curves
        .map(
          ({ name, points, unit }) =>
            `${name} (${unit}): ${points.map(({ at, cost }) => `${String(at)}: ${cost.toFixed(2)}`).join(', ')}`,
        )
        .join('\n'),
    );
  });
}

async function measureScale(given: Options, { what, count }: NonNullable<ReturnType<typeof parseScale>>) {
  await withBench(
    given,
    async (bench) => {
      const machine = machineOf(given, bench.version);
      if (what === 'stream') {
        const figures = await streamAtRate(bench, count, say);
        return print(given, machine, { figures }, formatFigures(figures));
      }
      const found = await SCALES[what](bench, count, say);
      const file = recordOf(given, `scale-${what}`);
      if (file !== undefined)
        await writeFile(file, `${JSON.stringify({ machine, figures: found.figures }, null, 2)}\n`);
      print(given, machine, found, formatScale(found));
    },
    what === 'stream' ? STREAM_SERVER : {},
  );
}

async function main(): Promise<void> {
  const given = await options();
  setLogLevel('WARNING');
  if (!given.busy && !given.dryRun) await untilQuiet(given.wait, say);
  if (given.growth) return measureGrowth(given);
  const scale = parseScale(given.scale ?? '');
  if (scale !== undefined) return measureScale(given, scale);
  const found = await measureTargets(given);
  const file = recordOf(given, given.postgres);
  if (file !== undefined) await record(file, found, given.only !== undefined);
  if (given.html !== undefined) await writeFile(given.html, plot(found.machine, found.figures, []));
  print(given, found.machine, { figures: found.figures }, formatFigures(found.figures));
}

await main();
