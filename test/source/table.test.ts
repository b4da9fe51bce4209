import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { connect, type Database } from '../../runner/base/database.js';
import { missingRight, readBeginning, readHorizon, readSnapshot } from '../../runner/source/horizon.js';
import { createSourceDatabase, type TestDatabase } from '../support/databases.js';
import { awaitFlush } from '../../runner/source/server.js';

let database: TestDatabase;
let source: Database;
let writer: Database;
beforeEach(async () => {
  database = await createSourceDatabase();
  source = connect(database.settings, 'extract');
  writer = connect(database.settings, 'writer');
  await database.sql`create table things (id integer primary key, touched timestamptz)`;
});
afterEach(async () => {
  for (const { gid } of await database.sql<
    { gid: string }[]
  >`select gid from pg_prepared_xacts where database = current_database()`)
    await database.sql.unsafe(`rollback prepared '${gid}'`);
  await source.end({ timeout: 1 });
  await writer.end({ timeout: 1 });
  await database.drop();
});

/** When the writer's transaction began, as others see it: asking the writer itself would give it a snapshot. */
const transactionStart = async () => {
  const [row] = await database.sql<{ start: string }[]>`
    select to_json(xact_start) #>> '{}' as start from pg_stat_activity where application_name = 'tidemark writer' and datname = current_database()`;
  return row?.start ?? '';
};

const gid = () => `test ${randomBytes(4).toString('hex')}`;

describe('the floor', () => {
  it('is the start of the oldest transaction that is open, whether it has written or not', async () => {
    await writer.unsafe('begin');
    const start = await transactionStart();
    expect((await readHorizon(source, undefined)).floor).toBe(start);
    await writer.unsafe('commit');
    const { floor, clock } = await readHorizon(source, undefined);
    expect({ floor }).toEqual({ floor: clock });
    expect(floor > start).toBe(true);
  });

  it('of a prepared transaction is that of the last poll that had not seen it, for as long as it is prepared', async () => {
    const before = await readHorizon(source, undefined);
    await writer.unsafe('begin');
    await writer`insert into things values (1, now())`;
    await writer.unsafe(`prepare transaction '${gid()}'`);
    const first = await readHorizon(source, { floor: before.floor, horizon: before });
    expect(first.floor).toBe(before.floor);
    const second = await readHorizon(source, { floor: first.clock, horizon: first });
    expect(second.floor).toBe(before.floor);
  });

  it('of a transaction that was prepared before the first poll has no bound', async () => {
    await writer.unsafe('begin');
    await writer`insert into things values (1, now())`;
    await writer.unsafe(`prepare transaction '${gid()}'`);
    expect((await readHorizon(source, undefined)).floor).toBe('-infinity');
  });
});

describe('a sweep', () => {
  const poll = async () => {
    const horizon = await readHorizon(source, undefined, 0);
    return { horizon, floor: horizon.floor, snapshot: await readSnapshot(source) };
  };

  it('need not look back to a transaction that is open still, and does once it has ended', async () => {
    await writer.unsafe('begin');
    await writer`insert into things values (1, now())`;
    const start = await transactionStart();
    const before = await poll();
    expect(before.horizon.open_transactions).toMatchObject([{ since: start }]);
    const whileOpen = await readBeginning(source, before.snapshot, before);
    expect(whileOpen.floor).toBe(before.horizon.floor_of_rest);
    await writer.unsafe('commit');
    const afterwards = await readBeginning(source, before.snapshot, before);
    expect(afterwards.floor).toBe(start);
  });

  it('looks back to a transaction that only may be open still: one that shows neither a number nor a snapshot', async () => {
    await writer.unsafe('begin');
    const start = await transactionStart();
    const before = await poll();
    expect((await readBeginning(source, before.snapshot, before)).floor).toBe(start);
  });

  it('looks back to a transaction whose session has begun another one since', async () => {
    await writer.unsafe('begin');
    await writer`insert into things values (1, now())`;
    const start = await transactionStart();
    const before = await poll();
    await writer.unsafe('commit and chain');
    await writer`insert into things values (2, now())`;
    expect((await readBeginning(source, before.snapshot, before)).floor).toBe(start);
    await writer.unsafe('commit');
  });

  it('looks back to a prepared transaction once it has ended', async () => {
    const earlier = await poll();
    const name = gid();
    await writer.unsafe('begin');
    await writer`insert into things values (1, now())`;
    await writer.unsafe(`prepare transaction '${name}'`);
    const horizon = await readHorizon(source, earlier, 0);
    const before = { horizon, floor: horizon.floor, snapshot: await readSnapshot(source) };
    expect((await readBeginning(source, before.snapshot, before)).floor).toBe(horizon.floor_of_rest);
    await writer.unsafe(`commit prepared '${name}'`);
    expect((await readBeginning(source, before.snapshot, before)).floor).toBe(earlier.floor);
  });
});

describe('a role that may not see when the transactions of others began', () => {
  it('counts them as blind, gets the clock, and is told what to grant', async () => {
    const role = `Reader ${randomBytes(4).toString('hex')}`;
    await database.sql.unsafe(`create role "${role}" login password 'x'`);
    const reader = connect({ ...database.settings, user: role, password: 'x' }, 'extract');
    await writer.unsafe('begin');
    const start = await transactionStart();
    const blind = await readHorizon(reader, undefined);
    expect(blind.blind_sessions).toBeGreaterThan(0);
    expect(blind.floor).toBe(blind.clock);
    const statement = await missingRight(reader);
    expect(statement).toBe(`grant pg_read_all_stats to "${role}"`);
    await database.sql.unsafe(statement ?? '');
    const seeing = await readHorizon(reader, undefined);
    expect(seeing).toMatchObject({ blind_sessions: 0, floor: start });
    expect(await missingRight(reader)).toBeUndefined();
    await reader.end();
    await writer.unsafe('commit');
    await database.sql.unsafe(`drop role "${role}"`);
  });

  it('because it does not inherit the right it was granted is told how to inherit it', async () => {
    const role = `reader_${randomBytes(4).toString('hex')}`;
    await database.sql.unsafe(`create role ${role} login noinherit password 'x'; grant pg_read_all_stats to ${role}`);
    const reader = connect({ ...database.settings, user: role, password: 'x' }, 'extract');
    expect((await readHorizon(reader, undefined)).blind_sessions).toBeGreaterThan(0);
    await database.sql.unsafe((await missingRight(reader)) ?? '');
    expect((await readHorizon(reader, undefined)).blind_sessions).toBe(0);
    await reader.end();
    await database.sql.unsafe(`drop role ${role}`);
  });

  it('counts a session as blind that does not track its activities', async () => {
    await writer`set track_activities = off`;
    expect((await readHorizon(source, undefined)).blind_sessions).toBe(1);
  });
});

describe('what was read', () => {
  it('is safe only once the source has flushed the commits that did not wait for it', async () => {
    await database.sql`alter system set wal_writer_delay = '10s'`;
    await database.sql`select pg_reload_conf()`;
    await writer`set synchronous_commit = off`;
    const isFlushed = async (position: string) =>
      (await writer<{ is: boolean }[]>`select pg_current_wal_flush_lsn() >= ${position}::pg_lsn as is`)[0]?.is;
    const commitAsynchronously = async () => {
      await writer`insert into things values (1, now())`;
      return (
        (await writer<{ position: string }[]>`select pg_current_wal_insert_lsn()::text as position`)[0]?.position ?? ''
      );
    };
    const position = await commitAsynchronously();
    expect(await isFlushed(position)).toBe(false);
    let isSafe = false;
    const waiting = awaitFlush(source).then(() => {
      isSafe = true;
    });
    for (let look = 0; look < 20; look += 1) expect([await isFlushed(position), isSafe]).toEqual([false, false]);
    await database.sql`insert into things values (2, now())`;
    await waiting;
    expect(await isFlushed(position)).toBe(true);
    await database.sql`alter system reset wal_writer_delay`;
    await database.sql`select pg_reload_conf()`;
  });
});
