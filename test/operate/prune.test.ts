import { readFile, readdir, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { changeLogOf, readCheckpoint } from '../../runner/change-log/chain.js';
import { runChecks } from '../../runner/warehouse/checks.js';
import { extractTables } from '../../runner/extract/tables.js';
import type { Pruned } from '../../runner/operate/prune.js';
import { publishCheckpoint } from '../../runner/change-log/publish.js';
import { runCli, startCli, type CliResult } from '../support/cli.js';
import { createPipeline, type TestPipeline } from '../support/databases.js';
import { owning } from '../support/roles.js';
import { loadTables } from '../../runner/load/tables.js';
import { verifyTables } from '../../runner/load/replay.js';

let pipeline: TestPipeline;
beforeEach(async () => {
  pipeline = await createPipeline();
  await pipeline.source`insert into customers (full_name, email) values ('Ada', 'a@x')`;
});
afterEach(async () => {
  await pipeline.drop();
});

const RETENTION = { CDC_LOG_RETENTION_DAYS: '10' };
const ALL = {
  CDC_LOG_RETENTION_DAYS: '10',
  ABSORBED_RETENTION_DAYS: '10',
  RUN_RETENTION_DAYS: '10',
  EVENT_RETENTION_DAYS: '10',
};
const prune = (settings: Record<string, string>, ...args: string[]): Promise<CliResult> =>
  runCli(['prune', ...args], { ...pipeline.env, ...settings });
const pruned = async (...args: string[]) => JSON.parse((await prune(ALL, '--json', ...args)).stdout) as Pruned;
const folder = () => path.join(pipeline.settings.cdc_log_dir, 'customers');
const files = async () =>
  (await readdir(folder(), { recursive: true }))
    .filter((name) => name.endsWith('.gz') || name.endsWith('.json'))
    .sort();
const processed = async () => (await readdir(path.join(folder(), 'processed'))).sort();
const absorbed = async () => (await pipeline.warehouse`select 1 from tidemark.absorbed_changes`).length;

/** Four batches of the same row, and two runs, which the clock of the pipeline says are 100 days old but for the last. */
async function grown(): Promise<void> {
  for (let poll = 0; poll < 4; poll += 1) {
    await extractTables({ settings: pipeline.settings, tables: ['customers'], full: true });
    await loadTables({ settings: pipeline.settings, tables: ['customers'] });
  }
  await age();
  await pipeline.warehouse.unsafe(`
    insert into public.pipeline_metadata (pipeline_name, run_id, start_time, end_time, status) values
      ('load', 'old', '2020-01-01', '2020-01-02', 'succeeded'), ('load', 'newest', '2020-01-03', '2020-01-04', 'succeeded')`);
}

/** Makes batches older, all but so many of the newest: in their names, checkpoints and rows. */
async function age(butNewest = 1): Promise<void> {
  const batches = await pipeline.warehouse<
    { batch_id: string; sequence: string }[]
  >`select batch_id, sequence from tidemark.batches order by sequence`;
  for (const { batch_id: name, sequence } of batches
    .slice(0, batches.length - butNewest)
    .filter(({ batch_id }) => !batch_id.startsWith('changes_2020'))) {
    const old = name.replace(/^changes_\d{4}/, 'changes_2020');
    const file = path.join(folder(), 'processed', `${name}.json.gz`);
    await writeFile(
      file,
      gzipSync(
        gunzipSync(await readFile(file))
          .toString()
          .replaceAll(name, old),
      ),
    );
    await rename(file, path.join(folder(), 'processed', `${old}.json.gz`));
    const checkpoint = path.join(folder(), 'checkpoints', `${sequence}.json`);
    await writeFile(
      checkpoint,
      (await readFile(checkpoint, 'utf8'))
        .replaceAll(name, old)
        .replace(/"extracted_at": "\d{4}/, '"extracted_at": "2020'),
    );
    await pipeline.warehouse.begin(async (sql) => {
      await sql`update tidemark.absorbed_changes set batch_id = ${old}, captured_at = captured_at - interval '2000 days' where batch_id = ${name}`;
      await sql`update public.dim_customers_history set batch_id = ${old}, captured_at = captured_at - interval '2000 days' where batch_id = ${name}`;
      await sql`update tidemark.batches set batch_id = ${old}, extracted_at = extracted_at - interval '2000 days', least_captured_at = least_captured_at - interval '2000 days', greatest_captured_at = greatest_captured_at - interval '2000 days' where batch_id = ${name}`;
    });
  }
}

describe('tidemark prune', () => {
  test('keeps absorbed changes while a batch waits that is older than their retention, and the newest applied batch whatever waits', async () => {
    await grown();
    await extractTables({ settings: pipeline.settings, tables: ['customers'], full: true });
    const [waiting = ''] = (await readdir(folder())).filter((name) => name.startsWith('changes_'));
    await rename(path.join(folder(), waiting), path.join(folder(), waiting.replace(/^changes_\d{4}/, 'changes_2021')));
    const { stderr, stdout } = await prune(ALL);
    expect(stdout).toMatch(/^customers +3 +3 +0$/m);
    expect(stderr).toContain('absorbed changes are kept');
    expect(await absorbed()).toBe(3);
    expect((await files()).filter((name) => name.endsWith('.gz'))).toHaveLength(1);
  });

  test('removes what its settings call old, says what it removed, and leaves checks and loading well', async () => {
    await grown();
    expect(await absorbed()).toBe(3);
    const { code, stdout } = await prune(ALL);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^customers +3 +3 +1$/m);
    expect(stdout).toMatch(/^orders +0 +0 +0$/m);
    expect(stdout).toContain('removed besides: 1 run, 0 reconciliations');
    expect(await files()).toEqual([
      expect.stringMatching(/^checkpoints\/4.json/),
      expect.stringMatching(/^processed\/changes_2\d+_\d+_\d+.json.gz/),
    ]);
    expect(await absorbed()).toBe(2);
    expect(
      (await runChecks(pipeline.warehouse, ['scd2', 'pipeline'])).filter(({ violations }) => violations > 0),
    ).toEqual([]);
    expect(await pruned()).toMatchObject({
      tables: [{ batch_files: 0, checkpoints: 0, absorbed_changes: 0 }, {}, {}],
      runs: 0,
    });
    await pipeline.source`update customers set full_name = 'Ada L.', updated_at = now()`;
    await extractTables({ settings: pipeline.settings, tables: ['customers'] });
    expect(await loadTables({ settings: pipeline.settings, tables: ['customers'] })).toMatchObject([
      { inserted_versions: 1, closed_versions: 1 },
    ]);
  });

  test('with --dry-run finds the same and removes nothing', async () => {
    await grown();
    const [before, changes] = [await files(), await absorbed()];
    const { stdout } = await prune(ALL, '--dry-run');
    expect(stdout).toMatch(/^customers +3 +3 +1$/m);
    expect(stdout).toMatch(/would be removed besides: 1 run, .*\nnothing was removed$/m);
    expect([await files(), await absorbed()]).toEqual([before, changes]);
    expect(await pruned('--dry-run')).toMatchObject({
      is_dry_run: true,
      runs: 1,
      tables: [{ table: 'customers', batch_files: 3, checkpoints: 3, absorbed_changes: 1 }, {}, {}],
    });
  });

  test('keeps everything for ever unless told otherwise, and says so', async () => {
    await grown();
    const before = await files();
    const { stdout } = await prune({});
    expect(stdout).toContain(
      'kept for ever: batch files and checkpoints (CDC_LOG_RETENTION_DAYS), absorbed changes (ABSORBED_RETENTION_DAYS), runs and reconciliations (RUN_RETENTION_DAYS)',
    );
    expect([await files(), await absorbed()]).toEqual([before, 3]);
  });

  test('never removes what waits, nor what was applied after it', async () => {
    await grown();
    const [, second = ''] = await processed();
    await rename(path.join(folder(), 'processed', second), path.join(folder(), second));
    expect((await prune(RETENTION)).stdout).toMatch(/^customers +1 +1 +0$/m);
    expect((await files()).filter((name) => name.endsWith('.gz'))).toHaveLength(3);
  });

  test('of absorbed changes alone leaves the change log whole: history can still be verified and made again', async () => {
    for (let poll = 0; poll < 4; poll += 1) {
      await extractTables({ settings: pipeline.settings, tables: ['customers'], full: true });
      await loadTables({ settings: pipeline.settings, tables: ['customers'] });
    }
    await pipeline.warehouse`select tidemark.prune_absorbed_changes('customers', 'infinity', 100)`;
    expect(await absorbed()).toBe(2);
    expect(await verifyTables(owning(pipeline.settings), ['customers'])).toMatchObject([
      { differences: 0, missing: [] },
    ]);
    expect(await runCli(['rebuild', '--table', 'customers'], pipeline.env)).toMatchObject({ code: 0 });
    expect(await absorbed()).toBe(3);
    expect([
      ...(await pipeline.warehouse`select pruned_before from tidemark.dimensions where dimension_name = 'customers'`),
    ]).toEqual([{ pruned_before: null }]);
    expect(
      (await runChecks(pipeline.warehouse, ['scd2', 'pipeline'])).filter(({ violations }) => violations > 0),
    ).toEqual([]);
  });

  test('keeps the newest applied batch with its checkpoint, whatever quiet polls followed, so that it can be loaded once more', async () => {
    await grown();
    await age(0);
    const log = changeLogOf(pipeline.settings.cdc_log_dir, 'customers');
    const newest = await readCheckpoint(log, 4);
    if (newest === undefined) throw new Error('no checkpoint');
    const quiet = {
      ...newest,
      batch_id: null,
      checksum: null,
      change_count: 0,
      previous_batch_id: newest.batch_id,
      previous_checksum: newest.checksum,
    };
    for (const sequence of [5, 6]) await publishCheckpoint(log, { ...quiet, sequence });
    expect((await prune(RETENTION)).stdout).toMatch(/^customers +3 +4 +0$/m);
    expect(await files()).toEqual([
      'checkpoints/4.json',
      'checkpoints/6.json',
      expect.stringMatching(/^processed\/changes_2020\S+.json.gz/),
    ]);
    const [kept = ''] = await processed();
    await rename(path.join(folder(), 'processed', kept), path.join(folder(), kept));
    expect(await loadTables({ settings: pipeline.settings, tables: ['customers'] })).toMatchObject([
      { batches: 0, skipped: 1 },
    ]);
  });

  test('refuses a table that is not registered', async () => {
    expect(await prune(ALL, '--table', '../orders')).toMatchObject({ code: 2, stdout: '' });
  });
});

/** Both ways to remove old files, which ask the ledger in the same way. */
describe.each([
  ['tidemark prune', 'prune'],
  ['tidemark load', 'load'],
])('%s', (_, command) => {
  // A process looks for what is old when it begins.
  const removeOld = (): Promise<CliResult> => startCli([command], { ...pipeline.env, ...RETENTION }).ended;

  test('removes the files of batches that are loaded and settled', async () => {
    await grown();
    expect((await removeOld()).code).toBe(0);
    expect(await files()).toEqual([
      expect.stringMatching(/^checkpoints\/4.json/),
      expect.stringMatching(/^processed\/changes_2\d+_\d+_\d+.json.gz/),
    ]);
  });

  test('keeps an applied batch that the ledger does not know, and what follows it', async () => {
    await grown();
    const [, second = ''] = await processed();
    await pipeline.warehouse`delete from tidemark.absorbed_changes where batch_id = ${second.replace('.json.gz', '')}`;
    await pipeline.warehouse`delete from tidemark.batches where batch_id = ${second.replace('.json.gz', '')}`;
    const { code, stderr } = await removeOld();
    expect([code, await processed()]).toEqual([0, [second, expect.any(String), expect.any(String)]]);
    expect(stderr).toContain('that the ledger of this warehouse does not know are kept, and what follows them');
    expect((await files()).filter((name) => name.startsWith('checkpoints'))).toHaveLength(3);
  });

  test('keeps a batch of which a rejected change waits, and what follows it, until it is dismissed', async () => {
    await grown();
    const [, second = ''] = await processed();
    await pipeline.warehouse`
      insert into tidemark.rejected_changes (dimension_name, shard, batch_id, change_line, reason, change, rejected_at)
      values ('customers', '', ${second.replace('.json.gz', '')}, 9, 'made by the test', '{}', now())`;
    const { code, stderr } = await removeOld();
    expect([code, await processed()]).toEqual([0, [second, expect.any(String), expect.any(String)]]);
    expect(stderr).toMatch(/are kept from changes_2020\S+ on: rejected changes of it wait/);
    expect(
      await runCli(
        ['rejected', 'dismiss', '--batch', second.replace('.json.gz', ''), '--reason', 'made by the test'],
        pipeline.env,
      ),
    ).toMatchObject({ code: 0 });
    expect((await removeOld()).code).toBe(0);
    expect(await processed()).toHaveLength(1);
  });
});

test('a load does not fail where an old checkpoint cannot be read, and says which', async () => {
  await grown();
  await writeFile(path.join(folder(), 'checkpoints', '2.json'), 'no checkpoint');
  const { code, stderr } = await runCli(['load'], { ...pipeline.env, ...RETENTION });
  expect([code, stderr]).toEqual([
    0,
    expect.stringMatching(
      /old batches of customers could not be removed: error: a checkpoint cannot be read[^]*checkpoints\/2\.json/,
    ),
  ]);
  expect(await processed()).toHaveLength(4);
  expect(await prune(RETENTION)).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('checkpoints/2.json') as string,
  });
});

test('a load that goes on and on removes old files once in a while, and does not fail where the ledger cannot be asked', async () => {
  await grown();
  const loads = () =>
    loadTables({ settings: { ...pipeline.settings, cdc_log_retention_days: 10 }, tables: ['customers'] });
  const [first = ''] = await processed();
  const file = path.join(folder(), 'processed', first);
  const kept = await readFile(file);
  await pipeline.warehouse`alter function tidemark.settled_batches rename to gone`;
  expect(await loads()).toMatchObject([{ batches: 0 }]);
  expect(await processed()).toHaveLength(4);
  await pipeline.warehouse`alter function tidemark.gone rename to settled_batches`;
  await loads();
  expect(await processed()).toHaveLength(1);
  await writeFile(file, kept, { mode: 0o600 });
  await loads();
  expect(await processed()).toEqual([first, expect.any(String)]);
  expect((await startCli(['load'], { ...pipeline.env, ...RETENTION }).ended).code).toBe(0);
  expect(await processed()).toHaveLength(1);
});
