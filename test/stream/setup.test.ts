import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { slotOf } from '../../runner/stream/position.js';
import { setupStatements } from '../../runner/stream/setup.js';
import { runCli, startCli } from '../support/cli.js';
import { createPipeline, type TestPipeline } from '../support/databases.js';
import { createSourceTable, registerDimension, type TestColumn } from '../support/dimensions.js';
import { captureFromLog, mappingOf } from '../support/log.js';
import { until } from '../support/wait.js';

const COLUMNS: readonly TestColumn[] = [
  { source: 'id', type: 'integer', role: 'business key' },
  { source: 'state', type: 'text', role: 'tracked' },
];

let pipeline: TestPipeline;
beforeAll(async () => {
  pipeline = await createPipeline();
  await createSourceTable(pipeline.source, 'things', COLUMNS);
  await registerDimension(pipeline.warehouse, 'things', 'things', COLUMNS);
});
afterAll(async () => {
  await pipeline.drop();
});

describe('what the log needs at the source', () => {
  const statementsFor = (...tables: string[]) =>
    setupStatements(
      pipeline.source,
      pipeline.settings,
      tables.map((table) => mappingOf(table, ['id', 'state'], ['id'])),
    );

  it('is the publication, then the slot, and nothing that is there', async () => {
    const { slot, publication } = slotOf(pipeline.settings);
    const [create, make] = await statementsFor('things');
    expect(create).toBe(
      `create publication "${publication}" for table only public.things with (publish_via_partition_root = true)`,
    );
    expect(make).toContain(`pg_create_logical_replication_slot('${slot}', 'pgoutput'`);
    const printed = await runCli(['stream', 'setup', '--table', 'things'], pipeline.env);
    expect(printed.stdout).toBe(`${String(create)};\n${String(make)};\n`);
    const applied = await runCli(['stream', 'setup', '--table', 'things', '--apply'], pipeline.env);
    expect(applied).toMatchObject({ code: 0, stdout: printed.stdout });
    expect(await statementsFor('things')).toEqual([]);
    await createSourceTable(pipeline.source, 'more', COLUMNS);
    expect(await statementsFor('things', 'more')).toEqual([
      `alter publication "${publication}" add table only public.more`,
    ]);
    await pipeline.source.unsafe(`drop publication ${publication}`);
    await expect(statementsFor('things')).rejects.toThrow(
      `the source has the replication slot ${slot}, but not its publication ${publication}`,
    );
    expect(await runCli(['stream', 'drop'], pipeline.env)).toMatchObject({
      code: 0,
      stdout: `dropped: replication slot ${slot}\n`,
    });
  });

  it.each([
    ['has no replica identity', 'create table t1 (id integer not null unique, state text)', 't1'],
    [
      'has no replica identity',
      'create table t2 (id integer primary key, state text); alter table t2 replica identity nothing',
      't2',
    ],
    [
      'has no replica identity',
      'create table t3 (id integer not null unique, state text) partition by list (id); create table t3_a partition of t3 for values in (1); alter table t3 replica identity full',
      't3',
    ],
    [
      'has a replica identity without its business key',
      'create table t4 (id integer unique, state text primary key)',
      't4',
    ],
    ['is not in the log', 'create unlogged table t5 (id integer primary key, state text)', 't5'],
    ['is no table', `create view t6 as select 1 as id, 'a'::text as state`, 't6'],
    ['does not exist', 'select 1', 't7'],
    ['may have two rows of one business key', 'create table t8 (id integer primary key deferrable, state text)', 't8'],
    ['may have two rows of one business key', 'create table t9 (id integer, state text, unique (id, state))', 't9'],
    [
      'has generated columns',
      `create table t10 (id integer primary key, state text generated always as ('a') stored)`,
      't10',
    ],
  ])('is refused for a table that %s, before it is published: %s', async (fault, statements, table) => {
    await pipeline.source.unsafe(statements);
    const error = await statementsFor(table).catch((thrown: unknown) => thrown as Error & { hint: string });
    expect(String(error)).toContain(`source table public.${table} ${fault}`);
    const remedy = /^on the source: (.*); or leave it to polling$/.exec((error as { hint: string }).hint)?.[1];
    expect(remedy === undefined).toBe(['t5', 't6', 't7', 't10'].includes(table));
    if (remedy === undefined) return;
    await pipeline.source.unsafe(remedy);
    await pipeline.source.unsafe(`update ${table} set state = 'a'`);
    expect(await statementsFor(table)).not.toEqual([]);
  });
});

describe('tidemark stream', () => {
  it('makes history of each commit at once, for ever, and says where it is', async () => {
    await captureFromLog(pipeline, 'things');
    const running = startCli(['stream', '--watch', '--load'], pipeline.env);
    const states = async () =>
      (await pipeline.warehouse<{ state: string }[]>`select state from dim_things_history order by valid_from`).map(
        ({ state }) => state,
      );
    await pipeline.source`insert into things values (1, 'one')`;
    await until(async () => (await states()).length === 1);
    await pipeline.source`update things set state = 'two'`;
    await pipeline.source`update things set state = 'three'`;
    await until(async () => (await states()).length === 3);
    await until(async () => {
      const [moment] = await pipeline.warehouse<{ holds: boolean }[]>`
        select consistent_until >= (select max(valid_from) from dim_things_history) as holds
        from tidemark.consistent_until('{things}')`;
      return moment?.holds;
    });
    const status = await runCli(['stream', 'status', '--json'], pipeline.env);
    expect(JSON.parse(status.stdout)).toMatchObject({
      ...{ is_there: true, plugin: 'pgoutput', published: ['public.things'] },
      tables: [{ table: 'things', stopped_at: null }],
    });
    const other = await runCli(['stream'], pipeline.env);
    expect(other.stderr).toContain('another reader holds the replication slot');
    expect((await runCli(['stream', 'drop'], pipeline.env)).stderr).toContain('a reader holds the replication slot');
    running.kill('SIGTERM');
    expect((await running.ended).code).toBe(0);
    await pipeline.source`delete from things`;
    const last = await runCli(['stream', '--load'], pipeline.env);
    expect(last.stdout).toMatch(/^1 change in 1 round, read up to [0-9A-F/]+\n$/);
    expect(await states()).toEqual(['one', 'two', 'three']);
    const current = await pipeline.warehouse`select from dim_things_history where is_current`;
    expect(current).toHaveLength(0);
    expect((await runCli(['stream', 'status'], pipeline.env)).stdout).toContain('things');
  });
});
