import { readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { fileURLToPath } from 'node:url';
import { withDatabase, type Database, type Transaction } from '../../runner/base/database.js';
import type { DatabaseSettings } from '../../runner/base/settings.js';
import { inTransaction, rolledBack } from '../../runner/base/transaction.js';
import { atOnce, type Delivery } from './sessions.js';

/** The torture suite: what a history must be, case by case, and how those that make one fare. README.md beside has format and rules. */

const HERE = path.dirname(fileURLToPath(import.meta.url));
const read = (...names: string[]) => readFileSync(path.join(HERE, ...names), 'utf8');

/** A case as its file has it. */
export interface Case {
  readonly name: string;
  readonly title: string;
  /** Some decide it differently on good grounds. */
  readonly isDisputed: boolean;
  /** Its blocks, by the table that each goes to, in their order: CSV, with a line of names. */
  readonly blocks: readonly Block[];
  /** Its loads come in sessions of their own. */
  readonly isApart: boolean;
}

const TABLES = ['changes', 'columns', 'loads', 'expected'] as const;
export interface Block {
  readonly table: (typeof TABLES)[number];
  readonly csv: string;
}

/** What an adapter made of a case: passed, another history, or an error, which it may have had besides. */
export type Score = 'passed' | 'differs' | 'fails';

export const ADAPTERS: readonly string[] = readdirSync(path.join(HERE, 'adapters'))
  .filter((name) => name.endsWith('.sql'))
  .map((name) => name.replace('.sql', ''))
  .sort((one, other) => Number(other === 'tidemark') - Number(one === 'tidemark') || one.localeCompare(other));

export const CASES: readonly Case[] = readdirSync(path.join(HERE, 'cases'))
  .sort()
  .map((file) => {
    const text = read('cases', file);
    const blocks = [...text.matchAll(/^```csv (.*)\n([\s\S]*?)^```$/gm)].map(([, name, csv = '']) => {
      const table = TABLES.find((each) => each === name);
      if (table === undefined) throw new Error(`${file} has a block "${name ?? ''}", which is none`);
      return { table, csv };
    });
    return {
      name: file.replace('.md', ''),
      title: /^# (.*)$/m.exec(text)?.[1] ?? '',
      isDisputed: /^Disputed: /m.test(text),
      blocks,
      isApart: blocks.some(({ table }) => table === 'loads'),
    };
  });

const namesOf = (csv: string): string => csv.split('\n', 1)[0] ?? '';

/** Copies the blocks of a case into their tables. */
export async function fill(transaction: Transaction, { blocks, isApart }: Case): Promise<void> {
  for (const { table, csv } of blocks) {
    const names = namesOf(csv);
    const into = await transaction.unsafe(`copy torture.${table} (${names}) from stdin csv header`).writable();
    await pipeline(Readable.from([csv]), into);
    if (table === 'changes')
      await transaction`update torture.changes set columns = string_to_array(${names}, ',') where columns is null`;
  }
  if (!isApart)
    await transaction`
      insert into torture.loads (step, load) select c.load, c.load from torture.changes as c group by c.load order by c.load`;
}

/** Whether an adapter has what it need not have. */
interface Hooks {
  readonly follows: boolean;
  readonly alters: boolean;
}

/** How all adapters fare, each by itself: in copies of a migrated warehouse that nobody is connected to. */
export const allScores = async (warehouse: DatabaseSettings): Promise<Map<string, Map<string, Score>>> =>
  new Map(await Promise.all(ADAPTERS.map(async (adapter) => [adapter, await scores(warehouse, adapter)] as const)));

/**
 * Lets an adapter make history of every case: in transactions that are rolled back, and where loads come in sessions of their own in a
 * copy for each.
 */
function scores(warehouse: DatabaseSettings, adapter: string): Promise<Map<string, Score>> {
  return withDatabase({ ...warehouse, database: 'postgres' }, 'torture', (admin) =>
    withCopy(admin, warehouse, adapter, async (prepared) => {
      const { hooks, found } = await withDatabase(prepared, 'torture', async (database) => {
        const made = await prepare(database, adapter);
        return { hooks: made, found: await scoresTogether(database, made) };
      });
      for (const each of CASES.filter(({ isApart }) => isApart))
        found.set(each.name, await withCopy(admin, prepared, 'case', (copy) => scoreApart(copy, each, hooks)));
      return found;
    }),
  );
}

async function withCopy<T>(
  admin: Database,
  of: DatabaseSettings,
  name: string,
  work: (copy: DatabaseSettings) => Promise<T>,
): Promise<T> {
  const copy = { ...of, database: `${of.database}_${name}` };
  await admin`create database ${admin(copy.database)} template ${admin(of.database)} strategy file_copy`;
  try {
    return await work(copy);
  } finally {
    await admin`drop database ${admin(copy.database)} with (force)`;
  }
}

const prepare = (database: Database, adapter: string): Promise<Hooks> =>
  inTransaction(database, '', async (transaction) => {
    await transaction.unsafe(read('prepare.sql'));
    await transaction.unsafe(read('adapters', `${adapter}.sql`));
    const [hooks] = await transaction<[Hooks]>`
      select to_regprocedure('torture.follow(integer)') is not null as follows,
        to_regprocedure('torture.alter(text, text, text)') is not null as alters`;
    return hooks;
  });

const scoresTogether = (database: Database, hooks: Hooks): Promise<Map<string, Score>> =>
  rolledBack(database, async (transaction) => {
    const found = new Map<string, Score>();
    for (const each of CASES.filter(({ isApart }) => !isApart)) {
      await transaction`savepoint before`;
      found.set(each.name, await scoreOf(transaction, each, hooks));
      await transaction`rollback to before`;
    }
    return found;
  });

async function scoreOf(transaction: Transaction, each: Case, { alters, follows }: Hooks): Promise<Score> {
  await fill(transaction, each);
  /** Whether a statement went well: one that fails leaves nothing behind. */
  const goesWell = async (work: () => PromiseLike<unknown>): Promise<boolean> => {
    await transaction`savepoint statement`;
    try {
      await work();
      return true;
    } catch {
      await transaction`rollback to statement`;
      return false;
    }
  };
  let isWell = true;
  for (const { load } of await transaction<{ load: number }[]>`select load from torture.loads order by line`) {
    if (alters)
      isWell =
        (await goesWell(
          () => transaction`
          select torture.alter(k.was, k.name, k.type) from (select * from torture.columns where load = ${load} order by line) as k`,
        )) && isWell;
    // A load that fails is not repeated; the next one comes all the same.
    const isLoaded = await goesWell(() => transaction`select torture.load(${load})`);
    isWell &&= isLoaded && (!follows || (await goesWell(() => transaction`select torture.follow(${load})`)));
  }
  return verdict(transaction, each, isWell);
}

function scoreApart(settings: DatabaseSettings, each: Case, { follows }: Hooks): Promise<Score> {
  return withDatabase(settings, 'torture', async (control) => {
    await inTransaction(control, '', (transaction) => fill(transaction, each));
    const steps = await control<{ deliveries: Delivery[] }[]>`
      select json_agg(json_build_object('load', d.load, 'ended', d.ended) order by d.line) as deliveries
      from torture.loads as d group by d.step order by d.step`;
    let isWell = true;
    for (const { deliveries } of steps) isWell = (await atOnce(control, settings, deliveries, follows)) && isWell;
    return verdict(control, each, isWell);
  });
}

/** Whether the history is the expected one, in the columns that are expected. */
async function verdict(sql: Transaction, { blocks }: Case, isWell: boolean): Promise<Score> {
  if (!isWell) return 'fails';
  const names = namesOf(blocks.find(({ table }) => table === 'expected')?.csv ?? '');
  const [expected, history] = [`select ${names} from torture.expected`, `select ${names} from torture.history`];
  const differing = await sql.unsafe(
    `(${expected} except all ${history}) union all (${history} except all ${expected})`,
  );
  return differing.length > 0 ? 'differs' : 'passed';
}

/** The table of README.md. */
export function formatScores(all: ReadonlyMap<string, ReadonlyMap<string, Score>>): string {
  const adapters = [...all.keys()];
  const row = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  const sum = (what: string, of: readonly Case[]) =>
    row([
      `**${what}**`,
      ...[...all.values()].map((scores) => {
        const passed = of.filter(({ name }) => scores.get(name) === 'passed');
        return `${String(passed.length)} of ${String(of.length)}`;
      }),
    ]);
  return [
    row(['case', ...adapters.map((adapter) => `[${adapter}](adapters/${adapter}.md)`)]),
    row(['---', ...adapters.map(() => '---')]),
    ...CASES.map(({ name, title, isDisputed }) =>
      row([
        `[${title}](cases/${name}.md)${isDisputed ? ' (disputed)' : ''}`,
        ...adapters.map((adapter) => all.get(adapter)?.get(name) ?? ''),
      ]),
    ),
    sum('passed', CASES),
    sum(
      'passed of those that are not disputed',
      CASES.filter(({ isDisputed }) => !isDisputed),
    ),
    '',
  ].join('\n');
}
