import { afterAll, beforeAll, expect, it } from 'vitest';
import { extractTables } from '../../runner/extract/tables.js';
import { loadTables } from '../../runner/load/tables.js';
import { reconcileTables } from '../../runner/reconcile/tables.js';
import { runCli } from '../support/cli.js';
import { createPipeline, type TestPipeline } from '../support/databases.js';

let pipeline: TestPipeline;
beforeAll(async () => {
  pipeline = await createPipeline();
});
afterAll(async () => {
  await pipeline.drop();
});

const statesOf = async (order: number) =>
  (
    await pipeline.warehouse<{ state: string }[]>`
      select concat_ws(' ', order_status, case when is_current then 'now' end) as state
      from dim_orders_history where order_key = ${order} order by valid_from`
  ).map(({ state }) => state);

it('demo --log shows each state of an order that changed three times, and the end of one that was deleted, as often as it is run', async () => {
  const seen: number[][] = [];
  for (const time of ['first', 'second']) {
    const { code, stdout, stderr } = await runCli(['demo', '--log'], pipeline.env);
    expect(code, `${time}: ${stderr}`).toBe(0);
    const [, moved = 0, deleted = 0] = (/orders (\d+) and (\d+) have arrived/.exec(stdout) ?? []).map(Number);
    seen.push([moved, deleted]);
    expect(await statesOf(moved)).toEqual(['pending', 'confirmed', 'shipped', 'delivered now']);
    expect(await statesOf(deleted)).toEqual(['pending']);
    expect(stdout).toMatch(
      /second look: .*\n +a poll: .*\n +stream: +4 changes\n +load: +3 versions opened, 4 closed\n/,
    );
    expect(stdout).toContain('checks, all passed');
    for (const state of ['pending', 'confirmed', 'shipped', 'delivered'])
      expect(stdout).toMatch(new RegExp(`^${String(moved)} +${state} `, 'm'));
    expect(await pipeline.source`select from pg_replication_slots where database = current_database()`).toHaveLength(0);
    expect(await pipeline.source`select from pg_publication`).toHaveLength(0);
  }
  expect(new Set(seen.flat()).size).toBe(4);
});

it('demo --log leaves a table behind that is polled as before, in which nothing differs', async () => {
  const { settings } = pipeline;
  const usual = await runCli(['demo'], pipeline.env);
  expect(usual.code, usual.stderr).toBe(0);
  await extractTables({ settings, tables: [] });
  await loadTables({ settings, tables: [] });
  const found = await reconcileTables({ settings, tables: ['orders'], repair: false, allowDeletes: false });
  expect(found).toMatchObject([{ differences: [], unsettled: 0 }]);
  expect(await pipeline.warehouse`select capture from tidemark.dimensions where dimension_name = 'orders'`).toEqual([
    { capture: 'poll' },
  ]);
});
