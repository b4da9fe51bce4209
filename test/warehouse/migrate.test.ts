import { mkdir, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { migrateWarehouse, migrationStatus } from '../../runner/warehouse/migrate.js';
import { createPipeline, type TestPipeline } from '../support/databases.js';
import { asOwner } from '../support/roles.js';

let pipeline: TestPipeline;
beforeAll(async () => {
  pipeline = await createPipeline();
});
afterAll(async () => {
  await pipeline.drop();
});

/** A folder of dimensions with these files, and what migrates it. */
async function folderOf(name: string, files: Readonly<Record<string, string>>) {
  const folder = path.join(pipeline.folder, name);
  await mkdir(folder);
  const write = async (file: string, sql: string) => {
    await writeFile(path.join(folder, `${file}.sql`), `-- Up Migration\n${sql};\n`);
  };
  for (const [file, sql] of Object.entries(files)) await write(file, sql);
  const warehouse = asOwner(pipeline.settings.warehouse);
  const pending = async () =>
    (await migrationStatus(warehouse, folder)).flatMap(({ migration, state }) =>
      state === 'pending' ? migration : [],
    );
  return { write, pending, migrate: () => migrateWarehouse(warehouse, folder) };
}

describe('migrate', () => {
  it('makes no function anew while all are as they were, and brings back one that is not', async () => {
    const { migrate } = await folderOf('again', {});
    const { warehouse } = pipeline;
    const found = async (column: string) => [
      ...(await warehouse.unsafe(
        `select ${column} from pg_proc as p where p.oid = to_regproc('tidemark.batch_checksum')`,
      )),
    ];
    const content = "p.procost, p.prosrc, obj_description(p.oid, 'pg_proc') as comment";
    await migrate();
    const [before, writer] = [await found(content), await found('p.xmin::text')];
    await migrate();
    expect(await found('p.xmin::text')).toEqual(writer);
    for (const change of [
      'alter function tidemark.batch_checksum cost 7',
      "comment on function tidemark.batch_checksum is 'another'",
      'drop function tidemark.batch_checksum',
    ]) {
      await warehouse.unsafe(change);
      expect(await found(content), change).not.toEqual(before);
      await migrate();
      expect(await found(content), change).toEqual(before);
    }
  });

  it('reads a folder as Kubernetes mounts a ConfigMap, where each file is also behind a hidden name, once', async () => {
    const { write, pending, migrate } = await folderOf('mounted', {});
    const inFolder = (...names: string[]) => path.join(pipeline.folder, 'mounted', ...names);
    await mkdir(inFolder('..2026_11_30'));
    await symlink('..2026_11_30', inFolder('..data'));
    for (const [file, sql] of [
      ['4001_register_e', 'create table public.dim_e_history ()'],
      ['4002_update_e', 'alter table public.dim_e_history add column a integer'],
    ] as const) {
      await write(`..2026_11_30/${file}`, sql);
      await symlink(`..data/${file}.sql`, inFolder(`${file}.sql`));
      expect(await pending()).toEqual([file]);
      expect((await migrate()).applied.map(({ migration }) => migration)).toEqual([file]);
    }
  });

  it('lets a file of a dimension that fails hold up no other table, and names file and table', async () => {
    const { write, pending, migrate } = await folderOf('one', {
      '1001_register_bad': 'create table public.dim_bad_history (); select 1 / 0',
      '1002_register_good': 'create table public.dim_good_history ()',
      '1003_update_bad': 'alter table public.dim_bad_history add column a integer',
    });
    await expect(migrate()).rejects.toMatchObject({
      message: 'a migration failed: division by zero',
      detail: expect.stringMatching(/one\/1001_register_bad\.sql table=bad$/) as string,
      hint: expect.stringContaining('tidemark add --replace') as string,
    });
    expect(await pending()).toEqual(['1001_register_bad', '1003_update_bad']);
    await write('1001_register_bad', 'create table public.dim_bad_history ()');
    const { applied } = await migrate();
    expect(applied.map(({ migration }) => migration)).toEqual(['1001_register_bad', '1003_update_bad']);
  });

  it('lets a file that names no table hold up all behind it', async () => {
    const { pending, migrate } = await folderOf('two', {
      '2001_register_a': 'create table public.dim_a_history ()',
      '2002_rights': 'grant select on nothing to public',
      '2003_register_b': 'create table public.dim_b_history ()',
    });
    await expect(migrate()).rejects.toThrow('a migration failed: relation "nothing" does not exist');
    expect(await pending()).toEqual(['2002_rights', '2003_register_b']);
  });

  it('names every file that fails, and runs none before one of its own table that has run', async () => {
    const { write, pending, migrate } = await folderOf('three', {
      '3002_register_c': 'create table public.dim_c_history ()',
      '3003_register_d': 'create table public.dim_d_history () with (nonsense = 1)',
    });
    await expect(migrate()).rejects.toThrow('a migration failed: unrecognized parameter "nonsense"');
    await write('3001_update_c', 'alter table public.dim_c_history add column a integer');
    await expect(migrate()).rejects.toThrow('2 migrations failed: 3001_update_c, 3003_register_d');
    expect(await pending()).toEqual(['3001_update_c', '3003_register_d']);
  });
});
