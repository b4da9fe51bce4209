import { readFile, readdir, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { runChecks } from '../../runner/warehouse/checks.js';
import { connect } from '../../runner/base/database.js';
import { extractTables } from '../../runner/extract/tables.js';
import { simulate } from '../../runner/demo/simulate.js';
import { noteRemovedFiles } from '../../runner/warehouse/functions.js';
import { runCli } from '../support/cli.js';
import { isOnCluster } from '../support/cluster.js';
import {
  createWarehouseDatabase,
  preparePipeline,
  type PreparedPipeline,
  type TestPipeline,
} from '../support/databases.js';
import { compile } from '../support/batches.js';
import { owning } from '../support/roles.js';
import { loadTables } from '../../runner/load/tables.js';
import { rebuildTables, verifyTables } from '../../runner/load/replay.js';

/** History made once more from the change log: tidemark.open_replay, tidemark.replay_batch, tidemark.replay_gaps, tidemark.compare_replay, tidemark.adopt_replay, tidemark.skip_pruned. */

let prepared: PreparedPipeline;
let pipeline: TestPipeline;
beforeAll(async () => {
  prepared = await preparePipeline(
    async (first) => {
      pipeline = first;
      await pipeline.source`insert into products (title, category, unit_price) values ('Tea', 'kitchen', 1.50), ('Lamp', 'office', 20)`;
      // Numbers of versions that a replay does not happen to give as well.
      await pipeline.warehouse`select setval(pg_get_serial_sequence('dim_products_history', 'surrogate_key'), 999)`;
      await flow(1);
      await flow(2);
    },
    { BATCH_SIZE: '20', BATCH_SIZE_MAX: '20' },
  );
});
afterAll(async () => {
  await prepared.drop();
});
beforeEach(async () => {
  pipeline = await prepared.begin();
});
afterEach(async () => {
  await pipeline.drop();
});

const TABLES = ['customers', 'orders', 'products'];
const TRAFFIC = {
  rate: undefined,
  duration: undefined,
  watch: false,
  signal: new AbortController().signal,
};
const folder = (...names: string[]) => path.join(pipeline.settings.cdc_log_dir, 'orders', ...names);

async function flow(seed: number): Promise<void> {
  await simulate(pipeline.source, { ...TRAFFIC, seed, changes: 100 });
  await pipeline.source`update products set stock = stock + 1, last_updated = clock_timestamp()`;
  await extractTables({ settings: pipeline.settings, tables: [], full: seed % 2 === 0 });
  await loadTables({ settings: pipeline.settings, tables: [] });
}

const verify = (...tables: string[]) => verifyTables(owning(pipeline.settings), tables);
const rebuild = (...tables: string[]) => rebuildTables(owning(pipeline.settings), tables);
const violations = async () =>
  (await runChecks(pipeline.warehouse, ['pipeline', 'scd2'])).filter((result) => result.violations > 0);

/** All that was ever made of the batches of a table, surrogate keys apart; `sql` may be another warehouse. */
async function everything(table: string, sql = pipeline.warehouse) {
  const [history] = await sql<{ rows: string }[]>`
    select coalesce(string_agg(v::text, E'\n' order by v.business_key, v.valid_from), '') as rows
    from (select dimension_name, business_key, valid_from, valid_to, is_current, cdc_operation, cdc_timestamp, batch_id, change_line, captured_at, tracked_values from tidemark.versions) as v
    where v.dimension_name = ${table}`;
  const absorbed =
    await sql`select shard, batch_id, change_line, reason, closed_at from tidemark.absorbed_changes where dimension_name = ${table} order by batch_id, change_line`;
  const rejected =
    await sql`select batch_id, change_line, reason from tidemark.rejected_changes where dimension_name = ${table} order by batch_id, change_line`;
  const batches = await sql`
    select batch_id, sequence, checksum, metadata ->> 'table' as named, inserted_versions, closed_versions, absorbed_changes, rejected_changes
    from tidemark.batches where dimension_name = ${table} order by extracted_at, batch_id`;
  const [first] = await sql`
    select json_agg(json_build_object('key', v.business_key, 'from', v.valid_from, 'values', f.values_before) order by v.business_key, v.valid_from) as rows
    from tidemark.first_values as f join tidemark.versions as v using (dimension_name, surrogate_key) where dimension_name = ${table}`;
  return { history, absorbed: [...absorbed], rejected: [...rejected], batches: [...batches], first };
}

/** Which tuples a table is made of, by its shards where it has them: what is written has others. */
async function tuplesOf(table: string): Promise<unknown> {
  const query = (from: string) =>
    `select string_agg(xmin::text || ctid::text, ' ' order by surrogate_key) as result from ${from}`;
  return [
    ...(await pipeline.warehouse.unsafe(
      isOnCluster()
        ? `select result from run_command_on_shards('${table}', $$${query('%s')}$$) order by shardid`
        : query(table),
    )),
  ];
}

const surrogateKeys = async () => {
  const rows = await pipeline.warehouse<
    { place: string; surrogate_key: string }[]
  >`select format('%s %s', order_key, valid_from) as place, surrogate_key from dim_orders_history`;
  return new Map(rows.map(({ place, surrogate_key: key }) => [place, key]));
};

describe('verify-log', () => {
  it('finds the histories of all tables as their batches make them, and leaves nothing behind', async () => {
    const before = await Promise.all(TABLES.map((table) => everything(table)));
    const results = await verify();
    expect(results.map(({ table, missing, differences }) => [table, missing, differences])).toEqual(
      TABLES.map((table) => [table, [], 0]),
    );
    expect(results[1]?.batches).toBeGreaterThan(5);
    expect(await Promise.all(TABLES.map((table) => everything(table)))).toEqual(before);
    expect(await pipeline.warehouse`select dimension_name from tidemark.dimensions order by 1`).toEqual(
      TABLES.map((dimension_name) => ({ dimension_name })),
    );
    expect(await pipeline.warehouse`select 1 from pg_class where relname like 'replay%'`).toHaveLength(0);
  });

  it.each([
    [
      'a value altered by hand',
      'update dim_orders_history set quantity = quantity + 1 where order_key = 1 and is_current',
      2,
    ],
    ['a version deleted by hand', 'delete from dim_orders_history where order_key = 1 and is_current', 1],
    [
      'a version added by hand',
      `insert into dim_orders_history (order_key, customer_id, product_id, quantity, unit_price, total_amount, order_status, order_date, valid_from, cdc_operation, cdc_timestamp, batch_id, captured_at, change_line)
      select 0, customer_id, product_id, quantity, unit_price, total_amount, order_status, order_date, valid_from, cdc_operation, cdc_timestamp, batch_id, captured_at, change_line from dim_orders_history limit 1`,
      1,
    ],
    [
      'an end moved by hand',
      "update dim_orders_history set valid_to = valid_to + interval '1 microsecond' where surrogate_key = (select min(surrogate_key) from dim_orders_history where valid_to is not null)",
      2,
    ],
  ])('shows %s, and exits 3', async (_, statement, differences) => {
    await pipeline.warehouse.unsafe(statement);
    const { code, stdout } = await runCli(['verify-log'], pipeline.env);
    expect(stdout).toContain(` ${String(differences)} ${differences === 1 ? 'row differs' : 'rows differ'}`);
    expect(stdout).not.toContain('lacks');
    expect(stdout).toMatch(/history only|change log only/);
    expect(stdout).toMatch(/ok +customers/);
    expect(code).toBe(3);
  });

  it("does not mind the clock of the warehouse, the numbers of versions, or columns of the user's own", async () => {
    await pipeline.warehouse`alter table dim_orders_history add column note text default 'mine'`;
    await pipeline.warehouse`update dim_orders_history set created_at = now(), updated_at = now(), note = 'other'`;
    expect(await verify('orders')).toMatchObject([{ differences: 0 }]);
  });

  it('and rebuild take changes at their own capture times, which rise neither within a document nor from one to the next', async () => {
    const orders = (...captures: readonly (readonly [id: number, status: string, time: string])[]) =>
      captures.map(([id, status, time]) => ({
        ...{ id, customer_id: 1, product_id: 1, quantity: 1, unit_price: 1, total_amount: 1, order_status: status },
        ...{ order_date: '2026-02-01', last_updated: `2026-02-01T${time}`, created_at: '2026-02-01' },
        ...{ operation_type: 'UPDATE', cdc_timestamp: `2026-02-01T${time}`, extracted_at: `2026-02-01T${time}:30Z` },
      }));
    const documents = [
      orders([9001, 'C', '09:20'], [9001, 'A', '09:00'], [9002, 'A', '09:05']),
      orders([9002, 'B', '09:25'], [9001, 'B', '09:10'], [9001, 'D', '09:30'], [9002, 'B', '09:15']),
    ];
    for (const [index, changes] of documents.entries())
      await writeFile(
        folder(`changes_by_hand_${String(index)}.json`),
        JSON.stringify({
          batch_metadata: {
            ...{ batch_id: `by_hand_${String(index)}`, extracted_at: '2026-02-01T09:15:00Z', watermark: null },
            change_count: changes.length,
          },
          changes,
        }),
      );
    expect(await loadTables({ settings: pipeline.settings, tables: ['orders'] })).toMatchObject([
      { batches: 2, changes: 7, inserted_versions: 6, absorbed_changes: 1, rejected_changes: 0 },
    ]);
    expect([
      ...(await pipeline.warehouse`
        select order_key, string_agg(order_status || to_char(valid_from, ' HH24:MI'), ', ' order by valid_from) as versions
        from dim_orders_history where order_key > 9000 group by order_key order by order_key`),
    ]).toEqual([
      { order_key: 9001, versions: 'A 09:00, B 09:10, C 09:20, D 09:30' },
      { order_key: 9002, versions: 'A 09:05, B 09:15' },
    ]);
    expect(await verify('orders')).toMatchObject([{ missing: [], differences: 0 }]);
    const before = await everything('orders');
    await pipeline.warehouse`update dim_orders_history set captured_at = '2026-02-01 09:15Z' where order_key > 9000`;
    expect(await verify('orders')).toMatchObject([{ missing: [], differences: 12 }]);
    await rebuild('orders');
    expect(await everything('orders')).toEqual(before);
    expect(await verify('orders')).toMatchObject([{ differences: 0 }]);
  });

  it('says which batches the change log lacks: nothing is verified then', async () => {
    const [name = ''] = (await readdir(folder('processed'))).sort();
    await rename(folder('processed', name), folder('processed', `elsewhere_${name}`));
    expect(await verify('orders')).toMatchObject([{ missing: [name.replace('.json.gz', '')] }]);
    expect(await runCli(['verify-log', '--table', 'orders'], pipeline.env)).toMatchObject({
      code: 3,
      stdout: expect.stringContaining('the change log lacks 1 batch of the ledger') as string,
    });
  });

  it('finds a document from elsewhere by what it holds, whatever its file is called', async () => {
    const [name = ''] = (await readdir(folder('processed'))).sort();
    await rename(folder('processed', name), folder('processed', 'changes_by_hand.json.gz'));
    expect(await verify('orders')).toMatchObject([{ missing: [], differences: 0 }]);
  });

  it('refuses a file that was altered, and one that is not what was applied', async () => {
    const [name = ''] = (await readdir(folder('processed'))).sort();
    const file = folder('processed', name);
    const bytes = await readFile(file);
    const text = gunzipSync(bytes).toString('utf8');
    await writeFile(file, gzipSync(text.replace('"order_status":"', '"order_status":"un')));
    await expect(verify('orders')).rejects.toMatchObject({
      message: expect.stringContaining('the checksum does not fit the change lines') as string,
      detail: file,
    });
    await writeFile(file, bytes);
    await pipeline.warehouse`update tidemark.batches set checksum = 'another' where dimension_name = 'orders' and sequence = 1`;
    await expect(verify('orders')).rejects.toMatchObject({
      code: 'TM003',
      message: 'the document is not the batch of that name that was applied',
      detail: expect.stringContaining(name) as string,
    });
  });

  it('waits for nobody but a loader at its end, and counts what was loaded meanwhile', async () => {
    await simulate(pipeline.source, { ...TRAFFIC, seed: 9, changes: 50 });
    await extractTables({ settings: pipeline.settings, tables: ['orders'] });
    const [results] = await Promise.all([
      verify('orders'),
      loadTables({ settings: pipeline.settings, tables: ['orders'] }),
    ]);
    expect(results).toMatchObject([{ missing: [], differences: 0 }]);
  });

  it('replays rejected changes into the same place', async () => {
    await pipeline.warehouse`alter table dim_customers_history add constraint no_zoe check (full_name <> 'Zoe')`;
    await compile(pipeline.warehouse, 'customers');
    await pipeline.source`insert into customers (id, full_name, email) values (900, 'Zoe', 'z@x'), (901, 'Yan', 'y@x')`;
    await extractTables({ settings: pipeline.settings, tables: ['customers'] });
    expect(await loadTables({ settings: pipeline.settings, tables: ['customers'] })).toMatchObject([
      { inserted_versions: 1 },
    ]);
    expect(await verify('customers')).toMatchObject([{ differences: 0 }]);
    const before = await everything('customers');
    await rebuild('customers');
    expect(await everything('customers')).toEqual(before);
  });
});

/** An instant moved, in a form that does not depend on the zone of the session: Citus sends no other to a worker. */
const moved = (column: string, by: string) => `(${column} at time zone 'UTC' ${by}) at time zone 'UTC'`;

/** As if retention had removed the first batches of orders: they are 100 days older than the others, and their files are gone. */
async function pruneFirst(count: number): Promise<string[]> {
  const rows = await pipeline.warehouse<
    { batch_id: string }[]
  >`select batch_id from tidemark.batches where dimension_name = 'orders' order by sequence limit ${count}`;
  const names = rows.map(({ batch_id }) => batch_id);
  await pipeline.warehouse`update tidemark.batches set extracted_at = extracted_at - interval '100 days', least_captured_at = least_captured_at - interval '100 days', greatest_captured_at = greatest_captured_at - interval '100 days' where batch_id = any (${names})`;
  for (const [relation, column] of [
    ['tidemark.absorbed_changes', 'captured_at'],
    ['public.dim_orders_history', 'captured_at'],
  ] as const)
    await pipeline.warehouse.unsafe(
      `update ${relation} set ${column} = ${moved(column, "- interval '100 days'")} where batch_id = any ($1)`,
      [names],
    );
  for (const name of names) await rm(folder('processed', `${name}.json.gz`));
  return names;
}

const RETENTION = { CDC_LOG_RETENTION_DAYS: '30' };
const verifyPruned = () => runCli(['verify-log', '--table', 'orders'], { ...pipeline.env, ...RETENTION });

describe('verify-log where retention has removed the oldest batches', () => {
  it('says how many, verifies the others and the keys that began with them, and exits 0', async () => {
    const names = await pruneFirst(3);
    const [ledger] = await pipeline.warehouse<
      [{ rest: number }]
    >`select count(*)::integer - 3 as rest from tidemark.batches where dimension_name = 'orders'`;
    const { code, stdout } = await verifyPruned();
    expect(stdout).toBe(
      `ok    orders: ${String(ledger.rest)} batches replayed, 3 batches before them pruned by retention, history of the keys that began since is what they make\n`,
    );
    expect(code).toBe(0);
    expect(
      await pipeline.warehouse`select 1 from tidemark.batches where metadata ->> 'is_pruned' = 'true'`,
    ).toHaveLength(0);
    await expect(
      rebuildTables(owning({ ...pipeline.settings, cdc_log_retention_days: 30 }), ['orders']),
    ).rejects.toMatchObject({ detail: expect.stringContaining(names[0] ?? '-') as string });
  });

  it('leaves out keys that changed until the latest capture time of what was removed, which may lie after its batch was read', async () => {
    const names = await pruneFirst(3);
    const last = names.at(-1) ?? '';
    await pipeline.warehouse.unsafe(
      `update dim_orders_history set captured_at = ${moved('captured_at', "+ interval '1 hour'")} where batch_id = $1`,
      [last],
    );
    await pipeline.warehouse`update tidemark.batches set greatest_captured_at = greatest_captured_at + interval '1 hour' where batch_id = ${last}`;
    expect(await verifyPruned()).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('3 batches before them pruned by retention') as string,
    });
  });

  it('finds what was altered by hand of a key that began since, and what a batch that is left does not say', async () => {
    await pruneFirst(3);
    const began = `select order_key from dim_orders_history group by order_key having min(captured_at) > now() - interval '50 days' order by 1 limit 1`;
    await pipeline.warehouse.unsafe(
      `update dim_orders_history set quantity = quantity + 1 where is_current and order_key = (${began})`,
    );
    expect(await verifyPruned()).toMatchObject({
      code: 3,
      stdout: expect.stringMatching(/3 batches before them pruned by retention, 2 rows differ/) as string,
    });
    await pipeline.warehouse`update tidemark.batches set checksum = 'another' where dimension_name = 'orders' and sequence = (select max(sequence) from tidemark.batches where dimension_name = 'orders')`;
    expect((await verifyPruned()).stderr).toContain('the document is not the batch of that name that was applied');
  });

  it('does not take for pruned what is missing in the middle, is younger than the retention, or has a rejected change that waits: exits 3', async () => {
    await pruneFirst(3);
    const [, second = ''] = (await readdir(folder('processed'))).sort();
    await rename(folder('processed', second), folder(`aside ${second}`));
    expect(await verifyPruned()).toMatchObject({
      code: 3,
      stdout: expect.stringContaining(`lacks 1 batch of the ledger, first ${second.replace('.json.gz', '')}`) as string,
    });
    await rename(folder(`aside ${second}`), folder('processed', second));
    const [first = ''] = (await readdir(folder('processed'))).sort();
    await rename(folder('processed', first), folder(`aside ${first}`));
    expect(await verifyPruned()).toMatchObject({
      code: 3,
      stdout: expect.stringContaining(`lacks 1 batch of the ledger, first ${first.replace('.json.gz', '')}`) as string,
    });
    await rename(folder(`aside ${first}`), folder('processed', first));
    await pipeline.warehouse`
      insert into tidemark.rejected_changes (dimension_name, shard, batch_id, change_line, reason, change, rejected_at)
      select 'orders', '', batch_id, 999, 'made by the test', '{}', now() from tidemark.batches where dimension_name = 'orders' and sequence = 3`;
    expect(await verifyPruned()).toMatchObject({
      code: 3,
      stdout: expect.stringContaining('lacks 1 batch of the ledger') as string,
    });
  });

  it('does not where nothing is said to be removed', async () => {
    await pruneFirst(3);
    expect(await verify('orders')).toMatchObject([{ pruned: 0, missing: { length: 3 } }]);
  });

  it('knows what was removed by the ledger, whatever the setting says since, and takes nothing else for it', async () => {
    const names = await pruneFirst(3);
    await noteRemovedFiles(pipeline.warehouse, 'orders', '', names.slice(0, 2));
    expect(await verify('orders')).toMatchObject([{ pruned: 2, missing: names.slice(2) }]);
    await noteRemovedFiles(pipeline.warehouse, 'orders', '', names);
    expect(await verify('orders')).toMatchObject([{ pruned: 3, missing: [], differences: 0 }]);
  });
});

describe('rebuild', () => {
  it('of a history that is right writes nothing', async () => {
    const [before, keys] = [await Promise.all(TABLES.map((table) => everything(table))), await surrogateKeys()];
    const tuples = await tuplesOf('public.dim_orders_history');
    const results = await rebuild(...TABLES);
    for (const result of results)
      expect(result).toMatchObject({ corrected_versions: 0, added_versions: 0, removed_versions: 0 });
    expect(await tuplesOf('public.dim_orders_history')).toEqual(tuples);
    expect(await Promise.all(TABLES.map((table) => everything(table)))).toEqual(before);
    expect(await surrogateKeys()).toEqual(keys);
    expect(await violations()).toEqual([]);
  });

  it('puts a history right that was altered by hand; a version keeps the surrogate key of its business key and valid_from', async () => {
    const [before, keys] = [await everything('orders'), await surrogateKeys()];
    const [counts] = await pipeline.warehouse<{ wrong: string; gone: string }[]>`
      with wrong as (update dim_orders_history set quantity = quantity + 1 where order_key % 5 = 0 returning 1),
        gone as (delete from dim_orders_history where order_key % 5 = 1 returning 1)
      select (select count(*) from wrong) as wrong, (select count(*) from gone) as gone`;
    await pipeline.warehouse`
      insert into dim_orders_history (order_key, customer_id, product_id, quantity, unit_price, total_amount, order_status, order_date, valid_from, valid_to, is_current, cdc_operation, cdc_timestamp, batch_id, captured_at, change_line)
      select -order_key, customer_id, product_id, quantity, unit_price, total_amount, order_status, order_date, valid_from, null, true, cdc_operation, cdc_timestamp, batch_id, captured_at, change_line
      from dim_orders_history where order_key = 2 limit 1`;
    expect(await rebuild('orders')).toMatchObject([
      { corrected_versions: Number(counts?.wrong), added_versions: Number(counts?.gone), removed_versions: 1 },
    ]);
    expect(Number(counts?.wrong)).toBeGreaterThan(0);
    expect(Number(counts?.gone)).toBeGreaterThan(0);
    expect(await everything('orders')).toEqual(before);
    const after = await surrogateKeys();
    const stayed = [...keys].filter(([place]) => Number(place.split(' ')[0]) % 5 !== 1);
    expect(stayed.filter(([place, key]) => after.get(place) !== key)).toEqual([]);
    const added = [...after].filter(([place]) => Number(place.split(' ')[0]) % 5 === 1).map(([, key]) => Number(key));
    // Each node of a cluster has numbers of its own.
    if (isOnCluster()) expect(added.filter((key) => [...keys.values()].map(Number).includes(key))).toEqual([]);
    else expect(Math.min(...added)).toBeGreaterThan(Math.max(...[...keys.values()].map(Number)));
    expect(await verify('orders')).toMatchObject([{ differences: 0 }]);
    expect(await violations()).toEqual([]);
    await flow(3);
    expect(await verify()).toMatchObject(TABLES.map(() => ({ differences: 0 })));
  });

  it('closes and opens where the current version itself was wrong, without meeting its own constraints', async () => {
    const before = await everything('orders');
    await pipeline.warehouse`delete from dim_orders_history as h using dim_orders_history as n where n.order_key = h.order_key and h.is_current and n.valid_to = h.valid_from`;
    await pipeline.warehouse`update dim_orders_history as h set is_current = true, valid_to = null where not is_current and not exists (select from dim_orders_history as n where n.order_key = h.order_key and n.valid_from > h.valid_from)`;
    expect(await verify('orders')).not.toMatchObject([{ differences: 0 }]);
    await rebuild('orders');
    expect(await everything('orders')).toEqual(before);
  });

  it('removes what is there twice, where the indexes that forbid it are gone', async () => {
    const [before, keys] = [await everything('orders'), await surrogateKeys()];
    await pipeline.warehouse`alter table dim_orders_history drop constraint dim_orders_history_one_version_a_time`;
    await pipeline.warehouse`drop index dim_orders_history_one_current_version`;
    const columns = `order_key, customer_id, product_id, quantity, unit_price, total_amount, order_status, order_date,
      valid_from, valid_to, is_current, cdc_operation, cdc_timestamp, batch_id, created_at, updated_at, captured_at, change_line`;
    const copy = (status: string) =>
      pipeline.warehouse.unsafe(
        `insert into dim_orders_history (${columns}) select ${columns.replace('order_status', status)} from dim_orders_history where order_key in (1, 2) and is_current`,
      );
    await copy("'altered'");
    await copy('order_status');
    expect(await rebuild('orders')).toMatchObject([{ corrected_versions: 0, added_versions: 0, removed_versions: 6 }]);
    expect(await everything('orders')).toEqual(before);
    expect(await surrogateKeys()).toEqual(keys);
    expect(await verify('orders')).toMatchObject([{ differences: 0 }]);
  });

  it('puts right what is kept aside: absorbed changes, and first values of untracked columns', async () => {
    const before = await Promise.all(['orders', 'products'].map((table) => everything(table)));
    expect(before[1]?.first?.rows).not.toBeNull();
    expect(before[0]?.absorbed.length).toBeGreaterThan(0);
    await pipeline.warehouse`delete from tidemark.absorbed_changes`;
    await pipeline.warehouse`delete from tidemark.first_values`;
    await pipeline.warehouse`update dim_products_history set stock = -1`;
    await rebuild('orders', 'products');
    expect(await Promise.all(['orders', 'products'].map((table) => everything(table)))).toEqual(before);
  });

  it('makes the history of a warehouse that was lost, ledger and all', async () => {
    const before = await everything('orders');
    const lost = await createWarehouseDatabase();
    const settings = { ...pipeline.settings, warehouse: lost.settings };
    const results = await rebuildTables(owning(settings), ['orders']);
    expect(results).toMatchObject([{ batches: before.batches.length, right_versions: 0 }]);
    expect(await everything('orders', lost.sql)).toEqual(before);
    await simulate(pipeline.source, { ...TRAFFIC, seed: 4, changes: 20 });
    await extractTables({ settings, tables: ['orders'] });
    expect(await loadTables({ settings, tables: ['orders'] })).toMatchObject([{ skipped: 0 }]);
    await lost.drop();
  });

  it('changes nothing where the change log does not hold every batch of the ledger', async () => {
    const [before, [name = '']] = [await everything('orders'), (await readdir(folder('processed'))).sort()];
    await rm(folder('processed', name));
    await pipeline.warehouse`update dim_orders_history set quantity = quantity + 1 where order_key = 1`;
    const broken = await everything('orders');
    await expect(rebuild('orders')).rejects.toMatchObject({
      message: expect.stringContaining('the change log does not hold every batch of the ledger') as string,
      detail: expect.stringContaining(name.replace('.json.gz', '')) as string,
    });
    expect(await everything('orders')).toEqual(broken);
    expect(broken).not.toEqual(before);
  });

  it('keeps loaders out, and readers not', async () => {
    const other = connect(pipeline.admin.warehouse, 'test', 1);
    await pipeline.warehouse.begin(async (transaction) => {
      await transaction`select tidemark.open_replay('orders', true)`;
      expect(
        await other`select pg_try_advisory_lock(hashtextextended('tidemark.dimension orders', 0)) as is_free`,
      ).toEqual([{ is_free: false }]);
      expect(Number((await other`select count(*) from tidemark.versions`)[0]?.count)).toBeGreaterThan(0);
    });
    await other.end();
  });

  it('is asked for by name, and says what it did', async () => {
    expect((await runCli(['rebuild'], pipeline.env)).code).toBe(2);
    const { code, stdout } = await runCli(['rebuild', '--table', 'orders'], pipeline.env);
    expect(stdout).toMatch(/^orders: \d+ batches replayed; \d+ versions right, 0 corrected, 0 added, 0 removed\n$/);
    expect(code).toBe(0);
  });
});
