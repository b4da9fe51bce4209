import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { batchFiles, openChangeLog, readBatch } from '../../runner/change-log/chain.js';
import { runChecks } from '../../runner/warehouse/checks.js';
import { isPassing } from '../../runner/base/database.js';
import { timesReached } from '../../runner/base/failpoint.js';
import { extractTables } from '../../runner/extract/tables.js';
import { runCli } from '../support/cli.js';
import { createPipeline, type TestPipeline } from '../support/databases.js';
import { createThings } from '../support/extraction.js';
import { loadTables } from '../../runner/load/tables.js';

/** Every step of extraction and loading, one after the other: the process is killed there, or the call fails there, and the next run mends it. */

/** In which ways a call fails, from step to step in turn. A soak takes each by itself, and more, and begins again until its time is over. */
const SECONDS = Number(process.env.CRASH_SECONDS ?? '0');
const [EXTRACTOR_FAULTS, LOADER_FAULTS] =
  SECONDS === 0
    ? [[['ENOSPC']], [['EIO', 'CONNECTION_CLOSED']]]
    : [
        [['ENOSPC'], ['EIO'], ['EACCES'], ['CONNECTION_CLOSED'], ['57P01']],
        [['ENOSPC'], ['EIO'], ['CONNECTION_CLOSED'], ['40001'], ['40P01'], ['57014']],
      ];

interface Faults {
  readonly codes: readonly string[];
  readonly said: string;
}
const named = (faults: readonly (readonly string[])[]): Faults[] =>
  faults.map((codes) => ({ codes, said: codes.join(' or ') }));

/**
 * In the suite a step is either killed or fails, by turns, beginning with either: CRASH_FIRST (1 or 2, the first step that is killed) repeats a run.
 * In a soak each step is and does.
 */
const STRIDE = SECONDS === 0 ? 2 : 1;
const FIRST_KILLED = STRIDE === 1 ? 1 : Number(process.env.CRASH_FIRST ?? 1 + (Date.now() % 2));
const FIRST_FAILING = STRIDE === 1 ? 1 : 3 - FIRST_KILLED;
const NEXT = STRIDE === 1 ? '' : 'second ';

/** Two pages, the second not full. */
const ROWS = 15;

let pipeline: TestPipeline;
beforeAll(async () => {
  pipeline = await createPipeline({ BATCH_SIZE: '10', BATCH_SIZE_MAX: '10' });
  await createThings(pipeline);
});
afterAll(async () => {
  await pipeline.drop();
});
afterEach(() => {
  delete process.env.TIDEMARK_FAILPOINT;
});

let state = 0;
async function changeSource(): Promise<void> {
  state += 1;
  await pipeline.source`
    insert into things select g, ${`state ${String(state)}`}, clock_timestamp() from generate_series(1, ${ROWS}::integer) as g
    on conflict (id) do update set state = excluded.state, touched = excluded.touched`;
}

const extract = () => extractTables({ settings: pipeline.settings, tables: ['things'] });
const load = () => loadTables({ settings: pipeline.settings, tables: ['things'] });

/** Applied batches that were read: nobody writes to one of that name again. */
const read = new Set<string>();

/** What there is of the log is whole, whatever happened. */
async function assertLogIsWhole(): Promise<void> {
  const log = await openChangeLog(pipeline.settings.cdc_log_dir, 'things');
  for (const file of await batchFiles(log)) await readBatch(file);
  // What a killed loader was about to compress has a temporary name, and is swept up later.
  for (const file of (await readdir(log.processed)).filter((name) => !name.startsWith('.') && !read.has(name))) {
    await readBatch(path.join(log.processed, file));
    read.add(file);
  }
}

/** Every state is in history, once, and nothing else is. */
async function assertNothingLost(): Promise<void> {
  const versions = await pipeline.warehouse<{ state: string; rows: string }[]>`
    select state, count(*) as rows from dim_things_history group by state order by split_part(state, ' ', 2)::integer`;
  expect(versions.map(({ state: name, rows }) => `${name} ${rows}`)).toEqual(
    Array.from({ length: state }, (_, index) => `state ${String(index + 1)} ${String(ROWS)}`),
  );
  const log = await openChangeLog(pipeline.settings.cdc_log_dir, 'things');
  const left = [...(await readdir(log.folder)), ...(await readdir(log.checkpoints))].filter(
    (name) => name.startsWith('.tmp-') || name.startsWith('changes_'),
  );
  expect(left).toEqual([]);
}

type Outcome = 'struck' | 'missed';

/** What befalls one of both at one of its steps after the other, from the first whose turn it is until it gets by without reaching one. */
interface Blows {
  readonly said: string;
  readonly first: number;
  readonly strike: (ordinal: number) => Promise<Outcome>;
  /** About as many steps as it has had ever. */
  readonly fewest: number;
}

/** After a blow at a step the next run of the same mends it: extraction what befell extraction, before a blow at loading, which a load mends. */
async function atEveryStep(ofExtractor: Blows, ofLoader: Blows): Promise<void> {
  const steps = new Map<Blows, number>();
  const struck = new Set([ofExtractor, ofLoader]);
  for (let turn = 0; struck.size > 0; turn += 1) {
    await changeSource();
    for (const [blows, mend] of [
      [ofExtractor, extract],
      [ofLoader, load],
    ] as const) {
      const ordinal = blows.first + turn * STRIDE;
      if (struck.has(blows) && (await blows.strike(ordinal)) === 'struck') steps.set(blows, ordinal);
      else struck.delete(blows);
      await assertLogIsWhole();
      await mend();
    }
    await assertNothingLost();
  }
  expect(
    (await runChecks(pipeline.warehouse, ['pipeline', 'scd2'])).filter(({ violations }) => violations > 0),
  ).toEqual([]);
  for (const blows of [ofExtractor, ofLoader]) {
    const last = steps.get(blows) ?? 0;
    process.stdout.write(
      `crash: ${blows.said} at each ${NEXT}of its steps ${String(blows.first)} to ${String(last)}: lost 0\n`,
    );
    expect(last).toBeGreaterThan(blows.fewest);
  }
}

const kill = (command: string, ordinal: number): Promise<Outcome> =>
  runCli([command, '--table', 'things'], {
    ...pipeline.env,
    NODE_ENV: 'test',
    TIDEMARK_FAILPOINT: `*:${String(ordinal)}:kill`,
  }).then(({ code, stderr }) => {
    expect([null, 0], stderr).toContain(code);
    return code === null ? 'struck' : 'missed';
  });

/**
 * Lets a call fail in a run of this process. A fault that passes is tried again, and the run ends well although it was struck. A load ends
 * well, too, where what fails is the looking after batches that it has applied.
 */
async function failing(work: () => Promise<unknown>, ordinal: number, code: string): Promise<Outcome> {
  process.env.TIDEMARK_FAILPOINT = `*:${String(ordinal)}:${code}`;
  const error = await work().then(
    () => undefined,
    (thrown: unknown) => thrown as Error,
  );
  delete process.env.TIDEMARK_FAILPOINT;
  if (timesReached() < ordinal) return 'missed';
  if (isPassing(Object.assign(new Error(), { code }))) expect(error).toBeUndefined();
  else if (work !== load || error !== undefined)
    expect(((error?.cause ?? error) as Error | undefined)?.message).toMatch(new RegExp(`^${code}: failpoint `));
  return 'struck';
}

const inTurn = (codes: readonly string[], ordinal: number) => codes[Math.floor(ordinal / STRIDE) % codes.length] ?? '';

/** About as many steps as each has ever had. */
const EXTRACTOR = { name: 'extractor', command: 'extract', work: extract, fewest: 25 } as const;
const LOADER = { name: 'loader', command: 'load', work: load, fewest: 15 } as const;
type Struck = typeof EXTRACTOR | typeof LOADER;

const killing = ({ name, command, fewest }: Struck): Blows => ({
  said: `the ${name} was killed`,
  first: FIRST_KILLED,
  strike: (ordinal) => kill(command, ordinal),
  fewest,
});
const failingWith = ({ name, work, fewest }: Struck, { codes, said }: Faults): Blows => ({
  said: `the ${name} failed with ${said}`,
  first: FIRST_FAILING,
  strike: (ordinal) => failing(work, ordinal, inTurn(codes, ordinal)),
  fewest,
});

describe('nothing is lost and nothing comes twice,', () => {
  const began = performance.now();
  it.each(named(LOADER_FAULTS))(
    'wherever the extractor is killed, and whichever call of the loader fails with $said',
    (faults) => atEveryStep(killing(EXTRACTOR), failingWith(LOADER, faults)),
  );
  it.each(named(EXTRACTOR_FAULTS))(
    'wherever the loader is killed, and whichever call of the extractor fails with $said',
    (faults) => atEveryStep(failingWith(EXTRACTOR, faults), killing(LOADER)),
  );

  it.runIf(SECONDS > 0)('however often they are killed', async () => {
    while (performance.now() - began < SECONDS * 1000) await atEveryStep(killing(EXTRACTOR), killing(LOADER));
  });
});
