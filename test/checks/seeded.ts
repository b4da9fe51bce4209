import { spawnSync } from 'node:child_process';
import { readFile, readdir } from 'node:fs/promises';
import path from 'node:path';
import { PROJECT_ROOT } from '../../runner/base/settings.js';
import type { Transaction } from '../../runner/base/database.js';
import type { TestDatabase } from '../support/databases.js';
import { rolledBack } from '../support/batches.js';
import { sayEach } from '../support/cluster.js';

/** A violation: what is done to good data, and the rows that the check must then return, as far as they are given. */
export interface Violation {
  readonly check: string;
  readonly seed: string;
  readonly rows: readonly Readonly<Record<string, unknown>>[];
}

const folder = (suite: string) => path.join(PROJECT_ROOT, 'sql', 'checks', suite);

/** The checks of a suite, by name. */
export async function checksOf(suite: string): Promise<string[]> {
  return (await readdir(folder(suite)))
    .filter((name) => name.endsWith('.sql'))
    .map((name) => path.basename(name, '.sql'))
    .sort();
}

/** What one check finds, here and now. */
export async function find(transaction: Transaction, suite: string, check: string): Promise<Record<string, unknown>[]> {
  return [
    ...(await transaction.unsafe<Record<string, unknown>[]>(
      await readFile(path.join(folder(suite), `${check}.sql`), 'utf8'),
    )),
  ];
}

/** What every check of a suite finds after `seed`, which is rolled back; those that find nothing are left out. */
export async function findAfter(
  database: TestDatabase,
  suite: string,
  seed: string,
): Promise<Record<string, Record<string, unknown>[]>> {
  return rolledBack(database.sql, async (transaction) => {
    await sayEach(transaction, seed);
    const found: Record<string, Record<string, unknown>[]> = {};
    for (const check of await checksOf(suite)) {
      const rows = await find(transaction, suite, check);
      if (rows.length > 0) found[check] = rows;
    }
    return found;
  });
}

const psql = spawnSync('psql', ['--version'], { encoding: 'utf8' });

/** Whether psql is on the PATH; says so if not. */
export function hasPsql(suite: string): boolean {
  if (psql.error !== undefined)
    process.stderr.write(`skipped: psql is not on the PATH, so the checks of ${suite} are not run with psql -f\n`);
  return psql.error === undefined;
}

/** Runs a check as a user would. */
export function runWithPsql(
  { settings }: TestDatabase,
  suite: string,
  check: string,
): { status: number | null; stdout: string; stderr: string } {
  const { host, port, user, password, database } = settings;
  const { status, stdout, stderr } = spawnSync(
    'psql',
    ['-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1', '-f', path.join(folder(suite), `${check}.sql`)],
    {
      encoding: 'utf8',
      env: {
        PATH: process.env.PATH ?? '',
        PGHOST: host,
        PGPORT: String(port),
        PGUSER: user,
        PGPASSWORD: password,
        PGDATABASE: database,
      },
    },
  );
  return { status, stdout, stderr };
}
