// Runs on each version: the examples are for any.
import { execSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import type { RowList } from 'postgres';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { PROJECT_ROOT } from '../../runner/base/settings.js';
import { createWarehouseDatabase, type TestDatabase } from '../support/databases.js';
import { applyWorkedExample } from '../support/worked-example.js';

/** Pages of SQL: their examples run in their order, and give the rows that are shown; those of docs/sql-api.md on the worked example. */

const pageOf = (name: string): string => readFileSync(path.join(PROJECT_ROOT, 'docs', name), 'utf8');
const page = pageOf('sql-api.md');

let warehouse: TestDatabase;
let empty: TestDatabase;
beforeAll(async () => {
  warehouse = await createWarehouseDatabase();
  await applyWorkedExample(warehouse.sql);
  empty = await createWarehouseDatabase();
});
afterAll(async () => {
  await warehouse.drop();
  await empty.drop();
});

const cellsOf = (line: string): string =>
  line
    .split('|')
    .map((cell) => cell.trim())
    .join(' | ');

/** What psql sends of it: a variable that is set to the output of a command stands in it as a literal. */
function sentBy(example: string): string {
  const [set = '', name = '', command = ''] = /^\\set (\w+) `(.*)`\n/.exec(example) ?? [];
  const value = () => `'${execSync(command, { cwd: PROJECT_ROOT, encoding: 'utf8' }).replaceAll("'", "''")}'`;
  return set === '' ? example : example.replace(set, '').replace(`:'${name}'`, value);
}

/** Names and rows of a result as psql shows them, without the blanks that line them up. */
function linesOf(rows: RowList<Record<string, string | number | boolean | null>[]>): string[] {
  const names = rows.columns.map(({ name }) => name);
  const shown = (value: string | number | boolean | null | undefined) =>
    typeof value === 'boolean'
      ? value
        ? 't'
        : 'f'
      : Array.isArray(value)
        ? `{${value.join(',')}}`
        : String(value ?? '');
  return [names.join(' | '), ...rows.map((row) => names.map((name) => shown(row[name])).join(' | '))];
}

const examplesOf = (text: string) =>
  [...text.matchAll(/```sql\n([\s\S]*?)```\n\n```text\n([\s\S]*?)```/g)].map(([, statement = '', result = '']) => ({
    statement,
    result,
  }));

type Rows = RowList<Record<string, string | number | boolean | null>[]>;

/** What the last of the statements of an example returns, and what the page shows. */
async function compare(database: TestDatabase, statement: string, result: string): Promise<void> {
  const shown = result
    .trimEnd()
    .split('\n')
    .filter((line) => !/^[-+]+$/.test(line))
    .map(cellsOf);
  const found: Rows | Rows[] = await database.sql.unsafe(sentBy(statement));
  const last = 'columns' in found ? found : found.at(-1);
  expect(last === undefined ? [] : linesOf(last)).toEqual(shown);
}

const EXAMPLES = examplesOf(page);
const FACTS = pageOf('facts-and-dimensions.md');

describe('docs/facts-and-dimensions.md', () => {
  test.each(examplesOf(FACTS))('gives what it shows: $statement', async ({ statement, result }) => {
    await compare(empty, statement, result);
  });

  test('shows the result of each example', () => {
    expect(examplesOf(FACTS)).toHaveLength((FACTS.split('\n```').length - 1) / 4);
  });
});

describe('docs/sql-api.md', () => {
  test.each(EXAMPLES)('gives what it shows: $statement', async ({ statement, result }) => {
    await compare(warehouse, statement, result);
  });

  test('shows the result of each example, and has no other blocks', () => {
    expect(EXAMPLES).toHaveLength((page.split('\n```').length - 1) / 4);
    expect(EXAMPLES.length).toBeGreaterThan(8);
  });

  test('tells of every public function', async () => {
    const functions = await warehouse.sql<{ name: string }[]>`
      select distinct p.proname::text as name
      from pg_catalog.pg_proc as p
      where p.pronamespace = 'tidemark'::regnamespace and not starts_with(p.proname, '_')
        and not exists (select from tidemark.dimensions as d where p.proname in ('apply_' || d.dimension_name, 'converge_' || d.dimension_name, 'known_' || d.dimension_name, 'render_' || d.dimension_name))
      order by 1`;
    expect(functions.map(({ name }) => name).filter((name) => !page.includes(`tidemark.${name}`))).toEqual([]);
  });
});
