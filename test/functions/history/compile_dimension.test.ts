import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Database, Transaction } from '../../../runner/base/database.js';
import { PROJECT_ROOT } from '../../../runner/base/settings.js';
import { runChecks } from '../../../runner/warehouse/checks.js';
import { migrateWarehouse } from '../../../runner/warehouse/migrate.js';
import {
  apply,
  applied,
  at,
  batch,
  change,
  compile,
  everything,
  rolledBack,
  type Change,
} from '../../support/batches.js';
import { createWarehouseDatabase, type TestDatabase } from '../../support/databases.js';
import { registerDimension, type TestColumn } from '../../support/dimensions.js';
import { IS_PARTITIONED } from '../../support/partitions.js';

/** The functions that make history are written for each dimension, and are meant to be read: golden/ shows them whole (and the use of tidemark.last_known). */

const GOLDEN = path.join(PROJECT_ROOT, 'test', 'functions', 'history', 'golden');
const LONG = 'a name that is as long as the names of PostgreSQL may be, no less';

/** A composite key, untracked columns, and names that a statement could mistake for its own. */
const ODD: readonly TestColumn[] = [
  { source: 'Order Id', type: 'bigint', role: 'business key' },
  { source: 'c', type: 'text', role: 'business key', history: 'h' },
  { source: 'p_changes', type: 'numeric(10,2)', role: 'tracked', history: 'p_lines' },
  { source: 'say "hi"', type: 'text', role: 'tracked', history: '{history}' },
  { source: '_line', type: 'timestamp', role: 'tracked' },
  { source: 'json', type: 'json', role: 'tracked', history: 'c' },
  { source: 'moved', type: 'integer', role: 'untracked', history: 'inserted_versions' },
  { source: LONG.slice(0, 63), type: 'text', role: 'untracked' },
  { source: 'touched', type: 'timestamptz', role: 'effective time' },
];
const ODD_NAME = 'odd_names';
const ODD_HISTORY = 'public."History of lines"';

/** Without an effective time of its own. */
const TIMELESS: readonly TestColumn[] = [
  { source: 'id', type: 'bigint', role: 'business key' },
  { source: 'label', type: 'text', role: 'tracked' },
];

/** Its events are published. */
const PUBLISHED: readonly TestColumn[] = [
  { source: 'id', type: 'bigint', role: 'business key' },
  { source: 'label', type: 'text', role: 'tracked' },
  { source: 'seen', type: 'integer', role: 'untracked' },
  { source: 'touched', type: 'timestamptz', role: 'effective time' },
];

let warehouse: TestDatabase;
let sql: Database;
beforeAll(async () => {
  warehouse = await createWarehouseDatabase();
  sql = warehouse.sql;
  await registerDimension(sql, ODD_NAME, 'lines', ODD, { history: ODD_HISTORY });
  await registerDimension(sql, 'timeless', 'timeless', TIMELESS);
  await registerDimension(sql, 'published', 'published', PUBLISHED);
  await sql`select tidemark.publish_events(p_dimension_name => 'published')`;
  await sql.unsafe(`alter table ${ODD_HISTORY} add constraint enough check (p_lines > 0 and "{history}" <> '{keys}')`);
  await compile(sql, ODD_NAME);
});
afterAll(async () => {
  await warehouse.drop();
});

async function bodyOf(transaction: Database | Transaction, name: string): Promise<string> {
  const [row] = await transaction<[{ body: string }]>`
    select ltrim(p.prosrc, e'\n') as body
    from pg_proc as p
    where p.pronamespace = 'tidemark'::regnamespace and p.proname = ${name}`;
  return row.body;
}

/** The functions of schema tidemark that were compiled. */
async function compiledFunctions(transaction: Database | Transaction): Promise<string[]> {
  const rows = await transaction<{ name: string }[]>`
    select p.proname as name
    from pg_proc as p
    where p.pronamespace = 'tidemark'::regnamespace and p.proname ~ '^(apply|converge)_' and p.proargnames[1] = 'p_batch'
    order by p.proname collate "C"`;
  return rows.map(({ name }) => name);
}

test
  .skipIf(IS_PARTITIONED)
  .each([
    'apply_orders',
    'converge_orders',
    'known_orders',
    'apply_odd_names',
    'converge_odd_names',
    'known_odd_names',
    'apply_timeless',
    'apply_published',
    'converge_published',
    'render_orders',
    'render_odd_names',
  ])('the text of tidemark.%s is that of its golden file', async (name) => {
  // A keyword from 16 on, and so a name in quotes.
  const unquoted = (text: string) => text.replaceAll('"json"', 'json');
  const golden = path.join(GOLDEN, `${name}.sql`);
  const found = await bodyOf(sql, name);
  if (process.env.ACCEPT_SCHEMA === '1') await writeFile(golden, found);
  expect(unquoted(found), 'if the change is meant, run "npm run schema:accept" and read its diff').toBe(
    unquoted(await readFile(golden, 'utf8').catch(() => '')),
  );
});

test('a function names no placeholder and no numbered value, and its header is its comment', async () => {
  const rows = await sql<{ name: string; body: string; comment: string | null }[]>`
    select p.proname as name, p.prosrc as body, obj_description(p.oid, 'pg_proc') as comment
    from pg_proc as p
    where p.pronamespace = 'tidemark'::regnamespace and p.proname in ('apply_orders', 'converge_orders')`;
  expect(rows).toHaveLength(2);
  for (const { body, comment } of rows) {
    expect(body.match(/\{\w+\}|\w+_\d+/g) ?? []).toEqual([]);
    expect(comment).toMatch(/^Makes history of /);
    expect(body.split('\n').filter((line) => line.length > 140 || line.endsWith(' '))).toEqual([]);
  }
});

const line = (id: number, values: Change, time: string, operation = 'UPDATE'): Change => ({
  'Order Id': id,
  c: "o'k",
  p_changes: 1.5,
  'say "hi"': '{same_key}',
  _line: '2026-02-01T09:00:00',
  json: '{"a":  1}',
  moved: 1,
  [LONG.slice(0, 63)]: 'first',
  ...values,
  operation_type: operation,
  cdc_timestamp: `${at(time)}Z`,
});

test('odd names do no harm, in order or late, with untracked columns, repeats, deletes and a rule', async () => {
  const rows = await rolledBack(sql, async (transaction) => {
    const load = (name: string, time: string, lines: readonly Change[]) =>
      apply(transaction, batch(name, time, lines, { table: ODD_NAME }));
    const counts = [
      await load('b1', '09:05', [line(1, {}, '09:00'), line(1, { moved: 2 }, '09:01'), line(2, {}, '09:00')]),
      await load('b2', '09:15', [
        line(1, { moved: 3, [LONG.slice(0, 63)]: 'last' }, '09:10'),
        line(3, { p_changes: 0 }, '09:10'),
      ]),
      await load('b3', '09:25', [line(1, { json: '{}' }, '09:20'), line(2, {}, '09:20', 'DELETE')]),
      await load('b0', '09:12', [line(1, { _line: '2026-02-01T10:00:00' }, '09:11'), line(2, {}, '09:11')]),
    ];
    const history = await transaction.unsafe<Record<string, unknown>[]>(`
      select concat_ws(' ', "Order Id", "h", p_lines, "{history}", "_line", "c", inserted_versions, "${LONG.slice(0, 63)}", cdc_operation,
        to_char(valid_from, 'HH24:MI'), to_char(valid_to, 'HH24:MI')) as version
      from ${ODD_HISTORY}
      order by "Order Id", valid_from`);
    return { counts, versions: history.map(({ version }) => version) };
  });
  expect(rows.counts).toEqual([
    applied({ inserted_versions: 2, absorbed_changes: 1 }),
    applied({ absorbed_changes: 1, rejected_changes: 1 }),
    applied({ inserted_versions: 1, closed_versions: 2, absorbed_changes: 1 }),
    applied({ inserted_versions: 2, closed_versions: 2, absorbed_changes: 1, corrected_versions: 1, late_changes: 2 }),
  ]);
  expect(rows.versions).toEqual([
    `1 o'k 1.50 {same_key} 2026-02-01 09:00:00 {"a":  1} 2 first INSERT 09:00 09:11`,
    `1 o'k 1.50 {same_key} 2026-02-01 10:00:00 {"a":  1} 1 first UPDATE 09:11 09:15`,
    `1 o'k 1.50 {same_key} 2026-02-01 09:00:00 {"a":  1} 3 last UPDATE 09:15 09:20`,
    `1 o'k 1.50 {same_key} 2026-02-01 09:00:00 {} 1 first UPDATE 09:20`,
    `2 o'k 1.50 {same_key} 2026-02-01 09:00:00 {"a":  1} 1 first INSERT 09:00 09:20`,
  ]);
});

describe('the functions of a dimension', () => {
  const KEY: TestColumn = { source: 'id', type: 'integer', role: 'business key' };
  const TIME: TestColumn = { source: 'touched', type: 'timestamptz', role: 'effective time' };
  const register = (transaction: Transaction, name: string, table: string) =>
    registerDimension(transaction, name, 'things', [KEY, TIME], {
      history: `public."${table}"`,
    });

  test('have names of their own, though that of the dimension is long, shortened to one, or taken', async () => {
    const { before, after, results, dropped } = await rolledBack(sql, async (transaction) => {
      const long = 'a_name_that_is_as_long_as_the_name_of_a_dimension_may_be';
      const names = ['batch', 'batch_parts', `${long}_1`, `${long}_2`, 'x_0123abcd'];
      const known = await compiledFunctions(transaction);
      for (const [index, name] of names.entries()) await register(transaction, name, `history ${String(index)}`);
      const made = await compiledFunctions(transaction);
      const loaded = [];
      for (const name of names)
        for (const time of ['10:00', '09:00'])
          loaded.push(
            await apply(
              transaction,
              batch(
                `${name.slice(-20)} ${time}`,
                time,
                [{ id: 1, operation_type: 'INSERT', cdc_timestamp: `${at(time)}Z` }],
                {
                  table: name,
                },
              ),
            ),
          );
      for (const name of names) await transaction`select tidemark.remove_dimension(p_dimension_name => ${name})`;
      return { before: known, after: made, results: loaded, dropped: await compiledFunctions(transaction) };
    });
    expect(new Set(after).size).toBe(before.length + 10);
    expect(after.every((name) => Buffer.byteLength(name) <= 63)).toBe(true);
    expect(after).toEqual(expect.arrayContaining(['converge_batch', 'converge_batch_parts']));
    expect(results.every((result) => !result.already_applied)).toBe(true);
    expect(dropped).toEqual(before);
  });

  test.each<[string, string]>([
    [
      'a column is added',
      "alter table dim_orders_history add column note text; select tidemark.add_dimension_column('orders', 'note', 'note', 'tracked')",
    ],
    ['one is renamed at the source', "select tidemark.rename_source_column('orders', 'quantity', 'amount')"],
    [
      'one takes another type',
      "drop view dim_orders_current; select tidemark.retype_history_column('orders', 'order_status', 'text')",
    ],
  ])('are written anew when %s', async (_, statements) => {
    const [before, after, violations] = await rolledBack(sql, async (transaction) => {
      const old = await bodyOf(transaction, 'apply_orders');
      await transaction.unsafe(statements);
      return [old, await bodyOf(transaction, 'apply_orders'), await violationsIn(transaction)];
    });
    expect(after).not.toBe(before);
    expect(violations).toEqual([]);
  });

  test('are written once: again, and by migrate, only where something is another', async () => {
    const again = () => sql<[{ is_written: boolean }]>`select tidemark.compile_dimension('orders') as is_written`;
    expect(await again()).toEqual([{ is_written: false }]);
    const [definition] = await sql<[{ text: string }]>`
      select pg_get_functiondef(p.oid) as text from pg_proc as p where p.oid = 'tidemark.apply_orders'::regproc`;
    await sql.unsafe(definition.text.replace('having count(*) > 1', 'having count(*) > 2'));
    expect(await violationsIn(sql)).toEqual([
      { dimension_name: 'orders', function_name: 'apply_orders', fault: 'differs' },
    ]);
    await migrateWarehouse(warehouse.settings);
    expect(await violationsIn(sql)).toEqual([]);
    expect(await again()).toEqual([{ is_written: false }]);
  });

  test('are not written for a dimension that is not registered, or whose history lost a column', async () => {
    await expect(compile(sql, 'nothing')).rejects.toMatchObject({ code: 'TM002' });
    const error = await rolledBack(sql, async (transaction) => {
      await transaction`alter table dim_orders_history rename column quantity to amount`;
      return transaction.savepoint((inner) => compile(inner)).catch((caught: unknown) => caught);
    });
    expect(error).toMatchObject({ code: 'TM007', detail: 'dimension=orders columns=quantity' });
  });
});

async function violationsIn(session: Database | Transaction): Promise<unknown[]> {
  const check = 'sql/checks/pipeline/every_history_function_is_what_its_mapping_says.sql';
  return [...(await session.unsafe(await readFile(path.join(PROJECT_ROOT, check), 'utf8')))];
}

describe('a history that was altered by hand', () => {
  test.each<[string, string]>([
    ['a rule came', 'alter table dim_orders_history add check (quantity > 0)'],
    ['a rule went', 'alter table dim_orders_history drop constraint dim_orders_history_valid_from_precedes_valid_to'],
    ['a column has another name', 'alter table dim_orders_history rename column quantity to amount'],
    [
      'a column has another type',
      'drop view tidemark.versions cascade; drop view tidemark.neighbours cascade; drop view dim_orders_current; alter table dim_orders_history alter column order_status type varchar(60)',
    ],
    ['a column may be null', 'alter table dim_orders_history alter column quantity drop not null'],
    ['the table has another name', 'alter table dim_orders_history rename to dim_orders_versions'],
    [
      'a source column has another name',
      "update tidemark.dimension_columns set source_column = 'amount' where source_column = 'quantity'",
    ],
  ])('is noticed before anything is written: %s (TM023)', async (_, statements) => {
    const document = batch('b1', '10:00', [change(1, 'A', '09:00')]);
    const { error, before, after } = await rolledBack(sql, async (transaction) => {
      await transaction.unsafe(statements);
      const ledger = () => transaction`select * from tidemark.batches`;
      const known = await ledger();
      const caught: unknown = await transaction
        .savepoint((inner) => apply(inner, document))
        .catch((thrown: unknown) => thrown);
      return { error: caught, before: known, after: await ledger() };
    });
    expect(error).toMatchObject({
      code: 'TM023',
      detail: 'table=orders batch=b1',
      hint: "if that is meant: select tidemark.compile_dimension('orders')",
    });
    expect(after).toEqual(before);
  });

  test.each<[string, string]>([
    ['an index', 'create index on dim_orders_history (customer_id)'],
    ['a column of one’s own', "alter table dim_orders_history add column note text default 'mine'"],
    ['a comment', "comment on column dim_orders_history.quantity is 'how many'"],
  ])('goes on when what came is none of Tidemark’s: %s', async (_, statements) => {
    const result = await rolledBack(sql, async (transaction) => {
      await transaction.unsafe(statements);
      return apply(transaction, batch('b1', '10:00', [change(1, 'A', '09:00')]));
    });
    expect(result).toEqual(applied({ inserted_versions: 1 }));
  });

  test('is loaded again once its functions were compiled', async () => {
    const result = await rolledBack(sql, async (transaction) => {
      await transaction`alter table dim_orders_history add check (quantity > 0)`;
      await compile(transaction);
      return apply(
        transaction,
        batch('b1', '10:00', [change(1, 'A', '09:00'), change(2, 'A', '09:00', { quantity: 0 })]),
      );
    });
    expect(result).toEqual(applied({ inserted_versions: 1, rejected_changes: 1 }));
  });
});

test('a replay leaves no function behind', async () => {
  const before = await compiledFunctions(sql);
  const during = await rolledBack(sql, async (transaction) => {
    await transaction`select tidemark.open_replay('orders', false)`;
    const made = await compiledFunctions(transaction);
    await transaction`select * from tidemark.adopt_replay('orders')`;
    return { made, left: await compiledFunctions(transaction) };
  });
  expect(during.made).toHaveLength(before.length + 2);
  expect(during.left).toEqual(before);
  expect(await everything(sql)).toEqual([[], [], [], []]);
  expect((await runChecks(sql, ['pipeline'])).filter(({ violations }) => violations > 0)).toEqual([]);
});
