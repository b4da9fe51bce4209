import { readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PROJECT_ROOT, type Settings } from '../../../runner/base/settings.js';
import { refusedForms, refusedLanguage, withoutTheKey } from '../../support/citus-lint.js';
import { createPipeline, type TestPipeline } from '../../support/databases.js';
import { registerDimension } from '../../support/dimensions.js';
import { rolledBack, type TestTransaction } from '../../support/batches.js';
import { propose, withDimensionsFolder } from '../../support/registered.js';

/** Without a cluster: what Tidemark would have Citus do is read, and must have none of the forms that Citus refuses. */

let pipeline: TestPipeline;
let settings: Settings;
beforeAll(async () => {
  pipeline = await createPipeline();
  settings = await withDimensionsFolder(pipeline);
  await registerDimension(pipeline.warehouse, 'spread', 'spread', [
    { source: 'id', type: 'integer', role: 'business key' },
    { source: 'part', type: 'text', role: 'business key' },
    { source: 'a', type: 'text', role: 'tracked' },
    { source: 'u', type: 'text', role: 'untracked' },
    { source: 'touched', type: 'timestamptz', role: 'effective time' },
  ]);
});
afterAll(async () => {
  await pipeline.drop();
});

const SHARD = 'public.dim_spread_history_102008';
const HISTORY = 'public.dim_spread_history';

/** Does something where the dimension counts as distributed, in either order of changes. */
const distributed = <T>(order: string, work: (transaction: TestTransaction) => Promise<T>) =>
  rolledBack(pipeline.warehouse, async (transaction) => {
    await transaction`update tidemark.dimensions set distributed_by = 'id', change_order = ${order} where dimension_name = 'spread'`;
    return work(transaction);
  });

describe.each(['capture', 'effective_time'])('of a history in the order of %s', (order) => {
  it('what runs on a node joins every statement over its shard on the key', async () => {
    const texts = await distributed(order, async (transaction) => {
      const [row] = await transaction<[{ definitions: { functions: string[] } }]>`
        select tidemark._node_definitions('spread', ${SHARD}, 102008) as definitions`;
      return row.definitions.functions;
    });
    expect(texts).toHaveLength(3);
    for (const text of texts) expect(text).toContain(`from ${SHARD} as h`);
    expect(texts.flatMap((text) => withoutTheKey(text, SHARD, 'id'))).toEqual([]);
  });

  it('what runs on the coordinator has no form that Citus refuses', async () => {
    const definitions = await distributed(order, async (transaction) => {
      const rows = await transaction<{ definition: string }[]>`
        select tidemark._compiled_definition('spread', b.kind, b.body) as definition
        from tidemark._compiled_bodies('spread', tidemark._column_lists('spread')) as b where b.kind in ('versions', 'known')
        union all
        select f.attributes || f.body from tidemark._time_travel_functions('spread', tidemark._column_lists('spread')) as f`;
      return rows.map(({ definition }) => definition);
    });
    expect(definitions.length).toBeGreaterThan(10);
    expect(definitions.flatMap((text) => refusedForms(text, HISTORY))).toEqual([]);
    expect(definitions.flatMap((text) => refusedLanguage(text, HISTORY))).toEqual([]);
  });
});

it('templates of statements that the coordinator runs have no form that Citus refuses', () => {
  const functions = path.join(PROJECT_ROOT, 'sql', 'functions');
  const ofNodes = /_(apply|converge|slice)_body\.sql$/;
  const files = readdirSync(functions, { recursive: true, encoding: 'utf8' }).filter(
    (file) => file.endsWith('.sql') && !ofNodes.test(file),
  );
  const found = files.flatMap((file) =>
    refusedForms(readFileSync(path.join(functions, file), 'utf8'), '{history}').map((finding) => ({
      file,
      ...finding,
    })),
  );
  expect(found).toEqual([]);
});

it('every unique constraint of a history that is distributed holds the column it is distributed by', async () => {
  await pipeline.source.unsafe(
    'create table stock (place text, item integer, quantity integer, updated_at timestamptz, primary key (place, item))',
  );
  const { text } = await propose(settings, 'stock', { distributed_by: 'place', no_overlap: true, browse: true });
  expect(text).toContain("select create_distributed_table('public.dim_stock_history', 'place');");
  expect(text).toContain("p_distributed_by => 'place'");
  const create = text.slice(text.indexOf('create table'), text.indexOf('-- Over the nodes'));
  const unheld = (statement: string) =>
    rolledBack(pipeline.warehouse, async (transaction) => {
      await transaction.unsafe(create);
      await transaction.unsafe(statement);
      const rows = await transaction<{ index: string }[]>`
        select i.indexrelid::regclass::text as index
        from pg_index as i
        join pg_attribute as a on a.attrelid = i.indrelid and a.attname = 'place'
        where i.indrelid = 'public.dim_stock_history'::regclass and (i.indisunique or i.indisexclusion)
          and a.attnum <> all (i.indkey::smallint[])`;
      return rows.map(({ index }) => index);
    });
  expect(await unheld('select')).toEqual([]);
  expect(await unheld('alter table dim_stock_history add constraint bad unique (surrogate_key)')).toEqual(['bad']);
});

describe('the lint finds', () => {
  it.each([
    [
      'a lateral subquery over it',
      'select from x as c left join lateral (select h.a from {history} as h limit 1) as v on true',
    ],
    [
      'a subquery over it that another query is correlated with',
      'select from x as c where not exists (select from y as h join {history} as h on {same_key: and})',
    ],
    ['a subquery without columns', 'select count(*) from (select from {history} as h limit 3) as n'],
    ['a system column', 'select h.xmin from {history} as h'],
    ['rows that are locked', 'select h.a from {history} as h for update'],
  ])('%s', (form, text) => {
    expect(refusedForms(text, '{history}')).toMatchObject([{ form }]);
  });

  it('a statement over a shard that does not join on the key, and a function in SQL', () => {
    const bad = `update ${SHARD} as h set a = c.a from x as c where h.part = c.part and h.is_current; select 1`;
    expect(withoutTheKey(bad, SHARD, 'id')).toHaveLength(1);
    expect(withoutTheKey(`(delete from ${SHARD} as h using x as c where h.id = c.id)`, SHARD, 'id')).toEqual([]);
    expect(refusedLanguage(`language sql as 'select from ${HISTORY}'`, HISTORY)).toHaveLength(1);
  });
});

it('there is nothing wrong with a cluster where none is', async () => {
  expect([...(await pipeline.warehouse`select * from tidemark.cluster_faults()`)]).toEqual([]);
});

it('a history is not distributed where there is no Citus, nor by a column that is no part of its key', async () => {
  const registered = (by: string) =>
    rolledBack(pipeline.warehouse, async (transaction) => {
      await transaction`update tidemark.dimensions set distributed_by = ${by} where dimension_name = 'spread'`;
      await transaction`select tidemark._assert_dimension_fits('spread')`;
    });
  await expect(registered('id')).rejects.toMatchObject({
    code: 'TM007',
    message: expect.stringContaining('the warehouse has no Citus') as string,
  });
  await expect(propose(settings, 'stock', { distributed_by: 'quantity' })).rejects.toThrow(
    '--distributed-by is "quantity", which is no column of the key',
  );
});
