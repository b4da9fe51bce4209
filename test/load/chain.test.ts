import { cp, mkdir, readFile, readdir, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { runChecks } from '../../runner/warehouse/checks.js';
import { PROJECT_ROOT } from '../../runner/base/settings.js';
import { extractTables } from '../../runner/extract/tables.js';
import { simulate } from '../../runner/demo/simulate.js';
import { empty } from '../support/batches.js';
import { runCli } from '../support/cli.js';
import { sayEach } from '../support/cluster.js';
import { createPipeline, createWarehouseDatabase, type TestPipeline } from '../support/databases.js';
import { createSourceTable, registerDimension, type TestColumn } from '../support/dimensions.js';
import { NASTY_KINDS, OWN_TYPES } from '../support/kinds.js';
import { loadTables } from '../../runner/load/tables.js';

let pipeline: TestPipeline;
const begin = async () => {
  pipeline = await createPipeline({ BATCH_SIZE: '10', BATCH_SIZE_MAX: '10' });
};
beforeAll(begin);
beforeEach(async () => {
  await pipeline.source`truncate orders, customers restart identity`;
  await empty(pipeline.warehouse);
  for (const folder of await readdir(pipeline.folder))
    await rm(path.join(pipeline.folder, folder), { recursive: true });
});
afterAll(async () => {
  await pipeline.drop();
});

/** Removes the cause for which a long status is rejected; only another warehouse puts right what it alters. */
async function alterStatusToText(): Promise<void> {
  onTestFinished(async () => {
    await pipeline.drop();
    await begin();
  });
  await sayEach(
    pipeline.warehouse,
    `drop view dim_orders_current; select tidemark._clear_versions_view();
    alter table dim_orders_history alter order_status type text;
    select tidemark._create_versions_view(), tidemark.compile_dimension('orders')`,
  );
}

const folder = (...names: string[]) => path.join(pipeline.settings.cdc_log_dir, 'orders', ...names);
const pending = async () => (await readdir(folder())).filter((name) => name.endsWith('.json')).sort();
const extract = (tables: readonly string[] = ['orders']) => extractTables({ settings: pipeline.settings, tables });
const load = (tables: readonly string[] = ['orders']) => loadTables({ settings: pipeline.settings, tables });

async function insertOrders(count: number): Promise<void> {
  await pipeline.source`
    insert into orders (customer_id, product_id, quantity, unit_price, total_amount, order_status, order_date, last_updated, created_at)
    select g, 201, 1, 1.10, 1.10, 'pending', now(), clock_timestamp(), now() from generate_series(1, ${count}::integer) as g`;
}

async function rowsIn(table: string): Promise<number> {
  const [row] = await pipeline.warehouse<{ count: string }[]>`select count(*) from ${pipeline.warehouse(table)}`;
  return Number(row?.count);
}

/** Orders whose current version differs from the source row, either way. */
async function differences(): Promise<unknown[]> {
  const columns = 'customer_id, product_id, quantity, unit_price, total_amount, order_status, order_date';
  const source = await pipeline.source.unsafe(
    `select id::text as key, row(${columns})::text as content from orders order by id`,
  );
  const history = await pipeline.warehouse.unsafe(
    `select order_key::text as key, row(${columns})::text as content from dim_orders_current order by order_key`,
  );
  return [...source]
    .filter((row, index) => JSON.stringify(row) !== JSON.stringify(history[index]))
    .concat(history.slice(source.length));
}

const violations = async () =>
  (await runChecks(pipeline.warehouse, ['pipeline', 'scd2'])).filter((result) => result.violations > 0);

describe('load', () => {
  it('applies the pending batches in order, a transaction each, and moves them to processed, compressed', async () => {
    await insertOrders(25);
    await extract();
    const files = await pending();
    expect(await load()).toMatchObject([
      { table: 'orders', batches: 3, changes: 25, inserted_versions: 25, skipped: 0 },
    ]);
    expect(await pending()).toEqual([]);
    expect((await readdir(folder('processed'))).sort()).toEqual(files.map((file) => `${file}.gz`));
    expect(
      await pipeline.warehouse`select batch_id, sequence, change_count from tidemark.batches order by sequence`,
    ).toMatchObject(
      files.map((file, index) => ({
        batch_id: path.basename(file, '.json'),
        sequence: String(index + 1),
        change_count: [10, 10, 5][index],
      })),
    );
  });

  it('skips, and moves away, a file that was applied by a loader that died before it could move it', async () => {
    await insertOrders(3);
    await extract();
    const [file = ''] = await pending();
    await load();
    await rename(folder('processed', `${file}.gz`), folder(`${file}.gz`));
    expect(await load()).toMatchObject([{ batches: 0, skipped: 1, inserted_versions: 0 }]);
    expect(await pending()).toEqual([]);
    expect(await rowsIn('dim_orders_history')).toBe(3);
  });

  it('may run twice at once: nothing is lost and nothing applied twice', async () => {
    await insertOrders(95);
    await extract();
    const [one, two] = await Promise.all([load(), load()]);
    expect((one[0]?.batches ?? 0) + (two[0]?.batches ?? 0)).toBe(10);
    expect(await rowsIn('dim_orders_history')).toBe(95);
    expect(await pending()).toEqual([]);
    expect(await violations()).toEqual([]);
  });

  it('leaves alone a batch that was never published', async () => {
    await insertOrders(3);
    await extract();
    await rename(folder('checkpoints', '1.json'), folder('1.json.away'));
    expect(await load()).toMatchObject([{ batches: 0 }]);
    expect(await pending()).toHaveLength(1);
  });

  it('takes the minimal document of the original, which has no table and no place in the chain', async () => {
    await mkdir(folder(), { recursive: true });
    await cp(path.join(PROJECT_ROOT, 'sample_data', 'cdc_changes.json'), folder('changes_20260201_091000_123.json'));
    expect(await load()).toMatchObject([{ batches: 1, inserted_versions: 1 }]);
    expect(
      await pipeline.warehouse`select order_key, order_status, valid_from, cdc_operation from dim_orders_history`,
    ).toMatchObject([
      { order_key: 1, order_status: 'confirmed', valid_from: '2026-02-01 09:10:00', cdc_operation: 'INSERT' },
    ]);
  });

  it('takes the sample of the original as it is: its changes were captured row by row, each at its own time', async () => {
    await mkdir(folder(), { recursive: true });
    const sample = path.join(PROJECT_ROOT, 'sample_data', 'original_cdc_changes.json');
    await cp(sample, folder('changes_20260201_100500_000.json'));
    expect(await load()).toMatchObject([{ batches: 1, changes: 2, inserted_versions: 2, rejected_changes: 0 }]);
    expect(
      await pipeline.warehouse`select order_key, order_status, valid_from, cdc_operation, captured_at from dim_orders_history order by order_key`,
    ).toMatchObject([
      {
        order_key: 1,
        order_status: 'confirmed',
        valid_from: '2026-02-01 10:05:00',
        captured_at: '2026-02-01 10:05:00+00',
      },
      {
        order_key: 3,
        order_status: 'confirmed',
        valid_from: '2026-02-01 10:10:00',
        captured_at: '2026-02-01 10:10:00+00',
      },
    ]);
    expect(await pending()).toEqual([]);
  });

  it('refuses a format that it does not know, and leaves the file where it is', async () => {
    await mkdir(folder(), { recursive: true });
    const sample = await readFile(path.join(PROJECT_ROOT, 'sample_data', 'original_cdc_changes.json'), 'utf8');
    const name = 'changes_20260201_100500_000.json';
    await writeFile(folder(name), sample.replace('"batch_id"', '"format": 3, "batch_id"'));
    const { code, stderr } = await runCli(['load', '--table', 'orders'], pipeline.env);
    expect(stderr).toContain('TM022 the batch has a format that this release does not know');
    expect(stderr).toContain(`${name} (batch=batch_002 format=3 known=1, 2)`);
    expect(stderr).toContain('upgrade this one');
    expect(code).toBe(1);
    expect(await pending()).toEqual([name]);
    expect(await rowsIn('dim_orders_history')).toBe(0);
    await writeFile(folder(name), sample.replace('"batch_id"', '"format": 2, "batch_id"'));
    expect(await load()).toMatchObject([{ batches: 1, inserted_versions: 2 }]);
  });

  it('ends after the batch in hand when it is interrupted', async () => {
    await insertOrders(25);
    await extract();
    const interruption = new AbortController();
    interruption.abort();
    expect(
      await loadTables({ settings: pipeline.settings, tables: ['orders'], signal: interruption.signal }),
    ).toMatchObject([{ batches: 0 }]);
  });
});

describe('a history that was altered by hand', () => {
  it('so that a batch would break its rules is named with the rule, the key and what shows the rows; nothing is written', async () => {
    await insertOrders(1);
    await extract();
    await load();
    await pipeline.warehouse`
      insert into dim_orders_history (order_key, customer_id, product_id, quantity, unit_price, total_amount, order_status, order_date, valid_from, valid_to,
        is_current, cdc_operation, cdc_timestamp, batch_id, captured_at, change_line)
      select order_key, customer_id, product_id, quantity, unit_price, total_amount, 'by hand', order_date, valid_from + interval '1 microsecond',
        valid_from + interval '2 microseconds', false, 'UPDATE', cdc_timestamp, batch_id, captured_at, change_line from dim_orders_history`;
    const before = await pipeline.warehouse`select h::text from dim_orders_history as h order by 1`;
    await pipeline.source`update orders set order_status = 'confirmed', last_updated = clock_timestamp()`;
    await extract();
    await expect(load()).rejects.toMatchObject({
      code: 'TM010',
      message: 'history breaks one of its rules: dim_orders_history_one_current_version',
      detail: expect.stringMatching(/table=orders .*\(order_key\)=\(\d+\)/) as string,
      hint: expect.stringContaining('tidemark check scd2') as string,
    });
    expect(await pipeline.warehouse`select h::text from dim_orders_history as h order by 1`).toEqual(before);
    expect((await violations()).map(({ check }) => check)).toContain('versions do not overlap');
  });
});

describe('a chain that is broken', () => {
  it('by a missing batch stops the table before the gap, and says what is missing', async () => {
    await insertOrders(25);
    await extract();
    const [first = '', second = '', third = ''] = await pending();
    await rename(folder(second), folder('..', 'elsewhere.json'));
    await expect(load()).rejects.toMatchObject({
      message: 'a batch is missing before this one',
      detail: `${folder(third)} follows ${path.basename(second, '.json')}; the newest in the ledger is ${path.basename(first, '.json')}`,
    });
    expect(await rowsIn('dim_orders_history')).toBe(10);
    await rename(folder('..', 'elsewhere.json'), folder(second));
    expect(await load()).toMatchObject([{ batches: 2 }]);
    expect(await violations()).toEqual([]);
  });

  it('at its end, by a newest batch that is neither here nor loaded, is said though nothing waits', async () => {
    await insertOrders(25);
    await extract();
    const third = (await pending()).at(-1) ?? '';
    await rename(folder(third), folder('..', 'elsewhere.json'));
    await expect(load()).rejects.toMatchObject({
      message: 'a batch that was published is missing',
      detail: expect.stringContaining(`table=orders ${path.basename(third, '.json')} is not in ${folder()}`) as string,
      hint: expect.stringContaining('put the missing batch files back') as string,
    });
    expect(await rowsIn('dim_orders_history')).toBe(20);
    await expect(load()).rejects.toThrow('a batch that was published is missing');
    await rename(folder('..', 'elsewhere.json'), folder(third));
    expect(await load()).toMatchObject([{ batches: 1 }]);
    expect(await load()).toMatchObject([{ batches: 0 }]);
  });

  it('by a warehouse that was lost is said, with the way to make its history again from the change log', async () => {
    await insertOrders(25);
    await extract();
    await load();
    const lost = await createWarehouseDatabase();
    const settings = { ...pipeline.settings, warehouse: lost.settings };
    await expect(loadTables({ settings, tables: ['orders'] })).rejects.toThrow(
      'the change log holds applied batches, but the ledger of this warehouse is empty',
    );
    for (const file of await readdir(folder('processed'))) await rename(folder('processed', file), folder(file));
    expect(await loadTables({ settings, tables: ['orders'] })).toMatchObject([{ batches: 3, inserted_versions: 25 }]);
    await lost.drop();
  });

  it('by another batch in the same place is a fork, and refused', async () => {
    await insertOrders(3);
    await extract();
    const [file = ''] = await pending();
    await load();
    await pipeline.warehouse`update tidemark.batches set batch_id = 'changes_of_somebody_else', checksum = 'another'`;
    await rename(folder('processed', `${file}.gz`), folder(`${file}.gz`));
    await expect(load()).rejects.toMatchObject({
      code: 'TM003',
      detail: expect.stringContaining(folder(`${file}.gz`)) as string,
    });
    expect(await rowsIn('dim_orders_history')).toBe(3);
    expect(await readdir(folder())).toContain(`${file}.gz`);
  });
});

describe('a bad file', () => {
  it('stops its own table, no other, and is left where it is', async () => {
    await pipeline.source`insert into customers (full_name, email) values ('Ada', 'ada@example.com')`;
    await insertOrders(15);
    await extract([]);
    const [first = ''] = await pending();
    const text = await readFile(folder(first), 'utf8');
    await writeFile(folder(first), text.replace('pending', 'PENDING'));
    await expect(load([])).rejects.toMatchObject({
      message: expect.stringContaining('the checksum does not fit') as string,
      detail: folder(first),
    });
    expect(await rowsIn('dim_customers_history')).toBe(1);
    expect(await rowsIn('dim_orders_history')).toBe(0);
    expect(await pending()).toHaveLength(2);
    await writeFile(folder(first), text);
    await load([]);
    expect(await rowsIn('dim_orders_history')).toBe(15);
  });

  it('of another table is refused', async () => {
    await insertOrders(1);
    await extract();
    const [file = ''] = await pending();
    const text = await readFile(folder(file), 'utf8');
    await writeFile(folder(file), text.replace('"table": "orders"', '"table": "customers"'));
    await expect(load()).rejects.toMatchObject({
      message: 'a batch of table customers lies in the change log of orders',
      detail: folder(file),
    });
  });

  it('with columns that are not mapped is refused whole, and named', async () => {
    await insertOrders(1);
    await extract();
    const [file = ''] = await pending();
    await writeFile(folder(file), (await readFile(folder(file), 'utf8')).replace(/"columns": ?\[/, '$&"coupon",'));
    await expect(load()).rejects.toMatchObject({
      code: 'TM004',
      message: 'the batch cannot be applied: its column coupon is not mapped to history',
      detail: expect.stringContaining(folder(file)) as string,
    });
    expect((await rowsIn('dim_orders_history')) + (await rowsIn('tidemark.batches'))).toBe(0);
  });
});

const good = {
  id: 1,
  customer_id: 1,
  product_id: 1,
  quantity: 1,
  unit_price: 1,
  total_amount: 1,
  order_status: 'pending',
  order_date: '2026-02-01',
  last_updated: '2026-02-01',
  created_at: '2026-02-01',
  operation_type: 'INSERT',
  cdc_timestamp: '2026-02-01T00:00:00',
  extracted_at: '2026-02-02T00:00:00Z',
};

async function write(changes: readonly object[], metadata: object = {}, name = 'changes_by_hand'): Promise<void> {
  await mkdir(folder(), { recursive: true });
  await writeFile(
    folder(`${name}.json`),
    JSON.stringify({
      batch_metadata: {
        batch_id: name,
        extracted_at: '2026-02-02T00:00:00Z',
        change_count: changes.length,
        watermark: null,
        ...metadata,
      },
      changes,
    }),
  );
}

describe('changes that cannot be applied', () => {
  beforeEach(() =>
    write([
      good,
      { ...good, id: null },
      { ...good, id: 2 },
      { ...good, id: 3, quantity: 'many' },
      { ...good, id: 4, order_status: 'x'.repeat(60) },
    ]),
  );

  it('are set aside, the others are loaded, and the file is done', async () => {
    expect(await load()).toMatchObject([
      { table: 'orders', batches: 1, changes: 5, inserted_versions: 2, rejected_changes: 3 },
    ]);
    expect(await pending()).toEqual([]);
    expect((await violations()).map(({ check }) => check)).toEqual(['no change is rejected']);
  });

  it('are listed by the command rejected, with key, column, value and reason', async () => {
    expect((await runCli(['load', '--table', 'orders'], pipeline.env)).stdout).toBe(
      'orders: 5 changes in 1 batch applied, 2 versions opened, 0 closed, 0 changes absorbed, 3 changes rejected\n',
    );
    const { code, stdout } = await runCli(['rejected'], pipeline.env);
    expect(code).toBe(0);
    expect(stdout.split('\n').map((line) => line.replaceAll(/ {2,}/g, ' | '))).toEqual([
      'table | batch_id | line | key | column | value | reason',
      'orders | changes_by_hand | 2 | {"order_key" : null} | id | - | id is null or missing',
      'orders | changes_by_hand | 4 | {"order_key" : 3} | quantity | many | invalid input syntax for type integer: "many"',
      `orders | changes_by_hand | 5 | {"order_key" : 4} | order_status | ${'x'.repeat(40)}... | value too long for type character varying(50)`,
      '',
      '3 changes rejected; remove the cause, then: npx tidemark load --retry-rejected; where history need not have it: npx tidemark rejected dismiss --batch <batch> --line <line> --reason "..."',
      '',
    ]);
    const listed = JSON.parse(
      (await runCli(['rejected', '--table', 'orders', '--json', '--limit', '1'], pipeline.env)).stdout,
    ) as unknown;
    expect(listed).toMatchObject([
      {
        table: 'orders',
        total: 3,
        changes: [
          { batch_id: 'changes_by_hand', change_line: 2, column: 'id', value: null, change: { ...good, id: null } },
        ],
      },
    ]);
  });

  it('that are none make an empty list', async () => {
    expect(await runCli(['rejected'], pipeline.env)).toMatchObject({ code: 0, stdout: 'no change is rejected\n' });
    expect(await runCli(['rejected', '--limit', '0'], pipeline.env)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('--limit is 0') as string,
    });
  });

  it('take their place by load --retry-rejected once the cause is gone', async () => {
    await load();
    await write(
      [
        {
          ...good,
          id: 4,
          order_status: 'later',
          cdc_timestamp: '2026-02-02T01:00:00',
          extracted_at: '2026-02-03T00:00:00Z',
        },
      ],
      { extracted_at: '2026-02-03T00:00:00Z' },
      'changes_later',
    );
    expect((await runCli(['load', '--table', 'orders', '--retry-rejected'], pipeline.env)).stdout).toBe(
      [
        'orders: 1 change in 1 batch applied, 1 version opened, 0 closed, 0 changes absorbed',
        'orders: 3 rejected changes tried again, 0 versions opened, 0 changes absorbed, 0 versions corrected, 3 still rejected, 1 of them settled by later changes',
        '  changes_by_hand:2 {"order_key" : null} id is null or missing',
        '  changes_by_hand:4 {"order_key" : 3} invalid input syntax for type integer: "many"',
        '  remove the cause, then: npx tidemark load --retry-rejected; where history need not have it: npx tidemark rejected dismiss --batch <batch> --line <line> --reason "..."',
        '',
      ].join('\n'),
    );
    await alterStatusToText();
    const { code, stdout } = await runCli(['load', '--table', 'orders', '--retry-rejected', '--json'], pipeline.env);
    expect([code, JSON.parse(stdout)]).toMatchObject([
      0,
      {
        loaded: [{ batches: 0 }],
        retried: [{ table: 'orders', tried: 3, rejected_changes: 2, inserted_versions: 1, corrected_versions: 1 }],
      },
    ]);
    expect(
      await pipeline.warehouse`select order_status, cdc_operation, valid_to is null as is_open from dim_orders_history where order_key = 4 order by valid_from`,
    ).toEqual([
      { order_status: 'x'.repeat(60), cdc_operation: 'INSERT', is_open: false },
      { order_status: 'later', cdc_operation: 'UPDATE', is_open: true },
    ]);
  });
});

describe('a rejected change that a later change of its key has settled', () => {
  it('fails no check, and is listed with the batch and line of that change', async () => {
    await write([good, { ...good, id: 4, order_status: 'x'.repeat(60) }]);
    await load();
    expect((await violations()).map(({ check }) => check)).toEqual(['no change is rejected']);
    const later = { cdc_timestamp: '2026-02-02T01:00:00', extracted_at: '2026-02-03T00:00:00Z' };
    await write([{ ...good, ...later, id: 4 }], { extracted_at: '2026-02-03T00:00:00Z' }, 'changes_later');
    await load();
    expect(await violations()).toEqual([]);
    expect((await runCli(['rejected'], pipeline.env)).stdout).toBe('no change is rejected\n');
    const { stdout } = await runCli(['rejected', '--state', 'settled'], pipeline.env);
    expect(stdout).toContain('settled_by');
    expect(stdout).toMatch(/value too long for type character varying\(50\) +changes_later:1/);
  });
});

describe('a rejected change that is dismissed', () => {
  beforeEach(async () => {
    await write([good, { ...good, id: 2, cdc_timestamp: 'soon' }, { ...good, id: 3, quantity: 'many' }]);
    await load();
  });
  const rejected = (...args: string[]) => runCli(['rejected', ...args], pipeline.env);

  it('is kept with who did so and why, fails no check, is not tried again, and can be taken back', async () => {
    const reason = 'the row got its time later, and is in history since';
    expect(await rejected('dismiss', '--batch', 'changes_by_hand', '--line', '2', '--reason', reason)).toMatchObject({
      code: 0,
      stdout: 'orders: 1 change dismissed: kept, and not waited for any more\n',
    });
    expect((await rejected()).stdout).toContain('1 change rejected;');
    const { stdout } = await rejected('--state', 'dismissed', '--json');
    expect(JSON.parse(stdout)).toMatchObject([
      { table: 'customers', total: 0 },
      {
        table: 'orders',
        total: 1,
        changes: [
          { change_line: 2, dismissed_by: pipeline.settings.warehouse.user, dismiss_reason: reason, change: { id: 2 } },
        ],
      },
      { table: 'products', total: 0 },
    ]);
    expect((await rejected('--state', 'dismissed')).stdout).toContain(reason);
    await rejected('dismiss', '--column', 'quantity', '--fault', 'invalid input syntax', '--reason', 'a slip');
    expect(await violations()).toEqual([]);
    expect((await runCli(['load', '--table', 'orders', '--retry-rejected'], pipeline.env)).stdout).toContain(
      'nothing to try again',
    );
    expect(await pipeline.warehouse`select rejected_changes from tidemark.batches`).toEqual([{ rejected_changes: 2 }]);
    expect((await rejected('restore', '--batch', 'changes_by_hand', '--line', '3')).stdout).toContain('waiting again');
    expect((await violations()).map(({ check }) => check)).toEqual(['no change is rejected']);
    expect((await runCli(['load', '--table', 'orders', '--retry-rejected'], pipeline.env)).stdout).toContain(
      '1 rejected change tried again',
    );
    expect(await pipeline.warehouse`select rejected_changes from tidemark.batches`).toEqual([{ rejected_changes: 2 }]);
    // The change log says the same again, and what was decided stays decided.
    expect((await runCli(['rebuild', '--table', 'orders'], pipeline.env)).code).toBe(0);
    expect(
      await pipeline.warehouse`select change_line, dismiss_reason from tidemark.rejected_changes order by 1`,
    ).toEqual([
      { change_line: 2, dismiss_reason: reason },
      { change_line: 3, dismiss_reason: null },
    ]);
  });

  it.each([
    [['dismiss', '--batch', 'changes_by_hand'], 'dismiss needs a reason'],
    [['dismiss', '--batch', 'changes_by_hand', '--reason', ' '], 'dismiss needs a reason'],
    [['dismiss', '--reason', 'x'], 'dismiss which?'],
    [['dismiss', '--line', '2', '--reason', 'x'], 'line -> batch'],
    [['dismiss', '--batch', 'changes_by_hand', '--line', '1', '--reason', 'x'], 'there is no such rejected change'],
    [['dismiss', '--table', 'customers', '--reason', 'x'], 'there is no such rejected change'],
    [['restore', '--batch', 'changes_by_hand'], 'there is no such rejected change'],
    [['--reason', 'x'], '--reason goes with dismiss only'],
  ])('is refused as wrong usage: %j', async (args, message) => {
    expect(await rejected(...args)).toMatchObject({ code: 2, stderr: expect.stringContaining(message) as string });
    expect(await pipeline.warehouse`select from tidemark.rejected_changes where dismissed_at is not null`).toEqual([]);
  });
});

describe('load --dry-run', () => {
  it('with --retry-rejected says what becomes of rejected changes too, and writes nothing', async () => {
    await write([good, { ...good, id: 4, order_status: 'x'.repeat(60) }, { ...good, id: 5, quantity: 'many' }]);
    await load();
    await alterStatusToText();
    const { code, stdout } = await runCli(['load', '--table', 'orders', '--dry-run', '--retry-rejected'], pipeline.env);
    expect([code, stdout.split('\n').map((line) => line.trim().replaceAll(/ {2,}/g, ' | '))]).toEqual([
      0,
      [
        'orders: 0 changes in 0 batches would be applied: 0 versions opened, 0 closed, 0 corrected, 0 changes late, 0 absorbed, 0 rejected',
        'orders: 2 rejected changes tried again, 1 version opened, 0 changes absorbed, 0 versions corrected, 1 still rejected',
        'changes_by_hand:3 {"order_key" : 5} invalid input syntax for type integer: "many"',
        expect.stringMatching(/^remove the cause/),
        'effect | business_key | batch_id | change_line | valid_from | valid_to | reason | values',
        'opened | {"order_key" : 4} | changes_by_hand | 2 | 2026-02-01 00:00:00+00 | - | - | customer_id=1, product_id=1, quantity=1, unit_price=1.00, total_amount=1.00, ord...',
        'rejected | {"order_key" : 5} | changes_by_hand | 3 | - | - | quantity: invalid input syntax for type integer: "many" | customer_id=1, product_id=1, quantity=many, unit_price=1, total_amount=1, order_...',
        'nothing was written',
        '',
      ],
    ]);
    expect(await rowsIn('dim_orders_history')).toBe(1);
    expect(await rowsIn('tidemark.rejected_changes')).toBe(2);
  });

  it('says what a load would do, with sample rows of each kind, and writes nothing', async () => {
    await write([{ ...good, id: 9 }]);
    await load();
    await write(
      [
        {
          ...good,
          id: 9,
          order_status: 'sooner',
          cdc_timestamp: '2026-01-31T00:00:00',
          extracted_at: '2026-02-01T00:00:00Z',
        },
        { ...good, extracted_at: '2026-02-01T00:00:00Z' },
        { ...good, extracted_at: '2026-02-01T00:00:00Z', cdc_timestamp: '2026-02-01T00:00:00' },
        { ...good, id: null, extracted_at: '2026-02-01T00:00:00Z' },
      ],
      { extracted_at: '2026-02-01T00:00:00Z' },
      'changes_sooner',
    );
    const before = await Promise.all(
      ['dim_orders_history', 'tidemark.batches', 'tidemark.absorbed_changes', 'tidemark.rejected_changes'].map(
        (table) => rowsIn(table),
      ),
    );
    const { code, stdout } = await runCli(['load', '--table', 'orders', '--dry-run'], pipeline.env);
    expect([code, stdout.split('\n').map((line) => line.trim().replaceAll(/ {2,}/g, ' | '))]).toEqual([
      0,
      [
        'orders: 4 changes in 1 batch would be applied: 2 versions opened, 1 closed, 1 corrected, 1 change late, 1 absorbed, 1 rejected',
        'effect | business_key | batch_id | change_line | valid_from | valid_to | reason | values',
        'opened | {"order_key" : 1} | changes_sooner | 2 | 2026-02-01 00:00:00+00 | - | - | customer_id=1, product_id=1, quantity=1, unit_price=1.00, total_amount=1.00, ord...',
        'opened | {"order_key" : 9} | changes_sooner | 1 | 2026-01-31 00:00:00+00 | 2026-02-01 00:00:00+00 | - | customer_id=1, product_id=1, quantity=1, unit_price=1.00, total_amount=1.00, ord...',
        'altered | {"order_key" : 9} | changes_by_hand | 1 | 2026-02-01 00:00:00+00 | - | - | customer_id=1, product_id=1, quantity=1, unit_price=1.00, total_amount=1.00, ord...',
        'absorbed | {"order_key" : 1} | changes_sooner | 3 | - | - | unchanged | customer_id=1, product_id=1, quantity=1, unit_price=1.00, total_amount=1.00, ord...',
        'rejected | {"order_key" : null} | changes_sooner | 4 | - | - | id: id is null or missing | customer_id=1, product_id=1, quantity=1, unit_price=1, total_amount=1, order_sta...',
        'nothing was written',
        '',
      ],
    ]);
    expect(
      await Promise.all(
        ['dim_orders_history', 'tidemark.batches', 'tidemark.absorbed_changes', 'tidemark.rejected_changes'].map(
          (table) => rowsIn(table),
        ),
      ),
    ).toEqual(before);
    expect(await pending()).toEqual(['changes_sooner.json']);
    expect(await load()).toMatchObject([
      {
        batches: 1,
        inserted_versions: 2,
        closed_versions: 1,
        corrected_versions: 1,
        late_changes: 1,
        absorbed_changes: 1,
        rejected_changes: 1,
      },
    ]);
  });

  it('walks the chain as a load does, through batches that are not in the ledger yet', async () => {
    await insertOrders(25);
    await extract();
    const { stdout } = await runCli(['load', '--table', 'orders', '--dry-run', '--json'], pipeline.env);
    expect(JSON.parse(stdout)).toMatchObject([{ table: 'orders', batches: 3, changes: 25, inserted_versions: 25 }]);
    expect(await rowsIn('tidemark.batches')).toBe(0);
    expect(await pending()).toHaveLength(3);
  });

  it('does not go with --watch', async () => {
    expect((await runCli(['load', '--dry-run', '--watch'], pipeline.env)).code).toBe(2);
  });
});

describe('values', () => {
  const COLUMNS: readonly TestColumn[] = [
    { source: 'key part', type: 'text', role: 'business key' },
    { source: 'Key2', type: 'bigint', role: 'business key' },
    { source: 'select', type: 'numeric', role: 'tracked' },
    { source: 'amount', type: 'numeric(38,10)', role: 'tracked' },
    { source: 'float', type: 'double precision', role: 'tracked' },
    { source: 'real', type: 'real', role: 'tracked' },
    { source: 'flag', type: 'boolean', role: 'tracked' },
    { source: 'note', type: 'text', role: 'tracked' },
    { source: 'code', type: 'varchar(20)', role: 'tracked' },
    { source: 'letters', type: 'char(5)', role: 'tracked' },
    { source: 'doc', type: 'json', role: 'tracked' },
    { source: 'docb', type: 'jsonb', role: 'tracked' },
    { source: 'bytes', type: 'bytea', role: 'tracked' },
    { source: 'tags', type: 'text[]', role: 'tracked' },
    { source: 'grid', type: 'integer[]', role: 'tracked' },
    { source: 'day', type: 'date', role: 'tracked' },
    { source: 'moment', type: 'timestamptz', role: 'tracked' },
    { source: 'local', type: 'timestamp', role: 'tracked' },
    { source: 'at', type: 'time', role: 'tracked' },
    { source: 'span', type: 'interval', role: 'tracked' },
    { source: 'uid', type: 'uuid', role: 'tracked' },
    { source: 'net', type: 'inet', role: 'tracked' },
    { source: 'period', type: 'tstzrange', role: 'tracked' },
    { source: 'created_at', type: 'timestamptz', role: 'tracked', history: 'source_created_at' },
    { source: 'changed_at', type: 'timestamptz', role: 'effective time' },
  ];
  const NASTY = [
    `'ключ "1" \\ %s {x}', 9223372036854775807, 12345678901234567890.12345678901234567890, 0.1234567890, 0.1, 1.1, true, E'a\\tb\\nc\\\\d "q" \\u2028 🙂', 'ünïcode', 'ab',
      '{"b": 1, "a": 1, "a": 2}', '{"b": 1, "a": [1.0, null]}', '\\x00ff10', array['x', null, 'a,b', '"', '']::text[], '[2:3][0:1]={{1,2},{3,4}}', '0044-03-15 BC',
      '2026-02-01 09:00:00.000001+00', '294276-12-31 23:59:59.999999', '24:00:00', '1 year 2 mons -3 days 04:05:06.789', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '10.0.0.0/8', '[2026-01-01,infinity)', now()`,
    `'', -9223372036854775808, 'NaN', -0.0000000001, '-0', 'NaN', false, '', '', '', 'null', '"text"', '', '{}', '{}', 'infinity',
      '-infinity', 'infinity', '00:00:00.000001', '-00:00:00.000001', null, '::1', 'empty', '-infinity'`,
    `' ', 0, 1.0, null, 'Infinity', '-Infinity', null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null`,
    `' ', 1, 1.00, 0, 1e-300, 3.4e38, null, 'null', 'NULL', 'x', '[1.10, 1e5]', 'null', '\\x', '{NULL,"NULL"}', '{}', '5874897-12-31',
      '4713-01-01 00:00:00+00 BC', '2026-02-01 09:00:00', '23:59:59.999999', '178000000 years', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '::', '(,)', now()`,
  ];

  it('of every kind arrive as they were, to the last digit, and are recognised when they are read again', async () => {
    await createSourceTable(pipeline.source, 'things', COLUMNS);
    await registerDimension(pipeline.warehouse, 'things', 'things', COLUMNS);
    for (const row of NASTY) await pipeline.source.unsafe(`insert into things values (${row}, now())`);
    await extract(['things']);
    expect(await load(['things'])).toMatchObject([{ inserted_versions: NASTY.length }]);
    const stored = COLUMNS.slice(0, -1);
    const quote = (name: string) => `"${name}"::text`;
    const sent = await pipeline.source.unsafe(
      `select ${stored.map((column) => quote(column.source)).join(', ')} from things order by 1, 2`,
    );
    const kept = await pipeline.warehouse.unsafe(
      `select ${stored.map((column) => `${quote(column.history ?? column.source)} as "${column.source}"`).join(', ')} from dim_things_history order by 1, 2`,
    );
    expect([...kept]).toEqual([...sent]);
    await extractTables({ settings: pipeline.settings, tables: ['things'], full: true });
    expect(await load(['things'])).toMatchObject([{ inserted_versions: 0, absorbed_changes: NASTY.length }]);
  });
});

describe('nasty values', () => {
  /** Each is a column, the n-th value of all is a row. */
  const KINDS = NASTY_KINDS;
  const COLUMNS: readonly TestColumn[] = [
    { source: 'id', type: 'integer', role: 'business key' },
    ...KINDS.map(([type]) => ({ source: `a ${type}`, type, role: 'tracked' as const })),
    { source: 'touched', type: 'timestamptz', role: 'effective time' },
  ];
  const printed = async (sql: TestPipeline['source'], table: string) => [
    ...(await sql.unsafe(
      `select id, ${KINDS.map(([type]) => `"a ${type}"::text`).join(', ')} from ${table} order by id`,
    )),
  ];

  it('of every type arrive as PostgreSQL prints them, are the same when read again, and differ from no row of the source', async () => {
    for (const end of [pipeline.source, pipeline.warehouse]) await end.unsafe(OWN_TYPES);
    await createSourceTable(pipeline.source, 'nasty', COLUMNS);
    await registerDimension(pipeline.warehouse, 'nasty', 'nasty', COLUMNS);
    const rows = Math.max(...KINDS.map((kind) => kind.length - 1));
    for (let row = 1; row <= rows; row += 1)
      await pipeline.source.unsafe(
        `insert into nasty values (${String(row)}, ${KINDS.map((kind) => kind[row] ?? 'null').join(', ')}, now())`,
      );
    await extract(['nasty']);
    expect(await load(['nasty'])).toMatchObject([{ inserted_versions: rows, rejected_changes: 0 }]);
    const sent = await printed(pipeline.source, 'nasty');
    expect(sent).toHaveLength(6);
    expect(await printed(pipeline.warehouse, '(select * from dim_nasty_history where is_current) as h')).toEqual(sent);
    await extractTables({ settings: pipeline.settings, tables: ['nasty'], full: true });
    expect(await load(['nasty'])).toMatchObject([{ inserted_versions: 0, absorbed_changes: rows }]);
    expect((await runCli(['reconcile', '--table', 'nasty'], pipeline.env)).stdout).toContain('nasty: no differences');
  });
});

describe('a thousand simulated changes', () => {
  it('flow into history while they are made, and leave it equal to the source with all checks green', async () => {
    const traffic = {
      seed: 7,
      rate: undefined,
      duration: undefined,
      changes: 250,
      watch: false,
      signal: new AbortController().signal,
    };
    for (let round = 0; round < 4; round += 1) {
      await Promise.all([simulate(pipeline.source, { ...traffic, seed: round }), extract(), load()]);
    }
    await extract();
    await load();
    expect(await differences()).toEqual([]);
    expect(await violations()).toEqual([]);
    const [sum] = await pipeline.warehouse<{ places: string; changes: string }[]>`
      select (select count(*) from dim_orders_history) + (select count(*) from tidemark.absorbed_changes) as places,
        (select sum(change_count) from tidemark.batches) as changes`;
    expect(sum?.places).toBe(sum?.changes);
  });
});
