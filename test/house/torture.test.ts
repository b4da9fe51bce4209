import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ADAPTERS, CASES, allScores, fill, formatScores, type Score } from '../../bench/torture/torture.js';
import { PROJECT_ROOT } from '../../runner/base/settings.js';
import { rolledBack } from '../../runner/base/transaction.js';
import { createWarehouseDatabase, type TestDatabase } from '../support/databases.js';
import { foldOf, type Instant, type OracleChange } from '../support/oracle.js';

const HERE = path.join(PROJECT_ROOT, 'bench', 'torture');

let warehouse: TestDatabase;
let all: ReadonlyMap<string, ReadonlyMap<string, Score>>;
beforeAll(async () => {
  warehouse = await createWarehouseDatabase();
  all = await allScores(warehouse.settings);
});
afterAll(async () => {
  await warehouse.drop();
});

interface Row {
  readonly id: string;
  readonly operation: OracleChange['operation'];
  readonly effective: string | null;
  readonly captured: string;
  readonly load: number;
  readonly line: number;
  readonly a: string | null;
  readonly n: string | null;
  readonly b: string | null;
  /** What the block of the change names. */
  readonly columns: readonly string[];
}

/** A moment as the fold counts it; that of PostgreSQL's infinities is themselves. */
const instantOf = (text: string): Instant => (/^-?\d+$/.test(text) ? BigInt(text) : (text as Instant));

describe('the torture suite', () => {
  test('has cases that are whole, each with a name, a reason and both tables', () => {
    expect(CASES.length).toBeGreaterThan(50);
    const wrong = CASES.filter(({ title, blocks }) => {
      const tables = blocks.map(({ table }) => table);
      const isWhole = title !== '' && tables.includes('changes') && tables.at(-1) === 'expected';
      // Columns are told of only where each load comes once, in turn.
      return !isWhole || (tables.includes('loads') && tables.includes('columns'));
    });
    expect(wrong).toEqual([]);
    expect(CASES.map(({ name }, index) => name.startsWith(`${String(index + 1).padStart(2, '0')}-`))).not.toContain(
      false,
    );
  });

  test('is passed by Tidemark', () => {
    expect([...(all.get('tidemark') ?? [])].filter(([, score]) => score !== 'passed')).toEqual([]);
    expect(all.get('tidemark')?.size).toBe(CASES.length);
  });

  test('has a page for each adapter', () => {
    const read = (adapter: string) => readFileSync(path.join(HERE, 'adapters', `${adapter}.md`), 'utf8');
    for (const adapter of ADAPTERS)
      expect(read(adapter)).toMatch(new RegExp(`^# ${adapter}\n[\\s\\S]*What it decides`));
  });

  // Tools that others add may pass whatever they can.
  test('is passed whole by none of the four shapes, and in part by each', () => {
    for (const adapter of ['merge-on-latest', 'naive-cursor', 'row-loop', 'snapshot-compare']) {
      const found = [...(all.get(adapter)?.values() ?? [])];
      expect(found, adapter).toContain('passed');
      expect(found.filter((score) => score !== 'passed').length, adapter).toBeGreaterThan(0);
    }
  });

  test('expects what an independent fold of the same changes comes to', async () => {
    await rolledBack(warehouse.sql, async (transaction) => {
      await transaction.unsafe(readFileSync(path.join(HERE, 'prepare.sql'), 'utf8'));
      for (const each of CASES) {
        await transaction`savepoint before`;
        await fill(transaction, each);
        const rows = await transaction<Row[]>`
          select id, operation, load, line, a, n, b, columns, (extract(epoch from captured_at) * 1000000)::bigint::text as captured,
            case when isfinite(updated_at::timestamptz) then (extract(epoch from updated_at::timestamptz) * 1000000)::bigint::text else updated_at end as effective
          from torture.changes where n is distinct from 'many' order by line`;
        const renamed = await transaction<Rename[]>`select was, name from torture.columns where was <> name`;
        const expected = await transaction`
          select id::text, (extract(epoch from valid_from) * 1000000)::bigint::text as from,
            (extract(epoch from valid_to) * 1000000)::bigint::text as to, a, n, b
          from torture.expected order by id, valid_from`;
        const ids = [...new Set(rows.map(({ id }) => id))].sort();
        const folded = ids.flatMap((id) => {
          const changes = rows.filter((row) => row.id === id).map((row) => changeOf(row, renamed));
          return foldOf(changes, 'capture').versions.map(({ from, to, tracked }) => ({
            id,
            from: String(from),
            to: to === null ? null : String(to),
            a: tracked.a ?? null,
            n: tracked.n ?? null,
            b: tracked.b ?? null,
          }));
        });
        expect(folded, each.name).toEqual([...expected]);
        await transaction`rollback to before`;
      }
    });
  });

  // With ACCEPT_DOCS=1 it has them from now on.
  test('has the scores in its README', () => {
    const file = path.join(HERE, 'README.md');
    const page = readFileSync(file, 'utf8');
    const scored = page.replace(/^\| case \|[\s\S]*/m, () => formatScores(all));
    if (process.env.ACCEPT_DOCS === '1') writeFileSync(file, scored);
    else expect(page).toBe(scored);
  });
});

interface Rename {
  readonly was: string;
  readonly name: string;
}

/** A column goes by the name that it had first; one that the source did not have is absent. */
function changeOf(
  { operation, effective, captured, load, line, columns, ...values }: Row,
  renamed: readonly Rename[],
): OracleChange {
  const had = (['a', 'n', 'b'] as const).filter((name) => columns.includes(name));
  return {
    operation,
    effective: effective === null ? null : instantOf(effective),
    captured: BigInt(captured),
    sequence: null,
    batch: String(load),
    line,
    tracked: Object.fromEntries(
      had.map((name) => [renamed.find((each) => each.name === name)?.was ?? name, values[name]]),
    ),
    untracked: {},
  };
}
