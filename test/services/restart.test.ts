import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadSettings } from '../../runner/base/settings.js';
import { withDatabase } from '../../runner/base/database.js';
import { serverStatuses } from '../../runner/embedded/servers.js';
import { serviceStatuses } from '../../runner/services/background.js';
import { runCli } from '../support/cli.js';
import { foldersIn } from '../support/databases.js';
import { freePort } from '../support/servers.js';
import { until } from '../support/wait.js';

let folder: string;
let env: Record<string, string>;
const settings = () => loadSettings(env, folder);
const run = (...args: string[]) => runCli(args, env);

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'tidemark-restart-'));
  await chmod(folder, 0o755);
  env = {
    ...foldersIn(folder),
    TIDEMARK_DATA_DIR: path.join(folder, 'postgres'),
    DB_PORT: String(await freePort()),
    WAREHOUSE_DB_PORT: String(await freePort()),
    CDC_EXTRACTION_INTERVAL_SECONDS: '1',
    MUTATION_INTERVAL_SECONDS: '1',
    ENV_FILE: '/dev/null',
  };
});
afterAll(async () => {
  await run('stop');
  await run('db', 'stop');
  await rm(folder, { recursive: true, force: true });
});

describe('after a restart of the machine, imitated by killing everything', () => {
  test('one start brings back servers and services, nothing is lost, and all checks are green', async () => {
    for (const args of [['db', 'start'], ['migrate'], ['demo'], ['start', '--simulate']])
      expect(await run(...args)).toMatchObject({ code: 0 });
    const versions = () =>
      withDatabase(settings().warehouse, 'test', async (sql) =>
        Number((await sql<{ n: string }[]>`select count(*) as n from dim_orders_history`)[0]?.n),
      );
    await until(async () => (await versions()) > 20);
    for (const { pid } of [...(await serviceStatuses(settings())), ...(await serverStatuses(settings()))])
      if (pid !== null) process.kill(pid, 'SIGKILL');
    await until(async () => (await serviceStatuses(settings())).every(({ state }) => state !== 'running'));

    const started = await run('start', '--simulate');
    expect(started).toMatchObject({ code: 0 });
    expect((await serverStatuses(settings())).map(({ state }) => state)).toEqual(['running', 'running']);
    const before = await versions();
    await until(async () => (await versions()) > before);
    await run('stop');
    for (const command of ['extract', 'load']) expect((await run(command)).code).toBe(0);
    expect((await run('check')).stdout).toContain('all passed');
    const question = (table: string, key: string) =>
      `select ${key}::integer as id, order_status, quantity from ${table} order by 1`;
    const source = await withDatabase(settings().source, 'test', (sql) => sql.unsafe(question('orders', 'id')));
    expect(
      await withDatabase(settings().warehouse, 'test', (sql) =>
        sql.unsafe(question('dim_orders_current', 'order_key')),
      ),
    ).toEqual(source);
  });
});
