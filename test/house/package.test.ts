import { execFile } from 'node:child_process';
import { constants, existsSync } from 'node:fs';
import { access, chmod, cp, mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PROJECT_ROOT } from '../../runner/base/settings.js';
import { freePort } from '../support/servers.js';

const run = promisify(execFile);
const readJson = async <T>(file: string) => JSON.parse(await readFile(file, 'utf8')) as T;

/** What of the repository may be packed: what runs, and what one reads or copies to run it. */
const PACKED =
  /^(dist\/.+\.js|migrations\/(warehouse|dimensions|source)\/\d{4}_\w+\.sql|sql\/.+\.sql|sql\/schemas\/batch\.json|runner\/console\/assets\/console\.(css|js)|runner\/console\/assets\/icon\.svg|sample_data\/source_orders\.csv|docs\/settings\.md|deploy\/(grafana|prometheus|systemd)\/[\w./-]+|package\.json|README\.md|CHANGELOG\.md|LICENSE)$/;

interface Manifest {
  readonly version: string;
  readonly private?: boolean;
}
interface Packed {
  readonly filename: string;
  readonly files: readonly { readonly path: string }[];
}
interface Lock {
  readonly packages: Readonly<Record<string, { readonly dev?: boolean; readonly devOptional?: boolean }>>;
}

/** The environment of a user's shell: without what npm and this test run put there. */
const shell = Object.fromEntries(
  Object.entries(process.env).filter(([name]) => !/^(npm_|NODE_|VITEST|TEST)/.test(name)),
);

let folder: string;
let project: string;
let packed: Packed;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'tidemark-package-'));
  project = path.join(folder, 'project');
  await mkdir(project);
  // The servers' OS user passes through it.
  for (const each of [folder, project]) await chmod(each, 0o755);
  // The test run has built it: a build by this test would take dist/ away from others.
  const args = ['pack', '--ignore-scripts', '--json', '--pack-destination', folder];
  const { stdout } = await run('npm', args, { cwd: PROJECT_ROOT });
  [packed] = Object.values(JSON.parse(stdout) as Record<string, Packed>) as [Packed];
});
afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

describe('the package', () => {
  it('holds what runs and what one reads or copies to run it, and nothing else', () => {
    const files = packed.files.map((file) => file.path);
    expect(files.filter((file) => !PACKED.test(file) || /test|(^|\/)\.env/.test(file))).toEqual([]);
    expect(files).toEqual(
      expect.arrayContaining([
        'dist/cli.js',
        'migrations/dimensions/0001_register_orders.sql',
        'sql/functions/load/apply_batch.sql',
        'sample_data/source_orders.csv',
        'deploy/systemd/tidemark-extractor.service',
        'README.md',
        'CHANGELOG.md',
        'LICENSE',
      ]),
    );
  });

  it('can be published', async () => {
    const manifest = await readJson<Manifest>(path.join(PROJECT_ROOT, 'package.json'));
    expect(manifest.private).toBeUndefined();
    for (const field of [
      'name',
      'version',
      'description',
      'license',
      'repository',
      'homepage',
      'bugs',
      'files',
      'engines',
    ])
      expect(manifest).toHaveProperty(field);
  });

  it('is built so that a shell can run it, also where dist/ was removed since npx linked to it', async () => {
    const built = path.join(folder, 'built');
    await mkdir(built);
    await cp(path.join(PROJECT_ROOT, 'package.json'), path.join(built, 'package.json'));
    await mkdir(path.join(built, 'runner', 'commands'), { recursive: true });
    for (const name of ['cli.ts', 'commands/status.ts'])
      await writeFile(path.join(built, 'runner', name), '#!/bin/sh\n');
    const PATH = `${path.join(PROJECT_ROOT, 'node_modules', '.bin')}:${process.env.PATH ?? ''}`;
    await run('npm', ['run', 'build'], { cwd: built, env: { ...shell, PATH } });
    await access(path.join(built, 'dist', 'cli.js'), constants.X_OK);
  });

  it('installed in an empty folder makes the demo there, and a history of a table of its own, and writes nothing into node_modules', async () => {
    const { version } = await readJson<Manifest>(path.join(PROJECT_ROOT, 'package.json'));
    // With the versions of our lock file, which npm has in its cache: it was installed from there.
    const { packages } = await readJson<Lock>(path.join(PROJECT_ROOT, 'package-lock.json'));
    const ofUse = Object.entries(packages).filter(
      ([name, { dev, devOptional }]) => name !== '' && !dev && !devOptional,
    );
    const lock = { lockfileVersion: 3, requires: true, packages: { '': {}, ...Object.fromEntries(ofUse) } };
    await writeFile(path.join(project, 'package-lock.json'), JSON.stringify(lock));
    await writeFile(path.join(project, 'package.json'), '{ "name": "shop", "version": "9.9.9" }');
    const install = ['install', '--prefer-offline', '--no-audit', '--no-fund', path.join(folder, packed.filename)];
    await run('npm', install, { cwd: project, env: shell });
    const inPackage = () => readdir(path.join(project, 'node_modules', 'tidemark'), { recursive: true });
    const installed = await inPackage();
    const [source, warehouse] = [await freePort(), await freePort()];
    await writeFile(path.join(project, '.env'), `DB_PORT=${String(source)}\nWAREHOUSE_DB_PORT=${String(warehouse)}\n`);
    // What npx finds, which takes longer to find it than most commands take.
    const program = path.join(project, 'node_modules', '.bin', 'tidemark');
    const tidemark = async (...args: string[]) => (await run(program, args, { cwd: project, env: shell })).stdout;
    const found = await run('npx', ['--no-install', 'tidemark', '--version'], { cwd: project, env: shell });
    expect(found.stdout).toBe(`${version}\n`);
    expect(await tidemark('extract', '--version')).toBe(`${version}\n`);
    try {
      expect(await tidemark('db', 'start')).toContain(path.join(project, 'data', 'postgres', 'warehouse_db'));
      expect(await tidemark('migrate')).not.toContain('dimensions/');
      expect(existsSync(path.join(project, 'migrations'))).toBe(false);
      expect(await tidemark('demo')).toContain('4 versions: 3 current, 1 historical');
      expect(await tidemark('add', 'public.customers', '--name', 'clients')).toContain(
        'wrote migrations/dimensions/0004_register_clients.sql',
      );
      expect(await tidemark('migrate')).toContain('applied dimensions/0004_register_clients');
      await tidemark('extract');
      expect(await tidemark('load')).toMatch(/^clients: 3 changes in 1 batch applied, 3 versions opened/m);
      await tidemark('start');
      await tidemark('stop');
      expect(await tidemark('check')).toContain('all passed');
    } finally {
      await tidemark('db', 'stop');
    }
    expect((await readdir(project)).sort()).toEqual(
      ['.env', 'data', 'logs', 'migrations', 'node_modules', 'package-lock.json', 'package.json'].sort(),
    );
    expect((await readdir(path.join(project, 'data'))).sort()).toEqual(['cdc_logs', 'postgres', 'run']);
    expect(await inPackage()).toEqual(installed);
  }, 900_000);
});
