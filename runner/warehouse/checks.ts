import { readFile, readdir } from 'node:fs/promises';
import path from 'node:path';
import { PACKAGE_ROOT } from '../base/settings.js';
import { isConnectionFault, isNotMigrated, type Database } from '../base/database.js';
import { TidemarkError, UsageError, describeError, hasCode, withOutcome, type Failure } from '../base/errors.js';
import { logger } from '../base/logger.js';
import { inTransaction } from '../base/transaction.js';
import { formatRows } from '../base/text-table.js';
import { noteChecks } from './functions.js';

export interface CheckResult {
  readonly suite: string;
  readonly check: string;
  /** How many rows break the rule; 0 is a pass. */
  readonly violations: number;
  /** The first of them. */
  readonly rows: readonly Readonly<Record<string, unknown>>[];
}

const CHECKS = path.join(PACKAGE_ROOT, 'sql', 'checks');
const SHOWN_ROWS = 5;

/** The files of checks, in their order; the suite of each is its folder below sql/checks. */
async function checkFiles(): Promise<{ suite: string; file: string }[]> {
  const files = (await readdir(CHECKS, { recursive: true })).filter((name) => name.endsWith('.sql')).sort();
  return files.map((file) => ({ suite: path.dirname(file), file }));
}

/**
 * Runs every check of the given suites (all where none is given), each in a read-only transaction. One that cannot run stops no other.
 * @throws UsageError for a suite that does not exist; TidemarkError naming the file of a check that cannot run, with the results of the others
 */
export async function runChecks(warehouse: Database, suites: readonly string[]): Promise<CheckResult[]> {
  const files = await checkFiles();
  const known = [...new Set(files.map(({ suite }) => suite))];
  const unknown = suites.filter((suite) => !known.includes(suite));
  if (unknown.length > 0)
    throw new UsageError(`there is no suite ${unknown.join(', ')}`, { hint: `suites are: ${known.join(', ')}` });
  const results: CheckResult[] = [];
  const failures: Failure[] = [];
  for (const { suite, file } of files.filter((each) => suites.length === 0 || suites.includes(each.suite)))
    try {
      results.push(await runCheck(warehouse, suite, file));
    } catch (error) {
      if (!(error instanceof TidemarkError)) throw error;
      failures.push({ error });
    }
  const [first, ...others] = failures;
  if (first === undefined) return results;
  for (const { error } of others) logger.error(describeError(error, false));
  throw withOutcome(first.error as Error, { result: results, failures });
}

/** Notes how checks ended, so that a violation is an alert. Those who may only read check all the same. */
export async function rememberChecks(warehouse: Database, results: readonly CheckResult[]): Promise<void> {
  const noted = results.map(({ suite, check, violations }) => ({ suite, check, violations }));
  await noteChecks(warehouse, noted).catch((error: unknown) => {
    if (!hasCode(error, '42501', '25006')) throw error;
    logger.debug('the results of the checks were not noted: this role may only read');
  });
}

/** A cursor shows the first violations and counts the rest, however many they are. */
async function runCheck(warehouse: Database, suite: string, file: string): Promise<CheckResult> {
  const query = (await readFile(path.join(CHECKS, file), 'utf8')).trimEnd().replace(/;$/, '');
  const check = path.basename(file, '.sql').replaceAll('_', ' ');
  try {
    return await inTransaction(warehouse, 'isolation level repeatable read read only', async (transaction) => {
      await transaction.unsafe(`declare violation no scroll cursor for ${query}`);
      const rows = await transaction.unsafe<Record<string, unknown>[]>(`fetch ${SHOWN_ROWS} from violation`);
      const rest = await transaction.unsafe('move forward all in violation');
      return { suite, check, violations: rows.length + rest.count, rows: [...rows] };
    });
  } catch (error) {
    if (!(error instanceof Error) || !('severity' in error) || isConnectionFault(error) || isNotMigrated(error))
      throw error;
    throw new TidemarkError(`a check cannot run: ${error.message}`, { detail: `sql/checks/${file}`, cause: error });
  }
}

/** One line a check; below a failing one, its first rows. */
export function formatChecks(results: readonly CheckResult[]): string {
  const lines = results.map(({ suite, check, violations, rows }) => {
    const line = `${violations === 0 ? 'ok  ' : 'FAIL'}  ${suite}: ${check} (${violations})`;
    return violations === 0 ? line : `${line}\n${formatRows(rows).replace(/^/gm, '        ')}`;
  });
  const failed = results.filter(({ violations }) => violations > 0).length;
  return [...lines, `${results.length} checks, ${failed === 0 ? 'all passed' : `${failed} failed`}`].join('\n');
}
