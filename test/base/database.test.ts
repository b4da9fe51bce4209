import { once } from 'node:events';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { loadSettings } from '../../runner/base/settings.js';
import {
  connect,
  isPassing,
  onClose,
  withDatabase,
  type Database,
  type Transaction,
} from '../../runner/base/database.js';
import { inTransaction, rolledBack } from '../../runner/base/transaction.js';
import { createEmptyDatabase, type TestDatabase } from '../support/databases.js';

let server: Server | undefined;
afterEach(() => {
  server?.close();
});

/** Something that listens, but is no PostgreSQL. */
async function listen(onConnection: (socket: Socket) => void): Promise<number> {
  server = createServer(onConnection).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

const ask = (port: number) =>
  withDatabase(
    {
      role: 'source',
      prefix: 'DB_',
      host: '127.0.0.1',
      port,
      database: 'd',
      user: 'u',
      password: 'p',
      sslmode: 'disable',
      sslrootcert: undefined,
    },
    'test',
    (database) => database`select 1`.execute(),
    1,
  );

describe('a database', () => {
  it('behind a proxy that closes every connection at once does not answer', async () => {
    await expect(
      ask(
        await listen((socket) => {
          socket.destroy();
        }),
      ),
    ).rejects.toThrow('the source database does not answer at 127.0.0.1:');
  });

  it('that takes the connection and is silent does not answer', async () => {
    const sockets: Socket[] = [];
    await expect(
      ask(
        await listen((socket) => {
          sockets.push(socket);
        }),
      ),
    ).rejects.toThrow('the source database does not answer at 127.0.0.1:');
    for (const socket of sockets) socket.destroy();
  });

  it('is asked in UTC, and its times, numbers and dates stay the text it prints', async () => {
    const database = await createEmptyDatabase();
    await database.sql.unsafe(
      `alter database ${database.settings.database} set lc_monetary = 'POSIX'; alter database ${database.settings.database} set timezone = 'Asia/Tokyo'`,
    );
    const [row] = await withDatabase(database.settings, 'test', (sql) =>
      sql`
      select current_setting('TimeZone') as zone, '2026-02-01 09:00:00.123456+02'::timestamptz as moment, '9223372036854775807'::bigint as big,
        '0.10'::numeric as amount, '2026-02-01'::date as day, current_setting('row_security') as policies, current_setting('lc_monetary') as money`.execute(),
    );
    expect(row).toEqual({
      zone: 'UTC',
      policies: 'off',
      money: 'C',
      moment: '2026-02-01 07:00:00.123456+00',
      big: '9223372036854775807',
      amount: '0.10',
      day: '2026-02-01',
    });
    await database.drop();
  });

  it('limits its sessions as the settings say, and leaves to the server what they do not', async () => {
    const database = await createEmptyDatabase();
    const limitsOf = async (environment: Record<string, string>) => {
      const { limits } = loadSettings(environment, '/').source;
      const [row] = await withDatabase(
        { ...database.settings, ...(limits === undefined ? {} : { limits }) },
        'test',
        (sql) =>
          sql`
        select current_setting('statement_timeout') as statement, current_setting('lock_timeout') as lock,
          current_setting('idle_in_transaction_session_timeout') as idle`.execute(),
      );
      return row;
    };
    expect(await limitsOf({})).toEqual({ statement: '0', lock: '0', idle: '5min' });
    expect(
      await limitsOf({ STATEMENT_TIMEOUT_SECONDS: '90', LOCK_TIMEOUT_SECONDS: '7', IDLE_TIMEOUT_SECONDS: '0' }),
    ).toEqual({ statement: '90s', lock: '7s', idle: '0' });
    await database.drop();
  });

  it('cuts off what takes too long, and what is idle in a transaction: both pass, and are tried again', async () => {
    const database = await createEmptyDatabase();
    const limits = { connect_seconds: 15, statement_seconds: 1, lock_seconds: 2, idle_seconds: 3, lifetime_seconds: 0 };
    const sql = connect({ ...database.settings, limits }, 'test');
    const slow = await sql`select pg_sleep(30)`.then(
      () => undefined,
      (error: unknown) => error,
    );
    expect([(slow as { code: string }).code, isPassing(slow)]).toEqual(['57014', true]);
    const [said] = await sql`
      select current_setting('statement_timeout') as statement, current_setting('lock_timeout') as lock, current_setting('idle_in_transaction_session_timeout') as idle`;
    expect(said).toEqual({ statement: '1s', lock: '2s', idle: '3s' });
    expect(['25P03', '55P03'].map((code) => isPassing(Object.assign(new Error('cut off'), { code })))).toEqual([
      true,
      true,
    ]);
    await sql.end();
    await database.drop();
  });

  // Without its question for the types of arrays (fetch_types: false) the driver waits for ever.
  it("gives a session of one's own, too, where it has to connect for it", async () => {
    const { sql, drop } = await createEmptyDatabase();
    const session = await sql.reserve();
    expect(await session`select 1 as one`).toEqual([{ one: 1 }]);
    session.release();
    await drop();
  });

  it('replaces the session of a run after its lifetime, and no other', async () => {
    const database = await createEmptyDatabase();
    const limits = { connect_seconds: 15, statement_seconds: 0, lock_seconds: 0, idle_seconds: 0, lifetime_seconds: 1 };
    let end: () => void = () => undefined;
    const ended = new Promise<void>((resolve) => {
      end = resolve;
    });
    const run = connect({ ...database.settings, limits }, 'test', 1, 15, () => {
      end();
    });
    const other = connect({ ...database.settings, limits }, 'test');
    const pid = async (sql: typeof run) => (await sql<{ pid: number }[]>`select pg_backend_pid() as pid`)[0]?.pid;
    const [before, before2] = [await pid(run), await pid(other)];
    await ended;
    expect(await pid(run)).not.toBe(before);
    expect(await pid(other)).toBe(before2);
    await run.end();
    await other.end();
    await database.drop();
  });
});

describe('a session that the server ends', () => {
  let database: TestDatabase;
  let sql: Database;
  beforeEach(async () => {
    database = await createEmptyDatabase();
    sql = connect(database.settings, 'victim');
    await database.sql`create table noted (what text)`;
  });
  afterEach(async () => {
    await sql.end({ timeout: 1 });
    await database.drop();
  });

  const noted = async () =>
    (await database.sql<{ what: string }[]>`select what from noted order by 1`).map(({ what }) => what);
  const failureOf = (work: Promise<unknown>): Promise<{ code?: string; message?: string }> =>
    work.then(
      () => ({ message: 'no failure' }),
      (error: unknown) => error as { code?: string },
    );
  const closed = () =>
    new Promise<void>((resolve) => {
      const forget = onClose(sql, () => {
        forget();
        resolve();
      });
    });
  /** Ends the session of a transaction from another one, and waits until the driver knows it. */
  const end = async (session: Transaction) => {
    const [{ pid } = { pid: 0 }] = await session<{ pid: number }[]>`select pg_backend_pid() as pid`;
    await Promise.all([closed(), database.sql`select pg_terminate_backend(${pid})`]);
  };
  const untilItWaits = async () => {
    for (let found = 0; found === 0; )
      found = (
        await database.sql`
          select from pg_stat_activity where application_name = 'tidemark victim' and datname = current_database() and wait_event = 'PgSleep'`
      ).length;
  };
  const terminate = () =>
    database.sql`
      select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'tidemark victim' and datname = current_database()`;

  it('between two statements of a transaction is not written to, and says so', async () => {
    const failure = await failureOf(
      inTransaction(sql, '', async (session) => {
        await session`insert into noted values ('first')`;
        await end(session);
        await session`insert into noted values ('second')`;
      }),
    );
    expect([failure.code, isPassing(failure)]).toEqual(['CONNECTION_CLOSED', true]);
    expect(await sql`select 1 as one`).toEqual([{ one: 1 }]);
    expect(await noted()).toEqual([]);
  });

  it('under a statement of a transaction takes it back, and the next transaction is none the wiser', async () => {
    const failure = failureOf(
      inTransaction(sql, '', async (session) => {
        await session`insert into noted values ('first')`;
        await session`select pg_sleep(30)`;
      }),
    );
    await untilItWaits();
    await terminate();
    expect(isPassing(await failure)).toBe(true);
    await inTransaction(sql, '', (session) => session`insert into noted values ('other')`.execute());
    expect(await noted()).toEqual(['other']);
  });

  it('fails all that waits for its turn in it, however much that is', async () => {
    const failures = failureOf(
      inTransaction(sql, '', async (session) => {
        const asked = Array.from({ length: 5 }, (_, n) => session`select pg_sleep(30), ${n}::integer`.execute());
        return Promise.reject(
          Object.assign(new Error('all'), { all: (await Promise.allSettled(asked)).map(({ status }) => status) }),
        );
      }),
    );
    await untilItWaits();
    await terminate();
    expect(await failures).toMatchObject({ all: Array.from({ length: 5 }, () => 'rejected') });
  });

  it('lets nothing of a dead transaction run inside another one', async () => {
    let goOn: () => void = () => undefined;
    const other = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    const late: Promise<unknown>[] = [];
    const first = failureOf(
      inTransaction(sql, '', async (session) => {
        await session`insert into noted values ('first')`;
        const part = session`values ('part')`;
        await end(session);
        await other;
        late.push(session`insert into noted values ('late')`.execute(), session`insert into noted ${part}`.execute());
        late.push(session.unsafe("insert into noted values ('unsafe')").execute(), session.unsafe('commit').execute());
        await Promise.all(late);
      }),
    );
    await closed();
    await inTransaction(sql, '', async (session) => {
      await session`insert into noted values ('second')`;
      goOn();
      expect((await first).code).toBe('CONNECTION_CLOSED');
      expect((await Promise.allSettled(late)).map(({ status }) => status)).toEqual(late.map(() => 'rejected'));
      await session`insert into noted values ('third')`;
    });
    expect(await noted()).toEqual(['second', 'third']);
  });

  it.each(['idle_in_transaction_session_timeout', 'idle_session_timeout'])(
    'by %s is met the same way',
    async (name) => {
      await database.sql.unsafe(`alter database ${database.settings.database} set ${name} = 200`);
      if (name === 'idle_session_timeout') {
        await Promise.all([closed(), sql`select 1`]);
        await inTransaction(sql, '', (session) => session`insert into noted values ('after')`.execute());
        expect(await noted()).toEqual(['after']);
        return;
      }
      const failure = await failureOf(
        inTransaction(sql, '', async (session) => {
          await Promise.all([closed(), session`insert into noted values ('first')`]);
          await session`insert into noted values ('second')`;
        }),
      );
      expect([failure.code, isPassing(failure)]).toEqual(['CONNECTION_CLOSED', true]);
      await inTransaction(sql, '', (session) => session`insert into noted values ('other')`.execute());
      expect(await noted()).toEqual(['other']);
    },
  );
});

describe('a transaction', () => {
  let database: TestDatabase;
  let sql: Database;
  beforeEach(async () => {
    database = await createEmptyDatabase();
    sql = connect(database.settings, 'victim');
    await sql`create table noted (what text)`;
  });
  afterEach(async () => {
    await sql.end({ timeout: 1 });
    await database.drop();
  });
  const noted = async () =>
    (await database.sql<{ what: string }[]>`select what from noted order by 1`).map(({ what }) => what);

  it('that is left by an error, whatever it says, is rolled back, and its connection goes on', async () => {
    for (const code of ['CONNECTION_CLOSED', '57P01', 'ECONNREFUSED', 'any'])
      await expect(
        inTransaction(sql, '', async (session) => {
          await session`insert into noted values (${code})`;
          throw Object.assign(new Error('of another database'), { code });
        }),
      ).rejects.toMatchObject({ code });
    await inTransaction(sql, '', (session) => session`insert into noted values ('kept')`.execute());
    expect(await noted()).toEqual(['kept']);
  });

  it('in which a statement failed that nobody spoke of is not said to be committed', async () => {
    await expect(
      inTransaction(sql, '', async (session) => {
        await session`insert into noted values ('lost')`;
        await session`select 1 / 0`.catch(() => undefined);
      }),
    ).rejects.toThrow('a statement of the transaction had failed');
    expect(await noted()).toEqual([]);
  });

  it('that is over takes no statement any more, nor does one that was rolled back on purpose', async () => {
    const kept: Transaction[] = [];
    await inTransaction(sql, '', (session) => Promise.resolve(kept.push(session)));
    const result = await rolledBack(sql, async (session) => {
      kept.push(session);
      return [...(await session<{ what: string }[]>`insert into noted values ('no') returning what`)];
    });
    expect(result).toEqual([{ what: 'no' }]);
    for (const session of kept) await expect(session`insert into noted values ('late')`).rejects.toThrow('has ended');
    expect(await noted()).toEqual([]);
  });

  it('waits for its turn before it begins, and passes it on when it ends or before', async () => {
    const other = connect(database.settings, 'other');
    const order: string[] = [];
    const part = (at: Database, name: string, passes: boolean) =>
      inTransaction(
        at,
        'isolation level repeatable read',
        async (session, passTurn) => {
          order.push(`${name} begins`);
          const seen = (await session`select what from noted`).length;
          if (passes) await passTurn();
          await session`insert into noted values (${name})`;
          if (!passes) order.push(`${name} ends`);
          return seen;
        },
        'turn',
      );
    const [a, b] = await Promise.all([part(sql, 'a', false), part(other, 'b', false)]);
    expect(order).toEqual(
      order[0] === 'a begins'
        ? ['a begins', 'a ends', 'b begins', 'b ends']
        : ['b begins', 'b ends', 'a begins', 'a ends'],
    );
    expect([a, b].sort()).toEqual([0, 1]);
    expect(await part(sql, 'c', true)).toBe(2);
    const [held] =
      await other`select count(*)::integer as locks from pg_locks where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())`;
    expect(held?.locks).toBe(0);
    await other.end();
  });
});
