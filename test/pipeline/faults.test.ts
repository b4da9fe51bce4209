import { describe, expect, it } from 'vitest';
import { connect } from '../../runner/base/database.js';
import { extractTables } from '../../runner/extract/tables.js';
import { retrying } from '../../runner/run/retry.js';
import { runCli, startCli } from '../support/cli.js';
import { beginEach, type TestPipeline } from '../support/databases.js';
import { createThings, extractThings } from '../support/extraction.js';
import { openProxy } from '../support/proxy.js';
import { until } from '../support/wait.js';
import { loadTables } from '../../runner/load/tables.js';

let pipeline: TestPipeline;

const load = () => loadTables({ settings: pipeline.settings, tables: ['things'] });
const loaded = async () =>
  Number((await pipeline.warehouse<{ count: string }[]>`select count(*) from dim_things_history`)[0]?.count);

/** Ends the session of that name as soon as it waits for a lock. */
async function cutWhenWaiting(sql: TestPipeline['source'], application: string): Promise<void> {
  await until(
    async () =>
      (
        await sql`
    select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and application_name = ${application} and wait_event_type = 'Lock'`
      ).length > 0,
  );
}

describe('work that is tried again', () => {
  const link = { renew: () => Promise.resolve() };

  const failing = (code: string, times: number) => {
    let calls = 0;
    const work = () => {
      calls += 1;
      return calls <= times ? Promise.reject(Object.assign(new Error('a fault'), { code })) : Promise.resolve(calls);
    };
    return { work, calls: () => calls };
  };

  it.each(['40001', '40P01', '55P03', '57P01', '57P03', '58P01', 'CONNECTION_CLOSED', 'ECONNREFUSED'])(
    'ends well after %s',
    async (code) => {
      expect(await retrying('things', link, undefined, failing(code, 2).work)).toBe(3);
    },
  );

  it.each(['23505', 'ENOSPC', '42501', 'TM003'])('ends at once on %s, which repeating cannot mend', async (code) => {
    const { work, calls } = failing(code, 2);
    await expect(retrying('things', link, undefined, work)).rejects.toMatchObject({ code });
    expect(calls()).toBe(1);
  });

  it('ends when it is told to stop', async () => {
    const { work, calls } = failing('40001', 2);
    await expect(retrying('things', link, AbortSignal.abort(), work)).rejects.toMatchObject({ code: '40001' });
    expect(calls()).toBe(1);
  });
});

describe('of a pipeline,', () => {
  beginEach(
    (begun) => {
      pipeline = begun;
    },
    async () => {
      await createThings(pipeline);
      await pipeline.source`insert into things select g, 'row', now() from generate_series(1, 25) as g`;
    },
    { BATCH_SIZE: '10', BATCH_SIZE_MAX: '10', CDC_EXTRACTION_INTERVAL_SECONDS: '1' },
  );

  describe('a connection that is cut', () => {
    it('by a server that goes while the driver asks it about itself ends a command with that, and not with an error of the driver', async () => {
      const { host, port } = pipeline.admin.source;
      const proxy = await openProxy(host, port, 'typarray');
      const env = { ...pipeline.env, DB_HOST: '127.0.0.1', DB_PORT: String(proxy.port) };
      const { code, stderr } = await runCli(['extract', '--table', 'things'], env);
      expect(stderr).toContain(`the source database does not answer at 127.0.0.1:${String(proxy.port)}`);
      expect(stderr).not.toContain('typarray');
      expect(code).toBe(1);
    });

    it('in the middle of an extraction is made again, and nothing is lost or repeated', async () => {
      const blocker = connect(pipeline.admin.source, 'blocker');
      await blocker.unsafe('begin; lock table things');
      const extraction = extractThings(pipeline);
      await cutWhenWaiting(pipeline.source, 'tidemark extract');
      await blocker.unsafe('commit');
      await blocker.end();
      expect(await extraction).toMatchObject({ changes: 25, batches: 3 });
    });

    it('in the middle of a load is made again, and nothing is lost or applied twice', async () => {
      await extractThings(pipeline);
      const blocker = connect(pipeline.admin.warehouse, 'blocker');
      await blocker.unsafe("begin; select tidemark._lock_dimension('things', '')");
      const loading = load();
      await cutWhenWaiting(pipeline.warehouse, 'tidemark load');
      await blocker.unsafe('commit');
      await blocker.end();
      expect(await loading).toMatchObject([{ batches: 3, inserted_versions: 25 }]);
    });
  });

  describe('two at once', () => {
    it('the second loader says who is at work, and each batch is applied once', async () => {
      await extractThings(pipeline);
      const other = connect(pipeline.settings.warehouse, 'load');
      await other`select pg_advisory_lock(hashtextextended('tidemark.load things', 0))`;
      const loader = startCli(['load', '--table', 'things'], pipeline.env);
      expect((await loader.ended).stderr).toMatch(
        /another loader is at work on things: process \d+ \(tidemark load\) since/,
      );
      await other.end();
      expect(await loaded()).toBe(25);
    });
  });

  describe('a loop with --watch', () => {
    it('outlives a warehouse that is away for a while, and a source that is not there yet', async () => {
      const extractor = startCli(['extract', '--watch', '--table', 'things'], {
        ...pipeline.env,
        DB_NAME: 'not_there_yet',
      });
      const loader = startCli(['load', '--watch', '--table', 'things'], { ...pipeline.env, WAREHOUSE_DB_PORT: '1' });
      await until(() =>
        Promise.resolve(
          extractor.stderr().split('has no database').length > 2 && loader.stderr().split('does not answer').length > 2,
        ),
      );
      for (const each of [extractor, loader]) each.kill('SIGTERM');
      expect((await Promise.all([extractor.ended, loader.ended])).map(({ code }) => code)).toEqual([0, 0]);
    });

    it('loads all that was captured while the warehouse was away', async () => {
      await extractThings(pipeline);
      for (const id of [1, 2, 3]) {
        await pipeline.source`update things set state = 'changed', touched = clock_timestamp() where id = ${id}`;
        await extractTables({
          settings: { ...pipeline.settings, warehouse: { ...pipeline.settings.warehouse, port: 1 } },
          tables: ['things'],
        });
      }
      await load();
      expect(await loaded()).toBe(28);
    });
  });
});
