import { readFileSync } from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { expect } from 'vitest';
import { runChecks } from '../../runner/warehouse/checks.js';
import { PROJECT_ROOT, type DatabaseSettings } from '../../runner/base/settings.js';
import { connect, type Database, type Transaction } from '../../runner/base/database.js';
import { registerDimension, type TestColumn } from './dimensions.js';
import { apply, compile, empty, rolledBack } from './batches.js';
import { isOnCluster } from './cluster.js';
import { wrongChanges, wrongDifferences } from './between-moments.js';
import type { ChangeOrder } from './oracle.js';
import {
  BAD,
  chainedDocumentsOf,
  documentsOf,
  earliestOf,
  expectedOf,
  inOneBatch,
  nameOf,
  scenarios,
  shardedDocumentsOf,
  storedOf,
  withoutPlaces,
  type Scenario,
  type ScenarioOptions,
} from './scenarios.js';

/** What is true of every history, whatever happens. The mutation test breaks the SQL and sees these go red. */

export interface Subject {
  readonly sql: Database;
  readonly settings: DatabaseSettings;
  readonly table: string;
  readonly order: ChangeOrder;
}

export interface Property {
  readonly name: string;
  readonly options: ScenarioOptions;
  /** How many runs it gets, of each hundred. */
  readonly share: number;
  readonly holds: (subject: Subject, scenario: Scenario) => Promise<void>;
}

const COLUMNS: readonly TestColumn[] = [
  { source: 'id', type: 'integer', role: 'business key' },
  { source: 'part', type: 'text', role: 'business key' },
  { source: 'a', type: 'text', role: 'tracked' },
  { source: 'b', type: 'integer', role: 'tracked' },
  { source: 'u', type: 'text', role: 'untracked' },
  { source: 'w', type: 'integer', role: 'untracked' },
  { source: 'touched', type: 'timestamptz', role: 'effective time' },
];

export const TABLES: readonly { table: string; order: ChangeOrder }[] = [
  { table: 'by_capture', order: 'capture' },
  { table: 'by_time', order: 'effective_time' },
];

export async function registerTables(sql: Database, partitions?: number): Promise<void> {
  for (const { table, order } of TABLES)
    await registerDimension(sql, table, table, COLUMNS, { changeOrder: order, partitions });
}

async function load(sql: Database | Transaction, scenario: Scenario, table: string): Promise<void> {
  const documents = documentsOf(scenario, table);
  for (const index of scenario.loading) await apply(sql, documents[index] ?? '');
}

/** What the warehouse holds after a scenario, which is then rolled back. */
const outcomeOf = ({ sql, table }: Subject, scenario: Scenario) =>
  rolledBack(sql, async (transaction) => {
    await load(transaction, scenario, table);
    return storedOf(transaction, table);
  });

async function equalsTheFold(subject: Subject, scenario: Scenario): Promise<void> {
  expect(await outcomeOf(subject, scenario)).toEqual(expectedOf(scenario, subject.order));
}

async function isChangedByNoRepeat({ sql, table }: Subject, scenario: Scenario): Promise<void> {
  const [once, twice] = await rolledBack(sql, async (transaction) => {
    await load(transaction, scenario, table);
    const before = await storedOf(transaction, table);
    await load(transaction, scenario, table);
    return [before, await storedOf(transaction, table)];
  });
  expect(twice).toEqual(once);
}

async function doesNotKnowBatches(subject: Subject, scenario: Scenario): Promise<void> {
  const [many, one] = [await outcomeOf(subject, scenario), await outcomeOf(subject, inOneBatch(scenario))];
  expect(withoutPlaces(many)).toEqual(withoutPlaces(one));
}

async function doesNotKnowShards({ sql, table, order }: Subject, scenario: Scenario): Promise<void> {
  const stored = await rolledBack(sql, async (transaction) => {
    for (const document of shardedDocumentsOf(scenario, table)) await apply(transaction, document);
    return storedOf(transaction, table);
  });
  expect(withoutPlaces(stored)).toEqual(withoutPlaces(expectedOf(scenario, order)));
}

async function keepsSurrogateKeys({ sql, table }: Subject, scenario: Scenario): Promise<void> {
  const documents = documentsOf(scenario, table);
  await rolledBack(sql, async (transaction) => {
    let before = new Map<string, string>();
    for (const index of scenario.loading) {
      await apply(transaction, documents[index] ?? '');
      const rows = await transaction.unsafe<{ place: string; surrogate_key: string }[]>(`
        select id || ':' || batch_id || ':' || change_line as place, surrogate_key from public.dim_${table}_history`);
      const after = new Map(rows.map((row) => [row.place, row.surrogate_key]));
      expect([...before].filter(([place, key]) => (after.get(place) ?? key) !== key)).toEqual([]);
      before = after;
    }
  });
}

async function forgetsRejections({ sql, table, order }: Subject, scenario: Scenario): Promise<void> {
  await rolledBack(sql, async (transaction) => {
    await transaction.unsafe(
      `alter table public.dim_${table}_history add constraint nothing_bad check (a is distinct from '${BAD}')`,
    );
    await compile(transaction, table);
    await load(transaction, scenario, table);
    expect(await storedOf(transaction, table)).toEqual(
      expectedOf(scenario, order, ({ operation, tracked }) => operation === 'DELETE' || tracked.a !== BAD),
    );
    await transaction.unsafe(`alter table public.dim_${table}_history drop constraint nothing_bad`);
    await compile(transaction, table);
    await transaction`select * from tidemark.retry_rejected(p_dimension_name => ${table})`;
    expect(await storedOf(transaction, table)).toEqual(expectedOf(scenario, order));
    expect(await transaction`select * from tidemark.rejected_changes`).toEqual([]);
  });
}

interface Pruned {
  readonly pruned_changes: string;
}

/** Prunes all that may be pruned after each batch. What is refused from then on, nobody has loaded; what is loaded makes the same history. */
async function missesNothingPruned({ sql, table, order }: Subject, scenario: Scenario): Promise<void> {
  await rolledBack(sql, async (transaction) => {
    await transaction.unsafe(
      `alter table public.dim_${table}_history add constraint nothing_bad check (a is distinct from '${BAD}')`,
    );
    await compile(transaction, table);
    const documents = chainedDocumentsOf(scenario, table);
    const refused = new Set<string>();
    let pruned = 0;
    const prune = async () => {
      const [row] = await transaction<
        [Pruned]
      >`select pruned_changes from tidemark.prune_absorbed_changes(p_dimension_name => ${table}, p_before => 'infinity', p_limit => 1000000)`;
      pruned += Number(row.pruned_changes);
    };
    const loaded = new Set<number>();
    for (const index of scenario.loading) {
      const bound = loaded.has(index) ? null : await boundOf(transaction, table);
      const isRefused = await transaction
        .savepoint((point) => apply(point, documents[index] ?? ''))
        .then(
          () => false,
          (error: unknown) => {
            if ((error as { code?: string }).code !== 'TM018') throw error;
            return true;
          },
        );
      expect(isRefused, nameOf(index)).toBe(bound !== null && earliestOf(scenario, index) < bound);
      if (isRefused) refused.add(nameOf(index));
      else loaded.add(index);
      // Pruning stops where the chain stands, so it refuses nothing of a chain whose times rise. (A batch without changes leaves no gap that shows.)
      if (isRefused && scenario.keys.flat().every(({ after }) => after === undefined))
        expect(
          scenario.batches[index]?.hasSequence === true && scenario.keys.flat().some(({ batch }) => batch === index),
        ).toBe(false);
      await prune();
    }
    await transaction.unsafe(`alter table public.dim_${table}_history drop constraint nothing_bad`);
    await compile(transaction, table);
    await transaction`select * from tidemark.retry_rejected(p_dimension_name => ${table})`;
    await prune();
    const [stored, expected] = [
      await storedOf(transaction, table),
      expectedOf(scenario, order, (change) => !refused.has(change.batch)),
    ];
    const versionsOf = (lines: readonly string[]) => lines.filter((line) => line.startsWith('version'));
    expect(versionsOf(stored)).toEqual(versionsOf(expected));
    expect(stored.filter((line) => !expected.includes(line))).toEqual([]);
    expect(expected.length - stored.length).toBe(pruned);
    prunedInAll.changes += pruned;
    for (const check of ['pipeline/every_change_is_in_one_place', 'scd2/a_gap_is_a_delete'])
      expect(
        [...(await transaction.unsafe(readFileSync(path.join(PROJECT_ROOT, 'sql', 'checks', `${check}.sql`), 'utf8')))],
        check,
      ).toEqual([]);
  });
}

/** The moment up to which a history was pruned, in microseconds; null where it was not. */
async function boundOf(transaction: Transaction, table: string): Promise<bigint | null> {
  const [row] = await transaction<[{ bound: string | null }]>`
    select (extract(epoch from pruned_before) * 1000000)::bigint::text as bound from tidemark.dimensions where dimension_name = ${table}`;
  return row.bound === null ? null : BigInt(row.bound);
}

/** How many changes were pruned while properties were tried: none would prove nothing. */
export const prunedInAll = { changes: 0 };

/** Three loaders that load the same batches at once, each beginning elsewhere. */
async function survivesRaces({ sql, settings, table, order }: Subject, scenario: Scenario): Promise<void> {
  const loaders = [1, 2, 3].map(() => connect(settings, 'test'));
  try {
    await empty(sql);
    const documents = documentsOf(scenario, table);
    const turned = (index: number) => [...scenario.loading.slice(index), ...scenario.loading.slice(0, index)];
    await Promise.all(
      loaders.flatMap((loader, index) => turned(index).map((number) => apply(loader, documents[number] ?? ''))),
    );
    expect(await storedOf(sql, table)).toEqual(expectedOf(scenario, order));
    const results = await runChecks(sql, ['scd2', 'pipeline']);
    expect(results.filter(({ violations, check }) => violations > 0 && check !== 'ledger chain is unbroken')).toEqual(
      [],
    );
  } finally {
    for (const loader of loaders) await loader.end();
  }
}

/** Between some moments of what became of it. */
async function tellsWhatChanged({ sql, table }: Subject, scenario: Scenario): Promise<void> {
  await rolledBack(sql, async (transaction) => {
    await load(transaction, scenario, table);
    const history = `public.dim_${table}_history`;
    const compared = { history, keys: ['id', 'part'], columns: ['a', 'b', 'u', 'w'] };
    expect(await wrongDifferences(transaction, compared)).toEqual([]);
    if (isOnCluster())
      await transaction.unsafe(`create temporary table told on commit drop as select * from ${history}`);
    expect(
      await wrongChanges(transaction, { ...compared, versions: isOnCluster() ? 'pg_temp.told' : history }),
    ).toEqual([]);
  });
}

export const PROPERTIES: readonly Property[] = [
  {
    name: 'equals the fold of all changes, in whatever order batches are loaded and however often',
    options: {},
    share: 100,
    holds: equalsTheFold,
  },
  { name: 'equals it when batches come in order', options: { isInOrder: true }, share: 60, holds: equalsTheFold },
  {
    name: 'equals it when some batches came without some columns',
    options: { withMissingColumns: true },
    share: 60,
    holds: equalsTheFold,
  },
  {
    name: 'takes rejected changes, once the cause is gone, as if they had never been rejected',
    options: { withBadChanges: true },
    share: 30,
    holds: forgetsRejections,
  },
  { name: 'is changed by nothing that is loaded twice', options: {}, share: 20, holds: isChangedByNoRepeat },
  {
    name: 'is the same however the changes of one instant are spread over batches',
    options: { isOneInstant: true },
    share: 40,
    holds: doesNotKnowBatches,
  },
  { name: 'is the same when the table is cut into shards', options: {}, share: 30, holds: doesNotKnowShards },
  {
    name: 'keeps the surrogate key of every version that survives a batch',
    options: {},
    share: 30,
    holds: keepsSurrogateKeys,
  },
  {
    name: 'is the same when what can no longer matter is pruned after each batch',
    options: { isInOrder: true, withMissingColumns: true },
    share: 30,
    holds: missesNothingPruned,
  },
  {
    name: 'is the same when it is pruned and batches come in whatever order, but for those that are refused',
    options: {},
    share: 40,
    holds: missesNothingPruned,
  },
  {
    name: 'is the same when it is pruned while changes are rejected',
    options: { isInOrder: true, withBadChanges: true },
    share: 20,
    holds: missesNothingPruned,
  },
  {
    name: 'is the same when several loaders race, and passes every check',
    options: {},
    share: 15,
    holds: survivesRaces,
  },
  {
    name: 'tells between two moments what as-of shows at both, and every version and end of a life',
    options: {},
    share: 20,
    holds: tellsWhatChanged,
  },
  ...withOwnTimes([
    ['equals the fold of all changes, in whatever order batches are loaded', {}, 40, equalsTheFold],
    ['equals it when batches come in order', { isInOrder: true }, 25, equalsTheFold],
    ['equals it when some batches came without some columns', { withMissingColumns: true }, 20, equalsTheFold],
    ['takes rejected changes as if they had never been rejected', { withBadChanges: true }, 10, forgetsRejections],
    ['is the same however changes are spread over batches', { isOfChain: true }, 20, doesNotKnowBatches],
    ['is the same when the table is cut into shards', {}, 10, doesNotKnowShards],
    ['keeps the surrogate key of every version that survives a batch', {}, 8, keepsSurrogateKeys],
    ['is the same when it is pruned', { isInOrder: true, withMissingColumns: true }, 20, missesNothingPruned],
    ['is the same when it is pruned and batches come in whatever order', {}, 30, missesNothingPruned],
    ['is the same when it is pruned while changes are rejected', { withBadChanges: true }, 20, missesNothingPruned],
    ['is the same when several loaders race, and passes every check', {}, 5, survivesRaces],
  ]),
];

type Told = readonly [name: string, options: ScenarioOptions, share: number, holds: Property['holds']];

/** The same where changes have capture times of their own, which need not rise; in order, those of a batch follow all in the batches before. */
function withOwnTimes(properties: readonly Told[]): Property[] {
  return properties.map(([name, options, share, holds]) => ({
    name: `with capture times of their own: ${name}`,
    options: { ...options, withOwnTimes: options.isInOrder === true ? 'rising' : 'anywhere' },
    share,
    holds,
  }));
}

/** Tries a property on random scenarios. @returns how many keys were tried, each of them a case of its own */
export async function tryProperty(
  property: Property,
  subject: Subject,
  parameters: { seed: number; runs: number; endOnFailure?: boolean },
): Promise<number> {
  let cases = 0;
  const { seed, runs, endOnFailure = false } = parameters;
  await fc.assert(
    fc.asyncProperty(scenarios(property.options), (scenario) => {
      cases += scenario.keys.length;
      return property.holds(subject, scenario);
    }),
    { seed, numRuns: Math.ceil((runs * property.share) / 100), endOnFailure },
  );
  return cases;
}
