import os from 'node:os';
import { writeFile } from 'node:fs/promises';
import yargs from 'yargs';
import { hideBin } from 'yargs/helpers';
import { setLogLevel } from '../runner/logger.js';
import { formatTable } from '../runner/table.js';
import { runnerMemory } from './memory.js';
import { plot } from './plot.js';
import { byBatchSize, byHistorySize, type Curve } from './scaling.js';
import { SIZES, againstRescan, insertAndUpdate, lateChanges, longHistory, wholeWay, type Figure } from './scenarios.js';
import { openBench } from './server.js';

const two = (number: number) => (number >= 100 ? number.toFixed(0) : number.toFixed(2));

function format(figures: readonly Figure[]): string {
  return formatTable(['what', 'min', 'median', 'max', 'unit', 'target', 'met'], figures.map(({ name, ratio, unit, bound, target, isMet }) => [
    name, two(ratio.min), two(ratio.median), two(ratio.max), unit, `${bound} ${String(target)}`, isMet ? 'yes' : 'no',
  ]));
}

async function main(): Promise<void> {
  const { size, given, json, html } = await yargs(hideBin(process.argv))
    .scriptName('npm run bench --')
    .usage('$0 [options]\n\nMeasures Tidemark against COPY and other ways to the same history. Ratios of one run; times mean little elsewhere.')
    .option('size', { choices: ['full', 'quick', 'smoke'] as const, default: 'full' as const, describe: 'full: as the targets say; quick: for a laptop; smoke: to see that it runs' })
    .option('quick', { type: 'boolean', describe: 'The same as --size quick' })
    .option('given', { type: 'boolean', default: false, describe: 'Use the servers of the settings instead of an embedded one; makes and drops databases tidemark_bench_*' })
    .option('json', { type: 'boolean', default: false, describe: 'Print the figures as JSON' })
    .option('html', { type: 'string', requiresArg: true, describe: 'Also measure the cost against batch size and history size, and write a page with all of it drawn' })
    .strict().parseAsync().then((options) => ({ ...options, size: options.quick === true ? 'quick' as const : options.size }));
  setLogLevel('WARNING');
  const began = performance.now();
  const say = (line: string) => { process.stderr.write(`${((performance.now() - began) / 1000).toFixed(0).padStart(5)} s  ${line}\n`); };
  const bench = await openBench(given, 10_000);
  const figures: Figure[] = [];
  const curves: Curve[] = [];
  try {
    for (const scenario of [insertAndUpdate, longHistory, againstRescan, lateChanges, wholeWay, runnerMemory]) figures.push(...await scenario(bench, SIZES[size], say));
    if (html !== undefined) for (const scenario of [byBatchSize, byHistorySize]) curves.push(await scenario(bench, SIZES[size], say));
  } finally {
    await bench.end();
  }
  const machine = { cores: os.cpus().length, model: os.cpus()[0]?.model ?? '', memory_gib: Math.round(os.totalmem() / 2 ** 30), node: process.version, postgresql: bench.version, size };
  if (html !== undefined) await writeFile(html, plot(machine, figures, curves));
  process.stdout.write(json ? `${JSON.stringify({ machine, figures })}\n` : `${Object.entries(machine).map(([name, value]) => `${name}: ${String(value)}`).join('\n')}\n\n${format(figures)}\n`);
}

await main();
