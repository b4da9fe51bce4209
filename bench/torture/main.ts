import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { openBench } from '../server.js';
import { ADAPTERS, CASES, formatScores, scores } from './torture.js';

/** Prints how each adapter fares; or, given a folder, writes the cases there as CSV for other tools. */
async function main(): Promise<void> {
  const [folder] = process.argv.slice(2);
  if (folder !== undefined) {
    for (const { name, changes, expected } of CASES) {
      await writeFile(path.join(folder, `${name}.changes.csv`), changes);
      await writeFile(path.join(folder, `${name}.expected.csv`), expected);
    }
    return;
  }
  const bench = await openBench(false, 100);
  try {
    const all = new Map<string, Awaited<ReturnType<typeof scores>>>();
    for (const adapter of ADAPTERS) all.set(adapter, await scores(bench.warehouse, adapter));
    process.stdout.write(formatScores(all));
  } finally {
    await bench.end();
  }
}

await main();
