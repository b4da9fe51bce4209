// Runs once
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { once } from 'node:events';
import { connect as connectSocket, createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { connect, connectToLog, type Database } from '../../runner/base/database.js';
import { loadSettings, type Settings } from '../../runner/base/settings.js';
import { startCluster, stopCluster } from '../../runner/embedded/cluster.js';
import { extractTables } from '../../runner/extract/tables.js';
import { loadTables } from '../../runner/load/tables.js';
import { captureTable } from '../../runner/operate/capture.js';
import { dropSlot } from '../../runner/stream/setup.js';
import { streamTables } from '../../runner/stream/stream.js';
import { createWarehouseDatabase, environmentOf, foldersIn, type TestDatabase } from '../support/databases.js';
import { createSourceTable, registerDimension, type TestColumn } from '../support/dimensions.js';
import { FAST, copyEmptyCluster, freePort, settingsFor, testedPackage } from '../support/servers.js';
import { until } from '../support/wait.js';

/** What a source's server, its rights and what stands before it keep from the reader: a source of this test's own, with as little as can be. */

const COLUMNS: readonly TestColumn[] = [
  { source: 'id', type: 'integer', role: 'business key' },
  { source: 'state', type: 'text', role: 'tracked' },
];

let folder: string;
let port: number;
let warehouse: TestDatabase;
let settings: Settings;
let source: Database;

const start = (level: string) =>
  startCluster({
    ...{ folder: path.join(folder, 'source'), port, host: '127.0.0.1', package: testedPackage() },
    settings: { ...FAST, wal_level: level, max_replication_slots: '1', max_wal_senders: '2' },
  });

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'tidemark-source-'));
  await chmod(folder, 0o711);
  port = await freePort();
  await copyEmptyCluster(inject('runFolder'), path.join(folder, 'source'));
  await start('replica');
  warehouse = await createWarehouseDatabase();
  const end = settingsFor({ host: '127.0.0.1', port, user: 'postgres', password: 'postgres' }, 'source', 'postgres');
  settings = loadSettings(
    { ...environmentOf(end), ...environmentOf(warehouse.settings), ...foldersIn(folder) },
    folder,
  );
  source = connect(settings.source, 'test', 2);
  await createSourceTable(source, 'things', COLUMNS);
  await registerDimension(warehouse.sql, 'things', 'things', COLUMNS);
});
afterAll(async () => {
  await source.end({ timeout: 0 });
  await stopCluster(path.join(folder, 'source'), 'immediate');
  await warehouse.drop();
  await rm(folder, { recursive: true, force: true });
});

const capture = (overrides: Partial<Settings> = {}) => captureTable({ ...settings, ...overrides }, 'things', 'log');
const stream = (overrides: Partial<Settings> = {}, signal = new AbortController().signal, isEndless = false) =>
  streamTables({ settings: { ...settings, ...overrides }, signal, isEndless });
const says = (message: string, hint: string, detail = '') =>
  expect.objectContaining({
    ...{ message: expect.stringContaining(message) as string, hint: expect.stringContaining(hint) as string },
    ...(detail !== '' && { detail: expect.stringMatching(detail) as string }),
  }) as Error;
const captured = async () =>
  (
    await warehouse.sql<{ capture: string }[]>`select capture from tidemark.dimensions where dimension_name = 'things'`
  )[0]?.capture;
const asReader = () => ({ source: { ...settings.source, user: 'reader', password: 'reader' } });
const states = async () => {
  await loadTables({ settings, tables: [] });
  return (
    await warehouse.sql<{ line: string }[]>`
      select concat_ws(' ', id, state, case when is_current then 'now' end) as line from dim_things_history order by id, valid_from`
  ).map(({ line }) => line);
};
const change = (state: string) =>
  source`insert into things values (1, ${state}) on conflict (id) do update set state = excluded.state`;

describe('a table stays with polling, and is handed over once that can be', () => {
  it('where the server writes no such log, which takes a restart', async () => {
    await change('a');
    await expect(capture()).rejects.toEqual(
      says('the source does not write what it takes to read its log', 'alter system set wal_level = logical'),
    );
    expect(await captured()).toBe('poll');
    await stopCluster(path.join(folder, 'source'));
    await start('logical');
  });

  it('where the role may not make publication and slot', async () => {
    await source`create role reader login password 'reader'`;
    await source`grant pg_read_all_data, pg_read_all_stats to reader`;
    const grants = 'as a superuser there: what "npx tidemark grants" and "npx tidemark stream setup" print';
    await expect(capture(asReader())).rejects.toEqual(says('permission denied for database postgres', grants));
    await source`create publication tidemark_postgres for table only things with (publish_via_partition_root = true)`;
    await expect(capture(asReader())).rejects.toEqual(says('to use replication slots', grants));
    expect(await captured()).toBe('poll');
  });

  it('where no slot is free', async () => {
    await source`select pg_create_physical_replication_slot('other')`;
    await expect(capture()).rejects.toEqual(
      says(
        'all replication slots are in use',
        'raise max_replication_slots and restart it, or drop a slot that nobody reads',
      ),
    );
    await change('b');
    await extractTables({ settings, tables: ['things'] });
    expect(await states()).toEqual(['1 b now']);
    await source`select pg_drop_replication_slot('other')`;
    await capture();
    await change('c');
    await stream();
    expect(await states()).toEqual(['1 b', '1 c now']);
  });
});

describe('the reader says why it gets nothing, and loses nothing of it', () => {
  it('where its role may not read the log', async () => {
    await change('d');
    await expect(stream(asReader())).rejects.toEqual(
      says('the source does not let this user read its log', 'alter role <DB_USER> replication'),
    );
    await source`alter role reader replication`;
    await stream(asReader());
    expect((await states()).at(-1)).toBe('1 d now');
  });

  it('where no session is free that would send it', async () => {
    await change('e');
    const senders = [0, 1].map(() => connectToLog(settings.source, 'other', 'UTF8'));
    for (const sender of senders) await sender.unsafe('IDENTIFY_SYSTEM');
    await expect(stream()).rejects.toEqual(
      says('the source has no session free that would send its log', 'raise max_wal_senders'),
    );
    for (const sender of senders) await sender.end({ timeout: 0 });
    await until(async () => (await source`select from pg_stat_replication`).length === 0);
    await stream();
    expect((await states()).at(-1)).toBe('1 e now');
  });

  it('where another reader holds the slot: who, and from where; so does what would drop it', async () => {
    const ending = new AbortController();
    const reading = stream({}, ending.signal, true);
    await until(async () => (await source`select from pg_replication_slots where active`).length > 0);
    const who = /process \d+ \(tidemark stream, of postgres, from 127.0.0.1\)/;
    await expect(stream()).rejects.toEqual(
      says('another reader holds the replication slot tidemark_postgres', 'let it finish, or stop it', who.source),
    );
    await expect(dropSlot(source, settings)).rejects.toThrow(who);
    ending.abort();
    await reading;
  });

  it('where the slot was dropped and made anew under its name, until the table is handed over again', async () => {
    await source`select pg_drop_replication_slot('tidemark_postgres')`;
    await change('lost');
    await change('f');
    await source`select pg_create_logical_replication_slot('tidemark_postgres', 'pgoutput')`;
    await change('g');
    expect((await stream()).stopped.things).toContain('are not in the log any more');
    expect((await capture()).gap).not.toBeNull();
    await change('h');
    expect((await stream()).stopped).toEqual({});
    expect((await states()).slice(-3)).toEqual(['1 e', '1 g', '1 h now']);
  });
});

describe('a pooler stands before the source:', () => {
  /** As pgbouncer answers: to a start-up message with a parameter that it does not know, or, told to ignore it, as to any other session. */
  async function openPooler(parameter: string, isIgnored = false) {
    const sockets = new Set<{ destroy: () => void }>();
    const listener = createServer((client) => {
      client.once('data', (first: Buffer) => {
        const at = first.indexOf(`${parameter}\0`);
        if (at >= 0 && !isIgnored) {
          const said = `SERROR\0C08P01\0Munsupported startup parameter: ${parameter}\0\0`;
          const length = Buffer.alloc(4);
          length.writeInt32BE(said.length + 4);
          client.end(Buffer.concat([Buffer.from('E'), length, Buffer.from(said)]));
          return;
        }
        // One that means nothing takes its place.
        if (at >= 0) first.write('search_path', at);
        const server = connectSocket(port, '127.0.0.1');
        sockets.add(server).add(client);
        server.write(first);
        client.pipe(server).pipe(client);
        for (const each of [client, server]) each.on('error', () => each.destroy());
      });
    });
    await once(listener.listen(0, '127.0.0.1'), 'listening');
    const close = () => {
      for (const socket of sockets) socket.destroy();
      listener.close();
    };
    return { source: { ...settings.source, port: (listener.address() as AddressInfo).port }, close };
  }

  it.each([
    ['it does not know replication', 'replication', false, 'does not speak the replication protocol'],
    ['it was told to ignore replication', 'replication', true, 'does not speak the replication protocol'],
    ['it does not know what a session sets', 'IntervalStyle', false, 'is a pooler that takes no settings of a session'],
  ])('%s', async (_, parameter, isIgnored, message) => {
    const pooler = await openPooler(parameter, isIgnored);
    await expect(stream(pooler)).rejects.toEqual(says(message, 'of the server itself, not of a pooler'));
    pooler.close();
  });
});
