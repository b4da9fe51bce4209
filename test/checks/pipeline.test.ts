import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { runChecks } from '../../runner/warehouse/checks.js';
import { finishRun, startRun } from '../../runner/warehouse/functions.js';
import { apply, batch, change, deletion } from '../support/batches.js';
import { isOnCluster } from '../support/cluster.js';
import { createWarehouseDatabase, type TestDatabase } from '../support/databases.js';
import { checksOf, findAfter, hasPsql, runWithPsql, type Violation } from './seeded.js';

let warehouse: TestDatabase;
beforeAll(async () => {
  warehouse = await createWarehouseDatabase();
  const { sql } = warehouse;
  let previous: string | null = null;
  const chained = async (
    name: string,
    sequence: number,
    time: string,
    changes: Parameters<typeof batch>[2],
  ): Promise<void> => {
    const document = batch(name, time, changes, { sequence, previous_checksum: previous });
    await apply(sql, document);
    previous = (JSON.parse(document) as { batch_metadata: { checksum: string } }).batch_metadata.checksum;
  };
  await chained('b1', 1, '10:00', [
    change(1, 'A', '09:00'),
    change(1, 'A', '09:10'),
    change(2, 'A', '09:00'),
    deletion(2, '09:30'),
  ]);
  await chained('b2', 2, '11:00', [change(1, 'B', '10:30'), deletion(7, '10:30')]);
  // A quiet poll takes a sequence too: the next batch is 5.
  await chained('b5', 5, '12:00', [change(1, 'C', '11:30')]);
  await apply(sql, batch('by hand', '12:30', [change(3, 'A', '12:00')]));
  await startRun(sql, 'load', 'finished');
  await finishRun(sql, 'finished', 'succeeded', {});
});
afterAll(async () => {
  await warehouse.drop();
});

const run = (name: string, session: string) => `
  insert into public.pipeline_metadata (pipeline_name, run_id, start_time, status, performance_metrics) values ('load', '${name}', '2026-02-01', 'running', '${session}');`;
const rejected = (name: string, line: number) => `
  insert into tidemark.rejected_changes values ('orders', '', '${name}', ${String(line)}, 'a reason', 'quantity', '{}', now());`;

/** Each function that is compiled for orders; those that make history are there for each shard, where the history has some. */
const compiledFor = ['apply', 'converge', 'known', 'on_node', 'render', 'versions']
  .filter((kind) => !(isOnCluster() ? /^(apply|converge)$/ : /^(on_node|versions)$/).test(kind))
  .map((kind) => ({
    ...{ dimension_name: 'orders', function_name: `${kind}_orders` },
    fault: 'was compiled for another history table',
  }));
const isOfRules = ({ function_name: name }: { readonly function_name: string }) => /^(apply|converge)_/.test(name);

const VIOLATIONS: readonly Violation[] = [
  {
    check: 'every_change_is_in_one_place',
    seed: "delete from public.dim_orders_history where batch_id = 'b5'",
    rows: [{ batch_id: 'b5', change_count: 1, places: '0', distinct_lines: '0' }],
  },
  {
    check: 'every_change_is_in_one_place',
    seed: "delete from tidemark.absorbed_changes where batch_id = 'b1' and change_line = 2",
    rows: [{ batch_id: 'b1', change_count: 4, places: '3', distinct_lines: '3' }],
  },
  {
    check: 'every_change_is_in_one_place',
    seed: rejected('b1', 1),
    rows: [{ batch_id: 'b1', change_count: 4, places: '5', distinct_lines: '4' }],
  },
  {
    check: 'every_change_is_in_one_place',
    seed: "update public.dim_orders_history set change_line = 2 where batch_id = 'b1' and change_line = 1",
    rows: [{ batch_id: 'b1', change_count: 4, places: '4', distinct_lines: '3' }],
  },
  {
    check: 'every_change_is_in_one_place',
    seed: "update tidemark.batches set change_count = 3 where batch_id = 'b2'",
    rows: [{ batch_id: 'b2', change_count: 3, places: '2' }],
  },
  {
    check: 'every_history_function_is_what_its_mapping_says',
    seed: 'alter table public.dim_orders_history add constraint quantity_is_positive check (quantity > 0)',
    rows: compiledFor.map((row) => (isOfRules(row) ? { ...row, fault: 'differs' } : row)),
  },
  {
    check: 'every_history_function_is_what_its_mapping_says',
    seed: 'drop function tidemark.render_orders',
    rows: [{ dimension_name: 'orders', function_name: 'render_orders', fault: 'is missing' }],
  },
  {
    check: 'every_history_function_is_what_its_mapping_says',
    seed: "update tidemark.dimensions set compiled_from = 'another' where dimension_name = 'orders'",
    rows: compiledFor,
  },
  {
    check: 'every_version_has_its_batch',
    seed: "update public.dim_orders_history set batch_id = 'unknown' where batch_id = 'b5'",
    rows: [{ dimension_name: 'orders', business_key: '{"order_key" : 1}', batch_id: 'unknown', change_line: 1 }],
  },
  {
    check: 'every_version_has_its_batch',
    seed: "delete from tidemark.batches where batch_id = 'b5'",
    rows: [{ dimension_name: 'orders', batch_id: 'b5' }],
  },
  {
    check: 'ledger_chain_is_unbroken',
    seed: 'delete from tidemark.batches where sequence = 2',
    rows: [{ batch_id: 'b5', sequence: '5' }],
  },
  {
    check: 'ledger_chain_is_unbroken',
    seed: 'delete from tidemark.batches where sequence = 1',
    rows: [{ batch_id: 'b2', sequence: '2', checksum_before: null }],
  },
  {
    check: 'ledger_chain_is_unbroken',
    seed: "update tidemark.batches set checksum = 'another' where sequence = 2",
    rows: [{ batch_id: 'b5', checksum_before: 'another' }],
  },
  {
    check: 'ledger_chain_is_unbroken',
    seed: 'update tidemark.batches set previous_checksum = null where sequence = 5',
    rows: [{ batch_id: 'b5', previous_checksum: null }],
  },
  {
    check: 'ledger_chain_is_unbroken',
    seed: "update tidemark.batches set previous_checksum = 'something' where sequence = 1",
    rows: [{ batch_id: 'b1', previous_checksum: 'something' }],
  },
  {
    check: 'no_change_is_rejected',
    seed: rejected('b1', 5),
    rows: [
      {
        dimension_name: 'orders',
        shard: '',
        batch_id: 'b1',
        change_line: 5,
        column_name: 'quantity',
        reason: 'a reason',
      },
    ],
  },
  {
    check: 'no_run_is_left_unfinished',
    seed: run('dead', '{"backend_pid": 0, "backend_start": "2026-02-01T00:00:00Z"}'),
    rows: [{ pipeline_name: 'load', run_id: 'dead', backend_pid: '0' }],
  },
  {
    check: 'no_run_is_left_unfinished',
    seed: run('anonymous', '{}'),
    rows: [{ run_id: 'anonymous', backend_pid: null }],
  },
];

test('good data pass every check', async () => {
  expect(await findAfter(warehouse, 'pipeline', '')).toEqual({});
  expect(
    (await runChecks(warehouse.sql, ['pipeline'])).map(({ check, violations }) => [
      check.replaceAll(' ', '_'),
      violations,
    ]),
  ).toEqual((await checksOf('pipeline')).map((check) => [check, 0]));
});

test('an empty warehouse passes every check', async () => {
  expect(
    await findAfter(
      warehouse,
      'pipeline',
      'truncate tidemark.batches, public.dim_orders_history, public.pipeline_metadata cascade',
    ),
  ).toEqual({});
});

test('a run that is under way is not unfinished', async () => {
  const seed = run('alive', '{}').replace(
    "'{}'",
    "jsonb_build_object('backend_pid', pg_backend_pid(), 'backend_start', (select backend_start from pg_stat_activity where pid = pg_backend_pid()))",
  );
  expect(await findAfter(warehouse, 'pipeline', seed)).toEqual({});
});

test('each shard has a chain of its own', async () => {
  const seed = `insert into tidemark.batches select dimension_name, 'other', 'of ' || batch_id, sequence, extracted_at, 0, null, 'c', metadata, 0, 0, 0, 0, 0, 0, apply_started_at, applied_at, null, null, null, extracted_at, extracted_at
    from tidemark.batches where sequence = 1`;
  expect((await findAfter(warehouse, 'pipeline', seed)).ledger_chain_is_unbroken).toBeUndefined();
});

test.each(VIOLATIONS)('$check finds: $seed', async ({ check, seed, rows }) => {
  expect((await findAfter(warehouse, 'pipeline', `set constraints all deferred; ${seed}`))[check]).toEqual(
    rows.map((row) => expect.objectContaining(row) as unknown),
  );
});

test('every check is shown failing', async () => {
  expect([...new Set(VIOLATIONS.map(({ check }) => check))].sort()).toEqual(await checksOf('pipeline'));
});

describe.skipIf(!hasPsql('pipeline'))('with psql -f', () => {
  test('every check runs, and says nothing about good data', async () => {
    for (const check of await checksOf('pipeline'))
      expect(runWithPsql(warehouse, 'pipeline', check), check).toEqual({ status: 0, stdout: '', stderr: '' });
  });
});
