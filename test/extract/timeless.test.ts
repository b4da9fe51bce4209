import { describe, expect, it } from 'vitest';
import type { Settings } from '../../runner/base/settings.js';
import { extractTables } from '../../runner/extract/tables.js';
import type { Registration } from '../../runner/registration/plan.js';
import { loadTables } from '../../runner/load/tables.js';
import { verifyTables } from '../../runner/load/replay.js';
import { runChecks } from '../../runner/warehouse/checks.js';
import { beginEach, type TestPipeline } from '../support/databases.js';
import { register, withDimensionsFolder } from '../support/registered.js';
import { loadAll, sourceAndHistory } from '../support/timeless.js';

/** Tables that do not say when a row changed: found by transactions, and valid from their capture. */
let pipeline: TestPipeline;
let settings: Settings;
let registration: Registration;
beginEach(
  (begun) => {
    pipeline = begun;
  },
  async () => {
    settings = await withDimensionsFolder(pipeline);
    await pipeline.source`create table plain (id integer, part text, v text, primary key (part, id))`;
    ({ registration } = await register(settings, 'plain'));
  },
  { BATCH_SIZE: '10', BATCH_SIZE_MAX: '10', TABLE_SCAN_INTERVAL_SECONDS: '0' },
);

const insert = (from: number, to: number) =>
  pipeline.source`insert into plain select g, 'p' || g % 3, 'first' from generate_series(${from}::integer, ${to}::integer) as g`;

const extract = async (isWatching = false, overrides: Partial<Settings> = {}) => {
  const [result] = await extractTables({ settings: { ...settings, ...overrides }, tables: ['plain'], isWatching });
  return result?.changes;
};

/** Waits until PostgreSQL has counted what this test has written. */
const counted = () => pipeline.source`select pg_stat_force_next_flush()`;

async function expectEqual(): Promise<void> {
  const { source, history } = await sourceAndHistory(pipeline, registration);
  expect(history).toEqual(source);
  expect(
    (await runChecks(pipeline.warehouse, ['pipeline', 'scd2'])).filter(({ violations }) => violations > 0),
  ).toEqual([]);
}

describe('a table without an effective time', () => {
  it('is captured, changed and deleted, in pages of its key, and its history equals it', async () => {
    await insert(1, 35);
    await loadAll(settings, 'plain');
    await expectEqual();
    await pipeline.source`update plain set v = 'second' where id % 2 = 0`;
    await insert(36, 40);
    await pipeline.source`delete from plain where id % 7 = 0`;
    expect(await extract()).toBe(20);
    await loadAll(settings, 'plain', true);
    await expectEqual();
    expect(
      await pipeline.warehouse`select bool_and(valid_from = captured_at and cdc_timestamp = captured_at) as is_captured from dim_plain_history`,
    ).toEqual([{ is_captured: true }]);
    expect(await extract()).toBe(0);
  });

  it('is read again where it was, and what was read twice is absorbed', async () => {
    await insert(1, 25);
    await loadAll(settings, 'plain');
    await extractTables({ settings, tables: ['plain'], full: true });
    await loadAll(settings, 'plain');
    expect(
      await pipeline.warehouse`select (select count(*) from dim_plain_history)::integer as versions, (select count(*) from tidemark.absorbed_changes)::integer as absorbed`,
    ).toEqual([{ versions: 25, absorbed: 25 }]);
    await expectEqual();
    expect(await verifyTables(settings, ['plain'])).toMatchObject([{ table: 'plain', differences: 0 }]);
  });

  it('misses nothing of a transaction that commits long after others that came later', async () => {
    await insert(1, 5);
    await loadAll(settings, 'plain');
    const writer = await pipeline.source.reserve();
    await writer`begin`;
    await writer`insert into plain values (100, 'p', 'by the long one')`;
    await writer`savepoint s`;
    await writer`update plain set v = 'by the long one' where id = 3`;
    for (const id of [6, 7, 8]) {
      await insert(id, id);
      await loadAll(settings, 'plain');
    }
    await writer`commit`;
    writer.release();
    await loadAll(settings, 'plain');
    await expectEqual();
  });

  it('goes on after the page where it was interrupted', async () => {
    await insert(1, 35);
    let pages = 0;
    await extractTables({
      settings,
      tables: ['plain'],
      signal: {
        get aborted() {
          return (pages += 1) > 2;
        },
      } as AbortSignal,
    });
    await loadAll(settings, 'plain');
    await expectEqual();
    expect(await pipeline.warehouse`select count(*)::integer as n from tidemark.absorbed_changes`).toEqual([{ n: 0 }]);
  });

  it('is left alone by a watching extractor while nothing is counted of it, and read once something is', async () => {
    const scans = async () => {
      const [row] = await pipeline.source<[{ scans: number }]>`
        select (coalesce(seq_scan, 0) + coalesce(idx_scan, 0))::integer as scans from pg_stat_user_tables where relname = 'plain'`;
      return row.scans;
    };
    await insert(1, 5);
    await counted();
    expect(await extract(true)).toBe(5);
    const before = await scans();
    for (let poll = 0; poll < 3; poll += 1) expect(await extract(true)).toBe(0);
    expect(await scans()).toBe(before);
    await pipeline.source`update plain set v = 'second' where id = 1`;
    await counted();
    expect(await extract(true)).toBe(1);
    expect(await scans()).toBeGreaterThan(before);
  });

  it('is not left alone by who extracts once, nor for longer than FULL_SWEEP_INTERVAL_SECONDS, whatever is counted', async () => {
    await insert(1, 5);
    await counted();
    await extract(true);
    const writer = await pipeline.source.reserve();
    await writer`set track_counts = off`;
    await writer`update plain set v = 'uncounted' where id in (1, 2)`;
    writer.release();
    expect(await extract(true)).toBe(0);
    expect(await extract(true, { full_sweep_interval_seconds: 0 })).toBe(2);
    expect(await extract()).toBe(0);
  });

  it('has an interval of its own under a watching extractor', async () => {
    await insert(1, 5);
    await counted();
    await extract(true);
    await insert(6, 6);
    await counted();
    expect(await extract(true, { table_scan_interval_seconds: 3600 })).toBe(0);
    expect(await extract(true)).toBe(1);
  });

  it('is read by its shards', async () => {
    await insert(1, 35);
    const shards = [1, 2].map((place) => ({
      name: `${String(place)}-of-2`,
      place,
      layout: { name: 'of-2', count: 2, column: null, cuts: [], by_key: true },
    }));
    const poll = async () => {
      for (const shard of shards) await extractTables({ settings, tables: ['plain'], shard });
    };
    await poll();
    await pipeline.source`update plain set v = 'second' where id < 10`;
    await poll();
    await loadTables({ settings, tables: ['plain'] });
    await expectEqual();
  });

  it('that is partitioned is counted by its partitions', async () => {
    await pipeline.source.unsafe(`create table parted (id integer primary key, v text) partition by range (id);
      create table parted_1 partition of parted for values from (1) to (100); create table parted_2 partition of parted for values from (100) to (200)`);
    await register(settings, 'parted');
    const poll = async () => (await extractTables({ settings, tables: ['parted'], isWatching: true }))[0]?.changes;
    await pipeline.source`insert into parted select g, 'first' from generate_series(95, 105) as g`;
    await counted();
    expect(await poll()).toBe(11);
    expect(await poll()).toBe(0);
    await pipeline.source`update parted set v = 'second' where id = 101`;
    await counted();
    expect(await poll()).toBe(1);
  });

  it('that is a view is written whole by every sweep, and what has not changed is absorbed', async () => {
    await pipeline.source`create view seen as select id, v from plain where part <> 'hidden'`;
    const seen = (await register(settings, 'seen', { key: ['id'] })).registration;
    expect(seen.remarks.at(-1)).toContain('each sweep writes all rows');
    await insert(1, 15);
    await loadAll(settings, 'seen');
    await pipeline.source`update plain set v = 'second' where id = 4`;
    await loadAll(settings, 'seen');
    const { source, history } = await sourceAndHistory(pipeline, seen);
    expect(history).toEqual(source);
    expect(await pipeline.warehouse`select count(*)::integer as n from dim_seen_history`).toEqual([{ n: 16 }]);
    expect(await extractTables({ settings, tables: ['seen'], isWatching: true })).toMatchObject([{ changes: 0 }]);
  });
});
