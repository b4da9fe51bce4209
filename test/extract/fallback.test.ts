import { mkdtemp, chmod, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { connect } from '../../runner/base/database.js';
import { createCluster, startCluster, stopCluster } from '../../runner/embedded/cluster.js';
import { runCli } from '../support/cli.js';
import { createPipeline, type TestPipeline } from '../support/databases.js';
import { captured, createThings, extractThings } from '../support/extraction.js';
import { freePort, settingsFor, testedPackage } from '../support/servers.js';

/** Sources that show no transactions are read by their times alone. */
let pipeline: TestPipeline;
beforeEach(async () => {
  pipeline = await createPipeline({ BATCH_SIZE: '2', BATCH_SIZE_MAX: '2', WATERMARK_ADVANCE_SECONDS: '60' });
  await createThings(pipeline);
});
afterEach(async () => {
  await pipeline.drop();
});

const moveAside = () => pipeline.source.unsafe('alter table things rename to things_behind');
const addRow = (id: number, age = '0') =>
  pipeline.source.unsafe(`insert into things_behind values (${String(id)}, 'row', now() - interval '${age} seconds')`);

const SOURCES: readonly [string, () => Promise<unknown>, () => Promise<unknown>][] = [
  [
    'a view',
    () => pipeline.source.unsafe('create view things as select * from things_behind'),
    () => Promise.resolve(),
  ],
  [
    'a materialized view',
    () => pipeline.source.unsafe('create materialized view things as select * from things_behind'),
    () => pipeline.source.unsafe('refresh materialized view things'),
  ],
  [
    'a foreign table',
    async () => {
      const { host, port, user, password, database, sslmode } = pipeline.admin.source;
      // The home of whoever started the server may hold a certificate that the server's own user cannot read.
      const [encrypted, certificate] =
        sslmode === 'disable' ? ['', ''] : [", sslmode 'require'", ", sslcert '/nowhere'"];
      await pipeline.source.unsafe(`
      create extension postgres_fdw;
      create server here foreign data wrapper postgres_fdw options (host '${host}', port '${String(port)}', dbname '${database}'${encrypted});
      create user mapping for public server here options (user '${user}', password '${password}'${certificate});
      create foreign table things (id integer, state text, touched timestamptz) server here options (table_name 'things_behind')`);
    },
    () => Promise.resolve(),
  ],
];

describe.each(SOURCES)('%s', (name, make, refresh) => {
  it('is extracted, with repeats but without misses within the margin, and says so', async () => {
    await moveAside();
    for (const id of [1, 2, 3, 4, 5]) await addRow(id, '3600');
    await make();
    expect(await extractThings(pipeline)).toMatchObject({ changes: 5, batches: 3 });
    expect(await extractThings(pipeline)).toMatchObject({ changes: 0 });
    await addRow(6);
    await addRow(7, '55');
    await refresh();
    expect(await extractThings(pipeline)).toMatchObject({ changes: 2 });
    expect(await extractThings(pipeline)).toMatchObject({ changes: 2 });
    const { stderr, code } = await runCli(['extract', '--table', 'things'], pipeline.env);
    expect(stderr).toContain(`things: it is ${name}, which shows no transactions: it is read by times alone`);
    expect(code).toBe(0);
    expect((await captured(pipeline)).slice(0, 5).sort()).toEqual(['1 row', '2 row', '3 row', '4 row', '5 row']);
  });
});

describe('a view that became a table', () => {
  it('is read from the beginning once more, because no transaction was seen before', async () => {
    await moveAside();
    await pipeline.source`create view things as select * from things_behind`;
    await addRow(1, '3600');
    await extractThings(pipeline);
    await pipeline.source.unsafe('drop view things; alter table things_behind rename to things');
    expect(await extractThings(pipeline)).toMatchObject({ changes: 1 });
    expect(await extractThings(pipeline)).toMatchObject({ changes: 0 });
  });
});

/** A server in recovery, as a standby is, that holds one row of "things" and waits for WAL that never comes. */
async function startStandby() {
  const parent = await mkdtemp(path.join(tmpdir(), 'tidemark-standby-'));
  await chmod(parent, 0o711);
  const folder = path.join(parent, 'cluster');
  const cluster = { package: testedPackage(), port: await freePort() };
  await createCluster({
    folder,
    superuser: 'postgres',
    password: 'postgres',
    package: cluster.package,
    flags: ['--no-sync'],
  });
  await startCluster({ folder, ...cluster, settings: { fsync: 'off' } });
  const settings = settingsFor(
    { host: '127.0.0.1', port: cluster.port, user: 'postgres', password: 'postgres' },
    'source',
    'postgres',
  );
  const primary = connect(settings, 'test');
  await primary.unsafe(
    `create table things (id integer primary key, state text, touched timestamptz not null); insert into things values (1, 'row', '2026-02-01')`,
  );
  await primary.end();
  await stopCluster(folder);
  await writeFile(path.join(folder, 'standby.signal'), '');
  await startCluster({ folder, ...cluster, settings: { fsync: 'off' } });
  return {
    settings,
    stop: async () => {
      await stopCluster(folder, 'immediate');
      await rm(parent, { recursive: true, force: true });
    },
  };
}

describe('a standby', () => {
  it('is extracted by times alone, and its timeline is not asked for', async () => {
    const standby = await startStandby();
    expect(await extractThings(pipeline, { source: standby.settings })).toMatchObject({ changes: 1 });
    expect(await extractThings(pipeline, { source: standby.settings })).toMatchObject({ changes: 0 });
    await standby.stop();
  });
});
