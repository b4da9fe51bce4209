import { randomBytes } from 'node:crypto';
import { open, readFile, readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { batchFiles, openChangeLog, readBatch } from '../../runner/change-log/chain.js';
import type { BatchMetadata } from '../../runner/batch/metadata.js';
import { connect } from '../../runner/base/database.js';
import { examine } from '../../runner/operate/doctor.js';
import { extractTables } from '../../runner/extract/tables.js';
import { publishCheckpoint } from '../../runner/change-log/publish.js';
import { reconcileTables } from '../../runner/reconcile/tables.js';
import { runCli, startCli } from '../support/cli.js';
import { beginEach, type TestPipeline } from '../support/databases.js';
import { createSourceTable, registerDimension, type TestColumn } from '../support/dimensions.js';
import { captured, createThings, extractThings } from '../support/extraction.js';
import { asOwner, owning } from '../support/roles.js';
import { until } from '../support/wait.js';
import { loadTables } from '../../runner/load/tables.js';
import { verifyTables } from '../../runner/load/replay.js';
import { noticesStep, type ClockReading } from '../../runner/source/horizon.js';

/** Hazards of docs/hazards.md that belong to no module in particular. */

let pipeline: TestPipeline;
const begin = (prepare: () => Promise<void>) => {
  beginEach(
    (begun) => {
      pipeline = begun;
    },
    prepare,
    { WATERMARK_ADVANCE_SECONDS: '0' },
  );
};

const load = (table = 'things') => loadTables({ settings: pipeline.settings, tables: [table] });
const reconcile = async (repair = false) =>
  (await reconcileTables({ settings: pipeline.settings, tables: ['things'], repair, allowDeletes: false }))[0];

describe('with a table that is registered,', () => {
  begin(() => createThings(pipeline));

  describe('a policy of row-level security', () => {
    it('that would hide rows from extraction stops it, and doctor says so: what is hidden would be missed, or taken for deleted', async () => {
      const role = `reader_${randomBytes(4).toString('hex')}`;
      await pipeline.source.unsafe(`
      insert into things values (1, 'shown', now()), (2, 'hidden', now()); alter table things enable row level security;
      create policy shown on things using (id = 1); create role ${role} login password 'x'; grant select on things to ${role}; grant pg_read_all_stats to ${role}`);
      const source = { ...pipeline.settings.source, user: role, password: 'x' };
      const { code, stderr } = await runCli(['extract', '--table', 'things'], {
        ...pipeline.env,
        DB_USER: role,
        DB_PASSWORD: 'x',
      });
      expect(
        [code, stderr.includes(`a policy of row-level security hides rows of the source from user ${role}`)],
        stderr,
      ).toEqual([1, true]);
      expect(
        (await examine({ ...pipeline.settings, source })).filter(
          ({ subject, status }) => subject === 'table things' && status === 'error',
        ),
      ).toMatchObject([{ message: 'a policy of row-level security of public.things applies to the role of DB_USER' }]);
      await pipeline.source.unsafe(`alter role ${role} bypassrls`);
      await extractThings(pipeline, { source });
      expect((await captured(pipeline)).sort()).toEqual(['1 shown', '2 hidden']);
      await pipeline.source.unsafe(`drop owned by ${role}; drop role ${role}`);
    });
  });

  describe('the clock of the source', () => {
    const SET_BACK_SECONDS = 4;

    it('that was set back between two polls is noticed although it reads later than at the poll before', async () => {
      // Sessions of the database find this clock before that of the server.
      const { database } = pipeline.settings.source;
      await pipeline.source.unsafe(`
      create schema faulty; create table faulty.step (seconds integer); insert into faulty.step values (0);
      create function faulty.clock_timestamp() returns timestamptz language sql volatile as 'select pg_catalog.clock_timestamp() - make_interval(secs => seconds) from faulty.step';
      alter database ${database} set search_path = faulty, pg_catalog, public`);
      await extractThings(pipeline);
      await pipeline.source`update faulty.step set seconds = ${SET_BACK_SECONDS}`;
      await pipeline.source`insert into things values (1, 'stamped by a clock set back', faulty.clock_timestamp())`;
      // Time must pass until the clock has come as far as it was.
      await pipeline.source`select pg_sleep(${SET_BACK_SECONDS} + 0.2)`;
      await extractThings(pipeline);
      expect(await captured(pipeline)).toEqual(['1 stamped by a clock set back']);
    });

    it('is doubted until a full sweep has been published, and no longer', () => {
      const at = (seconds: number, steady: number): ClockReading => ({
        clock: new Date(Date.UTC(2026, 1, 1) + seconds * 1000).toISOString(),
        asked_at: steady * 1000,
        read_at: steady * 1000,
      });
      const chain = randomBytes(4).toString('hex');
      const looks: [ClockReading, string, boolean][] = [
        [at(0, 100), 'first', false],
        [at(10, 110), 'first', false],
        [at(15, 120), 'first', true],
        [at(25, 130), 'first', true],
        [at(35, 140), 'second', false],
        [at(45, 151), 'second', false],
        [at(500, 152), 'second', false],
        [at(499, 160), 'second', true],
        [at(509, 170), 'third', false],
      ];
      expect(looks.map(([reading, fullSweep]) => noticesStep(chain, reading, fullSweep))).toEqual(
        looks.map(([, , isDoubted]) => isDoubted),
      );
    });
  });

  describe('the change log', () => {
    it('that lost its newest batch and checkpoint, which are loaded, goes on from the ledger and not from the checkpoint before', async () => {
      for (const id of [1, 2]) {
        await pipeline.source`insert into things values (${id}, 'row', clock_timestamp())`;
        await extractThings(pipeline);
      }
      await load();
      const log = await openChangeLog(pipeline.settings.cdc_log_dir, 'things');
      const newest = async (folder: string) =>
        path.join(
          folder,
          (await readdir(folder)).sort((one, other) => one.localeCompare(other, 'en', { numeric: true })).at(-1) ?? '',
        );
      // The batch's own checkpoint, and the one that ended its sweep after a look for rows without a time.
      for (const folder of [log.processed, log.checkpoints, log.checkpoints]) await rm(await newest(folder));
      await pipeline.source`insert into things values (3, 'row', clock_timestamp())`;
      await extractThings(pipeline);
      const [file = ''] = await batchFiles(log);
      const [ledger] = await pipeline.warehouse<
        { checksum: string; sequence: number }[]
      >`select checksum, sequence::integer from tidemark.batches where dimension_name = 'things' order by sequence desc limit 1`;
      expect((await readBatch(file)).head).toMatchObject({
        previous_checksum: ledger?.checksum,
        // After the checkpoint that ends the sweep of the lost one.
        sequence: (ledger?.sequence ?? 0) + 2,
      });
      await load();
      expect(await reconcile()).toMatchObject({ differences: [], current_versions: 3 });
    });

    it('keeps the batch of an extractor that was taken for dead, and publishes it while another removes it', async () => {
      await extractThings(pipeline);
      await pipeline.source`insert into things values (1, 'row', clock_timestamp())`;
      const extractor = (failpoint: string) =>
        startCli(['extract', '--table', 'things'], {
          ...pipeline.env,
          NODE_ENV: 'test',
          TIDEMARK_FAILPOINT: failpoint,
        });
      // The first is about to publish its batch, which has its name; the second is about to remove that.
      expect(await extractor('link:2:kill').ended).toMatchObject({ code: null });
      const log = await openChangeLog(pipeline.settings.cdc_log_dir, 'things');
      const [file = ''] = await batchFiles(log);
      const second = extractor('remove:1:stop');
      await until(async () => Promise.resolve(second.stderr().includes('its extractor died before it published it')));
      await publishCheckpoint(
        log,
        (JSON.parse(await readFile(file, 'utf8')) as { batch_metadata: BatchMetadata }).batch_metadata,
      );
      const goingOn = setInterval(() => {
        second.kill('SIGCONT');
      }, 50);
      expect(await second.ended).toMatchObject({ code: 0 });
      clearInterval(goingOn);
      // Where another transaction of the server was open, the row is read once more.
      expect(await batchFiles(log)).toContain(file);
      await load();
      expect(await reconcile()).toMatchObject({ differences: [], current_versions: 1 });
    });

    it('with a file that no memory can hold says so before it reads it', async () => {
      const log = await openChangeLog(pipeline.settings.cdc_log_dir, 'things');
      const file = path.join(log.folder, 'changes_20260201_090000_000.json');
      const handle = await open(file, 'wx');
      await handle.truncate(501 * 1024 * 1024);
      await handle.close();
      await expect(readBatch(file)).rejects.toMatchObject({
        message: expect.stringContaining('it is larger than') as string,
        detail: file,
      });
    });
  });

  describe('a warehouse whose commits do not wait for the disk', () => {
    it.each([
      ['off', 'on'],
      ['local', 'local'],
    ])('is made to wait by the loader, whose files are moved away: %s becomes %s', async (set, expected) => {
      await pipeline.warehouse.unsafe(`
      alter database ${pipeline.settings.warehouse.database} set synchronous_commit = ${set}; create table seen (setting text);
      create function note_setting() returns trigger language plpgsql as $$ begin insert into public.seen values (current_setting('synchronous_commit')); return null; end $$;
      create trigger note_setting after insert on tidemark.batches for each row execute function note_setting()`);
      await pipeline.source`insert into things values (1, 'row', now())`;
      await extractThings(pipeline);
      await load();
      expect([...(await pipeline.warehouse`select setting from seen`)]).toEqual([{ setting: expected }]);
    });
  });

  describe('an error of a database', () => {
    it('shows no value of a row, in whatever detail the server puts one', async () => {
      await pipeline.warehouse.unsafe(`
      create table known (state text primary key); insert into known values ('new');
      alter table dim_things_history add foreign key (state) references known`);
      await pipeline.source`insert into things values (1, 'pii@example.com', now())`;
      await extractTables({ settings: pipeline.settings, tables: ['things'] });
      const direct = connect(asOwner(pipeline.settings.warehouse), 'test');
      await expect(direct`insert into dim_things_history (id, state, valid_from, is_current, cdc_operation, cdc_timestamp, batch_id, created_at, updated_at, captured_at, change_line)
      values (1, 'pii@example.com', now(), true, 'INSERT', now(), 'x', now(), now(), now(), 1)`).rejects.toMatchObject({
        detail: expect.stringContaining('pii@example.com') as string,
      });
      await direct.end();
      for (const level of ['INFO', 'DEBUG']) {
        const { code, stdout, stderr } = await runCli(['load', '--table', 'things'], {
          ...pipeline.env,
          LOG_LEVEL: level,
        });
        expect(
          [code, stderr.includes('violates foreign key constraint'), (stdout + stderr).includes('pii@')],
          stderr,
        ).toEqual([1, true, false]);
      }
      expect(JSON.stringify(await pipeline.warehouse`select m::text from pipeline_metadata as m`)).not.toContain(
        'pii@',
      );
    });
  });
});

describe('with a table of its own,', () => {
  begin(() => Promise.resolve());

  describe('rows that came by ATTACH PARTITION', () => {
    it('with old transaction numbers and old times are found by reconcile, and repaired', async () => {
      await pipeline.source`create table things (id integer primary key, state text, touched timestamptz not null) partition by range (id)`;
      await pipeline.source`create table things_1 partition of things for values from (0) to (100)`;
      await pipeline.source`create table things_2 (like things including all)`;
      await pipeline.source`insert into things_2 values (150, 'attached', '2026-02-01')`;
      await registerDimension(pipeline.warehouse, 'things', 'things', [
        { source: 'id', type: 'integer', role: 'business key' },
        { source: 'state', type: 'text', role: 'tracked' },
        { source: 'touched', type: 'timestamptz', role: 'effective time' },
      ]);
      await pipeline.source`insert into things values (1, 'there', now())`;
      await extractThings(pipeline);
      await pipeline.source`alter table things attach partition things_2 for values from (100) to (200)`;
      await extractThings(pipeline, { full_sweep_interval_seconds: 0 });
      await load();
      expect(await reconcile(true)).toMatchObject({
        missing: 1,
        extra: 0,
        different: 0,
        repaired: 1,
        differences: [{ key: '["150"]', kind: 'missing' }],
      });
      expect(await reconcile()).toMatchObject({ differences: [], current_versions: 2 });
    });
  });

  describe('columns called as JavaScript calls its own', () => {
    it('arrive, are compared and are replayed like any other', async () => {
      const names = [
        '__proto__',
        'constructor',
        'prototype',
        'toString',
        'hasOwnProperty',
        'then',
        'length',
        'toJSON',
        '0',
      ];
      const columns: readonly TestColumn[] = [
        { source: '__proto__', type: 'text', role: 'business key' },
        ...names.slice(1).map((source) => ({ source, type: 'text', role: 'tracked' as const })),
        { source: 'touched', type: 'timestamptz', role: 'effective time' },
      ];
      await createSourceTable(pipeline.source, 'things', columns);
      await registerDimension(pipeline.warehouse, 'things', 'things', columns);
      const row = (value: string) => names.map((name) => `'${name} ${value}'`).join(', ');
      await pipeline.source.unsafe(`insert into things values (${row('one')}, now()), (${row('two')}, now())`);
      await extractThings(pipeline);
      await load();
      const [kept] = await pipeline.warehouse.unsafe<{ text: string }[]>(
        `select row(${names.map((name) => `"${name}"`).join(', ')})::text as text from dim_things_history order by "__proto__" limit 1`,
      );
      expect(kept?.text).toBe(`(${names.map((name) => `"${name} one"`).join(',')})`);
      await pipeline.source.unsafe(
        `update things set "constructor" = 'changed', touched = '2020-01-01' where "__proto__" = '__proto__ one'`,
      );
      expect(await reconcile(true)).toMatchObject({ different: 1, missing: 0, extra: 0, repaired: 1 });
      expect(await reconcile()).toMatchObject({ differences: [] });
      expect(await verifyTables(owning(pipeline.settings), ['things'])).toMatchObject([
        { table: 'things', differences: 0 },
      ]);
    });
  });
});
