import { readdir } from 'node:fs/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Settings } from '../../runner/base/settings.js';
import { examine } from '../../runner/operate/doctor.js';
import { pipelineStatus } from '../../runner/operate/status.js';
import { writeDimensionFile } from '../../runner/registration/files.js';
import { browseTable } from '../../runner/registration/registered.js';
import { migrateWarehouse } from '../../runner/warehouse/migrate.js';
import { extractTables } from '../../runner/extract/tables.js';
import { runCli } from '../support/cli.js';
import { createPipeline, createWarehouseDatabase, type TestPipeline } from '../support/databases.js';
import { propose, register, withDimensionsFolder } from '../support/registered.js';
import { loadTables } from '../../runner/load/tables.js';
import { IS_PARTITIONED } from '../support/partitions.js';

let pipeline: TestPipeline;
beforeEach(async () => {
  pipeline = await createPipeline();
  await pipeline.source`insert into customers (full_name, email) values ('Ada', 'a@x')`;
  await pipeline.source`insert into products (title, category, unit_price) values ('Tea', 'kitchen', 1.50)`;
});
afterEach(async () => {
  await pipeline.drop();
});

const run = (...args: string[]) => runCli(args, pipeline.env);
const extract = (...tables: string[]) => extractTables({ settings: pipeline.settings, tables });
const load = (...tables: string[]) => loadTables({ settings: pipeline.settings, tables });

describe('several tables', () => {
  it('flow together, each with a watermark of its own', async () => {
    expect((await extract()).map(({ table, changes }) => [table, changes])).toEqual([
      ['customers', 1],
      ['orders', 0],
      ['products', 1],
    ]);
    await pipeline.source`update products set stock = 5, last_updated = now()`;
    expect((await extract('products')).map(({ table, changes }) => [table, changes])).toEqual([['products', 1]]);
    expect((await load()).map(({ table, batches, inserted_versions }) => [table, batches, inserted_versions])).toEqual([
      ['customers', 1, 1],
      ['orders', 0, 0],
      ['products', 2, 1],
    ]);
    // The stock is no reason for a version: it is overwritten in place.
    expect(await pipeline.warehouse`select title, stock, is_current from dim_products_history`).toEqual([
      { title: 'Tea', stock: 5, is_current: true },
    ]);
  });
});

describe('tidemark table', () => {
  it('lists what is registered', async () => {
    const { code, stdout } = await run('table', 'list');
    expect(stdout).toMatch(/^orders +public\.orders +public\.dim_orders_history +active/m);
    expect(code).toBe(0);
    expect(JSON.parse((await run('table', 'list', '--json')).stdout)).toMatchObject([
      { dimension_name: 'customers' },
      { dimension_name: 'orders' },
      { dimension_name: 'products' },
    ]);
  });

  it.skipIf(IS_PARTITIONED)(
    'makes the indexes for browsing while loads go on, once, says when they would help, and drops them',
    async () => {
      const { settings, warehouse } = pipeline;
      const advised = async () =>
        (await examine(settings)).filter(({ message }) => message.includes('table browse orders on'));
      expect(await advised()).toEqual([]);
      await warehouse`update pg_class set reltuples = 2e6 where oid = 'public.dim_orders_history'::regclass`;
      expect(await advised()).toMatchObject([{ status: 'ok', subject: 'table orders' }]);
      expect(await browseTable(settings, 'orders', true)).toEqual([
        'create index concurrently dim_orders_history_browse_from on public.dim_orders_history (valid_from)',
        'create index concurrently dim_orders_history_browse_to on public.dim_orders_history (valid_to) where (valid_to IS NOT NULL)',
      ]);
      expect([await advised(), await browseTable(settings, 'orders', true)]).toEqual([[], []]);
      await warehouse`update pg_index set indisvalid = false where indexrelid = 'public.dim_orders_history_browse_to'::regclass`;
      expect(await browseTable(settings, 'orders', true)).toHaveLength(2);
      expect(await browseTable(settings, 'orders', false)).toHaveLength(2);
      expect(await run('table', 'browse', 'orders')).toMatchObject({
        code: 2,
        stderr: expect.stringContaining('table browse orders on') as string,
      });
    },
  );

  it('pauses a table: it is neither extracted nor loaded, the others go on, and nothing is lost meanwhile', async () => {
    await extract('customers');
    expect((await run('table', 'pause', 'customers')).stdout).toBe(
      'customers is paused: npx tidemark table resume customers\n',
    );
    await pipeline.source`insert into customers (full_name, email) values ('Bo', 'b@x')`;
    expect((await extract()).map(({ table }) => table)).toEqual(['orders', 'products']);
    expect((await load()).map(({ table }) => table)).toEqual(['orders', 'products']);
    const asked = await run('extract', '--table', 'customers');
    expect(asked).toMatchObject({ code: 2, stderr: expect.stringContaining('paused: customers') as string });
    expect(asked.stderr).toContain('npx tidemark table resume customers');
    expect((await run('table', 'resume', 'customers')).code).toBe(0);
    expect(await extract('customers')).toMatchObject([{ changes: 1 }]);
    expect(await load('customers')).toMatchObject([{ batches: 2, inserted_versions: 2 }]);
  });

  it('removes a table but not its history; its change log is set aside, and the name is free for another registration', async () => {
    await extract();
    await load();
    expect((await run('reconcile', '--table', 'customers')).code).toBe(0);
    const removed = await run('table', 'remove', 'customers');
    expect(removed.stdout).toContain('public.dim_customers_history stays as it is');
    expect(await pipeline.warehouse`select full_name from dim_customers_history`).toEqual([{ full_name: 'Ada' }]);
    const logs = await readdir(pipeline.settings.cdc_log_dir);
    expect(logs).not.toContain('customers');
    expect(logs.filter((name) => /^customers\.removed_\d{8}_\d{6}$/.test(name))).toHaveLength(1);
    expect((await extract()).map(({ table }) => table)).toEqual(['orders', 'products']);

    await pipeline.warehouse`drop table dim_customers_history cascade`;
    const settings = { ...(await withDimensionsFolder(pipeline)), dimensions_dir: `${pipeline.folder}/mine` };
    await pipeline.warehouse`drop table tidemark.dimension_migrations`;
    await register(settings, 'customers', { untracked: ['city'] });
    expect(await extractTables({ settings, tables: ['customers'] })).toMatchObject([{ changes: 1 }]);
    expect(await loadTables({ settings, tables: ['customers'] })).toMatchObject([{ inserted_versions: 1 }]);
  });

  it('takes a removed table out of status, though its folder stays, with the warehouse up and away', async () => {
    await extract();
    await run('table', 'remove', 'customers');
    expect((await readdir(pipeline.settings.cdc_log_dir)).join()).toContain('customers.removed_');
    const listed = async (settings: Settings) => (await pipelineStatus(settings)).tables.map(({ table }) => table);
    expect(await listed(pipeline.settings)).toEqual(['orders', 'products']);
    const away = { ...pipeline.settings, warehouse: { ...pipeline.settings.warehouse, port: 1 } };
    expect(await listed(away)).toEqual(['orders', 'products']);
  });

  it('removes it from every table that refers to what is registered', async () => {
    const referring = await pipeline.warehouse<{ name: string }[]>`
      select conrelid::regclass::text as name from pg_constraint where confrelid = 'tidemark.dimensions'::regclass`;
    const [definition] = await pipeline.warehouse<{ body: string }[]>`
      select string_agg(prosrc, '') as body
      from pg_proc where oid in ('tidemark.remove_dimension'::regproc, 'tidemark.abandon_partitioning'::regproc)`;
    expect(referring.map(({ name }) => name)).toContain('tidemark.reconciliations');
    expect(referring.filter(({ name }) => !(definition?.body ?? '').includes(`delete from ${name} as`))).toEqual([]);
  });

  it('lets a removed table come back under its name once its history has made room, in a warehouse made anew too', async () => {
    const settings = await withDimensionsFolder(pipeline);
    const env = { ...pipeline.env, DIMENSIONS_DIR: settings.dimensions_dir };
    await extract('customers');
    await load('customers');
    await pipeline.source`update customers set city = 'Rome', updated_at = clock_timestamp()`;
    const [{ batch } = { batch: '' }] = (await extract('customers')).map(({ batches }) => ({ batch: batches }));
    expect(batch).toBe(1);
    const removed = await run('table', 'remove', 'customers');
    expect(removed.stdout).toMatch(/1 batch in it was never loaded, history lacks them: changes_\d{8}_\d{6}_\d{3}/);
    expect(removed.stdout).toContain('to register it again: npx tidemark add; its history must make room first');

    const kept = await runCli(['add', 'public.customers'], env);
    expect(kept).toMatchObject({
      code: 1,
      stderr: expect.stringContaining(
        'customers was removed and its history kept: public.dim_customers_history is in the way of a new one',
      ) as string,
    });
    const [, statements = ''] = /To keep it, on the warehouse: (.*?); to give it up/.exec(kept.stderr) ?? [];
    await pipeline.warehouse.unsafe(statements);
    expect(await pipeline.warehouse`select full_name from kept.dim_customers_history`).toHaveLength(1);

    await register(settings, 'customers', { untracked: ['city'] });
    expect(await extractTables({ settings, tables: ['customers'] })).toMatchObject([{ changes: 1 }]);
    expect(await loadTables({ settings, tables: ['customers'] })).toMatchObject([{ inserted_versions: 1 }]);
    await expect(propose(settings, 'customers')).rejects.toThrow(
      'a dimension called customers is registered by a migration already',
    );

    const anew = await createWarehouseDatabase();
    await migrateWarehouse(anew.settings, settings.dimensions_dir);
    expect(
      await anew.sql`select column_role from tidemark.dimension_columns where dimension_name = 'customers' and source_column = 'city'`,
    ).toEqual([{ column_role: 'untracked' }]);
    await anew.drop();
  });

  it('whose registration has not run yet is not registered once more', async () => {
    const settings = await withDimensionsFolder(pipeline);
    await pipeline.source`create table parts (id integer primary key, last_updated timestamptz)`;
    await writeDimensionFile(settings.dimensions_dir, 'register_parts', (await propose(settings, 'parts')).text);
    await expect(propose(settings, 'parts')).rejects.toMatchObject({
      message: 'a dimension called parts is registered by a migration that has not run yet',
      hint: expect.stringContaining('npx tidemark migrate') as string,
    });
  });

  it('keeps history and registration where something of your own depends on the history to be dropped, and names it', async () => {
    await pipeline.warehouse`create view report as select title from dim_products_history`;
    const { code, stderr } = await run('table', 'remove', 'products', '--drop-history');
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /history public\.dim_products_history cannot be dropped: something of your own depends on it[\s\S]*view public\.report depends on table public\.dim_products_history[\s\S]*nothing was changed/,
    );
    expect((await run('table', 'list')).stdout).toContain('products');
  });

  it('drops the history where it is told to', async () => {
    expect((await run('table', 'remove', 'products', '--drop-history')).stdout).toContain(
      'public.dim_products_history is dropped',
    );
    expect(await pipeline.warehouse`select to_regclass('public.dim_products_history') as history`).toEqual([
      { history: null },
    ]);
    expect((await run('check')).stdout).toContain('all passed');
  });

  it.each([
    [['pause'], 'pause needs the name of a table'],
    [['pause', 'nothing'], 'no table of that name is registered: nothing'],
    [['remove', 'nothing'], 'registered are: customers, orders, products'],
    [['pause', 'orders', '--drop-history'], '--drop-history goes with remove only'],
    [['forget', 'orders'], 'Choices'],
  ])('exits 2 on wrong usage: %j', async (args, message) => {
    const { code, stderr } = await run('table', ...args);
    expect(stderr).toContain(message);
    expect(code).toBe(2);
  });
});
