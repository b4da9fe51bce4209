// Runs on each version.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runChecks } from '../../runner/warehouse/checks.js';
import type { Settings } from '../../runner/base/settings.js';
import { extractTables } from '../../runner/extract/tables.js';
import { rebuildTables, verifyTables } from '../../runner/load/replay.js';
import { loadTables } from '../../runner/load/tables.js';
import { browseTable } from '../../runner/registration/registered.js';
import { rolledBack } from '../support/batches.js';
import { runCli } from '../support/cli.js';
import { createPipeline, type TestPipeline } from '../support/databases.js';
import { registerDimension, type TestColumn } from '../support/dimensions.js';
import { propose, register, withDimensionsFolder } from '../support/registered.js';

let pipeline: TestPipeline;
let settings: Settings;
beforeAll(async () => {
  pipeline = await createPipeline();
  settings = await withDimensionsFolder(pipeline);
});
afterAll(async () => {
  await pipeline.drop();
});

/** The partitions of a history that hold rows, and how many each. */
async function held(history: string): Promise<readonly (readonly [string, number])[]> {
  const rows = await pipeline.warehouse.unsafe<{ part: string; count: number }[]>(
    `select tableoid::regclass::text as part, count(*)::integer as count from ${history} group by 1 order by 1`,
  );
  return rows.map(({ part, count }) => [part, count]);
}

const broken = async () =>
  (await runChecks(pipeline.warehouse, ['pipeline', 'scd2'])).filter(({ violations }) => violations > 0);

describe('add --partitions', () => {
  it('makes a history that is parted by hash of its key, and numbered by one sequence', async () => {
    await pipeline.source.unsafe(`
      create table stock (place text, item integer, quantity integer, updated_at timestamptz not null, primary key (place, item));
      insert into stock select 'p' || i % 5, i, i, '2026-02-01 09:00Z' from generate_series(1, 200) as i`);
    await register(settings, 'stock', { partitions: 4, no_overlap: true });
    await extractTables({ settings, tables: ['stock'] });
    await loadTables({ settings, tables: ['stock'] });
    await pipeline.source.unsafe("update stock set quantity = 0, updated_at = '2026-02-01 10:00Z' where item % 2 = 0");
    await extractTables({ settings, tables: ['stock'] });
    await loadTables({ settings, tables: ['stock'] });

    const parts = await held('dim_stock_history');
    expect(parts.map(([part]) => part)).toEqual([0, 1, 2, 3].map((place) => `dim_stock_history_p${String(place)}`));
    expect(parts.reduce((sum, [, count]) => sum + count, 0)).toBe(300);
    expect([
      ...(await pipeline.warehouse`
        select count(distinct surrogate_key)::integer as keys, max(surrogate_key)::integer as greatest,
          pg_get_serial_sequence('dim_stock_history', 'surrogate_key') as sequence
        from dim_stock_history`),
    ]).toEqual([{ keys: 300, greatest: 300, sequence: 'public.dim_stock_history_surrogate_key_seq' }]);
    expect(await broken()).toEqual([]);
  });

  it('is verified and made anew from its change log, and told as of a moment', async () => {
    await pipeline.warehouse`update dim_stock_history set quantity = 99 where item = 7`;
    await pipeline.warehouse`delete from dim_stock_history where item = 8 and is_current`;
    expect(await verifyTables(settings, ['stock'])).toMatchObject([{ differences: 3 }]);
    expect(await rebuildTables(settings, ['stock'])).toMatchObject([
      { right_versions: 298, corrected_versions: 1, added_versions: 1, removed_versions: 0 },
    ]);
    expect(await verifyTables(settings, ['stock'])).toMatchObject([{ differences: 0 }]);
    expect([
      ...(await pipeline.warehouse`
        select count(*)::integer as rows, sum(quantity)::integer as sum from dim_stock_history_as_of('2026-02-01 09:30Z')`),
    ]).toEqual([{ rows: 200, sum: 20_100 }]);
    expect(await broken()).toEqual([]);
  });

  it('gets the indexes for browsing partition by partition, while loads go on, and loses them', async () => {
    const statements = await browseTable(settings, 'stock', true);
    expect(statements.filter((each) => each.startsWith('create index concurrently'))).toHaveLength(8);
    expect(statements.filter((each) => each.includes(' on public.dim_stock_history '))).toHaveLength(2);
    expect(await browseTable(settings, 'stock', true)).toEqual([]);
    // Its making was interrupted: one was made, and the history does not have it.
    await pipeline.warehouse`drop index dim_stock_history_browse_to`;
    await pipeline.warehouse`create index dim_stock_history_p1_browse_to on dim_stock_history_p1 (valid_to) where valid_to is not null`;
    const again = await browseTable(settings, 'stock', true);
    expect(again[0]).toBe('drop index concurrently public.dim_stock_history_p1_browse_to');
    expect(again).toHaveLength(6);
    expect(await browseTable(settings, 'stock', false)).toHaveLength(2);
    expect([
      ...(await pipeline.warehouse`select relname from pg_class where relname like 'dim_stock_history%browse%'`),
    ]).toEqual([]);
  });

  it('cannot follow a key that was widened, and says what to do', async () => {
    await pipeline.source.unsafe(
      'create table wide (code varchar(5) primary key, note varchar(5), updated_at timestamptz default now())',
    );
    await register(settings, 'wide', { partitions: 2 });
    await expect(
      pipeline.warehouse`select tidemark.retype_history_column('wide', 'code', 'text')`,
    ).rejects.toMatchObject({
      code: 'TM024',
      message: 'history cannot follow to another type: it is partitioned by code',
      hint: expect.stringContaining('npx tidemark table partition wide 0') as string,
    });
    await pipeline.source.unsafe("alter table wide alter note type text; insert into wide values ('a', 'a long note')");
    await extractTables({ settings, tables: ['wide'] });
    expect(await loadTables({ settings, tables: ['wide'] })).toMatchObject([{ inserted_versions: 1 }]);
  });

  it('lets no two versions of a key overlap, by a constraint of each partition', async () => {
    await pipeline.source.unsafe(
      'create table shelf (id integer primary key, quantity integer, updated_at timestamptz)',
    );
    await register(settings, 'shelf', { partitions: 3, no_overlap: true });
    const version = (from: string, to: string) =>
      pipeline.warehouse.unsafe(`
      insert into dim_shelf_history (shelf_key, valid_from, valid_to, is_current, cdc_operation, cdc_timestamp, batch_id, captured_at, change_line)
      values (1, '${from}', '${to}', false, 'INSERT', '${from}', 'b1', '${from}', 1)`);
    await version('2026-01-01', '2026-03-01');
    await expect(version('2026-02-01', '2026-04-01')).rejects.toMatchObject({ code: '23P01' });
  });

  it('takes no number of partitions that makes none', async () => {
    await pipeline.source.unsafe('create table box (id integer primary key, updated_at timestamptz)');
    const { code, stderr } = await runCli(['add', 'public.box', '--partitions', '1'], pipeline.env);
    expect(code).toBe(2);
    expect(stderr).toContain('--partitions is 1, accepted is a whole number from 2 to 1024');
    expect((await propose(settings, 'box', { partitions: 2 })).text).toContain('partition by hash (box_key);');
  });

  it('is refused where PostgreSQL cannot hash the key', async () => {
    await pipeline.source.unsafe('create table masks (mask bit(8), part bit varying, primary key (mask, part))');
    const { code, stderr } = await runCli(['add', 'public.masks', '--partitions', '4'], pipeline.env);
    expect(code).toBe(1);
    expect(stderr).toContain('PostgreSQL cannot hash key column mask, of type bit(8): no history can be parted by it');
    expect((await runCli(['add', 'public.masks', '--dry-run'], pipeline.env)).code).toBe(0);
  });
});

describe('register_dimension', () => {
  const COLUMNS: readonly TestColumn[] = [
    { source: 'id', type: 'integer', role: 'business key' },
    { source: 'part', type: 'text', role: 'business key' },
    { source: 'a', type: 'text', role: 'tracked' },
    { source: 'touched', type: 'timestamptz', role: 'effective time' },
  ];
  const judged = (statements: string) =>
    rolledBack(pipeline.warehouse, async (transaction) => {
      await registerDimension(transaction, 'made', 'made', COLUMNS, { partitions: 2 });
      await transaction.unsafe(statements);
      await transaction`select tidemark._assert_dimension_fits('made')`;
    });
  const REMEDY = 'not partitioned by hash of the business key: create it with "partition by hash (id, part)"';
  const anew = (how: string) => `
    create table other (like public.dim_made_history including defaults including constraints) partition by ${how};
    update tidemark.dimensions set history_relation = 'other' where dimension_name = 'made'`;

  it.each([
    ['is partitioned by ranges', anew('range (id)'), REMEDY],
    ['is partitioned by less than the key', anew('hash (id)'), REMEDY],
    ['is partitioned by more than the key', anew('hash (id, part, a)'), REMEDY],
    ['is partitioned by an expression', anew("hash (id, part, (a || 'x'))"), REMEDY],
    ['lacks a partition', 'drop table public.dim_made_history_p1', 'lacks partitions, so that some keys have no place'],
    [
      'has a partition that is partitioned',
      `drop table public.dim_made_history_p1;
       create table parted partition of public.dim_made_history for values with (modulus 2, remainder 1) partition by hash (id, part)`,
      'partition public.parted of the history is partitioned itself',
    ],
    [
      'is no table',
      `create view seen as select * from public.dim_made_history;
       update tidemark.dimensions set history_relation = 'seen' where dimension_name = 'made'`,
      'no table: it must be one, plain or partitioned by hash of the business key',
    ],
  ])('refuses a history that %s', async (_, statements, fault) => {
    await expect(judged(statements)).rejects.toMatchObject({
      code: 'TM007',
      message: expect.stringContaining(fault) as string,
    });
  });

  it('grants nobody a partition, whatever is granted by default: masks are those of the history', async () => {
    const [granted] = await rolledBack(pipeline.warehouse, async (transaction) => {
      await transaction`create role somebody_who_reads`;
      await transaction`alter default privileges grant select on tables to somebody_who_reads`;
      await registerDimension(transaction, 'made', 'made', COLUMNS, { partitions: 2 });
      return transaction`
        select has_table_privilege('somebody_who_reads', 'public.dim_made_history', 'select') as history,
          has_table_privilege('somebody_who_reads', 'public.dim_made_history_p1', 'select') as part`;
    });
    expect(granted).toEqual({ history: true, part: false });
  });

  it('shortens the names of partitions and constraints, and keeps them apart', async () => {
    const history = `public.${'h'.repeat(60)}`;
    await registerDimension(pipeline.warehouse, 'n'.repeat(60), 'made', COLUMNS, {
      partitions: 11,
      noOverlap: true,
      history,
    });
    const names = await pipeline.warehouse<{ part: string; rule: string }[]>`
      select p::text as part, c.conname as rule
      from tidemark._history_parts(${history}::text::regclass) as p
      join pg_constraint as c on c.conrelid = p and c.contype = 'x'`;
    expect(new Set(names.map(({ rule }) => rule)).size).toBe(11);
    expect(names.at(-1)?.part).toMatch(/^h{50}_[0-9a-f]{8}_p10$/);
    expect(names.at(-1)?.rule).toMatch(/^no_two_versions_of_n{23}_[0-9a-f]{8}_overlap_p10$/);
  });

  it('takes one that is parted by the columns of the key in another order', async () => {
    await judged(`
      create table other (like public.dim_made_history including all) partition by hash (part, id);
      select tidemark.create_partitions('other', 2);
      update tidemark.dimensions set history_relation = 'other' where dimension_name = 'made'`);
  });

  it.each([
    [
      'no table that is partitioned by hash',
      'create table plain (surrogate_key bigint)',
      'plain',
      2,
      'public.plain is not partitioned by hash',
    ],
    [
      'a number that makes none',
      'create table parted (surrogate_key bigint, id integer) partition by hash (id)',
      'parted',
      1025,
      'a history has from 2 to 1024 partitions, and not 1025',
    ],
    [
      'partitions that are there',
      'select',
      'public.dim_made_history',
      2,
      'public.dim_made_history has partitions already',
    ],
  ])('makes no partitions of %s', async (_, statement, table, count, fault) => {
    await expect(
      rolledBack(pipeline.warehouse, async (transaction) => {
        await registerDimension(transaction, 'made', 'made', COLUMNS, { partitions: 2 });
        await transaction.unsafe(statement);
        await transaction`select tidemark.create_partitions(${table}::text::regclass, ${count})`;
      }),
    ).rejects.toMatchObject({ code: 'TM007', message: fault });
  });
});
