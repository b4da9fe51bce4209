import fc from 'fast-check';
import type { Database, Transaction } from '../../runner/base/database.js';
import { batch, type Change } from './batches.js';
import { foldOf, type ChangeOrder, type Instant, type OracleChange, type Values } from './oracle.js';

/**
 * Random change sets for the property tests. A scenario is a list of batches and the order in which they are loaded; every key
 * that it has is a case of its own, so that one round trip to the database tries many. Few times, few values: most collide.
 */

export const NINE = 1769936400000000n; // 2026-02-01T09:00:00Z

export interface ToldChange {
  /** Index of its batch, and its place among the lines there. */
  readonly batch: number;
  readonly weight: number;
  readonly operation: OracleChange['operation'];
  readonly effective: Instant | null;
  /** Microseconds from the capture of its batch to its own; null: it states none of its own; undefined: it repeats its batch's. */
  readonly after: bigint | null | undefined;
  readonly a: string | null;
  readonly b: string | null;
  readonly u: string | null;
  readonly w: string | null;
}

export interface ToldBatch {
  readonly captured: bigint;
  readonly hasSequence: boolean;
  /** Columns that the batch came without. */
  readonly lacks: readonly string[];
}

export interface Scenario {
  readonly batches: readonly ToldBatch[];
  /** Indexes of batches, each at least once, in the order of loading. */
  readonly loading: readonly number[];
  readonly keys: readonly (readonly ToldChange[])[];
}

export interface ScenarioOptions {
  readonly withMissingColumns?: boolean;
  /** All batches of one instant. */
  readonly isOneInstant?: boolean;
  /** Each batch once, in the order of capture. */
  readonly isInOrder?: boolean;
  /** Changes have capture times of their own: before, within and after those of other batches, or never before what is in batches before. */
  readonly withOwnTimes?: 'anywhere' | 'rising';
  /** No document from outside the chain. */
  readonly isOfChain?: boolean;
  /** Some changes say BAD, which a rule of the history table may forbid. */
  readonly withBadChanges?: boolean;
  /** At most so many keys; 60 by default. */
  readonly maxKeys?: number;
}

const micro = (max: number) => fc.integer({ min: 0, max }).map(BigInt);

const times: fc.Arbitrary<Instant | null> = fc.oneof(
  { weight: 6, arbitrary: micro(6).map((step) => NINE + step) },
  { weight: 3, arbitrary: micro(8).map((step) => NINE + step * 1_000_000n) },
  { weight: 1, arbitrary: fc.constantFrom<Instant | null>('infinity', '-infinity', null) },
);

/** From one batch to the next where own times rise: a change may come as late as the next batch begins. */
const STEP = 3_000_000n;

const ownTime = ({ withOwnTimes }: ScenarioOptions): fc.Arbitrary<bigint | null | undefined> => {
  if (withOwnTimes === undefined) return fc.constant(undefined);
  if (withOwnTimes === 'rising') return fc.constantFrom(null, undefined, 0n, 1n, 1_000_000n, 2_000_000n, STEP);
  const offset = (unit: bigint) => fc.integer({ min: -6, max: 6 }).map((steps) => BigInt(steps) * unit);
  return fc.oneof(
    { weight: 1, arbitrary: fc.constantFrom(null, undefined) },
    { weight: 3, arbitrary: offset(1n) },
    { weight: 3, arbitrary: offset(1_000_000n) },
  );
};

const value = (...values: (string | null)[]) => fc.constantFrom(...values);

export const BAD = 'BAD';

const changeOf = (batches: number, options: ScenarioOptions): fc.Arbitrary<ToldChange> =>
  fc.record({
    batch: fc.integer({ min: 0, max: batches - 1 }),
    weight: fc.integer({ min: 0, max: 9 }),
    operation: fc.constantFrom('INSERT', 'UPDATE', 'UPDATE', 'DELETE'),
    effective: times,
    after: ownTime(options),
    a: options.withBadChanges === true ? value('x', 'x', 'y', BAD) : value('x', 'x', 'y', null),
    b: value('1', '1', '2', null),
    u: value('p', 'q', null),
    w: value('7', '8'),
  });

export const scenarios = (options: ScenarioOptions = {}): fc.Arbitrary<Scenario> =>
  fc.integer({ min: 1, max: 6 }).chain((count) =>
    fc.record({
      batches: fc
        .array(batchOf(options), { minLength: count, maxLength: count })
        .map((batches) => inSequence(batches, options)),
      loading:
        options.isInOrder === true
          ? fc.constant([...Array(count).keys()])
          : fc
              .tuple(
                fc.shuffledSubarray([...Array(count).keys()], { minLength: count }),
                fc.array(fc.integer({ min: 0, max: count - 1 }), { maxLength: 3 }),
              )
              .map(([all, again]) => [...all, ...again]),
      keys: fc.array(fc.array(changeOf(count, options), { minLength: 1, maxLength: 9 }), {
        minLength: 1,
        maxLength: options.maxKeys ?? 60,
        size: 'max',
      }),
    }),
  );

const batchOf = (options: ScenarioOptions): fc.Arbitrary<ToldBatch> =>
  fc.record({
    captured:
      options.isOneInstant === true
        ? fc.constant(NINE + 5_000_000n)
        : fc.oneof(
            { weight: 2, arbitrary: micro(8).map((step) => NINE + step) },
            { weight: 2, arbitrary: micro(9).map((step) => NINE + step * 1_000_000n) },
          ),
    hasSequence:
      options.isOneInstant === true || options.isOfChain === true
        ? fc.constant(true)
        : fc.integer({ min: 0, max: 3 }).map((n) => n > 0),
    lacks:
      options.withMissingColumns === true
        ? fc.oneof(
            { weight: 2, arbitrary: fc.constant<string[]>([]) },
            { weight: 1, arbitrary: fc.subarray(['b', 'u'], { minLength: 1 }) },
          )
        : fc.constant([]),
  });

/** Sequences run with the captures, as in any chain. */
const inSequence = (batches: readonly ToldBatch[], { withOwnTimes }: ScenarioOptions) =>
  withOwnTimes === 'rising'
    ? batches.map((one, index) => ({ ...one, captured: NINE + BigInt(index) * STEP }))
    : [...batches].sort((a, b) => (a.captured < b.captured ? -1 : a.captured > b.captured ? 1 : 0));

export const iso = (time: Instant): string => {
  if (typeof time === 'string') return time;
  return `${new Date(Number(time / 1000n)).toISOString().slice(0, 19)}.${String(time % 1_000_000n).padStart(6, '0')}`;
};

/** Names run against the sequences, so that an order by name would show. */
export const nameOf = (index: number): string => `b${String(9 - index)}`;

interface Line {
  readonly key: number;
  readonly told: ToldChange;
}

const linesOf = (scenario: Scenario, index: number): Line[] =>
  scenario.keys
    .flatMap((changes, key) => changes.filter((told) => told.batch === index).map((told) => ({ key, told })))
    .sort((one, other) => one.told.weight - other.told.weight);

/** The capture time of a change. */
const capturedOf = ({ batches }: Scenario, { batch: index, after }: ToldChange): bigint =>
  (batches[index]?.captured ?? NINE) + (after ?? 0n);

/** The capture time of the earliest change of a batch; of one without changes, its own. */
export const earliestOf = (scenario: Scenario, index: number): bigint =>
  linesOf(scenario, index)
    .map((line) => capturedOf(scenario, line.told))
    .reduce<bigint | undefined>((least, one) => (least === undefined || one < least ? one : least), undefined) ??
  scenario.batches[index]?.captured ??
  NINE;

/** A line as it stands in its document. */
function lineOf(scenario: Scenario, line: Line, lacks: readonly string[]): Change | string {
  const columns = columnsOf(line, lacks);
  if (line.told.after === null) return JSON.stringify(columns);
  return line.told.after === undefined
    ? columns
    : { ...columns, extracted_at: `${iso(capturedOf(scenario, line.told))}Z` };
}

function columnsOf({ told, key }: Line, lacks: readonly string[]): Change {
  const { operation, effective, a, b, u, w } = told;
  const identity = {
    id: key,
    part: `k ${String(key % 2)}`,
    operation_type: operation,
    cdc_timestamp: effective === null ? null : `${iso(effective)}${typeof effective === 'bigint' ? 'Z' : ''}`,
  };
  if (operation === 'DELETE') return identity;
  return Object.fromEntries(
    Object.entries({ ...identity, a, b: b === null ? null : Number(b), u, w: Number(w) }).filter(
      ([name]) => !lacks.includes(name),
    ),
  );
}

const STATED = ['id', 'part', 'a', 'b', 'u', 'w', 'touched'];

/** The documents of a scenario, by index of their batch. */
export function documentsOf(scenario: Scenario, table: string): string[] {
  return scenario.batches.map(({ captured, hasSequence, lacks }, index) =>
    batch(
      nameOf(index),
      iso(captured),
      linesOf(scenario, index).map((line) => lineOf(scenario, line, lacks)),
      { table, sequence: hasSequence ? index + 1 : null, columns: STATED.filter((name) => !lacks.includes(name)) },
    ),
  );
}

/**
 * The documents of a scenario whose table is cut into three shards by key; each third batch is one of the whole table, as a repair is.
 * In an order of loading that no chain has: shards turn by turn, forth and back.
 */
export function shardedDocumentsOf(scenario: Scenario, table: string): string[] {
  const documents = scenario.batches.map(({ captured, hasSequence, lacks }, index) =>
    (index % 3 === 2 ? [''] : ['1-of-3', '2-of-3', '3-of-3']).map((shard) =>
      batch(
        shard === '' ? nameOf(index) : `${nameOf(index)}-${shard}`,
        iso(captured),
        linesOf(scenario, index)
          .filter(({ key }) => shard === '' || shard === `${String((key % 3) + 1)}-of-3`)
          .map((line) => lineOf(scenario, line, lacks)),
        {
          table,
          shard,
          sequence: hasSequence ? index + 1 : null,
          columns: STATED.filter((name) => !lacks.includes(name)),
        },
      ),
    ),
  );
  const turns = scenario.loading.flatMap((index, turn) => [
    { index, shard: turn % 3 },
    { index: scenario.loading.at(-1 - turn) ?? index, shard: (turn + 1) % 3 },
    { index, shard: (turn + 2) % 3 },
  ]);
  const rest = scenario.batches.flatMap((_, index) => [2, 0, 1].map((shard) => ({ index, shard })));
  return [...turns, ...rest].flatMap(
    ({ index, shard }) => documents[index]?.[documents[index].length === 1 ? 0 : shard] ?? [],
  );
}

/** The same documents, each of the chain naming the one before it. */
export function chainedDocumentsOf(scenario: Scenario, table: string): string[] {
  let previous: string | null = null;
  return documentsOf(scenario, table).map((document, index) => {
    if (scenario.batches[index]?.hasSequence !== true) return document;
    const chained = document.replace(
      '"watermark":null',
      `"watermark":null,"previous_checksum":${JSON.stringify(previous)}`,
    );
    previous = (JSON.parse(document) as { batch_metadata: { checksum: string } }).batch_metadata.checksum;
    return chained;
  });
}

const told = (values: Record<string, string | null>, lacks: readonly string[]): Values =>
  Object.fromEntries(Object.entries(values).filter(([name]) => !lacks.includes(name)));

/** The changes of each key, as the oracle wants them. */
function changesOf(scenario: Scenario): OracleChange[][] {
  const byKey: OracleChange[][] = scenario.keys.map(() => []);
  for (const [index, { hasSequence, lacks }] of scenario.batches.entries()) {
    for (const [line, { key, told: one }] of linesOf(scenario, index).entries())
      byKey[key]?.push({
        operation: one.operation,
        effective: one.effective,
        captured: capturedOf(scenario, one),
        sequence: hasSequence ? index + 1 : null,
        batch: nameOf(index),
        line: line + 1,
        tracked: told({ a: one.a, b: one.b }, lacks),
        untracked: told({ u: one.u, w: one.w }, lacks),
      });
  }
  return byKey;
}

const text = (value: bigint | string | null | undefined) =>
  value === null || value === undefined ? '' : String(value);

/** What the warehouse must hold, a line of text for each version and each absorbed change. */
export function expectedOf(
  scenario: Scenario,
  order: ChangeOrder,
  isApplied: (change: OracleChange) => boolean = () => true,
): string[] {
  return changesOf(scenario)
    .flatMap((changes, key) => {
      const { versions, absorbed } = foldOf(changes.filter(isApplied), order);
      return [
        ...versions.map((one) =>
          [
            'version',
            key,
            one.place,
            one.operation,
            text(one.from),
            text(one.to),
            text(one.tracked.a),
            text(one.tracked.b),
            text(one.untracked.u),
            text(one.untracked.w),
          ].join('|'),
        ),
        ...absorbed.map((one) => ['absorbed', key, one.place, one.reason, text(one.closedAt)].join('|')),
      ];
    })
    .sort();
}

/**
 * All changes in one batch, in the order of their batches. For scenarios of one instant, or whose changes have capture times of their own, all of
 * one chain: there it makes no difference to the fold.
 */
export const inOneBatch = (scenario: Scenario): Scenario => ({
  batches: scenario.batches.slice(0, 1),
  loading: [0],
  keys: scenario.keys.map((changes) =>
    changes.map((told) => ({
      ...told,
      batch: 0,
      weight: told.batch * 10 + told.weight,
      after: capturedOf(scenario, told) - (scenario.batches[0]?.captured ?? NINE),
    })),
  ),
});

/** Lines without the place of the change in its batch, to compare histories of the same changes in other batches. */
export const withoutPlaces = (lines: readonly string[]): string[] =>
  lines
    .map((line) =>
      line
        .split('|')
        .filter((_, index) => index !== 2)
        .join('|'),
    )
    .sort();

/** The same lines, as the warehouse has them. */
export async function storedOf(sql: Database | Transaction, table: string): Promise<string[]> {
  const [row] = await sql.unsafe<[{ lines: string[] | null }]>(`
    select array_agg(l.line) as lines from (
      select concat_ws('|', 'version', id, batch_id || ':' || change_line, cdc_operation, (extract(epoch from valid_from) * 1000000)::bigint,
        coalesce((extract(epoch from valid_to) * 1000000)::bigint::text, ''), coalesce(a, ''), coalesce(b::text, ''), coalesce(u, ''), coalesce(w::text, '')) as line
      from public.dim_${table}_history
      union all
      select concat_ws('|', 'absorbed', business_key::json ->> 'id', batch_id || ':' || change_line, reason, coalesce((extract(epoch from closed_at) * 1000000)::bigint::text, ''))
      from tidemark.absorbed_changes where dimension_name = '${table}'
    ) as l`);
  return (row.lines ?? []).sort();
}
