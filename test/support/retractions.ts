import { readFileSync } from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { expect } from 'vitest';
import { PROJECT_ROOT } from '../../runner/base/settings.js';
import type { Database, Transaction } from '../../runner/base/database.js';
import { apply, compile, rolledBack, type TestTransaction } from './batches.js';
import type { Subject } from './properties.js';
import {
  BAD,
  chainedDocumentsOf,
  expectedOf,
  nameOf,
  scenarios,
  storedOf,
  type Scenario,
  type ScenarioOptions,
} from './scenarios.js';

/** What is true of every batch that is taken out of a history, whatever happened before and meanwhile. */

export interface Retraction {
  readonly scenario: Scenario;
  /** How many batches of the loading are loaded before anything is taken out; the others come meanwhile. */
  readonly loadedBefore: number;
  /** Indexes of batches, in the order in which they are taken out, and brought back. */
  readonly retracted: readonly number[];
  readonly restored: readonly number[];
  /** Whether what may be pruned is pruned: after the load, and while batches are out. */
  readonly prunes: readonly [boolean, boolean];
}

export interface RetractionProperty {
  readonly name: string;
  readonly options: ScenarioOptions;
  readonly share: number;
  readonly holds: (subject: Subject, retraction: Retraction) => Promise<void>;
}

export const retractions = (options: ScenarioOptions = {}): fc.Arbitrary<Retraction> =>
  scenarios(options).chain((scenario) => {
    const indexes = [...scenario.batches.keys()];
    return fc.shuffledSubarray(indexes, { minLength: 1 }).chain((retracted) =>
      fc.record({
        scenario: fc.constant(scenario),
        loadedBefore: fc.integer({ min: 1, max: scenario.loading.length }),
        retracted: fc.constant(retracted),
        restored: fc.shuffledSubarray(retracted, { minLength: retracted.length }),
        prunes: fc.tuple(fc.boolean(), fc.boolean()),
      }),
    );
  });

/** All that a retraction may touch of a history and of Tidemark's tables, but for notes: the clock of the warehouse, and what settled a rejected change. */
export async function everythingOf(transaction: Transaction, table: string): Promise<string[]> {
  const [row] = await transaction.unsafe<[{ lines: string[] | null }]>(`
    select array_agg(l.line order by l.line) as lines from (
      select 'version ' || (to_jsonb(h) - 'created_at' - 'updated_at')::text as line from public.dim_${table}_history as h
      union all
      -- Whether a change called itself INSERT or UPDATE is not kept while it opens a version.
      select 'absorbed ' || concat_ws('|', shard, batch_id, change_line, business_key, cdc_operation = 'DELETE', cdc_timestamp, captured_at, reason,
        coalesce(closed_at::text, ''), (change::jsonb - 'operation_type')::text)
      from tidemark.absorbed_changes where dimension_name = '${table}'
      union all
      select 'rejected ' || (to_jsonb(r) - 'settled_at' - 'settled_by_batch' - 'settled_by_line')::text || (settled_at is not null)::text
      from tidemark.rejected_changes as r where dimension_name = '${table}'
      union all
      -- One that says what the version shows anyway, as a batch that came in order may leave it, need not be there.
      select concat_ws('|', 'first values', h.surrogate_key, coalesce(f.values_before::jsonb, jsonb_build_object('u', h.u, 'w', h.w)))
      from public.dim_${table}_history as h
      left join tidemark.first_values as f on f.dimension_name = '${table}' and f.surrogate_key = h.surrogate_key
      union all
      select 'first values of nothing ' || f::text from tidemark.first_values as f
      where f.dimension_name = '${table}' and f.surrogate_key not in (select h.surrogate_key from public.dim_${table}_history as h)
      union all
      select 'batch ' || to_jsonb(b)::text from tidemark.batches as b where dimension_name = '${table}'
      union all
      select 'column ' || c::text from tidemark.dimension_columns as c where dimension_name = '${table}'
      union all
      select 'dimension ' || d::text from tidemark.dimensions as d where dimension_name = '${table}'
      union all
      select 'retracted ' || (to_jsonb(r) - 'cdc_operation' - 'change')::text || (change::jsonb - 'operation_type')::text
      from tidemark.retracted_changes as r where dimension_name = '${table}'
    ) as l`);
  return row.lines ?? [];
}

export const retract = async (sql: Database | Transaction, table: string, batch: string): Promise<object[]> => [
  ...(await sql`select * from tidemark.retract_batch(p_dimension_name => ${table}, p_batch_id => ${batch}, p_reason => 'wrong')`),
];

export const restore = async (sql: Database | Transaction, table: string, batch: string): Promise<object[]> => [
  ...(await sql`select * from tidemark.restore_batch(p_dimension_name => ${table}, p_batch_id => ${batch})`),
];

/** Takes a batch out unless what was pruned keeps it in. */
async function retractUnlessPruned(transaction: TestTransaction, table: string, batch: string): Promise<boolean> {
  return transaction
    .savepoint((point) => retract(point, table, batch))
    .then(
      () => true,
      (error: unknown) => {
        if ((error as { code?: string }).code !== 'TM018') throw error;
        return false;
      },
    );
}

const prune = (transaction: Transaction, table: string) =>
  transaction`select * from tidemark.prune_absorbed_changes(p_dimension_name => ${table}, p_before => 'infinity', p_limit => 1000000)`;

async function forbidBad(transaction: Transaction, table: string): Promise<void> {
  await transaction.unsafe(
    `alter table public.dim_${table}_history add constraint nothing_bad check (a is distinct from '${BAD}')`,
  );
  await compile(transaction, table);
}

const isGood = ({ operation, tracked }: { operation: string; tracked: Readonly<Record<string, string | null>> }) =>
  operation === 'DELETE' || tracked.a !== BAD;

export async function expectInOnePlace(transaction: Transaction): Promise<void> {
  for (const check of ['pipeline/every_change_is_in_one_place', 'scd2/a_gap_is_a_delete', 'scd2/neighbours_differ'])
    expect(
      [...(await transaction.unsafe(readFileSync(path.join(PROJECT_ROOT, 'sql', 'checks', `${check}.sql`), 'utf8')))],
      check,
    ).toEqual([]);
}

/** Pruned, retracted and restored in any order, a history is what it was, with the surrogate keys it had. */
async function comesBackAsItWas(
  { sql, table }: Subject,
  { scenario, retracted, restored, prunes }: Retraction,
): Promise<void> {
  await rolledBack(sql, async (transaction) => {
    if (scenario.keys.flat().some(({ a }) => a === BAD)) await forbidBad(transaction, table);
    const documents = chainedDocumentsOf(scenario, table);
    for (const index of scenario.loading) await apply(transaction, documents[index] ?? '');
    if (prunes[0]) await prune(transaction, table);
    const before = await everythingOf(transaction, table);
    const out = new Set<number>();
    for (const index of retracted)
      if (await retractUnlessPruned(transaction, table, nameOf(index))) out.add(index);
      else expect(prunes[0]).toBe(true);
    await expectInOnePlace(transaction);
    if (prunes[1]) await prune(transaction, table);
    for (const index of restored) await restore(transaction, table, nameOf(index));
    if (prunes[1]) {
      // What was pruned while they were out would have been before, too.
      await prune(transaction, table);
      const after = await everythingOf(transaction, table);
      const told = (lines: readonly string[]) => lines.filter((line) => !/^(absorbed|batch|dimension) /.test(line));
      expect(told(after)).toEqual(told(before));
      expect(after.filter((line) => line.startsWith('absorbed ') && !before.includes(line))).toEqual([]);
    } else expect(await everythingOf(transaction, table)).toEqual(before);
    await expectInOnePlace(transaction);
    restoredInAll.batches += out.size;
  });
}

/** How many batches came back while properties were tried: none would prove nothing. */
export const restoredInAll = { batches: 0 };

/** With batches taken out, a history is the fold of all other changes, those that came before, between and after. */
async function isTheFoldOfTheOthers(
  { sql, table, order }: Subject,
  { scenario, loadedBefore, retracted, restored }: Retraction,
): Promise<void> {
  await rolledBack(sql, async (transaction) => {
    if (scenario.keys.flat().some(({ a }) => a === BAD)) await forbidBad(transaction, table);
    const documents = chainedDocumentsOf(scenario, table);
    const load = async (indexes: readonly number[]) => {
      for (const index of indexes) await apply(transaction, documents[index] ?? '');
    };
    await load(scenario.loading.slice(0, loadedBefore));
    const isThere = (index: number) => scenario.loading.slice(0, loadedBefore).includes(index);
    const early = retracted.filter(isThere);
    for (const index of early) await retract(transaction, table, nameOf(index));
    await load(scenario.loading.slice(loadedBefore));
    for (const index of retracted.filter((one) => !early.includes(one)))
      await retract(transaction, table, nameOf(index));
    const expected = (out: readonly number[]) =>
      expectedOf(scenario, order, (change) => isGood(change) && !out.map(nameOf).includes(change.batch));
    expect(await storedOf(transaction, table)).toEqual(expected(retracted));
    await expectInOnePlace(transaction);
    // Half of them come back.
    const back = restored.slice(0, Math.ceil(restored.length / 2));
    for (const index of back) await restore(transaction, table, nameOf(index));
    expect(await storedOf(transaction, table)).toEqual(expected(retracted.filter((one) => !back.includes(one))));
    await expectInOnePlace(transaction);
  });
}

/** Made once more from its batches, the history is the same: those that are out stay out, and come back under the keys they had. */
async function isMadeAnew({ sql, table }: Subject, { scenario, retracted, restored }: Retraction): Promise<void> {
  await rolledBack(sql, async (transaction) => {
    const documents = chainedDocumentsOf(scenario, table);
    for (const index of scenario.loading) await apply(transaction, documents[index] ?? '');
    const whole = await everythingOf(transaction, table);
    for (const index of retracted) await retract(transaction, table, nameOf(index));
    const before = await everythingOf(transaction, table);
    await transaction`select tidemark.open_replay(p_dimension_name => ${table}, p_is_locked => true)`;
    for (const document of documents)
      await transaction`select tidemark.replay_batch(p_dimension_name => ${table}, p_batch => ${document}::text::json, p_may_be_unknown => false)`;
    expect([
      ...(await transaction`select * from tidemark.compare_replay(p_dimension_name => ${table}, p_limit => 10)`),
    ]).toEqual([]);
    await transaction`select * from tidemark.adopt_replay(p_dimension_name => ${table})`;
    const told = (lines: readonly string[]) => lines.filter((line) => !line.startsWith('batch '));
    expect(told(await everythingOf(transaction, table))).toEqual(told(before));
    for (const index of restored) await restore(transaction, table, nameOf(index));
    expect(told(await everythingOf(transaction, table))).toEqual(told(whole));
    await expectInOnePlace(transaction);
  });
}

const COMES_BACK = 'a batch that is taken out and brought back leaves everything as it was, surrogate keys included';
const IS_THE_FOLD = 'without batches that were taken out, a history is the fold of all other changes';

const WHEREVER: readonly RetractionProperty[] = (
  [
    ['', {}, 60],
    [', where some batches came without some columns', { withMissingColumns: true }, 40],
    [', where changes are rejected', { withBadChanges: true }, 40],
    [', where batches come in order', { isInOrder: true, withMissingColumns: true, withBadChanges: true }, 40],
    [', where changes have capture times of their own', { withOwnTimes: 'anywhere', withMissingColumns: true }, 40],
  ] as const
).flatMap(([where, options, share]) => [
  { name: COMES_BACK + where, options, share, holds: comesBackAsItWas },
  { name: IS_THE_FOLD + where, options, share, holds: isTheFoldOfTheOthers },
]);

export const RETRACTIONS: readonly RetractionProperty[] = [
  ...WHEREVER,
  {
    name: 'a history is made anew with what was taken out of it out, and that comes back as it was',
    options: { withMissingColumns: true },
    share: 30,
    holds: isMadeAnew,
  },
];

/** Tries a property on random retractions. @returns how many keys were tried, each of them a case of its own */
export async function tryRetraction(
  { options, share, holds }: RetractionProperty,
  subject: Subject,
  parameters: { seed: number; runs: number; endOnFailure?: boolean },
): Promise<number> {
  let cases = 0;
  const { seed, runs, endOnFailure = false } = parameters;
  await fc.assert(
    fc.asyncProperty(retractions(options), (retraction) => {
      cases += retraction.scenario.keys.length;
      return holds(subject, retraction);
    }),
    { seed, numRuns: Math.ceil((runs * share) / 100), endOnFailure },
  );
  return cases;
}
