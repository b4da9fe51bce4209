import { readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { fileURLToPath } from 'node:url';
import type { Database, Transaction } from '../../runner/base/database.js';
import { rolledBack } from '../../runner/base/transaction.js';

/** The torture suite: what a history must be, case by case, and how those that make one fare. README.md beside has format and rules. */

const HERE = path.dirname(fileURLToPath(import.meta.url));
const read = (...names: string[]) => readFileSync(path.join(HERE, ...names), 'utf8');

/** A case as its file has it. */
export interface Case {
  readonly name: string;
  readonly title: string;
  /** Some decide it differently on good grounds. */
  readonly isDisputed: boolean;
  /** CSV, with a line of names. */
  readonly changes: string;
  readonly expected: string;
}

/** What an adapter made of a case: passed, another history, or an error, which it may have had besides. */
export type Score = 'passed' | 'differs' | 'fails';

export const ADAPTERS: readonly string[] = readdirSync(path.join(HERE, 'adapters'))
  .map((name) => name.replace('.sql', ''))
  .sort((one, other) => Number(other === 'tidemark') - Number(one === 'tidemark') || one.localeCompare(other));

export const CASES: readonly Case[] = readdirSync(path.join(HERE, 'cases'))
  .sort()
  .map((file) => {
    const text = read('cases', file);
    const block = (name: string) => new RegExp(`^\`\`\`csv ${name}\\n([\\s\\S]*?)^\`\`\`$`, 'm').exec(text)?.[1] ?? '';
    return {
      name: file.replace('.md', ''),
      title: /^# (.*)$/m.exec(text)?.[1] ?? '',
      isDisputed: /^Disputed: /m.test(text),
      changes: block('changes'),
      expected: block('expected'),
    };
  });

/** Copies the CSV of a case into its two tables. */
export async function fill(transaction: Transaction, { changes, expected }: Case): Promise<void> {
  for (const [table, csv] of [
    ['changes', changes],
    ['expected', expected],
  ] as const) {
    const [names = ''] = csv.split('\n', 1);
    const into = await transaction.unsafe(`copy torture.${table} (${names}) from stdin csv header`).writable();
    await pipeline(Readable.from([csv]), into);
  }
}

/** Lets an adapter make history of every case, in a transaction that is rolled back. */
export function scores(database: Database, adapter: string): Promise<Map<string, Score>> {
  return rolledBack(database, async (transaction) => {
    await transaction.unsafe(read('prepare.sql'));
    await transaction.unsafe(read('adapters', `${adapter}.sql`));
    const found = new Map<string, Score>();
    for (const each of CASES) {
      await transaction`savepoint before`;
      found.set(each.name, await scoreOf(transaction, each));
      await transaction`rollback to before`;
    }
    return found;
  });
}

async function scoreOf(transaction: Transaction, each: Case): Promise<Score> {
  await fill(transaction, each);
  let score: Score = 'passed';
  const loads = await transaction<{ load: number }[]>`select distinct load from torture.changes order by load`;
  for (const { load } of loads) {
    await transaction`savepoint load`;
    try {
      await transaction`select torture.load(${load})`;
    } catch {
      // A load that fails leaves nothing behind; the next one comes all the same.
      await transaction`rollback to load`;
      score = 'fails';
    }
  }
  const differing = await transaction`
    (table torture.expected except all select id, valid_from, valid_to, a, n from torture.history)
    union all (select id, valid_from, valid_to, a, n from torture.history except all table torture.expected)`;
  return score === 'passed' && differing.length > 0 ? 'differs' : score;
}

/** The table of README.md. */
export function formatScores(all: ReadonlyMap<string, ReadonlyMap<string, Score>>): string {
  const adapters = [...all.keys()];
  const row = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  const passed = (of: ReadonlyMap<string, Score>) => [...of.values()].filter((score) => score === 'passed').length;
  return [
    row(['case', ...adapters]),
    row(['---', ...adapters.map(() => '---')]),
    ...CASES.map(({ name, title, isDisputed }) =>
      row([
        `[${title}](cases/${name}.md)${isDisputed ? ' (disputed)' : ''}`,
        ...adapters.map((adapter) => all.get(adapter)?.get(name) ?? ''),
      ]),
    ),
    row([
      '**passed**',
      ...adapters.map((adapter) => `${String(passed(all.get(adapter) ?? new Map()))} of ${String(CASES.length)}`),
    ]),
    '',
  ].join('\n');
}
