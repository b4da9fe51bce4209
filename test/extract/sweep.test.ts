// Runs on each version: snapshots and what a poll asks of the server.
import { randomBytes } from 'node:crypto';
import { readFile, readdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { describeTable } from '../../runner/source/table.js';
import { dimensionMappings } from '../../runner/warehouse/functions.js';
import { loadTables } from '../../runner/load/tables.js';
import { runCli } from '../support/cli.js';
import { beginEach, type TestPipeline } from '../support/databases.js';
import { batchesOf, captured, createThings, extractThings, killBefore } from '../support/extraction.js';
import { until } from '../support/wait.js';

/** Extraction, with a margin of nothing: what is found is found by its rules and not by luck. */
let pipeline: TestPipeline;
const withThings = (timeType: string) => {
  beginEach(
    (begun) => {
      pipeline = begun;
    },
    () => createThings(pipeline, timeType),
    { BATCH_SIZE: '10', BATCH_SIZE_MAX: '10', WATERMARK_ADVANCE_SECONDS: '0' },
  );
};

const checkpoints = (...names: string[]) => path.join(pipeline.settings.cdc_log_dir, 'things', 'checkpoints', ...names);

const infinite = (type: string) => {
  describe('an infinite effective time', () => {
    it.each([type])('of type %s is captured, and hides nothing that comes after it', async () => {
      await pipeline.source.unsafe(
        `insert into things select g, 'first', (array['infinity', '-infinity', '2026-02-01'])[g % 3 + 1]::${type} from generate_series(1, 36) as g`,
      );
      expect(await extractThings(pipeline)).toMatchObject({ changes: 36, watermark: 'infinity' });
      expect(new Set(await captured(pipeline)).size).toBe(36);
      await pipeline.source.unsafe(
        `insert into things values (50, 'later', now()), (51, 'later', 'infinity'), (52, 'later', '-infinity')`,
      );
      await extractThings(pipeline);
      expect((await captured(pipeline)).slice(36)).toEqual(['50 later', '51 later']);
      await extractThings(pipeline, { full_sweep_interval_seconds: 0 });
      expect(await captured(pipeline)).toContain('52 later');
    });
  });
};

describe('with a time in a zone,', () => {
  withThings('timestamptz');

  describe('a prepared transaction', () => {
    it('is captured when it commits, however many polls have passed since it was stamped', async () => {
      const gid = `test ${randomBytes(4).toString('hex')}`;
      const writer = await pipeline.source.reserve();
      await writer`begin`;
      await writer`insert into things values (1, 'prepared', now())`;
      for (const id of [2, 3, 4, 5]) {
        await pipeline.source`insert into things values (${id}, 'plain', now())`;
        await extractThings(pipeline);
        if (id === 3) await writer.unsafe(`prepare transaction '${gid}'`);
      }
      await writer.unsafe(`commit prepared '${gid}'`);
      writer.release();
      await extractThings(pipeline);
      expect(new Set(await captured(pipeline))).toEqual(
        new Set(['1 prepared', '2 plain', '3 plain', '4 plain', '5 plain']),
      );
    });

    it('from before the first poll is captured too', async () => {
      const gid = `test ${randomBytes(4).toString('hex')}`;
      await pipeline.source.begin(async (writer) => {
        await writer`insert into things values (1, 'prepared', now())`;
        await writer.prepare(gid);
      });
      for (const id of [2, 3]) {
        await pipeline.source`insert into things values (${id}, 'plain', now())`;
        await extractThings(pipeline);
      }
      await pipeline.source.unsafe(`commit prepared '${gid}'`);
      await extractThings(pipeline);
      expect(new Set(await captured(pipeline))).toEqual(new Set(['1 prepared', '2 plain', '3 plain']));
    });
  });

  describe('a sub-transaction', () => {
    it.each([
      ['released', 'savepoint s; insert into things values (1, $$x$$, now()); release savepoint s'],
      [
        'of a PL/pgSQL block that catches errors',
        'do $$ begin begin insert into things values (1, $x$x$x$, now()); exception when division_by_zero then null; end; end $$',
      ],
      [
        'beside one that was rolled back',
        'savepoint s; insert into things values (7, $$x$$, now()); rollback to s; insert into things values (1, $$x$$, now())',
      ],
    ])('%s is captured when its transaction commits', async (_name, statements) => {
      const writer = await pipeline.source.reserve();
      await writer.unsafe(`begin; ${statements}`);
      for (const id of [2, 3]) {
        await pipeline.source`insert into things values (${id}, 'plain', now())`;
        await extractThings(pipeline);
      }
      await writer`commit`;
      writer.release();
      await extractThings(pipeline);
      expect(new Set(await captured(pipeline))).toEqual(new Set(['1 x', '2 plain', '3 plain']));
    });
  });

  describe('a full sweep', () => {
    it('finds an update that did not touch its time, and nothing that was written before the full sweep before it', async () => {
      await pipeline.source`insert into things select g, 'new', '2026-02-01'::timestamptz + g * interval '1 minute' from generate_series(1, 30) as g`;
      await extractThings(pipeline);
      await pipeline.source`update things set state = 'changed' where id = 2`;
      expect(await extractThings(pipeline)).toMatchObject({ changes: 0 });
      expect(await extractThings(pipeline, { full_sweep_interval_seconds: 0 })).toMatchObject({ changes: 1 });
      expect((await captured(pipeline)).at(-1)).toBe('2 changed');
      expect(await extractThings(pipeline, { full_sweep_interval_seconds: 0 })).toMatchObject({ changes: 0 });
    });

    it('is due once FULL_SWEEP_INTERVAL_SECONDS have passed since the one before it, which a quiet one counts as too', async () => {
      await extractThings(pipeline);
      const full = async () =>
        (
          JSON.parse(await readFile(checkpoints(`${String((await readdir(checkpoints())).length)}.json`), 'utf8')) as {
            full_sweep: { clock: string };
          }
        ).full_sweep.clock;
      const first = await full();
      await extractThings(pipeline, { heartbeat_seconds: 0 });
      expect(await full()).toBe(first);
      await extractThings(pipeline, { full_sweep_interval_seconds: 0 });
      expect((await full()) > first).toBe(true);
      expect(await readdir(checkpoints())).toHaveLength(3);
    });

    it('follows when the clock of the source was set back, because stamps may lie before the watermark then', async () => {
      await pipeline.source`insert into things values (1, 'new', now()), (2, 'new', now())`;
      await extractThings(pipeline);
      const newest = checkpoints('2.json');
      await writeFile(
        newest,
        (await readFile(newest, 'utf8')).replaceAll(/"(clock|floor|floor_of_rest|extracted_at)": "2/g, '"$1": "3'),
      );
      await pipeline.source`insert into things values (3, 'stamped by the older clock', now() - interval '1 hour')`;
      expect(await extractThings(pipeline)).toMatchObject({ changes: 1 });
      expect((await captured(pipeline)).at(-1)).toBe('3 stamped by the older clock');
    });

    it('that was interrupted goes on where it stopped, as a full one', async () => {
      await extractThings(pipeline);
      await pipeline.source`insert into things select g, 'old', '2020-02-01'::timestamptz + g * interval '1 minute' from generate_series(1, 35) as g`;
      await extractThings(pipeline, { full_sweep_interval_seconds: 0 });
      await killBefore(pipeline, 3);
      await extractThings(pipeline);
      expect((await captured(pipeline)).sort()).toEqual(
        Array.from({ length: 35 }, (_, index) => `${String(index + 1)} old`).sort(),
      );
    });
  });

  describe('a row without an effective time', () => {
    const undated = async () =>
      (await batchesOf(pipeline))
        .flatMap(({ changes }) => changes)
        .filter(({ touched }) => touched === null)
        .map(({ id }) => id);

    it('is found by every sweep, by its transaction, in pages of the key, and takes the time of its capture', async () => {
      await pipeline.source`insert into things select g, 'undated', null from generate_series(1, 25) as g`;
      await pipeline.source`insert into things select g, 'dated', now() from generate_series(26, 40) as g`;
      expect(await extractThings(pipeline)).toMatchObject({ changes: 40, batches: 5 });
      expect(await undated()).toEqual(Array.from({ length: 25 }, (_, index) => index + 1));
      await pipeline.source`insert into things values (41, 'undated', null)`;
      expect(await extractThings(pipeline)).toMatchObject({ changes: 1 });
      expect(await extractThings(pipeline)).toMatchObject({ changes: 0 });
      expect((await undated()).at(-1)).toBe(41);
      const batches = await batchesOf(pipeline);
      for (const { batch_metadata, changes } of batches)
        for (const { touched, cdc_timestamp } of changes)
          expect(cdc_timestamp).toBe(touched ?? batch_metadata.extracted_at);
      await loadTables({ settings: pipeline.settings, tables: [] });
      expect(
        await pipeline.warehouse`
        select count(*)::integer as versions, bool_and(valid_from = captured_at) filter (where state = 'undated') as is_captured
        from dim_things_history`,
      ).toEqual([{ versions: 41, is_captured: true }]);
    });

    it('does not move the watermark', async () => {
      await pipeline.source`insert into things values (1, 'undated', null), (2, 'dated', '2026-02-01 09:00:00+00')`;
      expect(await extractThings(pipeline, { batch_size: 1, batch_size_max: 1 })).toMatchObject({
        changes: 2,
        watermark: '2026-02-01T09:00:00+00:00',
      });
    });

    it.each([2, 3, 4])(
      'is neither lost nor repeated where the sweep was interrupted before its checkpoint %i',
      async (sequence) => {
        await pipeline.source`insert into things select g, 'undated', null from generate_series(1, 25) as g`;
        await pipeline.source`insert into things select g, 'dated', now() from generate_series(26, 30) as g`;
        await extractThings(pipeline);
        await killBefore(pipeline, sequence);
        await extractThings(pipeline);
        expect((await captured(pipeline)).length).toBe(30);
        expect(await undated()).toEqual(Array.from({ length: 25 }, (_, index) => index + 1));
      },
    );
  });

  describe('a commit that did not wait for the disk', () => {
    it('is published only once the source has flushed it', async () => {
      await pipeline.source`alter system set wal_writer_delay = '10s'`;
      await pipeline.source`select pg_reload_conf()`;
      const writer = await pipeline.source.reserve();
      await writer.unsafe('begin; set local synchronous_commit = off; lock table things');
      const extraction = extractThings(pipeline);
      await until(
        async () =>
          (await pipeline.source`select from pg_locks where not granted and relation = 'things'::regclass`).length > 0,
      );
      await writer.unsafe(`insert into things values (1, 'row', now()); commit`);
      const [written] = await writer<{ position: string }[]>`select pg_current_wal_insert_lsn()::text as position`;
      const isFlushed = async () =>
        (
          await writer<{ is: boolean }[]>`select pg_current_wal_flush_lsn() >= ${written?.position ?? ''}::pg_lsn as is`
        )[0]?.is;
      let isDone = false;
      void extraction.then(() => {
        isDone = true;
      });
      await until(
        async () =>
          isDone ||
          (
            await pipeline.source`
      select from pg_stat_activity
      where datname = current_database() and application_name = 'tidemark extract' and query like '%pg_current_wal_flush_lsn() >=%'`
          ).length > 0,
      );
      expect([isDone, await isFlushed(), await batchesOf(pipeline)]).toEqual([false, false, []]);
      await pipeline.source`create table anything ()`;
      expect(await extraction).toMatchObject({ changes: 1 });
      expect(await isFlushed()).toBe(true);
      writer.release();
      await pipeline.source`alter system reset wal_writer_delay`;
      await pipeline.source`select pg_reload_conf()`;
    });
  });

  describe('a table that is rewritten', () => {
    it('while a page waits for it is read as it is afterwards, not as an empty one', async () => {
      await pipeline.source`insert into things select g, 'row', now() from generate_series(1, 5) as g`;
      const writer = await pipeline.source.reserve();
      await writer.unsafe('begin; alter table things alter column id type bigint');
      const extraction = extractThings(pipeline);
      await until(
        async () =>
          (await pipeline.source`select from pg_locks where not granted and relation = 'things'::regclass`).length > 0,
      );
      await writer`commit`;
      writer.release();
      expect(await extraction).toMatchObject({ changes: 5 });
    });
  });

  describe('transaction numbers', () => {
    const EPOCH = 4294967296n;

    it('of rows are 32 bit wide, and mean the newest transaction of that number that can have been', async () => {
      await pipeline.source`insert into things values (1, 'row', now())`;
      const [row] = await pipeline.source<{ xmin: string }[]>`select xmin::text from things`;
      const written = BigInt(row?.xmin ?? '');
      const [mapping] = await dimensionMappings(pipeline.warehouse).then((all) =>
        all.filter(({ dimension_name }) => dimension_name === 'things'),
      );
      if (mapping === undefined) throw new Error('not registered');
      const described = await describeTable(pipeline.source, mapping);
      // As if the server had come that far: no server of a test has gone through four billion transactions.
      const readAt = async (newest: bigint, from: bigint) => {
        const age = `(((${String(newest)} - t.xmin::text::bigint + 2147483648) & 4294967295) - 2147483648)::integer`;
        const query = described.first_page
          .replaceAll('age(t.xmin)', age)
          .replace(/(?<=next_transaction as \()[^)]*.*(?=\n\))/, `select ${String(newest)} as number`);
        expect(query).toContain(`next_transaction as (select ${String(newest)} as number\n)`);
        const bounds = [
          null,
          null,
          '0',
          String(from),
          String(newest),
          '10',
          '1000',
          '2026-02-01 00:00:00+00',
          'infinity',
          '[]',
          null,
        ];
        return (await pipeline.source.unsafe<{ change_count: number }[]>(query, bounds))[0]?.change_count;
      };
      expect(await readAt(EPOCH + written + 1n, EPOCH + written)).toBe(1);
      expect(await readAt(EPOCH + written + 1n, EPOCH + written + 1n)).toBe(0);
      expect(await readAt(EPOCH + written - 1n, written)).toBe(1);
      expect(await readAt(EPOCH + written - 1n, written + 1n)).toBe(0);
    });
  });

  describe('a role that may not see when the transactions of others began', () => {
    it('extracts with a warning that says what that costs and the statement that mends it', async () => {
      const role = `reader_${randomBytes(4).toString('hex')}`;
      await pipeline.source.unsafe(`create role ${role} login password 'x'; grant select on things to ${role}`);
      await pipeline.source`insert into things values (1, 'new', now())`;
      const { code, stdout, stderr } = await runCli(['extract', '--table', 'things'], {
        ...pipeline.env,
        DB_USER: role,
        DB_PASSWORD: 'x',
      });
      expect(stderr).toContain(`as a superuser of the source: grant pg_read_all_stats to ${role}`);
      expect({ code, stdout }).toMatchObject({
        code: 0,
        stdout: expect.stringContaining('things: 1 change in 1 batch') as string,
      });
      await pipeline.source.unsafe(`drop owned by ${role}; drop role ${role}`);
    });
  });

  infinite('timestamptz');
});

describe('with a time without zone,', () => {
  withThings('timestamp');

  infinite('timestamp');

  describe('a local time', () => {
    it('that runs backwards where clocks are set back an hour is captured', async () => {
      await pipeline.warehouse`update tidemark.dimensions set source_time_zone = 'Europe/Berlin' where dimension_name = 'things'`;
      await pipeline.source`insert into things values (1, 'before', '2026-10-25 02:45:00')`;
      await extractThings(pipeline);
      await pipeline.source`insert into things values (2, 'after', '2026-10-25 02:15:00')`;
      await extractThings(pipeline);
      expect(await captured(pipeline)).toEqual(['1 before', '2 after']);
    });

    it('is compared with the clock in the zone of the source', async () => {
      await pipeline.warehouse`update tidemark.dimensions set source_time_zone = 'America/New_York' where dimension_name = 'things'`;
      // A row of the far future takes the high watermark away, so that the floor alone is the bound.
      await pipeline.source`insert into things values (9, 'future', 'infinity')`;
      const writer = await pipeline.source.reserve();
      await writer.unsafe(
        `set timezone = 'America/New_York'; begin; insert into things values (1, 'long', now()::timestamp)`,
      );
      for (const id of [2, 3]) {
        await pipeline.source.unsafe(
          `insert into things values (${String(id)}, 'plain', now() at time zone 'America/New_York')`,
        );
        await extractThings(pipeline);
      }
      await writer.unsafe('commit; reset timezone');
      writer.release();
      await extractThings(pipeline);
      expect(new Set(await captured(pipeline))).toEqual(new Set(['1 long', '2 plain', '3 plain', '9 future']));
    });
  });
});
