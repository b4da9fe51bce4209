import { beforeEach, describe, expect, it } from 'vitest';
import { lsnOf } from '../../runner/base/replication.js';
import { newestCheckpoint, openChangeLog } from '../../runner/change-log/chain.js';
import { readPosition, slotOf, writePosition } from '../../runner/stream/position.js';
import { beginFollowing } from '../../runner/stream/start.js';
import { streamTables } from '../../runner/stream/stream.js';
import { beginEach, type TestPipeline } from '../support/databases.js';
import { until } from '../support/wait.js';
import { changesIn, followLog, loggedBatches, publishForLog, registerThings, rowOf, stream } from '../support/log.js';

let pipeline: TestPipeline;
beginEach(
  (begun) => {
    pipeline = begun;
  },
  async () => {
    await registerThings(pipeline, 'things', 'others');
    await publishForLog(pipeline, 'things', 'others');
  },
);
beforeEach(() => followLog(pipeline, 'things', 'others'));

/** Runs statements as one transaction. */
const transaction = (...statements: string[]) => pipeline.source.unsafe(statements.join(';\n'));
const batches = (table = 'things') => loggedBatches(pipeline, table);
const changes = async (table = 'things') => changesIn(await batches(table));
const position = () => readPosition(pipeline.settings.cdc_log_dir, slotOf(pipeline.settings).slot);
const confirmed = async () => {
  const [row] = await pipeline.source<{ at: string }[]>`
    select confirmed_flush_lsn::text as at from pg_replication_slots where slot_name = ${slotOf(pipeline.settings).slot}`;
  return row?.at;
};

describe('the log is read', () => {
  it('change by change, those of a transaction with one capture time, and each commit later than the one before', async () => {
    await transaction(
      `insert into things values (1, 'one'), (2, 'two')`,
      `update things set state = 'one more' where id = 1`,
    );
    await transaction('delete from things where id = 2', `insert into others values (1, 'other')`);
    await transaction(`update things set id = 3 where id = 1`);
    const done = await stream(pipeline);
    expect(await changes()).toEqual([
      'INSERT 1 one',
      'INSERT 2 two',
      'UPDATE 1 one more',
      'DELETE 2',
      'DELETE 1',
      'INSERT 3 one more',
    ]);
    expect(await changes('others')).toEqual(['INSERT 1 other']);
    const lines = (await batches()).flatMap((batch) => batch.changes);
    const times = lines.map(({ extracted_at: at }) => String(at));
    expect(new Set(times.slice(0, 3)).size).toBe(1);
    expect([...new Set(times)]).toHaveLength(3);
    expect([...times].sort()).toEqual(times);
    expect(lines.every(({ cdc_timestamp, extracted_at }) => cdc_timestamp === extracted_at)).toBe(true);
    const [other] = (await batches('others'))[0]?.changes ?? [];
    expect(other?.extracted_at).toBe(times[3]);
    expect(done).toMatchObject({ changes: 7, stopped: {} });
    expect(await confirmed()).toBe((await position())?.to);
    expect((await position())?.to).toBe(done.to);
  });

  it('once: what was read is not read again', async () => {
    await transaction(`insert into things values (1, 'one')`);
    await stream(pipeline);
    await transaction(`insert into things values (2, 'two')`);
    expect((await stream(pipeline)).changes).toBe(1);
    expect(await changes()).toEqual(['INSERT 1 one', 'INSERT 2 two']);
    expect((await stream(pipeline)).changes).toBe(0);
  });

  it('of other tables only as far as it has come', async () => {
    const before = await confirmed();
    await transaction(
      'create table foreign_table (id integer)',
      'insert into foreign_table select generate_series(1, 1000)',
    );
    await stream(pipeline);
    expect(await batches()).toEqual([]);
    expect(lsnOf((await confirmed()) ?? '') > lsnOf(before ?? '')).toBe(true);
  });

  it('with keys that change places, rows that come back, and nothing of what was rolled back', async () => {
    await transaction(`insert into things values (1, 'one'), (2, 'two')`);
    await transaction(
      'update things set id = -1 where id = 1',
      'update things set id = 1 where id = 2',
      'update things set id = 2 where id = -1',
    );
    await transaction('delete from things where id = 1', `insert into things values (1, 'new')`);
    await transaction(
      `do $$ begin insert into things values (9, 'never'); raise exception 'x'; exception when others then null; end $$`,
      `insert into things values (3, 'three')`,
    );
    await stream(pipeline);
    expect((await changes()).slice(2)).toEqual([
      ...['DELETE 1', 'INSERT -1 one', 'DELETE 2', 'INSERT 1 two', 'DELETE -1', 'INSERT 2 one'],
      ...['DELETE 1', 'INSERT 1 new', 'INSERT 3 three'],
    ]);
  });

  it('without large values that were not touched, which are named, with the key that they are found under', async () => {
    await transaction('alter table things alter column state set storage external');
    await transaction(`insert into things values (1, repeat('x', 5000))`);
    await transaction('update things set id = 5');
    await transaction('update things set id = 5');
    await transaction('alter table things replica identity full', 'update things set id = 6');
    await stream(pipeline);
    const all = await batches();
    expect(all.flatMap((batch) => batch.changes.map(rowOf))).toEqual([
      { id: 1, state: 'x'.repeat(5000), operation_type: 'INSERT' },
      { id: 1, operation_type: 'DELETE' },
      { id: 5, operation_type: 'INSERT', unchanged: ['state'], unchanged_of: { id: 1 } },
      { id: 5, operation_type: 'UPDATE', unchanged: ['state'] },
      { id: 5, operation_type: 'DELETE' },
      { id: 6, state: 'x'.repeat(5000), operation_type: 'INSERT' },
    ]);
    expect(all.reduce((sum, { batch_metadata: { log } }) => sum + log.unchanged, 0)).toBe(2);
  });

  it('with a large transaction in parts, which have one capture time and say how far they go', async () => {
    await transaction(`insert into things values (0, 'small')`);
    await transaction(
      `insert into things select g, 'large' from generate_series(1, 25) as g`,
      `insert into others values (1, 'large')`,
    );
    await transaction(`insert into things values (26, 'small')`);
    await stream(pipeline, { batch_size_max: 10 });
    const all = await batches();
    expect((await changes()).map((change) => Number(change.split(' ')[1]))).toEqual(
      Array.from({ length: 27 }, (_, id) => id),
    );
    expect(all.every(({ changes: lines }) => lines.length <= 10)).toBe(true);
    const parts = all.filter(({ batch_metadata: { log } }) => log.inside !== null);
    expect(parts.length).toBeGreaterThan(1);
    expect(
      new Set(
        all
          .flatMap((batch) => batch.changes)
          .slice(1, 26)
          .map(({ extracted_at: at }) => at),
      ).size,
    ).toBe(1);
    expect(parts.map(({ batch_metadata: { log } }) => log.inside?.changes)).toEqual(
      parts.map((_, index) => parts.slice(0, index + 1).reduce((sum, { changes: lines }) => sum + lines.length, 0)),
    );
  });

  it('from after the snapshot of the sweep before it', async () => {
    const { slot } = slotOf(pipeline.settings);
    const [early, late] = [await pipeline.source.reserve(), await pipeline.source.reserve()];
    await early.unsafe(`begin; insert into things values (1, 'seen')`);
    await late.unsafe(`begin; insert into things values (2, 'open')`);
    await early.unsafe('commit');
    const [row] = await pipeline.source<{ snapshot: string }[]>`select pg_current_snapshot()::text as snapshot`;
    const [end] = await pipeline.source<{ until: string }[]>`select pg_current_wal_insert_lsn()::text as until`;
    await late.unsafe('commit');
    for (const session of [early, late]) session.release();
    await transaction(`insert into things values (3, 'later')`);
    const log = await openChangeLog(pipeline.settings.cdc_log_dir, 'things');
    const newest = await newestCheckpoint(log);
    if (newest?.log == null) throw new Error('it does not say where');
    const after = { snapshot: row?.snapshot ?? '', until: end?.until ?? '' };
    await beginFollowing(log, newest, { slot, to: newest.log.to, after, gap: null });
    await stream(pipeline);
    expect(await changes()).toEqual(['INSERT 2 open', 'INSERT 3 later']);
    expect((await batches()).at(-1)?.batch_metadata.log.after).toBeNull();
  });

  it('but for what came from an origin that is left out', async () => {
    const name = `${pipeline.admin.source.database}_elsewhere`;
    const session = await pipeline.source.reserve();
    await session`select pg_replication_origin_create(${name})`;
    await session`select pg_replication_origin_session_setup(${name})`;
    await session`insert into things values (1, 'from elsewhere')`;
    await session`select pg_replication_origin_session_reset()`;
    session.release();
    await transaction(`insert into things values (2, 'own')`);
    await stream(pipeline, { stream_exclude_origins: `other, ${name}` });
    expect(await changes()).toEqual(['INSERT 2 own']);
    await pipeline.source`select pg_replication_origin_drop(${name})`;
  });
});

describe('a table that is altered', () => {
  it('goes on with its mapped columns, within a transaction too', async () => {
    await transaction(
      `insert into things values (1, 'before')`,
      'alter table things add column secret text',
      `insert into things values (2, 'after', 'secret')`,
      'alter table things drop column secret',
      `insert into things values (3, 'at last')`,
    );
    await stream(pipeline);
    expect(await changes()).toEqual(['INSERT 1 before', 'INSERT 2 after', 'INSERT 3 at last']);
    const times = (await batches()).flatMap((batch) => batch.changes.map(({ extracted_at: at }) => at));
    expect(new Set(times).size).toBe(1);
  });

  it.each([
    ['lacks a column', 'alter table things drop column state', 'lacks columns that its mapping names: state'],
    ['has another name', 'alter table things rename to items', 'source table public.things is called public.items now'],
    [
      'is another one',
      'alter table things rename to items; create table things (like items including all); alter publication PUB drop table items; alter publication PUB add table things',
      'things was taken out of the publication and put back',
    ],
    [
      'has a column that does not fit',
      `alter table things alter column state type integer using 7; alter table things alter column id type text`,
      'columns of public.things have another type now, which does not fit into history',
    ],
    [
      'lost the identity of its key',
      'alter table things replica identity nothing; alter table things replica identity full; alter table things drop constraint things_pkey; create unique index i on things (state); alter table things alter column state set not null; alter table things replica identity using index i',
      'the replica identity of public.things does not hold its business key',
    ],
  ])('stops alone, by name, where it %s, and the others go on', async (_, statements, message) => {
    await transaction(`insert into things values (1, 'before')`);
    await transaction(`insert into others values (1, 'before')`);
    await stream(pipeline);
    await pipeline.source.unsafe(statements.replaceAll('PUB', slotOf(pipeline.settings).publication));
    const [table] = await pipeline.source<
      { name: string }[]
    >`select coalesce(to_regclass('things'), to_regclass('items'))::text as name`;
    await pipeline.source.unsafe(
      `insert into ${table?.name ?? ''} select (json_populate_record(null::${table?.name ?? ''}, '{"id": 2, "state": "3"}')).*`,
    );
    await transaction(`insert into others values (2, 'after')`);
    expect((await stream(pipeline)).stopped.things).toContain(message);
    expect(await changes()).toEqual(['INSERT 1 before']);
    expect(await changes('others')).toEqual(['INSERT 1 before', 'INSERT 2 after']);
    await transaction(`insert into others values (3, 'later')`);
    expect((await stream(pipeline)).stopped.things).toContain(message);
    expect(await changes('others')).toHaveLength(3);
    expect(await confirmed()).toBe((await position())?.to);
  });

  it('is emptied by a batch of its own, or stops where that is asked for', async () => {
    await transaction(
      `insert into things values (1, 'one')`,
      'truncate things, others',
      `insert into things values (2, 'two')`,
    );
    await stream(pipeline);
    expect((await batches()).map(({ changes: lines }) => lines.map(({ operation_type: each }) => each))).toEqual([
      ['INSERT'],
      ['TRUNCATE'],
      ['INSERT'],
    ]);
    expect(Object.keys((await batches('others'))[0]?.changes[0] ?? {})).toEqual([
      'operation_type',
      'cdc_timestamp',
      'extracted_at',
    ]);
    await transaction('truncate things');
    const { stopped } = await stream(pipeline, { stream_on_truncate: 'stop' });
    expect(stopped.things).toBe('source table public.things was truncated');
    expect(await batches()).toHaveLength(3);
  });
});

describe('what is not in the log any more', () => {
  it('is said of each table by name, when the slot was moved on by hand', async () => {
    await transaction(`insert into things values (1, 'lost')`);
    await pipeline.source`select pg_replication_slot_advance(${slotOf(pipeline.settings).slot}, pg_current_wal_lsn())`;
    await transaction(`insert into others values (1, 'after')`);
    const { stopped } = await stream(pipeline);
    expect(stopped.things).toMatch(/^changes of things between [0-9A-F/]+ and [0-9A-F/]+ are not in the log any more$/);
    expect(Object.keys(stopped).sort()).toEqual(['others', 'things']);
    expect(await changes('others')).toEqual([]);
  });

  it('is said of a table that was taken out of the publication, and put back', async () => {
    const { publication } = slotOf(pipeline.settings);
    await stream(pipeline);
    await transaction(`alter publication ${publication} drop table things`);
    await transaction(`insert into things values (1, 'lost')`);
    expect((await stream(pipeline)).stopped).toEqual({ things: 'things is not in the publication any more' });
    await transaction(`alter publication ${publication} drop table others`);
    await transaction(`alter publication ${publication} add table things, others`);
    await transaction(`insert into others values (1, 'after')`);
    expect(Object.keys((await stream(pipeline)).stopped).sort()).toEqual(['others', 'things']);
  });

  it('is said of the publication, and of the slot', async () => {
    const { slot, publication } = slotOf(pipeline.settings);
    await transaction(`drop publication ${publication}`);
    await expect(stream(pipeline)).rejects.toThrow(`the source has no publication ${publication}`);
    await expect(stream(pipeline, { stream_slot: 'nowhere' })).rejects.toThrow(
      'the source has no replication slot nowhere',
    );
    await pipeline.source`select pg_drop_replication_slot(${slot})`;
    await expect(stream(pipeline)).rejects.toThrow(`the source has no replication slot ${slot}`);
  });
});

describe('the session of the reader', () => {
  const running = (overrides = {}) => {
    const controller = new AbortController();
    const ended = streamTables({
      settings: { ...pipeline.settings, ...overrides },
      signal: controller.signal,
      isEndless: true,
    });
    ended.catch(() => undefined);
    return {
      ended,
      stop: () => {
        controller.abort();
        return ended;
      },
    };
  };
  const reader = async () => {
    const [row] = await pipeline.source<{ active_pid: number | null }[]>`
      select active_pid from pg_replication_slots where slot_name = ${slotOf(pipeline.settings).slot}`;
    return row?.active_pid ?? undefined;
  };

  it('may be ended by the server: it goes on with another, and loses nothing', async () => {
    const { stop } = running();
    await until(async () => (await reader()) !== undefined);
    await transaction(`insert into things values (1, 'one')`);
    await until(async () => (await changes()).length === 1);
    const pid = await reader();
    await pipeline.source`select pg_terminate_backend(${pid ?? 0})`;
    await transaction(`insert into things values (2, 'two')`);
    await until(async () => (await changes()).length === 2);
    await stop();
    expect(await changes()).toEqual(['INSERT 1 one', 'INSERT 2 two']);
  });

  it('is alone: one that was taken for dead, and finds that another has gone on, ends', async () => {
    const { ended } = running();
    await until(async () => (await reader()) !== undefined);
    await transaction(`insert into things values (1, 'one')`);
    const noted = await until(async () => ((await changes()).length === 1 ? position() : undefined));
    await writePosition(pipeline.settings.cdc_log_dir, { ...noted, to: 'FF/0' }, lsnOf('FF/0'));
    await transaction(`insert into things values (2, 'two')`);
    await expect(ended).rejects.toThrow('another reader of the log has gone on: FF/0');
    expect((await position())?.to).toBe('FF/0');
  });

  it('is alone: another reader is told who holds the slot', async () => {
    const { stop } = running();
    await until(async () => (await reader()) !== undefined);
    await expect(stream(pipeline)).rejects.toThrow(
      `another reader holds the replication slot ${slotOf(pipeline.settings).slot}`,
    );
    await stop();
  });
});
