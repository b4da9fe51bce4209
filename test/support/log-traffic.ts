import { setMaxListeners } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { hasCode } from '../../runner/base/errors.js';
import type { DatabaseSettings } from '../../runner/base/settings.js';
import postgres from 'postgres';
import { isPassing, type Database } from '../../runner/base/database.js';
import type { Traffic } from './traffic.js';

/**
 * Writers of tables that are read from the log. Each transaction takes its keys first, which gives it its turn at each of them, and last notes
 * in a journal what became of them: so that the journal says which states were committed, and in which order.
 */

export const LOGGED_TABLES = ['things', 'others'] as const;
export type LoggedTable = (typeof LOGGED_TABLES)[number];

/** A number from 0 up to below another. */
export type Random = (below: number) => number;

/** The same numbers for the same seed. */
export function newRandom(seed: number): Random {
  let state = (seed % 2147483646) + 1;
  return (below) => {
    state = (state * 48271) % 2147483647;
    return state % below;
  };
}

const HOT = 30;
/** Keys of those who hold them for long, and of those who write many at once, follow. */
const LONG = { first: 101, count: 20 };
const BULK = { first: 1001, count: 120 };

export async function createLoggedTables(source: Database): Promise<void> {
  await source.unsafe(`
    create sequence states;
    create table turns (source text, id integer, number bigint not null default 0, primary key (source, id));
    create table journal (source text, id integer, number bigint, state text, transaction xid8 not null default pg_current_xact_id(), primary key (source, id, number));
    create function take(p_source text, p_ids integer[]) returns void language sql begin atomic
      select from turns as t where t.source = p_source and t.id = any (p_ids) order by t.id for update;
      update turns as t set number = t.number + 1 where t.source = p_source and t.id = any (p_ids);
    end;
    create function note(p_source text, p_ids integer[]) returns void language plpgsql as $$ begin
      execute format('insert into journal (source, id, number, state)
        select t.source, t.id, t.number, s.state || coalesce(md5(s.big), '''') from turns as t left join %I as s on s.id = t.id
        where t.source = $1 and t.id = any ($2)', p_source) using p_source, p_ids;
    end $$`);
  for (const table of LOGGED_TABLES)
    await source.unsafe(`
      create table ${table} (id integer primary key, state text not null, big text);
      alter table ${table} alter column big set storage external;
      insert into turns (source, id) select '${table}', g from generate_series(1, ${String(HOT)}) as g
      union all select '${table}', ${String(LONG.first)} + g from generate_series(0, ${String(LONG.count - 1)}) as g
      union all select '${table}', ${String(BULK.first)} + g from generate_series(0, ${String(BULK.count - 1)}) as g`);
}

interface Writer {
  readonly table: LoggedTable;
  readonly number: number;
  readonly random: Random;
}

const ALL = (table: string) => `array(select id from turns where source = '${table}')`;
const BULK_IDS = `array(select ${String(BULK.first)} + g from generate_series(0, ${String(BULK.count - 1)}) as g)`;
/** Long enough to lie out of line. */
const BIG = `repeat(md5(random()::text), 90)`;

/** The state is another one with each write; a big value stays as it is. */
const write = (table: string, ids: number | string) =>
  `insert into ${table} (id, state) select g, nextval('states') from unnest(${typeof ids === 'number' ? `array[${String(ids)}]` : ids}) as g
   on conflict (id) do update set state = excluded.state`;
const remove = (table: string, id: number) => `delete from ${table} where id = ${String(id)}`;
const move = (table: string, from: number, to: number) =>
  `update ${table} set id = ${String(to)} where id = ${String(from)} and not exists (select from ${table} where id = ${String(to)})`;

/** A transaction that takes keys, and notes what became of them. */
function transaction(table: string, ids: readonly number[] | string, ...statements: readonly string[]): string[] {
  const keys = typeof ids === 'string' ? ids : `array[${ids.join(', ')}]`;
  return [`begin; select take('${table}', ${keys})`, ...statements, `select note('${table}', ${keys}); commit`];
}

/** As one statement: one way to the server and back. */
const atOnce = (statements: readonly string[]) => [statements.join('; ')];

/** What each kind of writer does next: statements, or a pause between them. */
const KINDS: Readonly<Record<string, (writer: Writer) => string[]>> = {
  single: ({ table, random }) => {
    const key = 1 + random(HOT);
    return atOnce(transaction(table, [key], random(5) === 0 ? remove(table, key) : write(table, key)));
  },
  both: ({ random }) => {
    const key = 1 + random(HOT);
    const [first = '', ...rest] = transaction('others', [key], write('others', key));
    const [begin = '', ...own] = transaction('things', [key], write('things', key));
    const inside = [...own.slice(0, -1), `select note('things', array[${String(key)}])`, first.replace('begin; ', '')];
    return atOnce([begin, ...inside, ...rest]);
  },
  bulk: ({ table }) => [...atOnce(transaction(table, BULK_IDS, write(table, BULK_IDS))), 'pause 0.4'],
  several: ({ table, random }) => {
    const key = 1 + random(HOT);
    const changes = [write(table, key), remove(table, key), write(table, key), write(table, key)];
    return atOnce(transaction(table, [key], ...changes.slice(0, 2 + random(3))));
  },
  moved: ({ table, random }) => {
    const [one, other] = [1 + random(HOT), 1 + random(HOT)];
    const last = 1 + random(HOT);
    return atOnce(
      transaction(table, [one, other, last], move(table, one, other), write(table, other), move(table, other, last)),
    );
  },
  swapped: ({ table, number, random }) => {
    const [one, other] = [1 + random(HOT), 1 + random(HOT)];
    const aside = -number;
    return atOnce(
      transaction(table, [one, other], move(table, one, aside), move(table, other, one), move(table, aside, other)),
    );
  },
  reborn: ({ table, random }) => {
    const key = 1 + random(HOT);
    return atOnce(transaction(table, [key], remove(table, key), write(table, key)));
  },
  savepoints: ({ table, random }) => {
    const key = 1 + random(HOT);
    const undone = [
      `savepoint a; ${write(table, key)}; rollback to a`,
      `savepoint c; ${remove(table, key)}; rollback to c`,
    ];
    return atOnce(
      transaction(table, [key], undone[0] ?? '', `savepoint b; ${write(table, key)}; release b`, undone[1] ?? ''),
    );
  },
  undone: ({ table, random }) => {
    const key = 1 + random(HOT);
    const statements = transaction(table, [key], write(table, key), remove(table, key), write(table, key));
    return atOnce([...statements.slice(0, -1), `select note('${table}', array[${String(key)}]); rollback`]);
  },
  long: ({ table, random }) => {
    const key = LONG.first + random(LONG.count);
    const pause = `pause ${String(random(15) / 10)}`;
    const [begin = '', ...rest] = transaction(table, [key], write(table, key), pause, write(table, key), pause);
    // Where the session was cut meanwhile, the next one has no transaction for it.
    return [begin, ...rest.map((each) => (each === pause ? each : `savepoint s; ${each}`))];
  },
  prepared: ({ table, number, random }) => {
    const key = LONG.first + random(LONG.count);
    const statements = transaction(table, [key], write(table, key));
    const name = `'prepared ${String(number)}'`;
    const end = random(4) === 0 ? 'rollback' : 'commit';
    return [
      ...atOnce([
        ...statements.slice(0, -1),
        `select note('${table}', array[${String(key)}]); prepare transaction ${name}`,
      ]),
      ...[`pause ${String(random(10) / 10)}`, `${end} prepared ${name}`],
    ];
  },
  large: ({ table, random }) => {
    const [key, other] = [1 + random(HOT), 1 + random(HOT)];
    const big = `update ${table} set big = ${random(6) === 0 ? 'null' : BIG} where id = ${String(key)}`;
    return atOnce(
      transaction(
        table,
        [key, other],
        write(table, key),
        big,
        random(2) === 0 ? write(table, key) : move(table, key, other),
      ),
    );
  },
  truncated: ({ table }) => {
    const all = ALL(table);
    const alone = `set local lock_timeout = '1s'; lock table turns in exclusive mode; lock table ${table}`;
    const [begin = '', ...rest] = transaction(table, all, `truncate ${table}`, write(table, 1));
    return [...atOnce([begin.replace('begin; ', `begin; ${alone}; `), ...rest]), 'pause 2'];
  },
};

const PAUSE_MS = 30;

/** Asks the server nothing of itself: where that ends in between, the driver would leave an error to nobody. */
const openSession = ({ host, port, database, user, password }: DatabaseSettings, kind: string) =>
  postgres({
    ...{ host, port, database, username: user, password, max: 1, fetch_types: false, onnotice: () => undefined },
    connection: { application_name: `writes ${kind}` },
  });

/** Writes until the signal is raised; what is open then is finished. A transaction that fails, or whose session is cut, the journal does not have. */
export async function writeLoggedTraffic(
  settings: DatabaseSettings,
  seed: number,
  signal: AbortSignal,
  traffic: Traffic,
): Promise<void> {
  setMaxListeners(0, signal);
  await Promise.all(
    Object.keys(KINDS).map(async (kind, index) => {
      const random = newRandom(seed + index);
      let session = openSession(settings, kind);
      const aside = `prepared ${String(index + 1)}`;
      while (!signal.aborted) {
        const table = LOGGED_TABLES[random(3) === 0 ? 1 : 0];
        try {
          const statements = KINDS[kind]?.({ table, number: index + 1, random }) ?? [];
          for (const statement of statements)
            await (statement.startsWith('pause ')
              ? sleep(Number(statement.slice(6)) * 1000)
              : session.unsafe(statement));
          traffic.kinds.add(kind);
          if (kind === 'undone' || statements.at(-1)?.startsWith('rollback') === true) traffic.rolledBack += 1;
          else traffic.committed += 1;
        } catch (error) {
          traffic.rolledBack += 1;
          if (!isPassing(error) && !hasCode(error, '25P01')) throw error;
          session.end({ timeout: 0 }).catch(() => undefined);
          session = openSession(settings, kind);
          await endPrepared(session, aside);
        }
        await sleep(random(PAUSE_MS));
      }
      await session.end({ timeout: 1 });
    }),
  );
}

/** What was prepared when the session was cut would hold its key for ever. */
async function endPrepared(session: postgres.Sql, name: string): Promise<void> {
  for (;;)
    try {
      const [left] = await session`select from pg_prepared_xacts where gid = ${name}`;
      if (left !== undefined) await session.unsafe(`rollback prepared '${name}'`);
      return;
    } catch (error) {
      if (!isPassing(error)) throw error;
      await sleep(100);
    }
}

/** States of keys in their order, and the transaction that made each or the moment since when it holds; of a deleted row null. */
export interface ToldState {
  readonly id: number;
  readonly state: string | null;
  readonly by: string;
}

/** What was committed, as those say who did it. A state that was the same before is none. */
export const committedStates = (source: Database, table: LoggedTable): Promise<ToldState[]> =>
  source<ToldState[]>`
    select j.id, j.state, j.transaction::text as by
    from (
      select j.*, lag(j.state) over (partition by j.id order by j.number) as before from journal as j where j.source = ${table}
    ) as j
    where j.state is distinct from j.before
    order by j.id, j.number`;

/** The same as history has it. */
export const historyStates = (warehouse: Database, table: LoggedTable): Promise<ToldState[]> =>
  warehouse<ToldState[]>`
    with version as materialized (
      select id, valid_from, valid_to, state || coalesce(md5(big), '') as state from ${warehouse(`dim_${table}_history`)}
    )
    select v.id, v.state, v.valid_from::text as by, v.valid_from as at from version as v
    union all
    select v.id, null, v.valid_to::text, v.valid_to from version as v
    where v.valid_to is not null and not exists (select from version as n where n.id = v.id and n.valid_from = v.valid_to)
    order by id, at`;
