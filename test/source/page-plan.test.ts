import { afterAll, beforeAll, expect, it } from 'vitest';
import type { DimensionMapping } from '../../runner/batch/mapping.js';
import { describeTable, type SourceTable } from '../../runner/source/table.js';
import { createSourceDatabase, type TestDatabase } from '../support/databases.js';

/** Two tables whose pages print more than work_mem holds: of many narrow rows, and of rows with a composite key and wide texts. */
let database: TestDatabase;
const tables: Record<string, SourceTable> = {};
beforeAll(async () => {
  database = await createSourceDatabase();
  await database.sql.unsafe(`
    create table narrow (id integer primary key, state varchar(50), made timestamptz not null, touched timestamptz);
    create index on narrow (touched, id);
    insert into narrow select g, 'a state of so many letters', now(), case when g % 2 = 0 then now() end from generate_series(1, 40000) as g;
    create table wide (kind text, id bigint, body text, details jsonb, touched timestamp, primary key (kind, id));
    create index on wide (touched, kind, id);
    insert into wide select 'k' || g % 7, g, repeat('x', 1000), jsonb_build_object('g', g), now() - g * interval '1 s' from generate_series(1, 20000) as g`);
  await database.sql`vacuum analyze`;
  tables.narrow = await describe('narrow', ['id', 'state'], 'made');
  tables.wide = await describe('wide', ['kind', 'id', 'body', 'details'], null);
});
afterAll(async () => {
  await database.drop();
});

async function describe(table: string, names: readonly string[], inserted: string | null): Promise<SourceTable> {
  const column = (source: string, role: string) => ({
    source,
    history: source,
    role,
    history_type: null,
    can_widen: false,
  });
  const columns = [
    ...names.map((name) => column(name, name === 'id' || name === 'kind' ? 'business key' : 'tracked')),
    column('touched', 'effective time'),
    ...(inserted === null ? [] : [column(inserted, 'insert time')]),
  ];
  const mapping: Partial<DimensionMapping> = {
    dimension_name: table,
    source_schema: 'public',
    source_table: table,
    source_time_zone: 'UTC',
    columns: columns,
    deleted_column: null,
    deleted_values: null,
    with_children: false,
  };
  return describeTable(database.sql, mapping as DimensionMapping);
}

interface Node {
  readonly 'Node Type': string;
  readonly 'Temp Written Blocks'?: number;
  readonly 'Sort Space Type'?: string;
  readonly Plans?: readonly Node[];
}

const within = (node: Node): Node[] => [node, ...(node.Plans ?? []).flatMap(within)];
const FAR = '9000000000000000000';

/** The plan of a page of ten thousand rows, and what it returned. */
async function planOf(
  table: string,
  page: 'first_page' | 'next_page' | 'first_undated_page' | 'keyed_page',
  rest: readonly string[] = [],
  known = '[]',
  snapshot = '10:10:',
) {
  const query = tables[table]?.[page] ?? '';
  const bounds = [
    null,
    null,
    '5',
    null,
    FAR,
    '10000',
    String(64 * 1024 * 1024),
    '2027-01-01',
    'infinity',
    known,
    snapshot,
    ...rest,
  ];
  const [explained] = await database.sql.unsafe<{ 'QUERY PLAN': readonly { Plan: Node }[] }[]>(
    `explain (analyze, buffers, verbose, format json) ${query}`,
    bounds,
  );
  const plan = explained?.['QUERY PLAN'][0]?.Plan;
  if (plan === undefined) throw new Error('no plan');
  const [row] = await database.sql.unsafe<{ rows_read: number; change_count: number; known_rows: string }[]>(
    query,
    bounds,
  );
  if (row === undefined) throw new Error('no row');
  return { nodes: within(plan), row };
}

it.each([
  ['narrow', 'first_page', []],
  ['narrow', 'next_page', ['2020-01-01', '["5"]']],
  ['narrow', 'first_undated_page', []],
  ['wide', 'first_page', []],
  ['wide', 'next_page', ['2020-01-01', '["k1", "5"]']],
  [
    'narrow',
    'keyed_page',
    [JSON.stringify(Array.from({ length: 12_000 }, (_, index) => JSON.stringify([String(index + 1)])))],
  ],
] as const)('a %s table: nothing that the %s printed is sorted, or written to disk', async (table, page, rest) => {
  const { nodes, row } = await planOf(table, page, rest);
  expect(row).toMatchObject({ rows_read: 10_000, change_count: 10_000 });
  const sorts = nodes.filter((node) => node['Node Type'].includes('Sort'));
  expect(sorts.filter((node) => JSON.stringify(node).includes('row_to_json'))).toEqual([]);
  expect(sorts.filter((node) => node['Sort Space Type'] === 'Disk')).toEqual([]);
  expect(nodes.map((node) => node['Temp Written Blocks'] ?? 0).reduce((sum, blocks) => sum + blocks)).toBe(0);
});

it('the first page of a table that was never read takes its rows from the index, and no more of them', async () => {
  const { nodes } = await planOf('wide', 'first_page');
  expect(
    nodes.map((node) => node['Node Type']).filter((type) => /Scan on|Sort|Seq Scan|Index Scan/.test(type)),
  ).toContain('Index Scan');
  expect(nodes.filter((node) => node['Node Type'] === 'Seq Scan')).toEqual([]);
});

it('known rows are told from others without printing them', async () => {
  const before = await planOf('narrow', 'first_page', [], '[]', '1:1:');
  const again = await planOf('narrow', 'first_page', [], before.row.known_rows, '1:1:');
  expect(JSON.parse(before.row.known_rows)).toHaveLength(10_000);
  expect(again.row).toEqual({ ...before.row, change_count: 0, lines: null, newest_writer: null });
});

it('of rows larger than a batch may hold, few are printed that it cannot hold', async () => {
  const query = tables.wide?.first_page ?? '';
  const counted = query.replace(
    'else row_to_json(r.*)::text',
    "else case when nextval('printed') > 0 then row_to_json(r.*)::text end",
  );
  expect(counted).not.toBe(query);
  await database.sql`create sequence printed`;
  const [row] = await database.sql.unsafe<{ rows_read: number; has_more: boolean }[]>(counted, [
    null,
    null,
    '5',
    null,
    FAR,
    '10000',
    '50000',
    '2027-01-01',
    'infinity',
    '[]',
    '10:10:',
  ]);
  expect(row).toMatchObject({ has_more: true });
  const [{ printed } = { printed: '' }] = await database.sql<
    { printed: string }[]
  >`select last_value::text as printed from printed`;
  expect({ read: row?.rows_read, printed: Number(printed) }).toEqual({ read: 41, printed: 49 });
});
