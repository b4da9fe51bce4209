import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Database } from '../../runner/base/database.js';
import { PROJECT_ROOT, loadSettings } from '../../runner/base/settings.js';
import { reconcileTables } from '../../runner/reconcile/tables.js';
import { runCli } from '../support/cli.js';
import { createEmptyDatabase, environmentOf, foldersIn, type TestDatabase } from '../support/databases.js';
import { until } from '../support/wait.js';
import { quoted } from '../../runner/base/sql-text.js';

/** The replicas of test/support/schemas: which schemas each makes, and how many tables it says can be added. */
const REPLICAS = {
  pagila: { schemas: ['pagila'], tables: 15 },
  adventureworks: { schemas: ['person', 'humanresources', 'production', 'sales'], tables: 17 },
  northwind: { schemas: ['northwind'], tables: 14 },
  chinook: { schemas: ['Chinook'], tables: 11 },
  rails: { schemas: ['rails'], tables: 13 },
  prisma: { schemas: ['prisma'], tables: 10 },
} as const;
const ADDED = Object.values(REPLICAS).reduce((sum, { tables }) => sum + tables, 0);
const SCHEMAS = Object.values(REPLICAS).flatMap(({ schemas }) => schemas);

const readSchema = (name: string) => readFile(path.join(PROJECT_ROOT, 'test/support/schemas', `${name}.sql`), 'utf8');

let source: TestDatabase;
let warehouse: TestDatabase;
let folder: string;
let env: Record<string, string>;

beforeAll(async () => {
  source = await createEmptyDatabase('source');
  warehouse = await createEmptyDatabase('warehouse');
  folder = await mkdtemp(path.join(tmpdir(), 'tidemark-adoption-'));
  env = {
    ...environmentOf(source.settings),
    ...environmentOf(warehouse.settings),
    ...foldersIn(folder),
    DIMENSIONS_DIR: path.join(folder, 'dimensions'),
    // A loader that began before there was a change log looks again after so long.
    CDC_EXTRACTION_INTERVAL_SECONDS: '20',
    TABLE_SCAN_INTERVAL_SECONDS: '0',
  };
});

afterAll(async () => {
  await runCli(['stop'], env);
  await source.drop();
  await warehouse.drop();
  await rm(folder, { recursive: true, force: true });
});

/** A command that must succeed. Returns what it printed. */
async function run(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await runCli(args, env);
  expect({ args, code, stderr: code === 0 ? '' : stderr }).toEqual({ args, code: 0, stderr: '' });
  return stdout;
}

/** What a registered table is: where it is read and kept, and the expressions that must give the same rows at both ends. */
interface Registered {
  readonly dimension_name: string;
  readonly relation: string;
  readonly history: string;
  readonly columns: readonly { readonly source: string; readonly history: string }[];
  readonly key: string[];
  readonly effective_time: string | null;
  readonly deleted_column: string | null;
  readonly deleted_values: string[] | null;
}

const registeredTables = (sql: Database) => sql<Registered[]>`
  select d.dimension_name, format('%I.%I', d.source_schema, d.source_table) as relation, d.history_relation::text as history,
    json_agg(json_build_object('source', c.source_column, 'history', c.history_column) order by c.ordinal)
      filter (where c.history_column <> 'valid_from') as columns,
    array_agg(c.source_column order by c.ordinal) filter (where c.column_role = 'business key') as key,
    min(c.source_column) filter (where c.column_role = 'effective time') as effective_time,
    d.deleted_column, d.deleted_values
  from tidemark.dimensions as d
  join tidemark.dimension_columns as c using (dimension_name)
  group by d.dimension_name
  order by d.dimension_name`;

/** The rows of some columns as text, in order. */
async function rowsOf(
  sql: Database,
  columns: readonly string[],
  relation: string,
  condition: string,
): Promise<string[]> {
  const values = columns.map((column) => `${quoted(column)}::text`).join(', ');
  const rows = await sql.unsafe<{ row: string }[]>(
    `select array[${values}]::text as row from ${relation} where ${condition} order by array[${values}]::text collate "C"`,
  );
  return rows.map(({ row }) => row);
}

const notDeleted = ({ deleted_column: column, deleted_values: values }: Registered) =>
  column === null
    ? 'true'
    : values === null
      ? `${quoted(column)} is null`
      : `(${quoted(column)}::text = any (array[${values.map((value) => `'${value}'`).join(', ')}])) is not true`;

/** Whether the current versions of a table are the rows of its source, column by column. */
async function isAlike(table: Registered): Promise<boolean> {
  const { relation, history, columns } = table;
  const namesOf = (end: 'source' | 'history') => columns.map((column) => column[end]);
  const there = await rowsOf(source.sql, namesOf('source'), relation, notDeleted(table));
  const here = await rowsOf(warehouse.sql, namesOf('history'), history, 'is_current');
  return JSON.stringify(there) === JSON.stringify(here);
}

/** Names of the tables that are not so. */
async function tablesThatDiffer(): Promise<string[]> {
  const tables = await registeredTables(warehouse.sql);
  const alike = await Promise.all(tables.map(isAlike));
  return tables.filter((_, index) => alike[index] === false).map(({ dimension_name }) => dimension_name);
}

/** Waits for one after the other, so that looking takes no time from what is waited for; then looks at all once more. */
async function untilAllAreAlike(): Promise<void> {
  for (const table of await registeredTables(warehouse.sql)) await until(() => isAlike(table));
  expect(await tablesThatDiffer()).toEqual([]);
}

describe('the databases that people have', () => {
  it('every table of six schemas is added as it is, in one command and without an option', async () => {
    for (const name of Object.keys(REPLICAS)) await source.sql.unsafe(await readSchema(name));
    await run('migrate');
    await run('add', ...SCHEMAS.flatMap((schema) => ['--schema', schema]));
    await run('migrate');
    const tables = await registeredTables(warehouse.sql);
    expect(tables).toHaveLength(ADDED);
  });

  it('"start" makes the history of all of them, equal to the source row by row', async () => {
    await run('start');
    await untilAllAreAlike();
    await run('stop');
  });

  it('what is changed, inserted and deleted in each of them arrives, and no version is without its end', async () => {
    const change = await readFile(path.join(PROJECT_ROOT, 'test/support/schemas/change_tables.sql'), 'utf8');
    const session = await source.sql.reserve();
    try {
      await session.unsafe(`set session_replication_role = replica; ${change}`);
      for (const { relation, key, effective_time } of await registeredTables(warehouse.sql))
        await session`select pg_temp.change_table(${relation}::text::regclass, ${key}, ${effective_time})`;
    } finally {
      session.release();
    }
    expect((await tablesThatDiffer()).length).toBeGreaterThan(ADDED * 0.9);
    // A round of the reconciler polls and loads each table, compares it, and repairs what no poll can see. Nothing else may differ then.
    const settings = loadSettings(env, folder);
    const compared = await reconcileTables({ settings, tables: [], repair: 'declared', allowDeletes: false });
    const wrong = compared.filter(({ missing, different, unsettled }) => missing + different + unsettled > 0);
    expect(wrong).toEqual([]);
    expect(compared).toHaveLength(ADDED);
    expect(await tablesThatDiffer()).toEqual([]);
    await run('check');
    await run('verify-log');
  });

  it('what cannot be captured as it is, is named with its reason, and does not hold up the others', async () => {
    await source.sql.unsafe(await readSchema('refused'));
    const { code, stdout } = await runCli(['add', '--schema', 'refused', '--dry-run', '--json'], env);
    const { tables, errors } = JSON.parse(stdout) as {
      tables: { table: string; state: string }[];
      errors: { table: string; message: string }[];
    };
    expect(code).toBe(1);
    expect(tables.filter(({ state }) => state === 'new').map(({ table }) => table)).toEqual([
      'refused.child',
      'refused.parent',
    ]);
    const inexact = 'of its type or collation, values can be equal that are printed apart';
    expect(errors.map(({ message }) => message)).toEqual([
      `column k of refused.composite_key cannot be a key: ${inexact} (refused.pair)`,
      `column k of refused.interval_key cannot be a key: ${inexact} (interval)`,
      `column k of refused.json_key cannot be a key: ${inexact} (jsonb)`,
      'the key of refused.no_key does not tell its rows apart: 1 key of several rows, or null in part',
      `column k of refused.number_list_key cannot be a key: ${inexact} (numeric[])`,
      `column mail of refused.text_without_case cannot be a key: ${inexact} (public.citext)`,
      "history cannot hold the 1591 columns of refused.too_wide: tables can have at most 1600 columns, and 11 are Tidemark's own",
    ]);
  });
});
