import { readdirSync, readFileSync, existsSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { PROJECT_ROOT } from '../../runner/base/settings.js';
import { SETTING_NAMES } from '../../runner/base/settings-schema.js';

/** The rules of the house that a machine can keep. Every test lists what breaks its rule; an empty list is a pass. */

const read = (file: string): string => readFileSync(path.join(PROJECT_ROOT, file), 'utf8');

/** Files below a folder with that ending, by their path in the project; none where the folder is not there. */
function filesIn(folder: string, ending: string): string[] {
  const absolute = path.join(PROJECT_ROOT, folder);
  if (!existsSync(absolute)) return [];
  return readdirSync(absolute, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith(ending))
    .map((name) => path.posix.join(folder, name.split(path.sep).join('/')))
    .sort();
}

/** Lines of files that match, as "file:line: text". */
function linesThat(files: readonly string[], breaks: (line: string, number: number) => boolean): string[] {
  return files.flatMap((file) => read(file).split('\n')
    .map((line, index) => ({ line, number: index + 1 }))
    .filter(({ line, number }) => breaks(line, number))
    .map(({ line, number }) => `${file}:${String(number)}: ${line.trim()}`));
}

const runnerFiles = filesIn('runner', '.ts');
/** The name of a runner module: its path below runner/ without the ending. */
const moduleOf = (file: string): string => file.slice('runner/'.length, -'.ts'.length);

/** The module's code without comments: what a comment mentions is no call. */
const codeOf = (module: string): string => read(`runner/${module}.ts`).replace(/\/\*[\s\S]*?\*\//g, '').replace(/^\s*\/\/.*$/gm, '');

const modules = runnerFiles.map(moduleOf);
const modulesWith = (pattern: RegExp): string[] => modules.filter((module) => pattern.test(codeOf(module)));

/** What each module imports: packages by their name, modules of the runner by their module name. */
function importsOf(module: string): string[] {
  return [...codeOf(module).matchAll(/(?:from|import\()\s*'([^']+)'/g)].map(([, name = '']) => {
    if (!name.startsWith('.')) return name;
    return path.posix.join(path.posix.dirname(module), name).replace(/\.js$/, '');
  });
}

const isEmbedded = (module: string): boolean => module.startsWith('embedded-');

/** From the top of the house to the bottom. A module that is not named here does the work of a command. */
const LAYERS: readonly { readonly name: string; readonly holds: (module: string) => boolean }[] = [
  { name: 'cli', holds: (module) => module === 'cli' },
  { name: 'commands', holds: (module) => module.startsWith('commands/') },
  { name: 'work', holds: () => true },
  { name: 'archive', holds: (module) => module === 'change-log-archive' || module === 'change-log-status' },
  { name: 'ends', holds: (module) => /^(source|warehouse|change-log)(-|$)|^monitoring$/.test(module) && !['change-log-archive', 'change-log-status'].includes(module) },
  { name: 'what the ends build on', holds: (module) => ['database-transaction', 'deleted-mark'].includes(module) },
  { name: 'database', holds: (module) => module === 'database' },
  { name: 'tls', holds: (module) => module === 'tls' },
  { name: 'config', holds: (module) => module === 'config' },
  { name: 'settings', holds: (module) => module === 'config-schema' },
  { name: 'helpers', holds: (module) => ['contract', 'env-file', 'passwords', 'progress', 'table', 'interrupt', 'durable-file'].includes(module) },
  { name: 'shard', holds: (module) => module === 'shard' },
  { name: 'folders', holds: (module) => module === 'safe-folder' },
  { name: 'leaves', holds: (module) => ['errors', 'failpoint', 'heap', 'logger', 'measure', 'sql-text'].includes(module) },
];

function depthOf(module: string): number {
  const work = LAYERS.findIndex(({ name }) => name === 'work');
  const depth = LAYERS.findIndex(({ name, holds }) => name !== 'work' && holds(module));
  return depth < 0 ? work : depth;
}

/** The modules of one end of the pipeline: source and source-lock are. */
const endOf = (module: string): string => module.split('-')[0] ?? '';

const edges = modules.flatMap((module) => importsOf(module).filter((name) => modules.includes(name)).map((imported) => ({ module, imported })));

describe('runner modules', () => {
  test('import from layers below their own only; those that do the work may use each other', () => {
    const wrong = edges.filter(({ module, imported }) => {
      const areWork = LAYERS[depthOf(module)]?.name === 'work' && depthOf(imported) === depthOf(module);
      const areOneEnd = LAYERS[depthOf(module)]?.name === 'ends' && endOf(module) === endOf(imported) && module !== endOf(module);
      return !areWork && !areOneEnd && depthOf(imported) <= depthOf(module);
    });
    expect(edges.length).toBeGreaterThan(50);
    expect(wrong.map(({ module, imported }) => `${module} imports ${imported}`)).toEqual([]);
  });

  test('do not import each other in a circle', () => {
    const circles = modules.filter((module) => {
      const reached = new Set(importsOf(module));
      for (const each of reached) for (const next of modules.includes(each) ? importsOf(each) : []) reached.add(next);
      return reached.has(module);
    });
    expect(circles).toEqual([]);
  });

  test('that run the embedded servers know nothing of the pipeline, and only commands and start know of them', () => {
    const allowed = ['config', 'database', 'errors', 'logger', 'safe-folder'];
    const wrong = edges.filter(({ module, imported }) => (isEmbedded(module) && !isEmbedded(imported) && !allowed.includes(imported))
      || (isEmbedded(imported) && !isEmbedded(module) && !module.startsWith('commands/') && module !== 'start'));
    expect(wrong).toEqual([]);
  });

  test.each([
    // A registration is text for a migration: what is written there is called by whoever migrates.
    ['calls functions of schema tidemark', /\btidemark\.[a-z_]+ *\(/, [
      'monitoring', 'registration-file', 'warehouse-comparison', 'warehouse-dimensions', 'warehouse-prune', 'warehouse-rejected', 'warehouse-replay', 'warehouse-report', 'warehouse-runs', 'warehouse']],
    ['runs the files of sql/source', /'sql', *'source'|sql\/source/, ['source-catalog', 'source-comparison', 'source-grants', 'source-health', 'source-horizon', 'source-shard', 'source']],
    ['runs the files of sql/functions', /'sql', *'functions'/, ['migrate']],
    ['runs the files of sql/views', /'sql', *'views'/, ['migrate']],
    ['runs the files of sql/checks', /'sql', *'checks'/, ['checks']],
    ['reads the environment, but for that which a server inherits', /process\.env\b/, ['config', 'embedded-account', 'failpoint']],
    ['knows the folders of the change log', /'(processed|checkpoints)'/, ['change-log']],
  ])('of which one alone %s', (_, pattern, expected) => {
    expect(modulesWith(pattern)).toEqual(expected);
  });

  test.each([
    ['node-pg-migrate', ['migrate']],
    // Types of values that pass through; connections come from the module database alone.
    ['postgres', ['database', 'simulate']],
    ['pg', ['database']],
    ['dotenv', ['env-file']],
    ['cli-table3', ['table']],
  ])('that import %s are those that may', (name, expected) => {
    expect(modules.filter((module) => importsOf(module).includes(name))).toEqual(expected);
  });

  test('other than database take no more than types from the drivers', () => {
    const wrong = modules.filter((module) => module !== 'database' && /import (?!type\b)[^;]*from '(postgres|pg)'/.test(codeOf(module)));
    expect(wrong).toEqual([]);
  });

  test('leave batch files to change-log, publish and durable-file', () => {
    const readsFiles = modules.filter((module) => importsOf(module).some((name) => name.startsWith('node:fs')) && !isEmbedded(module));
    expect(readsFiles.filter((module) => !['change-log', 'publish', 'durable-file', 'config', 'database', 'migrate', 'checks', 'demo', 'change-log-status',
      'service-record', 'services', 'process-identity', 'log-file', 'log-tail', 'report', 'dimension-files', 'change-log-archive', 'change-log-mappings',
      'resources', 'safe-folder', 'passwords', 'tls', 'env-file', 'source-grants'].includes(module))).toEqual([]);
    expect(readsFiles.filter((module) => codeOf(module).includes('cdc_log_dir'))).toEqual([]);
    // Who loses a race must be able to tell.
    const used = modules.filter((module) => !['change-log', 'publish', 'change-log-archive', 'change-log-mappings', 'service-record'].includes(module) && /import (?!\{ AlreadyPublishedError \})[^;]*from '\.\/durable-file\.js'/.test(codeOf(module)));
    expect(used).toEqual([]);
  });

  test('have at most 220 lines', () => {
    expect(runnerFiles.filter((file) => read(file).trimEnd().split('\n').length > 220)).toEqual([]);
  });
});

const functionFiles = filesIn('sql/functions', '.sql');
const functionOf = (file: string): string => path.basename(file, '.sql');
const isAggregate = (file: string): boolean => /^create or replace aggregate /m.test(read(file));

describe('files of sql/functions', () => {
  test('hold one function each, and are named as it', () => {
    const wrong = functionFiles.filter((file) => {
      const made = [...read(file).matchAll(/^create\b.*?\b(?:function|aggregate|procedure) +([\w.]+)/gm)].map(([, name]) => name);
      return made.length !== 1 || made[0] !== functionOf(file) || !/^create or replace /m.test(read(file));
    });
    expect(functionFiles.length).toBeGreaterThan(20);
    expect(wrong).toEqual([]);
  });

  test('pin the search path', () => {
    // A step of an aggregate is called once a row and runs under its caller's path, and so does what is to become part of a statement.
    const pinned = functionFiles.filter((file) => !isAggregate(file) && !['tidemark._fold_time_step', 'tidemark._fold_step', 'tidemark._takes_effect'].includes(functionOf(file)));
    expect(pinned.filter((file) => !/^set search_path = pg_catalog, pg_temp$/m.test(read(file)))).toEqual([]);
  });

  test('state the volatility', () => {
    expect(functionFiles.filter((file) => !isAggregate(file) && !/^(volatile|stable|immutable)$/m.test(read(file)))).toEqual([]);
  });

  test('have at most 150 lines', () => {
    expect(functionFiles.filter((file) => read(file).trimEnd().split('\n').length > 150)).toEqual([]);
  });

  test('name in their header the errors they raise', () => {
    const unnamed = functionFiles.flatMap((file) => {
      const header = /^(--.*\n)+/.exec(read(file))?.[0] ?? '';
      const raised = [...read(file).matchAll(/errcode = '(\w+)'/g)].map(([, code = '']) => code);
      return raised.filter((code) => !header.includes(code)).map((code) => `${file}: ${code}`);
    });
    expect(unnamed).toEqual([]);
  });

  test('never swallow every error, but where each case is recorded', () => {
    const swallow = functionFiles.filter((file) => /when others/i.test(read(file)));
    expect(swallow.map(functionOf)).toEqual(['tidemark._broken_rule', 'tidemark._find_fault']);
  });

  test('have a test that names the function, unless it is private', () => {
    const tests = filesIn('test', '.test.ts').filter((file) => file !== 'test/style.test.ts').map((file) => `${file}\n${read(file)}`).join('\n');
    const untested = functionFiles.map(functionOf).filter((name) => !name.startsWith('tidemark._') && !new RegExp(`${name.replace('.', '\\.')}\\b`).test(tests));
    expect(untested).toEqual([]);
  });
});

const sqlFiles = [...filesIn('sql', '.sql'), ...filesIn('migrations', '.sql'), ...filesIn('test', '.sql')];
const migrations = filesIn('migrations', '.sql');

describe('SQL files', () => {
  test('have no tabs, no trailing spaces, and end with one line break', () => {
    expect(linesThat(sqlFiles, (line) => /\t|\s$/.test(line))).toEqual([]);
    expect(sqlFiles.filter((file) => !/[^\n]\n$/.test(read(file)))).toEqual([]);
  });

  test('have lines of at most 140 characters, but for the text of a comment', () => {
    expect(linesThat(sqlFiles, (line) => line.length > 140 && !line.startsWith('comment on '))).toEqual([]);
  });

  test('begin with a comment that says what they are for', () => {
    expect([...functionFiles, ...filesIn('sql/views', '.sql'), ...filesIn('sql/checks', '.sql')].filter((file) => !read(file).startsWith('-- '))).toEqual([]);
  });

  test('of migrations carry the marker on line 1 and nothing like it below, where the file would be cut', () => {
    expect(migrations.filter((file) => !read(file).startsWith('-- Up Migration\n'))).toEqual([]);
    expect(linesThat(migrations, (line, number) => number > 1 && /^[\s\-/*]*(up|down)\s+migration/i.test(line))).toEqual([]);
  });

  test('of migrations are numbered, no number twice, and named in words', () => {
    const folders = [...new Set(migrations.map((file) => path.posix.dirname(file)))];
    expect(migrations.filter((file) => !/^[0-9]{4}_[a-z0-9_]+\.sql$/.test(path.posix.basename(file)))).toEqual([]);
    const numbers = (folder: string) => migrations.filter((file) => path.posix.dirname(file) === folder).map((file) => path.posix.basename(file).slice(0, 4));
    expect(folders.filter((folder) => new Set(numbers(folder)).size !== numbers(folder).length)).toEqual([]);
  });

  test('of checks are one select that any client can run', () => {
    const wrong = filesIn('sql/checks', '.sql').filter((file) => {
      const statement = read(file).replace(/^--.*$/gm, '').trim();
      return !/^(select|with)\b/.test(statement) || !statement.endsWith(';') || statement.slice(0, -1).includes(';') || !/\border by\b/.test(statement);
    });
    expect(wrong).toEqual([]);
  });
});

const CODE = /\bTM[0-9]{3}\b/g;
const registeredCodes = (): string[] => [...read('docs/errors.md').matchAll(/^\| `(TM[0-9]{3})`/gm)].map(([, code = '']) => code);

/** The titles of a test file: of each test, alone and after that of the group it is in. What is filled in (%s) is an empty group of the pattern. */
function titlesOf(file: string): string[] {
  let group = '';
  return read(file).split('\n').flatMap((line) => {
    const title = /\((['"`])((?:\\.|(?!\1).)+)\1, (?:\{.*\}, )?(?:(?:async )?\(|\w+\);$)/.exec(line)?.[2]?.replaceAll(/\\(.)/g, '$1');
    if (title === undefined) return [];
    if (!line.startsWith(' ')) group = /^(describe|\])/.test(line) ? title : '';
    return [title, `${group} ${title}`];
  });
}

/** Whether a file has a test of that sentence; what the title leaves open must stand in the file. */
function hasSentence(file: string, sentence: string): boolean {
  if (!existsSync(path.join(PROJECT_ROOT, file))) return false;
  return titlesOf(file).some((title) => {
    const pattern = title.split(/%[sij]|\$\w+/).map((part) => part.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('(.+)');
    const filledIn = new RegExp(`^${pattern}$`).exec(sentence)?.slice(1);
    return filledIn?.every((text) => read(file).includes(text)) === true;
  });
}

describe('documentation', () => {
  test.each(['.env.example', 'README.md'].filter((file) => existsSync(path.join(PROJECT_ROOT, file))))('in %s names every setting', (file) => {
    const text = read(file);
    expect(SETTING_NAMES.filter((name) => !new RegExp(`(?<![A-Z_])${name}(?![A-Z_])`).test(text))).toEqual([]);
  });

  test('in .env.example names nothing that is not a setting', () => {
    const named = [...read('.env.example').matchAll(/^(?:# )?([A-Z][A-Z_]+)=/gm)].map(([, name = '']) => name);
    expect(named.filter((name) => !SETTING_NAMES.includes(name))).toEqual([]);
  });

  test('in docs/errors.md registers exactly the codes that functions raise', () => {
    const raised = new Set(filesIn('sql', '.sql').flatMap((file) => [...read(file).matchAll(/errcode = '(TM[0-9]{3})'/g)].map(([, code = '']) => code)));
    expect(registeredCodes()).toEqual([...raised].sort());
    const mentioned = [...filesIn('sql', '.sql'), ...runnerFiles].flatMap((file) => read(file).match(CODE) ?? []);
    expect(mentioned.filter((code) => !registeredCodes().includes(code))).toEqual([]);
  });

  test('in docs/errors.md quotes messages as they are printed', () => {
    const sources = [...runnerFiles, ...functionFiles].map(read).join('\n');
    const quoted = [...read('docs/errors.md').matchAll(/^\| `([^`]+)`/gm)].map(([, message = '']) => message).filter((message) => !/^(TM[0-9]{3}|[0-9])$/.test(message));
    const unknown = quoted.filter((message) => message.split(/<[^>]+>/).some((part) => part.trim().length > 2 && !sources.includes(part.trim())));
    expect(quoted.length).toBeGreaterThan(20);
    expect(unknown).toEqual([]);
  });

  test('in docs/hazards.md names tests that are there', () => {
    const rows = read('docs/hazards.md').split('\n').filter((line) => line.startsWith('| ') && !line.endsWith(' | test |'));
    const named = rows.map((row) => [...row.matchAll(/`(test\/[\w./-]+)`: ("(?:.+?)")(?=; `test\/| \|$)/g)]
      .flatMap(([, file = '', sentences = '']) => [...sentences.matchAll(/"(.+?)"(?=, "|$)/g)].map(([, sentence = '']) => ({ file, sentence }))));
    expect(rows.length).toBeGreaterThan(60);
    expect(rows.filter((_, index) => named[index]?.length === 0)).toEqual([]);
    expect(named.flat().filter(({ file, sentence }) => !hasSentence(file, sentence)).map(({ file, sentence }) => `${file}: ${sentence}`)).toEqual([]);
  });

  test('in docs/glossary.md points to code that is there', () => {
    const named = [...read('docs/glossary.md').matchAll(/`((?:runner|sql|test|migrations)\/[\w./-]+|tidemark\.\w+)`/g)].map(([, name = '']) => name);
    const schema = read('test/schema.txt');
    const missing = named.filter((name) => !(name.startsWith('tidemark.') ? schema.includes(name) : existsSync(path.join(PROJECT_ROOT, name))));
    expect(missing).toEqual([]);
  });
});
