// Runs once: what it tries is plain SQL over rows.
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { rolledBack } from '../../support/batches.js';
import { createWarehouseDatabase, type TestDatabase } from '../../support/databases.js';
import { Follower } from '../../support/events.js';
import { KNOWN_PROPERTIES, knownScenarios, play, whileBadIsForbidden } from '../../support/known.js';
import { TABLES, registerTables } from '../../support/properties.js';

/** Repeat a failure with TEST_SEED; PROPERTY_RUNS makes it longer. */
const SEED = Number(process.env.TEST_SEED ?? Date.now() % 1_000_000_000);
const RUNS = Number(process.env.PROPERTY_RUNS ?? 3);
process.stderr.write(`properties of events: TEST_SEED=${String(SEED)} PROPERTY_RUNS=${String(RUNS)}\n`);

let warehouse: TestDatabase;
let events = 0;
beforeAll(async () => {
  warehouse = await createWarehouseDatabase();
  await registerTables(warehouse.sql);
  for (const { table } of TABLES) await warehouse.sql`select tidemark.publish_events(p_dimension_name => ${table})`;
});
afterAll(async () => {
  await warehouse.drop();
});

describe.each(TABLES)('a history in the order of $order is followed by its events, which repeat', ({ table }) => {
  test.each(KNOWN_PROPERTIES.map((property) => [property.name, property] as const))('%s', (_, property) =>
    whileBadIsForbidden(warehouse.sql, table, () =>
      fc.assert(
        fc.asyncProperty(knownScenarios(property), (scenario) =>
          rolledBack(warehouse.sql, async (transaction) => {
            const follower = new Follower(transaction, table, 'h.id, h.part, h.a, h.b');
            await play(transaction, table, scenario, (step) => follower.look(step));
            await follower.replay();
            events += follower.count;
          }),
        ),
        {
          seed: SEED,
          numRuns: Math.ceil((RUNS * property.share) / 100),
          endOnFailure: process.env.TEST_SHRINK === undefined,
        },
      ),
    ),
  );
});

test('by thousands of events', () => {
  process.stderr.write(`properties of events: ${String(events)} events\n`);
  expect(events).toBeGreaterThan(RUNS * 100);
});
