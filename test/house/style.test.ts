import { readdirSync, readFileSync, existsSync } from 'node:fs';
import path from 'node:path';
import ts from 'typescript';
import { describe, expect, test } from 'vitest';
import { PROJECT_ROOT, SETTING_NAMES } from '../../runner/base/settings.js';

/** The rules of the house that a machine can keep. Every test lists what breaks its rule; an empty list is a pass. */

/** Many rules read the same files. */
function once<T>(work: (file: string) => T): (file: string) => T {
  const done = new Map<string, T>();
  return (file) => {
    const known = done.get(file) ?? work(file);
    done.set(file, known);
    return known;
  };
}

const read = once((file) => readFileSync(path.join(PROJECT_ROOT, file), 'utf8'));

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
  return files.flatMap((file) =>
    read(file)
      .split('\n')
      .map((line, index) => ({ line, number: index + 1 }))
      .filter(({ line, number }) => breaks(line, number))
      .map(({ line, number }) => `${file}:${String(number)}: ${line.trim()}`),
  );
}

const runnerFiles = filesIn('runner', '.ts');

/** From the left of the house to the right: a room imports only from rooms to its right. Those of one line never import each other. */
const ROOMS: readonly (readonly string[])[] = [
  ['cli'],
  ['commands'],
  ['demo'],
  ['operate', 'console', 'reconcile'],
  ['registration', 'services', 'extract', 'stream', 'load', 'events'],
  ['embedded'],
  ['change-log'],
  ['source', 'warehouse'],
  ['run'],
  ['batch'],
  ['base'],
];

const placeOf = (room: string): number => ROOMS.findIndex((rooms) => rooms.includes(room));
/** runner/load/chain.ts is in the room load, runner/cli.ts in cli. */
const roomOf = (file: string): string => file.split('/')[1]?.replace('.ts', '') ?? '';
/** The code without comments: what a comment mentions is no call. */
const codeOf = (file: string): string =>
  read(file)
    .replace(/\/\*[\s\S]*?\*\//g, '')
    .replace(/^\s*\/\/.*$/gm, '');
const importsOf = (file: string): string[] =>
  [...codeOf(file).matchAll(/(?:from|import\()\s*'([^']+)'/g)].map(([, name = '']) =>
    name.startsWith('.') ? path.posix.join(path.posix.dirname(file), name).replace(/\.js$/, '.ts') : name,
  );

describe('the rooms of runner/', () => {
  test('are those of the map, and nothing else is beside them but the door', () => {
    const found = readdirSync(path.join(PROJECT_ROOT, 'runner')).map((name) => name.replace(/^cli\.ts$/, 'cli'));
    expect(found.sort()).toEqual(ROOMS.flat().sort());
  });

  test('import only from rooms to their right', () => {
    const arrows = runnerFiles.flatMap((file) =>
      importsOf(file)
        .filter((name) => name.startsWith('runner/'))
        .map((imported) => ({ file, imported })),
    );
    const wrong = arrows.filter(
      ({ file, imported }) => roomOf(file) !== roomOf(imported) && placeOf(roomOf(imported)) <= placeOf(roomOf(file)),
    );
    expect(arrows.length).toBeGreaterThan(300);
    expect(wrong.map(({ file, imported }) => `${file} imports ${imported}`)).toEqual([]);
  });

  test('have no circles of imports in them', () => {
    const circles = runnerFiles.filter((file) => {
      const reached = new Set(importsOf(file));
      for (const each of reached)
        for (const next of runnerFiles.includes(each) ? importsOf(each) : []) reached.add(next);
      return reached.has(file);
    });
    expect(circles).toEqual([]);
  });

  test.each([
    ['calls functions of schema tidemark', /\btidemark\.[a-z_]+ *\(/, ['registration', 'warehouse']],
    ['knows how functions of schema tidemark are called', /call\.js'/, ['warehouse']],
    ['runs the files of sql/source', /'sql', *'source'|sql\/source/, ['source']],
    ['runs the files of sql/any', /'sql', *'any'/, ['base']],
    ['runs the files of sql/demo', /'sql', *'demo'/, ['demo']],
    ['runs the files of sql/functions', /'sql', *'functions'/, ['warehouse']],
    ['runs the files of sql/checks', /'sql', *'checks'/, ['warehouse']],
    ['reads settings from the environment', /process\.env\b/, ['base', 'embedded']],
    ['knows the folders of the change log', /'(processed|checkpoints)'/, ['change-log']],
    ['runs migrations', /'node-pg-migrate'/, ['warehouse']],
    ['opens connections', /import (?!type\b)[^;]*from '(postgres|pg)'/, ['base']],
    ['draws tables', /from 'cli-table3'/, ['base']],
  ])('of which one alone %s', (_, pattern, expected) => {
    const rooms = new Set(runnerFiles.filter((file) => pattern.test(codeOf(file))).map(roomOf));
    expect([...rooms].sort()).toEqual(expected);
  });
});

const functionFiles = filesIn('sql/functions', '.sql');

interface SqlFunction {
  readonly file: string;
  readonly name: string;
  readonly text: string;
  /** The comment that its body begins with. */
  readonly header: string;
}

/** What the files of sql/functions make, in their order. */
const functions: readonly SqlFunction[] = functionFiles.flatMap((file) =>
  read(file)
    .split(/^(?=create or replace (?:function|aggregate) )/m)
    .map((text) => ({
      file,
      text,
      name: /^create or replace (?:function|aggregate) tidemark\.(\w+)/m.exec(text)?.[1] ?? '?',
      header: /\nas \$\w*\$\n((?:--.*\n)+)/.exec(text)?.[1] ?? '',
    })),
);
const bodied = functions.filter(({ text }) => !text.includes('create or replace aggregate '));
const namesOf = (of: readonly SqlFunction[]): string[] => of.map(({ name }) => name);
const isPrivate = ({ name }: SqlFunction): boolean => name.startsWith('_');

describe('files of sql/functions', () => {
  test('hold one public function each, named as the file, and the private ones it calls', () => {
    const wrong = functionFiles.filter((file) => {
      const made = functions.filter((each) => each.file === file);
      return (
        !made.some(({ name }) => name === path.basename(file, '.sql')) ||
        made.filter((each) => !isPrivate(each)).length > 1
      );
    });
    expect(functions.length).toBeGreaterThan(100);
    expect(wrong).toEqual([]);
  });

  test('pin the search path', () => {
    // A step of an aggregate is called once a row and runs under its caller's path, and so does what is to become part of a statement.
    const pinned = bodied.filter(
      ({ name }) =>
        !['_fold_time_step', '_fold_step', '_last_known_step', '_lacking', '_takes_effect', '_keyed_hash'].includes(
          name,
        ),
    );
    expect(namesOf(pinned.filter(({ text }) => !/^set search_path = pg_catalog, pg_temp$/m.test(text)))).toEqual([]);
  });

  test('state the volatility', () => {
    expect(namesOf(bodied.filter(({ text }) => !/^(volatile|stable|immutable)$/m.test(text)))).toEqual([]);
  });

  test('begin their bodies with a header, which \\sf shows, and name in it the errors they raise', () => {
    expect(namesOf(bodied.filter(({ header }) => header === ''))).toEqual([]);
    const unnamed = functions.flatMap(({ name, text, header }) =>
      [...text.matchAll(/errcode = '(\w+)'/g)]
        .filter(([, code = '']) => !header.includes(code))
        .map(([, code = '']) => `${name}: ${code}`),
    );
    expect(unnamed).toEqual([]);
  });

  test('never swallow every error, but where each case is recorded', () => {
    expect(namesOf(functions.filter(({ text }) => /when others/i.test(text))).sort()).toEqual([
      '_broken_rule',
      '_find_fault',
    ]);
  });

  test('have a test that names the function, unless it is private', () => {
    const tests = filesIn('test', '.test.ts')
      .filter((file) => file !== 'test/house/style.test.ts')
      .map((file) => `${file}\n${read(file)}`)
      .join('\n');
    const isNamed = ({ name }: SqlFunction) => new RegExp(`(tidemark\\.|/)${name}\\b`).test(tests);
    expect(namesOf(functions.filter((each) => !isPrivate(each) && !isNamed(each)))).toEqual([]);
  });
});

const sqlFiles = [...filesIn('sql', '.sql'), ...filesIn('migrations', '.sql'), ...filesIn('test/support', '.sql')];
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
    expect(
      [...filesIn('sql/views', '.sql'), ...filesIn('sql/checks', '.sql')].filter(
        (file) => !read(file).startsWith('-- '),
      ),
    ).toEqual([]);
  });

  test('of migrations carry the marker on line 1 and nothing like it below, where the file would be cut', () => {
    expect(migrations.filter((file) => !read(file).startsWith('-- Up Migration\n'))).toEqual([]);
    expect(
      linesThat(migrations, (line, number) => number > 1 && /^[\s\-/*]*(up|down)\s+migration/i.test(line)),
    ).toEqual([]);
  });

  test('of migrations are numbered, no number twice, and named in words', () => {
    const folders = [...new Set(migrations.map((file) => path.posix.dirname(file)))];
    expect(migrations.filter((file) => !/^[0-9]{4}_[a-z0-9_]+\.sql$/.test(path.posix.basename(file)))).toEqual([]);
    const numbers = (folder: string) =>
      migrations
        .filter((file) => path.posix.dirname(file) === folder)
        .map((file) => path.posix.basename(file).slice(0, 4));
    expect(folders.filter((folder) => new Set(numbers(folder)).size !== numbers(folder).length)).toEqual([]);
  });

  test('of checks are one select that any client can run', () => {
    const wrong = filesIn('sql/checks', '.sql').filter((file) => {
      const statement = read(file)
        .replace(/^--.*$/gm, '')
        .trim();
      return (
        !/^(select|with)\b/.test(statement) ||
        !statement.endsWith(';') ||
        statement.slice(0, -1).includes(';') ||
        !/\border by\b/.test(statement)
      );
    });
    expect(wrong).toEqual([]);
  });
});

const CODE = /\bTM[0-9]{3}\b/g;
const registeredCodes = (): string[] =>
  [...read('docs/errors.md').matchAll(/^\| `(TM[0-9]{3})`/gm)].map(([, code = '']) => code);

/** The titles of a test file: of each test, alone and after that of the group it is in. */
const titlesOf = once((file): string[] => {
  const titles: string[] = [];
  const visit = (node: ts.Node, group: string): void => {
    const [title] = ts.isCallExpression(node) ? node.arguments : [];
    if (title === undefined || !(ts.isStringLiteralLike(title) || ts.isTemplateExpression(title))) {
      ts.forEachChild(node, (child) => {
        visit(child, group);
      });
      return;
    }
    const isGroup = ts.isCallExpression(node) && /^describe\b/.test(node.expression.getText());
    const text = ts.isStringLiteralLike(title) ? title.text : title.getText().slice(1, -1);
    if (!isGroup) titles.push(text, `${group} ${text}`);
    ts.forEachChild(node, (child) => {
      visit(child, isGroup ? text : group);
    });
  };
  visit(ts.createSourceFile(file, read(file), ts.ScriptTarget.Latest, true), '');
  return titles;
});

/** Whether a file has a test of that sentence; what the title leaves open must stand in the file. */
function hasSentence(file: string, sentence: string): boolean {
  if (!existsSync(path.join(PROJECT_ROOT, file))) return false;
  return titlesOf(file).some((title) => {
    const pattern = title
      .split(/%[sij]|\$\w+/)
      .map((part) => part.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&'))
      .join('(.+)');
    const filledIn = new RegExp(`^${pattern}$`).exec(sentence)?.slice(1);
    return filledIn?.every((text) => read(file).includes(text)) === true;
  });
}

describe('documentation', () => {
  test.each(['.env.example', 'docs/settings.md'].filter((file) => existsSync(path.join(PROJECT_ROOT, file))))(
    'in %s names every setting',
    (file) => {
      const text = read(file);
      expect(SETTING_NAMES.filter((name) => !new RegExp(`(?<![A-Z_])${name}(?![A-Z_])`).test(text))).toEqual([]);
    },
  );

  test('in .env.example names nothing that is not a setting', () => {
    const named = [...read('.env.example').matchAll(/^(?:# )?([A-Z][A-Z_]+)=/gm)].map(([, name = '']) => name);
    expect(named.filter((name) => !SETTING_NAMES.includes(name))).toEqual([]);
  });

  test('in docs/errors.md registers exactly the codes that functions raise', () => {
    const raised = new Set(
      filesIn('sql', '.sql').flatMap((file) =>
        [...read(file).matchAll(/errcode = '(TM[0-9]{3})'/g)].map(([, code = '']) => code),
      ),
    );
    expect(registeredCodes()).toEqual([...raised].sort());
    const mentioned = [...filesIn('sql', '.sql'), ...runnerFiles].flatMap((file) => read(file).match(CODE) ?? []);
    expect(mentioned.filter((code) => !registeredCodes().includes(code))).toEqual([]);
  });

  test('in docs/errors.md quotes messages as they are printed', () => {
    const sources = [...runnerFiles, ...functionFiles].map(read).join('\n');
    const quoted = [...read('docs/errors.md').matchAll(/^\| `([^`]+)`/gm)]
      .map(([, message = '']) => message)
      .filter((message) => !/^(TM[0-9]{3}|[0-9])$/.test(message));
    const unknown = quoted.filter((message) =>
      message.split(/<[^>]+>/).some((part) => part.trim().length > 2 && !sources.includes(part.trim())),
    );
    expect(quoted.length).toBeGreaterThan(20);
    expect(unknown).toEqual([]);
  });

  test('in docs/hazards.md names tests that are there', () => {
    const rows = read('docs/hazards.md')
      .split('\n')
      .filter((line) => line.startsWith('| ') && !line.endsWith(' | test |'));
    const named = rows.map((row) =>
      [...row.matchAll(/`(test\/[\w./-]+)`: ("(?:.+?)")(?=; `test\/| \|$)/g)].flatMap(([, file = '', sentences = '']) =>
        [...sentences.matchAll(/"(.+?)"(?=, "|$)/g)].map(([, sentence = '']) => ({ file, sentence })),
      ),
    );
    expect(rows.length).toBeGreaterThan(60);
    expect(rows.filter((_, index) => named[index]?.length === 0)).toEqual([]);
    expect(
      named
        .flat()
        .filter(({ file, sentence }) => !hasSentence(file, sentence))
        .map(({ file, sentence }) => `${file}: ${sentence}`),
    ).toEqual([]);
  });

  test.each(['docs/glossary.md', 'docs/architecture.md'])('in %s points to code that is there', (file) => {
    const named = [...read(file).matchAll(/`((?:runner|sql|test|migrations)\/[\w./-]+|tidemark\.\w+)`/g)].map(
      ([, name = '']) => name,
    );
    const schema = read('test/schema.txt');
    const missing = named.filter(
      (name) => !(name.startsWith('tidemark.') ? schema.includes(name) : existsSync(path.join(PROJECT_ROOT, name))),
    );
    expect(missing).toEqual([]);
  });
});
