// Runs on each version: a value of any type prints as its version prints it.
import { afterEach, beforeEach, expect, it } from 'vitest';
import { runChecks } from '../../runner/warehouse/checks.js';
import type { Difference } from '../../runner/reconcile/compare.js';
import { extractTables } from '../../runner/extract/tables.js';
import { reconcileTables } from '../../runner/reconcile/tables.js';
import { createPipeline, type TestPipeline } from '../support/databases.js';
import { createSourceTable, registerDimension, type TestColumn } from '../support/dimensions.js';
import { KEY_KINDS, NASTY_KINDS, OWN_TYPES, type Kind } from '../support/kinds.js';
import { loadTables } from '../../runner/load/tables.js';
import { quoted } from '../../runner/base/sql-text.js';
import { IS_PARTITIONED } from '../support/partitions.js';

/** One table whose key is of every type a key may be of, and which has a column of every type: what is seeded there is found, and nothing else. */

let pipeline: TestPipeline;
beforeEach(async () => {
  pipeline = await createPipeline({ BATCH_SIZE: '200', BATCH_SIZE_MAX: '200', WATERMARK_ADVANCE_SECONDS: '0' });
});
afterEach(async () => {
  await pipeline.drop();
});

const COLUMNS: readonly TestColumn[] = [
  { source: 'seed', type: 'text', role: 'business key' },
  ...KEY_KINDS.map(([type]) => ({ source: `key ${type}`, type, role: 'business key' as const })),
  ...NASTY_KINDS.map(([type]) => ({ source: `a ${type}`, type, role: 'tracked' as const })),
  { source: 'touched', type: 'timestamptz', role: 'effective time' },
];
/** A kind's values one after the other, then null, then from the beginning. */
const nthOf = ([, ...values]: Kind, n: number) => [...values, 'null'][n % (values.length + 1)] ?? '';

interface Seeded {
  readonly keys?: Readonly<Record<number, string>>;
  readonly values?: Readonly<Record<number, string>>;
}

/** A row as SQL: its key is plain, its values are the n-th of each kind, but for what is given by the number of the column. */
const rowOf = (seed: string, n: number, { keys = {}, values = {} }: Seeded) =>
  `('${seed}', ${[...KEY_KINDS.map(([, plain = ''], index) => keys[index] ?? plain), ...NASTY_KINDS.map((kind, index) => values[index] ?? nthOf(kind, n))].join(', ')}, now())`;

/** A row for every nasty key: nothing but that one column tells it from the plain one of its seed. */
const rowsOf = (seed: string) => [
  rowOf(seed, 0, {}),
  ...KEY_KINDS.flatMap(([, , ...nasty], column) =>
    nasty.map((key, n) => rowOf(seed, column + n, { keys: { [column]: key } })),
  ),
];

/** Every value of every kind becomes the next one, the last becomes null, and null the first. */
const CHANGES = NASTY_KINDS.flatMap((kind, column) =>
  kind.map((_, n) => ({
    seed: `changed ${String(column)} ${String(n)}`,
    column,
    before: nthOf(kind, n),
    after: nthOf(kind, n + 1),
  })),
);

const insert = (rows: readonly string[]) => pipeline.source.unsafe(`insert into kinds values ${rows.join(', ')}`);

async function change(): Promise<void> {
  const updates = CHANGES.map(
    ({ seed, column, after }) =>
      `update kinds set ${quoted(COLUMNS[1 + KEY_KINDS.length + column]?.source ?? '')} = ${after}, touched = '2020-01-01' where seed = '${seed}'`,
  );
  await pipeline.source.unsafe(updates.join(';'));
}

/** A key in the one form in which equal numbers print alike. */
const printed = ({ source, type, role }: TestColumn) => {
  if (role === 'business key' && type.startsWith('numeric')) return `trim_scale(${quoted(source)})::text`;
  return `${role === 'business key' && ['real', 'double precision'].includes(type) ? `(${quoted(source)} + 0::${type})` : quoted(source)}::text`;
};

/** What the source holds by its keys, as PostgreSQL prints it. */
async function contents(): Promise<Map<string, string>> {
  const keys = COLUMNS.filter(({ role }) => role === 'business key').map(
    (column) => `${printed(column)} as ${quoted(column.source)}`,
  );
  const rows = await pipeline.source.unsafe<(Record<string, string> & { content: string })[]>(
    `select ${keys.join(', ')}, row(${COLUMNS.slice(0, -1).map(printed).join(', ')})::text as content from kinds`,
  );
  return new Map(rows.map(({ content, ...key }) => [JSON.stringify(Object.values(key)), content]));
}

/** What differs between two states of the source, the first of which history has. */
function between(before: ReadonlyMap<string, string>, after: ReadonlyMap<string, string>): Difference[] {
  const missing = [...after]
    .filter(([key]) => !before.has(key))
    .map(([key, source]) => ({ key, kind: 'missing' as const, source, history: null }));
  const extra = [...before]
    .filter(([key]) => !after.has(key))
    .map(([key, history]) => ({ key, kind: 'extra' as const, source: null, history }));
  const different = [...before].flatMap(([key, history]) => {
    const source = after.get(key);
    return source === undefined || source === history ? [] : [{ key, kind: 'different' as const, source, history }];
  });
  return inOrder([...missing, ...extra, ...different]);
}

const inOrder = (differences: readonly Difference[]) =>
  [...differences].sort((one, other) => (one.key < other.key ? -1 : 1));
const reconcile = async (repair = false) =>
  (await reconcileTables({ settings: pipeline.settings, tables: ['kinds'], repair, allowDeletes: repair }))[0];

it.skipIf(IS_PARTITIONED)(
  'every seeded difference is found, of every type of key and of column, and nothing else; repaired, there is none',
  async () => {
    for (const end of [pipeline.source, pipeline.warehouse]) await end.unsafe(OWN_TYPES);
    await createSourceTable(pipeline.source, 'kinds', COLUMNS);
    await registerDimension(pipeline.warehouse, 'kinds', 'kinds', COLUMNS);
    const [kept, gone, late] = [rowsOf('kept'), rowsOf('gone'), rowsOf('late')];
    await insert([
      ...kept,
      ...gone,
      ...CHANGES.map(({ seed, column, before }, n) => rowOf(seed, n, { values: { [column]: before } })),
    ]);
    await extractTables({ settings: pipeline.settings, tables: ['kinds'] });
    expect(await loadTables({ settings: pipeline.settings, tables: ['kinds'] })).toMatchObject([
      { rejected_changes: 0, inserted_versions: kept.length + gone.length + CHANGES.length },
    ]);
    expect(await reconcile()).toMatchObject({ differences: [] });

    const before = await contents();
    await insert(late);
    // Stamped before all that was read: no poll looks for it, only a full sweep or a comparison.
    await pipeline.source`update kinds set touched = '2020-01-01' where seed = 'late'`;
    await pipeline.source`delete from kinds where seed = 'gone'`;
    await change();
    const expected = between(before, await contents());
    const found = await reconcile();
    expect(found).toMatchObject({ missing: late.length, extra: gone.length, different: CHANGES.length, unsettled: 0 });
    expect(
      inOrder((found?.differences ?? []).map((each) => ({ ...each, key: JSON.stringify(JSON.parse(each.key)) }))),
    ).toEqual(expected);

    expect(await reconcile(true)).toMatchObject({ repaired: expected.length });
    expect(await reconcile()).toMatchObject({
      missing: 0,
      extra: 0,
      different: 0,
      unsettled: 0,
      differences: [],
      source_rows: kept.length + late.length + CHANGES.length,
    });
    expect(
      (await runChecks(pipeline.warehouse, ['pipeline', 'scd2'])).filter(({ violations }) => violations > 0),
    ).toEqual([]);
  },
);

it('a key that is written in another way is the same key: it differs from nothing, and is changed and deleted like any other', async () => {
  const columns: readonly TestColumn[] = [
    { source: 'code', type: 'numeric', role: 'business key' },
    { source: 'price', type: 'numeric(12,2)', role: 'business key' },
    { source: 'ratio', type: 'real', role: 'business key' },
    { source: 'level', type: 'double precision', role: 'business key' },
    { source: 'state', type: 'text', role: 'tracked' },
    { source: 'touched', type: 'timestamptz', role: 'effective time' },
  ];
  await createSourceTable(pipeline.source, 'kinds', columns);
  await registerDimension(pipeline.warehouse, 'kinds', 'kinds', columns);
  await pipeline.source`insert into kinds values (1.10, 1.10, 0, '-0', 'new', now())`;
  await extractTables({ settings: pipeline.settings, tables: ['kinds'] });
  await loadTables({ settings: pipeline.settings, tables: ['kinds'] });
  await pipeline.source`update kinds set code = 1.100, price = 1.1, ratio = '-0', level = 0, touched = clock_timestamp()`;
  expect(await reconcile()).toMatchObject({ differences: [], source_rows: 1, current_versions: 1 });
  await pipeline.source`update kinds set state = 'not stamped', touched = '2020-01-01'`;
  expect(await reconcile(true)).toMatchObject({
    repaired: 1,
    differences: [{ key: '["1.1", "1.1", "0", "0"]', kind: 'different' }],
  });
  await pipeline.source`delete from kinds`;
  expect(await reconcile(true)).toMatchObject({ repaired: 1, differences: [{ kind: 'extra' }] });
  expect(await pipeline.warehouse`select state, is_current from dim_kinds_history order by valid_from`).toEqual([
    { state: 'new', is_current: false },
    { state: 'not stamped', is_current: false },
  ]);
  expect(await reconcile()).toMatchObject({ differences: [] });
});
