import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { apply, applied, batch, change, compile, deletion, versions } from '../../support/batches.js';
import { CITUS_URL, NO_CLUSTER } from '../../support/cluster.js';
import { createWarehouseDatabase, type TestDatabase } from '../../support/databases.js';

const isThere = CITUS_URL !== '';
if (!isThere) process.stderr.write(`test/functions/distributed/cluster.test.ts is skipped: ${NO_CLUSTER}\n`);

describe.skipIf(!isThere)('a history that is distributed', () => {
  let warehouse: TestDatabase;
  beforeAll(async () => {
    warehouse = await createWarehouseDatabase();
  });
  afterAll(async () => {
    await warehouse.drop();
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
  });

  it('is written by no other node than the one that holds a key', async () => {
    // Called within another query, which Citus does not hand over.
    const undelegated = warehouse.sql`
      select (select r.reply from tidemark.on_node_orders(
        1, '{"shard": "public.dim_orders_history_1", "node": 1, "id": 1}'::jsonb, '[]', null) as r (reply))`;
    await expect(undelegated).rejects.toMatchObject({ code: 'TM034' });
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
