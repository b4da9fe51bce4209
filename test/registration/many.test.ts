import { readFile, readdir } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Settings } from '../../runner/base/settings.js';
import { addTables, type AddedTables } from '../../runner/registration/many.js';
import { proposeRegistrations } from '../../runner/registration/propose.js';
import { parseTableName } from '../../runner/source/catalog.js';
import { migrateDimensions } from '../../runner/warehouse/migrate.js';
import { runCli, type CliResult } from '../support/cli.js';
import { createPipeline, type TestPipeline } from '../support/databases.js';
import { NOTHING_SAID, withDimensionsFolder } from '../support/registered.js';
import { asOwner } from '../support/roles.js';

let pipeline: TestPipeline;
let settings: Settings;
beforeEach(async () => {
  pipeline = await createPipeline();
  settings = await withDimensionsFolder(pipeline);
});
afterEach(async () => {
  await pipeline.drop();
});

const add = (...args: string[]): Promise<CliResult> =>
  runCli(['add', ...args], { ...pipeline.env, DIMENSIONS_DIR: settings.dimensions_dir });
const files = async () => (await readdir(settings.dimensions_dir)).sort();
const statesOf = ({ tables }: AddedTables) => Object.fromEntries(tables.map(({ table, state }) => [table, state]));
const ask = (asked: Partial<Parameters<typeof addTables>[1]>) =>
  addTables(settings, { names: [], schemas: [], exclude: [], ...asked }, NOTHING_SAID, { isDry: true, replace: false });

const SHOP = `
  create schema shop;
  create table shop.orders (id integer primary key, note text, updated_at timestamptz not null default now());
  create table shop.order_lines (
    order_id integer, line integer, amount numeric(10, 2), deleted_at timestamptz, updated_at timestamptz not null, primary key (order_id, line)
  );
  create table shop.payments (id integer, day date, updated_at timestamptz not null, primary key (id, day)) partition by range (day);
  create table shop.payments_2026 partition of shop.payments for values from ('2026-01-01') to ('2027-01-01');
  create table shop.bad (id integer primary key, operation_type text, updated_at timestamptz not null);
  create view shop.recent as select * from shop.orders;`;

describe('tidemark add with many tables', () => {
  it('writes one migration for each that can be, says how each is captured, and why one cannot be', async () => {
    await pipeline.source.unsafe(SHOP);
    const before = await files();
    const dry = await add('--schema', 'shop', '--dry-run');
    expect(dry.stdout).toMatch(/^shop\.orders +to be added as shop_orders +id +updated_at/m);
    expect(await files()).toEqual(before);

    const { code, stdout, stderr } = await add('--schema', 'shop');
    expect(code).toBe(1);
    expect(stderr).toContain('1 of 4 tables cannot be added: shop.bad');
    expect(stdout).toMatch(/^shop\.order_lines +\d+_register_order_lines\.sql +order_id, line +updated_at/m);
    expect(stdout).toContain(
      'not added: shop.bad: source column operation_type has a name that batch files use for themselves\n  next:  leave it out with --ignore operation_type',
    );
    expect(stdout).toContain('left out: shop.payments_2026: a partition of shop.payments, which is read whole');
    expect(stdout).toContain('left out: shop.recent: no table');
    const written = (await files()).filter((file) => !before.includes(file));
    expect(written.map((file) => file.replace(/^\d+_/, ''))).toEqual([
      'register_order_lines.sql',
      'register_shop_orders.sql',
      'register_payments.sql',
    ]);
    await migrateDimensions(asOwner(settings.warehouse), settings.dimensions_dir);

    const again = JSON.parse((await add('--schema', 'shop', '--exclude', 'bad', '--json')).stdout) as AddedTables;
    expect(statesOf(again)).toEqual({
      'shop.order_lines': 'registered',
      'shop.orders': 'registered',
      'shop.payments': 'registered',
    });
  });

  it('says once what is to be said of several tables', async () => {
    await pipeline.source.unsafe(`
      create schema lists; create table lists.countries (code text primary key); create table lists.units (code text primary key);`);
    const { stdout } = await add('--schema', 'lists');
    expect(stdout).toContain('note: lists.countries, lists.units: no column says when a row changed: ');
    expect(stdout.match(/^note: /gm)).toHaveLength(1);
  });

  it('takes names and patterns, no table twice, and no partition beside its parent', async () => {
    await pipeline.source.unsafe(SHOP);
    const found = await ask({
      names: ['shop.payments_2026', 'shop.pay*', 'shop.order*', 'shop.orders', 'public.nope*'],
    });
    expect(statesOf(found)).toEqual({
      'shop.orders': 'new',
      'shop.order_lines': 'new',
      'shop.payments': 'new',
      'public.nope*': 'failed',
    });
    expect(statesOf(await ask({ names: ['shop.payments_2026', 'shop.nothing'] }))).toEqual({
      'shop.payments_2026': 'new',
      'shop.nothing': 'failed',
    });
    expect(statesOf(await ask({ names: ['shop.*'], exclude: ['*_lines', 'shop.b*', 'public.orders'] }))).toEqual({
      'shop.orders': 'new',
      'shop.payments': 'new',
    });
  });

  it('offers no table of the system, of an extension, or of Tidemark', async () => {
    await pipeline.source.unsafe(`
      create table of_an_extension (id integer primary key); create extension if not exists citext;
      alter extension citext add table of_an_extension; create temporary table passing (id integer)`);
    const { tables } = await ask({});
    expect(tables.map(({ table }) => table)).toEqual(['public.customers', 'public.orders', 'public.products']);
  });

  it('asks the catalog once for all of them', async () => {
    await pipeline.source.unsafe(
      `do $$ begin for i in 1..70 loop execute format('create table t%s (id integer primary key, a text, updated_at timestamptz not null)', i); end loop; end $$`,
    );
    const names = [...Array(70).keys()].map((number) => parseTableName(`t${String(number + 1)}`));
    const counted = async () =>
      (
        await pipeline.source<{ n: string }[]>`
        select xact_commit::text as n from pg_stat_database where datname = current_database()`
      )[0]?.n;
    await pipeline.source`select pg_stat_clear_snapshot()`;
    const before = Number(await counted());
    expect((await proposeRegistrations(settings, names, NOTHING_SAID)).filter((each) => 'error' in each)).toEqual([]);
    await pipeline.source`select pg_stat_force_next_flush()`;
    expect(Number(await counted()) - before).toBeLessThan(20);
  });
});

describe('tidemark add of one table', () => {
  it('that is registered already leaves it alone, unless something is said of it', async () => {
    expect(await add('public.orders')).toMatchObject({
      code: 0,
      stdout: 'public.orders: registered as orders, and left alone\n',
    });
    expect((await add('public.orders', '--key', 'id')).stderr).toContain('a dimension called orders is registered');
    expect((await add('public.orders', 'public.products', '--key', 'id')).stderr).toContain(
      '--key goes with one table',
    );
    expect((await add()).code).toBe(2);
  });

  it('writes the file of a registration anew while its migration has not run, and not once it has', async () => {
    await pipeline.source.unsafe(SHOP);
    await add('shop.order_lines');
    const [file = ''] = (await files()).filter((each) => each.includes('order_lines'));
    const textOf = (name: string) => readFile(path.join(settings.dimensions_dir, name), 'utf8');
    const number = file.slice(0, 4);

    expect((await add('shop.order_lines')).stdout).toContain(`by ${file}, which has not run yet`);
    expect((await add('shop.order_lines', '--replace', '--untracked', 'amount')).code).toBe(0);
    expect(await textOf(file)).toMatch(/"amount".*"untracked"/);
    expect((await add('shop.order_lines', '--replace', '--name', 'lines')).code).toBe(0);
    expect((await files()).filter((each) => each.startsWith(number))).toEqual([`${number}_register_lines.sql`]);

    await migrateDimensions(asOwner(settings.warehouse), settings.dimensions_dir);
    const late = await add('shop.order_lines', '--replace', '--untracked', 'amount');
    expect(late.code).toBe(1);
    expect(late.stderr).toContain(
      'shop.order_lines is registered as lines: its migration has run, and cannot be replaced',
    );
    expect(late.stderr).toContain('npx tidemark add --update shop.order_lines');
  });
});
