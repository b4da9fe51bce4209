import { readdirSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { extractTables } from '../../runner/extract/tables.js';
import { loadTables } from '../../runner/load/tables.js';
import { exportsBehind, removeExport } from '../../runner/operate/export-places.js';
import { exportTable } from '../../runner/operate/export-table.js';
import { forget, forgetAgain, formatForgetting } from '../../runner/operate/forget.js';
import { runCli } from '../support/cli.js';
import { createPipeline, type TestPipeline } from '../support/databases.js';
import { createSourceTable, registerDimension, type TestColumn } from '../support/dimensions.js';
import { manifestOf, readExport, readFile } from '../support/parquet.js';
import { owning } from '../support/roles.js';

/** A key is forgotten in what was exported, too: tidemark.exports, tidemark.note_exported, tidemark.remove_dimension. */

const COLUMNS: readonly TestColumn[] = [
  { source: 'id', type: 'integer', role: 'business key' },
  { source: 'name', type: 'text', role: 'tracked' },
  { source: 'changed', type: 'timestamptz', role: 'effective time' },
];

let pipeline: TestPipeline;
beforeAll(async () => {
  pipeline = await createPipeline();
  await createSourceTable(pipeline.source, 'people', COLUMNS);
  await registerDimension(pipeline.warehouse, 'people', 'people', COLUMNS);
});
afterAll(async () => {
  await pipeline.drop();
});

const settings = () => owning(pipeline.settings);
const at = (name: string) => path.join(pipeline.folder, name);
async function put(id: number, name: string, changed: string): Promise<void> {
  await pipeline.source`insert into people values (${id}, ${name}, ${changed})
    on conflict (id) do update set name = excluded.name, changed = excluded.changed`;
  await extractTables({ settings: pipeline.settings, tables: ['people'] });
  await loadTables({ settings: pipeline.settings, tables: ['people'] });
}
/** Every value of every file of Parquet in a folder, published or not. */
const values = (name: string) =>
  readdirSync(at(name))
    .filter((file) => file.endsWith('.parquet'))
    .flatMap((file) => readFile(path.join(at(name), file)).map((row) => row.name));
const current = (name: string) => readExport(at(name)).map((row) => row.name);
/** The folders of exports that may still hold what is forgotten. */
const behind = async () =>
  (await exportsBehind(settings(), 'people')).map(({ folder }) => path.basename(folder)).sort();
const renew = (name: string) => exportTable(settings(), 'people', at(name));

it('a batch that is taken out of history, and brought back, changes the months it stood in, and no other', async () => {
  await put(9, 'Ada', '2025-01-01');
  await put(9, 'Ada Lovelace', '2025-02-01');
  await put(9, 'Ada King', '2025-03-01');
  await put(9, 'Ada', '2025-04-01');
  const [batch] = await pipeline.warehouse<{ batch_id: string }[]>`
    select batch_id from dim_people_history where name = 'Ada Lovelace'`;
  const months = () => manifestOf(at('batches')).files.map(({ part, versions }) => `${part} ${String(versions)}`);
  const versions = async () =>
    pipeline.warehouse<{ name: string; valid_to: string | null }[]>`
      select name, valid_to::text from dim_people_history order by valid_from`;
  const read = () =>
    readExport(at('batches'))
      .sort((one, other) => ((one.valid_from ?? '') < (other.valid_from ?? '') ? -1 : 1))
      .map((row) => ({ name: row.name, valid_to: row.valid_to }));
  const whole = await versions();
  await renew('batches');
  expect(months()).toEqual(['2025-02 1', '2025-03 1', '2025-04 1', 'current 1']);
  const { env } = pipeline;
  const owner = {
    ...env,
    WAREHOUSE_DB_USER: settings().warehouse.user,
    WAREHOUSE_DB_PASSWORD: settings().warehouse.password,
  };
  const change = (...args: string[]) => runCli(['batch', ...args, 'people', batch?.batch_id ?? ''], owner);
  expect(await change('retract', '--reason', 'wrong')).toMatchObject({ code: 0 });
  // Ada was Ada until March.
  expect(await renew('batches')).toMatchObject({ files: { written: 1, kept: 2 } });
  expect(months()).toEqual(['2025-03 1', '2025-04 1', 'current 1']);
  expect(read()).toEqual(await versions());
  expect(await change('restore')).toMatchObject({ code: 0 });
  expect(await renew('batches')).toMatchObject({ files: { written: 2, kept: 2 } });
  expect(await versions()).toEqual(whole);
  expect(read()).toEqual(whole);
  await removeExport(settings(), 'people', at('batches'));
  await forget(settings(), 'people', ['9'], 'T-0');
});

it('a forgotten key goes from exports with what was replaced there, and those that are out of reach are named until they are made anew', async () => {
  await put(1, 'Zebulon', '2026-01-01');
  await put(2, 'Ann', '2026-01-02');
  for (const name of ['near', 'far', 'dead']) await renew(name);
  await put(1, 'Zebulon the second', '2026-02-01');
  for (const name of ['near', 'far', 'dead']) await renew(name);
  expect(manifestOf(at('near')).replaced).toHaveLength(1);
  // On another machine, and not mounted here under that path; and one on a machine that is no more.
  await pipeline.warehouse`update tidemark.exports set host = 'other', folder = '/mnt/far' where folder = ${at('far')}`;
  await pipeline.warehouse`update tidemark.exports set host = 'dead', folder = '/mnt/dead' where folder = ${at('dead')}`;

  const done = await forget(settings(), 'people', ['1'], 'T-1');
  expect(values('near')).toEqual(['Ann']);
  expect(manifestOf(at('near')).replaced).toEqual([]);
  expect(values('far')).toContain('Zebulon');
  const places = done.exports.map(({ host, folder, fault }) => [host, folder, fault]);
  expect(places).toEqual([
    ['dead', '/mnt/dead', 'it is on another machine'],
    ['other', '/mnt/far', 'it is on another machine'],
    [expect.any(String), at('near'), null],
  ]);
  expect(formatForgetting('people', done)).toContain(
    `export made anew: ${places[2]?.join(':') ?? ''}`.replace(/:$/, ''),
  );
  expect(formatForgetting('people', done)).toContain('export that may still hold it: other:/mnt/far');
  expect(await behind()).toEqual(['dead', 'far']);
  expect((await runCli(['doctor'], pipeline.env)).stdout).toContain(
    'exports may still hold keys that were forgotten: dead:/mnt/dead, other:/mnt/far',
  );

  // There it is found by its manifest, and nothing of the key stays for readers.
  await renew('far');
  expect(values('far')).toEqual(['Ann']);
  expect(await behind()).toEqual(['dead']);
  const removed = await runCli(['export', 'people', '--to', 'dead:/mnt/dead', '--remove'], {
    ...pipeline.env,
    WAREHOUSE_DB_USER: settings().warehouse.user,
    WAREHOUSE_DB_PASSWORD: settings().warehouse.password,
  });
  expect(removed).toMatchObject({ code: 0, stdout: expect.stringContaining('is known no more') as string });
  expect(await behind()).toEqual([]);
});

it('an export that failed after the key was forgotten is behind until the next, also where it had no manifest yet', async () => {
  await put(3, 'Yolanda', '2026-03-01');
  await put(3, 'Yolanda the second', '2026-04-01');
  await renew('near');
  const failing = async <T>(work: () => Promise<T>, times: number): Promise<T> => {
    vi.stubEnv('TIDEMARK_FAILPOINT', `export publish:${String(times)}:EIO`);
    return work().finally(() => vi.unstubAllEnvs());
  };
  await expect(failing(() => renew('begun'), 1)).rejects.toThrow('EIO');
  // That of "far" comes first.
  const done = await failing(() => forget(settings(), 'people', ['3'], 'T-2'), 2);
  expect(done.exports.map(({ folder, fault }) => [path.basename(folder), fault])).toEqual([
    ['begun', 'it is not there'],
    ['far', null],
    ['near', expect.stringContaining('EIO')],
  ]);
  expect(values('near')).toContain('Yolanda');
  expect(await behind()).toEqual(['begun', 'near']);
  const [again] = await forgetAgain(settings(), ['people']);
  expect(again?.exports.map(({ fault }) => fault)).toEqual(['it is not there', null, null]);
  expect(values('near')).toEqual(['Ann']);
  await renew('begun');
  expect(current('begun')).toEqual(['Ann']);
  expect(await behind()).toEqual([]);
});

it('a key that is forgotten while an export is written leaves it behind', async () => {
  await put(4, 'Xaver', '2026-05-01');
  const { export_id } = manifestOf(at('near'));
  await pipeline.warehouse`update tidemark.exports set behind_since = '2026-01-01' where export_id = ${export_id}`;
  // Its snapshot was taken before.
  await pipeline.warehouse`select tidemark.note_exported(${export_id}, now(), 1, null)`;
  expect(await behind()).toEqual(['near']);
  await renew('near');
  expect(await behind()).toEqual([]);
});

it('a table that is removed says where it was exported to', async () => {
  const removed = await runCli(['table', 'remove', 'people'], pipeline.env);
  expect(removed.stdout).toMatch(/what was exported of it stays, and no key is forgotten there: .*near/);
  expect([...(await pipeline.warehouse`select from tidemark.exports`)]).toEqual([]);
});
