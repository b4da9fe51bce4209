import { copyFile, readFile, readdir, rename, stat } from 'node:fs/promises';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { extractTables } from '../../runner/extract/tables.js';
import { rebuildTables, verifyTables } from '../../runner/load/replay.js';
import { loadTables } from '../../runner/load/tables.js';
import { forget } from '../../runner/operate/forget.js';
import { runChecks } from '../../runner/warehouse/checks.js';
import { compile } from '../support/batches.js';
import { runCli } from '../support/cli.js';
import { createPipeline, type TestPipeline } from '../support/databases.js';
import { createSourceTable, registerDimension, type TestColumn } from '../support/dimensions.js';
import { captureFromLog, stream } from '../support/log.js';
import { restore, retract } from '../support/retractions.js';
import { owning } from '../support/roles.js';

/** A key is forgotten: tidemark.begin_forgetting, tidemark.forget_in_batch, tidemark.forget_in_metadata, tidemark.note_forgotten_content, tidemark.forget_keys. */

const COLUMNS: readonly TestColumn[] = [
  { source: 'town', type: 'varchar(40)', role: 'business key' },
  { source: 'no', type: 'numeric', role: 'business key' },
  { source: 'name', type: 'text', role: 'tracked' },
  { source: 'note', type: 'text', role: 'untracked' },
  { source: 'changed', type: 'timestamptz', role: 'effective time' },
];
const KEY = ['Quuxburg', '918273645'];
/** What nobody may find any more. */
const TRACE = /Quuxburg|918273645|Zebulon/;

let pipeline: TestPipeline;
beforeEach(async () => {
  pipeline = await createPipeline();
  await createSourceTable(pipeline.source, 'people', COLUMNS);
  await registerDimension(pipeline.warehouse, 'people', 'people', COLUMNS);
});
afterEach(async () => {
  await pipeline.drop();
});

const folder = (...names: string[]) => path.join(pipeline.settings.cdc_log_dir, 'people', ...names);
const extract = () => extractTables({ settings: pipeline.settings, tables: ['people'] });
const load = () => loadTables({ settings: pipeline.settings, tables: ['people'] });
const forgetKey = (reference = 'T-1') => forget(owning(pipeline.settings), 'people', KEY, reference);
const verified = () => verifyTables(owning(pipeline.settings), ['people']);

/** Sets name and note of one row, or makes it. */
const put = (town: string, no: string, name: string, note = 'none') =>
  pipeline.source`insert into people values (${town}, ${no}, ${name}, ${note}, clock_timestamp())
    on conflict (town, no) do update set name = excluded.name, note = excluded.note, changed = excluded.changed`;

/** The names of batch files, the oldest first, wherever they are. */
const batches = async () =>
  [...(await readdir(folder())), ...(await readdir(folder('processed')))]
    .filter((name) => name.startsWith('changes_'))
    .map((name) => name.replace(/\.json(\.gz)?$/, ''))
    .sort();

/** A person in every place where one can be: applied batches, a retracted one, rejected, and a batch that waits. */
async function live(): Promise<void> {
  // Its line comes first: those of others keep their numbers.
  await put('Quuxburg', '918273645', 'Zebulon the first', 'Zebulon lives');
  for (const town of ['Oslo', 'Rome', 'Riga']) await put(town, '1', `${town} at first`);
  await extract();
  await load();
  await put('Quuxburg', '918273645', 'Zebulon the first', 'Zebulon moves');
  await extract();
  await load();
  await put('Quuxburg', '918273645', 'Zebulon retracted');
  await put('Oslo', '1', 'Oslo retracted');
  await extract();
  await load();
  await retract(pipeline.warehouse, 'people', (await batches()).at(-1) ?? '');
  await pipeline.warehouse`alter table dim_people_history add constraint nothing_bad check (name not like '%refused')`;
  await compile(pipeline.warehouse, 'people');
  await put('Rome', '1', 'Rome refused');
  await put('Quuxburg', '918273645', 'Zebulon refused');
  await extract();
  await load();
  await put('Quuxburg', '918273645', 'Zebulon waits');
  await put('Riga', '1', 'Riga waits');
  await put('Quuxburg', '918273645', 'Zebulon still waits');
  await extract();
}

/** All files of the change log, unpacked, and all tables of Tidemark's and the history, as text by their names. */
async function everywhere(): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (const name of await readdir(pipeline.settings.cdc_log_dir, { recursive: true })) {
    const file = path.join(pipeline.settings.cdc_log_dir, name);
    if (!(await stat(file)).isFile()) continue;
    const bytes = await readFile(file);
    found.set(name, (name.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString());
  }
  const tables = await pipeline.warehouse<{ name: string }[]>`
    select c.oid::regclass::text as name from pg_class as c
    where c.relkind in ('r', 'p') and (c.relnamespace = 'tidemark'::regnamespace or c.relname in ('dim_people_history', 'pipeline_metadata'))`;
  for (const { name } of tables) {
    const [row] = await pipeline.warehouse.unsafe<[{ rows: string }]>(
      `select coalesce(string_agg(t::text, E'\\n'), '') as rows from ${name} as t`,
    );
    found.set(name, row.rows);
  }
  return found;
}
const traces = async () =>
  [...(await everywhere())].flatMap(([name, content]) => (TRACE.test(content) ? [name] : [])).sort();
const names = async () =>
  (await pipeline.warehouse`select name, is_current from dim_people_history order by town, valid_from`).map(
    ({ name, is_current }) => `${String(name)}${is_current === true ? '' : ' (ended)'}`,
  );
const violations = async () =>
  (await runChecks(pipeline.warehouse, ['pipeline', 'scd2'])).flatMap((each) =>
    each.violations > 0 && each.check !== 'no change is rejected' ? [each.check] : [],
  );

describe('a key that is forgotten', () => {
  it('is in no table and no file any more, and the chain proves everything else', async () => {
    await live();
    const places = await traces();
    for (const table of ['absorbed', 'rejected', 'retracted']) expect(places).toContain(`tidemark.${table}_changes`);
    expect(places).toEqual(expect.arrayContaining(['dim_people_history', 'tidemark.batches', 'tidemark.first_values']));
    expect(places.filter((name) => name.startsWith('people/changes_'))).toHaveLength(1);
    expect(places.filter((name) => name.endsWith('.gz'))).toHaveLength(4);
    expect(places.filter((name) => name.startsWith('people/checkpoints/'))).not.toEqual([]);
    const before = (await names()).filter((name) => !TRACE.test(name));

    const done = await forgetKey();
    expect(done).toMatchObject({
      ...{
        reference: 'T-1',
        versions: 1,
        absorbed_changes: 1,
        rejected_changes: 1,
        retracted_changes: 1,
        first_values: 1,
      },
      files: Object.fromEntries((await batches()).map((name) => [name, 1])),
    });
    expect(await traces()).toEqual([]);
    expect(await names()).toEqual(before);
    expect(await violations()).toEqual([]);
    expect(await verified()).toMatchObject([{ batches: 4, missing: [], differences: 0 }]);
    const [note] = await pipeline.warehouse`select forgotten_by, key_hash, finished_at from tidemark.forgettings`;
    expect(note?.finished_at).not.toBeNull();
    expect(note?.key_hash).toMatch(/^[0-9a-f]{64}$/);

    // What waited is loaded without it; what its row was refused for goes on to wait.
    await load();
    expect(await names()).toContain('Riga waits');
    expect(await verified()).toMatchObject([{ batches: 5, differences: 0 }]);
    const rows = await names();
    expect(await rebuildTables(owning(pipeline.settings), ['people'])).toMatchObject([
      { corrected_versions: 0, added_versions: 0, removed_versions: 0 },
    ]);
    expect(await names()).toEqual(rows);
    await restore(pipeline.warehouse, 'people', (await batches())[2] ?? '');
    expect(await names()).toContain('Oslo retracted');
    expect(await violations()).toEqual([]);
    expect(await traces()).toEqual([]);

    // What the source says of it again is a new life.
    await put('Quuxburg', '918273645', 'Zebulon again');
    await extract();
    await load();
    const [life] = await pipeline.warehouse`select name, cdc_operation from dim_people_history where town = 'Quuxburg'`;
    expect(life).toEqual({ name: 'Zebulon again', cdc_operation: 'INSERT' });
    expect(await verified()).toMatchObject([{ differences: 0 }]);
    // The same key, written in another way.
    await forget(owning(pipeline.settings), 'people', ['Quuxburg', '918273645.00'], 'T-2');
    expect(await traces()).toEqual([]);
    expect(await verified()).toMatchObject([{ differences: 0 }]);
  });

  it('is forgotten by the same command again, wherever kill -9 ended it', async () => {
    await live();
    const [waiting = ''] = (await batches()).slice(-1);
    await copyFile(folder(`${waiting}.json`), path.join(pipeline.folder, 'copy'));
    const args = ['forget', 'people', ...KEY, '--reference', 'T-3', '--yes'];
    // Among the files; then between them and the warehouse.
    for (const place of ['replace:8', 'forget files:1'])
      expect(
        await runCli(args, { ...pipeline.env, NODE_ENV: 'test', TIDEMARK_FAILPOINT: `${place}:kill` }),
      ).toMatchObject({ code: null, stdout: '', stderr: '' });
    const result = await runCli(args, pipeline.env);
    expect(result).toMatchObject({ code: 0, stderr: '' });
    expect(result.stdout).not.toMatch(TRACE);
    expect(await traces()).toEqual([]);
    expect(await pipeline.warehouse`select count(*)::integer as notes from tidemark.forgettings`).toMatchObject([
      { notes: 1 },
    ]);
    // A loader that had read the batch before, or a backup, does not bring it back.
    await rename(path.join(pipeline.folder, 'copy'), folder(`${waiting}.json`));
    await expect(load()).rejects.toMatchObject({ code: 'TM030' });
    await forgetKey();
    await load();
    expect(await verified()).toMatchObject([{ batches: 5, differences: 0 }]);
    expect(await violations()).toEqual([]);
  });

  it('goes from batches of the log that wait, whose reader goes on after it', async () => {
    for (const town of ['Oslo', 'Rome']) await put(town, '1', `${town} at first`);
    await put('Quuxburg', '918273645', 'Zebulon the first');
    await captureFromLog(pipeline, 'people');
    await load();
    await put('Quuxburg', '918273645', 'Zebulon in the log');
    await put('Oslo', '1', 'Oslo in the log');
    await pipeline.source`delete from people where town = 'Quuxburg'`;
    await stream(pipeline);
    await forgetKey();
    expect(await traces()).toEqual([]);
    await put('Rome', '1', 'Rome later');
    await stream(pipeline);
    await load();
    expect(await names()).toEqual(['Oslo at first (ended)', 'Oslo in the log', 'Rome at first (ended)', 'Rome later']);
    await put('Quuxburg', '918273645', 'Zebulon again');
    await stream(pipeline);
    await load();
    expect(await names()).toContain('Zebulon again');
    expect(await verified()).toMatchObject([{ missing: [], differences: 0 }]);
    expect(await violations()).toEqual([]);
  });

  it('is not begun without a ticket, its whole key, a table, or somebody who can answer', async () => {
    await expect(forgetKey('because Zebulon asked')).rejects.toMatchObject({ code: 'TM012' });
    await expect(forget(owning(pipeline.settings), 'people', ['Quuxburg'], 'T-1')).rejects.toMatchObject({
      code: 'TM020',
    });
    await expect(forget(owning(pipeline.settings), 'nobody', KEY, 'T-1')).rejects.toThrow('nobody');
    const [other] = [await pipeline.warehouse.reserve()];
    await other`select pg_advisory_lock(hashtextextended('tidemark.dimension people', 0))`;
    await expect(forgetKey()).rejects.toThrow('the history of people is at work');
    await other`select pg_advisory_unlock_all()`;
    other.release();
    const asked = await runCli(['forget', 'people', ...KEY, '--reference', 'T-1'], pipeline.env);
    expect(asked.code).toBe(2);
    expect(asked.stderr).toContain('nobody can answer');
    expect([...(await pipeline.warehouse`select from tidemark.forgettings`)]).toEqual([]);
  });
});
