import { createHash } from 'node:crypto';
import { cp, readFile, readdir, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, test } from 'vitest';
import { batchFiles, newestCheckpoint, openChangeLog, readBatch } from '../../runner/change-log/chain.js';
import { runChecks } from '../../runner/warehouse/checks.js';
import type { Settings } from '../../runner/base/settings.js';
import { connect } from '../../runner/base/database.js';
import { extractTables } from '../../runner/extract/tables.js';
import { reconcileTables } from '../../runner/reconcile/tables.js';
import { parseShard } from '../../runner/batch/shard.js';
import { lockExtraction, unlockExtraction } from '../../runner/source/lock.js';
import { pipelineStatus } from '../../runner/operate/status.js';
import { runCli, startCli } from '../support/cli.js';
import { preparePipeline, type PreparedPipeline, type TestPipeline } from '../support/databases.js';
import { createSourceTable, registerDimension, type TestColumn } from '../support/dimensions.js';
import { until } from '../support/wait.js';
import { createParcels, createWay, extractBy, historyOf, load, type Way } from '../support/shards.js';
import { owning } from '../support/roles.js';
import { rebuildTables, verifyTables } from '../../runner/load/replay.js';

let prepared: PreparedPipeline;
let pipeline: TestPipeline;
let settings: Settings;
beforeAll(async () => {
  const small = { BATCH_SIZE: '20', BATCH_SIZE_MAX: '20', WATERMARK_ADVANCE_SECONDS: '0' };
  prepared = await preparePipeline(createParcels, small);
});
afterAll(() => prepared.drop());
beforeEach(async () => {
  pipeline = await prepared.begin();
  settings = pipeline.settings;
});
afterEach(async () => {
  await pipeline.drop();
});

const HASHED = ['1/3', '2/3', '3/3'];
const SHARDS = ['1-of-3', '2-of-3', '3-of-3'];
const BY_KEY = ['1/id:20,40', '2/id:20,40', '3/id:20,40'];
const BY_REGION = ['1/region:east,north', '2/region:east,north', '3/region:east,north'];

/** A round of traffic: rows come, change, and move to other regions; each is stamped later than the one before. */
const change = (seed: number, rows = 40) => pipeline.source`
  insert into parcels
  select case when g % 3 = 0 then 'Ä ' || g % 5 else 'b' end, g, (array['east', 'north', 'West', 'alpha', null])[1 + hashint4(g * 31 + ${seed}::integer) % 5 + case when hashint4(g * 31 + ${seed}::integer) < 0 then 4 else 0 end],
    'state ' || ${seed}::integer, clock_timestamp()
  from generate_series(1 + ${seed}::integer % 7, ${rows}::integer + ${seed}::integer, 1 + ${seed}::integer % 3) as g
  on conflict (depot, id) do update set region = excluded.region, state = excluded.state, touched = excluded.touched`;

const failing = async (way: Pick<Way, 'warehouse'>) =>
  (await runChecks(way.warehouse, ['pipeline', 'scd2'])).filter(({ violations }) => violations > 0);
/** The change log of a shard as --shard names it. */
const logOf = async (shard: string, from: Settings = settings) => {
  const asked = parseShard(shard);
  return openChangeLog(from.cdc_log_dir, 'parcels', typeof asked === 'object' ? asked.name : '');
};
const seen = async (shards: readonly string[], from: Settings = settings) => {
  const found: string[] = [];
  for (const shard of shards) {
    for (const file of await batchFiles(await logOf(shard, from)))
      found.push(
        ...(await readBatch(file)).text
          .split('\n')
          .filter((line) => line.startsWith('{"depot"'))
          .map((line) => {
            const { depot, id } = JSON.parse(line.replace(/,$/, '')) as { depot: string; id: number };
            return `${depot}/${String(id)}`;
          }),
      );
  }
  return found.sort();
};

describe('however a table is cut, history is the same', () => {
  it('row for row, by a hash or by ranges of the key or of a column, loaded one by one or at once', async () => {
    const own = { settings, warehouse: pipeline.warehouse, drop: () => Promise.resolve() };
    const ways: readonly Way[] = [
      { name: 'whole', shards: [], parallel: 1, ...own },
      await createWay(pipeline, 'hashed', HASHED, 1),
      await createWay(pipeline, 'ranges of the key', BY_KEY, 3),
      await createWay(pipeline, 'ranges of a column', BY_REGION, 3),
    ];
    for (let round = 1; round <= 3; round += 1) {
      await change(round);
      for (const way of ways) {
        await extractBy(way.settings, way.shards);
        // What waits longer is loaded in groups, and late.
        if (round > 1) await load(way.settings, way.parallel);
      }
    }
    const [whole, ...sharded] = await Promise.all(ways.map(({ warehouse }) => historyOf(warehouse)));
    expect(whole?.length).toBeGreaterThan(50);
    for (const [index, history] of sharded.entries()) expect(history, ways[index + 1]?.name).toEqual(whole);
    for (const way of ways) expect(await failing(way), way.name).toEqual([]);
    for (const way of ways.slice(1)) {
      const chains = await way.warehouse<
        { shard: string; sequences: string[] }[]
      >`select shard, array_agg(sequence order by sequence) as sequences from tidemark.batches group by shard order by 1`;
      expect(chains).toHaveLength(3);
      for (const { sequences } of chains) expect(Number(sequences[0])).toBe(1);
    }
    for (const way of ways) await way.drop();
  });

  it('where rows move between shards that are loaded in the wrong order', async () => {
    await pipeline.source`insert into parcels values ('a', 1, 'alpha', 'one', clock_timestamp())`;
    await extractBy(settings, BY_REGION);
    await pipeline.source`update parcels set region = 'west', state = 'two', touched = clock_timestamp()`;
    await extractBy(settings, BY_REGION);
    await pipeline.source`update parcels set region = 'alpha', state = 'three', touched = clock_timestamp()`;
    await extractBy(settings, BY_REGION);
    await load(settings);
    expect((await historyOf(pipeline.warehouse)).map((line) => line.split(' ').slice(1, 3).join(' '))).toEqual([
      'alpha one',
      'west two',
      'alpha three',
    ]);
    expect(await pipeline.warehouse`select batch_id from tidemark.batches where late_changes > 0`).toHaveLength(1);
    expect(await failing(pipeline)).toEqual([]);
  });

  it('and the change log verifies, and rebuilds it, from all its chains', async () => {
    for (const seed of [1, 2]) {
      await change(seed);
      await extractBy(settings, HASHED);
    }
    await load(settings, 2);
    const before = await historyOf(pipeline.warehouse);
    for (const shard of await readdir(path.join(settings.cdc_log_dir, 'parcels', 'shards')))
      expect(
        (await readdir((await openChangeLog(settings.cdc_log_dir, 'parcels', shard)).processed)).map((name) =>
          name.replace(/^changes_\d{8}_\d{6}_\d{3}/, ''),
        ),
      ).toContain(`_${shard}.json.gz`);
    expect(await verifyTables(owning(settings), ['parcels'])).toMatchObject([{ missing: [], differences: 0 }]);
    await pipeline.warehouse`update dim_parcels_history set state = 'by hand' where id % 2 = 0`;
    expect(await verifyTables(owning(settings), ['parcels'])).not.toMatchObject([{ differences: 0 }]);
    await rebuildTables(owning(settings), ['parcels']);
    expect(await historyOf(pipeline.warehouse)).toEqual(before);
    expect(
      (
        await runCli(
          ['report', '--table', 'parcels', '--key', 'b', '--key', '2', '--output', pipeline.folder],
          pipeline.env,
        )
      ).code,
    ).toBe(0);
    const report = (await readdir(pipeline.folder)).find((name) => name.startsWith('scd2_lineage_report')) ?? '';
    expect(await readFile(path.join(pipeline.folder, report), 'utf8')).toMatch(
      /parcels\/shards\/\d-of-3\/processed\/changes\\_\d{8}\\_\d{6}\\_\d{3}\\_\d-of-3\.json/,
    );
    expect(await failing(pipeline)).toEqual([]);
  });
});

describe('a shard', () => {
  it('holds the keys whose SHA-256 says so, on any server and in any collation', async () => {
    await pipeline.source`alter table parcels alter column depot type text collate "C"`;
    await change(1);
    await extractBy(settings, HASHED);
    const keys = await pipeline.source<
      { key: string; shown: string }[]
    >`select json_build_array(depot, id::text)::text as key, depot || '/' || id as shown from parcels`;
    for (const [index, shard] of HASHED.entries())
      expect(await seen([shard])).toEqual(
        keys
          .filter(({ key }) => parseInt(createHash('sha256').update(key).digest('hex').slice(0, 8), 16) % 3 === index)
          .map(({ shown }) => shown)
          .sort(),
      );
    expect((await seen(HASHED)).length).toBe(keys.length);
  });

  it('keeps a row whose key is written in another way, which is the same key', async () => {
    const columns: readonly TestColumn[] = [
      { source: 'code', type: 'numeric', role: 'business key' },
      { source: 'ratio', type: 'real', role: 'business key' },
      { source: 'touched', type: 'timestamptz', role: 'effective time' },
    ];
    await createSourceTable(pipeline.source, 'priced', columns);
    await registerDimension(pipeline.warehouse, 'priced', 'priced', columns);
    const changes = async () =>
      Promise.all(
        HASHED.map(
          async (shard) =>
            (await extractTables({ settings, tables: ['priced'], shard: parseShard(shard) }))[0]?.changes,
        ),
      );
    await pipeline.source`insert into priced select g, 0, now() from generate_series(1, 30) as g`;
    const first = await changes();
    await pipeline.source`update priced set code = code + 0.00, ratio = '-0', touched = clock_timestamp()`;
    expect(await changes()).toEqual(first);
    expect(first).toHaveLength(3);
    expect(first).not.toContain(0);
  });

  it('of ranges of text, byte by byte, nulls in the first, of numbers, of times, or of the two at one cut: each row is in one', async () => {
    await change(1);
    const rows = (await pipeline.source<{ shown: string }[]>`select depot || '/' || id as shown from parcels`)
      .map(({ shown }) => shown)
      .sort();
    const CENTURIES = '2020-01-01 00:00+00,2100-01-01 00:00+00';
    const ofTimes = [1, 2, 3].map((place) => `${String(place)}/touched:${CENTURIES}`);
    for (const [index, shards] of [BY_REGION, BY_KEY, ofTimes, ['1/id:33', '2/id:33']].entries()) {
      const own = { ...settings, cdc_log_dir: path.join(pipeline.folder, `log ${String(index)}`) };
      await extractBy(own, shards);
      expect(await seen(shards, own), shards[0]).toEqual(rows);
    }
  });

  it('begins and ends where it says: from its cut up to, without, the next', async () => {
    await pipeline.source`insert into parcels select 'a', g, 'r', 's', now() from generate_series(8, 22) as g`;
    await extractBy(settings, ['2/id:10,20']);
    expect(await seen(['2/id:10,20'])).toEqual(Array.from({ length: 10 }, (_, index) => `a/${String(10 + index)}`));
  });

  it('finds rows without an effective time, and those a full sweep is for, in its part alone', async () => {
    await change(1);
    await extractBy(settings, HASHED);
    await pipeline.source`update parcels set touched = null, state = 'undated' where id % 4 = 0`;
    await pipeline.source`update parcels set state = 'untouched' where id % 4 = 2`;
    await extractBy({ ...settings, full_sweep_interval_seconds: 0 }, HASHED);
    await load(settings);
    const [{ undated, untouched }] = await pipeline.source<[{ undated: string; untouched: string }]>`
      select count(*) filter (where touched is null) as undated, count(*) filter (where state = 'untouched') as untouched from parcels`;
    expect([Number(undated), Number(untouched)]).not.toContain(0);
    expect(
      await pipeline.warehouse`select count(*) as n from dim_parcels_history where is_current and cdc_timestamp = captured_at`,
    ).toEqual([{ n: undated }]);
    expect(
      await pipeline.warehouse`select count(*) as n from dim_parcels_history where is_current and state = 'untouched'`,
    ).toEqual([{ n: untouched }]);
  });

  it('has one extractor: a second one hears who it is, those of other shards go on, and one of the whole table waits for all', async () => {
    await lockExtraction(pipeline.source, 'parcels', '1-of-2');
    const ask = (...shards: string[]) => extractBy(settings, shards);
    await expect(ask('1/2')).rejects.toThrow(
      /another extractor holds parcels shard 1-of-2: process \d+ \(tidemark test\)/,
    );
    await ask('2/2');
    await load(settings);
    await expect(ask('1/1')).rejects.toThrow('another extractor holds parcels: process');
    await unlockExtraction(pipeline.source, 'parcels', '1-of-2');
    await ask('1/2');
    await load(settings);
    await ask('1/1');
  });
});

describe('a cut that the source cannot make', () => {
  test('is refused, and it is said why', async () => {
    for (const [shard, message] of [
      ['1/nothing:5', 'source table public.parcels has no column nothing to be cut by'],
      ['1/id:a', 'the cuts of --shard cannot be values of column id'],
      ['1/id:20,10', 'the cuts of --shard are not in ascending order'],
      ['1/id:10,10', 'the cuts of --shard are not in ascending order'],
      ["1/id:5' or true --", 'the cuts of --shard cannot be values of column id'],
    ] as const) {
      const { code, stderr } = await runCli(['extract', '--table', 'parcels', '--shard', shard], pipeline.env);
      expect([shard, code, stderr]).toEqual([shard, 2, expect.stringContaining(message)]);
      expect(stderr).toContain('where: table=parcels shard=');
    }
  });
});

describe('another layout', () => {
  it('begins when everything of the present one is loaded, and misses nothing: whole to shards, to other shards, and back', async () => {
    let seed = 0;
    for (const [from, to] of [
      [[], ['1/2', '2/2']],
      [['1/2', '2/2'], BY_KEY],
      [BY_KEY, ['1/1']],
    ] as const) {
      await change((seed += 1));
      await extractBy(settings, from);
      for (const shard of to)
        await expect(extractBy(settings, [shard])).rejects.toThrow(
          'another shard layout of parcels begins when everything of the present one is loaded',
        );
      await load(settings);
      await change((seed += 1));
      await extractBy(settings, to);
      await load(settings, 3);
    }
    await change((seed += 1));
    await extractBy(settings, []);
    await load(settings);
    expect(
      await pipeline.warehouse`select depot, id, region, state from dim_parcels_history where is_current order by 1, 2`,
    ).toEqual(await pipeline.source`select depot, id, region, state from parcels order by 1, 2`);
    const versions = (await historyOf(pipeline.warehouse)).length;
    const [{ states }] = await pipeline.warehouse<
      [{ states: string }]
    >`select count(distinct (depot, id, state)) as states from dim_parcels_history`;
    expect(versions).toBe(Number(states));
    expect(await failing(pipeline)).toEqual([]);
  });

  it('says what waits, and what to do', async () => {
    await change(1);
    await extractBy(settings, []);
    const { code, stderr } = await runCli(['extract', '--table', 'parcels', '--shard', '1/2'], pipeline.env);
    expect([code, stderr]).toEqual([
      1,
      expect.stringContaining(
        'where: table=parcels present=the whole table asked=of-2 waiting batches: whole table: 1',
      ),
    ]);
    expect(stderr).toContain('npx tidemark load --table parcels');
  });

  it("is begun by all its extractors at once: one that has written its first batch, and not yet published it, is in nobody's way", async () => {
    await change(1);
    await extractBy(settings, []);
    await load(settings);
    const cut = await runCli(['extract', '--table', 'parcels', '--shard', '1/2'], {
      ...pipeline.env,
      NODE_ENV: 'test',
      TIDEMARK_FAILPOINT: 'link:2:kill',
    });
    expect(cut.code).toBeNull();
    expect(await batchFiles(await openChangeLog(settings.cdc_log_dir, 'parcels', '1-of-2'))).toHaveLength(1);
    expect(await extractBy(settings, ['2/2'])).toBeGreaterThan(0);
    await extractBy(settings, ['1/2']);
    await load(settings);
    // The run that was killed is one of those left unfinished.
    expect((await failing(pipeline)).map(({ check }) => check)).toEqual(['no run is left unfinished']);
  });

  it('waits for a batch that was never published, as its extractor was killed, until that has run once more', async () => {
    await change(1);
    await extractBy(settings, ['1/2', '2/2']);
    await load(settings);
    await change(2);
    const cut = await runCli(['extract', '--table', 'parcels', '--shard', '1/2'], {
      ...pipeline.env,
      NODE_ENV: 'test',
      TIDEMARK_FAILPOINT: 'link:2:kill',
    });
    expect(cut.code).toBeNull();
    await load(settings);
    await expect(extractBy(settings, ['1/1'])).rejects.toMatchObject({
      hint: expect.stringContaining('extract that shard once more, and load') as string,
    });
    await extractBy(settings, ['1/2']);
    await load(settings);
    expect(await extractBy(settings, ['1/1'])).toBeGreaterThan(0);
  });

  it('is not changed back by an extractor that is still running', async () => {
    const begun = new Map<string, string>();
    const old = () => extractTables({ settings, tables: ['parcels'], shard: parseShard('1/2'), begun });
    await change(1);
    await old();
    await load(settings);
    await extractBy(settings, HASHED);
    await load(settings);
    await expect(old()).rejects.toThrow("parcels is now extracted in another shard layout than this extractor's");
  });

  it("is nobody's by accident: an extractor that is told no shard leaves the table alone, or asks", async () => {
    await change(1);
    await extractBy(settings, HASHED);
    await load(settings);
    const all = await runCli(['extract'], pipeline.env);
    expect([all.code, all.stderr]).toEqual([
      0,
      expect.stringContaining('parcels is extracted by shards (of-3), and left alone here'),
    ]);
    expect(all.stdout).not.toContain('parcels');
    const named = await runCli(['extract', '--table', 'parcels'], pipeline.env);
    expect([named.code, named.stderr]).toEqual([
      2,
      expect.stringMatching(/parcels is extracted by shards \(of-3\): say which\n.*--shard 1\/3; or --shard 1\/1/),
    ]);
  });

  /** By name: what is extracted next, and whether it must read later. */
  type Next = readonly [name: string, shard: string, isLater: boolean];
  it.each<[string, readonly string[], readonly Next[]]>([
    [
      'a hash',
      HASHED,
      [
        ['the whole table, of what shards captured', '1/1', true],
        ['a shard, of what those of another layout captured', '1/2', true],
        ['a shard, where none may move', '2/3', false],
      ],
    ],
    [
      'a column',
      BY_REGION,
      [['a shard, of what another one captured from which rows may move', '2/region:east,north', true]],
    ],
  ])(
    'or another shard, after one by %s, reads later, or need not, though the clock of the source was set back since',
    async (_, first, all) => {
      await change(1);
      await extractBy(settings, first);
      await load(settings);
      const log = await logOf(first[0] ?? '');
      const file = path.join(log.checkpoints, `${String((await newestCheckpoint(log))?.sequence)}.json`);
      await writeFile(
        file,
        (await readFile(file, 'utf8')).replace(
          /"extracted_at": "[^"]*"/,
          '"extracted_at": "2100-01-01T00:00:00+00:00"',
        ),
      );
      await pipeline.source`update parcels set state = 'after', touched = clock_timestamp()`;
      for (const [name, next, isLater] of all) {
        const own = { ...settings, cdc_log_dir: path.join(pipeline.folder, `log of ${name}`) };
        await cp(settings.cdc_log_dir, own.cdc_log_dir, { recursive: true });
        await extractBy(own, [next]);
        const [waiting = ''] = await batchFiles(await logOf(next, own));
        expect((await readBatch(waiting)).head.extracted_at, name).toMatch(
          isLater ? /^2100-01-01T00:00:00.000001\+/ : /^20[2-9]/,
        );
      }
    },
  );

  it('and old one, if both wait all the same, are loaded one after the other', async () => {
    await change(1);
    await extractBy(settings, ['1/2', '2/2']);
    // As if another machine had loaded and begun: nothing here could know.
    const elsewhere = { ...settings, cdc_log_dir: path.join(pipeline.folder, 'elsewhere') };
    await change(2);
    await extractBy(elsewhere, HASHED);
    for (const shard of await readdir(path.join(elsewhere.cdc_log_dir, 'parcels', 'shards')))
      await rename(
        path.join(elsewhere.cdc_log_dir, 'parcels', 'shards', shard),
        path.join(settings.cdc_log_dir, 'parcels', 'shards', shard),
      );
    await load(settings, 4);
    expect(
      await pipeline.warehouse`select depot, id, region, state from dim_parcels_history where is_current order by 1, 2`,
    ).toEqual(await pipeline.source`select depot, id, region, state from parcels order by 1, 2`);
    expect(await failing(pipeline)).toEqual([]);
  });
});

describe('a table that is extracted by shards', () => {
  it.each([
    ['a hash', HASHED],
    ['a column', BY_REGION],
  ])('is reconciled whole, and a repair belongs to no shard: %s', async (_, shards) => {
    await change(1);
    await extractBy(settings, shards);
    await load(settings);
    await pipeline.source`delete from parcels where id in (2, 10)`;
    await pipeline.warehouse`update dim_parcels_history set state = 'wrong' where id = 8`;
    await change(3, 3);
    const reconcile = (repair: boolean) =>
      reconcileTables({ settings, tables: ['parcels'], repair, allowDeletes: true });
    expect(await reconcile(true)).toMatchObject([{ missing: 0, extra: 2, different: 1, repaired: 3 }]);
    expect(await reconcile(false)).toMatchObject([{ missing: 0, extra: 0, different: 0 }]);
    expect(
      await pipeline.warehouse`select shard, metadata #>> '{shard_layout,name}' is not null as says_layout from tidemark.batches where shard = '' order by sequence`,
    ).toEqual([
      { shard: '', says_layout: true },
      { shard: '', says_layout: true },
    ]);
    // Extraction by shards goes on as if there had been no repair.
    await change(4);
    await extractBy(settings, shards);
    await load(settings, 3);
    expect(await reconcile(false)).toMatchObject([{ missing: 0, extra: 0, different: 0 }]);
    expect(
      await pipeline.warehouse`select depot, id, state from dim_parcels_history where is_current order by 1, 2`,
    ).toEqual(await pipeline.source`select depot, id, state from parcels order by 1, 2`);
    expect((await failing(pipeline)).map(({ check }) => check)).toEqual([]);
    // The whole table has no watermark but repairs: extraction of it reads everything once.
    await extractBy(settings, ['1/1']);
    expect((await seen([])).length).toBe(0);
    expect(await seen(['1/1'])).toHaveLength(
      Number((await pipeline.source<[{ count: string }]>`select count(*) from parcels`)[0].count),
    );
  });

  it('is not reconciled where a shard of it is extracted into a folder elsewhere', async () => {
    await change(1);
    await extractBy(settings, ['1/2']);
    await load(settings);
    const elsewhere = { ...settings, cdc_log_dir: path.join(pipeline.folder, 'elsewhere') };
    await extractBy(elsewhere, ['2/2']);
    await load(elsewhere);
    await expect(
      reconcileTables({ settings, tables: ['parcels'], repair: false, allowDeletes: false }),
    ).rejects.toThrow('the change log here lacks shards of parcels that are extracted elsewhere: 2-of-2');
    await rename(
      path.join(elsewhere.cdc_log_dir, 'parcels', 'shards', '2-of-2'),
      path.join(settings.cdc_log_dir, 'parcels', 'shards', '2-of-2'),
    );
    expect(await reconcileTables({ settings, tables: ['parcels'], repair: false, allowDeletes: false })).toMatchObject([
      { missing: 0, extra: 0, different: 0 },
    ]);
  });

  it('reads later than a repair, though the clock of the source was set back since', async () => {
    await change(1);
    await extractBy(settings, HASHED);
    await load(settings);
    await pipeline.warehouse`update dim_parcels_history set state = 'wrong' where id = 2`;
    await reconcileTables({ settings, tables: ['parcels'], repair: true, allowDeletes: false });
    const log = await openChangeLog(settings.cdc_log_dir, 'parcels');
    const file = path.join(log.checkpoints, '1.json');
    const future = '2100-01-01T00:00:00+00:00';
    await writeFile(
      file,
      (await readFile(file, 'utf8')).replace(/"extracted_at": "[^"]*"/, `"extracted_at": "${future}"`),
    );
    await pipeline.source`delete from parcels where id = 4`;
    await reconcileTables({ settings, tables: ['parcels'], repair: true, allowDeletes: true });
    const ofShard = (shard: string) => openChangeLog(settings.cdc_log_dir, 'parcels', shard);
    const deleted = (await newestCheckpoint(log))?.extracted_at ?? '';
    expect(deleted > future).toBe(true);
    for (const shard of SHARDS)
      expect(((await newestCheckpoint(await ofShard(shard)))?.extracted_at ?? '') < deleted, shard).toBe(true);
    expect(await pipeline.warehouse`select from dim_parcels_history where id = 4 and is_current`).toEqual([]);
    await pipeline.source`update parcels set state = 'after', touched = clock_timestamp()`;
    await extractBy(settings, HASHED);
    for (const shard of SHARDS) {
      const [waiting = ''] = await batchFiles(await ofShard(shard));
      expect(((await readBatch(waiting)).head.extracted_at ?? '') > deleted, shard).toBe(true);
    }
  });

  it.each([
    ['waits for its turn to look where rows may move', BY_REGION, true],
    ['does not where they cannot', HASHED, false],
  ])('%s', async (_, shards, waits) => {
    await change(1);
    const holder = connect(settings.source, 'another shard');
    await holder`select pg_advisory_lock(hashtextextended('tidemark.capture public.parcels', 0))`;
    const extracting = extractBy(settings, shards);
    if (waits) {
      await until(async () => {
        const [row] = await holder<
          [{ waiting: string }]
        >`select count(*) as waiting from pg_locks where locktype = 'advisory' and not granted and database = (select oid from pg_database where datname = current_database())`;
        return row.waiting === '3';
      });
      expect(await seen(shards)).toEqual([]);
      await holder.end();
    }
    expect(await extracting).toBeGreaterThan(0);
    await holder.end();
  });

  it('goes on after its source is another server, when it was reconciled', async () => {
    await change(1);
    await extractBy(settings, HASHED);
    await load(settings);
    for (const name of await readdir(path.join(settings.cdc_log_dir, 'parcels', 'shards'))) {
      const log = await openChangeLog(settings.cdc_log_dir, 'parcels', name);
      for (const each of await readdir(log.checkpoints)) {
        const file = path.join(log.checkpoints, each);
        await writeFile(
          file,
          (await readFile(file, 'utf8')).replace(/"system_identifier": "\d+"/, '"system_identifier": "1"'),
        );
      }
    }
    await change(2);
    await expect(extractBy(settings, HASHED)).rejects.toThrow(
      'the source is not the database this change log was extracted from',
    );
    await reconcileTables({ settings, tables: ['parcels'], repair: true, allowDeletes: false });
    await change(3);
    await extractBy(settings, HASHED);
    await load(settings);
    expect(
      await pipeline.warehouse`select depot, id, state from dim_parcels_history where is_current order by 1, 2`,
    ).toEqual(await pipeline.source`select depot, id, state from parcels order by 1, 2`);
  });

  it('shows each shard in status and watermark, and each or all can be rewound', async () => {
    await change(1);
    await extractBy(settings, HASHED);
    const command = async (...args: string[]) => {
      const { code, stdout, stderr } = await runCli(['watermark', ...args, '--table', 'parcels'], pipeline.env);
      return {
        code,
        stderr,
        found:
          stdout.startsWith('[') || stdout.startsWith('{') ? (JSON.parse(stdout) as Record<string, unknown>[]) : [],
      };
    };
    expect(
      (await command('list', '--json')).found.map(({ shard, waiting_batches, loaded_sequence }) => [
        shard,
        waiting_batches,
        loaded_sequence,
      ]),
    ).toEqual([
      ['1-of-3', 1, null],
      ['2-of-3', 1, null],
      ['3-of-3', 1, null],
    ]);
    expect((await pipelineStatus(settings)).tables.find(({ table }) => table === 'parcels')).toMatchObject({
      pending: 3,
      shards: [
        { shard: '1-of-3', pending: 1 },
        { shard: '2-of-3', pending: 1 },
        { shard: '3-of-3', pending: 1 },
      ],
    });
    expect(await command('show')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('parcels is extracted by shards') as string,
    });
    expect((await command('show', '--shard', '2/3', '--json')).found).toContainEqual(
      expect.objectContaining({ sequence: 1, sweep: 'full' }),
    );
    expect(await command('show', '--shard', '7-of-9')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('parcels has no shard 7-of-9 here') as string,
    });
    expect(await command('rewind', '--to', '1')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('each with sequences of its own') as string,
    });
    expect(
      (await command('rewind', '--to', '2020-01-01T00:00:00Z', '--json')).found.map(({ shard, sequence }) => [
        shard,
        sequence,
      ]),
    ).toEqual([
      ['1-of-3', null],
      ['2-of-3', null],
      ['3-of-3', null],
    ]);
    const before = (await seen(HASHED)).length;
    expect(await extractBy(settings, HASHED)).toBe(before);
  });
});

it('extractors of two shards are services of their own: seen by status, logged apart, ended by stop', async () => {
  await change(1);
  const env = { ...pipeline.env, CDC_EXTRACTION_INTERVAL_SECONDS: '1' };
  const start = (shard: string) =>
    startCli(['extract', '--watch', '--service', '--table', 'parcels', '--shard', shard], env);
  const running = ['1/2', '2/2'].map(start);
  const statusOf = async () => {
    const { services } = await pipelineStatus(settings);
    return services
      .filter(({ service }) => service.startsWith('extractor-'))
      .map(({ service, state, rounds }) => [service, state, (rounds ?? 0) > 0]);
  };
  await until(
    async () => (await statusOf()).filter(([, state, hasRun]) => state === 'running' && hasRun === true).length === 2,
  );
  expect((await statusOf()).map(([service]) => service)).toEqual(['extractor-1-of-2', 'extractor-2-of-2']);
  const second = await start('2/2').ended;
  expect([second.code, second.stderr]).toEqual([1, expect.stringContaining('the extractor-2-of-2 is already running')]);
  expect((await runCli(['logs', 'extractor-1-of-2'], env)).stdout).toContain('Starting CDC extractor');
  expect(await runCli(['logs', 'extractor-9'], env)).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('there is no service called extractor-9') as string,
  });
  const keys = await pipeline.source<{ key: string }[]>`select depot || '/' || id as key from parcels`;
  expect([...new Set(await seen(['1/2', '2/2']))]).toEqual(keys.map(({ key }) => key).sort());
  const runs =
    await pipeline.warehouse`select performance_metrics ->> 'shard' as shard from pipeline_metadata where pipeline_name = 'extract' and status = 'running' order by 1`;
  expect(runs).toEqual([{ shard: '1-of-2' }, { shard: '2-of-2' }]);
  const { stdout } = await runCli(['stop'], env);
  expect(stdout).toMatch(/extractor-1-of-2 \(process \d+\): stopped\nextractor-2-of-2 \(process \d+\): stopped/);
  for (const { ended } of running) expect((await ended).code).toBe(0);
});

it('extractors of two shards and a loader of both, killed again and again, lose nothing and double nothing', async () => {
  const env = { ...pipeline.env, CDC_EXTRACTION_INTERVAL_SECONDS: '1' };
  const parts = [
    ['extract', '--shard', '1/2'],
    ['extract', '--shard', '2/2'],
    ['load', '--parallel', '3'],
  ];
  for (let round = 1; round <= 2; round += 1) {
    const running = parts.map(([command = '', ...rest]) =>
      startCli([command, '--watch', '--table', 'parcels', ...rest], env),
    );
    for (let step = 0; step < 12; step += 1) {
      await change(round * 100 + step);
      await new Promise((resolve) => {
        setTimeout(resolve, 60 + Math.random() * 200);
      });
    }
    for (const each of running) each.kill('SIGKILL');
    for (const each of await Promise.all(running.map(({ ended }) => ended))) expect(each.code, each.stderr).toBeNull();
  }
  await extractBy(settings, ['1/2', '2/2']);
  await runCli(['load', '--parallel', '2'], env);
  expect(
    await pipeline.warehouse`select depot, id, region, state from dim_parcels_history where is_current order by 1, 2`,
  ).toEqual(await pipeline.source`select depot, id, region, state from parcels order by 1, 2`);
  expect((await failing(pipeline)).filter(({ check }) => check !== 'no run is left unfinished')).toEqual([]);
});
