import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { openBench } from '../server.js';
import { CASES, allScores, formatScores } from './torture.js';

/** Prints how each adapter fares, with --given on the server of the settings; or, given a folder, writes the cases there as CSV for other tools. */
async function main(): Promise<void> {
  const given = process.argv.includes('--given');
  const [folder] = process.argv.slice(2).filter((each) => each !== '--given');
  if (folder !== undefined) {
    await mkdir(folder, { recursive: true });
    for (const { name, blocks } of CASES)
      for (const [place, { table, csv }] of blocks.entries()) {
        const before = blocks.slice(0, place).filter((block) => block.table === table).length;
        await writeFile(path.join(folder, `${name}.${table}${before === 0 ? '' : `-${String(before + 1)}`}.csv`), csv);
      }
    return;
  }
  const bench = await openBench(given, 100);
  try {
    // What a database is copied from nobody may be connected to.
    await bench.warehouse.end();
    process.stdout.write(formatScores(await allScores(bench.settings.warehouse)));
  } finally {
    await bench.end();
  }
}

await main();
