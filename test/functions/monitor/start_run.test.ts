import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { connect, type Database } from '../../../runner/base/database.js';
import { continueRun, finishRun, liveRuns, startRun } from '../../../runner/warehouse/functions.js';
import { createWarehouseDatabase, type TestDatabase } from '../../support/databases.js';
import { empty } from '../../support/batches.js';

let warehouse: TestDatabase;
let sql: Database;
let sessions: Database[];
beforeAll(async () => {
  warehouse = await createWarehouseDatabase();
  sql = warehouse.sql;
});
beforeEach(async () => {
  await empty(sql);
  sessions = [];
});
afterEach(async () => {
  for (const session of sessions) await session.end();
});
afterAll(async () => {
  await warehouse.drop();
});

/** A session of its own, as a run has. */
function session(): Database {
  const opened = connect(warehouse.settings, 'test');
  sessions.push(opened);
  return opened;
}

/** Ends a session and waits until the server has forgotten it. */
async function kill(one: Database): Promise<void> {
  const [row] = await one<[{ pid: number }]>`select pg_backend_pid() as pid`;
  await sql`select pg_terminate_backend(${row.pid}, 10000)`;
}

const runs = () => sql<{ run_id: string; status: string; ended: boolean }[]>`
  select run_id, status, end_time is not null as ended from public.pipeline_metadata order by id`;
const alive = async (reader: Database = sql) =>
  (
    await reader<{ alive: boolean }[]>`
  select tidemark.is_run_alive(performance_metrics) as alive from public.pipeline_metadata order by id`
  ).map((row) => row.alive);

describe('tidemark.start_run', () => {
  test('notes the run, its time in UTC and its session', async () => {
    const one = session();
    await one`set timezone = 'Asia/Tokyo'`;
    await startRun(one, 'load', 'run 1');
    const [backend] = await one`select pg_backend_pid() as pid`;
    expect(
      await sql`
      select pipeline_name, run_id, end_time, status, (performance_metrics ->> 'backend_pid')::integer as pid,
        abs(extract(epoch from clock_timestamp() at time zone 'UTC' - start_time)) < 600 as is_utc, start_time = created_at and created_at = updated_at as is_one_moment
      from public.pipeline_metadata`,
    ).toEqual([
      {
        pipeline_name: 'load',
        run_id: 'run 1',
        end_time: null,
        status: 'running',
        pid: backend?.pid as number,
        is_utc: true,
        is_one_moment: true,
      },
    ]);
  });

  test('closes a run whose session is gone as interrupted, and leaves one that lives', async () => {
    const [dead, living, next] = [session(), session(), session()];
    await startRun(dead, 'load', 'dead');
    await startRun(living, 'load', 'living');
    await kill(dead);
    await startRun(next, 'extract', 'next');
    expect(await runs()).toEqual([
      { run_id: 'dead', status: 'interrupted', ended: true },
      { run_id: 'living', status: 'running', ended: false },
      { run_id: 'next', status: 'running', ended: false },
    ]);
  });

  test('leaves runs alone that have ended', async () => {
    const [dead, next] = [session(), session()];
    await startRun(dead, 'load', 'dead');
    await finishRun(dead, 'dead', 'failed', {});
    await kill(dead);
    const before = await sql`select t::text from public.pipeline_metadata as t`;
    await startRun(next, 'load', 'next');
    expect(await sql`select t::text from public.pipeline_metadata as t where run_id = 'dead'`).toEqual(before);
  });

  test('does not take a name twice', async () => {
    await startRun(session(), 'load', 'run 1');
    await expect(startRun(session(), 'load', 'run 1')).rejects.toMatchObject({
      code: '23505',
      constraint_name: 'a_run_has_one_row',
    });
  });
});

describe('tidemark.start_run of a run that began before', () => {
  test('puts its beginning back by that many seconds and keeps what it measured', async () => {
    await startRun(session(), 'load', 'run 1', 90, { rounds: 3 });
    expect(
      await sql`
      select extract(epoch from created_at - start_time)::integer as age, (performance_metrics ->> 'rounds')::integer as rounds from public.pipeline_metadata`,
    ).toEqual([{ age: 90, rounds: 3 }]);
  });
});

describe('tidemark.continue_run', () => {
  test('notes what was measured and the session the run has now, and revives one that was taken for dead', async () => {
    const [one, two, next] = [session(), session(), session()];
    await startRun(one, 'load', 'run 1', 0, { rounds: 1 });
    await kill(one);
    await startRun(next, 'load', 'run 2');
    expect((await runs())[0]).toEqual({ run_id: 'run 1', status: 'interrupted', ended: true });
    expect(await continueRun(two, 'run 1', { rounds: 2 })).toBe(true);
    expect((await runs())[0]).toEqual({ run_id: 'run 1', status: 'running', ended: false });
    expect(await alive()).toEqual([true, true]);
    expect(
      await sql`select performance_metrics ->> 'rounds' as rounds from public.pipeline_metadata where run_id = 'run 1'`,
    ).toEqual([{ rounds: '2' }]);
  });

  test('leaves a run alone that has ended of itself, and says that one is not known', async () => {
    const one = session();
    await startRun(one, 'load', 'run 1');
    await finishRun(one, 'run 1', 'succeeded', {});
    expect([await continueRun(one, 'run 1', { rounds: 2 }), await continueRun(one, 'run 3', {})]).toEqual([
      false,
      false,
    ]);
    expect(await runs()).toEqual([{ run_id: 'run 1', status: 'succeeded', ended: true }]);
  });
});

describe('tidemark.live_runs', () => {
  test('lists the runs whose sessions are there, and no dead or ended one', async () => {
    const [living, dead, ended] = [session(), session(), session()];
    await startRun(living, 'load', 'living', 0, { host: 'here' });
    await startRun(dead, 'extract', 'dead');
    await startRun(ended, 'simulate', 'ended');
    await finishRun(ended, 'ended', 'succeeded', {});
    await kill(dead);
    expect(await liveRuns(sql)).toMatchObject([
      { pipeline_name: 'load', run_id: 'living', performance_metrics: { host: 'here' } },
    ]);
  });
});

describe('tidemark.finish_run', () => {
  test.each(['succeeded', 'failed', 'interrupted'] as const)(
    'notes that a run %s, when, and what it measured beside its session',
    async (status) => {
      const one = session();
      await startRun(one, 'load', 'run 1');
      await finishRun(one, 'run 1', status, { batches: 3, seconds: 0.5 });
      expect(
        await sql`
      select status, end_time >= start_time as in_time, updated_at >= end_time as is_noted, performance_metrics - 'backend_pid' - 'backend_start' as metrics,
        performance_metrics ?& array['backend_pid', 'backend_start'] as has_session
      from public.pipeline_metadata`,
      ).toEqual([{ status, in_time: true, is_noted: true, metrics: { batches: 3, seconds: 0.5 }, has_session: true }]);
    },
  );

  test('a second time changes nothing', async () => {
    const one = session();
    await startRun(one, 'load', 'run 1');
    await finishRun(one, 'run 1', 'succeeded', { batches: 3 });
    const before = await sql`select t::text from public.pipeline_metadata as t`;
    await finishRun(one, 'run 1', 'failed', { batches: 4 });
    expect(await sql`select t::text from public.pipeline_metadata as t`).toEqual(before);
  });

  test('ends no other run, and an unknown one not at all', async () => {
    const [one, two] = [session(), session()];
    await startRun(one, 'load', 'run 1');
    await startRun(two, 'load', 'run 2');
    await finishRun(two, 'run 2', 'succeeded', {});
    await finishRun(two, 'run 3', 'succeeded', {});
    expect(await runs()).toEqual([
      { run_id: 'run 1', status: 'running', ended: false },
      { run_id: 'run 2', status: 'succeeded', ended: true },
    ]);
  });

  test('knows no other way to end', async () => {
    const one = session();
    await startRun(one, 'load', 'run 1');
    for (const status of ['running', 'done'])
      await expect(one`select tidemark.finish_run('run 1', ${status}, '{}')`).rejects.toMatchObject({ code: '23514' });
  });

  test('never ends a run before it began, though the clock was set back', async () => {
    const one = session();
    await startRun(one, 'load', 'run 1');
    await sql`update public.pipeline_metadata set start_time = '2999-01-01'`;
    await finishRun(one, 'run 1', 'succeeded', {});
    expect(await sql`select end_time from public.pipeline_metadata`).toEqual([{ end_time: '2999-01-01 00:00:00' }]);
  });
});

describe('tidemark.is_run_alive', () => {
  test('believes in a session that is there, and no more when it is gone', async () => {
    const one = session();
    await startRun(one, 'load', 'run 1');
    expect(await alive()).toEqual([true]);
    await kill(one);
    expect(await alive()).toEqual([false]);
  });

  test('is not deceived by another session with the process number of a dead one', async () => {
    const one = session();
    await startRun(one, 'load', 'run 1');
    await sql`update public.pipeline_metadata set performance_metrics = performance_metrics || '{"backend_start": "2026-02-01T09:00:00+00:00"}'`;
    expect(await alive()).toEqual([false]);
  });

  test('reads the start of a session alike in every zone', async () => {
    const [one, two] = [session(), session()];
    await startRun(one, 'load', 'run 1');
    await two`set timezone = 'Asia/Tokyo'`;
    expect(await alive(two)).toEqual([true]);
  });

  test('lets a role that may not see when sessions began believe the process number', async () => {
    const one = session();
    const reader = session();
    await startRun(one, 'load', 'run 1');
    await reader`create role tidemark_test_reader`;
    try {
      await reader`grant usage on schema tidemark to tidemark_test_reader`;
      await reader`grant execute on function tidemark.is_run_alive to tidemark_test_reader`;
      await reader`grant select on public.pipeline_metadata to tidemark_test_reader`;
      await reader`set role tidemark_test_reader`;
      expect(
        await reader`select bool_and(backend_start is null) as is_blind from pg_stat_activity where usename <> current_user`,
      ).toEqual([{ is_blind: true }]);
      expect(await alive(reader)).toEqual([true]);
    } finally {
      await reader`reset role`;
      await reader`drop owned by tidemark_test_reader`;
      await reader`drop role tidemark_test_reader`;
    }
  });

  test('takes a run that names no session for dead', async () => {
    expect(
      await sql`select tidemark.is_run_alive(null) as no_metrics, tidemark.is_run_alive('{}') as no_session`,
    ).toEqual([{ no_metrics: false, no_session: false }]);
  });
});
