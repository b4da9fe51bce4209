import { readFile, readdir } from 'node:fs/promises';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { extractTables } from '../../runner/extract/tables.js';
import { rebuildTables, verifyTables } from '../../runner/load/replay.js';
import { loadTables } from '../../runner/load/tables.js';
import { forget } from '../../runner/operate/forget.js';
import { reconcileTables } from '../../runner/reconcile/tables.js';
import { runChecks } from '../../runner/warehouse/checks.js';
import { createPipeline, type TestPipeline } from '../support/databases.js';
import { createSourceTable, registerDimension, type TestColumn } from '../support/dimensions.js';
import { restore, retract } from '../support/retractions.js';
import { owning } from '../support/roles.js';

/** A key is forgotten, and its versions stay as shells: times without values, under a token. */

const COLUMNS: readonly TestColumn[] = [
  { source: 'town', type: 'varchar(40)', role: 'business key' },
  { source: 'no', type: 'numeric(12,2)', role: 'business key' },
  { source: 'name', type: 'text', role: 'tracked' },
  { source: 'note', type: 'text', role: 'untracked' },
  { source: 'changed', type: 'timestamptz', role: 'effective time' },
];
const TRACE = /Quuxburg|918273645|Zebulon/;

let pipeline: TestPipeline;
beforeAll(async () => {
  pipeline = await createPipeline();
  await createSourceTable(pipeline.source, 'people', COLUMNS);
  await registerDimension(pipeline.warehouse, 'people', 'people', COLUMNS);
});
afterAll(async () => {
  await pipeline.drop();
});

const load = () => loadTables({ settings: pipeline.settings, tables: ['people'] });
const read = async () => {
  await extractTables({ settings: pipeline.settings, tables: ['people'] });
  await load();
};
const put = (town: string, no: string, name: string, note = 'none') =>
  pipeline.source`insert into people values (${town}, ${no}, ${name}, ${note}, clock_timestamp())
    on conflict (town, no) do update set name = excluded.name, note = excluded.note, changed = excluded.changed`;
const reconcile = async (repair: boolean) =>
  (await reconcileTables({ settings: pipeline.settings, tables: ['people'], repair, allowDeletes: true }))[0];
const forgetKey = (reference: string, keepShells = true) =>
  forget(owning(pipeline.settings), 'people', ['Quuxburg', '918273645'], reference, keepShells);

/** Every version, but for the clock of the warehouse. */
const versions = async () =>
  (
    await pipeline.warehouse<{ line: string }[]>`
      select (to_jsonb(h) - 'created_at' - 'updated_at')::text as line from dim_people_history as h order by surrogate_key`
  ).map(({ line }) => line);
/** Of each version its name, or that it is a shell, and whether it is in force. */
const shown = async (from: string) =>
  (
    await pipeline.warehouse.unsafe<{ line: string }[]>(`
      select concat_ws(' ', coalesce(name, note, case when town ~ '^forgotten-[0-9a-f]{16}$' and no < -99999999 then 'shell' end),
        cdc_operation, case when valid_to is null then 'in force' end) as line
      from ${from} order by town not like 'forgotten-%', town, valid_from`)
  ).map(({ line }) => line);
const history = () => shown('dim_people_history');
async function assertSound(): Promise<void> {
  const violations = (await runChecks(pipeline.warehouse, ['pipeline', 'scd2'])).filter((each) => each.violations > 0);
  expect(violations).toEqual([]);
  expect(await verifyTables(owning(pipeline.settings), ['people'])).toMatchObject([{ missing: [], differences: 0 }]);
}
async function files(): Promise<string> {
  const folder = path.join(pipeline.settings.cdc_log_dir, 'people');
  const names = (await readdir(folder, { recursive: true })).filter((name) => /\.json(\.gz)?$/.test(name));
  const texts = names.sort().map(async (name) => {
    const bytes = await readFile(path.join(folder, name));
    return (name.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString();
  });
  return (await Promise.all(texts)).join('\n');
}
async function traces(): Promise<string[]> {
  const tables = await pipeline.warehouse<{ name: string }[]>`
    select c.oid::regclass::text as name from pg_class as c
    where c.relkind = 'r' and (c.relnamespace = 'tidemark'::regnamespace or c.relname = 'dim_people_history')`;
  const found = TRACE.test(await files()) ? ['files'] : [];
  for (const { name } of tables) {
    const [row] = await pipeline.warehouse.unsafe<[{ rows: string }]>(
      `select coalesce(string_agg(t::text, E'\\n'), '') as rows from ${name} as t`,
    );
    if (TRACE.test(row.rows)) found.push(name);
  }
  return found;
}
const batchIds = async () =>
  (
    await pipeline.warehouse<
      { batch_id: string }[]
    >`select batch_id from tidemark.batches where dimension_name = 'people' order by sequence`
  ).map(({ batch_id }) => batch_id);

describe('a key that is forgotten, and its versions kept as shells', () => {
  let moments: string[] = [];
  const now = async () => (await pipeline.warehouse<[{ now: string }]>`select clock_timestamp()::text as now`)[0].now;

  it('leaves versions with their times and no values, in history and in batch files', async () => {
    await put('Oslo', '1', 'Oslo');
    await put('Quuxburg', '918273645', 'Zebulon');
    await read();
    moments = [await now()];
    // An update that is late in nothing, one that history does not show, and the end of the life.
    await put('Quuxburg', '918273645', 'Zebulon the second');
    await read();
    moments.push(await now());
    await put('Quuxburg', '918273645', 'Zebulon the second', 'Zebulon notes');
    await read();
    await pipeline.source`delete from people where town = 'Quuxburg'`;
    await reconcile(true);
    await load();
    await put('Quuxburg', '918273645', 'Zebulon comes back');
    await read();
    await put('Quuxburg', '918273645', 'Zebulon waits');
    await extractTables({ settings: pipeline.settings, tables: ['people'] });

    const times = () => pipeline.warehouse`
      select valid_from, valid_to, is_current, cdc_operation, cdc_timestamp, batch_id, change_line, captured_at, surrogate_key
      from dim_people_history order by surrogate_key`;
    const before = [...(await times())];
    expect(await forgetKey('T-1')).toMatchObject({ versions: 3, absorbed_changes: 1, keeps_shells: true });
    expect([...(await times())]).toEqual(before);
    expect(await traces()).toEqual([]);
    expect(await history()).toEqual(['shell INSERT', 'shell UPDATE', 'shell INSERT in force', 'Oslo INSERT in force']);
    const lines = (await files()).split('\n').filter((line) => line.startsWith('{"forgotten":'));
    expect(new Set(lines.map((line) => (JSON.parse(line) as { town: string }).town)).size).toBe(1);
    expect(lines).toHaveLength(4);
    await assertSound();
    await load();
    expect(await history()).toHaveLength(4);
    await assertSound();
  });

  it('is asked as any other: as of a moment, as known, between two', async () => {
    const [first = '', second = ''] = moments;
    expect(await shown(`dim_people_history_as_of(timestamptz '${second}')`)).toEqual([
      'shell UPDATE',
      'Oslo INSERT in force',
    ]);
    expect(await shown(`dim_people_history_as_known(timestamptz 'infinity', timestamptz '${first}')`)).toEqual([
      'shell INSERT in force',
      'Oslo INSERT in force',
    ]);
    // Nothing is known to differ between two shells.
    const asked = await pipeline.warehouse.unsafe<{ diff: number; changes: number }[]>(`select
      (select count(*)::integer from dim_people_history_diff(timestamptz '${first}', timestamptz '${second}')) as diff,
      (select count(*)::integer from dim_people_history_changes(timestamptz '${first}', timestamptz '${second}')) as changes`);
    expect(asked).toEqual([{ diff: 0, changes: 1 }]);
  });

  it('goes with a batch that is taken out, comes back with it, and is made anew from the files', async () => {
    const before = await versions();
    const [, second = '', , deleted = ''] = await batchIds();
    for (const batch of [second, deleted]) {
      await retract(pipeline.warehouse, 'people', batch);
      expect(await versions()).not.toEqual(before);
      await assertSound();
      await restore(pipeline.warehouse, 'people', batch);
      expect(await versions()).toEqual(before);
    }
    await pipeline.warehouse`delete from dim_people_history where town like 'forgotten-%' and is_current`;
    expect(await rebuildTables(owning(pipeline.settings), ['people'])).toMatchObject([{ added_versions: 1 }]);
    expect(await history()).toEqual(['shell INSERT', 'shell UPDATE', 'shell INSERT in force', 'Oslo INSERT in force']);
    await assertSound();
  });

  it('is ended by reconcile, for the source does not have it; what the source has is a new life', async () => {
    expect(await reconcile(false)).toMatchObject({ extra: 1, missing: 1 });
    await reconcile(true);
    await load();
    expect(await history()).toEqual([
      'shell INSERT',
      'shell UPDATE',
      'shell INSERT',
      'Oslo INSERT in force',
      'Zebulon waits INSERT in force',
    ]);
    await assertSound();
    // A second life is forgotten under a token of its own; and a token like any key.
    await forgetKey('T-2');
    expect(await traces()).toEqual([]);
    expect((await history()).filter((line) => line === 'shell INSERT in force')).toHaveLength(1);
    await assertSound();
    const tokens = await pipeline.warehouse<{ town: string; no: string }[]>`
      select distinct town, no::text from dim_people_history where town like 'forgotten-%' order by town`;
    expect(tokens).toHaveLength(2);
    for (const { town, no } of tokens) await forget(owning(pipeline.settings), 'people', [town, no], 'T-3');
    expect(await history()).toEqual(['Oslo INSERT in force']);
    expect([...(await pipeline.warehouse`select from tidemark.shell_keys`)]).toEqual([]);
    expect(await files()).not.toContain('{"forgotten":');
    await assertSound();
  });

  it('is refused where a shell could not stand, and begun again as it began', async () => {
    await pipeline.warehouse`alter table dim_people_history add constraint has_a_place check (town not like 'forgotten-%')`;
    await expect(forgetKey('T-4')).rejects.toMatchObject({
      code: 'TM031',
      message: expect.stringContaining('constraint has_a_place') as string,
    });
    await pipeline.warehouse`alter table dim_people_history drop constraint has_a_place`;
    await pipeline.warehouse`alter table dim_people_history alter name set not null`;
    await expect(forgetKey('T-4')).rejects.toMatchObject({
      code: 'TM031',
      message: expect.stringMatching(/in the history: name$/) as string,
    });
    const timed: TestColumn[] = [
      { source: 'day', type: 'date', role: 'business key' },
      { source: 'v', type: 'text', role: 'tracked' },
      { source: 'changed', type: 'timestamptz', role: 'effective time' },
    ];
    await registerDimension(pipeline.warehouse, 'days', 'days', timed);
    await expect(forget(owning(pipeline.settings), 'days', ['2026-02-01'], 'T-5', true)).rejects.toMatchObject({
      code: 'TM031',
      message: expect.stringContaining('day date') as string,
    });
    expect([...(await pipeline.warehouse`select from tidemark.forgettings where finished_at is null`)]).toEqual([]);
    await pipeline.warehouse`
      select tidemark.begin_forgetting(p_dimension_name => 'days', p_key => array['2026-02-01'], p_reference => 'T-6')`;
    await expect(forget(owning(pipeline.settings), 'days', ['2026-02-01'], 'T-6', true)).rejects.toMatchObject({
      code: 'TM012',
    });
  });
});
