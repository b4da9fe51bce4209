// Runs once
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Settings } from '../../runner/base/settings.js';
import { extractTables } from '../../runner/extract/tables.js';
import { loadTables } from '../../runner/load/tables.js';
import { captureTable } from '../../runner/operate/capture.js';
import { reconcileTables } from '../../runner/reconcile/tables.js';
import { readPosition, slotOf } from '../../runner/stream/position.js';
import { createPipeline, type TestPipeline } from '../support/databases.js';
import { streamTables } from '../../runner/stream/stream.js';
import { stream } from '../support/log.js';
import { propose, register, withDimensionsFolder } from '../support/registered.js';
import { testedVersion } from '../support/servers.js';
import { until } from '../support/wait.js';

let pipeline: TestPipeline;
let settings: Settings;
beforeAll(async () => {
  pipeline = await createPipeline();
  settings = await withDimensionsFolder(pipeline);
});
afterAll(async () => {
  await pipeline.source`select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = current_database()`;
  await pipeline.drop();
});

const source = (...statements: string[]) => pipeline.source.unsafe(statements.join(';\n'));
const hint = (text: string) => expect.objectContaining({ hint: expect.stringContaining(text) as string }) as Error;
/** What history has of a table, a version a line, in the order of keys and times. */
const history = async (table: string, columns: string) =>
  (
    await pipeline.warehouse.unsafe<{ line: string }[]>(
      `select concat_ws(' ', ${columns}, case when is_current then 'now' end) as line from dim_${table}_history order by 1, valid_from`,
    )
  ).map(({ line }) => line);

/** Registers a table for the log and hands it over. */
async function follow(table: string): Promise<void> {
  await register(settings, table, { capture: 'log', deletes: undefined });
  await captureTable(settings, table, 'log');
}

async function readAndLoad(table: string): Promise<Record<string, string>> {
  const { stopped } = await stream(pipeline);
  await loadTables({ settings, tables: [table] });
  return stopped;
}

describe('columns called as lines call members of their own', () => {
  const COLUMNS = `id integer primary key, unchanged boolean, unchanged_of jsonb, unreadable text[], commit integer, log text, changes json,
    batch_metadata text, sequence integer, line integer, t text, r text, c text, tidemark_slot text`;

  it('are kept of a table that is polled, each value as it is', async () => {
    await source(`create table members (${COLUMNS})`);
    await source(
      `insert into members values (1, true, '["big"]', '{"a"}', 7, 'x', '{"b": 1}', 'm', 3, 4, 't', 'r', 'c', 'k')`,
    );
    await register(settings, 'members');
    for (const unchanged of [null, false]) {
      await extractTables({ settings, tables: ['members'] });
      await loadTables({ settings, tables: ['members'] });
      await pipeline.source`update members set unchanged = ${unchanged}, unreadable = '{}'`;
    }
    expect(
      await history(
        'members',
        `unchanged, unchanged_of, unreadable, "commit", log, changes, batch_metadata, sequence, line, t, r, c, tidemark_slot`,
      ),
    ).toEqual([`["big"] {} 7 x {"b": 1} m 3 4 t r c k now`, `t ["big"] {a} 7 x {"b": 1} m 3 4 t r c k`]);
    const rejected = await pipeline.warehouse`select from tidemark.rejected_changes`;
    expect(rejected).toHaveLength(0);
  });

  it('are refused by name for the log, which says with them what it leaves out: when it is added, handed over, and later', async () => {
    const said = 'source table public.members has a column called unchanged or unchanged_of';
    const added = propose(settings, 'members', { capture: 'log', deletes: undefined, name: 'again' });
    await expect(added).rejects.toThrow(said);
    await expect(captureTable(settings, 'members', 'log')).rejects.toThrow(said);
    await expect(captureTable(settings, 'members', 'log')).rejects.toEqual(hint('leave it to polling'));
    expect(await pipeline.source`select from pg_publication`).toEqual([]);
    const [{ capture } = { capture: '' }] = await pipeline.warehouse<{ capture: string }[]>`
      select capture from tidemark.dimensions where dimension_name = 'members'`;
    expect(capture).toBe('poll');
    await expect(
      pipeline.warehouse`select tidemark.declare_capture(p_dimension_name => 'members', p_capture => 'log')`,
    ).rejects.toThrow('source column unchanged has a name that lines of the log use for themselves');
  });

  it.each(['operation_type', 'cdc_timestamp', 'extracted_at', 'tidemark_key'])(
    'are refused for either way: %s',
    async (name) => {
      await source(`create table has_${name} (id integer primary key, ${name} text)`);
      for (const capture of ['poll', 'log'] as const)
        await expect(
          propose(settings, `has_${name}`, { capture, deletes: capture === 'log' ? undefined : 'none' }),
        ).rejects.toEqual(hint(`leave it out with --ignore ${name}`));
    },
  );
});

describe('keys that change within a transaction', () => {
  it('pass on from row to row, change places, and come back: each row ends under its last key, and one that came back has not moved', async () => {
    await source(
      `create table passed (id integer primary key, who text); insert into passed values (1, 'a'), (2, 'b'), (3, 'c')`,
    );
    await follow('passed');
    const move = (from: number, to: number) => `update passed set id = ${String(to)} where id = ${String(from)}`;
    await source(move(3, 4), move(2, 3), move(1, 2));
    await source(move(2, -1), move(4, 2), move(-1, 4));
    await source(move(3, 9), move(9, 3));
    await readAndLoad('passed');
    expect(await history('passed', 'passed_key, who')).toEqual([
      ...['1 a', '2 a', '2 b', '2 c now', '3 b now', '3 c', '4 a now', '4 c'],
    ]);
  });
});

describe('the publication', () => {
  it('stops the tables whose changes it does not all send, also where it was put right meanwhile, and is mended by the hand-over', async () => {
    await source(`create table sent (id integer primary key, state text); insert into sent values (1, 'a')`);
    await follow('sent');
    const { publication } = slotOf(settings);
    const states = ['b', 'c', 'd', 'e'].values();
    const change = () => source(`update sent set state = '${states.next().value ?? ''}'`);
    const reasonOf = async () => (await stream(pipeline)).stopped.sent;
    await source(`alter publication ${publication} set (publish = 'insert')`);
    await change();
    await source(`alter publication ${publication} set (publish = 'insert, update, delete, truncate')`);
    expect(await reasonOf()).toContain('was taken out of the publication and put back, or that was altered');
    for (const altered of [
      "set (publish = 'delete')",
      'set table sent (id), passed',
      'set table sent where (id > 1), passed',
    ]) {
      await captureTable(settings, 'sent', 'log');
      await change();
      expect(await reasonOf()).toBeUndefined();
      await source(`alter publication ${publication} ${altered}`);
      expect(await reasonOf()).toBe('the publication sends some kinds of changes, rows or columns of sent only');
    }
    await loadTables({ settings, tables: ['sent'] });
    expect(await history('sent', 'state')).toEqual(['a', 'b', 'c', 'd', 'e now']);
  });

  it('stops them while a reader is at work, too', async () => {
    await captureTable(settings, 'sent', 'log');
    await captureTable(settings, 'passed', 'log');
    const ending = new AbortController();
    const reading = streamTables({
      ...{ settings: { ...settings, stream_heartbeat_seconds: 0.1 }, signal: ending.signal, isEndless: true },
    });
    const { slot, publication } = slotOf(settings);
    await until(async () => (await pipeline.source`select from pg_replication_slots where active`).length > 0);
    await source(`alter publication ${publication} set table only passed, only sent where (id > 1)`);
    await until(async () => {
      await source('update passed set who = who || who where id = 2');
      const position = await readPosition(settings.cdc_log_dir, slot);
      return position?.tables.sent?.stopped;
    });
    ending.abort();
    await reading;
  });
});

describe('a table of the log', () => {
  it('is one with its partitions: rows move between them; that one is truncated alone is not told, and found by comparison', async () => {
    await source(
      'create table parted (id integer, part integer, state text, primary key (id, part)) partition by list (part)',
      'create table part_1 partition of parted for values in (1)',
      'create table part_2 partition of parted for values in (2)',
    );
    await follow('parted');
    await source(`insert into parted values (1, 1, 'a'), (2, 2, 'a'), (3, 2, 'a')`);
    await source('update parted set part = 2 where id = 1', `update part_2 set state = 'b' where id = 3`);
    await source('update parted set part = 1 where id = 2');
    await readAndLoad('parted');
    const now = async () => (await history('parted', 'parted_key, part, state')).filter((line) => line.endsWith('now'));
    expect(await now()).toEqual(['1 2 a now', '2 1 a now', '3 2 b now']);
    await source('truncate part_2');
    await readAndLoad('parted');
    expect(await now()).toHaveLength(3);
    await reconcileTables({ settings, tables: ['parted'], repair: true, allowDeletes: true });
    expect(await now()).toEqual(['2 1 a now']);
    await source('truncate parted');
    await readAndLoad('parted');
    expect(await now()).toEqual([]);
  });

  it('is emptied with another that it references, by one statement', async () => {
    await source(
      'create table heads (id integer primary key, state text)',
      'create table tails (id integer primary key, head integer references heads)',
    );
    for (const table of ['heads', 'tails']) await follow(table);
    await source(`insert into heads values (1, 'a')`, 'insert into tails values (7, 1)');
    await source('truncate heads cascade', `insert into heads values (2, 'b')`);
    await readAndLoad('heads');
    await readAndLoad('tails');
    expect(await history('heads', 'head_key, state')).toEqual(['1 a', '2 b now']);
    expect(await history('tails', 'tail_key, head')).toEqual(['7 1']);
  });

  it('may be altered between two changes of one transaction: columns added, widened, dropped, and two that swap their names', async () => {
    await source(
      `create table altered (id integer primary key, a text, b text, code varchar(3)); insert into altered values (1, 'a', 'b', 'c')`,
    );
    await follow('altered');
    await source(
      `update altered set code = 'c1'`,
      'alter table altered add column extra text',
      `update altered set extra = 'x', code = 'c2'`,
      'alter table altered alter column code type varchar(9)',
      `insert into altered values (2, 'a2', 'b2', 'c3456', 'x')`,
      'alter table altered drop column extra',
      'alter table altered rename column a to z',
      'alter table altered rename column b to a',
      'alter table altered rename column z to b',
      `insert into altered (id, a, b, code) values (3, 'is a', 'is b', 'c')`,
      `update altered set code = 'c4' where id = 1`,
    );
    expect((await readAndLoad('altered')).altered).toBeUndefined();
    expect(await history('altered', 'altered_key, a, b, code')).toEqual([
      ...['1 a b c', '1 b a c4 now', '2 a2 b2 c3456 now', '3 is a is b c now'],
    ]);
  });

  it.runIf(Number(testedVersion()) >= 18)(
    'has generated columns that are left out, and stay so where the publication sends them',
    async () => {
      await source(
        'create table made (id integer primary key, state text, twice integer generated always as (id * 2) stored)',
      );
      await register(settings, 'made', { capture: 'log', deletes: undefined, ignore: ['twice'] });
      await source(`alter publication ${slotOf(settings).publication} set (publish_generated_columns = stored)`);
      await captureTable(settings, 'made', 'log');
      await source(`insert into made values (1, 'a')`, `update made set state = 'b'`);
      await source(`delete from made`);
      expect((await readAndLoad('made')).made).toBeUndefined();
      expect(await history('made', 'made_key, state')).toEqual(['1 b']);
    },
  );

  it('stops alone where history does not take its type, and comes back by the hand-over, with its last states', async () => {
    await source(`create table typed (id integer primary key, n integer); insert into typed values (1, 1), (2, 2)`);
    await follow('typed');
    await source('alter table typed alter column n type text', `update typed set n = 'many' where id = 1`);
    expect((await readAndLoad('typed')).typed).toContain('columns of public.typed have another type now');
    await source('delete from typed where id = 2');
    await source(`update typed set n = '3'`, 'alter table typed alter column n type integer using n::integer');
    await captureTable(settings, 'typed', 'log');
    await source('update typed set n = 4');
    expect((await readAndLoad('typed')).typed).toBeUndefined();
    expect(await history('typed', 'typed_key, n')).toEqual(['1 1', '1 3', '1 4 now', '2 2 now']);
    await reconcileTables({ settings, tables: ['typed'], repair: true, allowDeletes: true });
    expect((await history('typed', 'typed_key, n')).at(-1)).toBe('2 2');
  });
});
