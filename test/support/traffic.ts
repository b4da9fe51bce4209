import { randomBytes } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { setTimeout } from 'node:timers/promises';
import type { DatabaseSettings } from '../../runner/base/settings.js';
import { connect, type Database } from '../../runner/base/database.js';

/** What the writers did, for the report of a run. */
export interface Traffic {
  committed: number;
  rolledBack: number;
  readonly kinds: Set<string>;
}

/** Everything that makes a stamp precede its commit: the start of the transaction, the clock, the clock in whole seconds. */
const STAMPS = ['now()', 'clock_timestamp()', "date_trunc('second', clock_timestamp())"] as const;
const HOT_ROWS = 20;
const OWN_ROWS = 200;
const BULK_ROWS = 300;

const random = (below: number) => Math.floor(Math.random() * below);
const pick = <T>(values: readonly [T, ...T[]]): T => values[random(values.length)] ?? values[0];

/** The table all writers share: each state of a row has a version of its own, so that a state that was missed has a name. */
export async function createChaosTable(source: Database): Promise<void> {
  await source.unsafe(`
    create sequence chaos_version;
    create table chaos (id integer primary key, version bigint not null default nextval('chaos_version'), touched timestamptz not null);
    create index on chaos (touched, id)`);
}

const write = (id: number, stamp: string = pick(STAMPS)) =>
  `insert into chaos (id, touched) values (${String(id)}, ${stamp}) on conflict (id) do update set version = nextval('chaos_version'), touched = ${stamp}`;
/** A pause outside a transaction: a statement that sleeps would hold the floor down for all the others. */
const pause = (seconds: number) => `pause ${String(seconds)}`;
const sleep = (seconds: number) => `select pg_sleep(${String(Math.random() * seconds)})`;
const end = () => (random(10) === 0 ? 'rollback' : 'commit');

/** One transaction of each kind; \`own\` gives rows that no other writer touches, so that long transactions wait for nobody. */
const KINDS: Readonly<Record<string, (own: () => number) => string[]>> = {
  short: () => [write(1 + random(HOT_ROWS)), pause(0.01)],
  few: (own) => ['begin', write(own()), write(own()), end(), pause(0.03)],
  long: (own) => ['begin', write(own()), sleep(2.5), write(own()), end()],
  idle: (own) => ['begin', 'select now()', sleep(1), write(own(), 'now()'), end()],
  savepoints: (own) => [
    'begin',
    'savepoint a',
    write(own()),
    'release a',
    'savepoint b',
    write(own()),
    'rollback to b',
    sleep(0.8),
    write(own()),
    end(),
  ],
  exceptions: (own) => [
    `do $$ begin
      begin ${write(own())}; exception when others then raise; end;
      begin ${write(own())}; perform 1 / 0; exception when division_by_zero then null; end;
      perform pg_sleep(${String(Math.random() * 0.8)});
    end $$`,
  ],
  chained: (own) => ['begin', write(own(), 'now()'), 'commit and chain', sleep(0.4), write(own(), 'now()'), 'commit'],
  asynchronous: (own) => ['begin', 'set local synchronous_commit = off', write(own()), 'commit', pause(0.05)],
  // Prepared for longer than any other transaction is open, so that nothing else holds the floor down for it.
  prepared: (own) => {
    const gid = `chaos ${randomBytes(6).toString('hex')}`;
    return [
      'begin',
      write(own(), 'now()'),
      sleep(0.6),
      write(own()),
      `prepare transaction '${gid}'`,
      pause(6 + Math.random() * 3),
      `${end()} prepared '${gid}'`,
    ];
  },
  bulk: (own) => {
    const first = own();
    return [
      `insert into chaos (id, touched) select ${String(first)} + g, now() from generate_series(1, ${String(BULK_ROWS)}) as g
       on conflict (id) do update set version = nextval('chaos_version'), touched = excluded.touched`,
      pause(1.5),
    ];
  },
};

/** Kinds that come often, so that the writers are mostly busy with what is hard. */
const WRITERS = [
  'short',
  'short',
  'few',
  'long',
  'long',
  'idle',
  'savepoints',
  'exceptions',
  'chained',
  'asynchronous',
  'prepared',
  'prepared',
  'prepared',
  'prepared',
  'bulk',
] as const;

const rest = (seconds: number, signal: AbortSignal) =>
  setTimeout(seconds * 1000, undefined, { signal }).catch(() => undefined);

/** One writer of each kind that leaves few states to read. */
export const FEW_WRITERS = ['short', 'few', 'long', 'idle', 'savepoints', 'exceptions', 'chained', 'prepared'] as const;

/** Writes until the signal is raised; the transaction in hand is finished. */
export async function writeTraffic(
  settings: DatabaseSettings,
  signal: AbortSignal,
  traffic: Traffic,
  writers: readonly string[] = WRITERS,
): Promise<void> {
  setMaxListeners(0, signal);
  await Promise.all(
    writers.map(async (kind, number) => {
      const session = connect(settings, `chaos ${kind}`);
      const first = 1000 * (number + 1);
      const own = () => first + random(OWN_ROWS);
      while (!signal.aborted) {
        const statements = KINDS[kind]?.(own) ?? [];
        for (const statement of statements)
          await (statement.startsWith('pause ') ? rest(Number(statement.slice(6)), signal) : session.unsafe(statement));
        traffic.kinds.add(kind);
        if (statements.some((statement) => /^rollback( prepared|$)/.test(statement))) traffic.rolledBack += 1;
        else traffic.committed += 1;
      }
      await session.end();
    }),
  );
}
