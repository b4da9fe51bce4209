import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmod, cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { readdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { connect } from '../../runner/base/database.js';
import { PROJECT_ROOT, environmentSchema, loadSettings, type Settings } from '../../runner/base/settings.js';
import { formatRows } from '../../runner/base/text-table.js';
import { openDuckDb } from '../support/duckdb.js';
import { blocksOf, commandsOf, isShown, type Block } from '../support/pages.js';
import { freePort } from '../support/servers.js';

/**
 * What README and the pages for users tell one to do is done here, in their order, in a fresh project with servers of its own, and prints
 * what they show. A block that cannot be run here says so and why, after "not-run:"; its syntax is checked. docs/sql-api.md has a test of its own.
 */
const PAGES = [
  'README.md',
  'docs/getting-started.md',
  'docs/recipes.md',
  'docs/commands.md',
  'docs/settings.md',
  'docs/choosing-poll-or-log.md',
  'docs/console.md',
  'docs/operations.md',
  'docs/kubernetes.md',
  'docs/hazards.md',
  'docs/errors.md',
  'docs/events.md',
];
const BLOCKS = PAGES.flatMap((page) => blocksOf(page, readFileSync(path.join(PROJECT_ROOT, page), 'utf8')));
const isNotRun = ({ note }: Block) => note.startsWith('not-run: ');
const runs = BLOCKS.filter(
  (block) => ['bash', 'console', 'sql', 'duckdb'].includes(block.language) && !isNotRun(block),
);

let project: string;
let settings: Settings;
let environment: Readonly<Record<string, string>>;
let server: ChildProcess;

/** They are of the process that they run in, or start others. */
const OF_PROCESSES = ['completion', 'db', 'demo', 'forget', 'start', 'status', 'stop'];

/** An installed package, without npm: what package.test.ts installs is made of the same files. */
beforeAll(async () => {
  project = await mkdtemp(path.join(tmpdir(), 'tidemark-docs-'));
  const installed = path.join(project, 'node_modules', 'tidemark');
  const bin = path.join(project, 'node_modules', '.bin');
  for (const folder of [installed, bin, path.join(project, 'runner')]) await mkdir(folder, { recursive: true });
  // The servers' OS user passes through it.
  await chmod(project, 0o755);
  for (const part of ['dist', 'migrations', 'sql', 'sample_data', 'runner/console/assets', 'package.json'])
    await cp(path.join(PROJECT_ROOT, part), path.join(installed, part), { recursive: true });
  await symlink(path.join(PROJECT_ROOT, 'node_modules'), path.join(installed, 'node_modules'));
  await cp(path.join(PROJECT_ROOT, 'Makefile'), path.join(project, 'Makefile'));
  const script = async (name: string, line: string) => {
    await writeFile(path.join(bin, name), `#!/bin/sh\n${line} "$@"\n`, { mode: 0o755 });
  };
  const make = spawnSync('which', ['make'], { encoding: 'utf8' }).stdout.trim();
  await script('make', `exec ${make} -s -o dist/cli.js TIDEMARK='npx tidemark'`);
  const [source, warehouse] = [String(await freePort()), String(await freePort())];
  await writeFile(path.join(project, '.env'), `DB_PORT=${source}\nWAREHOUSE_DB_PORT=${warehouse}\n`);
  settings = loadSettings({}, project);
  environment = {
    PATH: `${bin}:${process.env.PATH ?? ''}`,
    HOME: project,
    LOG_LEVEL: 'WARNING',
    ...(process.env.TMPDIR === undefined ? {} : { TMPDIR: process.env.TMPDIR }),
  };
  const cli = path.join(installed, 'dist', 'cli.js');
  const tsx = path.join(PROJECT_ROOT, 'node_modules', 'tsx', 'dist', 'loader.mjs');
  const calling = path.join(PROJECT_ROOT, 'test', 'support', 'cli-server.ts');
  server = spawn(process.execPath, ['--import', tsx, calling, path.dirname(cli)], {
    cwd: project,
    env: environment,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [port] = (await once(server.stdout ?? server, 'data')) as [Buffer];
  await writeFile(path.join(bin, 'npx'), shim(cli, port.toString().trim()), { mode: 0o755 });
});

/** What is no process of its own is called in that of test/support/cli-server.ts. */
const shim = (cli: string, port: string) => `#!/bin/bash
shift
case "$1" in ${OF_PROCESSES.join('|')}) exec ${process.execPath} ${cli} "$@" ;; esac
exec 3<>/dev/tcp/127.0.0.1/${port}
printf '%s\\0' "$#" "$@" >&3
IFS= read -r code <&3
IFS= read -r length <&3
head -c "$length" <&3 >&2
cat <&3
exit "$code"
`;

afterAll(async () => {
  for (const command of ['npx tidemark stop', 'npx tidemark db stop']) inShell(command);
  server.kill();
  await rm(project, { recursive: true, force: true });
});

const inShell = (command: string) =>
  spawnSync('bash', ['-e', '-c', command], { cwd: project, env: environment, encoding: 'utf8', timeout: 120_000 });

/** The rows of the last statement, as the pages show rows. */
async function inDatabase({ body, note }: Block): Promise<string> {
  const sql = connect(note === 'on the source' ? settings.source : settings.warehouse, 'docs');
  try {
    await sql`set time zone 'UTC'`;
    const found = (await sql.unsafe(body)) as unknown as Record<string, unknown>[] | Record<string, unknown>[][];
    const rows = (Array.isArray(found[0]) ? found.at(-1) : found) as Record<string, unknown>[];
    return rows.length === 0 ? '(no rows)' : formatRows(rows);
  } finally {
    await sql.end();
  }
}

/** What DuckDB says of files in the project. */
async function inFiles({ body }: Block): Promise<string> {
  const duckdb = await openDuckDb();
  try {
    await duckdb.run(`set file_search_path = '${project}'`);
    return formatRows(await duckdb.rows(body));
  } finally {
    duckdb.close();
  }
}

/** With ACCEPT_DOCS=1 a page shows from now on what was printed. */
async function accept({ page }: Block, shown: string, printed: string): Promise<void> {
  const file = path.join(PROJECT_ROOT, page);
  const text = await readFile(file, 'utf8');
  await writeFile(
    file,
    text.replace(shown, () => `${printed.replace(/[ \t]+$/gm, '').trimEnd()}\n`),
  );
}

async function compare(block: Block, what: string, shown: string, printed: string): Promise<void> {
  if (isShown(shown, printed)) return;
  if (process.env.ACCEPT_DOCS === '1') await accept(block, `${what}${shown}`, `${what}${printed}`);
  else expect(printed, `${block.page}:${String(block.line)}: ${what}`).toBe(shown);
}

async function runBlock(block: Block): Promise<void> {
  const where = `${block.page}:${String(block.line)}`;
  if (block.language === 'sql' || block.language === 'duckdb') {
    const printed = block.language === 'sql' ? await inDatabase(block) : await inFiles(block);
    const next = BLOCKS[BLOCKS.indexOf(block) + 1];
    if (next?.page !== block.page || next.language !== 'text') return;
    await compare(block, `${block.body}\`\`\`\n\n\`\`\`text\n`, next.body, printed);
    return;
  }
  const commands =
    block.language === 'console'
      ? commandsOf(block)
      : [{ command: block.body, shown: undefined as string | undefined }];
  for (const { command, shown } of commands) {
    const { status, stdout, stderr } = inShell(command);
    // A comparison that finds what it should is no failure.
    expect([0, 3], `${where}: ${command}\n${stdout}\n${stderr}`).toContain(status);
    if (shown !== undefined) await compare(block, `$ ${command}\n`, shown, stdout);
  }
}

describe('README and the pages for users', () => {
  test.each(runs.map((block) => ({ block, name: `${block.page}:${String(block.line)}` })))(
    'what $name says can be done, and prints what is shown',
    async ({ block }) => {
      await runBlock(block);
    },
  );

  test('say of each block that is not run why, and its syntax is right', () => {
    const notRun = BLOCKS.filter((block) => block.note !== '' && block.note !== 'on the source');
    expect(notRun.filter(({ note }) => !/^not-run: [a-z]/.test(note))).toEqual([]);
    const wrong = notRun
      .filter(({ language }) => language === 'bash')
      .map((block) => ({ block, said: spawnSync('bash', ['-n', '-c', block.body], { encoding: 'utf8' }).stderr }))
      .filter(({ said }) => said !== '');
    expect(wrong).toEqual([]);
    expect(notRun).toHaveLength(22);
    expect(runs.length).toBeGreaterThan(30);
  });
});

describe('docs/commands.md', () => {
  const page = readFileSync(path.join(PROJECT_ROOT, 'docs', 'commands.md'), 'utf8');
  const commands = readdirSync(path.join(PROJECT_ROOT, 'runner', 'commands'))
    .map((name) => name.replace('.ts', ''))
    .filter((name) => !['command', 'door'].includes(name));

  test('has a row for each command', () => {
    expect(commands.filter((name) => !page.includes(`\`tidemark ${name}`))).toEqual([]);
  });

  test('names no option that the command does not have', () => {
    const rows = [...page.matchAll(/^\| `tidemark ([\w-]+)(.*?)` \|/gm)];
    expect(rows.length).toBeGreaterThanOrEqual(commands.length);
    const wrong = rows.flatMap(([, name = '', rest = '']) => {
      const code = readFileSync(path.join(PROJECT_ROOT, 'runner', 'commands', `${name}.ts`), 'utf8');
      const shared = readFileSync(path.join(PROJECT_ROOT, 'runner', 'commands', 'command.ts'), 'utf8');
      return (rest.match(/--[a-z-]+/g) ?? [])
        .map((option) => option.replace('--', ''))
        .filter((option) => !`${code}${shared}`.includes(option.replace(/^no-/, '')))
        .map((option) => `${name} --${option}`);
    });
    expect(wrong).toEqual([]);
  });
});

test('docs/settings.md shows the default of each setting', () => {
  const defaults = environmentSchema.parse({}) as Readonly<Record<string, string | number | undefined>>;
  const rows = [
    ...readFileSync(path.join(PROJECT_ROOT, 'docs', 'settings.md'), 'utf8').matchAll(/^\| (`.*?) \| (.*?) \|/gm),
  ];
  const shown = rows.flatMap(([, named = '', values = '']) => {
    const names = (named.match(/[A-Z_]+/g) ?? []).filter((name) => name in defaults);
    const said = values.match(/`[^`]*`/g) ?? [];
    return names.map((name, index) => [name, (said[index] ?? said[0] ?? '').replaceAll('`', '')] as const);
  });
  expect(shown.length).toBeGreaterThan(40);
  // What has none of its own follows another setting, is for ever, or is a password that is looked for elsewhere first.
  const isRight = (name: string, said: string) =>
    defaults[name] === undefined
      ? ['', '0', 'postgres', 'BATCH_SIZE', 'disable'].includes(said)
      : String(defaults[name]) === said;
  const wrong = shown.filter(([name, said]) => !isRight(name, said));
  expect(wrong).toEqual([]);
});
