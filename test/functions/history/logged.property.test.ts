import { readFileSync } from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Transaction } from '../../../runner/base/database.js';
import { PROJECT_ROOT } from '../../../runner/base/settings.js';
import { apply, compile, rolledBack } from '../../support/batches.js';
import { createWarehouseDatabase, type TestDatabase } from '../../support/databases.js';
import { registerDimension } from '../../support/dimensions.js';
import {
  expectedOfLog,
  loggedDocumentsOf,
  loggedScenarios,
  nameOf,
  polledDocumentsOf,
  toldOfLog,
  type LoggedScenario,
} from '../../support/logged.js';
import { BAD, storedOf } from '../../support/scenarios.js';
import { restore, retract } from '../../support/retractions.js';
import { testedVersion } from '../../support/servers.js';

/** Repeat a failure with TEST_SEED; PROPERTY_RUNS, and with it npm run soak, makes it longer. */
const SEED = Number(process.env.TEST_SEED ?? Date.now() % 1_000_000_000);
const RUNS = Number(process.env.PROPERTY_RUNS ?? (testedVersion() === '18' ? 10 : 5));
process.stderr.write(`properties of the log: TEST_SEED=${String(SEED)} PROPERTY_RUNS=${String(RUNS)}\n`);

const TABLE = 'logged';
let warehouse: TestDatabase;
beforeAll(async () => {
  warehouse = await createWarehouseDatabase();
  await registerDimension(warehouse.sql, TABLE, TABLE, [
    { source: 'id', type: 'integer', role: 'business key' },
    { source: 'a', type: 'text', role: 'tracked' },
    { source: 'b', type: 'integer', role: 'tracked' },
    { source: 'u', type: 'text', role: 'untracked' },
    { source: 'w', type: 'integer', role: 'untracked' },
    { source: 'touched', type: 'timestamptz', role: 'effective time' },
  ]);
  await warehouse.sql`select tidemark.declare_capture(p_dimension_name => ${TABLE}, p_capture => 'log')`;
});
afterAll(async () => {
  await warehouse.drop();
});

const forAll = (
  scenarios: fc.Arbitrary<LoggedScenario>,
  holds: (transaction: Transaction, scenario: LoggedScenario) => Promise<void>,
  share = 1,
) =>
  fc.assert(
    fc.asyncProperty(scenarios, (scenario) => rolledBack(warehouse.sql, (transaction) => holds(transaction, scenario))),
    { seed: SEED, numRuns: Math.ceil(RUNS * share), endOnFailure: process.env.TEST_SHRINK === undefined },
  );

const loadAll = async (transaction: Transaction, documents: readonly string[]) => {
  for (const document of documents) await apply(transaction, document);
};

const stored = async (transaction: Transaction, scenario: LoggedScenario) =>
  toldOfLog(scenario, await storedOf(transaction, TABLE));

async function expectChecksToHold(transaction: Transaction): Promise<void> {
  for (const check of [
    'pipeline/every_change_is_in_one_place',
    'pipeline/ledger_chain_is_unbroken',
    'scd2/a_gap_is_a_delete',
  ])
    expect(
      [...(await transaction.unsafe(readFileSync(path.join(PROJECT_ROOT, 'sql', 'checks', `${check}.sql`), 'utf8')))],
      check,
    ).toEqual([]);
}

const forbidBad = async (transaction: Transaction) => {
  await transaction.unsafe(
    `alter table public.dim_${TABLE}_history add constraint nothing_bad check (a is distinct from '${BAD}')`,
  );
  await compile(transaction, TABLE);
};

test('a history from the log is the fold of what each transaction did last to each key, however it is cut into batches', async () => {
  await forAll(loggedScenarios(), async (transaction, scenario) => {
    const documents = loggedDocumentsOf(scenario, TABLE);
    for (const document of documents) {
      await apply(transaction, document);
      expect((await apply(transaction, document)).already_applied).toBe(true);
    }
    expect(await stored(transaction, scenario)).toEqual(expectedOfLog(scenario));
    await expectChecksToHold(transaction);
  });
});

test('rejected changes of the log, tried again, are as if they had never been rejected, also where others took values from them', async () => {
  await forAll(loggedScenarios(), async (transaction, scenario) => {
    await forbidBad(transaction);
    await loadAll(transaction, loggedDocumentsOf(scenario, TABLE));
    expect(await stored(transaction, scenario)).toEqual(
      expectedOfLog(scenario, ({ operation, tracked }) => operation === 'DELETE' || tracked.a !== BAD),
    );
    await expectChecksToHold(transaction);
    await transaction.unsafe(`alter table public.dim_${TABLE}_history drop constraint nothing_bad`);
    await compile(transaction, TABLE);
    await transaction`select * from tidemark.retry_rejected(p_dimension_name => ${TABLE})`;
    expect(await stored(transaction, scenario)).toEqual(expectedOfLog(scenario));
    await expectChecksToHold(transaction);
  });
});

test('changes that were captured between two transactions of the log, and are loaded last, are where they belong', async () => {
  await forAll(loggedScenarios({ withPolls: true }), async (transaction, scenario) => {
    await loadAll(transaction, loggedDocumentsOf(scenario, TABLE));
    await loadAll(transaction, polledDocumentsOf(scenario, TABLE));
    expect(await stored(transaction, scenario)).toEqual(expectedOfLog(scenario));
    await expectChecksToHold(transaction);
  });
});

test('a history from the log is the same when what can no longer matter is pruned after each batch', async () => {
  const versionsOf = (lines: readonly string[]) => lines.filter((line) => line.startsWith('version'));
  let pruned = 0;
  // What waits for ever, of rows that history never saw, would keep all that is later.
  const seen = loggedScenarios().map((scenario) => ({ ...scenario, unseen: [] }));
  await forAll(seen, async (transaction, scenario) => {
    await forbidBad(transaction);
    const prune = async () => {
      const [row] = await transaction<[{ pruned_changes: string }]>`
        select pruned_changes from tidemark.prune_absorbed_changes(p_dimension_name => ${TABLE}, p_before => 'infinity', p_limit => 1000000)`;
      pruned += Number(row.pruned_changes);
    };
    for (const document of loggedDocumentsOf(scenario, TABLE)) {
      await apply(transaction, document);
      await prune();
    }
    await transaction.unsafe(`alter table public.dim_${TABLE}_history drop constraint nothing_bad`);
    await compile(transaction, TABLE);
    await transaction`select * from tidemark.retry_rejected(p_dimension_name => ${TABLE})`;
    await prune();
    expect(versionsOf(await stored(transaction, scenario))).toEqual(versionsOf(expectedOfLog(scenario)));
    await expectChecksToHold(transaction);
  });
  process.stderr.write(`properties of the log: ${String(pruned)} changes pruned\n`);
  expect(pruned).toBeGreaterThan(0);
});

test('a batch of the log that is taken out leaves the fold of all others, also where these took values from it, and comes back', async () => {
  await forAll(
    loggedScenarios(),
    async (transaction, scenario) => {
      const documents = loggedDocumentsOf(scenario, TABLE);
      const isOut = (index: number) => index % 2 === 0 && !(documents[index] ?? '').includes('"TRUNCATE"');
      for (const [index, document] of documents.entries()) {
        await apply(transaction, document);
        // Before what comes next takes values from it.
        if (isOut(index) && index % 4 === 0) await retract(transaction, TABLE, nameOf(index));
      }
      for (const index of documents.keys()) if (isOut(index)) await retract(transaction, TABLE, nameOf(index));
      const out = new Set([...documents.keys()].filter(isOut).map(nameOf));
      expect(await stored(transaction, scenario)).toEqual(expectedOfLog(scenario, ({ batch }) => !out.has(batch)));
      await expectChecksToHold(transaction);
      for (const batch of out) await restore(transaction, TABLE, batch);
      expect(await stored(transaction, scenario)).toEqual(expectedOfLog(scenario));
      await expectChecksToHold(transaction);
    },
    0.5,
  );
});

test('a history from the log is made anew just as it was', async () => {
  await forAll(
    loggedScenarios(),
    async (transaction, scenario) => {
      const documents = loggedDocumentsOf(scenario, TABLE);
      await loadAll(transaction, documents);
      const before = await storedOf(transaction, TABLE);
      await transaction`select tidemark.open_replay(p_dimension_name => ${TABLE}, p_is_locked => true)`;
      for (const document of documents)
        await transaction`select tidemark.replay_batch(p_dimension_name => ${TABLE}, p_batch => ${document}::text::json, p_may_be_unknown => false)`;
      expect([
        ...(await transaction`select * from tidemark.compare_replay(p_dimension_name => ${TABLE}, p_limit => 10)`),
      ]).toEqual([]);
      await transaction`select * from tidemark.adopt_replay(p_dimension_name => ${TABLE})`;
      expect(await storedOf(transaction, TABLE)).toEqual(before);
      await expectChecksToHold(transaction);
    },
    0.3,
  );
});
