import { cp, readFile, readdir } from 'node:fs/promises';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { extractTables } from '../../runner/extract/tables.js';
import { verifyTables } from '../../runner/load/replay.js';
import { loadTables } from '../../runner/load/tables.js';
import { examine } from '../../runner/operate/doctor.js';
import { forget, forgetAgain } from '../../runner/operate/forget.js';
import { runChecks } from '../../runner/warehouse/checks.js';
import { runCli } from '../support/cli.js';
import { createPipeline, type TestPipeline } from '../support/databases.js';
import { createSourceTable, registerDimension, type TestColumn } from '../support/dimensions.js';
import { owning } from '../support/roles.js';

/** What was forgotten is forgotten again: tidemark.recall_forgettings, tidemark.forgetting_notes, tidemark.open_forgettings, tidemark.note_captured_until. */

const COLUMNS: readonly TestColumn[] = [
  { source: 'no', type: 'integer', role: 'business key' },
  { source: 'name', type: 'text', role: 'tracked' },
  { source: 'note', type: 'text', role: 'untracked' },
  { source: 'changed', type: 'timestamptz', role: 'effective time' },
];
const [ANNA, BELA] = ['918273', '645918'];
const TRACE = /918273|645918|Anna old|Bela old/;

let pipeline: TestPipeline;
beforeAll(async () => {
  pipeline = await createPipeline();
  await createSourceTable(pipeline.source, 'people', COLUMNS);
  await registerDimension(pipeline.warehouse, 'people', 'people', COLUMNS);
});
afterAll(async () => {
  await pipeline.drop();
});

const folder = () => path.join(pipeline.settings.cdc_log_dir, 'people');
const extract = () => extractTables({ settings: pipeline.settings, tables: ['people'] });
const load = () => loadTables({ settings: pipeline.settings, tables: ['people'] });
const again = () => forgetAgain(owning(pipeline.settings), ['people']);
const put = (no: string, name: string, note = 'none') =>
  pipeline.source`insert into people values (${no}, ${name}, ${note}, clock_timestamp())
    on conflict (no) do update set name = excluded.name, note = excluded.note, changed = excluded.changed`;
const history = async () =>
  (
    await pipeline.warehouse<{ line: string }[]>`
      select concat_ws(' ', case when no < -99999999 then 'shell' else coalesce(name, no::text) end, cdc_operation,
        case when valid_to is null then 'in force' end) as line
      from dim_people_history order by no < 0 desc, no, valid_from`
  ).map(({ line }) => line);
const keyOf = async (name: string) =>
  (await pipeline.warehouse`select surrogate_key from dim_people_history where name = ${name}`)[0]
    ?.surrogate_key as string;
const doctor = async () =>
  (await examine(pipeline.settings)).flatMap((each) => (/forg[eo]t/.test(each.message) ? [each.message] : []));
async function assertSound(): Promise<void> {
  const violations = (await runChecks(pipeline.warehouse, ['pipeline', 'scd2'])).filter((each) => each.violations > 0);
  expect(violations).toEqual([]);
  expect(await verifyTables(owning(pipeline.settings), ['people'])).toMatchObject([{ missing: [], differences: 0 }]);
}

const TABLES = [
  'public.dim_people_history',
  ...['batches', 'absorbed_changes', 'first_values', 'forgettings', 'forgotten_contents', 'shell_keys'].map(
    (name) => `tidemark.${name}`,
  ),
];
/** A backup of the warehouse, as far as it is about the table. */
async function backUp(): Promise<void> {
  await pipeline.warehouse`create schema backup`;
  for (const table of TABLES)
    await pipeline.warehouse.unsafe(`create table backup.${table.split('.')[1] ?? ''} as table ${table}`);
}
async function restoreBackup(): Promise<void> {
  await pipeline.warehouse.unsafe(`truncate ${TABLES.join(', ')} cascade`);
  for (const table of TABLES)
    await pipeline.warehouse.unsafe(
      `insert into ${table} overriding system value select * from backup.${table.split('.')[1] ?? ''}`,
    );
}
async function traces(): Promise<string[]> {
  const found: string[] = [];
  for (const table of TABLES) {
    const [row] = await pipeline.warehouse.unsafe<[{ rows: string }]>(
      `select coalesce(string_agg(t::text, E'\\n'), '') as rows from ${table} as t`,
    );
    if (TRACE.test(row.rows)) found.push(table);
  }
  for (const name of await readdir(folder(), { recursive: true })) {
    if (!/\.json(\.gz)?$/.test(name)) continue;
    const bytes = await readFile(path.join(folder(), name));
    if (TRACE.test((name.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString())) found.push(name);
  }
  return found;
}

describe('what was forgotten, after backups were restored', () => {
  it('is forgotten again by its hash, wherever kill -9 ended that; a life that began since stays', async () => {
    await put('1', 'Oslo');
    await put(ANNA, 'Anna old');
    await put(BELA, 'Bela old', 'first');
    await extract();
    await load();
    await put(BELA, 'Bela old too');
    await put(ANNA, 'Anna old', 'noted');
    await extract();
    await load();
    await backUp();
    await cp(folder(), path.join(pipeline.folder, 'backup'), { recursive: true });
    await forget(owning(pipeline.settings), 'people', [ANNA], 'T-1');
    await forget(owning(pipeline.settings), 'people', [BELA], 'T-2', true);
    expect(await traces()).toEqual([]);
    const shells =
      await pipeline.warehouse`select no, valid_from, valid_to from dim_people_history where no < 0 order by valid_from`;

    // The warehouse is restored, and a batch file; then new lives of both are loaded upon the old ones, which the backup has again.
    await put(ANNA, 'Anna new');
    await put(BELA, 'Bela new');
    await extract();
    await restoreBackup();
    const [first = ''] = (await readdir(path.join(folder(), 'processed'))).sort();
    await cp(path.join(pipeline.folder, 'backup', 'processed', first), path.join(folder(), 'processed', first));
    await load();
    const kept = await keyOf('Anna new');
    expect(await doctor()).toEqual([
      'the warehouse does not know of keys that were forgotten, as it is from a backup: T-1, T-2',
    ]);
    expect(await traces()).toEqual(expect.arrayContaining(['public.dim_people_history', 'tidemark.absorbed_changes']));
    expect(await history()).toContain('Anna new UPDATE in force');

    const args = ['forget', '--again', '--yes'];
    for (const place of ['replace:1', 'forget files:1'])
      expect(
        await runCli(args, { ...pipeline.env, NODE_ENV: 'test', TIDEMARK_FAILPOINT: `${place}:kill` }),
      ).toMatchObject({ code: null, stdout: '', stderr: '' });
    expect(await doctor()).toEqual(['a key was not forgotten to the end: T-1, T-2']);
    const result = await runCli(args, pipeline.env);
    expect(result).toMatchObject({ code: 0, stderr: '' });
    expect(await doctor()).toEqual([]);
    expect(result.stdout).toMatch(/^people: forgotten again \(T-1, T-2\): /m);
    expect(result.stdout).not.toMatch(TRACE);
    expect(await history()).toEqual([
      'shell INSERT',
      'shell UPDATE in force',
      'Oslo INSERT in force',
      'Bela new INSERT in force',
      'Anna new INSERT in force',
    ]);
    expect(await keyOf('Anna new')).toBe(kept);
    expect([
      ...(await pipeline.warehouse`select no, valid_from, valid_to from dim_people_history where no < 0 order by valid_from`),
    ]).toEqual([...shells]);
    await assertSound();
    const left = await traces();
    expect(left.every((name) => !name.startsWith('tidemark.f'))).toBe(true);
    // Nothing more to do, and nothing is done.
    expect(await again()).toEqual([
      { table: 'people', references: ['T-1', 'T-2'], rows: 0, files: 0, unknown: [], exports: [] },
    ]);
  });

  it('is told by a warehouse that kept its notes, where the change log is from a backup', async () => {
    await forget(owning(pipeline.settings), 'people', [ANNA], 'T-3');
    await forget(owning(pipeline.settings), 'people', [BELA], 'T-4');
    await cp(path.join(pipeline.folder, 'backup'), folder(), { recursive: true, force: true });
    expect(await again()).toMatchObject([{ references: ['T-1', 'T-2', 'T-3', 'T-4'], rows: 0, files: 2 }]);
    expect(await traces()).toEqual([]);
    await assertSound();
    const notes = await readFile(path.join(folder(), 'forgotten.json'), 'utf8');
    expect((JSON.parse(notes) as { reference: string }[]).map(({ reference }) => reference)).toEqual([
      'T-1',
      'T-2',
      'T-3',
      'T-4',
    ]);
    expect(notes).not.toMatch(TRACE);
  });

  it('cannot be told with the secret of another warehouse, which is for its owner alone', async () => {
    await pipeline.warehouse`truncate tidemark.forgettings`;
    await pipeline.warehouse`update tidemark.forgetting_secret set secret = decode(repeat('ab', 64), 'hex')`;
    expect(await again()).toEqual([
      { table: 'people', references: [], rows: 0, files: 0, unknown: ['T-1', 'T-2', 'T-3', 'T-4'], exports: [] },
    ]);
    const granted = await pipeline.warehouse`
      select line from tidemark.grant_statements(p_prefix => 'tidemark') as line where line like 'grant %forgetting_secret%'`;
    expect([...granted]).toEqual([]);
    const [known] = await pipeline.warehouse`
      select count(*)::integer as lines from tidemark.grant_statements(p_prefix => 'tidemark') as line where line like 'grant %tidemark.forgettings%'`;
    expect(known).toEqual({ lines: 2 });
  });
});
