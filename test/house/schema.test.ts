// Runs on each version: migrations and functions make the same on each.
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import { PROJECT_ROOT } from '../../runner/base/settings.js';
import { createSourceDatabase, createWarehouseDatabase, type TestDatabase } from '../support/databases.js';

const GOLDEN = path.join(PROJECT_ROOT, 'test', 'schema.txt');
const DESCRIBE_SCHEMA = path.join(PROJECT_ROOT, 'test', 'support', 'describe_schema.sql');

/** One line an object; the same on every release of PostgreSQL. */
async function describeSchema({ sql, drop }: TestDatabase): Promise<string> {
  try {
    return await sql.begin('read only', async (transaction) => {
      await transaction`set local search_path = pg_catalog`;
      const lines = await transaction.file<{ line: string }[]>(DESCRIBE_SCHEMA);
      return lines.map(({ line }) => `${line}\n`).join('');
    });
  } finally {
    await drop();
  }
}

test('migrations and functions make the schema that test/schema.txt shows', async () => {
  const warehouse = await describeSchema(await createWarehouseDatabase());
  const source = await describeSchema(await createSourceDatabase());
  const found = `WAREHOUSE\n\n${warehouse}\nDEMO SOURCE\n\n${source}`;
  if (process.env.ACCEPT_SCHEMA === '1') await writeFile(GOLDEN, found);
  const golden = await readFile(GOLDEN, 'utf8').catch(() => '');
  expect(
    found,
    'the schema is not the one in test/schema.txt; if that is meant, run "npm run schema:accept" and read its diff',
  ).toBe(golden);
});

test('every table and column of the schema carries a comment', async () => {
  const golden = await readFile(GOLDEN, 'utf8');
  // The ledgers of migrations are made by node-pg-migrate; the columns of a view are those of its tables.
  const wanted = golden
    .split('\n')
    .filter(
      (line) =>
        /^(table|view) [\w.]+( column .*)?( -- |$)/.test(line) &&
        !/^table \w+\.\w+_migrations\b|^view .* column /.test(line),
    );
  expect(wanted.length).toBeGreaterThan(80);
  expect(wanted.filter((line) => !line.includes(' -- '))).toEqual([]);
});
