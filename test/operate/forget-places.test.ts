import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, readdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { PROJECT_ROOT } from '../../runner/base/settings.js';
import { parseShard } from '../../runner/batch/shard.js';
import { openChangeLog } from '../../runner/change-log/chain.js';
import { extractTables } from '../../runner/extract/tables.js';
import { verifyTables } from '../../runner/load/replay.js';
import { loadTables } from '../../runner/load/tables.js';
import { forget } from '../../runner/operate/forget.js';
import { runChecks } from '../../runner/warehouse/checks.js';
import { cleanEnvironment } from '../support/cli.js';
import { createPipeline, type TestPipeline } from '../support/databases.js';
import { createSourceTable, registerDimension, type TestColumn } from '../support/dimensions.js';
import { captureFromLog, stream } from '../support/log.js';
import { environmentFor, owning } from '../support/roles.js';

/** Places where a key may stand that not every table has: shards, documents from elsewhere, columns of another name, what the log leaves out. */

const COLUMNS: readonly TestColumn[] = [
  { source: 'no', type: 'integer', role: 'business key' },
  { source: 'name', type: 'text', role: 'tracked' },
  { source: 'changed', type: 'timestamptz', role: 'effective time' },
];
const KEY = '918273';
const TRACE = /918273|Zebulon/;

let pipeline: TestPipeline;
beforeAll(async () => {
  pipeline = await createPipeline();
});
afterAll(async () => {
  await pipeline.drop();
});

async function begin(table: string): Promise<void> {
  await createSourceTable(pipeline.source, table, COLUMNS);
  await registerDimension(pipeline.warehouse, table, table, COLUMNS);
}
const put = (table: string, no: string, name: string) =>
  pipeline.source.unsafe(
    `insert into ${table} values ($1::text::integer, $2, clock_timestamp())
    on conflict (no) do update set name = excluded.name, changed = excluded.changed`,
    [no, name],
  );
const load = (table: string) => loadTables({ settings: pipeline.settings, tables: [table] });
const forgetKey = (table: string, key: string, keepShells = false) =>
  forget(owning(pipeline.settings), table, [key], 'T-1', keepShells);
const names = async (table: string) =>
  (
    await pipeline.warehouse.unsafe<{ name: string }[]>(`select name from dim_${table}_history order by valid_from`)
  ).map(({ name }) => name);
/** What has the key or its name in files, history and what is kept beside it. */
async function traces(table: string): Promise<string[]> {
  const found: string[] = [];
  const folder = path.join(pipeline.settings.cdc_log_dir, table);
  for (const name of await readdir(folder, { recursive: true })) {
    if (!/\.json(\.gz)?$/.test(name)) continue;
    const bytes = await readFile(path.join(folder, name));
    if (TRACE.test((name.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString())) found.push(name);
  }
  for (const kept of [`dim_${table}_history`, 'tidemark.absorbed_changes', 'tidemark.batches', 'tidemark.events']) {
    const [row] = await pipeline.warehouse.unsafe<[{ rows: string }]>(
      `select coalesce(string_agg(t::text, E'\\n'), '') as rows from ${kept} as t`,
    );
    if (TRACE.test(row.rows)) found.push(kept);
  }
  return found;
}
async function assertSound(table: string): Promise<void> {
  const violations = (await runChecks(pipeline.warehouse, ['pipeline', 'scd2'])).filter((each) => each.violations > 0);
  expect(violations).toEqual([]);
  expect(await verifyTables(owning(pipeline.settings), [table])).toMatchObject([{ missing: [], differences: 0 }]);
}

describe('a key is forgotten', () => {
  it('in every shard of a table', async () => {
    await begin('parts');
    const read = async () => {
      for (const shard of ['1/2', '2/2'])
        await extractTables({ settings: pipeline.settings, tables: ['parts'], shard: parseShard(shard) });
    };
    for (const no of ['1', '2', '3', '4']) await put('parts', no, `part ${no}`);
    await put('parts', KEY, 'Zebulon');
    await read();
    await load('parts');
    await put('parts', KEY, 'Zebulon waits');
    await read();
    expect((await traces('parts')).some((name) => name.startsWith('shards/'))).toBe(true);
    expect(await forgetKey('parts', KEY)).toMatchObject({ versions: 1 });
    expect(await traces('parts')).toEqual([]);
    await load('parts');
    await put('parts', '1', 'part 1 later');
    await read();
    await load('parts');
    expect(await names('parts')).toHaveLength(5);
    await assertSound('parts');
  });

  it('in documents from elsewhere, which state no checksum, applied and waiting', async () => {
    await begin('visits');
    const { folder } = await openChangeLog(pipeline.settings.cdc_log_dir, 'visits');
    const deliver = (minute: number, ...lines: [no: string, name: string][]) => {
      const moment = `2026-02-01T10:${String(minute)}:00Z`;
      const batch_id = `changes_20260201_10${String(minute)}00_000`;
      const changes = lines.map(([no, name]) => ({
        ...{ no: Number(no), name, changed: moment, operation_type: 'UPDATE', cdc_timestamp: moment },
      }));
      const batch_metadata = {
        batch_id,
        table: 'visits',
        extracted_at: moment,
        change_count: changes.length,
        watermark: null,
      };
      return writeFile(path.join(folder, `${batch_id}.json`), JSON.stringify({ batch_metadata, changes }), {
        mode: 0o600,
      });
    };
    await deliver(10, [KEY, 'Zebulon'], ['1', 'first']);
    await load('visits');
    await deliver(20, ['2', 'second'], [KEY, 'Zebulon again']);
    await forgetKey('visits', KEY);
    expect(await traces('visits')).toEqual([]);
    await load('visits');
    expect((await names('visits')).sort()).toEqual(['first', 'second']);
    await assertSound('visits');
  });

  it('in batches from before its column had another name', async () => {
    await begin('members');
    await put('members', KEY, 'Zebulon');
    await put('members', '1', 'one');
    await extractTables({ settings: pipeline.settings, tables: ['members'] });
    await load('members');
    await pipeline.source`alter table members rename column no to number`;
    await pipeline.warehouse`select tidemark.rename_source_column('members', 'no', 'number')`;
    await pipeline.source`update members set name = 'Zebulon too', changed = clock_timestamp() where number = ${KEY}::text::integer`;
    await extractTables({ settings: pipeline.settings, tables: ['members'] });
    expect((await forgetKey('members', KEY)).files).toMatchObject({});
    expect(await traces('members')).toEqual([]);
    await load('members');
    expect(await names('members')).toEqual(['one']);
    await assertSound('members');
  });

  it('after the key that its row took, where the log leaves out what did not change; and where a TRUNCATE ended it', async () => {
    await begin('things');
    await put('things', '1', 'one');
    await captureFromLog(pipeline, 'things');
    await load('things');
    // A value that is stored apart: an update of the key alone does not send it.
    await pipeline.source.unsafe('alter table things alter column name set storage external');
    await put('things', KEY, 'Zebulon '.repeat(2000));
    await pipeline.source`update things set no = 645918 where no = ${KEY}::text::integer`;
    await stream(pipeline);
    await expect(forgetKey('things', KEY)).rejects.toMatchObject({ code: 'TM029' });
    await forgetKey('things', '645918');
    await forgetKey('things', KEY);
    expect(await traces('things')).toEqual([]);
    await put('things', KEY, 'Zebulon');
    await stream(pipeline);
    await load('things');
    await pipeline.source`truncate things`;
    await stream(pipeline);
    await load('things');
    await forgetKey('things', KEY);
    expect(await traces('things')).toEqual([]);
    expect(await names('things')).toEqual(['one']);
    await assertSound('things');
  });

  it('and leaves shells, of which the end was loaded when that had been cut off', async () => {
    // In the log, as the one before.
    await put('things', KEY, 'Zebulon');
    await stream(pipeline);
    await load('things');
    await pipeline.source`delete from things where no = ${KEY}::text::integer`;
    await stream(pipeline);
    vi.stubEnv('TIDEMARK_FAILPOINT', 'forget files:1:EIO');
    await expect(forgetKey('things', KEY, true)).rejects.toThrow('failpoint forget files');
    vi.unstubAllEnvs();
    await load('things');
    await forgetKey('things', KEY, true);
    expect(await traces('things')).toEqual([]);
    const shells =
      await pipeline.warehouse`select valid_to is not null as has_ended from dim_things_history where no < 0`;
    expect([...shells]).toEqual([{ has_ended: true }]);
    await assertSound('things');
  });

  it.skipIf(process.platform !== 'linux')(
    'at a terminal after two questions, and not after another answer',
    async () => {
      await begin('guests');
      await put('guests', KEY, 'Zebulon');
      await extractTables({ settings: pipeline.settings, tables: ['guests'] });
      await load('guests');
      const answering = async (...answers: string[]) => {
        const command = `'${process.execPath}' dist/cli.js forget guests ${KEY} --reference T-1`;
        const env = cleanEnvironment({ ...environmentFor(['forget'], pipeline.env), TERM: 'dumb' });
        const child = spawn('script', ['-qec', command, '/dev/null'], { cwd: PROJECT_ROOT, env });
        let [said, asked] = ['', 0];
        child.stdout.on('data', (chunk: Buffer) => {
          said += chunk.toString();
          const questions = said.match(/Which table\? |Type "forget": /g)?.length ?? 0;
          if (questions > asked) child.stdin.write(`${answers[asked] ?? ''}\r`);
          asked = questions;
        });
        const [code] = (await once(child, 'close')) as [number | null];
        return { code, said };
      };
      expect(await answering('guest')).toMatchObject({
        code: 2,
        said: expect.stringContaining('nothing was erased') as string,
      });
      expect(await answering('guests', 'yes')).toMatchObject({ code: 2 });
      expect(await names('guests')).toEqual(['Zebulon']);
      expect(await answering('guests', 'forget')).toMatchObject({
        code: 0,
        said: expect.stringContaining('1 version') as string,
      });
      expect(await traces('guests')).toEqual([]);
    },
  );
});
