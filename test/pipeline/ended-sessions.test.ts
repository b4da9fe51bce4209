import { readFileSync, readdirSync } from 'node:fs';
import { readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect, type Database } from '../../runner/base/database.js';
import { PROJECT_ROOT } from '../../runner/base/settings.js';
import { runCli, startCli, type CliResult } from '../support/cli.js';
import { createPipeline, type TestPipeline } from '../support/databases.js';
import { until } from '../support/wait.js';

/** The server ends a session wherever one has a transaction open: told to while a statement runs or between two, or because it was idle. */

/** A place that opens a transaction, and how to hold it there. */
interface Place {
  readonly file: string;
  readonly command: string;
  readonly end: 'source' | 'warehouse';
  /** What another session does first, so that the command waits inside of its transaction. */
  readonly hold: string;
  /** What was held is tried again where others wait for it too; else the command fails. */
  readonly goesOn?: true;
}

const RETENTION = { ABSORBED_RETENTION_DAYS: '10', RUN_RETENTION_DAYS: '10' };
const HISTORY = 'lock table public.dim_orders_history in access exclusive mode';
const ORDERS = 'lock table public.orders in access exclusive mode';

const EXPORTED = path.join(tmpdir(), `tidemark-ended-${String(process.pid)}`);

const PLACES: readonly Place[] = [
  {
    file: 'warehouse/migrate.ts',
    command: 'migrate',
    end: 'warehouse',
    hold: 'select pg_advisory_xact_lock(7241865325)',
  },
  { file: 'warehouse/checks.ts', command: 'check', end: 'warehouse', hold: 'lock table tidemark.batches' },
  { file: 'load/replay.ts', command: 'verify-log --table orders', end: 'warehouse', hold: HISTORY },
  { file: 'load/replay.ts', command: 'rebuild --table orders', end: 'warehouse', hold: HISTORY },
  { file: 'load/dry-run.ts', command: 'load --dry-run --table orders', end: 'warehouse', hold: HISTORY },
  { file: 'operate/time-travel.ts', command: 'as-of orders now', end: 'warehouse', hold: HISTORY },
  {
    file: 'operate/export-table.ts',
    command: `export orders --format parquet --to ${EXPORTED}`,
    end: 'warehouse',
    hold: HISTORY,
  },
  { file: 'operate/report.ts', command: 'report --output /tmp', end: 'warehouse', hold: HISTORY },
  {
    file: 'operate/prune.ts',
    command: 'prune --table orders',
    end: 'warehouse',
    hold: 'lock table tidemark.absorbed_changes',
  },
  {
    file: 'operate/prune.ts',
    command: 'prune --dry-run --table orders',
    end: 'warehouse',
    hold: 'lock table tidemark.absorbed_changes',
  },
  {
    file: 'operate/batches.ts',
    command: 'batch retract orders first --reason wrong',
    end: 'warehouse',
    hold: 'lock table tidemark.batches',
  },
  {
    file: 'operate/batches.ts',
    command: 'batch retract orders first --reason wrong --dry-run',
    end: 'warehouse',
    hold: 'lock table tidemark.batches',
  },
  {
    file: 'operate/grants.ts',
    command: 'grants --apply --prefix ended',
    end: 'source',
    hold: 'grant select on public.orders to pg_monitor',
  },
  {
    file: 'operate/events.ts',
    command: 'events subscribe shop --to https://shop.example/ --from snapshot',
    end: 'warehouse',
    hold: 'lock table tidemark.subscriptions',
  },
  {
    file: 'source/catalog.ts',
    command: 'add public.customers',
    end: 'source',
    hold: 'lock table pg_catalog.pg_description',
  },
  { file: 'demo/simulate.ts', command: 'simulate --changes 5', end: 'source', hold: ORDERS },
  {
    // One statement, which is a transaction of its own.
    file: '',
    command: 'load --retry-rejected --table products',
    end: 'warehouse',
    hold: "select tidemark._lock_dimension('products', '')",
  },
  {
    file: 'warehouse/batches.ts',
    command: 'load --table orders',
    end: 'warehouse',
    hold: "select tidemark._lock_dimension('orders', '')",
    goesOn: true,
  },
  {
    file: 'operate/partition.ts',
    command: 'table partition customers 3',
    end: 'warehouse',
    hold: 'lock table public.dim_customers_history in share mode',
    goesOn: true,
  },
  { file: 'source/table.ts', command: 'extract --table orders', end: 'source', hold: ORDERS, goesOn: true },
  {
    file: 'source/table.ts',
    command: 'reconcile --table orders',
    end: 'source',
    hold: ORDERS,
    goesOn: true,
  },
];

let pipeline: TestPipeline;
let env: Record<string, string>;
beforeAll(async () => {
  pipeline = await createPipeline(RETENTION);
  env = { ...pipeline.env };
  const run = async (...commands: string[]) => {
    for (const command of commands) expect(await runCli(command.split(' '), env)).toMatchObject({ code: 0 });
  };
  await run('demo', 'simulate --changes 20 --seed 1', 'extract', 'load');
  // Orders wait to be loaded, and nothing else does.
  await run('simulate --changes 20 --seed 2', 'extract', 'load --table customers --table products');
});
afterAll(async () => {
  await pipeline.drop();
  await rm(EXPORTED, { recursive: true, force: true });
});

/** All that both ends and the change log hold, but for what says that a command ran. */
async function everything(): Promise<unknown> {
  const held: unknown[] = [];
  for (const sql of [pipeline.source, pipeline.warehouse]) {
    const tables = await sql<{ name: string }[]>`
      select format('%I.%I', schemaname, tablename) as name from pg_tables
      where schemaname in ('public', 'tidemark') and tablename not in ('pipeline_metadata', 'indicators', 'check_results', 'exports') order by 1`;
    const rows = tables.map(
      ({ name }) =>
        `select '${name}' as name, md5(string_agg(t::text, ' ' order by t::text)) as rows from ${name} as t`,
    );
    held.push([...(await sql.unsafe(rows.join(' union all ')))]);
    held.push(
      await sql`select oid::text, xmin::text from pg_proc where pronamespace = to_regnamespace('tidemark') order by oid`,
    );
    held.push(await sql`select rolname from pg_roles where rolname like 'ended%'`);
  }
  const files = await readdir(pipeline.settings.cdc_log_dir, { recursive: true });
  return [held, files.sort()];
}

let found: Promise<unknown> | undefined;
/** What there was before the first command that fails: each of them leaves it so. Those that go on come last. */
const before = () => (found ??= everything());

interface Held {
  readonly ended: Promise<CliResult>;
  readonly pid: number;
  readonly admin: Database;
  /** Lets go of what the command waits for. */
  readonly letGo: () => Promise<void>;
}

/** Starts a command by `run`, and returns when it waits inside of a transaction, and for nothing but what is held. */
async function hold(
  { command, end, hold: statement }: Place,
  isInside = true,
  run: (args: readonly string[]) => Promise<CliResult> = (args) => runCli(args, env),
): Promise<Held> {
  const blocker = connect(pipeline.admin[end], 'blocker');
  await blocker.unsafe(`begin; ${statement}`);
  const ended = run(command.split(' '));
  const admin = pipeline[end];
  const pid = await until(async () => {
    const [waiting] = await admin<{ pid: number }[]>`
      select pid from pg_stat_activity
      where datname = current_database() and application_name like 'tidemark %' and application_name not like '% run'
        and wait_event_type = 'Lock' and (xact_start < query_start or not ${isInside})`;
    return waiting?.pid;
  });
  const letGo = async () => {
    await blocker.unsafe('rollback');
    await blocker.end();
  };
  return { ended, pid, admin, letGo };
}

const gone = (admin: Database, pid: number) =>
  until(async () => (await admin`select from pg_stat_activity where pid = ${pid}`).length === 0);

async function end(admin: Database, pid: number): Promise<void> {
  await admin`select pg_terminate_backend(${pid})`;
  await gone(admin, pid);
}

const clearly = (result: CliResult, end: string) => {
  expect(result.stderr).not.toMatch(/TypeError|uncaught|node:|\n +at /i);
  expect(result).toMatchObject({
    code: 1,
    stderr: expect.stringContaining(`the ${end} database ended the connection`) as string,
  });
};

describe('a session that the server ends', () => {
  it.each(PLACES.filter(({ goesOn }) => goesOn !== true))(
    'under a statement of $command fails it with a clear error, and nothing is half done',
    async (place) => {
      const was = await before();
      const { ended, pid, admin, letGo } = await hold(place);
      await end(admin, pid);
      await letGo();
      clearly(await ended, place.end);
      expect(await everything()).toEqual(was);
    },
  );

  it.each(['pg_terminate_backend', 'IDLE_TIMEOUT_SECONDS'])(
    'between two statements, by %s, fails the command the same way',
    async (means) => {
      const place = PLACES.find(({ command }) => command.startsWith('verify-log'));
      if (place === undefined) throw new Error('no place');
      const was = await before();
      const limit = means === 'IDLE_TIMEOUT_SECONDS' ? { [means]: '1' } : {};
      const cli = startCli(place.command.split(' '), { ...env, ...limit });
      const { ended, pid, admin, letGo } = await hold(place, true, () => cli.ended);
      cli.kill('SIGSTOP');
      await letGo();
      await until(
        async () => (await admin`select from pg_stat_activity where pid = ${pid} and state = 'active'`).length === 0,
      );
      if (means === 'pg_terminate_backend') await admin`select pg_terminate_backend(${pid})`;
      await gone(admin, pid);
      cli.kill('SIGCONT');
      clearly(await ended, place.end);
      expect(await everything()).toEqual(was);
    },
  );

  it('under the driver of the migrations fails migrate the same way', async () => {
    const place: Place = {
      file: '',
      command: 'migrate',
      end: 'warehouse',
      hold: 'lock table tidemark.warehouse_migrations',
    };
    const { ended, pid, admin, letGo } = await hold(place, false);
    await end(admin, pid);
    await letGo();
    clearly(await ended, place.end);
  });

  it.each(['lock table public.customers', ORDERS])(
    'under a statement that is a transaction by itself, behind "%s", fails demo the same way',
    async (statement) => {
      const was = await before();
      const place: Place = { file: '', command: 'demo', end: 'source', hold: statement };
      const { ended, pid, admin, letGo } = await hold(place, false);
      await end(admin, pid);
      await letGo();
      clearly(await ended, place.end);
      expect(await everything()).toEqual(was);
    },
  );

  it.each(PLACES.filter(({ goesOn }) => goesOn === true))(
    'under a statement of $command is made again, and the command goes on',
    async (place) => {
      const { ended, pid, admin, letGo } = await hold(place);
      await end(admin, pid);
      await letGo();
      const result = await ended;
      expect(result.stderr).not.toMatch(/TypeError|uncaught|node:|\n +at /i);
      expect(result).toMatchObject({ code: 0 });
    },
  );

  it('was ended in every place that opens a transaction', () => {
    const runner = path.join(PROJECT_ROOT, 'runner');
    const places = readdirSync(runner, { recursive: true, encoding: 'utf8' })
      .map((name) => name.split(path.sep).join('/'))
      .filter((name) => name.endsWith('.ts') && name !== 'base/transaction.ts')
      .filter((name) => /\b(inTransaction|rolledBack)\(/.test(readFileSync(path.join(runner, name), 'utf8')));
    // The console goes on: test/console/server.test.ts ends its sessions. What is half forgotten is noted: test/operate/forget.test.ts ends it.
    const ended = [...PLACES.map(({ file }) => file), 'console/session.ts', 'operate/forget.ts'];
    expect(places.sort()).toEqual([...new Set(ended.filter(Boolean))].sort());
  });
});
