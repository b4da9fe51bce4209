import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { runCli } from '../support/cli.js';
import { createPipeline, type TestPipeline } from '../support/databases.js';
import { until } from '../support/wait.js';

const KEYS = 5;
const UPDATES = 400;

let pipeline: TestPipeline;
beforeAll(async () => {
  pipeline = await createPipeline({ CDC_EXTRACTION_INTERVAL_SECONDS: '1' });
});
afterAll(async () => {
  await runCli(['stop'], pipeline.env);
  await pipeline.drop();
});

describe('rapid updates', () => {
  test(`of ${String(KEYS)} keys while the pipeline runs leave histories that are in order, end as the source is, and pass every check`, async () => {
    const { source, warehouse } = pipeline;
    await source`
      insert into orders (id, customer_id, product_id, quantity, unit_price, total_amount, order_status, order_date, last_updated, created_at)
      select k, 101, 201, 1, 9.99, 9.99, 'pending', now(), now(), now() from generate_series(1, ${KEYS}::integer) as k`;
    await runCli(['start'], pipeline.env);
    for (let update = 1; update <= UPDATES; update += 1) {
      // Two writers take turns on every key, one with the time of its transaction's beginning, one with that of the statement.
      const stamp = update % 2 === 0 ? source`now()` : source`clock_timestamp()`;
      await source`update orders set quantity = ${update}, last_updated = ${stamp} where id = ${1 + (update % KEYS)}`;
      // Time for a poll in between: a hundred updates are history of their own.
      if (update % 100 === 0) {
        const wanted = update;
        await until(
          async () => (await warehouse`select 1 from dim_orders_current where quantity = ${wanted}`).length > 0,
        );
      }
    }
    await runCli(['stop'], pipeline.env);
    for (const command of ['extract', 'load']) expect((await runCli([command], pipeline.env)).code).toBe(0);
    const current = await warehouse`select order_key as id, quantity from dim_orders_current order by order_key`;
    expect(current).toEqual(await source`select id, quantity from orders order by id`);
    const [disorder] = await warehouse<{ n: string }[]>`
      select count(*) as n from (select quantity, lag(quantity) over (partition by order_key order by valid_from) as before from dim_orders_history) as v where before >= quantity`;
    expect(disorder?.n).toBe('0');
    const [versions] = await warehouse<{ n: string }[]>`select count(*) as n from dim_orders_history`;
    expect(Number(versions?.n)).toBeGreaterThan(2 * KEYS);
    const check = await runCli(['check'], pipeline.env);
    expect(check.stdout).toContain('all passed');
    expect(check.code).toBe(0);
  });
});
