import { appendFile, readFile, readdir, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { batchFiles, openChangeLog } from '../../runner/change-log/chain.js';
import { runChecks } from '../../runner/warehouse/checks.js';
import { connect } from '../../runner/base/database.js';
import { extractTables } from '../../runner/extract/tables.js';
import { runCli, startCli } from '../support/cli.js';
import { beginEach, type TestPipeline } from '../support/databases.js';
import { createSourceTable, registerDimension } from '../support/dimensions.js';
import { thingColumns } from '../support/extraction.js';
import { until } from '../support/wait.js';
import { loadTables } from '../../runner/load/tables.js';

const TABLES = ['alpha', 'beta', 'gamma'];

let pipeline: TestPipeline;
beginEach(
  (begun) => {
    pipeline = begun;
  },
  async () => {
    for (const table of TABLES) {
      await createSourceTable(pipeline.source, table, thingColumns('timestamptz'));
      await registerDimension(pipeline.warehouse, table, table, thingColumns('timestamptz'), {
        timeType: 'timestamptz',
      });
    }
  },
  { BATCH_SIZE: '5', BATCH_SIZE_MAX: '5' },
);

async function change(table: string, state: string, rows: number): Promise<void> {
  await pipeline.source`
    insert into ${pipeline.source(table)} select g, ${state}, clock_timestamp() from generate_series(1, ${rows}::integer) as g
    on conflict (id) do update set state = excluded.state, touched = excluded.touched`;
}
const extract = (tables: readonly string[] = TABLES) => extractTables({ settings: pipeline.settings, tables });
const load = (parallel = 1, tables: readonly string[] = TABLES) =>
  loadTables({ settings: pipeline.settings, tables, parallel });
const logOf = (table: string) => openChangeLog(pipeline.settings.cdc_log_dir, table);
const fileAt = async (table: string, index: number) => (await batchFiles(await logOf(table)))[index] ?? '';
const failing = async () =>
  (await runChecks(pipeline.warehouse, ['pipeline', 'scd2'])).filter(({ violations }) => violations > 0);

/** How many transactions applied the batches of a table: the rows of the ledger say which wrote them. */
async function transactionsOf(table: string): Promise<number> {
  const [row] = await pipeline.warehouse<
    [{ transactions: number }]
  >`select count(distinct xmin::text)::integer as transactions from tidemark.batches where dimension_name = ${table}`;
  return row.transactions;
}
const batchesOf = async (table: string) =>
  Number(
    (
      await pipeline.warehouse<
        [{ n: string }]
      >`select count(*) as n from tidemark.batches where dimension_name = ${table}`
    )[0].n,
  );

describe('small batches that wait', () => {
  it('are applied each with a row of the ledger, and moved', async () => {
    await change('alpha', 'one', 60);
    await extract(['alpha']);
    expect(await load(1, ['alpha'])).toMatchObject([{ batches: 12, changes: 60, inserted_versions: 60 }]);
    expect(await batchesOf('alpha')).toBe(12);
    const log = await logOf('alpha');
    expect([await batchFiles(log), (await readdir(log.processed)).length]).toEqual([[], 12]);
    expect(await failing()).toEqual([]);
  });

  it.each<[string, (file: string) => Promise<void>, string]>([
    [
      'a file that was cut',
      async (file) => {
        await writeFile(file, (await readFile(file, 'utf8')).slice(0, -30));
      },
      'a batch file cannot be loaded: it is truncated',
    ],
    ['a file that is gone', (file) => rename(file, `${file}.gone`), 'a batch is missing before this one'],
    [
      'a file that the warehouse refuses',
      async (file) => {
        await writeFile(
          file,
          (await readFile(file, 'utf8')).replace(/"extracted_at": "[^"]*"/, '"extracted_at": "never"'),
        );
      },
      'the document is not a batch: extracted_at is not an ISO 8601 instant',
    ],
  ])('are applied up to %s, and the error names the file', async (_, spoil, message) => {
    await change('alpha', 'one', 40);
    await extract(['alpha']);
    const bad = await fileAt('alpha', 5);
    const next = await fileAt('alpha', 6);
    await spoil(bad);
    const error = await load(1, ['alpha']).then(
      () => undefined,
      (thrown: unknown) => thrown as Error & { detail: string },
    );
    expect(error?.message).toBe(message);
    expect(error?.detail).toContain(path.basename(message.includes('missing') ? next : bad));
    expect(await batchesOf('alpha')).toBe(5);
    expect((await readdir((await logOf('alpha')).processed)).length).toBe(5);
    expect(await failing()).toEqual([]);
  });

  it('are skipped where an earlier loader died between commit and move', async () => {
    await change('alpha', 'one', 30);
    await extract(['alpha']);
    const killed = await runCli(['load', '--table', 'alpha'], {
      ...pipeline.env,
      NODE_ENV: 'test',
      TIDEMARK_FAILPOINT: 'move unlink:4:kill',
    });
    expect(killed.code).toBeNull();
    expect((await batchFiles(await logOf('alpha'))).length).toBe(3);
    await change('alpha', 'two', 30);
    await extract(['alpha']);
    expect(await load(1, ['alpha'])).toMatchObject([{ skipped: 1, batches: 8, inserted_versions: 40 }]);
    expect((await failing()).map(({ check }) => check)).toEqual(['no run is left unfinished']);
  });

  it('are one by one where they come from elsewhere: nothing says that they follow each other', async () => {
    const log = await logOf('alpha');
    for (const id of ['1', '2', '3'])
      await appendFile(
        path.join(log.folder, `changes_${id}.json`),
        JSON.stringify({
          batch_metadata: {
            batch_id: id,
            table: 'alpha',
            extracted_at: `2026-02-01T0${id}:00:00Z`,
            change_count: 1,
            watermark: null,
          },
          changes: [
            {
              id: 1,
              state: id,
              touched: `2026-02-01T0${id}:00:00Z`,
              operation_type: 'UPDATE',
              cdc_timestamp: `2026-02-01T0${id}:00:00Z`,
            },
          ],
        }),
      );
    await load(1, ['alpha']);
    expect([await batchesOf('alpha'), await transactionsOf('alpha')]).toEqual([3, 3]);
  });
});

describe('load --parallel', () => {
  it('works on so many tables at once: one that must wait holds up no other', async () => {
    for (const table of TABLES) await change(table, 'one', 20);
    await extract();
    const blocker = connect(pipeline.admin.warehouse, 'blocker');
    await blocker`begin`;
    await blocker`select tidemark._lock_dimension('alpha', '')`;
    const loading = load(2);
    await until(async () => (await batchesOf('beta')) + (await batchesOf('gamma')) === 8);
    expect(await batchesOf('alpha')).toBe(0);
    await blocker`rollback`;
    await blocker.end();
    expect((await loading).map(({ table, batches }) => [table, batches])).toEqual([
      ['alpha', 4],
      ['beta', 4],
      ['gamma', 4],
    ]);
  });

  it('stops the table with a bad file and no other, and says which', async () => {
    for (const table of TABLES) await change(table, 'one', 20);
    await extract();
    const bad = await fileAt('beta', 2);
    await writeFile(bad, 'poison');
    const { code, stderr, stdout } = await runCli(['load', '--parallel', '4'], pipeline.env);
    expect(code).toBe(1);
    expect(stdout).toMatch(/^alpha: 20 changes .*\ngamma: 20 changes .*\n3 tables besides: nothing to load\n$/);
    expect(stderr).toContain('error: a batch file cannot be loaded: it is not JSON, or it is truncated');
    expect(stderr).toContain(path.basename(bad));
    expect([await batchesOf('alpha'), await batchesOf('beta'), await batchesOf('gamma')]).toEqual([4, 2, 4]);
    await writeFile(await fileAt('beta', 0), 'poison');
    await change('gamma', 'two', 5);
    await extract(['gamma']);
    await writeFile(await fileAt('gamma', 0), 'poison');
    await expect(load(4)).rejects.toThrow('2 tables failed: beta, gamma');
    expect(await failing()).toEqual([]);
  });

  it('says who is at work on a table, and each batch is applied once, by however many loaders', async () => {
    for (const table of TABLES) await change(table, 'one', 50);
    await extract();
    const results = await Promise.all([load(3), load(3), load(2)]);
    const sum = (name: 'batches' | 'inserted_versions') =>
      results.flat().reduce((total, result) => total + result[name], 0);
    expect([sum('batches'), sum('inserted_versions')]).toEqual([30, 150]);
    expect(await failing()).toEqual([]);
  });

  it('ends cleanly on a signal: what is in hand is finished, the rest is left for the next run', async () => {
    for (const table of TABLES) await change(table, 'one', 20);
    await extract();
    const blocker = connect(pipeline.admin.warehouse, 'blocker');
    await blocker`begin`;
    for (const table of ['alpha', 'beta']) await blocker`select tidemark._lock_dimension(${table}, '')`;
    const loader = startCli(['load', '--parallel', '2'], pipeline.env);
    await until(async () => {
      const [row] = await pipeline.warehouse<
        [{ waiting: string }]
      >`select count(*) as waiting from pg_locks where locktype = 'advisory' and not granted and database = (select oid from pg_database where datname = current_database())`;
      return row.waiting === '2';
    });
    loader.kill('SIGTERM');
    await blocker`rollback`;
    await blocker.end();
    const { code, stderr } = await loader.ended;
    expect([code, stderr]).toEqual([
      1,
      expect.stringContaining('interrupted: load goes on with the rest when it is run again'),
    ]);
    expect([await batchesOf('alpha'), await batchesOf('beta'), await batchesOf('gamma')]).toEqual([1, 1, 0]);
    await load(2);
    expect([await batchesOf('alpha'), await batchesOf('beta'), await batchesOf('gamma')]).toEqual([4, 4, 4]);
  });

  it.each(['0', '-1', '1.5', 'many', '21'])('%s is refused', async (number) => {
    const { code, stderr } = await runCli(['load', '--parallel', number], pipeline.env);
    expect([code, stderr]).toEqual([
      2,
      expect.stringMatching(/--parallel is .*, accepted is a whole number from 1 to MAX_CONNECTIONS \(20\)/),
    ]);
  });
});
