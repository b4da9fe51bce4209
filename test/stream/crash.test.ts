// Runs once: no version of PostgreSQL changes it.
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { isPassing } from '../../runner/base/database.js';
import { timesReached } from '../../runner/base/failpoint.js';
import { batchFiles, openChangeLog, readBatch } from '../../runner/change-log/chain.js';
import { loadTables } from '../../runner/load/tables.js';
import { runChecks } from '../../runner/warehouse/checks.js';
import { runCli } from '../support/cli.js';
import { createPipeline, type TestPipeline } from '../support/databases.js';
import { createSourceTable, registerDimension, type TestColumn } from '../support/dimensions.js';
import { captureFromLog, stream } from '../support/log.js';

/**
 * Every step of the reader of the log, one after the other: the process is killed there, or the call fails there, and the next run mends it,
 * which is struck itself but for each third.
 */

const COLUMNS: readonly TestColumn[] = [
  { source: 'id', type: 'integer', role: 'business key' },
  { source: 'commit', type: 'integer', role: 'tracked' },
];
const TABLES = ['things', 'others'] as const;
/** A call fails in one of these ways, from step to step in turn; in a soak, in each. */
const FAULTS =
  process.env.CRASH_SECONDS === undefined ? [['ENOSPC', 'CONNECTION_CLOSED']] : [['ENOSPC'], ['CONNECTION_CLOSED']];
/**
 * In the suite a step is either killed or fails, by turns, beginning with either: CRASH_FIRST (1 or 2, the first step that is killed) repeats a run.
 * In a soak each step is and does.
 */
const STRIDE = process.env.CRASH_SECONDS === undefined ? 2 : 1;
const FIRST_KILLED = STRIDE === 1 ? 1 : Number(process.env.CRASH_FIRST ?? 1 + (Date.now() % 2));
const FIRST_FAILING = STRIDE === 1 ? 1 : 3 - FIRST_KILLED;
/** More than a batch holds. */
const LARGE = 12;

let pipeline: TestPipeline;
beforeAll(async () => {
  pipeline = await createPipeline({ BATCH_SIZE: '10', BATCH_SIZE_MAX: '10' });
  for (const table of TABLES) {
    await createSourceTable(pipeline.source, table, COLUMNS);
    await registerDimension(pipeline.warehouse, table, table, COLUMNS);
  }
  await pipeline.source`create table commits (commit integer primary key)`;
  await captureFromLog(pipeline, ...TABLES);
});
afterAll(async () => {
  await pipeline.drop();
});
afterEach(() => {
  delete process.env.TIDEMARK_FAILPOINT;
});

let commits = 0;
/** Transactions, each of several statements, that write their number into both tables, and into a table of their own; the last one more than a batch holds. */
async function changeSource(): Promise<void> {
  for (const rows of [1, 2, LARGE]) {
    commits += 1;
    await pipeline.source.unsafe(`
      insert into commits values (${String(commits)});
      insert into things select g, ${String(commits)} from generate_series(1, ${String(rows)}) as g
        on conflict (id) do update set commit = excluded.commit;
      insert into others values (1, ${String(commits)}) on conflict (id) do update set commit = excluded.commit`);
  }
}

/** Lines that were read before: an applied batch is moved, never written again. */
const seen = new Map<string, readonly string[]>();

/** Every change in the log of a table, in the order of the log. */
async function logged(table: string): Promise<string[]> {
  const all: string[] = [];
  let last = '';
  for (const file of await batchFiles(await openChangeLog(pipeline.settings.cdc_log_dir, table))) {
    const lines =
      seen.get(file) ??
      (
        JSON.parse((await readBatch(file)).text) as { changes: { id: number; commit: number; extracted_at: string }[] }
      ).changes.map(({ id, commit, extracted_at: at }) => `${at} ${String(commit)} ${String(id)}`);
    seen.set(file, lines);
    for (const line of lines) {
      const [at = '', ...row] = line.split(' ');
      expect(at >= last).toBe(true);
      last = at;
      all.push(row.join(' '));
    }
  }
  return all;
}

/** A run that is left alone comes after so many that are struck. What one of them lost, or wrote twice, none mends. */
const STRUCK = 3;

/** After one more run every commit is in the log, whole, once, and in its order. */
async function assertNothingLost(): Promise<void> {
  await stream(pipeline);
  const numbers = (await pipeline.source<{ commit: number }[]>`select commit from commits order by commit`).map(
    ({ commit }) => commit,
  );
  expect(numbers).toHaveLength(commits);
  const rows = (commit: number) => [1, 2, LARGE][(commit - 1) % 3] ?? 0;
  expect(await logged('others')).toEqual(numbers.map((commit) => `${String(commit)} 1`));
  expect(await logged('things')).toEqual(
    numbers.flatMap((commit) =>
      Array.from({ length: rows(commit) }, (_, row) => `${String(commit)} ${String(row + 1)}`),
    ),
  );
}

/** Runs `round` with each step whose turn it is, until it gets by without reaching one. */
async function atEveryStep(
  round: (ordinal: number) => Promise<'struck' | 'missed'>,
  first: number,
  said: string,
): Promise<void> {
  let steps = 0;
  for (let [ordinal, turn] = [first, 1]; ; ordinal += STRIDE, turn += 1) {
    await changeSource();
    const outcome = await round(ordinal);
    if (outcome === 'missed' || turn % STRUCK === 0) await assertNothingLost();
    if (outcome === 'missed') break;
    steps = ordinal;
  }
  process.stdout.write(
    `crash: ${said} at each ${STRIDE === 1 ? '' : 'second '}of its steps ${String(first)} to ${String(steps)}: lost 0, twice 0\n`,
  );
  expect(steps).toBeGreaterThan(30);
}

const kill = async (ordinal: number) => {
  const { code, stderr } = await runCli(['stream'], {
    ...pipeline.env,
    NODE_ENV: 'test',
    TIDEMARK_FAILPOINT: `*:${String(ordinal)}:kill`,
  });
  expect([null, 0], stderr).toContain(code);
  return code === null ? ('struck' as const) : ('missed' as const);
};

async function fail(ordinal: number, code: string): Promise<'struck' | 'missed'> {
  process.env.TIDEMARK_FAILPOINT = `*:${String(ordinal)}:${code}`;
  const error = await stream(pipeline).then(
    () => undefined,
    (thrown: unknown) => thrown as Error,
  );
  delete process.env.TIDEMARK_FAILPOINT;
  if (timesReached() < ordinal) return 'missed';
  if (isPassing(Object.assign(new Error(), { code }))) expect(error).toBeUndefined();
  else expect(((error?.cause ?? error) as Error | undefined)?.message).toMatch(new RegExp(`^${code}: failpoint `));
  return 'struck';
}

describe('every commit is in the log once, in its order,', () => {
  it('wherever the reader of the log is killed', () =>
    atEveryStep(kill, FIRST_KILLED, 'the reader of the log was killed'));
  it.each(FAULTS.map((codes) => ({ codes, said: codes.join(' or ') })))(
    'whichever of its calls fails with $said',
    ({ codes, said }) =>
      atEveryStep(
        (ordinal) => fail(ordinal, codes[Math.floor(ordinal / STRIDE) % codes.length] ?? ''),
        FIRST_FAILING,
        `the reader of the log failed with ${said}`,
      ),
  );
  it('and in history, which passes every check', async () => {
    await loadTables({ settings: pipeline.settings, tables: [] });
    const [versions] = await pipeline.warehouse<{ things: number; others: number }[]>`
      select (select count(*)::integer from dim_things_history where id = 1) as things,
        (select count(*)::integer from dim_others_history) as others`;
    expect(versions).toEqual({ things: commits, others: commits });
    expect(
      (await runChecks(pipeline.warehouse, ['pipeline', 'scd2'])).filter(({ violations }) => violations > 0),
    ).toEqual([]);
  });
});
