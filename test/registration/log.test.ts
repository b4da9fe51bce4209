import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Settings } from '../../runner/base/settings.js';
import type { RegistrationOptions } from '../../runner/registration/options.js';
import { runCli } from '../support/cli.js';
import { createPipeline, type TestPipeline } from '../support/databases.js';
import { propose, register, withDimensionsFolder } from '../support/registered.js';

let pipeline: TestPipeline;
let settings: Settings;
beforeAll(async () => {
  pipeline = await createPipeline();
  settings = await withDimensionsFolder(pipeline);
});
afterAll(async () => {
  await pipeline.drop();
});

/** Of deletes nothing is said. */
const FROM_LOG: Partial<RegistrationOptions> = { capture: 'log', deletes: undefined };

const timesOf = ({ registration: { columns } }: Awaited<ReturnType<typeof propose>>) =>
  columns.filter(({ source }) => source.endsWith('_at')).map(({ source, role }) => `${source} ${role}`);

const registeredAs = async (name: string) =>
  (
    await pipeline.warehouse`
      select capture, effective_time, deletes from tidemark.dimensions where dimension_name = ${name}`
  )[0];

describe('a table that is added to be read from the log', () => {
  it('is valid from its commits, its times are columns like others, and its deletes are in the log', async () => {
    await pipeline.source`create table parcels (id integer primary key, state text, created_at timestamptz, updated_at timestamptz)`;
    const registered = await register(settings, 'parcels', FROM_LOG);
    expect(timesOf(registered)).toEqual(['created_at tracked', 'updated_at tracked']);
    expect(registered.text).toContain(
      "    p_effective_time => 'commit',\n    p_deletes => 'log',\n    p_capture => 'log'\n",
    );
    expect(registered.registration.remarks).toEqual([]);
    const mapping = await registeredAs('parcels');
    expect(mapping).toEqual({ capture: 'log', effective_time: 'capture', deletes: 'log' });
  });

  it('keeps a column as its effective time where that is said, and a mark of deleted rows by its name', async () => {
    await pipeline.source`create table letters (id integer primary key, state text, deleted_at timestamptz, updated_at timestamptz not null)`;
    const registered = await register(settings, 'letters', {
      ...FROM_LOG,
      capture: 'both',
      effective_time: 'updated_at',
    });
    expect(timesOf(registered)).toEqual(['deleted_at tracked', 'updated_at effective time']);
    expect(registered.registration.deletes).toMatchObject({ deletes: 'soft', deleted_column: 'deleted_at' });
    const mapping = await registeredAs('letters');
    expect(mapping).toEqual({ capture: 'both', effective_time: 'column', deletes: 'soft' });
    const marked = await propose(settings, 'letters', {
      ...FROM_LOG,
      name: 'l2',
      deletes: 'log',
      effective_time: 'commit',
    });
    expect(marked.registration).toMatchObject({ effective_time: 'commit', deletes: { deletes: 'log' } });
  });

  it('may be partitioned, or have no key but an identity that holds a unique one', async () => {
    await pipeline.source.unsafe(`
      create table parted (id integer, day date, primary key (id, day)) partition by range (day);
      create table parted_1 partition of parted for values from ('2026-01-01') to ('2027-01-01');
      create table uniquely (code text not null unique, state text); alter table uniquely replica identity full`);
    for (const table of ['parted', 'uniquely'])
      expect((await propose(settings, table, FROM_LOG)).registration.options.capture).toBe('log');
  });

  it.each<[string, string, Partial<RegistrationOptions>, string, string]>([
    [
      'a view',
      'create view v1 as select 1 as id',
      { key: ['id'] },
      'v1 is no table, so that the log does not know it',
      'leave it to polling',
    ],
    [
      'a table without a replica identity',
      'create table v2 (id integer not null unique)',
      {},
      'v2 has no replica identity: once it is published, updates and deletes of the application would fail',
      'on the source: alter table v2 replica identity full',
    ],
    [
      'a key outside the replica identity',
      'create table v3 (id integer primary key, code text not null unique)',
      { key: ['code'] },
      'v3 has a replica identity without its business key',
      'on the source: alter table v3 replica identity full',
    ],
    [
      'an unlogged table',
      'create unlogged table v4 (id integer primary key)',
      {},
      'v4 is not in the log',
      'leave it to polling',
    ],
    [
      'a generated column',
      'create table v5 (id integer primary key, twice integer generated always as (id * 2) stored)',
      {},
      'the log does not hold generated columns of public.v5: twice',
      '--ignore twice',
    ],
    [
      'a table without a key',
      'create table v6 (id integer); alter table v6 replica identity full',
      {},
      'the log does not tell the rows of public.v6 apart',
      'primary key',
    ],
    [
      'an order by the effective time',
      'create table v7 (id integer primary key)',
      { change_order: 'effective_time' },
      '--change-order effective_time does not go with capture from the log',
      'leave out --capture',
    ],
    [
      'rows of tables that inherit',
      'create table v8 (id integer primary key)',
      { with_children: true },
      '--with-children does not go with capture from the log',
      'leave out --capture',
    ],
    [
      'deletes found by comparison',
      'create table v9 (id integer primary key)',
      { deletes: 'reconcile' },
      '--deletes reconcile does not go with capture from the log',
      'leave out --capture',
    ],
  ])('is refused for %s, with what helps', async (_, statements, said, message, hint) => {
    await pipeline.source.unsafe(statements);
    const table = /v\d/.exec(statements)?.[0] ?? '';
    await expect(propose(settings, table, { ...FROM_LOG, ...said })).rejects.toMatchObject({
      message: expect.stringContaining(message) as string,
      hint: expect.stringContaining(hint) as string,
    });
  });
});

describe('tidemark add', () => {
  it('says the step after the migration of a table that is read from the log, and of another that it could be', async () => {
    const env = { ...pipeline.env, DIMENSIONS_DIR: settings.dimensions_dir };
    await pipeline.source`create table boxes (id integer primary key, updated_at timestamptz)`;
    const polled = await runCli(['add', 'public.boxes'], env);
    expect(polled.stderr).toContain('the source could serve its log too: --capture log');
    const logged = await runCli(['add', 'public.boxes', '--capture', 'log', '--replace'], env);
    expect(logged.stderr).not.toContain('could serve');
    expect(logged.stdout).toContain(
      'npx tidemark migrate, and to begin with the log: npx tidemark table capture boxes log\n',
    );
    expect(logged.stdout).toContain('\ndeletes: log\n');
    const [file = ''] = /\S+_register_boxes\.sql/.exec(logged.stdout) ?? [];
    expect(await readFile(file, 'utf8')).toContain("p_capture => 'log'");
    const many = await runCli(['add', 'public.boxe*', '--capture', 'log', '--replace'], env);
    expect(many.stdout).toMatch(/^public\.boxes .* commit +log +log/m);
    expect(many.stdout).toContain('table capture boxes log\n');
    const update = await runCli(['add', '--update', 'public.boxes', '--capture', 'log'], env);
    expect(update.stderr).toContain('npx tidemark table capture <name> log');
  });
});
