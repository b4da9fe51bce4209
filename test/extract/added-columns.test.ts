import { describe, expect, it } from 'vitest';
import type { Settings } from '../../runner/base/settings.js';
import { parseShard } from '../../runner/batch/shard.js';
import { extractTables, type ExtractSelection } from '../../runner/extract/tables.js';
import { rebuildTables, verifyTables } from '../../runner/load/replay.js';
import { loadTables } from '../../runner/load/tables.js';
import { proposeUpdate } from '../../runner/registration/propose.js';
import { writeDimensionFile } from '../../runner/registration/files.js';
import { parseTableName } from '../../runner/source/catalog.js';
import { runChecks } from '../../runner/warehouse/checks.js';
import { migrateDimensions } from '../../runner/warehouse/migrate.js';
import { beginEach, type TestPipeline } from '../support/databases.js';
import { register, withDimensionsFolder } from '../support/registered.js';
import { asOwner, owning } from '../support/roles.js';

/** The sweep that fills a column which was added to the mapping. */

let pipeline: TestPipeline;
let settings: Settings;
beginEach(
  (begun) => {
    pipeline = begun;
  },
  async () => {
    settings = await withDimensionsFolder(pipeline);
    await pipeline.source
      .unsafe(`create table dc (id int primary key, v text, updated_at timestamptz not null default now());
      insert into dc (id, v, updated_at) select i, 'x', '2026-02-01 09:00+00' from generate_series(1, 5) as i`);
    await register(settings, 'dc');
    await flow();
    await pipeline.source`update dc set v = 'y', updated_at = '2026-02-01 10:00+00' where id = 2`;
    await flow();
    await pipeline.source.unsafe(
      'alter table dc add column flag boolean not null default true, add column n int default 42, add column note text',
    );
  },
  { BATCH_SIZE: '2', BATCH_SIZE_MAX: '2', WATERMARK_ADVANCE_SECONDS: '0' },
);

const extract = (more: Partial<ExtractSelection> = {}) => extractTables({ settings, tables: ['dc'], ...more });
const load = () => loadTables({ settings, tables: ['dc'] });
async function flow(more: Partial<ExtractSelection> = {}) {
  const [extracted] = await extract(more);
  const [loaded] = await load();
  return { changes: extracted?.changes, inserted: loaded?.inserted_versions, closed: loaded?.closed_versions };
}
async function follow() {
  const nothing = { track: [], untracked: [], ignore: [], retire: [], rename: new Map<string, string>() };
  const proposed = await proposeUpdate(settings, parseTableName('dc'), undefined, nothing);
  await writeDimensionFile(settings.dimensions_dir, 'update_dc', proposed?.text ?? '');
  await migrateDimensions(asOwner(settings.warehouse), settings.dimensions_dir);
}
const history = async (columns: string) =>
  (
    await pipeline.warehouse.unsafe(
      `select string_agg(concat_ws(' ', dc_key, v, ${columns}), ', ' order by dc_key, valid_from) as versions from dim_dc_history`,
    )
  )[0]?.versions as string;
const FILLED = '1 x t 42, 2 x, 2 y t 42, 3 x t 42, 4 x t 42, 5 x t 42';

describe('a column that was added to the mapping', () => {
  it('is filled by the next extraction in rows that nobody touched: in place, in the version in force, and once', async () => {
    await follow();
    expect(await flow()).toEqual({ changes: 5, inserted: 0, closed: 0 });
    expect(await history('flag, n, note')).toBe(FILLED);
    expect(await flow()).toEqual({ changes: 0, inserted: 0, closed: 0 });
    await pipeline.source`update dc set n = 43, updated_at = '2026-02-01 11:00+00' where id = 1`;
    expect(await flow()).toEqual({ changes: 1, inserted: 1, closed: 1 });
    expect(await verifyTables(owning(settings), ['dc'])).toMatchObject([{ differences: 0 }]);
    await rebuildTables(owning(settings), ['dc']);
    expect(await history('flag, n, note')).toBe(FILLED.replace('1 x t 42', '1 x t 42, 1 x t 43'));
    expect((await runChecks(pipeline.warehouse, ['scd2', 'pipeline'])).filter((each) => each.violations > 0)).toEqual(
      [],
    );
  });

  it('costs nothing where no row has a value there', async () => {
    await pipeline.source`alter table dc drop column flag, drop column n`;
    await flow({ full: true });
    await follow();
    expect(await flow()).toEqual({ changes: 0, inserted: 0, closed: 0 });
    await pipeline.source`update dc set note = 'new', updated_at = '2026-02-01 11:00+00' where id = 1`;
    expect(await flow()).toMatchObject({ changes: 1 });
    expect(await history('note')).toBe('1 x new, 2 x, 2 y, 3 x, 4 x, 5 x');
  });

  it('is filled all the same where the extraction is interrupted, or an earlier sweep was', async () => {
    await pipeline.source`insert into dc (id, v, updated_at) select i, 'z', '2026-02-01 12:00+00' from generate_series(6, 9) as i`;
    const interrupt = async () => {
      const interruption = new AbortController();
      interruption.abort();
      let pages = 0;
      const signal = Object.defineProperty(interruption.signal, 'aborted', { get: () => (pages += 1) > 1 });
      return extract({ signal });
    };
    expect(await interrupt()).toMatchObject([{ changes: 2 }]);
    await follow();
    // The rest of the earlier sweep, its end, and two pages of the one that fills.
    const changes: unknown[] = [];
    for (let run = 0; run < 4; run += 1) changes.push((await interrupt())[0]?.changes);
    expect(changes).toEqual([2, 0, 2, 2]);
    await flow();
    expect(await history('flag, n, note')).toBe(`${FILLED}, 6 z t 42, 7 z t 42, 8 z t 42, 9 z t 42`);
    expect(await flow()).toMatchObject({ changes: 0 });
  });

  it('is filled in each shard', async () => {
    for (const shard of ['1/2', '2/2']) await flow({ shard: parseShard(shard) });
    await follow();
    const [one, two] = [await flow({ shard: parseShard('1/2') }), await flow({ shard: parseShard('2/2') })];
    expect(Number(one.changes) + Number(two.changes)).toBe(5);
    expect(await history('flag, n, note')).toBe(FILLED);
  });
});

describe('a table that has taken the name of another', () => {
  it('is read whole, however old its rows are', async () => {
    await pipeline.source.unsafe(`create table other (like dc including all);
      insert into other (id, v, updated_at) values (1, 'x', '2026-02-01 09:00+00'), (7, 'old', '2020-01-01 09:00+00')`);
    await flow({ full: true });
    await pipeline.source.unsafe('alter table dc rename to gone; alter table other rename to dc');
    expect(await flow()).toMatchObject({ changes: 2, inserted: 1 });
    expect(await history("''")).toContain('7 old');
  });
});
