// Runs once: what a version of PostgreSQL may change of it is tested elsewhere.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { rememberChecks, runChecks } from '../../runner/warehouse/checks.js';
import { createPipeline, createWarehouseDatabase, type TestDatabase } from '../support/databases.js';
import { runCli } from '../support/cli.js';
import { checksOf, findAfter, hasPsql, runWithPsql, type Violation } from './seeded.js';

let warehouse: TestDatabase;
beforeAll(async () => {
  warehouse = await createWarehouseDatabase();
});
afterAll(async () => {
  await warehouse.drop();
});

const batch = (previous: string, seconds = 1) => `
  insert into tidemark.batches (dimension_name, batch_id, sequence, extracted_at, least_captured_at, greatest_captured_at, change_count, previous_checksum, checksum, metadata, inserted_versions, closed_versions, absorbed_changes, apply_started_at, applied_at)
  values ('orders', 'b1', 1, now(), now(), now(), 1, ${previous}, 'c', '{}', 1, 0, 0, now() - interval '${String(seconds)} s', now())`;

const VIOLATIONS: readonly Violation[] = [
  {
    check: 'no_alert_is_critical',
    seed: batch("'lost'"),
    rows: [{ rule_name: 'Gap In Chain', dimension_name: 'orders', subject: 'b1' }],
  },
];

test('a warehouse where nothing ran passes', async () => {
  expect(await findAfter(warehouse, 'alerts', '')).toEqual({});
});

test('a pipeline that was run by hand passes, and so does one whose services were stopped', async () => {
  const pipeline = await createPipeline();
  try {
    expect((await runCli(['simulate', '--changes', '20', '--seed', '1'], pipeline.env)).code).toBe(0);
    for (const command of ['extract', 'load']) expect((await runCli([command], pipeline.env)).code).toBe(0);
    expect((await runCli(['start'], pipeline.env)).code).toBe(0);
    expect(await runChecks(pipeline.warehouse, ['alerts'])).toMatchObject([{ violations: 0 }]);
    expect((await runCli(['stop'], pipeline.env)).code).toBe(0);
    expect(await runChecks(pipeline.warehouse, ['alerts'])).toMatchObject([{ violations: 0 }]);
  } finally {
    await runCli(['stop'], pipeline.env);
    await pipeline.drop();
  }
});

test.each(VIOLATIONS)('$check finds: $seed', async ({ check, seed, rows }) => {
  expect(await findAfter(warehouse, 'alerts', seed)).toEqual({
    [check]: rows.map((row) => expect.objectContaining(row) as unknown),
  });
});

test('a warning is no violation: the services of a busy source may repeat a change', async () => {
  expect(await findAfter(warehouse, 'alerts', batch('null', 121))).toEqual({});
});

test('every check is shown failing', async () => {
  expect([...new Set(VIOLATIONS.map(({ check }) => check))].sort()).toEqual(await checksOf('alerts'));
});

test('a violation of another check is an alert, but not a second violation; one that passes again is neither', async () => {
  const note = (violations: number) =>
    rememberChecks(warehouse.sql, [{ suite: 'scd2', check: 'versions do not overlap', violations, rows: [] }]);
  await note(2);
  expect([...(await warehouse.sql`select rule_name, measured from tidemark.alerts`)]).toEqual([
    { rule_name: 'Check Violations', measured: 2 },
  ]);
  expect(await findAfter(warehouse, 'alerts', '')).toEqual({});
  await note(0);
  expect([...(await warehouse.sql`select rule_name from tidemark.alerts`)]).toEqual([]);
});

test('the results of a check by a role that may only read are not noted, and that is no fault', async () => {
  const before = await warehouse.sql`select * from tidemark.check_results`;
  await warehouse.sql
    .begin(async (transaction) => {
      await transaction`set transaction read only`;
      await rememberChecks(transaction as unknown as TestDatabase['sql'], [
        { suite: 'scd2', check: 'another', violations: 1, rows: [] },
      ]);
    })
    .catch(() => undefined);
  expect([...(await warehouse.sql`select * from tidemark.check_results`)]).toEqual([...before]);
});

describe.skipIf(!hasPsql('alerts'))('with psql -f', () => {
  test('every check runs, and says nothing about good data', async () => {
    for (const check of await checksOf('alerts'))
      expect(runWithPsql(warehouse, 'alerts', check), check).toEqual({ status: 0, stdout: '', stderr: '' });
  });
});
