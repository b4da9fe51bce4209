import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createWarehouseDatabase, type TestDatabase } from '../../support/databases.js';
import { empty } from '../../support/batches.js';
import { testedVersion } from '../../support/servers.js';
import { PROPERTIES, TABLES, prunedInAll, registerTables, tryProperty } from '../../support/properties.js';

/** Repeat a failure with TEST_SEED; PROPERTY_RUNS, and with it npm run soak, makes it longer. A run tries some thirty keys, each of them a case of its own. */
const SEED = Number(process.env.TEST_SEED ?? Date.now() % 1_000_000_000);
const RUNS = Number(process.env.PROPERTY_RUNS ?? (testedVersion() === '18' ? 8 : 4));
process.stderr.write(`property tests: TEST_SEED=${String(SEED)} PROPERTY_RUNS=${String(RUNS)}\n`);

let warehouse: TestDatabase;
beforeAll(async () => {
  warehouse = await createWarehouseDatabase();
  await registerTables(warehouse.sql);
});
beforeEach(async () => {
  await empty(warehouse.sql);
});
afterAll(async () => {
  await warehouse.drop();
});

let cases = 0;

describe.each(TABLES)('a history in the order of $order', ({ table, order }) => {
  test.each(PROPERTIES.map((property) => [property.name, property] as const))('%s', async (_, property) => {
    cases += await tryProperty(
      property,
      { sql: warehouse.sql, settings: warehouse.settings, table, order },
      { seed: SEED, runs: RUNS },
    );
  });
});

test('were tried on histories that were pruned in earnest', () => {
  process.stderr.write(`property tests: ${String(prunedInAll.changes)} changes pruned\n`);
  expect(prunedInAll.changes).toBeGreaterThan(RUNS);
});

test('were tried on thousands of cases', () => {
  process.stderr.write(`property tests: ${String(cases)} cases\n`);
  expect(cases).toBeGreaterThan(RUNS * 100);
});
