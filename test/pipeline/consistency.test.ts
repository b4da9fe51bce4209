import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { captureTable } from '../../runner/operate/capture.js';
import { slotOf } from '../../runner/stream/position.js';
import { runCli, startCli } from '../support/cli.js';
import { createPipeline, type TestPipeline } from '../support/databases.js';
import { createSourceTable, registerDimension, type TestColumn } from '../support/dimensions.js';
import { until } from '../support/wait.js';

const COLUMNS: readonly TestColumn[] = [
  { source: 'id', type: 'integer', role: 'business key' },
  { source: 'amount', type: 'integer', role: 'tracked' },
];
const TABLES = ['savings', 'checking'] as const;
const ACCOUNTS = 20;
const EACH = 1000;

let pipeline: TestPipeline;
beforeEach(async () => {
  pipeline = await createPipeline();
  for (const table of TABLES) {
    await createSourceTable(pipeline.source, table, COLUMNS);
    await registerDimension(pipeline.warehouse, table, table, COLUMNS);
    await pipeline.source`insert into ${pipeline.source(table)} select g, ${EACH} from generate_series(1, ${ACCOUNTS}::integer) as g`;
    await captureTable(pipeline.settings, table, 'log');
  }
});
afterEach(async () => {
  const { slot, publication } = slotOf(pipeline.settings);
  await until(async () => {
    const rows = await pipeline.source`select from pg_replication_slots where slot_name = ${slot} and active`;
    return rows.length === 0;
  });
  await pipeline.source`select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = ${slot}`;
  await pipeline.source.unsafe(`drop publication ${publication}`);
  await pipeline.drop();
});

/** Moves money from an account of one table to one of the other, a transaction each, until told to stop. */
function transfer(seed: number) {
  let [goesOn, count] = [true, 0];
  const work = (async () => {
    for (; goesOn; count += 1) {
      const by = count % 2 === 0 ? 1 : -1;
      const key = ((count * 7 + seed * 5) % ACCOUNTS) + 1;
      // Always in this order, so that no two of them wait for each other.
      await pipeline.source.begin(async (sql) => {
        await sql`update savings set amount = amount - ${by}::integer where id = ${key}`;
        await sql`update checking set amount = amount + ${by}::integer where id = ${((key * 3) % ACCOUNTS) + 1}`;
      });
    }
  })();
  return async () => {
    goesOn = false;
    await work;
    return count;
  };
}

/** What both histories together hold as of a moment. */
async function sumAt(moment: string): Promise<number> {
  const [row] = await pipeline.warehouse<{ sum: number }[]>`
    select sum(v.amount)::integer as sum
    from (select * from dim_savings_history union all select * from dim_checking_history) as v
    where v.valid_from <= ${moment}::text::timestamptz and (v.valid_to is null or v.valid_to > ${moment}::text::timestamptz)`;
  return row?.sum ?? 0;
}

const consistent = async () => {
  const [row] = await pipeline.warehouse<{ consistent_from: string | null; consistent_until: string | null }[]>`
    select * from tidemark.consistent_until(array['savings', 'checking'])`;
  return row;
};

describe('two tables that are read from the log', () => {
  it('hold the same sum at every consistent moment, while money moves between them', async () => {
    const reader = startCli(['stream', '--watch', '--load'], pipeline.env);
    const stops = [1, 2, 3].map(transfer);
    const seen = new Set<string>();
    await until(async () => {
      const moment = (await consistent())?.consistent_until;
      if (moment == null) return false;
      if (!seen.has(moment)) expect(await sumAt(moment), moment).toBe(2 * ACCOUNTS * EACH);
      seen.add(moment);
      return seen.size >= 10;
    });
    const transfers = await Promise.all(stops.map((stop) => stop()));
    reader.kill('SIGTERM');
    const { code, stderr } = await reader.ended;
    expect(code, stderr).toBe(0);
    expect((await runCli(['stream', '--load'], pipeline.env)).code).toBe(0);
    const { consistent_from: from = '', consistent_until: to = '' } = (await consistent()) ?? {};
    // Every commit is a moment, and so is the one just before it.
    const [moments] = await pipeline.warehouse<{ looked_at: number; wrong: number }[]>`
      with version as materialized (select * from dim_savings_history union all select * from dim_checking_history),
      moment as (
        select distinct m.moment
        from version as v
        cross join lateral (values (v.valid_from), (v.valid_from - interval '1 microsecond')) as m (moment)
        where m.moment > ${from}::text::timestamptz and m.moment <= ${to}::text::timestamptz
        limit 500
      )
      select count(*)::integer as looked_at, count(*) filter (where s.sum <> ${2 * ACCOUNTS * EACH})::integer as wrong
      from moment as m
      cross join lateral (
        select sum(v.amount) as sum from version as v where v.valid_from <= m.moment and (v.valid_to is null or v.valid_to > m.moment)
      ) as s`;
    expect(moments?.wrong).toBe(0);
    expect(moments?.looked_at).toBeGreaterThan(Math.min(400, transfers.reduce((sum, count) => sum + count, 0) / 2));
  });
});
