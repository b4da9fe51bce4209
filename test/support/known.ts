import fc from 'fast-check';
import { expect } from 'vitest';
import type { Database } from '../../runner/base/database.js';
import { apply, compile, rolledBack, type TestTransaction } from './batches.js';
import type { Subject } from './properties.js';
import { BAD, chainedDocumentsOf, scenarios, type Scenario, type ScenarioOptions } from './scenarios.js';

/**
 * What was known when, tried on random histories: after every step the history is copied, with the moment. At the end each copy must be what
 * the as-known functions answer for that moment, row for row: it is what a warehouse holds that had taken exactly those steps.
 */

export type Step = 'prune' | 'dismiss' | 'take back' | 'retry' | 'allow' | 'rebuild' | 'retract' | 'restore';

export interface KnownScenario {
  readonly scenario: Scenario;
  /** What is done after each batch. */
  readonly steps: readonly (Step | null)[];
  readonly ending: readonly Step[];
}

export interface KnownProperty {
  readonly name: string;
  readonly options: ScenarioOptions;
  readonly steps: readonly Step[];
  /** What is done in the end, in this order. */
  readonly ending?: readonly Step[];
  /** How many runs it gets, of each hundred. */
  readonly share: number;
}

export const KNOWN_PROPERTIES: readonly KnownProperty[] = [
  {
    name: 'batches in whatever order, without some columns, taken out and made anew',
    options: { withMissingColumns: true },
    steps: ['rebuild', 'retract', 'retract', 'restore'],
    share: 50,
  },
  {
    name: 'changes that were rejected, dismissed and tried again',
    options: { withBadChanges: true, maxKeys: 15 },
    steps: ['dismiss', 'take back', 'retry', 'allow', 'retry'],
    share: 40,
  },
  {
    name: 'histories that were pruned and made anew',
    options: { isInOrder: true, withMissingColumns: true, withBadChanges: true, maxKeys: 15 },
    steps: ['prune', 'prune', 'allow', 'retry', 'retry', 'rebuild'],
    ending: ['allow', 'retry', 'prune'],
    share: 50,
  },
  {
    name: 'everything at once, with capture times of their own',
    options: { withMissingColumns: true, withBadChanges: true, maxKeys: 15, withOwnTimes: 'anywhere' },
    steps: ['prune', 'dismiss', 'retry', 'allow', 'rebuild', 'retract', 'retract', 'restore'],
    share: 40,
  },
];

export const knownScenarios = ({ options, steps, ending = [] }: KnownProperty): fc.Arbitrary<KnownScenario> =>
  scenarios(options).chain((scenario) =>
    fc.record({
      scenario: fc.constant(scenario),
      steps: fc.array(fc.constantFrom(null, ...steps), {
        minLength: scenario.loading.length,
        maxLength: scenario.loading.length,
      }),
      ending: fc.constant(ending),
    }),
  );

/** A history under watch: copies of it, each with its moment. */
export class Watch {
  private copies = 0;

  constructor(
    private readonly transaction: TestTransaction,
    private readonly table: string,
    private readonly keys: string,
  ) {}

  /** Copies the history as it is now. */
  async look(): Promise<void> {
    if (this.copies === 0)
      await this.transaction.unsafe(`
        create temporary table moment on commit drop as select clock_timestamp() as known, clock_timestamp() as since limit 0;
        create temporary table seen on commit drop as select clock_timestamp() as known, h.* from public.dim_${this.table}_history as h limit 0`);
    this.copies += 1;
    await this.transaction.unsafe(`
      insert into moment select clock_timestamp();
      insert into seen select (select max(known) from moment), h.* from public.dim_${this.table}_history as h`);
  }

  /** Compares all copies with what is told of their moments now. @returns how many keys at how many moments were compared */
  async compare(): Promise<number> {
    const history = `dim_${this.table}_history`;
    const rows = (from: string) =>
      `select k.known, ((to_jsonb(${from}) - '{known,surrogate_key,created_at,updated_at}'::text[])::text) as row`;
    const [told] = await this.transaction.unsafe<[{ cases: string; since: string | null; wrong: unknown[] | null }]>(`
      with known as (
        select m.known from moment as m, tidemark.dimensions as d
        where d.dimension_name = '${this.table}' and m.known >= coalesce(d.pruned_known_at, '-infinity')
      ),
      asked as (select ${this.keys} from seen union select ${this.keys} from public.${history}),
      valid as (
        select k.known, v.valid from known as k
        cross join lateral (
          select s.valid_from as valid from seen as s where s.known = k.known order by md5(s.valid_from::text || s.known) limit 1
        ) as v
        union all select k.known, 'infinity' from known as k
      ),
      seen_then as (${rows('s')} from known as k join seen as s using (known)),
      told_now as (${rows('h')} from known as k cross join asked as c cross join lateral tidemark.known_${this.table}(k.known, ${this.keys}) as h),
      seen_of as (
        select v.valid, r.* from valid as v cross join lateral (
          ${rows('s')} from seen as s join known as k using (known)
          where s.known = v.known and s.valid_from <= v.valid and (s.valid_to > v.valid or s.valid_to is null)
        ) as r
      ),
      told_of as (
        select v.valid, r.* from valid as v cross join lateral (
          ${rows('h')} from public.${history}_as_known(v.valid, v.known) as h cross join (select v.known) as k
        ) as r
      ),
      wrong as (
        select 'seen' as what, null::timestamptz as valid, w.* from (table seen_then except all table told_now) as w
        union all select 'told', null, w.* from (table told_now except all table seen_then) as w
        union all select 'seen', w.* from (table seen_of except all table told_of) as w
        union all select 'told', w.* from (table told_of except all table seen_of) as w
      )
      select (select count(*) from known, asked) as cases,
        (select d.pruned_known_at from tidemark.dimensions as d where d.dimension_name = '${this.table}')::text as since,
        (select json_agg(w.* order by w.known, w.row) from wrong as w) as wrong`);
    expect(told.wrong).toBeNull();
    if (told.since !== null) {
      const error = await this.transaction
        .savepoint((point) =>
          point.unsafe(
            `select from public.${history}_as_known('infinity', timestamptz '${told.since ?? ''}' - interval '1 microsecond')`,
          ),
        )
        .catch((caught: unknown) => (caught as { code?: string }).code);
      expect(error).toBe('TM028');
    }
    return Number(told.cases);
  }
}

/** @returns how many cases were tried: keys, at moments */
const isToldAsItWasKnown = ({ sql, table }: Subject, known: KnownScenario): Promise<number> =>
  rolledBack(sql, async (transaction) => {
    const watch = new Watch(transaction, table, 'id, part');
    await play(transaction, table, known, () => watch.look());
    return watch.compare();
  });

/** Loads batches and does what is to be done after each, and in the end; `look` is called after each step. */
export async function play(
  transaction: TestTransaction,
  table: string,
  { scenario, steps, ending }: KnownScenario,
  look: (step: Step | 'load') => Promise<void>,
): Promise<void> {
  const documents = chainedDocumentsOf(scenario, table);
  const loaded = new Set<string>();
  let isRebuilt = false;
  for (const [turn, index] of scenario.loading.entries()) {
    const document = documents[index] ?? '';
    const isRefused = await transaction
      .savepoint((point) => apply(point, document))
      .then(
        () => false,
        (error: unknown) => {
          if ((error as { code?: string }).code !== 'TM018') throw error;
          return true;
        },
      );
    if (!isRefused) loaded.add(document);
    await look('load');
    const step = steps[turn] ?? null;
    if (step === null || (step === 'rebuild' && isRebuilt)) continue;
    isRebuilt ||= step === 'rebuild';
    // A rebuild finds a file, too, that nobody has loaded yet.
    await STEPS[step](transaction, table, [...new Set([...loaded, documents.at(-1) ?? ''])]);
    await look(step);
  }
  for (const step of ending) {
    await STEPS[step](transaction, table, [...loaded]);
    await look(step);
  }
}

const STEPS: Record<
  Step,
  (transaction: TestTransaction, table: string, documents: readonly string[]) => Promise<unknown>
> = {
  prune,
  dismiss: (transaction, table) =>
    transaction`select tidemark.dismiss_rejected(p_dimension_name => ${table}, p_batch_id => null, p_change_line => 1, p_reason => 'test')`,
  'take back': (transaction, table) =>
    transaction`select tidemark.dismiss_rejected(p_dimension_name => ${table}, p_batch_id => null, p_change_line => null, p_reason => null)`,
  retry,
  allow: allowBad,
  // One that holds something captured before what was pruned is refused.
  retract: (transaction, table) => transaction`
    select tidemark.retract_batch(p_dimension_name => ${table}, p_batch_id => b.batch_id, p_reason => 'test')
    from (
      select b.batch_id
      from tidemark.batches as b
      join tidemark.dimensions as d using (dimension_name)
      where b.dimension_name = ${table} and b.retracted_at is null and (b.least_captured_at < d.pruned_before) is not true
      order by md5(b.batch_id || b.applied_at) limit 1
    ) as b`,
  restore: (transaction, table) => transaction`
    select tidemark.restore_batch(p_dimension_name => ${table}, p_batch_id => b.batch_id)
    from (select b.batch_id from tidemark.batches as b where b.dimension_name = ${table} and b.retracted_at is not null) as b`,
  rebuild: async (transaction, table, documents) => {
    await transaction`select tidemark.open_replay(p_dimension_name => ${table}, p_is_locked => true)`;
    for (const document of documents)
      await transaction`select tidemark.replay_batch(p_dimension_name => ${table}, p_batch => ${document}::text::json, p_may_be_unknown => true)`;
    await transaction`select * from tidemark.adopt_replay(p_dimension_name => ${table})`;
  },
};

const historyOf = (table: string) => `public.dim_${table}_history`;

/** Does `work` while a rule of a history forbids BAD, which goes by a setting: to give it up (allowBad) makes no function anew. */
export async function whileBadIsForbidden<T>(sql: Database, table: string, work: () => Promise<T>): Promise<T> {
  await sql.unsafe(`
    alter table ${historyOf(table)} add constraint nothing_bad
      check (a is distinct from '${BAD}' or coalesce(current_setting('test.allows_bad', true), '') = 'yes')`);
  await compile(sql, table);
  try {
    return await work();
  } finally {
    await sql.unsafe(`alter table ${historyOf(table)} drop constraint nothing_bad`);
    await compile(sql, table);
  }
}

export async function allowBad(transaction: TestTransaction): Promise<void> {
  // A cluster takes the setting to its nodes.
  await transaction.unsafe("set local citus.propagate_set_commands to 'local'; set local test.allows_bad to 'yes'");
}

export async function prune(transaction: TestTransaction, table: string): Promise<void> {
  await transaction`select from tidemark.prune_absorbed_changes(p_dimension_name => ${table}, p_before => 'infinity', p_limit => 1000000)`;
}

export async function retry(transaction: TestTransaction, table: string): Promise<void> {
  await transaction`select from tidemark.retry_rejected(p_dimension_name => ${table})`;
}

/** Tries a property on random histories. @returns how many cases were tried: keys, at moments */
export async function tryKnown(
  property: KnownProperty,
  subject: Subject,
  { seed, runs, endOnFailure = false }: { seed: number; runs: number; endOnFailure?: boolean },
): Promise<number> {
  let cases = 0;
  await whileBadIsForbidden(subject.sql, subject.table, () =>
    fc.assert(
      fc.asyncProperty(knownScenarios(property), async (one) => {
        cases += await isToldAsItWasKnown(subject, one);
      }),
      { seed, numRuns: Math.ceil((runs * property.share) / 100), endOnFailure },
    ),
  );
  return cases;
}
