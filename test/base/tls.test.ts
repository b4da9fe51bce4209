import { chmod, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadSettings, type DatabaseSettings, type SslMode } from '../../runner/base/settings.js';
import { connect, withDatabase } from '../../runner/base/database.js';
import { DEMO_SOURCE, migrateWarehouse, runMigrations } from '../../runner/warehouse/migrate.js';
import { runCli, type CliResult } from '../support/cli.js';
import { foldersIn } from '../support/databases.js';
import {
  hasOpenssl,
  makeAuthority,
  makeCertificate,
  startTlsServer,
  type Certificate,
  type TlsServer,
} from '../support/tls-server.js';

interface Places {
  readonly folder: string;
  readonly ours: Certificate;
  readonly foreign: Certificate;
  readonly named: TlsServer;
  readonly addressed: TlsServer;
  readonly plain: TlsServer;
}

let places: Places;

/** The server "named" has a certificate for localhost, "addressed" one for 127.0.0.1; both of our authority. */
async function makePlaces(): Promise<Places> {
  const folder = await mkdtemp(path.join(tmpdir(), 'tidemark-certificates-'));
  await chmod(folder, 0o711);
  const [ours, foreign] = [makeAuthority(folder, 'ours'), makeAuthority(folder, 'foreign')];
  const named = await startTlsServer(await makeCertificate(folder, 'named', ours, 'DNS:localhost'));
  const addressed = await startTlsServer(await makeCertificate(folder, 'addressed', ours, 'IP:127.0.0.1'));
  return { folder, ours, foreign, named, addressed, plain: await startTlsServer(undefined) };
}

const asked = (server: TlsServer, host: string, sslmode: SslMode, authority?: Certificate): DatabaseSettings => ({
  role: 'warehouse',
  prefix: 'WAREHOUSE_DB_',
  host,
  port: server.port,
  database: 'postgres',
  user: 'postgres',
  password: server.password,
  sslmode,
  sslrootcert: authority?.certificate,
});

/** Whether a session is had and encrypted, or why there is none; by the driver of the runner. */
async function outcome(settings: DatabaseSettings): Promise<string> {
  try {
    const [row] = await withDatabase(settings, 'test', (sql) =>
      sql<
        [{ ssl: boolean; version: string }]
      >`select ssl, version from pg_stat_ssl where pid = pg_backend_pid()`.execute(),
    );
    return row.ssl ? 'encrypted' : 'plain';
  } catch (error) {
    return (error as Error).message;
  }
}

/** The same by the driver of the migrations. */
const outcomeOfMigrating = async (settings: DatabaseSettings) =>
  runMigrations(settings, DEMO_SOURCE).then(
    () => 'encrypted',
    (error: unknown) => (error as Error).message,
  );

describe.skipIf(!hasOpenssl())('over TLS, with real certificates', () => {
  beforeAll(async () => {
    places = await makePlaces();
  });
  afterAll(async () => {
    for (const server of [places.named, places.addressed, places.plain]) await server.stop();
    await rm(places.folder, { recursive: true });
  });

  const NOT_TRUSTED = 'the certificate of the warehouse database is not trusted';
  test.each<[string, () => DatabaseSettings, string]>([
    [
      'verify-full takes the certificate of its authority for its name',
      () => asked(places.named, 'localhost', 'verify-full', places.ours),
      'encrypted',
    ],
    [
      'verify-full takes one for an address',
      () => asked(places.addressed, '127.0.0.1', 'verify-full', places.ours),
      'encrypted',
    ],
    [
      'verify-full refuses one for localhost where an address was asked for',
      () => asked(places.named, '127.0.0.1', 'verify-full', places.ours),
      'the certificate of the warehouse database is not for 127.0.0.1',
    ],
    [
      'verify-full refuses one for an address where a name was asked for',
      () => asked(places.addressed, 'localhost', 'verify-full', places.ours),
      'the certificate of the warehouse database is not for localhost',
    ],
    [
      'verify-full refuses another authority',
      () => asked(places.named, 'localhost', 'verify-full', places.foreign),
      NOT_TRUSTED,
    ],
    [
      'verify-full refuses an authority that the system does not know',
      () => asked(places.named, 'localhost', 'verify-full'),
      NOT_TRUSTED,
    ],
    [
      'verify-ca takes its authority whatever the name',
      () => asked(places.named, '127.0.0.1', 'verify-ca', places.ours),
      'encrypted',
    ],
    [
      'verify-ca refuses another authority',
      () => asked(places.named, 'localhost', 'verify-ca', places.foreign),
      NOT_TRUSTED,
    ],
    ['require takes any certificate', () => asked(places.named, '127.0.0.1', 'require'), 'encrypted'],
    [
      'disable is refused by a server that wants TLS',
      () => asked(places.named, 'localhost', 'disable'),
      'the warehouse database refuses user postgres',
    ],
    [
      'require never goes on in plain text',
      () => asked(places.plain, '127.0.0.1', 'require'),
      'the warehouse database does not speak TLS',
    ],
    [
      'verify-full never goes on in plain text',
      () => asked(places.plain, 'localhost', 'verify-full', places.ours),
      'the warehouse database does not speak TLS',
    ],
  ])('%s', async (_, settings, expected) => {
    expect(await outcome(settings())).toContain(expected);
    expect(await outcomeOfMigrating({ ...settings(), role: 'warehouse' })).toContain(expected);
  });

  test('an authority that is no certificate is named with its setting', async () => {
    const file = path.join(places.folder, 'no.crt');
    await writeFile(file, 'no certificate');
    const settings = { ...asked(places.named, 'localhost', 'verify-full'), sslrootcert: file };
    expect(await outcome(settings)).toBe(`WAREHOUSE_DB_SSLROOTCERT names a file that holds no certificate: ${file}`);
    expect(await outcome({ ...settings, sslrootcert: `${file}.gone` })).toContain(
      'WAREHOUSE_DB_SSLROOTCERT names a file that cannot be read',
    );
  });

  test('the whole pipeline runs over verify-full, and no password is in anything it says, writes or is called', async () => {
    const { env, secrets, done } = await preparePipeline();
    const said: CliResult[] = [];
    const run = async (...args: string[]) => {
      const result = await runCli(args, env);
      said.push(result);
      return result;
    };
    expect(await run('simulate', '--changes', '20', '--seed', '5')).toMatchObject({ code: 0 });
    for (const command of ['extract', 'load', 'check']) expect(await run(command), command).toMatchObject({ code: 0 });
    await run('migrate', 'status');
    for (const args of [['start', '--json'], ['status'], ['status', '--json']])
      expect(await run(...args)).toMatchObject({ code: 0 });
    const titles = await processTitles();
    expect(titles).toContain('--service');
    expect(await run('stop')).toMatchObject({ code: 0 });
    said.push(
      await runCli(['load'], { ...env, WAREHOUSE_DB_NAME: 'nowhere' }),
      await runCli(['load'], { ...env, WAREHOUSE_DB_USER: 'nobody' }),
      await runCli(['extract'], { ...env, DB_PORT: '1' }),
      await runCli(['load'], { ...env, BATCH_SIZE: 'x' }),
    );
    expect(said.slice(-4).map(({ code }) => code)).toEqual([1, 1, 1, 2]);
    const written = await contentsOf(places.folder, ['logs', 'run', 'cdc_logs']);
    expect(written).toContain('Starting CDC extractor');
    for (const secret of secrets) expect(JSON.stringify(said) + titles + written).not.toContain(secret);
    expect(said.map(({ stderr }) => stderr).join('')).not.toBe('');
    await done();
  });

  /** Both ends on the server "named", a role with a password of its own on each, given in a file and in a passfile. */
  async function preparePipeline(): Promise<{
    env: Record<string, string>;
    secrets: string[];
    done: () => Promise<void>;
  }> {
    const admin = connect(asked(places.named, 'localhost', 'verify-full', places.ours), 'test');
    const secrets = ['tide-secret-source-4711', 'tide-secret:warehouse\\4712'];
    for (const [end, secret] of [
      ['source', secrets[0] ?? ''],
      ['warehouse', secrets[1] ?? ''],
    ] as const) {
      await admin.unsafe(`create role tide_${end} superuser login password '${secret}'`);
      await admin.unsafe(`create database tide_${end} owner tide_${end} encoding 'UTF8' template template0`);
    }
    const [passwordFile, passFile] = [
      path.join(places.folder, 'source.password'),
      path.join(places.folder, 'passfile'),
    ];
    await writeFile(passwordFile, `${secrets[0] ?? ''}\n`);
    await writeFile(
      passFile,
      `# the warehouse\nlocalhost:*:tide_warehouse:tide_warehouse:tide-secret\\:warehouse\\\\4712\n`,
      { mode: 0o600 },
    );
    const env: Record<string, string> = {
      ...foldersIn(places.folder),
      LOG_LEVEL: 'DEBUG',
      DB_PASSWORD_FILE: passwordFile,
      PGPASSFILE: passFile,
    };
    for (const [prefix, end] of [
      ['DB_', 'source'],
      ['WAREHOUSE_DB_', 'warehouse'],
    ] as const)
      Object.assign(env, {
        [`${prefix}HOST`]: 'localhost',
        [`${prefix}PORT`]: String(places.named.port),
        [`${prefix}NAME`]: `tide_${end}`,
        [`${prefix}USER`]: `tide_${end}`,
        [`${prefix}SSLMODE`]: 'verify-full',
        [`${prefix}SSLROOTCERT`]: places.ours.certificate,
      });
    const { source, warehouse } = loadSettings(env, places.folder);
    expect([source.password, warehouse.password]).toEqual(secrets);
    await runMigrations(source, DEMO_SOURCE);
    await migrateWarehouse(warehouse);
    return { env, secrets: [...secrets, 'tide-secret'], done: () => admin.end() };
  }
});

/** How every process of the machine is called, where that can be seen. */
async function processTitles(): Promise<string> {
  const numbers = (await readdir('/proc').catch(() => [])).filter((name) => /^\d+$/.test(name));
  if (numbers.length === 0) return '--service';
  return (await Promise.all(numbers.map((number) => readFile(`/proc/${number}/cmdline`, 'utf8').catch(() => '')))).join(
    '\n',
  );
}

async function contentsOf(root: string, folders: readonly string[]): Promise<string> {
  const texts: string[] = [];
  for (const folder of folders)
    for (const entry of await readdir(path.join(root, folder), { recursive: true, withFileTypes: true }))
      if (entry.isFile()) texts.push(await readFile(path.join(entry.parentPath, entry.name), 'latin1'));
  return texts.join('\n');
}
