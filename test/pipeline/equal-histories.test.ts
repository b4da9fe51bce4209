import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect } from '../../runner/base/database.js';
import { extractTables } from '../../runner/extract/tables.js';
import { loadTables } from '../../runner/load/tables.js';
import { captureTable } from '../../runner/operate/capture.js';
import { reconcileTables } from '../../runner/reconcile/tables.js';
import { runChecks } from '../../runner/warehouse/checks.js';
import { createPipeline, type TestPipeline } from '../support/databases.js';
import { createSourceTable, registerDimension, type TestColumn } from '../support/dimensions.js';
import { stream } from '../support/log.js';
import { newRandom } from '../support/log-traffic.js';

/** Repeat what is chosen with TEST_SEED. */
const SEED = Number(process.env.TEST_SEED ?? Date.now() % 1_000_000_000);
const ACTIONS = 14;
const KEYS = 25;

/** One table of the source, with a history by each way. */
const HISTORIES = ['polled', 'logged', 'switched'] as const;
const COLUMNS: readonly TestColumn[] = [
  { source: 'id', type: 'integer', role: 'business key' },
  { source: 'state', type: 'integer', role: 'tracked' },
  { source: 'touched', type: 'timestamptz', role: 'effective time' },
];

let pipeline: TestPipeline;
beforeAll(async () => {
  process.stderr.write(`equal histories: TEST_SEED=${String(SEED)}\n`);
  pipeline = await createPipeline();
  await createSourceTable(pipeline.source, 'things', COLUMNS);
  await pipeline.source`create sequence states`;
  for (const history of HISTORIES) await registerDimension(pipeline.warehouse, history, 'things', COLUMNS);
});
afterAll(async () => {
  await pipeline.drop();
});

/** Writes rows, short transactions and long ones, until the signal is raised. No state comes twice. */
async function write(number: number, signal: AbortSignal): Promise<number> {
  const random = newRandom(SEED + number);
  const session = connect(pipeline.admin.source, 'writer');
  let commits = 0;
  for (; !signal.aborted; commits += 1) {
    const key = 1 + random(KEYS);
    const upsert = `insert into things values (${String(key)}, nextval('states'), clock_timestamp())
      on conflict (id) do update set state = excluded.state, touched = clock_timestamp()`;
    const kind = random(6);
    if (kind === 0) await session.unsafe(`delete from things where id = ${String(key)}`);
    else if (kind === 1) await session.unsafe(`begin; ${upsert}; rollback`);
    else if (kind === 2) await session.unsafe(`begin; ${upsert}; select pg_sleep(0.05); ${upsert}; commit`);
    else await session.unsafe(upsert);
  }
  await session.end();
  return commits;
}

const current = async (history: string) =>
  pipeline.warehouse`select id, state, valid_from::text as touched from ${pipeline.warehouse(`dim_${history}_history`)} where is_current order by id`;

describe('by whichever way a table is read', () => {
  it('its rows come to the same states, since the same moments; and with what was deleted, to the same histories now', async () => {
    const { settings, source } = pipeline;
    const time = new AbortController();
    const writers = [1, 2, 3].map((number) => write(number, time.signal));
    await captureTable(settings, 'logged', 'log');
    const random = newRandom(SEED);
    const poll = () => extractTables({ settings, tables: [] });
    const load = () => loadTables({ settings, tables: [...HISTORIES] });
    let capture: 'poll' | 'log' = 'poll';
    let switches = 0;
    for (let action = 0; action < ACTIONS; action += 1) {
      const kind = random(4);
      if (kind === 0) await poll();
      else if (kind === 1) await stream(pipeline);
      else if (kind === 2) await load();
      if (kind < 3) continue;
      capture = capture === 'poll' ? 'log' : 'poll';
      await captureTable(settings, 'switched', capture);
      switches += 1;
    }
    // At last each of the two is read from the log for a while.
    await captureTable(settings, 'switched', 'log');
    await poll();
    time.abort();
    const commits = (await Promise.all(writers)).reduce((sum, each) => sum + each, 0);
    for (const work of [poll, () => stream(pipeline), load]) await work();
    const rows = await source`select id, state, touched::text as touched from things order by id`;
    const alive = new Set(rows.map(({ id }) => id as number));
    const among = (versions: Awaited<ReturnType<typeof current>>) =>
      versions.filter(({ id }) => alive.has(id as number));
    for (const history of HISTORIES) expect(among(await current(history)), history).toEqual([...rows]);
    expect(await current('logged')).toEqual([...rows]);
    await reconcileTables({ settings, tables: ['polled', 'switched'], repair: true, allowDeletes: true });
    for (const history of HISTORIES) expect(await current(history), history).toEqual([...rows]);
    const failed = (await runChecks(pipeline.warehouse, ['pipeline', 'scd2'])).filter(
      ({ violations }) => violations > 0,
    );
    expect(failed).toEqual([]);
    process.stdout.write(`equal histories: ${String(commits)} commits, ${String(switches)} switches\n`);
  });

  it('nothing is read again that was polled meanwhile, where it was killed on its way back and on its way over', async () => {
    const { settings, source, warehouse } = pipeline;
    const keep = (state: number) =>
      source`insert into things values (99, ${state}, clock_timestamp()) 
        on conflict (id) do update set state = excluded.state, touched = clock_timestamp()`;
    const declare = (capture: string) =>
      warehouse`select tidemark.declare_capture(p_dimension_name => 'switched', p_capture => ${capture})`;
    const read = async (work: () => Promise<unknown>, state: number) => {
      await keep(state);
      await work();
    };
    await captureTable(settings, 'switched', 'log');
    await read(() => stream(pipeline), 1);
    await declare('poll');
    for (const state of [2, 3]) await read(() => extractTables({ settings, tables: ['switched'] }), state);
    await declare('log');
    expect((await stream(pipeline)).stopped).toEqual({
      switched: 'switched was polled since it was read from the log',
    });
    expect(await captureTable(settings, 'switched', 'log')).toMatchObject({ is_changed: true });
    await read(() => stream(pipeline), 4);
    await loadTables({ settings, tables: ['switched'] });
    const states = await warehouse`select state from dim_switched_history where id = 99 order by valid_from`;
    expect(states.map(({ state }) => state as number)).toEqual([1, 2, 3, 4]);
  });
});
