import { readFile, readdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { runChecks } from '../../runner/warehouse/checks.js';
import { connect } from '../../runner/base/database.js';
import { extractTables } from '../../runner/extract/tables.js';
import { reconcileTables, type ReconcileResult } from '../../runner/reconcile/tables.js';
import { runCli, startCli } from '../support/cli.js';
import { beginEach, type TestPipeline } from '../support/databases.js';
import { createSourceTable, registerDimension, type TestColumn } from '../support/dimensions.js';
import { createThings, thingColumns } from '../support/extraction.js';
import { FEW_WRITERS, createChaosTable, writeTraffic } from '../support/traffic.js';
import { until } from '../support/wait.js';
import { loadTables } from '../../runner/load/tables.js';

const SETTINGS = { BATCH_SIZE: '10', BATCH_SIZE_MAX: '10', WATERMARK_ADVANCE_SECONDS: '0' };

/** With a hundred things that are extracted and loaded. */
let pipeline: TestPipeline;
beginEach(
  (begun) => {
    pipeline = begun;
  },
  async () => {
    await createThings(pipeline);
    await pipeline.source`insert into things select g, 'new', now() from generate_series(1, 100) as g`;
    await catchUp(['things']);
  },
  SETTINGS,
);

async function reconcile(
  table: string,
  options: {
    repair?: boolean;
    includeRetracted?: boolean;
    allowDeletes?: boolean;
    settings?: Partial<TestPipeline['settings']>;
  } = {},
): Promise<ReconcileResult> {
  const { repair = false, includeRetracted = false, allowDeletes = false, settings = {} } = options;
  const [result] = await reconcileTables({
    settings: { ...pipeline.settings, ...settings },
    tables: [table],
    repair,
    includeRetracted,
    allowDeletes,
  });
  if (result === undefined) throw new Error('no result');
  return result;
}

const catchUp = async (tables: readonly string[], settings: Partial<TestPipeline['settings']> = {}) => {
  await extractTables({ settings: { ...pipeline.settings, ...settings }, tables });
  await loadTables({ settings: pipeline.settings, tables });
};
const violations = async () =>
  (await runChecks(pipeline.warehouse, ['pipeline', 'scd2'])).filter((result) => result.violations > 0);

async function haveAThousandThings(): Promise<void> {
  await pipeline.source`insert into things select g, 'new', clock_timestamp() from generate_series(101, 1000) as g`;
  await catchUp(['things'], { batch_size: 1000, batch_size_max: 1000 });
}

/** Changes history behind the back of everybody, as a fault would. */
const spoil = (statement: string) => pipeline.warehouse.unsafe(statement);

describe('reconcile', () => {
  it('finds nothing where history equals the source', async () => {
    expect(await reconcile('things')).toEqual({
      table: 'things',
      source_rows: 100,
      current_versions: 100,
      missing: 0,
      extra: 0,
      different: 0,
      retracted: 0,
      unsettled: 0,
      repaired: 0,
      differences: [],
    });
  });

  it('names what a retracted batch made differ, repairs all else, and that only if told', async () => {
    await pipeline.source`update things set state = 'wrong', touched = now() where id <= 2`;
    await pipeline.source`insert into things values (101, 'wrong', now())`;
    await catchUp(['things']);
    const [{ batch }] = await pipeline.warehouse<[{ batch: string }]>`
      select batch_id as batch from tidemark.batches order by sequence desc limit 1`;
    await pipeline.warehouse`select tidemark.retract_batch('things', ${batch}, 'wrong')`;
    // Nobody saw this one change: it is none of the batch's doing, though the row is.
    await pipeline.source`update things set state = 'not stamped', touched = '2020-01-01' where id = 2`;
    const byKey = (one: { key: string }, other: { key: string }) => one.key.localeCompare(other.key);
    const found = await reconcile('things', { repair: true });
    expect(found).toMatchObject({ missing: 0, different: 1, retracted: 2, repaired: 1 });
    expect([...found.differences].sort(byKey)).toEqual([
      { key: '["1"]', kind: 'different', source: '(1,wrong)', history: '(1,new)', retracted: batch },
      { key: '["101"]', kind: 'missing', source: '(101,wrong)', history: null, retracted: batch },
      { key: '["2"]', kind: 'different', source: '(2,"not stamped")', history: '(2,new)' },
    ]);
    expect(await reconcile('things', { repair: true, includeRetracted: true })).toMatchObject({
      missing: 1,
      different: 1,
      retracted: 0,
      repaired: 2,
    });
    expect(await reconcile('things')).toMatchObject({ differences: [], retracted: 0 });
    await pipeline.warehouse`select tidemark.restore_batch('things', ${batch})`;
    expect(await reconcile('things')).toMatchObject({ differences: [] });
    expect(await violations()).toEqual([]);
  });

  it('finds what is missing, extra and different, with both values, and nothing else', async () => {
    await pipeline.source`delete from things where id = 7`;
    await pipeline.source`update things set state = 'not stamped', touched = '2020-01-01' where id = 8`;
    await spoil(`delete from dim_things_history where id = 9`);
    const result = await reconcile('things');
    expect([...result.differences].sort((one, other) => one.key.localeCompare(other.key))).toEqual([
      { key: '["7"]', kind: 'extra', source: null, history: '(7,new)' },
      { key: '["8"]', kind: 'different', source: '(8,"not stamped")', history: '(8,new)' },
      { key: '["9"]', kind: 'missing', source: '(9,new)', history: null },
    ]);
    expect(result).toMatchObject({ missing: 1, extra: 1, different: 1, source_rows: 99, current_versions: 99 });
  });

  it('repairs by ordinary changes of the chain, after which it finds nothing', async () => {
    await pipeline.source`delete from things where id in (7, 70)`;
    await pipeline.source`update things set state = 'not stamped', touched = '2020-01-01' where id between 20 and 45`;
    expect(await reconcile('things', { repair: true })).toMatchObject({ extra: 2, different: 26, repaired: 28 });
    expect(await reconcile('things')).toMatchObject({ differences: [], current_versions: 98 });
    const [closed] = await pipeline.warehouse<{ is_bound: boolean }[]>`
      select h.valid_to = b.extracted_at as is_bound from dim_things_history as h
      join tidemark.absorbed_changes as a on a.dimension_name = 'things' and a.business_key like '%7%' and a.cdc_operation = 'DELETE'
      join tidemark.batches as b on b.dimension_name = 'things' and b.batch_id = a.batch_id
      where h.id = 7 limit 1`;
    expect(closed).toEqual({ is_bound: true });
    expect(await violations()).toEqual([]);
    await pipeline.source`insert into things values (7, 'again', now())`;
    await catchUp(['things']);
    expect(await reconcile('things')).toMatchObject({ differences: [], current_versions: 99 });
  });

  it('takes a row that is not loaded yet for no difference', async () => {
    await pipeline.source`update things set state = 'changed', touched = clock_timestamp() where id < 5`;
    await pipeline.source`insert into things values (101, 'new', clock_timestamp())`;
    expect(await reconcile('things')).toMatchObject({ differences: [], source_rows: 101 });
  });

  it('raises no false alarm while many writers write and an extractor goes on for ever', async () => {
    await createChaosTable(pipeline.source);
    await registerDimension(pipeline.warehouse, 'chaos', 'chaos', [
      { source: 'id', type: 'integer', role: 'business key' },
      { source: 'version', type: 'bigint', role: 'tracked' },
      { source: 'touched', type: 'timestamptz', role: 'effective time' },
    ]);
    const settings = { ...pipeline.settings, batch_size: 500, batch_size_max: 500, watermark_advance_seconds: 1 };
    await extractTables({ settings, tables: ['chaos'] });
    const time = new AbortController();
    const traffic = { committed: 0, rolledBack: 0, kinds: new Set<string>() };
    const writers = writeTraffic(pipeline.admin.source, time.signal, traffic, FEW_WRITERS);
    const env = {
      ...pipeline.env,
      BATCH_SIZE: '500',
      BATCH_SIZE_MAX: '500',
      WATERMARK_ADVANCE_SECONDS: '1',
      CDC_EXTRACTION_INTERVAL_SECONDS: '1',
    };
    const extractor = startCli(['extract', '--watch', '--table', 'chaos'], env);
    const found: number[] = [];
    for (let round = 0; round < 2; round += 1) found.push((await reconcile('chaos', { settings })).differences.length);
    time.abort();
    await writers;
    extractor.kill('SIGTERM');
    await extractor.ended;
    expect(found).toEqual([0, 0]);
  });

  it('follows a primary key that was changed: the old key ends, the new one begins', async () => {
    await pipeline.source`update things set id = 1000, touched = clock_timestamp() where id = 5`;
    await reconcile('things', { repair: true });
    expect(
      await pipeline.warehouse`select id, is_current from dim_things_history where id in (5, 1000) order by id`,
    ).toEqual([
      { id: 5, is_current: false },
      { id: 1000, is_current: true },
    ]);
  });
});

describe('a source that lost rows', () => {
  it('does not end its history: more deletes than MAX_DELETE_PERCENT and MAX_DELETE_ROWS are refused, and nothing is written', async () => {
    await pipeline.source`truncate things`;
    const log = path.join(pipeline.settings.cdc_log_dir, 'things', 'checkpoints');
    const before = await readdir(log);
    await expect(reconcile('things', { repair: true })).rejects.toMatchObject({
      message:
        '100 of 100 rows of things are gone from the source: more than MAX_DELETE_PERCENT (5) and MAX_DELETE_ROWS (20) allow to close',
      hint: expect.stringContaining('--allow-deletes') as string,
    });
    expect(await readdir(log)).toEqual(before);
    expect(await reconcile('things', { repair: true, allowDeletes: true })).toMatchObject({
      extra: 100,
      repaired: 100,
    });
    expect(await reconcile('things')).toMatchObject({ differences: [], current_versions: 0 });
  });

  it('nor does it in parts, where more rows are gone than one run looks at', async () => {
    await haveAThousandThings();
    await pipeline.source`delete from things where id > 3`;
    const repair = reconcileTables({
      settings: pipeline.settings,
      tables: ['things'],
      repair: true,
      allowDeletes: false,
      limits: { digests: 10, candidates: 20 },
    });
    await expect(repair).rejects.toThrow(
      /^about \d+ of 1000 rows of things are gone from the source: more than MAX_DELETE_PERCENT \(5\) and MAX_DELETE_ROWS \(20\) allow to close$/,
    );
    expect(await pipeline.warehouse`select from dim_things_history where is_current`).toHaveLength(1000);
  });

  it('is repaired run by run, where more rows differ than one run looks at and few of them are gone', async () => {
    await haveAThousandThings();
    await pipeline.warehouse`update dim_things_history set state = 'wrong' where id <= 100`;
    await pipeline.source`delete from things where id in (1, 500)`;
    const runs: number[] = [];
    do {
      const [result] = await reconcileTables({
        settings: pipeline.settings,
        tables: ['things'],
        repair: true,
        allowDeletes: false,
        limits: { digests: 30, candidates: 30 },
      });
      runs.push(result?.repaired ?? 0);
    } while (runs.at(-1) !== 0);
    expect([runs.length > 3, runs.reduce((sum, each) => sum + each, 0)]).toEqual([true, 101]);
    expect(await reconcile('things')).toMatchObject({ differences: [], current_versions: 998 });
  });

  it('is closed or not as MAX_DELETE_PERCENT or MAX_DELETE_ROWS allow, whichever allows more', async () => {
    // What is refused is as it was for the next.
    for (const [gone, percent, rows, isAllowed] of [
      [1, 0, 0, false],
      [5, 5, 0, true],
      [6, 5, 0, false],
      [6, 6, 0, true],
      [20, 5, 20, true],
      [21, 5, 20, false],
      [21, 21, 20, true],
    ] as const) {
      await pipeline.source`delete from things where id <= ${gone}`;
      const settings = { max_delete_percent: percent, max_delete_rows: rows };
      const repair = reconcile('things', { repair: true, settings });
      const said = `${String(gone)} of 100, allowed are ${String(percent)} percent or ${String(rows)} rows`;
      await (isAllowed
        ? expect(repair, said).resolves.toMatchObject({ repaired: gone })
        : expect(repair, said).rejects.toThrow('MAX_DELETE_PERCENT'));
      if (!isAllowed) continue;
      await pipeline.source`insert into things select g, 'new', clock_timestamp() from generate_series(1, ${gone}::integer) as g`;
      await catchUp(['things']);
    }
  });
});

describe('values of every kind', () => {
  const KINDS: readonly [string, string, string, string][] = [
    ['smallint', 'smallint', '1', '2'],
    ['bigint', 'bigint', '9223372036854775807', '9223372036854775806'],
    ['numeric', 'numeric', '1.10', '1.100'],
    ['money', 'numeric(12,2)', '1.10', '1.11'],
    ['float', 'double precision', '0.1', '0.10000000000000002'],
    ['text', 'text', "''", 'null'],
    ['spaces', 'text', "'a'", "'a '"],
    ['quotes', 'text', `'"'`, `'""'`],
    ['flag', 'boolean', 'true', 'null'],
    ['bytes', 'bytea', "'\\x00'", "'\\x0000'"],
    ['list', 'text[]', `'{null}'`, `'{"null"}'`],
    ['document', 'json', `'{"a": 1}'`, `'{"a":1}'`],
    ['day', 'date', `'infinity'`, `'2026-02-01'`],
    ['instant', 'timestamptz', `'2026-02-01 00:00:00.000001+00'`, `'2026-02-01 00:00:00+00'`],
    ['duration', 'interval', `'1 month'`, `'30 days'`],
    ['address', 'inet', `'::1'`, `'::2'`],
    ['span', 'int4range', `'[1,3)'`, `'[1,4)'`],
    ['id', 'uuid', `'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'`, `'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12'`],
  ];
  const columns: readonly TestColumn[] = [
    { source: 'key', type: 'text', role: 'business key' },
    ...KINDS.map(([name, type]) => ({ source: `a ${name}`, type, role: 'tracked' as const })),
    { source: 'touched', type: 'timestamptz', role: 'effective time' },
  ];

  it('are compared to the last digit: each difference is found, is repaired, and then there is none', async () => {
    await createSourceTable(pipeline.source, 'kinds', columns);
    await registerDimension(pipeline.warehouse, 'kinds', 'kinds', columns);
    await pipeline.source.unsafe(
      `insert into kinds select 'row ' || g, ${KINDS.map(([, , first]) => first).join(', ')}, now() from generate_series(1, 60) as g`,
    );
    await catchUp(['kinds']);
    expect(await reconcile('kinds')).toMatchObject({ differences: [], source_rows: 60 });
    for (const [index, [name, , , other]] of KINDS.entries())
      await pipeline.source.unsafe(
        `update kinds set touched = '2020-01-01', "a ${name}" = ${other} where key = 'row ${String(index + 1)}'`,
      );
    const { differences } = await reconcile('kinds');
    expect(new Set(differences.map(({ key }) => key))).toEqual(
      new Set(KINDS.map((_, index) => `["row ${String(index + 1)}"]`)),
    );
    expect(await reconcile('kinds', { repair: true })).toMatchObject({ repaired: KINDS.length });
    expect(await reconcile('kinds')).toMatchObject({ differences: [] });
  });

  it('that history stores with another type are compared as they are stored', async () => {
    const source: readonly TestColumn[] = [
      { source: 'id', type: 'integer', role: 'business key' },
      { source: 'price', type: 'numeric', role: 'tracked' },
      { source: 'name', type: 'varchar(20)', role: 'tracked' },
      { source: 'touched', type: 'timestamp', role: 'effective time' },
    ];
    await createSourceTable(pipeline.source, 'wider', source);
    await registerDimension(
      pipeline.warehouse,
      'wider',
      'wider',
      source.map((column) => ({
        ...column,
        type: { integer: 'bigint', numeric: 'numeric(10,4)', 'varchar(20)': 'text' }[column.type] ?? column.type,
      })),
      { timeType: 'timestamp' },
    );
    await pipeline.source`insert into wider values (1, 1.5, 'x', now()), (2, 2, 'y', now())`;
    await catchUp(['wider']);
    expect(await reconcile('wider')).toMatchObject({ differences: [], source_rows: 2, current_versions: 2 });
  });
});

describe('another server in the place of the source', () => {
  it('stops extraction until a repair has begun the chain anew, from which it goes on', async () => {
    const folder = path.join(pipeline.settings.cdc_log_dir, 'things', 'checkpoints');
    const newest = path.join(folder, `${String((await readdir(folder)).length)}.json`);
    await writeFile(newest, (await readFile(newest, 'utf8')).replace(/"timeline": \d+/, '"timeline": 41'));
    const extract = () => extractTables({ settings: pipeline.settings, tables: ['things'] });
    await expect(extract()).rejects.toMatchObject({
      hint: expect.stringContaining('npx tidemark reconcile --repair') as string,
    });
    await pipeline.source`update things set state = 'only here', touched = '2020-01-01' where id = 3`;
    await pipeline.source`delete from things where id = 4`;
    expect(await reconcile('things', { repair: true })).toMatchObject({ different: 1, extra: 1, repaired: 2 });
    await pipeline.source`insert into things values (200, 'new', clock_timestamp())`;
    expect(await extract()).toMatchObject([{ changes: 1 }]);
    expect(await reconcile('things')).toMatchObject({ differences: [], source_rows: 100 });
    expect(await violations()).toEqual([]);
  });

  it('that holds the same rows needs a checkpoint and no batch', async () => {
    const folder = path.join(pipeline.settings.cdc_log_dir, 'things', 'checkpoints');
    const newest = path.join(folder, `${String((await readdir(folder)).length)}.json`);
    await writeFile(newest, (await readFile(newest, 'utf8')).replace(/"timeline": \d+/, '"timeline": 41'));
    expect(await reconcile('things', { repair: true })).toMatchObject({ differences: [], repaired: 0 });
    expect(await extractTables({ settings: pipeline.settings, tables: ['things'] })).toMatchObject([{ changes: 0 }]);
  });
});

describe('tidemark reconcile', () => {
  it('exits 3 where something differs and 0 once it is repaired, and prints what differs', async () => {
    await pipeline.source`update things set state = 'not stamped', touched = '2020-01-01' where id = 8`;
    const found = await runCli(['reconcile', '--table', 'things'], pipeline.env);
    expect(found.stdout).toContain(
      'things: 0 missing, 0 extra, 1 different (100 rows at the source, 100 current versions)',
    );
    expect(found.stdout).toMatch(/\["8"\] +different +\(8,"not stamped"\) +\(8,new\)/);
    expect(found.code).toBe(3);
    const repaired = await runCli(['reconcile', '--table', 'things', '--repair'], pipeline.env);
    expect(repaired).toMatchObject({ code: 0, stdout: expect.stringContaining('1 change repaired') as string });
    expect(await runCli(['reconcile', '--table', 'things', '--json'], pipeline.env)).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('"differences":[]') as string,
    });
  });

  it('with --watch repairs the tables whose deletes are found by reconciling, and no other', async () => {
    await pipeline.source`delete from things where id = 7`;
    const current = async () => (await pipeline.warehouse`select from dim_things_history where is_current`).length;
    const watch = (until: RegExp) => {
      const loop = startCli(['reconcile', '--watch', '--table', 'things'], {
        ...pipeline.env,
        RECONCILE_INTERVAL_SECONDS: '1',
      });
      return loop.printed(until).then(async () => {
        loop.kill('SIGTERM');
        return (await loop.ended).stdout;
      });
    };
    // Keys and values are data, and what it prints is logged where systemd or a container runs it.
    expect(await watch(/1 extra/)).not.toMatch(/\["7"\]|new/);
    expect(await current()).toBe(100);
    await pipeline.warehouse`update tidemark.dimensions set deletes = 'reconcile' where dimension_name = 'things'`;
    await watch(/no differences/);
    expect(await current()).toBe(99);
  });

  it('of a watching reconciler waits until a table has been read once', async () => {
    await createSourceTable(pipeline.source, 'others', thingColumns('timestamptz'));
    await registerDimension(pipeline.warehouse, 'others', 'others', thingColumns('timestamptz'));
    await pipeline.warehouse`select tidemark.declare_deletes(p_dimension_name => 'others', p_deletes => 'reconcile')`;
    await pipeline.source`insert into others select g, 'new', now() from generate_series(1, 30) as g`;
    const watched = () =>
      reconcileTables({ settings: pipeline.settings, tables: ['others'], repair: 'declared', allowDeletes: false });
    expect(await watched()).toEqual([]);
    await extractTables({ settings: pipeline.settings, tables: ['others'] });
    expect(await watched()).toMatchObject([{ table: 'others', differences: [] }]);
  });

  it('with --watch leaves tables alone whose deletes are found in another way, and says so where there is no other', async () => {
    const loop = startCli(['reconcile', '--watch'], { ...pipeline.env, RECONCILE_INTERVAL_SECONDS: '1' });
    await until(() =>
      Promise.resolve(loop.stderr().includes("every table is registered with deletes => 'none' or 'log'")),
    );
    loop.kill('SIGTERM');
    expect(await loop.ended).toMatchObject({ code: 0, stdout: expect.not.stringContaining('things') as string });
  });

  it('notes what it found, also where the repair is refused: that is an alert, and what was repaired is none', async () => {
    await pipeline.source`delete from things where id <= 8`;
    const strict = reconcile('things', { repair: true, settings: { max_delete_rows: 0 } });
    await expect(strict).rejects.toThrow('MAX_DELETE_PERCENT');
    const alerts = () =>
      pipeline.warehouse`select rule_name from tidemark.alerts where dimension_name = 'things' and severity = 'critical'`;
    expect(await alerts()).toEqual([{ rule_name: 'Missing Changes' }]);
    await pipeline.source`insert into things select g, 'new', clock_timestamp() from generate_series(1, 6) as g`;
    await pipeline.source`update things set state = 'not stamped', touched = '2020-01-01' where id = 50`;
    expect(await reconcile('things', { repair: true })).toMatchObject({ repaired: 3 });
    expect(
      await pipeline.warehouse`select source_rows, missing, extra, different, repaired from tidemark.reconciliations where dimension_name = 'things' order by reconciled_at`,
    ).toEqual([
      { source_rows: '92', missing: '0', extra: '8', different: '0', repaired: '0' },
      { source_rows: '98', missing: '0', extra: '2', different: '1', repaired: '3' },
    ]);
    expect(
      await pipeline.warehouse`select missing_change_rate from tidemark.kpis where dimension_name = 'things'`,
    ).toEqual([{ missing_change_rate: 0 }]);
    expect(await alerts()).toEqual([]);
  });

  it('goes on after a connection that was cut in the middle, and notes the table once', async () => {
    await pipeline.source`update things set state = 'not stamped', touched = '2020-01-01' where id = 8`;
    const blocker = connect(pipeline.admin.source, 'blocker');
    await blocker.unsafe('begin; lock table things');
    const reconciling = reconcile('things', { repair: true });
    await until(
      async () =>
        (
          await pipeline.source`
      select pg_terminate_backend(pid) from pg_stat_activity
      where datname = current_database() and application_name = 'tidemark reconcile' and wait_event_type = 'Lock'`
        ).length > 0,
    );
    await blocker.unsafe('commit');
    await blocker.end();
    expect(await reconciling).toMatchObject({ different: 1, repaired: 1 });
    expect(await pipeline.warehouse`select different, repaired from tidemark.reconciliations`).toEqual([
      { different: '1', repaired: '1' },
    ]);
  });

  it('refuses options that do not fit each other', async () => {
    for (const [options, message] of [
      [['--allow-deletes'], '--allow-deletes is for a repair'],
      [['--watch', '--repair'], '--watch repairs by itself'],
    ] as const) {
      const { code, stderr } = await runCli(['reconcile', ...options], pipeline.env);
      expect(stderr).toContain(message);
      expect(code).toBe(2);
    }
  });
});
