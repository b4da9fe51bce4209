import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parse } from 'yaml';
import { exportDbt } from '../../runner/operate/export.js';
import { loadSettings } from '../../runner/base/settings.js';
import { createWarehouseDatabase, type TestDatabase } from '../support/databases.js';

/** What "tidemark export dbt" writes: tidemark.dbt_files. */

let warehouse: TestDatabase;
let folder: string;
beforeAll(async () => {
  warehouse = await createWarehouseDatabase();
  folder = await mkdtemp(path.join(tmpdir(), 'tidemark-dbt-'));
});
afterAll(async () => {
  await warehouse.drop();
  await rm(folder, { recursive: true });
});

const written = (file: string) => readFile(path.join(folder, file), 'utf8');

test('sources have the comments, whatever they say, the tests and the freshness of every history, and macros call its functions', async () => {
  const comment = `it's "quoted": {a}, # and\n- goes on`;
  await warehouse.sql.unsafe(
    `comment on column public.dim_orders_history.quantity is '${comment.replaceAll("'", "''")}'`,
  );
  const settings = { ...loadSettings({ ENV_FILE: '/dev/null' }), warehouse: warehouse.settings };
  // Again: what was written before is no hindrance.
  for (let run = 0; run < 2; run += 1)
    expect(await exportDbt(settings, folder)).toEqual(['models/tidemark_sources.yml', 'macros/tidemark.sql']);
  const { sources } = parse(await written('models/tidemark_sources.yml')) as {
    sources: { name: string; schema: string; tables: { name: string; columns?: object[] }[] }[];
  };
  expect(sources.map(({ name, schema, tables }) => [name, schema, tables.map((table) => table.name)])).toEqual([
    ['tidemark', 'public', ['dim_customers_history', 'dim_orders_history', 'dim_products_history']],
    ['tidemark_ledger', 'tidemark', ['customers', 'orders', 'products']],
  ]);
  const columns = sources[0]?.tables[1]?.columns;
  expect(columns).toContainEqual({ name: 'quantity', description: comment, tests: ['not_null'] });
  expect(columns).toContainEqual({
    name: 'surrogate_key',
    description: 'Identity of the version.',
    tests: ['unique', 'not_null'],
  });
  expect(sources[1]?.tables[1]).toMatchObject({
    identifier: 'batches',
    loaded_at_field: 'applied_at',
    freshness: { warn_after: { count: 1, period: 'day' }, filter: "dimension_name = 'orders'" },
  });
  const macros = await written('macros/tidemark.sql');
  for (const [, ending = ''] of macros.matchAll(/identifier \}\}(_\w+)"/g))
    expect(['_as_of', '_as_known', '_diff', '_changes']).toContain(ending);
});
