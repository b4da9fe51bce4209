import { readFile, readdir } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { runChecks } from '../../runner/warehouse/checks.js';
import { connect, type Database } from '../../runner/base/database.js';
import { extractTables } from '../../runner/extract/tables.js';
import { startCli } from '../support/cli.js';
import { runCli } from '../support/cli.js';
import { createPipeline, type TestPipeline } from '../support/databases.js';
import { registerDimension } from '../support/dimensions.js';
import { createChaosTable, writeTraffic, type Traffic } from '../support/traffic.js';

/** Many writers, the real extractor killed and started again, and a cursor as others have it beside it. `npm run soak` takes longer. */
const SECONDS = Number(process.env.CHAOS_SECONDS ?? '10');

/** The margin covers the coarsest stamp, whole seconds, and nothing else. */
const SETTINGS = {
  BATCH_SIZE: '40',
  BATCH_SIZE_MAX: '40',
  WATERMARK_ADVANCE_SECONDS: '1',
  CDC_EXTRACTION_INTERVAL_SECONDS: '1',
};

const statesOf = async (sql: Database, table: string) =>
  new Set(
    (await sql<{ state: string }[]>`select format('%s %s', id, version) as state from ${sql(table)}`).map(
      ({ state }) => state,
    ),
  );

/** States of a set that another one lacks. */
const missing = (wanted: ReadonlySet<string>, found: ReadonlySet<string>) =>
  [...wanted].filter((state) => !found.has(state));

/** Every state in the change log, loaded or not. */
async function capturedStates(pipeline: TestPipeline): Promise<Set<string>> {
  const folder = path.join(pipeline.settings.cdc_log_dir, 'chaos');
  const states = new Set<string>();
  for (const name of (await readdir(folder)).filter((each) => each.startsWith('changes_'))) {
    const { changes } = JSON.parse(await readFile(path.join(folder, name), 'utf8')) as {
      changes: { id: number; version: number }[];
    };
    for (const { id, version } of changes) states.add(`${String(id)} ${String(version)}`);
  }
  return states;
}

/** Extracts until the signal is raised, and is killed again and again, wherever it happens to be. */
async function extractAndKill(pipeline: TestPipeline, signal: AbortSignal): Promise<number> {
  let kills = 0;
  while (!signal.aborted) {
    const extractor = startCli(['extract', '--watch', '--table', 'chaos'], pipeline.env);
    await Promise.race([
      sleep(1000 + Math.random() * 3000, undefined, { signal }).catch(() => undefined),
      extractor.ended,
    ]);
    extractor.kill('SIGKILL');
    const { code, stderr } = await extractor.ended;
    expect(code, stderr).toBeNull();
    kills += 1;
  }
  return kills;
}

/** The cursor of every tool that asks for what is newer than the newest it has seen. */
async function followNaively(source: Database, signal: AbortSignal): Promise<Set<string>> {
  const seen = new Set<string>();
  let newest = '-infinity';
  for (let isLast = false; ; ) {
    const rows = await source<{ state: string; touched: string }[]>`
      select format('%s %s', id, version) as state, touched::text from chaos where touched > ${newest}::timestamptz order by touched`;
    for (const { state } of rows) seen.add(state);
    newest = rows.at(-1)?.touched ?? newest;
    if (isLast) return seen;
    isLast = signal.aborted;
    await sleep(100);
  }
}

it('history equals the source after chaos, where a naive cursor has lost rows', async () => {
  const pipeline = await createPipeline(SETTINGS);
  await createChaosTable(pipeline.source);
  await registerDimension(pipeline.warehouse, 'chaos', 'chaos', [
    { source: 'id', type: 'integer', role: 'business key' },
    { source: 'version', type: 'bigint', role: 'tracked' },
    { source: 'touched', type: 'timestamptz', role: 'effective time' },
  ]);
  const traffic: Traffic = { committed: 0, rolledBack: 0, kinds: new Set() };
  const time = new AbortController();
  const endless = connect(pipeline.admin.source, 'endless');
  await endless.unsafe(`begin; insert into chaos (id, touched) values (1000000, now())`);
  setTimeout(() => {
    time.abort();
  }, SECONDS * 1000);
  const [kills, naive] = await Promise.all([
    extractAndKill(pipeline, time.signal),
    followNaively(pipeline.source, time.signal),
    writeTraffic(pipeline.admin.source, time.signal, traffic),
  ]);
  const extract = () => extractTables({ settings: pipeline.settings, tables: ['chaos'] });

  // A transaction that was open all the time has held nothing up.
  await extract();
  expect(missing(await statesOf(pipeline.source, 'chaos'), await capturedStates(pipeline))).toEqual([]);

  await endless.unsafe('commit');
  await endless.end();
  await extract();
  const captured = await capturedStates(pipeline);
  // A run of its own: it closes the runs of the extractors that were killed.
  expect((await runCli(['load', '--table', 'chaos'], pipeline.env)).code).toBe(0);
  const source = await statesOf(pipeline.source, 'chaos');
  const history = await statesOf(pipeline.warehouse, 'dim_chaos_history');
  const current = new Set(
    (
      await pipeline.warehouse<{ state: string }[]>`
    select format('%s %s', id, version) as state from dim_chaos_history where is_current`
    ).map(({ state }) => state),
  );
  const lostNaively = missing(source, naive).length;
  process.stdout.write(
    `chaos: ${String(SECONDS)} s, ${String(traffic.committed)} transactions of ${String(traffic.kinds.size)} kinds, ${String(traffic.rolledBack)} rolled back, ` +
      `${String(source.size)} rows, ${String(captured.size)} states captured, extractor killed ${String(kills)} times: ` +
      `missed ${String(missing(source, current).length)}; a naive cursor missed ${String(lostNaively)}\n`,
  );
  expect(missing(source, current)).toEqual([]);
  expect(missing(current, source)).toEqual([]);
  expect(missing(history, captured)).toEqual([]);
  expect(lostNaively).toBeGreaterThan(0);
  expect(traffic.kinds.size).toBe(10);
  expect(
    (await runChecks(pipeline.warehouse, ['pipeline', 'scd2'])).filter(({ violations }) => violations > 0),
  ).toEqual([]);
  await pipeline.drop();
});
