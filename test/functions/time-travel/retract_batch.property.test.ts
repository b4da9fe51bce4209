// Runs once: what it tries is plain SQL over rows.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWarehouseDatabase, type TestDatabase } from '../../support/databases.js';
import { TABLES, registerTables } from '../../support/properties.js';
import { RETRACTIONS, restoredInAll, tryRetraction } from '../../support/retractions.js';

/** Repeat a failure with TEST_SEED; PROPERTY_RUNS, and with it npm run soak, makes it longer. */
const SEED = Number(process.env.TEST_SEED ?? Date.now() % 1_000_000_000);
const RUNS = Number(process.env.PROPERTY_RUNS ?? 8);
process.stderr.write(`properties of retractions: TEST_SEED=${String(SEED)} PROPERTY_RUNS=${String(RUNS)}\n`);

let warehouse: TestDatabase;
beforeAll(async () => {
  warehouse = await createWarehouseDatabase();
  await registerTables(warehouse.sql);
});
afterAll(async () => {
  await warehouse.drop();
});

let cases = 0;

describe.each(TABLES)('in a history in the order of $order', ({ table, order }) => {
  test.each(RETRACTIONS.map((property) => [property.name, property] as const))('%s', async (_, property) => {
    cases += await tryRetraction(
      property,
      { sql: warehouse.sql, settings: warehouse.settings, table, order },
      { seed: SEED, runs: RUNS, endOnFailure: process.env.TEST_SHRINK === undefined },
    );
  });
});

test('were tried on thousands of cases, and on batches that came back in earnest', () => {
  process.stderr.write(
    `properties of retractions: ${String(cases)} cases, ${String(restoredInAll.batches)} batches came back\n`,
  );
  expect(cases).toBeGreaterThan(RUNS * 50);
  expect(restoredInAll.batches).toBeGreaterThan(RUNS);
});
