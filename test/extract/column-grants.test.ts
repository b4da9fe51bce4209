import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { connect, type Database } from '../../runner/base/database.js';
import type { Settings } from '../../runner/base/settings.js';
import { extractTables } from '../../runner/extract/tables.js';
import { loadTables } from '../../runner/load/tables.js';
import { examine } from '../../runner/operate/doctor.js';
import { reconcileTables } from '../../runner/reconcile/tables.js';
import { compareAtSource } from '../../runner/source/comparison.js';
import { describeTable } from '../../runner/source/table.js';
import { dimensionMappings } from '../../runner/warehouse/functions.js';
import { runCli } from '../support/cli.js';
import { createPipeline, environmentOf, type TestPipeline } from '../support/databases.js';
import { register, withDimensionsFolder } from '../support/registered.js';
import { until } from '../support/wait.js';

/** Who reads the source has rights on some of its columns only: what is left out of history needs none. */
let pipeline: TestPipeline;
let settings: Settings;
let reader: string;
beforeEach(async () => {
  pipeline = await createPipeline();
  reader = `reader_${randomBytes(4).toString('hex')}`;
  await pipeline.source.unsafe(`
    create table cards (id integer primary key, v text, ssn text, updated_at timestamptz not null default now());
    insert into cards values (1, 'one', 'secret'), (2, 'two', 'secret');
    create role ${reader} login password 'x';
    grant pg_read_all_stats to ${reader};
    grant usage on schema public to ${reader}`);
  const own = await withDimensionsFolder(pipeline);
  await pipeline.warehouse`drop table tidemark.dimension_migrations`;
  settings = {
    ...own,
    dimensions_dir: `${pipeline.folder}/mine`,
    source: { ...own.source, user: reader, password: 'x' },
  };
});
afterEach(async () => {
  await pipeline.source.unsafe(`drop owned by ${reader}; drop role ${reader}`);
  await pipeline.drop();
});

const grant = (columns: string) => pipeline.source.unsafe(`grant select (${columns}) on cards to ${reader}`);
const tables = ['cards'];
const extract = () => extractTables({ settings, tables });
const history = () => pipeline.warehouse`select v from dim_cards_history where is_current order by v`;

describe('a role with rights on columns', () => {
  it('adds, extracts, reconciles and repairs a table, without one on the column that is left out', async () => {
    await grant('id, v, updated_at, xmin, tableoid');
    await register(settings, 'cards', { ignore: ['ssn'] });
    expect(await extract()).toMatchObject([{ changes: 2 }]);
    await loadTables({ settings, tables });
    expect([...(await history())]).toEqual([{ v: 'one' }, { v: 'two' }]);
    await pipeline.source`delete from cards where id = 2`;
    await pipeline.source`update cards set v = 'uno'`;
    expect(await reconcileTables({ settings, tables, repair: true, allowDeletes: false })).toMatchObject([
      { extra: 1, repaired: 1 },
    ]);
    expect([...(await history())]).toEqual([{ v: 'uno' }]);
    const found = (await examine(settings)).filter(({ subject }) => subject === 'table cards');
    expect(found.map(({ message }) => message)).toEqual([
      'no index serves extraction: each page reads the whole table',
    ]);
  });

  it('that may not see which transaction wrote a row reads by times alone, and is told the statement that changes it', async () => {
    await grant('id, v, updated_at');
    await register(settings, 'cards', { ignore: ['ssn'] });
    const env = { ...pipeline.env, ...environmentOf(settings.source), DIMENSIONS_DIR: settings.dimensions_dir };
    const { code, stderr, stdout } = await runCli(['extract', '--table', 'cards'], env);
    expect(stdout).toMatch(/^cards: 2 changes/);
    expect(stderr).toContain(
      `cards: it is granted by columns (grant select (xmin, tableoid) on public.cards to ${reader}), which shows no transactions: it is read by times alone`,
    );
    expect(code).toBe(0);
    await loadTables({ settings, tables });
    expect(await reconcileTables({ settings, tables, repair: false, allowDeletes: false })).toMatchObject([
      { differences: [] },
    ]);
  });

  it('that lacks a column of the mapping is told which one, and the statement to run', async () => {
    await grant('id, updated_at, xmin, tableoid');
    const { registration } = await register(settings, 'cards', { ignore: ['ssn'] });
    expect(registration.remarks).toEqual([
      'DB_USER may not read v of public.cards: extraction stops until it may, or they are left out with --ignore',
    ]);
    const refused = {
      message: 'columns of source table public.cards may not be read: v',
      hint: `as the owner of the table: grant select (v) on public.cards to ${reader}`,
    };
    await expect(extract()).rejects.toMatchObject(refused);
    expect(await examine(settings)).toContainEqual(
      expect.objectContaining({ status: 'error', subject: 'table cards', message: refused.message }),
    );
    await pipeline.source.unsafe(refused.hint.replace(/^.*?: /, ''));
    expect(await extract()).toMatchObject([{ changes: 2 }]);
  });

  it('is what "grants" makes of a table of which a column is left out', async () => {
    await grant('id, v, updated_at, xmin, tableoid');
    await register(settings, 'cards', { ignore: ['ssn'] });
    const { stdout } = await runCli(['grants', '--prefix', 'cards'], pipeline.env);
    expect(stdout).toContain('grant select (id, v, updated_at, xmin, tableoid) on table public.cards to cards_reader;');
    expect(stdout).toContain('grant select on table public.orders to cards_reader;');
  });
});

describe('a table that is emptied and filled while it is waited for', () => {
  let [writer, source]: [Database?, Database?] = [];
  beforeEach(async () => {
    [writer, source] = [connect(pipeline.admin.source, 'writer'), connect(settings.source, 'compare')];
    await grant('id, v, updated_at, xmin, tableoid');
    await register(settings, 'cards', { ignore: ['ssn'] });
    await extract();
  });
  afterEach(async () => {
    await writer?.end();
    await source?.end();
  });

  it.each([
    ['TRUNCATE', "truncate cards; insert into cards values (3, 'three', 'secret')"],
    ['a rewrite', 'alter table cards alter column ssn type varchar(10); delete from cards where id = 1'],
  ])('is read as it is then by a role that may not lock it, not as an empty one: %s', async (_, statements) => {
    if (writer === undefined || source === undefined) throw new Error('no session');
    const mapping = (await dimensionMappings(pipeline.warehouse)).find(({ dimension_name: name }) => name === 'cards');
    const described = mapping && (await describeTable(source, mapping));
    if (described === undefined) throw new Error('no table');
    await writer.unsafe(`begin; ${statements}`);
    const readings = Promise.all([
      extract(),
      compareAtSource(source, described, 'select count(*)::integer as rows from cards', []),
    ]);
    await until(async () => {
      const waiting = await pipeline.source`
        select from pg_locks where relation = 'cards'::regclass and not granted and mode = 'AccessShareLock'`;
      return waiting.length === 2;
    });
    await writer.unsafe('commit');
    expect(await readings).toMatchObject([[{ changes: 1 }], [{ rows: 1 }]]);
  });
});
