// Runs once: no version of PostgreSQL changes it.
import { once } from 'node:events';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { loadSettings } from '../../runner/base/settings.js';
import { closesOf, connect, isPassing, withDatabase } from '../../runner/base/database.js';
import { inTransaction } from '../../runner/base/transaction.js';
import { createEmptyDatabase } from '../support/databases.js';
import { until } from '../support/wait.js';

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

  it('whose connection was cut between two statements of a transaction says so, and is not written to', async () => {
    const database = await createEmptyDatabase();
    const sql = connect(database.settings, 'test');
    const failure = await inTransaction(sql, '', async (session) => {
      const [{ pid } = { pid: 0 }] = await session<{ pid: number }[]>`select pg_backend_pid() as pid`;
      await database.sql`select pg_terminate_backend(${pid})`;
      await until(() => Promise.resolve(closesOf(sql) > 0));
      await session`select 1`;
    }).then(
      () => undefined,
      (error: unknown) => error,
    );
    expect([(failure as { code: string }).code, isPassing(failure)]).toEqual(['CONNECTION_CLOSED', true]);
    expect(await sql`select 1 as one`).toEqual([{ one: 1 }]);
    await sql.end();
    await database.drop();
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
