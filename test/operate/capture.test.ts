import { readFile, readdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { captureTable } from '../../runner/operate/capture.js';
import { parseShard } from '../../runner/batch/shard.js';
import { extractTables } from '../../runner/extract/tables.js';
import { loadTables } from '../../runner/load/tables.js';
import { reconcileTables } from '../../runner/reconcile/tables.js';
import { changeLogOf, newestCheckpoint } from '../../runner/change-log/chain.js';
import { positionFile, slotOf } from '../../runner/stream/position.js';
import { streamTables } from '../../runner/stream/stream.js';
import { runChecks } from '../../runner/warehouse/checks.js';
import { runCli, startCli } from '../support/cli.js';
import { beginEach, type TestPipeline } from '../support/databases.js';
import { registerThings, stream } from '../support/log.js';
import { until } from '../support/wait.js';

let pipeline: TestPipeline;
beginEach(
  (begun) => {
    pipeline = begun;
  },
  async () => {
    await registerThings(pipeline, 'things', 'others');
  },
);
afterEach(async () => {
  const { slot, publication } = slotOf(pipeline.settings);
  await until(async () => {
    const rows = await pipeline.source`select from pg_replication_slots where slot_name = ${slot} and active`;
    return rows.length === 0;
  });
  await pipeline.source`select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = ${slot}`;
  await pipeline.source.unsafe(`drop publication if exists ${publication}`);
});

const capture = (table: string, how: 'poll' | 'log' | 'both' = 'log') => captureTable(pipeline.settings, table, how);
const load = () => loadTables({ settings: pipeline.settings, tables: [] });

/** The states of a key in history, in their order, with when each begins where asked. */
async function states(table: string, key: number): Promise<string[]> {
  const rows = await pipeline.warehouse.unsafe<{ state: string; is_current: boolean }[]>(
    `select state, is_current from dim_${table}_history where id = ${String(key)} order by valid_from`,
  );
  return rows.map(({ state, is_current }) => (is_current ? `${state} (now)` : state));
}

/** Writes numbered states of a key, a transaction each, also into a table of their own, until told to stop. */
function write(table: string, key: number) {
  let [goesOn, number] = [true, 0];
  const work = (async () => {
    while (goesOn) {
      number += 1;
      await pipeline.source.begin(async (sql) => {
        await sql`insert into ${sql(table)} values (${key}, ${String(number)}) on conflict (id) do update set state = excluded.state`;
        await sql`insert into written values (${table}, ${key}, ${String(number)})`;
      });
    }
  })();
  return {
    count: () => number,
    stop: async () => {
      goesOn = false;
      await work;
    },
  };
}

describe('a table goes over to the log', () => {
  it('under load: of each key the state it had is there once, and every state that was committed later', async () => {
    await pipeline.source`create table written (source text, key integer, state text)`;
    const writers = [1, 2, 3].map((key) => write('things', key));
    await until(() => Promise.resolve(writers.every(({ count }) => count() > 5)));
    await extractTables({ settings: pipeline.settings, tables: ['things'] });
    const { gap, is_changed } = await capture('things');
    expect({ gap, is_changed }).toEqual({ gap: null, is_changed: true });
    const seen = writers.map(({ count }) => count());
    await until(() => Promise.resolve(writers.every(({ count }, index) => count() > (seen[index] ?? 0) + 5)));
    for (const { stop } of writers) await stop();
    await stream(pipeline);
    await load();
    for (const [index, { count }] of writers.entries()) {
      const found = (await states('things', index + 1)).map((state) => Number.parseInt(state, 10));
      // In order, none twice; and since the hand-over none is missing.
      expect(found).toEqual([...new Set(found)].sort((one, other) => one - other));
      const since = seen[index] ?? 0;
      expect(found.filter((number) => number > since)).toEqual(
        Array.from({ length: count() - since }, (_, each) => since + each + 1),
      );
    }
    expect(
      (await runChecks(pipeline.warehouse, ['pipeline', 'scd2'])).every(({ violations }) => violations === 0),
    ).toBe(true);
  });

  it('with a key that changes many times before the last sweep reads it, and no state of that comes twice or late', async () => {
    await pipeline.source`insert into things values (1, 'a')`;
    const { slot, publication } = slotOf(pipeline.settings);
    await pipeline.source.unsafe(
      `create publication ${publication} for table things with (publish_via_partition_root = true)`,
    );
    await pipeline.source`select pg_create_logical_replication_slot(${slot}, 'pgoutput')`;
    // The hand-over has its place in the log, and waits for this one.
    const open = await pipeline.source.reserve();
    await open`begin`;
    await open`insert into others values (9, 'open')`;
    const handed = capture('things');
    await until(async () => (await waiting()).length > 0);
    for (const state of ['b', 'c', 'd']) await pipeline.source`update things set state = ${state} where id = 1`;
    await open`commit`;
    open.release();
    await handed;
    await pipeline.source`update things set state = 'e' where id = 1`;
    await stream(pipeline);
    await load();
    expect(await states('things', 1)).toEqual(['a', 'd', 'e (now)']);
  });

  it('from shards, which are loaded and closed: it is read as one whole from there on', async () => {
    const { source, settings } = pipeline;
    await source`insert into things select n, 'a' from generate_series(1, 20) as n`;
    for (const shard of ['1/2', '2/2']) await extractTables({ settings, tables: ['things'], shard: parseShard(shard) });
    await source`update things set state = 'b' where id = 1`;
    expect(await capture('things')).toMatchObject({ is_changed: true, gap: null });
    await source`update things set state = 'c' where id = 1`;
    await stream(pipeline);
    await load();
    expect(await states('things', 1)).toEqual(['a', 'b', 'c (now)']);
    expect(await states('things', 20)).toEqual(['a (now)']);
  });

  it('while a reader begins anew, which has read on meanwhile: the source keeps what the table goes on from', async () => {
    const { source, settings } = pipeline;
    const { slot } = slotOf(settings);
    await capture('others');
    const open = await source.reserve();
    await open`begin`;
    await open`insert into others values (9, 'open')`;
    const handed = capture('things');
    await until(async () => (await waiting()).length > 0);
    await source`insert into things values (1, 'a')`;
    await source`insert into others values (1, 'a')`;
    await stream(pipeline);
    const ending = new AbortController();
    const reading = streamTables({ settings, signal: ending.signal, isEndless: true });
    // It says from time to time how far it is.
    await until(async () => {
      const said = await source`
        select from pg_stat_replication as r join pg_replication_slots as s on s.active_pid = r.pid
        where s.slot_name = ${slot} and r.reply_time is not null`;
      return said.length > 0;
    });
    ending.abort();
    await reading;
    await open`commit`;
    open.release();
    await handed;
    expect(await stream(pipeline)).toMatchObject({ stopped: {} });
    await load();
    expect(await states('things', 1)).toEqual(['a (now)']);
  });

  it('while a reader is at work on another: it takes the table in, and loses nothing of it', async () => {
    await capture('others');
    const ending = new AbortController();
    const reading = streamTables({ settings: pipeline.settings, signal: ending.signal, isEndless: true });
    await pipeline.source`insert into others values (1, 'a')`;
    await capture('things');
    await pipeline.source`insert into things values (1, 'a')`;
    await pipeline.source`update things set state = 'b' where id = 1`;
    await pipeline.source`insert into others values (2, 'a')`;
    await until(async () => {
      await load();
      return (await states('things', 1)).length === 2 && (await states('others', 2)).length === 1;
    });
    ending.abort();
    await reading;
    expect(await states('things', 1)).toEqual(['a', 'b (now)']);
  });

  const drop = async (slot: string) => {
    await pipeline.source`select pg_drop_replication_slot(${slot})`;
  };
  /** The server gives it up at a checkpoint, because it would keep more than it may. */
  const invalidate = async (slot: string) => {
    const { source } = pipeline;
    await source`alter system set max_slot_wal_keep_size = '1MB'`;
    await source`select pg_reload_conf()`;
    await until(async () => {
      await source`select pg_logical_emit_message(true, 'noise', ''), pg_switch_wal()`;
      await source`checkpoint`;
      const [row] = await source`select wal_status from pg_replication_slots where slot_name = ${slot}`;
      return row?.wal_status === 'lost';
    });
    await source`alter system reset max_slot_wal_keep_size`;
    await source`select pg_reload_conf()`;
  };

  it.each([
    ['was dropped', drop, 'the source has no replication slot'],
    ['was given up by the server', invalidate, 'is lost: the server has given up the log that it needs'],
  ])('again where its slot %s: no last state and no delete is lost, and it is said what is', async (_, lose, said) => {
    await pipeline.source`insert into things values (1, 'a'), (2, 'a')`;
    await capture('things');
    await pipeline.source`insert into things values (3, 'a')`;
    await stream(pipeline);
    const { slot } = slotOf(pipeline.settings);
    await lose(slot);
    await pipeline.source`update things set state = 'b' where id = 1`;
    await pipeline.source`update things set state = 'c' where id = 1`;
    await pipeline.source`delete from things where id = 2`;
    await expect(stream(pipeline)).rejects.toThrow(said);
    const alerts = () => pipeline.warehouse`select subject from tidemark.alerts where rule_name = 'Slot Lost'`;
    expect(await alerts()).toEqual([
      { subject: expect.stringMatching(/^tidemark_.+: states of rows are lost from .+ on$/) as string },
    ]);
    const { gap } = await capture('things');
    expect(await alerts()).toEqual([
      { subject: expect.stringMatching(/: states of rows are lost from .+ to .+$/) as string },
    ]);
    const { stdout } = await runCli(['status'], pipeline.env);
    expect(stdout).toMatch(/Slot Lost .*: states of rows are lost from .+ to /);
    // The checkpoint says it for good: from the last commit that was read, to the sweep that read on.
    const newest = await newestCheckpoint(changeLogOf(pipeline.settings.cdc_log_dir, 'things'));
    expect(newest?.log?.gap).toEqual(gap);
    const [last] = await pipeline.warehouse`
      select gap_from = ${gap?.since ?? ''} and gap_to = ${gap?.until ?? ''} and gap_from < gap_to as is_told
      from tidemark.stream_positions`;
    expect(last).toEqual({ is_told: true });
    await pipeline.source`update things set state = 'd' where id = 1`;
    await stream(pipeline);
    await load();
    expect(await states('things', 1)).toEqual(['a', 'c', 'd (now)']);
    expect(await states('things', 2)).toEqual(['a (now)']);
    await reconcileTables({ settings: pipeline.settings, tables: ['things'], repair: true, allowDeletes: true });
    await load();
    expect(await states('things', 2)).toEqual(['a']);
  });

  it('again where the source is another server, as after a failover: until then nothing of it is taken', async () => {
    await pipeline.source`insert into things values (1, 'a')`;
    await capture('things');
    await pipeline.source`update things set state = 'b' where id = 1`;
    await stream(pipeline);
    // As if what was read until now had been another timeline's.
    const { cdc_log_dir: root } = pipeline.settings;
    const { checkpoints } = changeLogOf(root, 'things');
    const files = (await readdir(checkpoints)).map((name) => path.join(checkpoints, name));
    for (const file of [...files, positionFile(root, slotOf(pipeline.settings).slot)])
      await writeFile(file, (await readFile(file, 'utf8')).replace('"timeline": 1', '"timeline": 77'));
    await pipeline.source`update things set state = 'c' where id = 1`;
    const { stopped } = await stream(pipeline);
    expect(stopped.things).toContain('the source is not the server that the log of things was read from');
    expect((await capture('things')).gap).not.toBeNull();
    await pipeline.source`update things set state = 'd' where id = 1`;
    expect((await stream(pipeline)).stopped).toEqual({});
    await load();
    expect(await states('things', 1)).toEqual(['a', 'b', 'c', 'd (now)']);
  });

  it('and back to polling: what is written from then on is polled, and nothing is lost, or there twice', async () => {
    await pipeline.source`insert into things values (1, 'a'), (2, 'a')`;
    await capture('things');
    await pipeline.source`update things set state = 'b' where id = 1`;
    await pipeline.source`delete from things where id = 2`;
    await capture('things', 'poll');
    await pipeline.source`update things set state = 'c' where id = 1`;
    await extractTables({ settings: pipeline.settings, tables: [] });
    await load();
    expect([await states('things', 1), await states('things', 2)]).toEqual([['a', 'b', 'c (now)'], ['a']]);
    const { publication } = slotOf(pipeline.settings);
    expect(await pipeline.source`select from pg_publication_tables where pubname = ${publication}`).toEqual([]);
    await capture('things');
    await pipeline.source`update things set state = 'd' where id = 1`;
    await stream(pipeline);
    await load();
    expect(await states('things', 1)).toEqual(['a', 'b', 'c', 'd (now)']);
  });

  it('and out of it under a reader at work: it lets go at once, and what is left at the source is said', async () => {
    await capture('things');
    await capture('others');
    const ending = new AbortController();
    const reading = streamTables({ settings: pipeline.settings, signal: ending.signal, isEndless: true });
    const published = async () =>
      (
        await pipeline.source<
          { tablename: string }[]
        >`select tablename from pg_publication_tables where pubname = ${publication}`
      ).map(({ tablename }) => tablename);
    const { slot, publication } = slotOf(pipeline.settings);
    const removed = await runCli(['table', 'remove', 'others'], pipeline.env);
    expect(removed.stdout).not.toContain('stream drop');
    expect(await published()).toEqual(['things']);
    await pipeline.source`insert into others values (1, 'a')`;
    await pipeline.source`insert into things values (1, 'a')`;
    await until(async () => {
      await load();
      return (await states('things', 1)).length === 1;
    });
    // Whoever may not alter the publication is told what is to be run.
    const role = `r${slot.slice(-12)}`;
    await pipeline.source.unsafe(`create role ${role} login password 'r'`);
    const source = { ...pipeline.settings.source, user: role, password: 'r' };
    const back = await captureTable({ ...pipeline.settings, source }, 'things', 'poll');
    await pipeline.source.unsafe(`drop role ${role}`);
    expect(back.left).toEqual({ slot, statement: `alter publication "${publication}" drop table "public"."things"` });
    await pipeline.source.unsafe(back.left?.statement ?? '');
    expect(await published()).toEqual([]);
    // Without a table the reader ends its session by itself, and nobody holds the slot.
    await reading;
    const dropped = await runCli(['stream', 'drop'], pipeline.env);
    expect(dropped.stdout).toBe(`dropped: replication slot ${slot}, publication ${publication}\n`);
    expect(await pipeline.warehouse`select from tidemark.alerts where rule_name like 'Slot%'`).toEqual([]);
  });

  it('with comparisons as a proof: each is made when it is due, noted, and repairs nothing', async () => {
    await pipeline.source`insert into things values (1, 'a'), (2, 'a')`;
    await capture('things', 'both');
    await stream(pipeline);
    await load();
    await pipeline.warehouse`delete from dim_things_history where id = 2`;
    // As "reconcile --watch" asks.
    const prove = () =>
      reconcileTables({
        ...{ settings: pipeline.settings, tables: [], repair: 'declared', onlyDeclared: true, allowDeletes: false },
      });
    const found = [{ table: 'things', missing: 1, repaired: 0 }];
    expect(await prove()).toMatchObject(found);
    expect(await states('things', 2)).toEqual([]);
    const alerts =
      await pipeline.warehouse`select dimension_name from tidemark.alerts where rule_name = 'Missing Changes'`;
    expect(alerts).toEqual([{ dimension_name: 'things' }]);
    expect(await prove()).toEqual([]);
    expect(await pipeline.warehouse`select * from tidemark.due_proofs('0 s')`).toEqual([{ dimension_name: 'things' }]);
    await pipeline.warehouse`update tidemark.reconciliations set reconciled_at = reconciled_at - interval '25 hours'`;
    expect(await prove()).toMatchObject(found);
  });

  it('where a repair waits for the log to come to what it has read: what the log brings later is not older', async () => {
    await pipeline.source`insert into things values (1, 'a'), (2, 'a'), (3, 'a')`;
    await capture('things');
    await stream(pipeline);
    await load();
    // Somebody has lost what the log had brought: history lacks a row, and another state.
    await pipeline.warehouse`delete from dim_things_history where id in (2, 3)`;
    await pipeline.source`update things set state = 'b' where id = 1`;
    await pipeline.source`update things set state = 'c' where id = 1`;
    await pipeline.source`update things set state = 'b' where id = 3`;
    const [repaired] = await reconcileTables({
      settings: pipeline.settings,
      tables: ['things'],
      repair: true,
      allowDeletes: false,
    });
    expect(repaired).toMatchObject({ missing: 1, repaired: 1 });
    expect(await states('things', 1)).toEqual(['a', 'b', 'c (now)']);
    expect(await states('things', 2)).toEqual(['a (now)']);
    expect(await states('things', 3)).toEqual(['b (now)']);
    await pipeline.source`update things set state = 'd' where id = 1`;
    await stream(pipeline);
    await load();
    expect(await states('things', 1)).toEqual(['a', 'b', 'c', 'd (now)']);
  });

  it('killed at whatever step, and begun again: each state that was committed is there once', async () => {
    await pipeline.source`insert into things values (1, '0')`;
    const steps = ['page:1', 'link:1', 'link:2', 'last snapshot:1', 'last sweep:1'];
    let number = 0;
    const change = async () => {
      number += 1;
      await pipeline.source`update things set state = ${String(number)} where id = 1`;
    };
    let killed = 0;
    for (const step of steps) {
      await change();
      const env = { ...pipeline.env, NODE_ENV: 'test', TIDEMARK_FAILPOINT: `${step}:kill` };
      const { code } = await runCli(['table', 'capture', 'things', 'log'], env);
      if (code === null) killed += 1;
      await change();
    }
    expect(killed).toBe(steps.length);
    await capture('things');
    await change();
    await stream(pipeline);
    await load();
    const found = (await states('things', 1)).map((state) => Number.parseInt(state, 10));
    expect(found).toEqual([...new Set(found)].sort((one, other) => one - other));
    expect(found.at(-1)).toBe(number);
    const compared = await reconcileTables({
      settings: pipeline.settings,
      tables: ['things'],
      repair: false,
      allowDeletes: false,
    });
    expect(compared).toMatchObject([{ missing: 0, extra: 0, different: 0 }]);
  });

  it('where a key changes while its repair is read: it is left to the log', async () => {
    await pipeline.source`insert into things values (1, 'a')`;
    await capture('things');
    await stream(pipeline);
    await load();
    await pipeline.warehouse`delete from dim_things_history where id = 1`;
    const env = { ...pipeline.env, NODE_ENV: 'test', TIDEMARK_FAILPOINT: 'repair read:1:stop' };
    const repairing = startCli(['reconcile', '--table', 'things', '--repair'], env);
    await until(async () => (await readFile(`/proc/${String(repairing.pid)}/stat`, 'utf8')).includes(') T '));
    await pipeline.source`update things set state = 'b' where id = 1`;
    await pipeline.source`update things set state = 'c' where id = 1`;
    repairing.kill('SIGCONT');
    await repairing.ended;
    expect(await states('things', 1)).toEqual(['b', 'c (now)']);
  });

  it('not where publishing it would break its application: it stays as it was, and the statement is said that helps', async () => {
    await pipeline.source`alter table things drop constraint things_pkey, add unique (id)`;
    const { code, stderr } = await runCli(['table', 'capture', 'things', 'log'], pipeline.env);
    expect(code).toBe(1);
    expect(stderr).toContain('updates and deletes of the application would fail');
    expect(stderr).toContain('alter table things replica identity full');
    expect(await pipeline.warehouse`select capture from tidemark.dimensions where dimension_name = 'things'`).toEqual([
      { capture: 'poll' },
    ]);
    await pipeline.source`insert into things values (1, 'a')`;
    await pipeline.source`update things set state = 'b' where id = 1`;
  });

  it('not where the source lets two rows have one key for a while, of which the log would not say which was deleted', async () => {
    await pipeline.source`alter table things drop constraint things_pkey, add primary key (id) deferrable`;
    await pipeline.source`alter table things replica identity full`;
    await pipeline.source`insert into things values (1, 'a'), (2, 'b')`;
    await expect(capture('things')).rejects.toMatchObject({
      message: expect.stringContaining('may have two rows of one business key at a time') as string,
      hint: 'on the source: alter table things add unique (id); or leave it to polling',
    });
    const { slot } = slotOf(pipeline.settings);
    expect(await pipeline.source`select from pg_replication_slots where slot_name = ${slot}`).toEqual([]);
    await pipeline.source`update things set id = 3 - id`;
    await extractTables({ settings: pipeline.settings, tables: ['things'] });
    await load();
    expect([await states('things', 1), await states('things', 2)]).toEqual([['b (now)'], ['a (now)']]);
  });

  it('by a command that says what is next; extract says that it is no longer its business', async () => {
    await pipeline.source`insert into things values (1, 'a')`;
    const { stdout, stderr } = await runCli(['table', 'capture', 'things', 'log'], pipeline.env);
    expect(stderr + stdout).toContain('things is read from the log from now on, after 1 change by polling');
    expect((await runCli(['table', 'capture', 'things', 'log'], pipeline.env)).stdout).toContain('already');
    expect((await runCli(['extract', '--table', 'things'], pipeline.env)).stderr).toContain(
      'things is read from the log',
    );
    expect((await runCli(['stream', '--load'], pipeline.env)).code).toBe(0);
    expect(await states('things', 1)).toEqual(['a (now)']);
  });
});

/** Sessions that wait for a transaction to end as the hand-over does: it looks again and again. */
const waiting = () =>
  pipeline.source`select from pg_stat_activity where application_name = 'tidemark capture' and datname = current_database()
    and query like '-- Whom a hand-over to the log%'`;
