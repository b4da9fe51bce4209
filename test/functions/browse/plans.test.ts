import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { HALF_KNOWN, consolePages } from '../../../bench/pages.js';
import { PROJECT_ROOT } from '../../../runner/base/settings.js';
import type { Database, Transaction } from '../../../runner/base/database.js';
import { browseIndexes } from '../../../runner/warehouse/functions.js';
import { rolledBack } from '../../support/batches.js';
import { createWarehouseDatabase, type TestDatabase } from '../../support/databases.js';
import { IS_PARTITIONED } from '../../support/partitions.js';

/** What the pages of the console cost on a history that is large beside them: counted in pages of the server's memory, not in time. */

const KEYS = 40_000;
const STATES = 5;

let warehouse: TestDatabase;
let sql: Database;
beforeAll(async () => {
  warehouse = await createWarehouseDatabase();
  sql = warehouse.sql;
  await sql.file(path.join(PROJECT_ROOT, 'bench', 'sql', 'prepare.sql')).simple();
  await sql.unsafe(`call bench.fill_history(${String(KEYS)}, ${String(STATES)})`);
  await sql`update tidemark.batches set applied_at = ${HALF_KNOWN}::timestamptz - interval '1 hour' where batch_id < 'changes_20260201_000004'`;
  for (const { make_statements: statements } of await browseIndexes(sql, 'orders'))
    for (const statement of statements ?? []) await sql.unsafe(statement);
  await sql`vacuum analyze`;
}, 120_000);
afterAll(async () => {
  await warehouse.drop();
});

interface Plan {
  readonly 'QUERY PLAN': readonly [
    { readonly Plan: Readonly<Record<'Shared Hit Blocks' | 'Shared Read Blocks', number>> },
  ];
}
/** How many pages of the server's memory a statement touches, once the catalog is known. */
async function buffersOf(query: string, session: Database | Transaction = sql): Promise<number> {
  const explained = `explain (analyze, buffers, timing off, format json) ${query}`;
  await session.unsafe(explained);
  const [plan] = await session.unsafe<Plan[]>(explained);
  const top = plan?.['QUERY PLAN'][0].Plan;
  return (top?.['Shared Hit Blocks'] ?? 0) + (top?.['Shared Read Blocks'] ?? 0);
}

describe('a page', () => {
  test.each(consolePages(KEYS))('touches a bounded part of the history: $name', async ({ query, buffers: most }) => {
    // Each partition has indexes of its own to go down.
    expect(await buffersOf(query)).toBeLessThan(IS_PARTITIONED ? 2 * most : most);
  });

  test('of the present, of a key, and when a table changed, needs no index of its own; the others read far more without', async () => {
    await rolledBack(sql, async (transaction) => {
      for (const { drop_statements: statements } of await browseIndexes(transaction, 'orders'))
        for (const statement of statements ?? []) await transaction.unsafe(statement.replace('concurrently', ''));
      const over: string[] = [];
      for (const { name, query, buffers: most } of consolePages(KEYS).filter(
        ({ name: each }) => !/counted|filter/.test(each),
      ))
        if ((await buffersOf(query, transaction)) >= most) over.push(name);
      expect(over).toEqual([
        'table as of when few were there, last page',
        'table as of when none was there',
        'what changed in a moment',
        'what changed in all, first page',
      ]);
    });
  });
});

test('what walks the keys leaves the settings of the planner as they were', async () => {
  await rolledBack(sql, async (transaction) => {
    await transaction`set local enable_hashagg = off`;
    for (const { query } of consolePages(KEYS).filter(({ name }) => name.startsWith('what changed in all')))
      await transaction.unsafe(query);
    const [settings] = await transaction`
      select current_setting('enable_hashagg') as hashagg, current_setting('enable_sort') as sort, current_setting('enable_seqscan') as scan`;
    expect(settings).toEqual({ hashagg: 'off', sort: 'on', scan: 'on' });
  });
});
