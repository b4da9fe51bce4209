import { readFile, readdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { ReservedSql } from 'postgres';
import { afterEach, describe, expect, it } from 'vitest';
import type { Settings } from '../../runner/base/settings.js';
import { extractTables } from '../../runner/extract/tables.js';
import { reconcileTables } from '../../runner/reconcile/tables.js';
import { parseShard } from '../../runner/batch/shard.js';
import { describeTable } from '../../runner/source/table.js';
import { dimensionMappings } from '../../runner/warehouse/functions.js';
import { rewind } from '../../runner/operate/watermark.js';
import { beginEach, type TestPipeline } from '../support/databases.js';
import { batchesOf, captured, createThings } from '../support/extraction.js';
import { createParcels } from '../support/shards.js';
import { until } from '../support/wait.js';
import { loadTables } from '../../runner/load/tables.js';

/** One watching process, as it were: the memory lives with its settings. A margin of nothing: what is read again is so for transactions alone. */
let pipeline: TestPipeline;
let settings: Settings;
let open: (() => Promise<void>)[];
beginEach(
  (begun) => {
    pipeline = begun;
    settings = begun.settings;
    open = [];
  },
  () => createThings(pipeline),
  { BATCH_SIZE: '10', BATCH_SIZE_MAX: '10', WATERMARK_ADVANCE_SECONDS: '0' },
);
afterEach(async () => {
  delete process.env.TIDEMARK_FAILPOINT;
  for (const end of open) await end();
});

async function poll(by: Settings = settings, full = false) {
  const [result] = await extractTables({ settings: by, tables: ['things'], full });
  if (result === undefined) throw new Error('no result');
  return result;
}

const load = () => loadTables({ settings, tables: ['things'] });
const numbers = (first: number, last: number) => Array.from({ length: last - first + 1 }, (_, index) => first + index);
const states = (first: number, last: number, state: string) =>
  numbers(first, last).map((id) => `${String(id)} ${state}`);
const checkpoints = async () => (await readdir(path.join(settings.cdc_log_dir, 'things', 'checkpoints'))).length;

const insert = (first: number, last: number, state = 'new') => pipeline.source`
  insert into things select g, ${state}, clock_timestamp() from generate_series(${first}::integer, ${last}::integer) as g`;

/** Begins a transaction that has a number, and does nothing until it is told. */
async function openTransaction(): Promise<{ session: ReservedSql; commit: () => Promise<void> }> {
  const session = await pipeline.source.reserve();
  await session`begin`;
  await session`select pg_current_xact_id()`;
  const commit = async () => {
    open = open.filter((end) => end !== commit);
    await session`commit`;
    session.release();
  };
  open.push(commit);
  return { session, commit };
}

describe('when a long transaction ends', () => {
  it('what it wrote is captured, and nothing is written again that was written while it was open', async () => {
    const { session, commit } = await openTransaction();
    await session`insert into things values (0, 'long', now()), (99, 'long', clock_timestamp() + interval '1 second')`;
    for (const [first, last] of [
      [1, 3],
      [4, 27],
      [28, 28],
    ] as const) {
      await insert(first, last);
      expect(await poll()).toMatchObject({ changes: last - first + 1 });
    }
    await commit();
    expect(await poll()).toMatchObject({ changes: 2 });
    expect(await captured(pipeline)).toEqual([...states(1, 28, 'new'), '0 long', '99 long']);
    expect(await poll()).toMatchObject({ changes: 0 });
  });

  it('having written nothing, one checkpoint says so, and the polls after it are quiet', async () => {
    const { commit } = await openTransaction();
    await insert(1, 10);
    await poll();
    await commit();
    const before = await checkpoints();
    expect(await poll()).toMatchObject({ batches: 0, changes: 0 });
    expect(await checkpoints()).toBe(before + 1);
    expect([await poll(), await poll()]).toMatchObject([{ changes: 0 }, { changes: 0 }]);
    expect(await checkpoints()).toBe(before + 1);
  });

  it('while another one is still open, what was written is known still when that one ends', async () => {
    const [older, newer] = [await openTransaction(), await openTransaction()];
    await insert(1, 5);
    await poll();
    await newer.commit();
    expect(await poll()).toMatchObject({ changes: 0 });
    await insert(6, 6);
    expect(await poll()).toMatchObject({ changes: 1 });
    await older.commit();
    expect(await poll()).toMatchObject({ changes: 0 });
    expect(await captured(pipeline)).toEqual(states(1, 6, 'new'));
  });

  it('rows that were written once more since, by it or by others, are captured', async () => {
    const { session, commit } = await openTransaction();
    await insert(1, 5);
    await poll();
    await pipeline.source`update things set state = 'again' where id = 1`;
    expect(await poll()).toMatchObject({ changes: 1 });
    await pipeline.source`update things set state = 'a third time', touched = clock_timestamp() where id = 2`;
    await session`update things set state = 'by the long one' where id = 3`;
    await pipeline.source`delete from things where id = 4`;
    await insert(4, 4);
    await commit();
    await poll();
    expect(new Set((await captured(pipeline)).slice(5))).toEqual(
      new Set(['1 again', '2 a third time', '3 by the long one', '4 new']),
    );
    expect(await captured(pipeline)).toHaveLength(9);
  });

  it('rows without an effective time are not repeated either, nor any row by a full sweep that is due', async () => {
    settings = { ...settings, full_sweep_interval_seconds: 0 };
    await poll();
    const { commit } = await openTransaction();
    await pipeline.source`insert into things select g, 'undated', null from generate_series(1, 12) as g`;
    await insert(13, 20);
    expect(await poll()).toMatchObject({ changes: 20 });
    await pipeline.source`update things set state = 'hidden by its time' where id in (5, 15)`;
    await commit();
    expect(await poll()).toMatchObject({ changes: 2 });
    expect((await captured(pipeline)).slice(20).sort()).toEqual(['15 hidden by its time', '5 hidden by its time']);
  });

  it('a page whose rows are all known but for one that is too large for a batch ends before it, and the large one travels alone', async () => {
    settings = { ...settings, batch_max_bytes: 2048 };
    const { session, commit } = await openTransaction();
    await insert(1, 5);
    await poll();
    await session`insert into things values (6, repeat('x', 3000), clock_timestamp()), (7, 'small', clock_timestamp())`;
    await commit();
    expect(await poll()).toMatchObject({ changes: 2, batches: 2 });
    expect((await batchesOf(pipeline)).slice(-2).map(({ changes }) => changes.map(({ id }) => id))).toEqual([[6], [7]]);
  });

  it('each shard knows what it has written, and a row that moved to another shard is written there', async () => {
    await createParcels(pipeline);
    const extract = async () => {
      let changes = 0;
      for (const shard of ['1/region:north', '2/region:north'])
        for (const result of await extractTables({ settings, tables: ['parcels'], shard: parseShard(shard) }))
          changes += result.changes;
      return changes;
    };
    const { commit } = await openTransaction();
    await pipeline.source`insert into parcels select 'a', g, (array['east', 'west'])[1 + g % 2], 'new', clock_timestamp() from generate_series(1, 24) as g`;
    expect(await extract()).toBe(24);
    await pipeline.source`update parcels set region = case region when 'east' then 'west' else 'east' end where id in (1, 2)`;
    await commit();
    expect(await extract()).toBe(2);
  });
});

it('what no older transaction was open for is not remembered: nothing will read it again', async () => {
  await insert(1, 2);
  const [{ xmin } = { xmin: '' }] = await pipeline.source<{ xmin: string }[]>`select xmin::text from things limit 1`;
  const mapping = (await dimensionMappings(pipeline.warehouse)).find(
    ({ dimension_name }) => dimension_name === 'things',
  );
  if (mapping === undefined) throw new Error('not registered');
  const { first_page } = await describeTable(pipeline.source, mapping);
  const memoryAfter = async (oldestOpen: bigint, known = '[]') => {
    const snapshot = `${String(oldestOpen)}:${String(BigInt(xmin) + 9n)}:${String(oldestOpen)}`;
    const bounds = [
      null,
      null,
      '0',
      xmin,
      String(BigInt(xmin) + 9n),
      '10',
      '1000',
      '2026-02-01 00:00:00+00',
      'infinity',
      known,
      snapshot,
    ];
    return (await pipeline.source.unsafe<{ known_rows: string; change_count: number }[]>(first_page, bounds))[0];
  };
  expect(await memoryAfter(BigInt(xmin) + 1n)).toMatchObject({ known_rows: '[]', change_count: 2 });
  const remembered = await memoryAfter(BigInt(xmin) - 1n);
  expect(JSON.parse(remembered?.known_rows ?? '')).toEqual(
    ['1', '2'].map((id) => [[id], Number(xmin), expect.any(String) as string]),
  );
  expect(await memoryAfter(BigInt(xmin) - 1n, remembered?.known_rows)).toEqual({
    ...remembered,
    change_count: 0,
    rows_read: 2,
    lines: null,
    newest_writer: null,
  });
});

describe('what was not published is not known', () => {
  it('a page that failed between its reading and its publication is read and written again', async () => {
    const { commit } = await openTransaction();
    await insert(1, 3);
    await poll();
    await insert(4, 6);
    process.env.TIDEMARK_FAILPOINT = 'flushed:1:EIO';
    await expect(poll()).rejects.toThrow('EIO: failpoint flushed');
    delete process.env.TIDEMARK_FAILPOINT;
    expect(await poll()).toMatchObject({ changes: 3 });
    await commit();
    expect(await poll()).toMatchObject({ changes: 0 });
    expect(await captured(pipeline)).toEqual(states(1, 6, 'new'));
  });

  it('a page that lost its race is read again, with all that may be new to the winner', async () => {
    const { session, commit } = await openTransaction();
    await insert(1, 3);
    await poll();
    await session`insert into things values (4, 'long', clock_timestamp())`;
    await commit();
    const blocker = await openTransaction();
    await blocker.session`lock table things`;
    const extraction = poll();
    await until(
      async () =>
        (await pipeline.source`select from pg_locks where not granted and relation = 'things'::regclass`).length > 0,
    );
    await rewind(settings, 'things', { sequence: await checkpoints() });
    await blocker.commit();
    expect(await extraction).toMatchObject({ changes: 4 });
    expect(await captured(pipeline)).toEqual([...states(1, 3, 'new'), ...states(1, 3, 'new'), '4 long']);
    expect(await poll()).toMatchObject({ changes: 0 });
  });
});

describe('repeats come, and are absorbed,', () => {
  it('after a restart: the memory is that of a process', async () => {
    const { commit } = await openTransaction();
    await insert(1, 15);
    await poll();
    await commit();
    expect(await poll({ ...settings })).toMatchObject({ changes: 15 });
    expect(await load()).toMatchObject([{ inserted_versions: 15, absorbed_changes: 15 }]);
  });

  it('of what is more than the memory holds: the newest 10,000 rows, none with a key of more than 100 bytes', async () => {
    settings = { ...settings, batch_size: 20_000, batch_size_max: 20_000 };
    const { commit } = await openTransaction();
    await insert(1, 300);
    await insert(301, 10_300);
    expect(await poll()).toMatchObject({ changes: 10_300 });
    await commit();
    expect(await poll()).toMatchObject({ changes: 300 });
    expect((await captured(pipeline)).slice(10_300)).toEqual(states(1, 300, 'new'));
    expect(await load()).toMatchObject([{ inserted_versions: 10_300, absorbed_changes: 300 }]);

    await createParcels(pipeline);
    const parcels = () => extractTables({ settings, tables: ['parcels'] });
    const another = await openTransaction();
    await pipeline.source`insert into parcels values (repeat('x', 90), 1, 'east', 'new', now()), (repeat('x', 91), 12, 'east', 'new', now())`;
    expect(await parcels()).toMatchObject([{ changes: 2 }]);
    await another.commit();
    expect(await parcels()).toMatchObject([{ changes: 1 }]);
  });
});

describe('the memory is forgotten', () => {
  /** Ends a transaction that was open while `between` happened: how many of the ten rows that were written before are written again. */
  async function repeatsAfter(between: () => Promise<unknown>): Promise<number> {
    const { commit } = await openTransaction();
    await insert(1, 10);
    await poll();
    await between();
    await commit();
    return (await poll()).changes;
  }

  it('by a rewind', async () => {
    expect(await repeatsAfter(async () => rewind(settings, 'things', { sequence: 1 }))).toBe(10);
  });

  it('by "extract --full", which writes every row, and begins a new one', async () => {
    expect(await repeatsAfter(async () => expect(await poll(settings, true)).toMatchObject({ changes: 10 }))).toBe(0);
    expect(await captured(pipeline)).toHaveLength(20);
  });

  it('where another process has written to the chain', async () => {
    expect(await repeatsAfter(() => poll({ ...settings, heartbeat_seconds: 0 }))).toBe(10);
  });

  it('where the source became another server, once a repair lets extraction go on', async () => {
    expect(
      await repeatsAfter(async () => {
        const newest = path.join(settings.cdc_log_dir, 'things', 'checkpoints', `${String(await checkpoints())}.json`);
        await writeFile(
          newest,
          (await readFile(newest, 'utf8')).replace(/"system_identifier": "\d+"/, '"system_identifier": "42"'),
        );
        await expect(poll()).rejects.toThrow('the source is not the database this change log was extracted from');
        await load();
        await reconcileTables({ settings, tables: ['things'], repair: true, allowDeletes: false });
      }),
    ).toBe(10);
  });

  it("where the rows of a key are another table's by now, though one transaction wrote both", async () => {
    await pipeline.source.unsafe(`
      drop table things;
      create table things (id integer primary key, state text, touched timestamptz) partition by range (id);
      create table here partition of things for values from (1) to (50);
      create table there (like here including all)`);
    const { commit } = await openTransaction();
    await pipeline.source.unsafe(
      `insert into here values (1, 'here', now()), (2, 'here', now()); insert into there values (1, 'there', now())`,
    );
    await poll();
    await pipeline.source.unsafe(
      'alter table things detach partition here; alter table things attach partition there for values from (1) to (50)',
    );
    await commit();
    expect(await poll()).toMatchObject({ changes: 1 });
    expect((await captured(pipeline)).at(-1)).toBe('1 there');
  });

  it('where rows are read in another way, as when a column was mapped', async () => {
    expect(
      await repeatsAfter(async () => {
        await load();
        await pipeline.source`alter table things add column colour text default 'blue'`;
        await pipeline.warehouse`alter table dim_things_history add column colour text`;
        await pipeline.warehouse`select tidemark.add_dimension_column(p_dimension_name => 'things', p_source => 'colour', p_history => 'colour', p_role => 'tracked')`;
      }),
    ).toBe(10);
    expect(JSON.stringify(await batchesOf(pipeline))).toContain('blue');
  });
});
