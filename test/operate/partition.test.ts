import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { connect } from '../../runner/base/database.js';
import { PROJECT_ROOT } from '../../runner/base/settings.js';
import { verifyTables } from '../../runner/load/replay.js';
import { loadTables } from '../../runner/load/tables.js';
import { extractTables } from '../../runner/extract/tables.js';
import { examine } from '../../runner/operate/doctor.js';
import { forget } from '../../runner/operate/forget.js';
import { partitionTable, type PartitionOptions } from '../../runner/operate/partition.js';
import { runChecks } from '../../runner/warehouse/checks.js';
import { apply, batch, change } from '../support/batches.js';
import { runCli, startCli } from '../support/cli.js';
import { beginEach, type TestPipeline } from '../support/databases.js';
import { createSourceTable, registerDimension, type TestColumn } from '../support/dimensions.js';
import { owning } from '../support/roles.js';

/** The command, and what it asks besides: tidemark.partition_plan, tidemark.abandon_partitioning, tidemark.open_partitionings. */

const COLUMNS: readonly TestColumn[] = [
  { source: 'id', type: 'integer', role: 'business key' },
  { source: 'state', type: 'text', role: 'tracked' },
];

let pipeline: TestPipeline;
beginEach(
  (begun) => {
    pipeline = begun;
  },
  async () => {
    await createSourceTable(pipeline.source, 'things', COLUMNS);
    await registerDimension(pipeline.warehouse, 'things', 'things', COLUMNS, { partitions: 0 });
    await pipeline.source`insert into things select i, 'first' from generate_series(1, 60) as i`;
    await follow();
  },
  { BATCH_SIZE: '20', BATCH_SIZE_MAX: '20' },
);
afterEach(() => {
  vi.unstubAllEnvs();
});

async function follow(): Promise<void> {
  await extractTables({ settings: pipeline.settings, tables: ['things'] });
  await loadTables({ settings: pipeline.settings, tables: ['things'] });
}

const partition = (count: number, options: PartitionOptions = {}) =>
  partitionTable(owning(pipeline.settings), 'things', count, { slice: 13, attempts: 2, ...options });

const kindOf = async (table = 'dim_things_history') => {
  const [row] = await pipeline.warehouse<[{ count: number }]>`
    select count(*)::integer as count from pg_inherits where inhparent = ${table}::text::regclass`;
  return row.count;
};
const schemas = () =>
  pipeline.warehouse`select nspname from pg_namespace where nspname like 'tidemark\_copy%'`.then((rows) => rows.length);
const triggers = () =>
  pipeline.warehouse`select tgname from pg_trigger where tgrelid = 'dim_things_history'::regclass`.then(
    (rows) => rows.length,
  );

/** History is what its batches make of it, and nothing is left of a copy. */
async function expectWhole(count: number): Promise<void> {
  expect(await kindOf()).toBe(count);
  expect(await schemas()).toBe(0);
  expect(await triggers()).toBe(0);
  expect(await verifyTables(owning(pipeline.settings), ['things'])).toMatchObject([{ differences: 0, missing: [] }]);
  const checks = await runChecks(pipeline.warehouse, ['pipeline', 'scd2']);
  expect(checks.filter(({ violations }) => violations > 0)).toEqual([]);
}

/** Where it may be cut off; each the n-th time that it is reached. */
const PLACES = ['begun:1', 'slice:2', 'rule:1', 'compared:1', 'swap:1', 'swapped:1'].map(
  (place) => `partition ${place}`,
);

/** All that catalogs say of what is in public and tidemark, but for the triggers of a moment. */
async function describeAll(): Promise<string[]> {
  const question = await readFile(path.join(PROJECT_ROOT, 'test', 'support', 'describe_schema.sql'), 'utf8');
  const sql = connect(owning(pipeline.settings).warehouse, 'test');
  await sql`set search_path = pg_catalog`;
  const rows = await sql.unsafe<{ line: string }[]>(question);
  const rights = await sql<{ line: string }[]>`
    select format('%s %s %s', c.oid::regclass, pg_get_userbyid(c.relowner), array(select g::text from unnest(c.relacl) as g order by 1)) as line
    from pg_class as c where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'v', 'S')
    union all
    select format('%s %s %s %s', p.oid::regprocedure, pg_get_userbyid(p.proowner), array(select g::text from unnest(p.proacl) as g order by 1), obj_description(p.oid, 'pg_proc'))
    from pg_proc as p where p.pronamespace = 'public'::regnamespace or p.proname = 'known_things'
    union all
    select format('%s.%s %s %s %s', a.attrelid::regclass, a.attname, a.attacl, nullif(a.attstattarget, -1), a.attoptions)
    from pg_attribute as a join pg_class as c on c.oid = a.attrelid
    where c.relname like '%things%' and a.attnum > 0 and not a.attisdropped and c.relkind = 'r'
    union all
    select format('%s %s', c.relname, c.reloptions) from pg_class as c where c.relname like '%things%' and c.relkind = 'r'
    union all
    select format('%s %s %s %s', p.pubname, p.tablename, p.attnames, p.rowfilter) from pg_publication_tables as p
    order by 1`;
  await sql.end();
  return [...rows, ...rights].map(({ line }) => line);
}

describe('table partition', () => {
  it('parts a history by its key while it is loaded, and makes it plain again: nothing is missed, and numbers stay', async () => {
    const numbers = () =>
      pipeline.warehouse<{ place: string; surrogate_key: string }[]>`
        select concat_ws(' ', id, batch_id, change_line) as place, surrogate_key from dim_things_history order by id, valid_from`.then(
        (rows) => new Map(rows.map(({ place, surrogate_key: key }) => [place, key])),
      );
    for (const count of [4, 0]) {
      const before = await numbers();
      const state = { isDone: false };
      const conversion = partition(count, { attempts: 40 }).finally(() => (state.isDone = true));
      for (let round = 0; !state.isDone; round += 1) {
        await pipeline.source`update things set state = ${`${String(count)} ${String(round)}`} where id % 3 = ${round % 3}`;
        await pipeline.source`insert into things values (${1000 * (count + 1) + round}, 'new')`;
        await follow();
      }
      expect(await conversion).toMatchObject({ outcome: 'made', partitions: count });
      await follow();
      const after = await numbers();
      expect([...before].filter(([place, key]) => after.get(place) !== key)).toEqual([]);
      expect(Math.max(...[...after.values()].map(Number))).toBe(new Set(after.values()).size);
      await expectWhole(count);
    }
  });

  it('leaves owner, grants, comments, rules, indexes, views and publications as they were, there and back', async () => {
    await pipeline.warehouse.unsafe(`
      create role partition_reader; create role partition_other;
      alter table dim_things_history alter column state set statistics 17, alter column state set (n_distinct = 5), alter column id set not null;
      alter table dim_things_history set (fillfactor = 70, toast.autovacuum_enabled = false);
      alter table dim_things_history add constraint said check (state <> ''), add constraint within exclude using btree (id with =, valid_from with =);
      comment on constraint said on dim_things_history is 'Nobody says nothing.';
      create index things_state on dim_things_history (lower(state)) where valid_to is null;
      comment on index things_state is 'By state.';
      create unique index things_of_batch on dim_things_history (batch_id, id, change_line);
      comment on table dim_things_history is 'What things were.';
      comment on column dim_things_history.state is 'Which one.';
      create view things_now with (security_barrier) as select h.*, h as whole from dim_things_history as h where is_current;
      create view things_count as select count(*) as n from things_now;
      create view things_then as select * from dim_things_history_as_of('2026-01-01'::timestamptz);
      comment on view things_now is 'Now.';
      grant select on things_now to partition_reader;
      grant select (id, state) on dim_things_history to partition_reader;
      grant select on dim_things_history to partition_other with grant option;
      revoke execute on function dim_things_history_as_of(timestamptz) from public;
      grant execute on function tidemark.known_things(timestamptz, integer) to partition_reader;
      create publication things_told for table dim_things_history (surrogate_key, id, state) with (publish_via_partition_root = true);
      select tidemark.compile_dimension('things')`);
    const browse = await runCli(['table', 'browse', 'things', 'on'], pipeline.env);
    expect(browse.code).toBe(0);
    const before = await describeAll();
    expect(await partition(2)).toMatchObject({
      views: ['public.things_count', 'public.things_now', 'public.things_then'],
      publications: ['things_told'],
    });
    const parted = await describeAll();
    expect(
      parted.filter((line) => / (things_state|said|things_of_batch|dim_things_history_browse_from)/.test(line)),
    ).not.toEqual([]);
    expect(parted.filter((line) => line.includes('dim_things_history_p0 ')).join('\n')).not.toMatch(
      /partition_(reader|other)/,
    );
    const [reader] = await pipeline.warehouse`
      select has_column_privilege('partition_reader', 'dim_things_history', 'state', 'select') as reads,
        has_table_privilege('partition_reader', 'dim_things_history_p0', 'select') as reads_parts`;
    expect(reader).toEqual({ reads: true, reads_parts: false });
    await expectWhole(2);
    await partition(0);
    await expectWhole(0);
    expect(await describeAll()).toEqual(before);
    await pipeline.warehouse.unsafe(
      'drop owned by partition_reader, partition_other; drop role partition_reader, partition_other',
    );
  });

  it('is refused where something would be lost with the table, and names all of it', async () => {
    await pipeline.warehouse.unsafe(`
      create table facts (thing bigint references dim_things_history (surrogate_key));
      create unique index of_batches on dim_things_history (batch_id, change_line);
      create materialized view kept as select * from dim_things_history;
      create function mine(dim_things_history) returns text language sql return 'x';
      create trigger told after update on dim_things_history for each row execute function suppress_redundant_updates_trigger();
      create publication told for table dim_things_history;
      create table dim_things_history_p7 (x integer)`);
    const { code, stderr } = await runCli(['table', 'partition', 'things', '8'], pipeline.env);
    expect(code).toBe(1);
    expect(stderr).toContain('TM033 the history cannot be made partitioned as it stands: ');
    for (const each of [
      'foreign key constraint facts_thing_fkey on table public.facts',
      'public.of_batches is unique over columns without the key',
      'materialized view public.kept',
      'function public.mine(public.dim_things_history)',
      'trigger told on table public.dim_things_history',
      'publication told tells of partitions under their own names',
      'public.dim_things_history_p7 has the name that a partition or its sequence would have',
    ])
      expect(stderr).toContain(each);
    expect(await schemas()).toBe(0);
    const obstacles = async (table: string, count: number) => {
      const [plan] = await pipeline.warehouse<[{ obstacles: string[] }]>`
        select obstacles from tidemark.partition_plan(${table}, ${count})`;
      return plan.obstacles.join('; ');
    };
    expect(await obstacles('things', 1024)).toMatch(
      /so many partitions take about \d+ locks at once .* max_locks_per_transaction must be \d+ there, or more/,
    );
    await registerDimension(
      pipeline.warehouse,
      'masks',
      'masks',
      [
        { source: 'mask', type: 'bit(8)', role: 'business key' },
        { source: 'state', type: 'text', role: 'tracked' },
      ],
      { partitions: 0 },
    );
    expect(await obstacles('masks', 4)).toBe('PostgreSQL cannot hash key column mask, of type bit(8)');
    const preview = await runCli(['table', 'partition', 'things', '8', '--dry-run'], pipeline.env);
    expect(preview).toMatchObject({ code: 0, stdout: expect.stringContaining('in the way: foreign key') as string });
  });

  it('that was cut off, wherever, is gone on with by the same command, and doctor names it', async () => {
    for (const [number, place] of PLACES.entries()) {
      const count = 2 + (number % 2);
      vi.stubEnv('TIDEMARK_FAILPOINT', `${place}:EIO`);
      await expect(partition(count)).rejects.toThrow('EIO');
      vi.stubEnv('TIDEMARK_FAILPOINT', '');
      const isSwapped = place.startsWith('partition swapped');
      const [open] = await pipeline.warehouse`select partitions, is_running from tidemark.open_partitionings()`;
      expect(open).toEqual(isSwapped ? undefined : { partitions: count, is_running: false });
      await pipeline.source`update things set state = ${place} where id < 40`;
      await follow();
      if (number === 0) {
        const findings = (await examine(owning(pipeline.settings))).filter(({ status }) => status !== 'ok');
        expect(findings).toMatchObject([
          {
            subject: 'table things',
            message: expect.stringMatching(/the copy of its history with 2 partitions was cut off/) as string,
            remedy:
              'go on: npx tidemark table partition things 2; or give it up: npx tidemark table partition things 0',
          },
        ]);
      }
      expect(await partition(count)).toMatchObject({ outcome: isSwapped ? 'kept' : 'made' });
      expect(await verifyTables(owning(pipeline.settings), ['things'])).toMatchObject([{ differences: 0 }]);
    }
    await expectWhole(3);
  });

  it('that was killed, is gone on with, or given up with the number that the history has', async () => {
    const env = { ...pipeline.env, NODE_ENV: 'test', TIDEMARK_FAILPOINT: 'partition swap:1:kill' };
    expect(await startCli(['table', 'partition', 'things', '2'], env).ended).toMatchObject({ code: null });
    expect(await kindOf()).toBe(0);
    expect(await runCli(['status'], pipeline.env)).toMatchObject({
      stdout: expect.stringContaining('npx tidemark table partition things 2') as string,
    });
    const { code, stdout } = await runCli(['table', 'partition', 'things', '0'], pipeline.env);
    expect(stdout).toContain('the copy that was begun is gone');
    expect(code).toBe(0);
    await expectWhole(0);
    expect((await runCli(['table', 'partition', 'things', '0'], pipeline.env)).stdout).toContain('has that already');
  });
});

describe('a history that is in use', () => {
  it('is let go again after a moment, that nobody waits longer, and the copy takes its place when it can', async () => {
    const reader = await pipeline.warehouse.reserve();
    await reader`begin`;
    await reader`select count(*) from dim_things_history`;
    await expect(partition(4)).rejects.toThrow(
      'the history of things was in use each of 2 times: the copy takes the place',
    );
    await pipeline.source`update things set state = 'while it was read'`;
    await follow();
    await expect(partition(4)).rejects.toMatchObject({
      detail: expect.stringMatching(/users=process \d+ \(tidemark test\)/) as string,
    });
    await reader`commit`;
    reader.release();
    expect(await partition(4)).toMatchObject({ outcome: 'made' });
    await expectWhole(4);
  });

  it('is waited for 0.9 s and worked on for 2 s at most', async () => {
    await pipeline.warehouse.unsafe(`
      create or replace function tidemark.finish_partitioning(p_dimension_name text) returns bigint language plpgsql as $$
      begin raise exception '% %', current_setting('lock_timeout'), current_setting('statement_timeout'); end $$`);
    await expect(partition(4)).rejects.toThrow('900ms 2s');
  });

  it('is left after a few attempts that took too long, and what is said is that', async () => {
    await pipeline.warehouse.unsafe(`
      create or replace function tidemark.finish_partitioning(p_dimension_name text) returns bigint language plpgsql as $$
      begin raise exception using errcode = '57014', message = 'canceling statement due to statement timeout'; end $$`);
    await expect(partition(4)).rejects.toMatchObject({
      message:
        'things: it took longer than 2 s each time that was tried: the copy takes the place of the history when it does not',
      hint: expect.stringContaining('the more partitions the history has or gets, the longer it takes') as string,
    });
  });

  it('is compared for as long as that takes, whatever a role or a setting has for a statement', async () => {
    await pipeline.warehouse.unsafe(`
      create or replace function tidemark.compare_copy(p_dimension_name text) returns bigint language plpgsql as $$
      begin raise exception '% %', current_setting('lock_timeout'), current_setting('statement_timeout'); end $$`);
    const { warehouse, ...others } = owning(pipeline.settings);
    const limited = { ...others, warehouse: { ...warehouse, limits: { statement_seconds: 70, lock_seconds: 70 } } };
    await expect(partitionTable(limited, 'things', 4)).rejects.toThrow('0 0');
  });

  it('is copied by one at a time', async () => {
    const other = await pipeline.warehouse.reserve();
    await other`select pg_advisory_lock(hashtextextended('tidemark.partitioning things', 0))`;
    await expect(partition(4)).rejects.toThrow('the partitions of things are being made by another process');
    await other`select pg_advisory_unlock_all()`;
    other.release();
  });
});

describe('a copy', () => {
  /** Begins one, and leaves it. */
  async function begun(count = 4): Promise<void> {
    vi.stubEnv('TIDEMARK_FAILPOINT', 'partition slice:2:EIO');
    await expect(partition(count)).rejects.toThrow('EIO');
    vi.stubEnv('TIDEMARK_FAILPOINT', '');
  }

  it('is begun anew after the history was altered meanwhile, which no load notices', async () => {
    const altered = [
      // A key with partitions keeps its type.
      "select tidemark.retype_history_column('things', 'id', 'text'); update dim_things_history set state = 'by hand' where id = '1'",
      'alter table dim_things_history add column note text',
      'alter table dim_things_history disable trigger all; alter table dim_things_history enable trigger all',
      'truncate dim_things_history',
    ];
    for (const [number, statement] of altered.entries()) {
      const count = 2 + (number % 2);
      await begun(count);
      await pipeline.warehouse.unsafe(statement);
      expect(await partition(count)).toMatchObject({ outcome: 'made' });
      const [rows] = await pipeline.warehouse<[{ count: string }]>`select count(*) from dim_things_history`;
      expect(rows.count).toBe(statement.startsWith('truncate') ? '0' : '60');
    }
  });

  it('that is not what the history is never takes its place', async () => {
    await begun();
    await pipeline.warehouse`update tidemark_copy_things.dim_things_history set state = 'altered' where id = 1`;
    await expect(partition(4)).rejects.toThrow('the copy of the history is not what the history is');
    expect(await kindOf()).toBe(0);
  });

  it('has nothing of a key that is forgotten meanwhile, shells neither, and none in its list, however it stands', async () => {
    const left = () => pipeline.warehouse`
      select 'the copy' as place, id from tidemark_copy_things.dim_things_history where id in (3, 50)
      union all select 'its list', key_1 from tidemark_copy_things.changes`;
    await begun();
    // The first is copied by now, the other is not.
    await forget(owning(pipeline.settings), 'things', ['3'], 'T-1');
    await forget(owning(pipeline.settings), 'things', ['50'], 'T-2', true);
    expect(await left()).toEqual([]);
    const forgotten = pipeline.warehouse`select distinct id from dim_things_history where id in (3, 50)`;
    expect(await forgotten).toEqual([]);
    expect(await partition(4)).toMatchObject({ outcome: 'made' });
    await expectWhole(4);
    // One that can become none any more.
    vi.stubEnv('TIDEMARK_FAILPOINT', 'partition compared:1:EIO');
    await expect(partition(0)).rejects.toThrow('EIO');
    vi.stubEnv('TIDEMARK_FAILPOINT', '');
    await pipeline.warehouse`alter table dim_things_history disable trigger all`;
    await forget(owning(pipeline.settings), 'things', ['4'], 'T-3');
    expect(await pipeline.warehouse`select from tidemark_copy_things.dim_things_history`).toEqual([]);
    expect(await partition(0)).toMatchObject({ outcome: 'made' });
    await expectWhole(0);
  });

  it('takes no slice whose snapshot is older than a forgetting', async () => {
    await begun();
    const slice = await pipeline.warehouse.reserve();
    await slice`begin isolation level repeatable read`;
    await slice`select count(*) from dim_things_history`;
    await forget(owning(pipeline.settings), 'things', ['50'], 'T-1');
    await expect(slice`select * from tidemark.copy_versions('things', 100)`).rejects.toMatchObject({ code: '40001' });
    await slice`rollback`;
    slice.release();
    expect(await partition(4)).toMatchObject({ outcome: 'made' });
  });

  it('goes with the table that is taken out of Tidemark', async () => {
    await begun();
    expect(await runCli(['table', 'remove', 'things', '--drop-history'], pipeline.env)).toMatchObject({ code: 0 });
    expect(await schemas()).toBe(0);
  });
});

it('of a role that does not own the history is refused, and says whose it is', async () => {
  await pipeline.warehouse.unsafe(
    "create role partition_nobody login password 'x'; grant usage on schema tidemark to partition_nobody; grant select on all tables in schema tidemark to partition_nobody",
  );
  const nobody = { ...pipeline.env, WAREHOUSE_DB_USER: 'partition_nobody', WAREHOUSE_DB_PASSWORD: 'x' };
  const { code, stdout } = await runCli(['table', 'partition', 'things', '4', '--dry-run'], nobody);
  expect(stdout).toMatch(/in the way: it belongs to \w+: only who is a member of that role may/);
  expect(code).toBe(0);
  await pipeline.warehouse.unsafe('drop owned by partition_nobody; drop role partition_nobody');
});

it('takes the words of the command line as they are meant', async () => {
  expect((await runCli(['table', 'partition', 'things'], pipeline.env)).stderr).toContain(
    'partition needs to be told how many',
  );
  expect((await runCli(['table', 'partition', 'things', '1'], pipeline.env)).stderr).toContain(
    'from 2 to 1024, or 0 for none',
  );
  expect((await runCli(['table', 'pause', 'things', '--dry-run'], pipeline.env)).stderr).toContain(
    '--dry-run goes with partition only',
  );
  await apply(pipeline.warehouse, batch('of_orders', '09:30', [change(1, 'A', '09:00')]));
});
