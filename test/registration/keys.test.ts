import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Settings } from '../../runner/base/settings.js';
import { extractTables } from '../../runner/extract/tables.js';
import { loadTables } from '../../runner/load/tables.js';
import { reconcileTables } from '../../runner/reconcile/tables.js';
import { createPipeline, type TestPipeline } from '../support/databases.js';
import { propose, register, withDimensionsFolder } from '../support/registered.js';

let pipeline: TestPipeline;
let settings: Settings;
beforeEach(async () => {
  pipeline = await createPipeline();
  settings = await withDimensionsFolder(pipeline);
});
afterEach(async () => {
  await pipeline.drop();
});

async function flow(table: string, full = false): Promise<void> {
  await extractTables({ settings, tables: [table], full });
  await loadTables({ settings, tables: [table] });
}

const reconcile = async (table: string, repair = false) =>
  (await reconcileTables({ settings, tables: [table], repair, allowDeletes: false }))[0];

const current = async (table: string, columns: string): Promise<unknown[][]> =>
  pipeline.warehouse.unsafe(`select ${columns} from dim_${table}_current order by 1`).values();

const checkpoints = (table: string) => readdir(path.join(settings.cdc_log_dir, table, 'checkpoints'));

/** Nothing is written for a table whose key does not tell its rows apart, whoever reads it. */
async function expectStopped(table: string, message: string): Promise<void> {
  const before = await checkpoints(table);
  await expect(extractTables({ settings, tables: [table], full: true })).rejects.toThrow(message);
  await expect(reconcile(table, true)).rejects.toThrow(message);
  expect(await checkpoints(table)).toEqual(before);
}

describe('a table that others inherit from', () => {
  beforeEach(async () => {
    await pipeline.source.unsafe(`
      create table parent (id int primary key, v text, updated_at timestamptz not null default now());
      create table child (extra text) inherits (parent);
      insert into parent values (1, 'from parent'); insert into child values (1, 'from child', now(), 'x')`);
  });

  it('is read without their rows: one row of a key, and no difference', async () => {
    const { registration } = await register(settings, 'parent');
    expect(registration.remarks).toEqual([expect.stringContaining('other tables inherit from public.parent')]);
    await flow('parent');
    expect(await current('parent', 'v')).toEqual([['from parent']]);
    await pipeline.source`update child set v = 'changed', updated_at = clock_timestamp()`;
    await flow('parent', true);
    expect(await current('parent', 'v')).toEqual([['from parent']]);
    expect(await reconcile('parent')).toMatchObject({ source_rows: 1, current_versions: 1, differences: [] });
  });

  it('is read with them where that is asked for, and stopped by name where two rows have one key: by add, full sweeps and reconcile', async () => {
    const message = 'the key of public.parent does not tell its rows apart: 1 key of several rows, or null in part';
    await expect(propose(settings, 'parent', { with_children: true })).rejects.toMatchObject({
      message,
      detail: expect.stringContaining('having count(*) > 1') as string,
    });
    await pipeline.source`update child set id = 2`;
    await register(settings, 'parent', { with_children: true });
    await flow('parent');
    expect(await current('parent', 'v')).toEqual([['from child'], ['from parent']]);
    expect(await reconcile('parent')).toMatchObject({ source_rows: 2, current_versions: 2, differences: [] });
    await pipeline.source`insert into child values (1, 'again', now(), 'x')`;
    await expectStopped('parent', message);
  });
});

it('a view with a wrong key is stopped by name before anything is written: by add, the first sweep and reconcile', async () => {
  await pipeline.source.unsafe(`
    create table lines (id int primary key, place int not null, v text, updated_at timestamptz not null default now());
    create view spots as select place, v, updated_at from lines; insert into lines values (1, 1, 'a'), (2, 2, 'b'), (3, 2, 'c')`);
  const message = 'the key of public.spots does not tell its rows apart: 1 key of several rows';
  await expect(propose(settings, 'spots', { key: ['place'] })).rejects.toThrow(message);
  await pipeline.source`delete from lines where id = 3`;
  await register(settings, 'spots', { key: ['place'] });
  await pipeline.source`insert into lines values (3, 2, 'c')`;
  await expect(extractTables({ settings, tables: ['spots'] })).rejects.toThrow(message);
  await pipeline.source`delete from lines where id = 3`;
  await flow('spots');
  await pipeline.source`insert into lines values (3, 2, 'c')`;
  await expectStopped('spots', message);
});

describe('a table without a key', () => {
  it('is told apart by all its columns: a changed row is another one, and the reconciler closes the one before', async () => {
    await pipeline.source.unsafe(`
      create table loose_rows (id int not null, val int, updated_at timestamptz not null default now());
      insert into loose_rows values (1, 10), (2, 20)`);
    const { registration, text } = await register(settings, 'loose_rows', { deletes: undefined });
    expect(registration.remarks).toEqual([
      expect.stringContaining('all its columns are taken for one (id, val), so that a changed row is another row'),
    ]);
    expect(text).toContain("    p_deletes => 'reconcile'");
    await flow('loose_rows');
    await pipeline.source`update loose_rows set val = 11, updated_at = clock_timestamp() where id = 1`;
    await flow('loose_rows');
    expect(await reconcile('loose_rows', true)).toMatchObject({ extra: 1, repaired: 1 });
    expect(await current('loose_rows', 'loose_row_key, val')).toEqual([
      [1, 11],
      [2, 20],
    ]);
    await pipeline.source`insert into loose_rows values (2, 20)`;
    await expectStopped('loose_rows', 'the key of public.loose_rows does not tell its rows apart: 1 key');
    await pipeline.source`delete from loose_rows where id = 2`;
    await pipeline.source`insert into loose_rows values (2, null)`;
    await expectStopped('loose_rows', 'or null in part');
  });

  it('is told apart by the columns that --key names, and stopped where they do not', async () => {
    await pipeline.source.unsafe(`
      create table events (code text not null, v text, doc json, updated_at timestamptz not null default now());
      insert into events values ('a', 'x'), ('b', 'x')`);
    await expect(propose(settings, 'events')).rejects.toThrow('column doc of public.events cannot be a key');
    await expect(propose(settings, 'events', { key: ['v'] })).rejects.toThrow('does not tell its rows apart: 1 key');
    await register(settings, 'events', { key: ['code'] });
    await flow('events');
    await pipeline.source`update events set v = 'y', updated_at = clock_timestamp() where code = 'b'`;
    await flow('events');
    expect(await current('events', 'code, v')).toEqual([
      ['a', 'x'],
      ['b', 'y'],
    ]);
    expect(await reconcile('events')).toMatchObject({ differences: [], source_rows: 2 });
  });

  it('is refused where it has more columns than a key may have, and a view where none is named', async () => {
    await pipeline.source.unsafe(
      `create table wide_rows (${Array.from({ length: 32 }, (_, place) => `c${String(place)} int not null`).join(', ')}, updated_at timestamptz not null)`,
    );
    await expect(propose(settings, 'wide_rows')).rejects.toMatchObject({
      message: expect.stringContaining('too many for one (32, of at most 31)') as string,
      hint: expect.stringContaining('--key') as string,
    });
    await register(settings, 'wide_rows', { ignore: ['c31'] });
  });
});

describe('deletes', () => {
  it.each([
    ['deleted_at timestamptz', 'soft', 'deleted_at', undefined],
    ['"deletedAt" timestamp', 'soft', 'deletedAt', undefined],
    ['"isDeleted" boolean not null', 'soft', 'isDeleted', ['true']],
    ['deleted_on date', 'soft', 'deleted_on', undefined],
    ['deleted text', 'reconcile', undefined, undefined],
    ['deleted_at timestamptz not null', 'reconcile', undefined, undefined],
    ['undeleted boolean', 'reconcile', undefined, undefined],
  ])(
    'are found by a mark whose meaning is certain, else by the reconciler: %s, %s',
    async (column, deletes, deleted_column, deleted_values) => {
      await pipeline.source.unsafe(
        `create table marked (id int primary key, ${column}, updated_at timestamptz not null)`,
      );
      const { registration } = await propose(settings, 'marked', { deletes: undefined });
      expect(registration.deletes).toEqual({ deletes, deleted_column, deleted_values });
      expect((await propose(settings, 'marked', { deletes: 'none' })).registration.deletes.deletes).toBe('none');
    },
  );

  it('that a source does in earnest are found by the reconciler, where it marks others', async () => {
    await pipeline.source.unsafe(`
      create table marked (id int primary key, deleted_at timestamptz, updated_at timestamptz not null default now());
      insert into marked values (1), (2), (3)`);
    await register(settings, 'marked', { deletes: undefined });
    await flow('marked');
    await pipeline.source`update marked set deleted_at = now(), updated_at = clock_timestamp() where id = 1`;
    await pipeline.source`delete from marked where id = 2`;
    const [result] = await reconcileTables({
      settings,
      tables: [],
      repair: 'declared',
      onlyDeclared: true,
      allowDeletes: false,
    });
    expect(result).toMatchObject({ table: 'marked', extra: 1, repaired: 1 });
    expect(await current('marked', 'marked_key')).toEqual([[3]]);
  });
});
