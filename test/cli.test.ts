import { execFile, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import yargs from 'yargs';
import { PROJECT_ROOT } from '../runner/base/settings.js';
import type { Command } from '../runner/commands/command.js';
import { cleanEnvironment, runCli } from './support/cli.js';
import {
  createEmptyDatabase,
  createPipeline,
  environmentOf,
  foldersIn,
  type TestPipeline,
} from './support/databases.js';
import { environmentFor } from './support/roles.js';

describe('tidemark', () => {
  it('says what it can do, in general and of each command', async () => {
    const { code, stdout } = await runCli(['--help']);
    expect(code).toBe(0);
    const commands = [
      'db',
      'migrate',
      'demo',
      'simulate',
      'extract',
      'load',
      'check',
      'add',
      'table',
      'verify-log',
      'rebuild',
    ];
    for (const command of commands) expect(stdout).toContain(`tidemark ${command}`);
    expect(stdout).toMatch(/^To run:\n(?: {2}tidemark \S+ +\S.*\n)*? {2}tidemark extract /m);
    expect(stdout).toMatch(/^Examples:\n {2}npx tidemark /m);
  });

  it.each([
    [['nothing'], /there is no command nothing\n.*"tidemark --help" lists the commands/],
    [['exrtact'], /there is no command exrtact; did you mean extract\?\n/],
    [['lad'], /there is no command lad; did you mean load\?\n/],
    [['db', 'strat'], /there is no command db strat\n.*give one of start, stop, status/],
    [['extract', '--tabel', 'orders'], /Unknown argument: tabel\n.*see "tidemark extract --help"/],
    [['table', 'frob'], /Invalid values: Argument: action, Given: "frob"/],
    [['extract', '--max-rows-per-second', 'x'], /--max-rows-per-second is not a number, accepted is/],
    [[], /give a command/],
    [['simulate', '--rate'], /rate/],
    [['simulate', '--rate', '0'], /--rate is 0, accepted is one number above 0/],
  ])('exits 2 on wrong usage: %j', async (args, message) => {
    const { code, stderr, stdout } = await runCli(args);
    expect(stderr).toMatch(message);
    expect(stdout).toBe('');
    expect(code).toBe(2);
  });

  it('exits 2 on wrong settings, naming variable, value and what is accepted', async () => {
    const { code, stderr } = await runCli(['check'], { DB_PORT: 'x' });
    expect(stderr).toContain('DB_PORT is "x", accepted is a whole number from 1 to 65535');
    expect(code).toBe(2);
  });
});

describe('a command', () => {
  let pipeline: TestPipeline;
  beforeAll(async () => {
    pipeline = await createPipeline();
  });
  afterAll(async () => {
    await pipeline.drop();
  });

  it.each([
    [
      'a server that is down',
      { WAREHOUSE_DB_PORT: '1' },
      'the warehouse database does not answer at 127.0.0.1:1',
      'WAREHOUSE_DB_PORT',
    ],
    [
      'a host that does not exist',
      { WAREHOUSE_DB_HOST: 'no.such.host.invalid' },
      'the warehouse database does not answer',
      'WAREHOUSE_DB_HOST',
    ],
    [
      'a wrong password',
      { WAREHOUSE_DB_PASSWORD: 'sesame' },
      'the warehouse database refuses user',
      'WAREHOUSE_DB_PASSWORD',
    ],
    [
      'a wrong database',
      { WAREHOUSE_DB_NAME: 'no_such_db' },
      'the warehouse server has no database no_such_db',
      'WAREHOUSE_DB_NAME',
    ],
    ['a wrong password at the source', { DB_PASSWORD: 'sesame' }, 'the source database refuses user', 'DB_PASSWORD'],
  ])('meets %s with one clear error and exit code 1', async (_name, broken, message, setting) => {
    const { code, stderr, stdout } = await runCli(['extract'], { ...pipeline.env, ...broken });
    expect(stderr).toContain(`error: `);
    expect(stderr).toContain(message);
    expect(stderr).toContain(setting);
    expect(stderr).not.toContain('sesame');
    expect(stderr).not.toMatch(/^\s+at /m);
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
  });

  it.each([['check'], ['migrate'], ['load']])(
    '%s meets a wrong password with the setting to change, and not with a file of its own',
    async (command) => {
      const { code, stderr } = await runCli([command], { ...pipeline.env, WAREHOUSE_DB_PASSWORD: 'sesame' });
      expect(stderr).toContain('the warehouse database refuses user');
      expect(stderr).toContain('WAREHOUSE_DB_PASSWORD');
      expect(stderr).not.toMatch(/sesame|sql\/checks|migrations\//);
      expect(code).toBe(1);
    },
  );

  it('shows a stack trace at LOG_LEVEL=DEBUG only', async () => {
    const { stderr } = await runCli(['load'], { ...pipeline.env, WAREHOUSE_DB_PORT: '1', LOG_LEVEL: 'DEBUG' });
    expect(stderr).toMatch(/^\s+at /m);
  });

  it.each([['extract'], ['load'], ['check']])('that needs a migrated warehouse says so: %s', async (command) => {
    const empty = await createEmptyDatabase('warehouse');
    const { code, stderr } = await runCli([command], { ...pipeline.env, ...environmentOf(empty.settings) });
    await empty.drop();
    expect(stderr).toContain('the warehouse is not migrated');
    expect(stderr).toContain('npx tidemark migrate');
    expect(code).toBe(1);
  });

  it('meets a change log that cannot be written with the folder and the setting', async () => {
    await mkdir(path.join(pipeline.folder, 'closed'));
    await writeFile(path.join(pipeline.folder, 'closed', 'file'), '');
    const { code, stderr } = await runCli(['extract'], {
      ...pipeline.env,
      CDC_LOG_DIR: path.join(pipeline.folder, 'closed', 'file', 'log'),
    });
    expect(stderr).toContain('the change log cannot be written');
    expect(stderr).toContain('CDC_LOG_DIR');
    expect(code).toBe(1);
  });

  it.skipIf(process.getuid?.() === 0)(
    'meets a change log that is read-only with the folder and the setting',
    async () => {
      const closed = path.join(pipeline.folder, 'read_only');
      await mkdir(closed, { mode: 0o500 });
      const { code, stderr } = await runCli(['extract'], { ...pipeline.env, CDC_LOG_DIR: path.join(closed, 'log') });
      await chmod(closed, 0o700);
      expect(stderr).toContain('the change log cannot be written');
      expect(code).toBe(1);
    },
  );

  it('prints results to stdout as JSON when asked', async () => {
    const results = await Promise.all(
      ['extract', 'load', 'check', 'migrate'].map((command) => runCli([command, '--json'], pipeline.env)),
    );
    for (const { code, stdout } of results) {
      expect(code).toBe(0);
      expect(JSON.parse(stdout)).toBeTruthy();
    }
  });
});

interface Failed {
  readonly results?: readonly { readonly table: string }[];
  readonly tables?: readonly { readonly table: string }[];
  readonly errors: readonly Readonly<Record<'table' | 'code' | 'message' | 'detail' | 'next_step', string | null>>[];
}

describe('--json', () => {
  it.each([
    [['check', '--json'], { DB_PORT: 'x' }, 2, /DB_PORT is "x"/],
    [['extract', '--tabel', 'orders', '--json'], {}, 2, /Unknown argument: tabel/],
    [['nothing', '--json'], {}, 2, /^(error: )?there is no command nothing$/m],
    [['stop', '--json', '--frob'], {}, 2, /Unknown argument: frob/],
    [['load', '--json'], { WAREHOUSE_DB_PORT: '1' }, 1, /the warehouse database does not answer/],
  ])('prints one document of errors where a command fails: %j', async (args, env, expected, message) => {
    const { code, stdout, stderr } = await runCli(args, env);
    const document = JSON.parse(stdout) as Failed;
    expect(document).toEqual({
      errors: [
        {
          table: null,
          code: expected === 1 ? 'ECONNREFUSED' : null,
          message: expect.stringMatching(message) as string,
          detail: expected === 1 ? (expect.stringContaining('warehouse database') as string) : null,
          next_step: expect.any(String) as string,
        },
      ],
    });
    expect(stderr).toMatch(message);
    expect(code).toBe(expected);
  });
});

describe('a table that fails', () => {
  let pipeline: TestPipeline;
  const names = (document: Failed) => (document.results ?? document.tables ?? []).map(({ table }) => table);
  beforeAll(async () => {
    pipeline = await createPipeline({ CDC_LOG_RETENTION_DAYS: '1' });
    await runCli(['simulate', '--changes', '5', '--seed', '1'], pipeline.env);
    await pipeline.source`insert into products (title, category, unit_price) values ('pot', 'kitchen', 1)`;
    await runCli(['extract'], pipeline.env);
    await runCli(['load'], pipeline.env);
    await pipeline.source`alter table products rename to products_away`;
    const log = path.join(pipeline.settings.cdc_log_dir, 'products');
    for (const folder of ['checkpoints', 'processed'])
      for (const file of await readdir(path.join(log, folder))) await writeFile(path.join(log, folder, file), '{');
    await writeFile(path.join(log, 'changes_20260201_090000_000.json'), '{');
  });
  afterAll(async () => {
    await pipeline.drop();
  });

  it.each([
    [['extract']],
    [['load']],
    [['load', '--dry-run']],
    [['reconcile']],
    [['verify-log']],
    [['rebuild', '--table', 'orders', 'customers', 'products']],
    [['prune']],
    [['watermark', 'list']],
  ])('silences no other in %j, as text and as JSON, and the exit code says that one failed', async (args) => {
    const text = await runCli(args, pipeline.env);
    expect(text.stderr).toContain('error: ');
    expect(text.stdout).toMatch(args[0] === 'load' && args.length === 1 ? /^2 tables: nothing to load$/m : /customers/);
    const { code, stdout } = await runCli([...args, '--json'], pipeline.env);
    const document = JSON.parse(stdout) as Failed;
    expect(names(document)).toEqual(expect.arrayContaining(['orders', 'customers']));
    expect(names(document)).not.toContain('products');
    expect(document.errors).toMatchObject([{ table: 'products', message: expect.any(String) as string }]);
    expect([text.code, code]).toEqual([1, 1]);
  });

  it('when rejected changes are tried again silences no other, and those with none are counted', async () => {
    const tried = await createPipeline();
    const [at, line] = ['2026-02-01T09:00:00Z', '"operation_type": "INSERT", "cdc_timestamp": "2026-02-01T09:00:00"'];
    for (const [table, wrong] of [
      ['products', '"unit_price": "dear"'],
      ['orders', '"quantity": "many"'],
    ] as const)
      await tried.warehouse`select tidemark.apply_batch(${`{"batch_metadata": {"batch_id": "by_hand", "table": "${table}", "extracted_at": "${at}", "change_count": 1},
        "changes": [{"id": 1, ${wrong}, ${line}}]}`}::text::json)`;
    await tried.warehouse`alter table dim_products_history add constraint of_another_hand check (true)`;
    const { code, stdout, stderr } = await runCli(['load', '--retry-rejected'], tried.env);
    expect(stdout).toMatch(/^3 tables: nothing to load\norders: 1 rejected change tried again/);
    expect(stdout).toMatch(/\n1 table besides: nothing to try again\n$/);
    expect(stderr).toContain('error: TM023');
    const json = await runCli(['load', '--retry-rejected', '--json'], tried.env);
    expect(JSON.parse(json.stdout)).toMatchObject({
      loaded: [{ table: 'customers' }, { table: 'orders' }, { table: 'products' }],
      retried: [{ table: 'customers' }, { table: 'orders', tried: 1 }],
      errors: [{ table: 'products', code: 'TM023' }],
    });
    expect([code, json.code]).toEqual([1, 1]);
    await tried.drop();
  });

  it('is counted in the run with what the others did', async () => {
    await pipeline.source`update orders set quantity = quantity + 1, last_updated = now()`;
    const { stdout } = await runCli(['extract'], pipeline.env);
    expect(stdout).toMatch(/orders: [1-9]/);
    const runs = await pipeline.warehouse<{ status: string; changes: number }[]>`
      select status, (performance_metrics ->> 'changes')::integer as changes from pipeline_metadata
      where pipeline_name = 'extract' order by start_time desc limit 1`;
    expect(runs).toEqual([{ status: 'failed', changes: Number(/orders: (\d+)/.exec(stdout)?.[1]) }]);
  });
});

describe('where nothing is to be said or one thing cannot be', () => {
  let pipeline: TestPipeline;
  beforeAll(async () => {
    pipeline = await createPipeline();
  });
  afterAll(async () => {
    await pipeline.drop();
  });

  it('load says nothing of tables of which nothing waited, but how many they are', async () => {
    await runCli(['simulate', '--changes', '5', '--seed', '1'], pipeline.env);
    await runCli(['extract', '--table', 'orders'], pipeline.env);
    expect((await runCli(['load'], pipeline.env)).stdout).toMatch(/^orders: .*\n2 tables besides: nothing to load\n$/);
    expect((await runCli(['load'], pipeline.env)).stdout).toBe('3 tables: nothing to load\n');
    expect(JSON.parse((await runCli(['load', '--json'], pipeline.env)).stdout)).toHaveLength(3);
  });

  it('check prints the others where one cannot run', async () => {
    await pipeline.warehouse`alter table pipeline_metadata rename column status to state`;
    const { code, stdout, stderr } = await runCli(['check', '--json'], pipeline.env);
    const { results, errors } = JSON.parse(stdout) as { results: object[]; errors: { detail: string }[] };
    expect(results.length).toBeGreaterThan(3);
    expect(errors[0]?.detail).toMatch(/^sql\/checks\//);
    expect(stderr).toContain('a check cannot run');
    expect(code).toBe(1);
  });
});

describe('check', () => {
  it('exits 3 and shows the first rows of what it found', async () => {
    const pipeline = await createPipeline();
    await pipeline.warehouse`
      insert into tidemark.batches (dimension_name, batch_id, sequence, extracted_at, least_captured_at, greatest_captured_at, change_count, checksum, metadata, inserted_versions,
        closed_versions, absorbed_changes, apply_started_at, applied_at)
      select 'orders', 'batch_' || g, g + 1, now(), now(), now(), 0, 'x', '{}', 0, 0, 0, now(), now() from generate_series(1, 8) as g`;
    const { code, stdout } = await runCli(['check'], pipeline.env);
    expect(stdout).toContain('FAIL  pipeline: ledger chain is unbroken (7)');
    expect(stdout).toContain('batch_6');
    expect(stdout).not.toContain('batch_8');
    expect(code).toBe(3);
    const narrowed = await runCli(['check', 'scd2'], pipeline.env);
    expect(narrowed.stdout).not.toContain('pipeline:');
    expect(narrowed.code).toBe(0);
    const unknown = await runCli(['check', 'nothing'], pipeline.env);
    expect(unknown.stderr).toContain('suites are: alerts, pipeline, scd2');
    expect(unknown.code).toBe(2);
    await pipeline.drop();
  });
});

describe('migrate', () => {
  it('brings an empty database to the present, also twice at once, says what it did, and does nothing the next time', async () => {
    const empty = await createEmptyDatabase('warehouse');
    const env = environmentOf(empty.settings);
    const before = await runCli(['migrate', 'status'], env);
    expect(before.stdout).toMatch(/warehouse\s+0001_create_dimensions\s+pending/);
    expect((await runCli(['migrate', '--dry-run'], env)).stdout).toMatch(/dimensions\s+0001_register_orders\s+pending/);
    expect(await empty.sql`select 1 from pg_namespace where nspname = 'tidemark'`).toHaveLength(0);
    const both = await Promise.all([1, 2].map(() => runCli(['migrate'], env)));
    expect(both.map(({ code, stderr }) => ({ code, stderr }))).toEqual([
      { code: 0, stderr: '' },
      { code: 0, stderr: '' },
    ]);
    expect(both.flatMap(({ stdout }) => stdout.match(/applied dimensions\/0001_register_orders/g) ?? [])).toHaveLength(
      1,
    );
    expect((await runCli(['migrate'], env)).stdout).toContain('0 migrations applied');
    expect((await runCli(['migrate', '--dry-run'], env)).stdout).toBe('nothing is pending\n');
    expect((await runCli(['migrate', 'status'], env)).stdout).toMatch(/dimensions\s+0001_register_orders\s+applied/);
    await empty.drop();
  });

  it('refuses a function that has no file, and names it', async () => {
    const pipeline = await createPipeline();
    await pipeline.warehouse.unsafe(
      'create function tidemark.forgotten(a integer) returns integer language sql as $$ select 1 $$',
    );
    const { code, stderr } = await runCli(['migrate'], pipeline.env);
    expect(stderr).toContain('tidemark.forgotten(integer)');
    expect(code).toBe(1);
    await pipeline.drop();
  });
});

describe('demo', () => {
  let pipeline: TestPipeline;
  const afresh = async () => {
    await pipeline.drop();
    pipeline = await createPipeline();
  };
  beforeAll(async () => {
    pipeline = await createPipeline();
  });
  afterAll(async () => {
    await pipeline.drop();
  });

  const historyAsCsv = async () => {
    const rows = await pipeline.warehouse<{ line: string }[]>`
      select concat_ws(',', surrogate_key, order_key, customer_id, product_id, quantity, unit_price, total_amount, order_status, order_date,
        valid_from, coalesce(valid_to::text, ''), is_current::text, cdc_operation, cdc_timestamp) as line
      from dim_orders_history order by surrogate_key`;
    return rows.map(({ line }) => line);
  };

  it('refuses a database that holds tables it did not make, and writes nothing', async () => {
    const foreign = await createEmptyDatabase();
    await foreign.sql`create table invoices (id integer)`;
    const { code, stderr } = await runCli(['demo'], { ...pipeline.env, ...environmentOf(foreign.settings) });
    expect(stderr).toContain('the source database holds tables that the demo did not make');
    expect(stderr).toContain('public.invoices');
    expect(code).toBe(1);
    expect(
      await foreign.sql`select 1 from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace`,
    ).toHaveLength(1);
    await foreign.drop();
  });

  it('turns the morning of orders into the history of sample_data/warehouse_output.csv, row for row, and ends the same when run again', async () => {
    const [, ...expected] = (await readFile(path.join(PROJECT_ROOT, 'sample_data', 'warehouse_output.csv'), 'utf8'))
      .trim()
      .split('\n');
    const first = await runCli(['demo'], pipeline.env);
    expect(first.stdout).toContain('4 versions: 3 current, 1 historical');
    expect(first.stdout).toContain('16 checks, all passed');
    expect(await historyAsCsv()).toEqual(expected);
    const again = await runCli(['demo'], pipeline.env);
    expect(again.stdout).toContain('order 1 is already there');
    expect(again.stdout.slice(again.stdout.indexOf('History of'))).toBe(
      first.stdout.slice(first.stdout.indexOf('History of')),
    );
    expect([first.code, again.code]).toEqual([0, 0]);
    expect(await historyAsCsv()).toEqual(expected);
    // Customers and products flow beside them.
    expect(first.stdout).toMatch(
      /customers: +3 changes extracted, 3 versions opened\n +products: +3 changes extracted, 3 versions opened/,
    );
    expect(
      await pipeline.warehouse`select (select count(*)::integer from dim_customers_current) as customers, (select count(*)::integer from dim_products_current) as products`,
    ).toEqual([{ customers: 3, products: 3 }]);
  });

  it('leaves room for the simulator: ids go on after its own', async () => {
    expect((await runCli(['simulate', '--changes', '20', '--seed', '1'], pipeline.env)).code).toBe(0);
    const [row] = await pipeline.source<{ ids: number }[]>`select max(id) as ids from orders`;
    expect(row?.ids).toBeGreaterThan(3);
  });

  it('run twice at once takes turns, and both end with the same history', async () => {
    await afresh();
    const both = await Promise.all([runCli(['demo'], pipeline.env), runCli(['demo'], pipeline.env)]);
    expect(both.map(({ code }) => code)).toEqual([0, 0]);
    for (const { stdout } of both) expect(stdout).toContain('4 versions: 3 current, 1 historical');
  });

  it('goes on after it was killed half-way', async () => {
    await afresh();
    await pipeline.source`insert into orders select 1, 101, 201, 2, 29.99, 59.98, 'pending', t, t, t from (values (timestamp '2026-02-01 09:00:00')) as v (t)`;
    const { stdout } = await runCli(['demo'], pipeline.env);
    expect(stdout).toContain('09:00  order 1 arrives: order 1 is already there');
    expect(stdout).toContain('4 versions: 3 current, 1 historical');
  });
});

describe('--watch', () => {
  it('of each command goes on until SIGINT or SIGTERM, then ends cleanly', async () => {
    const pipeline = await createPipeline({ CDC_EXTRACTION_INTERVAL_SECONDS: '1', MUTATION_INTERVAL_SECONDS: '1' });
    const watch = async (command: string, signal: NodeJS.Signals) => {
      const folders = foldersIn(path.join(pipeline.folder, `${command} until ${signal}`));
      const child = spawn(process.execPath, [path.join(PROJECT_ROOT, 'dist', 'cli.js'), command, '--watch', '--json'], {
        env: cleanEnvironment(environmentFor([command], { ...pipeline.env, ...folders })),
        cwd: PROJECT_ROOT,
      });
      let [said, isAsked] = ['', false];
      child.stdout.on('data', (chunk: Buffer) => {
        said += chunk.toString();
        // Once: asked again, it ends at once.
        if (said.split('\n').length > 2 && !isAsked) isAsked = child.kill(signal);
      });
      const [code] = (await once(child, 'close')) as [number | null];
      expect([command, signal, code]).toEqual([command, signal, 0]);
      for (const line of said.trim().split('\n')) expect(JSON.parse(line)).toBeTruthy();
    };
    await Promise.all([
      watch('extract', 'SIGINT'),
      watch('extract', 'SIGTERM'),
      watch('load', 'SIGINT'),
      watch('simulate', 'SIGTERM'),
      watch('status', 'SIGINT'),
    ]);
    expect(await pipeline.warehouse`select 1 from pipeline_metadata where status = 'running'`).toHaveLength(0);
    await pipeline.drop();
  });

  it('survives a fault that passes', async () => {
    const pipeline = await createPipeline({ CDC_EXTRACTION_INTERVAL_SECONDS: '1' });
    await pipeline.source`alter table orders rename to orders_away`;
    const child = spawn(process.execPath, [path.join(PROJECT_ROOT, 'dist', 'cli.js'), 'extract', '--watch'], {
      env: cleanEnvironment(pipeline.env),
      cwd: PROJECT_ROOT,
    });
    child.stderr.once('data', () => {
      void pipeline.source`alter table orders_away rename to orders`.execute();
    });
    // The round that failed says what the other tables came to.
    let said = '';
    child.stdout.on('data', (chunk: Buffer) => {
      said += chunk.toString();
      if (said.includes('orders: ')) child.kill('SIGTERM');
    });
    await once(child, 'close');
    expect(said).toMatch(/^customers: 0 changes[^]*\norders: 0 changes/);
    await pipeline.drop();
  });
});

describe('a reader that stops reading', () => {
  /** The exit code of the first command of a pipe. */
  const shell = async (pipe: string, env: Readonly<Record<string, string>>) => {
    const child = spawn('bash', ['-c', `"$NODE" dist/cli.js ${pipe} > /dev/null; echo "\${PIPESTATUS[0]}"`], {
      cwd: PROJECT_ROOT,
      env: { ...cleanEnvironment(env), NODE: process.execPath },
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    const [code] = (await once(child.stdout, 'data')) as [Buffer];
    return Number(code.toString());
  };

  it('ends what goes on for ever, and takes nothing from a command that ends by itself: its run is noted, and its exit code holds', async () => {
    const pipeline = await createPipeline({ CDC_EXTRACTION_INTERVAL_SECONDS: '1' });
    expect(await shell('extract --watch | head -n 1', pipeline.env)).toBe(0);
    expect(await shell('load | true', pipeline.env)).toBe(0);
    expect(await pipeline.warehouse`select pipeline_name, status from pipeline_metadata order by start_time`).toEqual([
      { pipeline_name: 'extract', status: 'succeeded' },
      { pipeline_name: 'load', status: 'succeeded' },
    ]);
    await pipeline.warehouse`insert into pipeline_metadata (pipeline_name, run_id, status, start_time) values ('load', 'gone', 'running', now())`;
    expect(await shell('check pipeline | true', pipeline.env)).toBe(3);
    await pipeline.drop();
  });
});

/** What of Tidemark, and which packages, a command loads before it ends. */
async function modulesOf(args: readonly string[]): Promise<string[]> {
  const folder = await mkdtemp(path.join(tmpdir(), 'tidemark-loaded-'));
  try {
    // Node writes there, for every process that ends, what it has loaded.
    expect(await runCli(args, { NODE_V8_COVERAGE: folder })).toMatchObject({ code: 0, stderr: '' });
    const [file = ''] = await readdir(folder);
    const { result } = JSON.parse(await readFile(path.join(folder, file), 'utf8')) as { result: { url: string }[] };
    const loaded = result.filter(({ url }) => url.startsWith('file:')).map(({ url }) => fileURLToPath(url));
    // In a built file stands before each part of it where that is from.
    const parts = loaded.flatMap((built) => [
      ...readFileSync(built, 'utf8').matchAll(/^\/\/ ((?:runner|node_modules)\/.+)$/gm),
    ]);
    const names = parts.map(([, name = '']) => /^node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(name)?.[1] ?? name);
    return [...new Set(names)].sort();
  } finally {
    await rm(folder, { recursive: true });
  }
}

const OF_THE_DOOR = ['runner/base/errors.ts', 'runner/base/v8-memory.ts', 'runner/cli.ts', 'runner/commands/door.ts'];

describe('the command line', () => {
  it('loads nothing but its door to say its version', async () => {
    expect(await modulesOf(['--version'])).toEqual(OF_THE_DOOR);
  });

  it('loads no command and no driver to say what commands there are', async () => {
    const loaded = await modulesOf(['--help']);
    expect(loaded.filter((name) => name.startsWith('runner/'))).toEqual(OF_THE_DOOR);
    expect(loaded).not.toEqual(expect.arrayContaining([expect.stringMatching(/^(postgres|pino|zod)/)]));
  });

  it('loads of all commands the one that is called', async () => {
    const commands = (await modulesOf(['check', '--help'])).filter((name) => name.startsWith('runner/commands/'));
    expect(commands).toEqual(['check', 'command', 'door'].map((name) => `runner/commands/${name}.ts`));
  });
});

/** What is offered for the last word of each line, by the script that "tidemark completion" prints, in a bash of its own. */
async function completed(lines: readonly string[]): Promise<string[][]> {
  const tidemark = `tidemark() { "${process.execPath}" "${path.join(PROJECT_ROOT, 'dist', 'cli.js')}" "$@"; }`;
  const ask =
    'COMP_WORDS=(tidemark $line); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _tidemark_yargs_completions; echo "${COMPREPLY[*]}"';
  const script = `${tidemark}; source <(tidemark completion); for line in "$@"; do ${ask}; done`;
  // Settings that are wrong are nobody's business yet.
  const env = cleanEnvironment({ DB_PORT: 'x', ENV_FILE: '/nowhere', SHELL: '/bin/bash' });
  const { stdout, stderr } = await promisify(execFile)('bash', ['-c', script, 'bash', ...lines], { env });
  expect(stderr).toBe('');
  return stdout
    .trim()
    .split('\n')
    .map((offered) => offered.split(' '));
}

describe('the script of completion', () => {
  it('completes commands, what they consist of, and their options', async () => {
    expect(await completed(['ext', 'watermark re', 'table re', 'extract --', 'watermark rewind --t'])).toEqual([
      ['extract'],
      ['rewind'],
      ['resume', 'remove'],
      expect.arrayContaining(['--table', '--shard', '--watch']) as string[],
      ['--table', '--to'],
    ]);
  });
});

describe('help', () => {
  it.skipIf(process.platform !== 'linux')('fits a terminal of 80 columns', async () => {
    // In one process: each says its help as the command line does, at a terminal that is so wide.
    const script = `
      import { readdirSync } from 'node:fs';
      import { callCommand } from './dist/commands/door.js';
      const find = async (name) => (await import('./dist/commands/' + name + '.js')).command;
      for (const file of ['', ...readdirSync('runner/commands')])
        if (!/^(command|door)\\./.test(file)) await callCommand([file.replace('.ts', ''), '--help'].filter(Boolean), '', find);`;
    const env = { ...cleanEnvironment({}), NODE: process.execPath, SCRIPT: script };
    const args = ['-qec', 'stty cols 80; "$NODE" --input-type=module --eval "$SCRIPT"', '/dev/null'];
    const { stdout } = await promisify(execFile)('script', args, { cwd: PROJECT_ROOT, env });
    for (const command of ['extract', 'watermark', 'verify-log']) expect(stdout).toContain(`tidemark ${command}\r\n`);
    expect(stdout.split(/\r*\n/).filter((line) => line.length > 80)).toEqual([]);
  });
});

/** What a command does not understand of the examples in its help. */
async function misunderstood(name: string, help: string): Promise<string[]> {
  const module = (await import(path.join(PROJECT_ROOT, 'dist', 'commands', `${name}.js`))) as { command: Command };
  const wrong: string[] = [];
  const [, shown = ''] = /^Examples:\n((?: .*\n?)*)/m.exec(help) ?? [];
  const examples = [...shown.matchAll(/^ {2}npx tidemark (\S.*?) {2,}\S/gm)].map(([, typed = '']) => typed);
  if (examples.length !== shown.split('\n').filter((line) => line !== '').length) wrong.push(shown);
  for (const typed of examples)
    await yargs(typed.split(' '))
      .command(/^tidemark (.*)/.exec(help)?.[1] ?? name, '', module.command.builder, () => undefined)
      .strict()
      .fail((message) => wrong.push(`${typed}: ${message}`))
      .parseAsync();
  return wrong;
}

describe('every command', () => {
  it('has an npm script of its name, a file of its name, and help of its own, whose examples it understands', async () => {
    const { scripts } = JSON.parse(await readFile(path.join(PROJECT_ROOT, 'package.json'), 'utf8')) as {
      scripts: Record<string, string>;
    };
    const { stdout } = await runCli(['--help']);
    const commands = [...stdout.matchAll(/^ {2}tidemark (\S+)/gm)].map(([, name = '']) => name);
    const files = (await readdir(path.join(PROJECT_ROOT, 'runner', 'commands'))).map((file) =>
      path.basename(file, '.ts'),
    );
    expect([...commands, 'command', 'door'].sort()).toEqual(files.sort());
    for (const command of commands)
      expect(Object.keys(scripts).some((script) => script === command || script.startsWith(`${command}:`))).toBe(true);
    for (const command of commands) {
      const help = await runCli([command, '--help']);
      expect(help).toMatchObject({ code: 0, stderr: '' });
      expect(help.stdout).toContain(`tidemark ${command}`);
      expect(help.stdout).not.toMatch(/--(action|suite)\b/);
      expect(await misunderstood(command, help.stdout)).toEqual([]);
    }
  });
});
