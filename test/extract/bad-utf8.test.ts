import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { connect, type Database } from '../../runner/base/database.js';
import type { Settings } from '../../runner/base/settings.js';
import { extractTables } from '../../runner/extract/tables.js';
import { verifyTables } from '../../runner/load/replay.js';
import { loadTables } from '../../runner/load/tables.js';
import { examine } from '../../runner/operate/doctor.js';
import { reconcileTables } from '../../runner/reconcile/tables.js';
import { runChecks } from '../../runner/warehouse/checks.js';
import { createPipeline, type TestPipeline } from '../support/databases.js';
import { register, withDimensionsFolder } from '../support/registered.js';
import { owning } from '../support/roles.js';

/** A source whose encoding is SQL_ASCII takes any bytes; a warehouse in UTF8 does not. */
let pipeline: TestPipeline;
let admin: Database;
let source: Database;
let settings: Settings;
beforeEach(async () => {
  pipeline = await createPipeline({ BATCH_SIZE: '2', BATCH_SIZE_MAX: '2' });
  const database = `ascii_${randomBytes(4).toString('hex')}`;
  admin = connect({ ...pipeline.admin.source, database: 'postgres' }, 'test');
  await admin.unsafe(`create database ${database} encoding 'SQL_ASCII' template template0 lc_collate 'C' lc_ctype 'C'`);
  const own = await withDimensionsFolder(pipeline);
  await pipeline.warehouse`drop table tidemark.dimension_migrations`;
  settings = {
    ...own,
    dimensions_dir: `${pipeline.folder}/mine`,
    source: { ...pipeline.admin.source, database },
  };
  source = connect(settings.source, 'test');
});
afterEach(async () => {
  await source.end();
  await admin.unsafe(`drop database ${settings.source.database} with (force)`);
  await admin.end();
  await pipeline.drop();
});

const extract = (...tables: string[]) => extractTables({ settings, tables });
const load = (...tables: string[]) => loadTables({ settings, tables });
const reconcile = (table: string, repair: boolean) =>
  reconcileTables({ settings, tables: [table], repair, allowDeletes: false });
const current = async (table: string) =>
  (
    await pipeline.warehouse.unsafe<{ v: string }[]>(
      `select v from dim_${table}_history where is_current order by v collate "C"`,
    )
  ).map(({ v }) => v);
const rejected = async () => [
  ...(await pipeline.warehouse<{ key: string; column: string; reason: string; is_settled: boolean }[]>`
    select business_key as key, column_name as column, reason, settled_at is not null as is_settled
    from tidemark.rejected_changes order by rejected_at, change_line`),
];

/** Bytes as they are: no client could send them as text. */
const bytes = (escaped: string) => `convert_from('${escaped}'::bytea, 'SQL_ASCII')`;

describe('a row that is no valid UTF-8', () => {
  beforeEach(async () => {
    await source.unsafe(`
      create table notes (id integer primary key, v text, updated_at timestamptz not null default clock_timestamp());
      create table plain (id integer primary key, v text, updated_at timestamptz not null default clock_timestamp());
      insert into notes (id, v) values (1, 'plain'), (2, ${bytes(String.raw`caf\351`)}), (3, ${bytes(String.raw`caf\303\251`)});
      insert into plain (id, v) values (1, 'plain')`);
    for (const table of ['notes', 'plain']) await register(settings, table);
    await extract('notes', 'plain');
    await load('notes', 'plain');
  });

  it('is set aside and named, and the others go on', async () => {
    expect([await current('notes'), await current('plain')]).toEqual([['café', 'plain'], ['plain']]);
    const named = {
      key: '{"note_key" : 2}',
      column: 'v',
      reason: String.raw`column v is no valid UTF-8 at the source: caf\351`,
      is_settled: false,
    };
    expect(await rejected()).toEqual([named]);
    const failed = (await runChecks(pipeline.warehouse, [])).filter(({ violations }) => violations > 0);
    expect(failed.map(({ check }) => check)).toContain('no change is rejected');
    expect(await extract('notes')).toMatchObject([{ changes: 0 }]);
    expect(await verifyTables(owning(settings), ['notes'])).toMatchObject([{ batches: 2, differences: 0 }]);
    const found = (await examine(settings)).map(({ message }) => message);
    expect(found.join('\n')).toContain('the encoding is SQL_ASCII: a row that is no valid UTF-8 is set aside');
  });

  it('is captured when it is mended, which settles what was set aside', async () => {
    await source`update notes set v = 'mended', updated_at = clock_timestamp() where id = 2`;
    expect(await extract('notes')).toMatchObject([{ changes: 1 }]);
    await load('notes');
    expect(await current('notes')).toEqual(['café', 'mended', 'plain']);
    expect(await rejected()).toMatchObject([{ is_settled: true }]);
    expect(await reconcile('notes', false)).toMatchObject([{ source_rows: 3, differences: [] }]);
  });

  it('is a difference that reconcile shows, and no repair writes', async () => {
    const difference = {
      kind: 'missing',
      key: '["2"]',
      source: expect.stringContaining(String.raw`caf\351`) as string,
    };
    expect(await reconcile('notes', false)).toMatchObject([{ missing: 1, differences: [difference] }]);
    expect(await reconcile('notes', true)).toMatchObject([{ missing: 1, repaired: 0 }]);
    expect(await rejected()).toHaveLength(1);
  });
});

describe('a key that is no valid UTF-8', () => {
  it('is passed over, wherever a page ends', async () => {
    await source.unsafe(`
      create table names (name text primary key, v text, updated_at timestamptz not null);
      insert into names values ('a', 'one', '2026-02-01'), (${bytes(String.raw`b\351`)}, 'two', '2026-02-01'),
        (${bytes(String.raw`c\377`)}, 'three', '2026-02-01'), (${bytes(String.raw`d\\\351`)}, 'four', '2026-02-01'),
        (${bytes(String.raw`e\303\251`)}, 'five', '2026-02-01')`);
    await register(settings, 'names');
    expect(await extract('names')).toMatchObject([{ changes: 5, batches: 3 }]);
    await load('names');
    expect(await current('names')).toEqual(['five', 'one']);
    expect((await rejected()).map(({ reason }) => reason)).toEqual([
      String.raw`column name is no valid UTF-8 at the source: b\351`,
      String.raw`column name is no valid UTF-8 at the source: c\377`,
      String.raw`column name is no valid UTF-8 at the source: d\\\351`,
    ]);
    expect(await reconcile('names', false)).toMatchObject([{ source_rows: 5, current_versions: 2 }]);
  });
});
