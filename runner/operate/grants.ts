import type { DatabaseSettings, Settings } from '../base/settings.js';
import { withDatabase, type Database } from '../base/database.js';
import { inTransaction } from '../base/transaction.js';
import { TidemarkError, UsageError, describeError } from '../base/errors.js';
import { logger } from '../base/logger.js';
import { isLogged, type DimensionMapping } from '../batch/mapping.js';
import { readingRole } from '../warehouse/browse.js';
import { dimensionMappings, grantStatements } from '../warehouse/functions.js';
import { sourceGrants } from '../source/health.js';
import { setupStatements } from '../stream/setup.js';

/** The statements of one end, and whether they were run. */
type Grants = Awaited<ReturnType<typeof grantsOf>>;

/** Room for _analyst in a name of PostgreSQL, which has at most 63 bytes. */
const PREFIX = /^[a-z_][a-z0-9_]{0,50}$/;

/**
 * The least-privilege roles of both ends, by the statements that make them; each end's are run in one transaction where `apply` says so.
 * Safe to repeat, and to be repeated after each migration that brings new tables or functions.
 * @throws UsageError for a prefix that is no plain name
 */
export async function grantRoles(settings: Settings, prefix: string, apply: boolean): Promise<Grants[]> {
  if (!PREFIX.test(prefix))
    throw new UsageError(
      `--prefix is ${prefix}, accepted is a plain name: lower-case letters, digits and underscores, at most 51`,
    );
  const mappings = await withDatabase(settings.warehouse, 'grants', dimensionMappings);
  return [
    await grantsOf(settings.source, apply, async (source) => [
      ...(await sourceGrants(source, `${prefix}_reader`, mappings)),
      ...(await publicationOf(source, settings, mappings.filter(isLogged))),
    ]),
    await grantsOf(settings.warehouse, apply, (warehouse) => linesOf(warehouse, prefix, null)),
  ];
}

/** What the reader cannot make of what it takes to read the log; the slot it can. */
async function publicationOf(source: Database, settings: Settings, logged: readonly DimensionMapping[]) {
  if (logged.length === 0) return [];
  try {
    const statements = await setupStatements(source, settings, logged);
    return statements.filter((statement) => statement.includes(' publication '));
  } catch (error) {
    if (!(error instanceof TidemarkError)) throw error;
    logger.warn(describeError(error, false));
    return [];
  }
}

/**
 * Makes tidemark_loader and tidemark_analyst for a warehouse whose owner goes on to own it, so that nobody needs more than they may do.
 * Nothing is changed where there is a role to read already, or another owns the warehouse.
 * @throws what the server says (42501) where this user may not make roles
 */
export async function makeRoles(settings: DatabaseSettings): Promise<void> {
  await withDatabase(settings, 'grants', async (warehouse) => {
    const [{ owner } = {}] = await warehouse<{ owner: string }[]>`
      select current_user as owner from pg_namespace
      where nspname = 'tidemark' and pg_get_userbyid(nspowner) = current_user`;
    if (owner !== undefined && (await readingRole(warehouse)) === null)
      await run(warehouse, await linesOf(warehouse, 'tidemark', owner));
  });
}

const linesOf = async (warehouse: Database, prefix: string, owner: string | null) =>
  (await grantStatements(warehouse, prefix, owner)).map(({ grant_statements }) => grant_statements);

/** In one transaction, but for what workers of Citus do for themselves, which see the roles only when that is committed. */
async function run(database: Database, statements: readonly string[]): Promise<void> {
  const isOfNodes = (statement: string) => /^select \w+\._give_nodes_to\(/.test(statement);
  for (const part of [statements.filter((each) => !isOfNodes(each)), statements.filter(isOfNodes)])
    await inTransaction(database, 'isolation level read committed', async (transaction) => {
      for (const statement of part) await transaction.unsafe(statement);
    });
}

async function grantsOf(end: DatabaseSettings, apply: boolean, ask: (database: Database) => Promise<string[]>) {
  return withDatabase(end, 'grants', async (database) => {
    const statements = await ask(database);
    if (apply) await run(database, statements);
    return { end: end.role, database: end.database, applied: apply, statements };
  });
}

/** What psql can run, end by end. */
export const formatGrants = (grants: readonly Grants[]): string =>
  grants
    .map(({ end, database, applied, statements }) =>
      [`-- ${end} ${database}${applied ? ', applied' : ''}`, ...statements.map((statement) => `${statement};`)].join(
        '\n',
      ),
    )
    .join('\n\n');
