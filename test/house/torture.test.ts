import { readFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ADAPTERS, CASES, fill, formatScores, scores, type Score } from '../../bench/torture/torture.js';
import { PROJECT_ROOT } from '../../runner/base/settings.js';
import { rolledBack } from '../../runner/base/transaction.js';
import { createWarehouseDatabase, type TestDatabase } from '../support/databases.js';
import { foldOf, type Instant, type OracleChange } from '../support/oracle.js';

const HERE = path.join(PROJECT_ROOT, 'bench', 'torture');

let warehouse: TestDatabase;
const all = new Map<string, ReadonlyMap<string, Score>>();
beforeAll(async () => {
  warehouse = await createWarehouseDatabase();
  for (const adapter of ADAPTERS) all.set(adapter, await scores(warehouse.sql, adapter));
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
}

/** A moment as the fold counts it; that of PostgreSQL's infinities is themselves. */
const instantOf = (text: string): Instant => (/^-?\d+$/.test(text) ? BigInt(text) : (text as Instant));

describe('the torture suite', () => {
  test('has cases that are whole, each with a name, a reason and both tables', () => {
    expect(CASES.length).toBeGreaterThan(30);
    const wrong = CASES.filter(({ title, changes, expected }) => title === '' || changes === '' || expected === '');
    expect(wrong).toEqual([]);
    expect(CASES.map(({ name }, index) => name.startsWith(`${String(index + 1).padStart(2, '0')}-`))).not.toContain(
      false,
    );
  });

  test('is passed by Tidemark', () => {
    expect([...(all.get('tidemark') ?? [])].filter(([, score]) => score !== 'passed')).toEqual([]);
    expect(all.get('tidemark')?.size).toBe(CASES.length);
  });

  test('is passed whole by no other shape, and in part by each', () => {
    for (const adapter of ADAPTERS.filter((name) => name !== 'tidemark')) {
      const found = [...(all.get(adapter)?.values() ?? [])];
      expect(found, adapter).toContain('passed');
      expect(found.filter((score) => score !== 'passed').length, adapter).toBeGreaterThan(0);
    }
  });

  test('expects what an independent fold of the same changes comes to', async () => {
    await rolledBack(warehouse.sql, async (transaction) => {
      await transaction.unsafe(readFileSync(path.join(HERE, 'prepare.sql'), 'utf8'));
      for (const each of CASES) {
        await transaction`truncate torture.changes, torture.expected restart identity`;
        await fill(transaction, each);
        const rows = await transaction<Row[]>`
          select id, operation, load, line, a, n, (extract(epoch from captured_at) * 1000000)::bigint::text as captured,
            case when isfinite(updated_at::timestamptz) then (extract(epoch from updated_at::timestamptz) * 1000000)::bigint::text else updated_at end as effective
          from torture.changes where n is distinct from 'many' order by line`;
        const expected = await transaction`
          select id::text, (extract(epoch from valid_from) * 1000000)::bigint::text as from,
            (extract(epoch from valid_to) * 1000000)::bigint::text as to, a, n
          from torture.expected order by id, valid_from`;
        const ids = [...new Set(rows.map(({ id }) => id))].sort();
        const folded = ids.flatMap((id) =>
          foldOf(rows.filter((row) => row.id === id).map(changeOf), 'capture').versions.map((version) => ({
            id,
            from: String(version.from),
            to: version.to === null ? null : String(version.to),
            ...version.tracked,
          })),
        );
        expect(folded, each.name).toEqual([...expected]);
      }
    });
  });

  test('has the scores in its README', () => {
    expect(readFileSync(path.join(HERE, 'README.md'), 'utf8')).toContain(formatScores(all));
  });
});

function changeOf({ operation, effective, captured, load, line, a, n }: Row): OracleChange {
  return {
    operation,
    effective: effective === null ? null : instantOf(effective),
    captured: BigInt(captured),
    sequence: null,
    batch: String(load),
    line,
    tracked: { a, n },
    untracked: {},
  };
}
