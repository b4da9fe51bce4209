import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { connect, type Database } from '../../runner/base/database.js';
import { LockedError } from '../../runner/base/errors.js';
import { extractTables } from '../../runner/extract/tables.js';
import { loadTables } from '../../runner/load/tables.js';
import { examine } from '../../runner/operate/doctor.js';
import { reconcileTables } from '../../runner/reconcile/tables.js';
import { NOTHING_SAID } from '../../runner/registration/options.js';
import { proposeRegistrations } from '../../runner/registration/propose.js';
import { parseShard } from '../../runner/batch/shard.js';
import { runCli, startCli } from '../support/cli.js';
import { beginEach, type TestPipeline } from '../support/databases.js';
import { registerDimension } from '../support/dimensions.js';
import { captured, createThings, thingColumns } from '../support/extraction.js';
import { until } from '../support/wait.js';

/** Two tables, each with three rows; somebody locks the first one. */

const NAMES = ['a_first', 'things'] as const;

let pipeline: TestPipeline;
let migration: Database;
let pid: number;
beginEach(
  (begun) => {
    pipeline = begun;
  },
  async () => {
    await createThings(pipeline);
    await pipeline.source`create table a_first (like things including all)`;
    await registerDimension(pipeline.warehouse, 'a_first', 'a_first', thingColumns('timestamptz'));
    await insert('a_first', 1, 3);
    await insert('things', 1, 3);
  },
  { CDC_EXTRACTION_INTERVAL_SECONDS: '1' },
);
beforeEach(async () => {
  migration = connect(pipeline.admin.source, 'migration');
  [{ pid }] = await migration<[{ pid: number }]>`select pg_backend_pid() as pid`;
});
afterEach(async () => {
  await migration.end({ timeout: 0 });
});

const insert = (table: string, first: number, last: number) =>
  pipeline.source`insert into ${pipeline.source(table)} select g, 'row', clock_timestamp() from generate_series(${first}::integer, ${last}::integer) as g`;

const lock = (relation = 'a_first') => migration.unsafe(`begin; lock table ${relation}`);
const letGo = () => migration.unsafe('rollback');

/** Without waiting for who holds a lock. */
const extractNow = (tables: readonly string[] = ['a_first'], shard?: string) =>
  extractTables({ settings: pipeline.settings, tables, shard: parseShard(shard), lockPatience: 0 });

const capturedThings = () => captured(pipeline).catch(() => []);

describe('a locked table', () => {
  it('holds up no other: they are read meanwhile, it is said who holds it, and it is read in the same run', async () => {
    await lock();
    const extractor = startCli(['extract', '--table', ...NAMES], pipeline.env);
    await until(async () => (await capturedThings()).length === 3);
    await until(() => Promise.resolve(extractor.stderr().includes('public.a_first is locked by')));
    expect(extractor.stderr()).toContain(
      `public.a_first is locked by process ${String(pid)} (tidemark migration, user ${pipeline.admin.source.user}, idle in transaction, since `,
    );
    await letGo();
    const { code, stdout, stderr } = await extractor.ended;
    expect([code, stdout.match(/^\w+: 3 changes/gm)]).toEqual([0, ['a_first: 3 changes', 'things: 3 changes']]);
    expect(stderr.split('is locked by')).toHaveLength(2);
  });

  it('fails when LOCK_TIMEOUT_SECONDS are over, and the others are done', async () => {
    await lock();
    const env = { ...pipeline.env, LOCK_TIMEOUT_SECONDS: '1' };
    const { code, stdout, stderr } = await runCli(['extract', '--table', ...NAMES], env);
    expect(code).toBe(1);
    expect(stdout).toContain('things: 3 changes');
    expect(stderr).toContain(`error: public.a_first is locked by process ${String(pid)} (tidemark migration`);
    expect(stderr).toContain('where: table=a_first query=begin; lock table a_first');
    expect(stderr).toContain(`or end it: select pg_terminate_backend(${String(pid)})`);
    await letGo();
  });

  it('is left when the run is interrupted', async () => {
    await lock();
    const extractor = startCli(['extract', '--table', ...NAMES], pipeline.env);
    await until(async () => (await capturedThings()).length === 3);
    extractor.kill('SIGTERM');
    const { code, stdout } = await extractor.ended;
    expect([code, stdout]).toEqual([1, expect.stringContaining('things: 3 changes')]);
    await letGo();
  });

  it('holds up no other round of a watch, whose last error says who holds it', async () => {
    await lock();
    const extractor = startCli(['extract', '--watch', '--table', ...NAMES], pipeline.env);
    await until(async () => (await capturedThings()).length === 3);
    await insert('things', 4, 4);
    await until(async () => (await capturedThings()).length === 4);
    await until(
      async () =>
        (
          await pipeline.warehouse`
            select from pipeline_metadata where performance_metrics #>> '{last_error,error}' like 'error: public.a_first is locked by%'`
        ).length > 0,
    );
    await letGo();
    await extractor.printed(/a_first: 3 changes/);
    extractor.kill('SIGTERM');
    expect((await extractor.ended).code).toBe(0);
  });

  it('holds up no comparison of another, and is compared in the same run', async () => {
    await extractTables({ settings: pipeline.settings, tables: NAMES });
    await loadTables({ settings: pipeline.settings, tables: NAMES });
    await lock();
    const reconciler = startCli(['reconcile', '--table', ...NAMES], pipeline.env);
    await until(async () => (await pipeline.warehouse`select from tidemark.reconciliations`).length === 1);
    await until(() => Promise.resolve(reconciler.stderr().includes('public.a_first is locked by')));
    await letGo();
    const { code, stdout } = await reconciler.ended;
    expect([code, stdout.match(/^\w+: no differences/gm)]).toEqual([
      0,
      ['a_first: no differences', 'things: no differences'],
    ]);
  });
});

describe('a locked history', () => {
  const loadedThings = async () => (await pipeline.warehouse`select from dim_things_history`).length;
  let writer: Database;
  beforeEach(async () => {
    await extractTables({ settings: pipeline.settings, tables: NAMES });
    writer = connect(pipeline.admin.warehouse, 'index build');
    await writer.unsafe('begin; lock table dim_a_first_history in share mode');
  });
  afterEach(async () => {
    await writer.end({ timeout: 0 });
  });

  it('holds up no other: they are loaded meanwhile, it is said who holds it, and it is loaded in the same run', async () => {
    const loader = startCli(['load', '--table', ...NAMES], pipeline.env);
    await until(async () => (await loadedThings()) === 3);
    await until(() => Promise.resolve(loader.stderr().includes('locked by')));
    expect(loader.stderr()).toMatch(/public\.dim_a_first_history is locked by process \d+ \(tidemark index build, /);
    await writer.unsafe('commit');
    const { code, stdout } = await loader.ended;
    expect([code, stdout.match(/^\w+: 3 changes/gm)]).toEqual([0, ['a_first: 3 changes', 'things: 3 changes']]);
  });

  it('fails when LOCK_TIMEOUT_SECONDS are over, and the others are done', async () => {
    const env = { ...pipeline.env, LOCK_TIMEOUT_SECONDS: '1' };
    const { code, stderr } = await runCli(['load', '--table', ...NAMES], env);
    expect([code, await loadedThings()]).toEqual([1, 3]);
    expect(stderr).toMatch(/^error: public\.dim_a_first_history is locked by process \d+ \(tidemark index build, /m);
  });

  it('holds up no other round of a watch', async () => {
    const loader = startCli(['load', '--watch', '--table', ...NAMES], pipeline.env);
    await until(async () => (await loadedThings()) === 3);
    await insert('things', 4, 4);
    await extractTables({ settings: pipeline.settings, tables: ['things'] });
    await until(async () => (await loadedThings()) === 4);
    await writer.unsafe('commit');
    await loader.printed(/a_first: 3 changes/);
    loader.kill('SIGTERM');
    expect((await loader.ended).code).toBe(0);
  });

  it('is no fault where nothing is to be loaded, or where it is only read', async () => {
    const results = await loadTables({ settings: pipeline.settings, tables: ['things'], lockPatience: 0 });
    expect(results).toMatchObject([{ batches: 1 }]);
    await writer.unsafe('commit');
    await loadTables({ settings: pipeline.settings, tables: ['a_first'] });
    await writer.unsafe('begin; lock table dim_a_first_history in share mode');
    const selection = { settings: pipeline.settings, tables: NAMES, lockPatience: 0 };
    expect(await loadTables(selection)).toMatchObject([{ batches: 0 }, { batches: 0 }]);
    expect(await reconcileTables({ ...selection, repair: false, allowDeletes: false })).toHaveLength(2);
  });

  it('that may not even be read holds up no comparison of another', async () => {
    await writer.unsafe('commit');
    await loadTables({ settings: pipeline.settings, tables: NAMES });
    await writer.unsafe('begin; lock table dim_a_first_history');
    const selection = { settings: pipeline.settings, tables: NAMES, lockPatience: 0 };
    await expect(reconcileTables({ ...selection, repair: false, allowDeletes: false })).rejects.toThrow(
      'public.dim_a_first_history is locked by process',
    );
    expect(await pipeline.warehouse`select dimension_name from tidemark.reconciliations`).toEqual([
      { dimension_name: 'things' },
    ]);
  });
});

describe('who holds it', () => {
  it('is named too where it is extracted by shards', async () => {
    await lock();
    await expect(extractNow(['a_first'], '1/2')).rejects.toThrow(`public.a_first is locked by process ${String(pid)}`);
    await letGo();
  });

  it('is named with what is locked where that is a partition, a part of a partition, or its index', async () => {
    await registerDimension(pipeline.warehouse, 'a_parted', 'parted', thingColumns('timestamptz'));
    for (const [make, statement, locked] of [
      ['create table part partition of parted default', 'lock table part', 'public.part'],
      [
        'create table part partition of parted default partition by list (id); create table leaf partition of part default',
        'lock table leaf',
        'public.leaf',
      ],
      ['', 'reindex index parted_pkey', 'public.parted_pkey'],
    ] as const) {
      await pipeline.source.unsafe(`
        drop table if exists parted;
        create table parted (id integer primary key, state text, touched timestamptz) ${make === '' ? '' : 'partition by list (id)'}; ${make}`);
      await migration.unsafe(`begin; ${statement}`);
      const extraction = extractNow(['a_parted', 'things']);
      await expect(extraction).rejects.toThrow(`${locked} is locked by process ${String(pid)} (tidemark migration`);
      expect(await captured(pipeline)).toHaveLength(3);
      await letGo();
    }
  });

  it('is named with the table that lies under a view of a view', async () => {
    await pipeline.source.unsafe(
      'create view inner_view as select * from a_first; create view outer_view as select * from inner_view',
    );
    await registerDimension(pipeline.warehouse, 'a_view', 'outer_view', thingColumns('timestamptz'));
    await lock();
    const extraction = extractNow(['a_view', 'things']);
    await expect(extraction).rejects.toThrow(`public.a_first is locked by process ${String(pid)} (tidemark migration`);
    expect(await captured(pipeline)).toHaveLength(3);
    await letGo();
  });

  it('may be a prepared transaction', async () => {
    const gid = `migration ${pipeline.source.options.database}`;
    await migration.unsafe(`begin; lock table a_first; prepare transaction '${gid}'`);
    await expect(extractNow()).rejects.toMatchObject({
      message: expect.stringContaining(`public.a_first is locked by prepared transaction '${gid}' of user`) as string,
      hint: expect.stringContaining(`rollback prepared '${gid}'`) as string,
    });
    await migration.unsafe(`rollback prepared '${gid}'`);
  });

  it('is the one that is waited for, where somebody who is about to lock it waits himself', async () => {
    const reader = connect(pipeline.admin.source, 'long read');
    await reader.unsafe('begin; select from a_first');
    const altering = migration`alter table a_first add column more integer`.execute();
    await until(
      async () => (await pipeline.source`select from pg_locks where pid = ${pid} and not granted`).length > 0,
    );
    await expect(extractNow()).rejects.toThrow(
      RegExp(
        `^public\\.a_first is about to be locked by process ${String(pid)} \\(tidemark migration, .*, which waits for process \\d+ \\(tidemark long read, `,
      ),
    );
    await reader.unsafe('rollback');
    await reader.end();
    await altering;
  });

  it('is said without the values in the statement', async () => {
    await lock();
    await migration.unsafe(`update a_first set state = 'Ada''s street 7', touched = $$2020-01-01$$ where id = 4711`);
    const error: unknown = await extractNow().catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(LockedError);
    expect((error as LockedError).detail).toBe('table=a_first query=update a_first set state = ?, touched = ?');
    await letGo();
  });

  it('is said by doctor, and nothing else of that table', async () => {
    await lock();
    const found = (await examine(pipeline.settings)).filter(({ subject }) => subject.startsWith('table '));
    expect(found.filter(({ subject }) => subject === 'table a_first')).toMatchObject([
      { status: 'error', message: expect.stringContaining('public.a_first is locked by') as string },
    ]);
    expect(found.filter(({ subject, status }) => subject === 'table things' && status === 'error')).toEqual([]);
    await letGo();
  });

  it('is said by add, where it has to look at the rows', async () => {
    await pipeline.source`create table "Key ""less" (name text not null)`;
    await pipeline.source`create table keyed (id integer primary key, name text)`;
    await lock('"Key ""less", keyed');
    const names = ['Key "less', 'keyed'].map((table) => ({ schema: 'public', table }));
    const [keyless, keyed] = await proposeRegistrations(pipeline.settings, names, NOTHING_SAID);
    expect(keyless).toMatchObject({
      error: { message: expect.stringContaining('public."Key ""less" is locked by') as string },
    });
    expect(keyed).not.toHaveProperty('error');
    await letGo();
  });
});
