import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Database, Transaction } from '../../../runner/base/database.js';
import { inTransaction } from '../../../runner/base/transaction.js';
import { apply } from '../../support/batches.js';
import { createWarehouseDatabase, type TestDatabase } from '../../support/databases.js';
import { registerDimension, type TestColumn } from '../../support/dimensions.js';
import { documentsOf, scenarios, storedOf, type Scenario } from '../../support/scenarios.js';

/** A history becomes a partitioned one and back: tidemark.begin_partitioning, tidemark.copy_versions, tidemark.complete_copy, tidemark.compare_copy, tidemark.finish_partitioning. */

const COLUMNS: readonly TestColumn[] = [
  { source: 'id', type: 'integer', role: 'business key' },
  { source: 'part', type: 'text collate "C"', role: 'business key' },
  { source: 'a', type: 'text', role: 'tracked' },
  { source: 'b', type: 'integer', role: 'tracked' },
  { source: 'u', type: 'text', role: 'untracked' },
  { source: 'w', type: 'integer', role: 'untracked' },
  { source: 'touched', type: 'timestamptz', role: 'effective time' },
];

let database: TestDatabase;
let sql: Database;
beforeAll(async () => {
  database = await createWarehouseDatabase();
  ({ sql } = database);
});
afterAll(async () => {
  await database.drop();
});

const register = (table: string, noOverlap = false) =>
  registerDimension(sql, table, table, COLUMNS, { noOverlap, partitions: 0 });

const begin = async (table: string, partitions: number) => {
  const [row] = await sql<[{ is_new: boolean }]>`select tidemark.begin_partitioning(${table}, ${partitions}) as is_new`;
  return row.is_new;
};

interface Copied {
  readonly copied_versions: string;
  readonly listed_versions: string;
}
const copy = (table: string, limit = 3) =>
  inTransaction(sql, 'isolation level repeatable read', async (transaction) => {
    const [row] = await transaction<[Copied]>`select * from tidemark.copy_versions(${table}, ${limit})`;
    return row;
  });

const one = async <T>(call: string, table: string, on: Database | Transaction = sql): Promise<T> => {
  const [row] = await on.unsafe<[{ value: T }]>(`select tidemark.${call}($1) as value`, [table]);
  return row.value;
};

/** From where the copy is until it has taken the place of the history. */
async function finish(table: string): Promise<void> {
  while ((await copy(table)).copied_versions !== '0');
  while (await one<boolean>('complete_copy', table));
  await one('compare_copy', table);
  await one('finish_partitioning', table);
}

const keysOf = async (table: string) => {
  const rows = await sql.unsafe<{ place: string; surrogate_key: string }[]>(
    `select concat_ws(' ', id, part, batch_id, change_line) as place, surrogate_key from dim_${table}_history`,
  );
  return new Map(rows.map(({ place, surrogate_key: key }) => [place, key]));
};

const partitionsOf = async (table: string) => {
  const [row] = await sql<[{ count: number }]>`
    select count(*)::integer as count from pg_inherits where inhparent = ${`dim_${table}_history`}::text::regclass`;
  return row.count;
};

/** What happens to a history meanwhile, of both at once. */
type Step = 'copy' | 'load' | 'retract' | 'restore' | 'complete' | 'rename' | 'delete';

async function happen(step: Step, table: string, twin: string, next: () => string | undefined, number: number) {
  if (step === 'copy') await copy(table, 1 + (number % 4));
  if (step === 'complete') await one('complete_copy', table);
  const document = step === 'load' ? next() : undefined;
  for (const each of [table, twin]) {
    if (document !== undefined) await apply(sql, document.replaceAll(`"table":"${table}"`, `"table":"${each}"`));
    const [batch] = await sql<{ batch_id: string }[]>`
      select batch_id from tidemark.batches where dimension_name = ${each} order by batch_id offset ${number % 3} limit 1`;
    if (step === 'retract' && batch !== undefined)
      await sql`select tidemark.retract_batch(${each}, ${batch.batch_id}, 'it was wrong')`;
    if (step === 'restore' && batch !== undefined) await sql`select tidemark.restore_batch(${each}, ${batch.batch_id})`;
    // A key becomes another, as where a shell takes its place.
    if (step === 'rename')
      await sql.unsafe(`update dim_${each}_history set part = part || '~' where id = ${String(number % 5)}`);
    // Forgotten, say.
    if (step === 'delete') await sql.unsafe(`delete from dim_${each}_history where id % 4 = ${String(number % 4)}`);
  }
}

const steps = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: fc.constant<Step>('copy') },
    { weight: 5, arbitrary: fc.constant<Step>('load') },
    { weight: 3, arbitrary: fc.constantFrom<Step>('retract', 'restore', 'rename', 'delete', 'complete') },
  ),
  { minLength: 8, maxLength: 16 },
);

describe('a history whose copy is made while it is written', () => {
  it('is in the end what one is of which no copy was made, whatever happens between which steps, there and back', async () => {
    const seed = Number(process.env.TEST_SEED ?? '18');
    const runs = fc.sample(fc.tuple(scenarios({ maxKeys: 12 }), steps, steps), {
      seed,
      numRuns: Number(process.env.TEST_RUNS ?? '3'),
    });
    let seen = 0;
    for (const [index, [scenario, there, back]] of runs.entries()) {
      const [table, twin] = [`parted_${String(index)}`, `plain_${String(index)}`];
      await register(table, index === 0);
      await register(twin);
      const next = documentsInTurn(scenario, table);
      await happen('load', table, twin, next, 0);
      for (const [partitions, way] of [
        [3, there],
        [0, back],
      ] as const) {
        const before = await keysOf(table);
        await begin(table, partitions);
        for (const [number, step] of way.entries()) await happen(step, table, twin, next, number);
        await finish(table);
        expect(await partitionsOf(table)).toBe(partitions);
        seen += before.size;
        expect(await storedOf(sql, table)).toEqual(await storedOf(sql, twin));
        const after = await keysOf(table);
        expect([...before].filter(([place, key]) => (after.get(place) ?? key) !== key)).toEqual([]);
        expect(new Set(after.values()).size).toBe(after.size);
      }
      for (let document = next(); document !== undefined; document = next())
        for (const each of [table, twin])
          await apply(sql, document.replaceAll(`"table":"${table}"`, `"table":"${each}"`));
      expect(await storedOf(sql, table)).toEqual(await storedOf(sql, twin));
    }
    expect(seen).toBeGreaterThan(0);
  });
});

function documentsInTurn(scenario: Scenario, table: string): () => string | undefined {
  const documents = documentsOf(scenario, table);
  let place = 0;
  return () => documents[scenario.loading[place++] ?? -1];
}
