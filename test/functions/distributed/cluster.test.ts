import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect, type Database } from '../../../runner/base/database.js';
import { PROJECT_ROOT } from '../../../runner/base/settings.js';
import { runChecks } from '../../../runner/warehouse/checks.js';
import { apply, applied, at, batch, change, compile, deletion, versions, type Change } from '../../support/batches.js';
import { runCli } from '../../support/cli.js';
import { isOnCluster, NO_CLUSTER } from '../../support/cluster.js';
import { createPipeline, type TestPipeline } from '../../support/databases.js';
import { registerDimension, type DimensionOptions, type TestColumn } from '../../support/dimensions.js';

const ID: TestColumn = { source: 'id', type: 'integer', role: 'business key' };
const STATUS: TestColumn = { source: 'a', type: 'text', role: 'tracked' };
const TOUCHED: TestColumn = { source: 'touched', type: 'timestamptz', role: 'effective time' };
const isThere = isOnCluster();
if (!isThere) process.stderr.write(`test/functions/distributed/cluster.test.ts is skipped: ${NO_CLUSTER}\n`);

describe.skipIf(!isThere)('a history that is distributed', () => {
  let pipeline: TestPipeline;
  const roles: string[] = [];
  let warehouse: { readonly sql: Database };
  beforeAll(async () => {
    pipeline = await createPipeline();
    warehouse = { sql: pipeline.warehouse };
    // Beside one that is not distributed, all of a view is not asked of the nodes in one.
    await registerDimension(warehouse.sql, 'beside', 'beside', [ID, STATUS, TOUCHED], { distributedBy: null });
  });
  afterAll(async () => {
    await pipeline.drop();
    const admin = connect({ ...pipeline.admin.warehouse, database: 'postgres' }, 'test');
    for (const role of roles) await admin.unsafe(`drop role if exists ${role}`);
    await admin.end();
  });

  const KEYS = [1, 2, 3, 4, 5, 6, 7, 8];
  const load = (name: string, time: string, status: string) =>
    apply(
      warehouse.sql,
      batch(
        name,
        time,
        KEYS.map((id) => change(id, status, time)),
      ),
    );
  const compiledOn = (port: number) => warehouse.sql<{ result: string }[]>`
    select result from run_command_on_workers(
      $$select count(*) from pg_proc where pronamespace = 'tidemark'::regnamespace and proname ~ '^apply_orders_'$$)
    where nodeport = ${port}`;

  it('is made by the nodes, in order and late, and has what one server would make', async () => {
    expect(await load('b1', '09:00', 'pending')).toEqual(applied({ inserted_versions: 8 }));
    expect(await load('b3', '11:00', 'shipped')).toEqual(applied({ inserted_versions: 8, closed_versions: 8 }));
    const late = await apply(warehouse.sql, batch('b2', '10:00', [change(1, 'paid', '10:00'), deletion(2, '10:00')]));
    expect(late).toMatchObject({ inserted_versions: '1', late_changes: '2', rejected_changes: '0' });
    expect((await versions(warehouse.sql)).slice(0, 5)).toEqual([
      '1 pending [09:00, 10:00) INSERT',
      '1 paid [10:00, 11:00) UPDATE',
      '1 shipped [11:00, ) UPDATE',
      '2 pending [09:00, 10:00) INSERT',
      '2 shipped [11:00, ) INSERT',
    ]);
  });

  it('is made by other functions after a shard was moved, and after the mapping changed', async () => {
    const [placed] = await warehouse.sql<[{ shard: string; from_port: number; to_port: number }]>`
      select s.shardid::text as shard, n.nodeport as from_port, o.nodeport as to_port
      from citus_shards as s join pg_dist_node as n on n.nodeport = s.nodeport join pg_dist_node as o on o.nodeport <> n.nodeport and o.groupid <> 0
      where s.table_name = 'public.dim_orders_history'::regclass
        and s.shardid = get_shard_id_for_distribution_column('public.dim_orders_history', 1)
      limit 1`;
    const [before] = await compiledOn(placed.to_port);
    await warehouse.sql.unsafe(
      `select citus_move_shard_placement(${placed.shard}, nodename, nodeport, (select nodename from pg_dist_node where nodeport = ${String(placed.to_port)}), ${String(placed.to_port)}, 'block_writes')
       from pg_dist_node where nodeport = ${String(placed.from_port)}`,
    );
    expect(await load('b4', '12:00', 'returned')).toMatchObject({ inserted_versions: '8' });
    const [after] = await compiledOn(placed.to_port);
    expect(Number(after?.result)).toBeGreaterThan(Number(before?.result));

    await warehouse.sql.unsafe(
      "alter table public.dim_orders_history add constraint nothing_lost check (order_status <> 'lost')",
    );
    await compile(warehouse.sql);
    expect(await load('b5', '13:00', 'lost')).toMatchObject({ inserted_versions: '0', rejected_changes: '8' });
    await warehouse.sql.unsafe('alter table public.dim_orders_history drop constraint nothing_lost');
    await compile(warehouse.sql);
    await warehouse.sql`select tidemark.retry_rejected('orders')`;
  });

  it('is written by no other node than the one that holds a key', async () => {
    // Called within another query, which Citus does not hand over.
    const undelegated = warehouse.sql`
      select (select r.reply from tidemark.on_node_orders(
        1, '{"shard": "public.dim_orders_history_1", "node": 1, "id": 1}'::jsonb, '[]', null) as r (reply))`;
    await expect(undelegated).rejects.toMatchObject({ code: 'TM034' });
  });

  it.each([
    // Five batches, and one of them has a change that is kept aside.
    ['pipeline/every_change_is_in_one_place', 6],
    ['pipeline/every_version_has_its_batch', 5],
    ['scd2/a_gap_is_a_delete', 1],
    ['scd2/a_life_begins_with_an_insert', 1],
    ['scd2/current_flag_agrees_with_open_end', 5],
    ['scd2/neighbours_differ', 1],
    ['scd2/no_surrogate_key_is_repeated', 0],
    ['scd2/one_current_version_a_key', 0],
    ['scd2/valid_from_precedes_valid_to', 5],
    ['scd2/versions_do_not_overlap', 1],
  ])('is checked by the nodes: %s has them send what may break a rule', async (check, sent) => {
    await warehouse.sql`analyze public.dim_orders_history`;
    const query = readFileSync(path.join(PROJECT_ROOT, 'sql', 'checks', `${check}.sql`), 'utf8');
    const plan = await warehouse.sql.unsafe<{ 'QUERY PLAN': string }[]>(
      `explain (analyze, costs off, timing off) ${query}`,
    );
    const text = plan.map((row) => row['QUERY PLAN']).join('\n');
    expect(text).toMatch(/Scan .*on dim_orders_history_\d+ /);
    // Of 8 keys with several versions each, one was deleted, and came back.
    const rows = [...text.matchAll(/read_intermediate_result .*actual rows=(\d+)/g)].map(([, count]) => Number(count));
    expect(Math.max(0, ...rows)).toBe(sent);
  });

  it('is loaded while a shard is moved and another one is split, and has what one server would make', async () => {
    // First those of the keys that are loaded.
    const shards = () => warehouse.sql<{ shard: string; port: number; nodes: number[]; middle: string }[]>`
      select s.shardid::text as shard, n.nodeport as port,
        array(select o.nodeid from pg_dist_node as o where o.groupid <> 0 order by o.nodeport <> n.nodeport) as nodes,
        ((s.shardminvalue::bigint + s.shardmaxvalue::bigint) / 2)::text as middle
      from pg_dist_shard as s join pg_dist_placement as l using (shardid) join pg_dist_node as n using (groupid)
      where s.logicalrelid = 'public.dim_orders_history'::regclass
      order by (
        select min(k.key) from generate_series(1, 8) as k (key)
        where get_shard_id_for_distribution_column('public.dim_orders_history', k.key) = s.shardid
      )`;
    const statuses: string[] = [];
    const loadDuring = async (what: PromiseLike<unknown>) => {
      const state = { isDone: false };
      const failure = what
        .then(
          () => undefined,
          (error: unknown) => error,
        )
        .then((error) => {
          state.isDone = true;
          return error;
        });
      for (let more = 2; more > 0; more -= state.isDone ? 1 : 0) {
        const time = new Date(Date.UTC(2026, 1, 1, 13, 10) + 100 * statuses.length).toISOString().slice(0, -1);
        statuses.push(`during ${String(statuses.length)}`);
        expect(await load(statuses.at(-1) ?? '', time, statuses.at(-1) ?? '')).toEqual(
          applied({ inserted_versions: 8, closed_versions: 8 }),
        );
      }
      expect(await failure).toBeUndefined();
    };
    const [moved, split] = await shards();
    if (moved === undefined || split === undefined) throw new Error('there are four shards');
    const [here = 0, other = 0] = split.nodes;
    const points = `${split.shard}, array['${split.middle}'], array[${String(here)}, ${String(other)}]`;
    await loadDuring(warehouse.sql`
      select citus_move_shard_placement(${moved.shard}, s.nodename, s.nodeport, t.nodename, t.nodeport, 'force_logical')
      from pg_dist_node as s, pg_dist_node as t
      where s.nodeid = ${moved.nodes[0] ?? 0} and t.nodeid = ${moved.nodes[1] ?? 0}`);
    // Without blocking it, Citus 13 splits no shard that is written to into one that stays on its node.
    await loadDuring(warehouse.sql.unsafe(`select citus_split_shard_by_split_points(${points}, 'block_writes')`));
    const after = await shards();
    expect(after).toHaveLength(5);
    expect(after.find(({ shard }) => shard === moved.shard)?.port).not.toBe(moved.port);
    const made = await warehouse.sql`
      select order_key, string_agg(order_status, ', ' order by valid_from) as statuses
      from public.dim_orders_history where order_status ~ '^during ' group by order_key order by order_key`;
    expect([...made]).toEqual(KEYS.map((key) => ({ order_key: key, statuses: statuses.join(', ') })));
    const broken = (await runChecks(warehouse.sql, ['pipeline', 'scd2'])).filter(({ violations }) => violations > 0);
    expect(broken).toEqual([]);
  });

  it('is checked beside a history of one server, which is, too', async () => {
    const beside = (name: string, time: string, a: string) =>
      apply(
        warehouse.sql,
        batch(name, time, [{ id: 1, a, touched: at(time), operation_type: 'UPDATE', cdc_timestamp: at(time) }], {
          table: 'beside',
        }),
      );
    await beside('beside 1', '09:00', 'first');
    await beside('beside 2', '10:00', 'second');
    const found = async () =>
      (await runChecks(warehouse.sql, ['pipeline', 'scd2'])).filter(({ violations }) => violations > 0);
    expect(await found()).toEqual([]);
    await warehouse.sql`update public.dim_beside_history set a = 'second'`;
    expect(await found()).toMatchObject([{ check: 'neighbours differ', rows: [{ dimension_name: 'beside' }] }]);
    await warehouse.sql`update public.dim_beside_history set a = 'first' where not is_current`;
  });

  const KINDS: readonly [string, readonly TestColumn[], DimensionOptions, (key: number) => Change][] = [
    [
      'text',
      [{ source: 'code', type: 'text', role: 'business key' }],
      {},
      (key) => ({ code: `Ünïcode '${String(key)}"` }),
    ],
    [
      'uuid',
      [{ source: 'id', type: 'uuid', role: 'business key' }],
      {},
      (key) => ({ id: `00000000-0000-4000-8000-00000000000${String(key)}` }),
    ],
    [
      'two columns, by the second',
      [
        { source: 'region', type: 'text', role: 'business key' },
        { source: 'Line No', type: 'bigint', role: 'business key' },
      ],
      { distributedBy: 'Line No' },
      (key) => ({ region: key % 2 === 0 ? 'n' : 's', 'Line No': String(9007199254740993n + BigInt(key >> 1)) }),
    ],
    [
      'date',
      [{ source: 'day', type: 'date', role: 'business key' }],
      {},
      (key) => ({ day: `2026-03-0${String(key)}` }),
    ],
    [
      'numbers, with a constraint against overlaps',
      [{ source: 'id', type: 'numeric', role: 'business key' }],
      { noOverlap: true },
      (key) => ({ id: key + 0.5 }),
    ],
  ];
  it.each(KINDS)('may have keys of %s', async (_, keys, options, keyOf) => {
    const columns = [...keys, STATUS, TOUCHED];
    const made: unknown[] = [];
    for (const [name, given] of [
      ['spread', options],
      ['whole', { ...options, distributedBy: null }],
    ] as const) {
      await registerDimension(warehouse.sql, name, name, columns, given);
      await warehouse.sql`select tidemark.declare_capture(p_dimension_name => ${name}, p_capture => 'both')`;
      const one = (key: number, a: string, time: string): Change => ({
        ...{ ...keyOf(key), a, touched: `${at(time)}Z`, operation_type: 'UPDATE', cdc_timestamp: `${at(time)}Z` },
      });
      const gone = (key: number, time: string): Change => ({
        ...{ ...keyOf(key), operation_type: 'DELETE', cdc_timestamp: `${at(time)}Z` },
      });
      const told = (id: string, time: string, changes: readonly Change[], log = {}) =>
        apply(warehouse.sql, batch(`${name} ${id}`, time, changes, { table: name, ...log }));
      const results = [
        await told(
          'b1',
          '09:00',
          [1, 2, 3, 4, 5, 6].map((key) => one(key, 'first', '09:00')),
        ),
        await told(
          'b3',
          '11:00',
          [1, 2, 3].map((key) => one(key, 'third', '11:00')),
        ),
        await told('b2', '10:00', [one(1, 'second', '10:00'), gone(2, '10:00'), one(4, 'first', '10:00')]),
        await told('b4', '12:00', [{ operation_type: 'TRUNCATE', cdc_timestamp: `${at('12:00')}Z` }], {
          ...{ format: 2, sequence: 1, previous_batch_id: null, columns: [...columns.map(({ source }) => source)] },
          log: { slot: 's' },
        }),
        await told('b5', '11:30', [one(5, 'late', '11:30'), one(6, 'after', '13:00')]),
      ];
      const kept = await warehouse.sql.unsafe(
        `select to_jsonb(h) - '{surrogate_key,batch_id,created_at,updated_at}'::text[] as row from public.dim_${name}_history as h order by 1`,
      );
      const aside = await warehouse.sql`
        select business_key, change_line, reason, closed_at from tidemark.absorbed_changes where dimension_name = ${name} order by 1, closed_at, reason`;
      made.push({ results, kept: [...kept], aside: [...aside] });
    }
    expect(made[0]).toEqual(made[1]);
    for (const name of ['spread', 'whole']) await warehouse.sql`select tidemark.remove_dimension(${name})`;
    await warehouse.sql.unsafe(
      'drop table public.dim_spread_history cascade; drop table public.dim_whole_history cascade',
    );
  });

  it('is made from what "tidemark add --distributed-by" writes, and loaded, for the roles of "tidemark grants"', async () => {
    await pipeline.source.unsafe(`
      create table stock (place text, item integer, quantity integer, updated_at timestamptz, primary key (place, item));
      insert into stock select 'p' || i % 7, i, i, '2026-02-01' from generate_series(1, 60) as i`);
    const folder = path.join(pipeline.folder, 'dimensions');
    const env = { ...pipeline.env, DIMENSIONS_DIR: folder };
    const run = async (args: readonly string[], others: Readonly<Record<string, string>> = {}) => {
      const result = await runCli(args, { ...env, ...others });
      expect({ code: result.code, said: result.code === 0 ? '' : result.stdout + result.stderr }).toEqual({
        code: 0,
        said: '',
      });
      return result;
    };
    await run(['add', 'stock', '--distributed-by', 'item', '--no-overlap', '--browse']);
    await run(['migrate']);
    await run(['migrate']);
    await run(['extract', '--table', 'stock']);
    await run(['load', '--table', 'stock']);
    const count = async () =>
      (await warehouse.sql<[{ versions: number }]>`select count(*)::integer as versions from dim_stock_history`)[0]
        .versions;
    expect(await count()).toBe(60);

    // Under roles that own and load no more than that, also what the nodes made for another one before.
    const prefix = `tide_${randomBytes(4).toString('hex')}`;
    const [owner, loader, analyst] = ['owner', 'loader', 'analyst'].map((role) => `${prefix}_${role}`);
    const as = (role = '') => ({ WAREHOUSE_DB_USER: role, WAREHOUSE_DB_PASSWORD: role });
    roles.push(`${prefix}_reader`, `${prefix}_owner`, `${prefix}_loader`, `${prefix}_analyst`);
    await run(['grants', '--apply', '--prefix', prefix]);
    const next = async () => {
      await pipeline.source`update stock set quantity = quantity + 1, updated_at = updated_at + interval '1 hour'`;
      await run(['extract', '--table', 'stock'], as(loader));
      await run(['load', '--table', 'stock'], as(loader));
    };
    await next();
    await pipeline.source.unsafe('alter table stock add shelf text');
    await run(['add', '--update', 'stock'], as(owner));
    await run(['migrate'], as(owner));
    await next();
    await run(['check'], as(analyst));
    expect(await count()).toBe(180);
  });

  it('that was altered by hand is refused with the name of the rule that it breaks', async () => {
    await warehouse.sql`
      insert into public.dim_orders_history (order_key, customer_id, product_id, quantity, unit_price, total_amount, order_status, order_date, valid_from, valid_to, is_current, cdc_operation, cdc_timestamp, batch_id, captured_at, change_line)
      values (1, 1, 1, 1, 1, 1, 'kept', '2026-02-01', '2026-02-01 14:00', '2026-02-01 14:30', false, 'UPDATE', '2026-02-01 14:00', 'by hand', '2026-02-01 08:00Z', 1)`;
    await expect(load('b6', '14:00', 'kept')).rejects.toMatchObject({
      code: 'TM010',
      message: 'history breaks one of its rules: dim_orders_history_one_current_version',
    });
  });

  it('has its cluster looked at', async () => {
    expect([...(await warehouse.sql`select * from tidemark.cluster_faults()`)]).toEqual([]);
    await warehouse.sql.unsafe(`
      select run_command_on_workers($$
        set citus.enable_ddl_propagation to off; drop function tidemark._lacking(text[], text[])$$)`);
    const found = await warehouse.sql<
      { fault: string; remedy: string }[]
    >`select fault, remedy from tidemark.cluster_faults()`;
    expect(found[0]).toEqual({
      fault: 'it lacks functions of this release, or has others: tidemark._lacking(text[],text[])',
      remedy: 'npx tidemark migrate',
    });
  });
});
