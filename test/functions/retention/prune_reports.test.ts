import { afterAll, beforeAll, expect, test } from 'vitest';
import { createWarehouseDatabase, type TestDatabase } from '../../support/databases.js';
import { rolledBack } from '../../support/batches.js';

let warehouse: TestDatabase;
beforeAll(async () => {
  warehouse = await createWarehouseDatabase();
});
afterAll(async () => {
  await warehouse.drop();
});

test('runs that ended before go, and comparisons made before, but for the newest of each and runs without an end', async () => {
  const left = await rolledBack(warehouse.sql, async (sql) => {
    const run = (pipeline: string, id: string, ended: string | null) => sql`
      insert into public.pipeline_metadata (pipeline_name, run_id, start_time, end_time, status)
      values (${pipeline}, ${id}, '2026-01-01', ${ended}, ${ended === null ? 'running' : 'succeeded'})`;
    for (const [pipeline, id, ended] of [
      ['extract', 'old', '2026-01-02'],
      ['extract', 'open', null],
      ['extract', 'edge', '2026-01-10'],
      ['extract', 'newest', '2026-01-03'],
      ['load', 'only', '2026-01-02'],
      ['simulate', 'old 2', '2026-01-02'],
      ['simulate', 'newest 2', null],
    ] as const)
      await run(pipeline, id, ended);
    for (const [table, day] of [
      ['orders', 1],
      ['orders', 2],
      ['orders', 20],
      ['customers', 1],
    ] as const)
      await sql`select tidemark.note_reconciliation(${table}, 1, 0, 0, 0, 0, ${`2026-01-${String(day)} 00:00+00`})`;
    const prune = () => sql`select * from tidemark.prune_reports(p_before => '2026-01-10 00:00+00')`;
    expect([...(await prune())]).toEqual([{ runs: '2', reconciliations: '2' }]);
    expect([...(await prune())]).toEqual([{ runs: '0', reconciliations: '0' }]);
    return [
      (await sql`select run_id from public.pipeline_metadata order by id`).map(({ run_id }) => run_id as string),
      (await sql`select dimension_name from tidemark.reconciliations order by 1`).map(
        ({ dimension_name }) => dimension_name as string,
      ),
    ];
  });
  expect(left).toEqual([
    ['open', 'edge', 'newest', 'only', 'newest 2'],
    ['customers', 'orders'],
  ]);
});
