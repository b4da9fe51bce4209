import { execFileSync, spawnSync } from 'node:child_process';
import { cp, readdir, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { connect, type Database } from '../../runner/base/database.js';
import { runCli } from '../support/cli.js';
import { createPipeline, type TestPipeline } from '../support/databases.js';

let pipeline: TestPipeline;
let admin: Database;
beforeEach(async () => {
  pipeline = await createPipeline({ BATCH_SIZE: '7', BATCH_SIZE_MAX: '7' });
  admin = connect({ ...pipeline.admin.warehouse, database: 'postgres' }, 'test');
});
afterEach(async () => {
  await admin.end();
  await pipeline.drop();
});

const run = async (...args: string[]) => {
  const result = await runCli(args, pipeline.env);
  expect(result, result.stderr).toMatchObject({ code: 0 });
};
const traffic = (seed: number) => run('simulate', '--changes', '60', '--seed', String(seed));
const name = () => pipeline.admin.warehouse.database;

/** A backup of the warehouse, and how to make the database anew from it. pg_dump must not be older than the server: else the server copies the database. */
async function backUpWarehouse(): Promise<() => Promise<void>> {
  const { host, port, user, password } = pipeline.admin.warehouse;
  const env = { PATH: process.env.PATH ?? '', PGHOST: host, PGPORT: String(port), PGUSER: user, PGPASSWORD: password };
  const [server] = await admin<
    [{ major: number }]
  >`select current_setting('server_version_num')::integer / 10000 as major`;
  const found = Number(/\d+/.exec(spawnSync('pg_dump', ['--version'], { encoding: 'utf8' }).stdout)?.[0] ?? 0);
  if (found >= server.major) {
    const file = path.join(pipeline.folder, 'warehouse.dump');
    execFileSync('pg_dump', ['--format=custom', `--file=${file}`, name()], { env });
    return async () => {
      await admin`create database ${admin(name())} template template0 encoding 'UTF8'`;
      execFileSync('pg_restore', ['--exit-on-error', `--dbname=${name()}`, file], { env });
    };
  }
  process.stderr.write(
    `\nSKIPPED: there is no pg_dump for PostgreSQL ${String(server.major)}, the backup is a copy that the server makes\n\n`,
  );
  await admin`select pg_terminate_backend(pid, 10000) from pg_stat_activity where datname = ${name()}`;
  await admin`create database ${admin(`${name()}_backup`)} template ${admin(name())}`;
  return async () => {
    await admin`alter database ${admin(`${name()}_backup`)} rename to ${admin(name())}`;
  };
}

/** Rows that source and current history do not share, each way. */
async function differences(): Promise<string[]> {
  const columns =
    'customer_id, product_id, quantity, unit_price::text, total_amount::text, order_status, order_date::text';
  const source = await pipeline.source.unsafe<object[]>(`select id, ${columns} from orders order by id`);
  const history = await pipeline.warehouse.unsafe<object[]>(
    `select order_key as id, ${columns} from dim_orders_current order by order_key`,
  );
  const text = (rows: readonly object[]) => new Set(rows.map((row) => JSON.stringify(row)));
  return [...text(source)]
    .filter((row) => !text(history).has(row))
    .concat([...text(history)].filter((row) => !text(source).has(row)));
}

/** Extracts and loads until all is there. */
async function catchUp(): Promise<void> {
  for (const command of ['extract', 'load']) await run(command);
  expect(await differences()).toEqual([]);
}

/** The same, and proves it: after what was lost is there again. */
async function catchUpInAll(): Promise<void> {
  await catchUp();
  await run('check', 'pipeline', 'scd2');
  await run('reconcile');
}

test('warehouse and change log are dumped, lost, restored, and catch up with the source', async () => {
  await traffic(1);
  await catchUp();
  await traffic(2);
  await run('extract');
  // The change log first: then the ledger holds all that is in processed/, and extraction goes on from whichever is ahead.
  const [log, saved] = [pipeline.settings.cdc_log_dir, path.join(pipeline.folder, 'saved')];
  await cp(log, saved, { recursive: true });
  await run('load');
  await traffic(3);
  await catchUp();
  const restore = await backUpWarehouse();
  await traffic(4);
  await catchUp();

  await admin`drop database ${admin(name())} with (force)`;
  await rm(log, { recursive: true });
  expect((await runCli(['load'], pipeline.env)).stderr).toContain('has no database');
  await restore();
  await rename(saved, log);
  await traffic(5);
  await catchUpInAll();
});

test('a lost warehouse is made again from its backup and the change log that went on', async () => {
  await traffic(1);
  await catchUp();
  const restore = await backUpWarehouse();
  await traffic(2);
  await catchUp();
  const complete = await versions();
  await admin`drop database ${admin(name())} with (force)`;
  await restore();
  expect(await differences()).not.toEqual([]);
  // What was applied after the backup is applied again; what the ledger has is skipped.
  for (const table of await readdir(pipeline.settings.cdc_log_dir)) {
    const folder = path.join(pipeline.settings.cdc_log_dir, table);
    for (const file of await readdir(path.join(folder, 'processed')).catch(() => []))
      await rename(path.join(folder, 'processed', file), path.join(folder, file));
  }
  await catchUpInAll();
  expect(await versions()).toEqual(complete);
});

const versions = async () => [
  ...(await pipeline.warehouse`select order_key, valid_from, valid_to, batch_id, change_line from dim_orders_history order by order_key, valid_from`),
];
