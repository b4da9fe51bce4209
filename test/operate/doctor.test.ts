// Runs on each version: it asks for settings and rights, which are not the same on each.
import { randomBytes } from 'node:crypto';
import { mkdir, readFile, readdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { examine } from '../../runner/operate/doctor.js';
import type { Finding } from '../../runner/operate/finding.js';
import { extractTables } from '../../runner/extract/tables.js';
import { runCli } from '../support/cli.js';
import { createEmptyDatabase, createPipeline, environmentOf, type TestPipeline } from '../support/databases.js';
import { createThings } from '../support/extraction.js';

let pipeline: TestPipeline;
beforeEach(async () => {
  pipeline = await createPipeline();
});
afterEach(async () => {
  await pipeline.drop();
});

const bad = async (overrides: Partial<TestPipeline['settings']> = {}) =>
  (await examine({ ...pipeline.settings, ...overrides })).filter(({ status }) => status !== 'ok');
const about = (findings: readonly Finding[], subject: string) => findings.filter((each) => each.subject === subject);

describe('doctor', () => {
  it('finds nothing to mend where all is well, and says of each thing that it is', async () => {
    const findings = await examine(pipeline.settings);
    expect(findings.filter(({ status }) => status !== 'ok')).toEqual([]);
    expect(findings.map(({ subject }) => subject)).toEqual([
      'warehouse',
      'warehouse',
      'source',
      'source',
      'table customers',
      'table orders',
      'table products',
      'deletes',
      'clocks',
      'change log',
    ]);
  });

  it('finds a server that is down, and looks at what is left', async () => {
    const findings = await bad({ source: { ...pipeline.settings.source, port: 1 } });
    expect(findings).toMatchObject([
      {
        status: 'error',
        subject: 'source',
        message: expect.stringContaining('does not answer at') as string,
        remedy: expect.stringContaining('DB_PORT') as string,
      },
    ]);
  });

  it('finds a warehouse that is not migrated', async () => {
    const empty = await createEmptyDatabase('warehouse');
    const findings = await bad({ warehouse: empty.settings });
    expect(about(findings, 'warehouse')).toMatchObject([
      {
        status: 'error',
        message: expect.stringContaining('migrations are pending: 0001_') as string,
        remedy: 'run: npx tidemark migrate',
      },
    ]);
    await empty.drop();
  });

  it('looks for migrations of tables where DIMENSIONS_DIR says', async () => {
    const folder = path.join(pipeline.folder, 'dimensions');
    await mkdir(folder);
    await writeFile(path.join(folder, '0009_register_more.sql'), '-- Up Migration\n');
    expect(about(await bad({ dimensions_dir: folder }), 'warehouse')).toMatchObject([
      { status: 'error', message: 'migrations are pending: 0009_register_more' },
    ]);
  });

  it('finds a role that is blind, with the statement that mends it, and tables it may not read', async () => {
    const role = `reader_${randomBytes(4).toString('hex')}`;
    await pipeline.source.unsafe(`create role ${role} login password 'x'`);
    const findings = await bad({ source: { ...pipeline.settings.source, user: role, password: 'x' } });
    expect(about(findings, 'source')).toMatchObject([
      { status: 'warning', remedy: `as a superuser of the source: grant pg_read_all_stats to ${role}` },
    ]);
    expect(about(findings, 'table orders')).toMatchObject([
      {
        status: 'error',
        message: expect.stringMatching(/^columns of source table public.orders may not be read: id, /) as string,
      },
    ]);
    await pipeline.source.unsafe(`drop role ${role}`);
  });

  it('finds missing tables, missing indexes, partitions and views', async () => {
    await createThings(pipeline);
    await pipeline.source`alter table orders rename to orders_away`;
    const things = about(await bad(), 'table things').map(({ message }) => message);
    expect(things).toEqual(['no index serves extraction: each page reads the whole table']);
    expect(about(await bad(), 'table orders')).toMatchObject([
      { status: 'error', message: 'source table public.orders does not exist' },
    ]);
    await pipeline.source.unsafe(
      'drop table things; create table things (id integer, state text, touched timestamptz not null, primary key (id)) partition by range (id); create index on things (touched, id)',
    );
    expect(about(await bad(), 'table things')).toMatchObject([
      { message: expect.stringContaining('ATTACH PARTITION') as string },
    ]);
    await pipeline.source.unsafe(
      'drop table things; create view things as select 1 as id, null::text as state, now() as touched',
    );
    expect(about(await bad(), 'table things')[0]).toMatchObject({
      message: 'it is a view: read by times alone, with repeats',
    });
  });

  it('finds updates that do not touch their time', async () => {
    const insert = (stamp: string) =>
      pipeline.source.unsafe(`
      insert into orders (customer_id, product_id, quantity, unit_price, total_amount, order_status, order_date, last_updated)
      select g, 1, 1, 1, 1, 'pending', now(), ${stamp} from generate_series(1, 30) as g`);
    await insert("'2026-02-01'");
    await extractTables({ settings: pipeline.settings, tables: ['orders'] });
    expect(await bad()).toEqual([]);
    await insert('now()');
    await pipeline.source`update orders set order_status = 'lost' where id <= 3`;
    expect(await bad()).toMatchObject([
      { status: 'warning', subject: 'table orders', message: expect.stringContaining('3 rows of a sample') as string },
    ]);
  });

  it('finds transactions that nobody ends', async () => {
    const gid = `test ${randomBytes(4).toString('hex')}`;
    await pipeline.source.begin(async (writer) => {
      await writer`create table anything ()`;
      await writer.prepare(gid);
    });
    expect(await bad()).toMatchObject([
      {
        status: 'warning',
        subject: 'source',
        message: expect.stringContaining('open since nobody knows when (prepared') as string,
      },
    ]);
    await pipeline.source.unsafe(`rollback prepared '${gid}'`);
  });

  it('finds clocks that differ', async () => {
    // Sessions of the warehouse find this clock before that of the server.
    await pipeline.warehouse.unsafe(`
      create schema faulty;
      create function faulty.clock_timestamp() returns timestamptz language sql volatile as 'select pg_catalog.clock_timestamp() - interval ''90 seconds''';
      grant usage on schema faulty to public;
      alter database ${pipeline.admin.warehouse.database} set search_path = faulty, pg_catalog, public`);
    expect(await bad()).toMatchObject([
      {
        status: 'warning',
        subject: 'clocks',
        message: expect.stringMatching(
          /^the clock of the warehouse is (89|90)\.\d{3} s behind that of the source/,
        ) as string,
      },
    ]);
  });

  it('finds another server in the place of the source', async () => {
    await extractTables({ settings: pipeline.settings, tables: ['orders'] });
    const folder = path.join(pipeline.settings.cdc_log_dir, 'orders', 'checkpoints');
    const [file = ''] = await readdir(folder);
    await writeFile(
      path.join(folder, file),
      (await readFile(path.join(folder, file), 'utf8')).replace(/"timeline": \d+/, '"timeline": 41'),
    );
    expect(await bad()).toMatchObject([
      { status: 'error', subject: 'table orders', remedy: expect.stringContaining('reconcile --repair') as string },
    ]);
  });

  it('is a command: it exits 1 where something must be mended, 0 where nothing must', async () => {
    const well = await runCli(['doctor'], pipeline.env);
    expect(well.code, well.stdout).toBe(0);
    expect(well.stdout).toContain('ok       table orders: public.orders can be extracted');
    const ill = await runCli(['doctor'], {
      ...pipeline.env,
      ...environmentOf({ ...pipeline.settings.source, database: 'not_there' }),
    });
    expect(ill.code).toBe(1);
    expect(ill.stdout).toMatch(
      /^ERROR +source: the source server has no database not_there\n +next: create it, or set DB_NAME$/m,
    );
    expect(JSON.parse((await runCli(['doctor', '--json'], pipeline.env)).stdout)).toHaveLength(10);
  });
});
