// Runs once
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { apply, rolledBack, type TestTransaction } from '../../support/batches.js';
import { createWarehouseDatabase, type TestDatabase } from '../../support/databases.js';
import { registerDimension } from '../../support/dimensions.js';
import { KNOWN_PROPERTIES, Watch, allowBad, prune, retry, tryKnown, whileBadIsForbidden } from '../../support/known.js';
import { loggedDocumentsOf, loggedScenarios, polledDocumentsOf, type LoggedScenario } from '../../support/logged.js';
import { TABLES, registerTables } from '../../support/properties.js';

/** Repeat a failure with TEST_SEED; PROPERTY_RUNS, and with it npm run soak, makes it longer. A run compares some thirty keys at some ten moments, each of them a case. */
const SEED = Number(process.env.TEST_SEED ?? Date.now() % 1_000_000_000);
const RUNS = Number(process.env.PROPERTY_RUNS ?? 4);
process.stderr.write(`properties of what was known: TEST_SEED=${String(SEED)} PROPERTY_RUNS=${String(RUNS)}\n`);

const LOGGED = 'logged';
let warehouse: TestDatabase;
beforeAll(async () => {
  warehouse = await createWarehouseDatabase();
  await registerTables(warehouse.sql);
  await registerDimension(warehouse.sql, LOGGED, LOGGED, [
    { source: 'id', type: 'integer', role: 'business key' },
    { source: 'a', type: 'text', role: 'tracked' },
    { source: 'b', type: 'integer', role: 'tracked' },
    { source: 'u', type: 'text', role: 'untracked' },
    { source: 'w', type: 'integer', role: 'untracked' },
    { source: 'touched', type: 'timestamptz', role: 'effective time' },
  ]);
  await warehouse.sql`select tidemark.declare_capture(p_dimension_name => ${LOGGED}, p_capture => 'log')`;
});
afterAll(async () => {
  await warehouse.drop();
});

let cases = 0;

describe.each(TABLES)('a history in the order of $order is told as it was known at each moment', ({ table, order }) => {
  test.each(KNOWN_PROPERTIES.map((property) => [property.name, property] as const))('%s', async (_, property) => {
    cases += await tryKnown(
      property,
      { sql: warehouse.sql, settings: warehouse.settings, table, order },
      { seed: SEED, runs: RUNS },
    );
  });
});

describe('a history from the log is told as it was known at each moment', () => {
  const forAll = (
    scenarios: fc.Arbitrary<LoggedScenario>,
    load: (
      transaction: TestTransaction,
      documents: readonly string[],
      watch: Watch,
      scenario: LoggedScenario,
    ) => Promise<void>,
  ) =>
    whileBadIsForbidden(warehouse.sql, LOGGED, () =>
      fc.assert(
        fc.asyncProperty(scenarios, (scenario) =>
          rolledBack(warehouse.sql, async (transaction) => {
            const watch = new Watch(transaction, LOGGED, 'id');
            await load(transaction, loggedDocumentsOf(scenario, LOGGED), watch, scenario);
            cases += await watch.compare();
          }),
        ),
        { seed: SEED, numRuns: RUNS, endOnFailure: true },
      ),
    );

  test('also where changes from elsewhere come between two transactions, late', () =>
    forAll(loggedScenarios({ withPolls: true }), async (transaction, documents, watch, scenario) => {
      for (const document of [...documents, ...polledDocumentsOf(scenario, LOGGED)]) {
        await apply(transaction, document);
        await watch.look();
      }
    }));

  test('also where changes were rejected, and pruned', () =>
    forAll(loggedScenarios(), async (transaction, documents, watch) => {
      for (const [index, document] of documents.entries()) {
        await apply(transaction, document);
        await watch.look();
        if (index % 3 === 2) await prune(transaction, LOGGED);
      }
      await allowBad(transaction);
      await retry(transaction, LOGGED);
      await watch.look();
    }));
});

test('in thousands of cases', () => {
  process.stderr.write(`properties of what was known: ${String(cases)} cases\n`);
  expect(cases).toBeGreaterThan(RUNS * 50);
});
