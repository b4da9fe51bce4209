import { readFile, readdir } from 'node:fs/promises';
import path from 'node:path';
import { PROJECT_ROOT, shownPath, type DatabaseSettings } from '../base/settings.js';
import {
  explainDatabaseError,
  isConnectionFault,
  withDatabase,
  withPgClient,
  type Database,
  type Transaction,
} from '../base/database.js';
import { TidemarkError } from '../base/errors.js';
import { logger } from '../base/logger.js';
import { inTransaction } from '../base/transaction.js';

/** A folder of numbered migrations and the table that remembers which of them have run. */
export interface MigrationSet {
  readonly name: 'warehouse' | 'dimensions' | 'source';
  /** Where they are, if not in the folder of that name in migrations/. */
  readonly folder?: string;
  readonly schema: string;
  readonly table: string;
}

const WAREHOUSE: MigrationSet = { name: 'warehouse', schema: 'tidemark', table: 'warehouse_migrations' };
const DIMENSIONS: MigrationSet = { name: 'dimensions', schema: 'tidemark', table: 'dimension_migrations' };
/** The demo source. Its ledger is how every command knows that a source is the demo and not a user's own. */
export const DEMO_SOURCE: MigrationSet = { name: 'source', schema: 'public', table: 'tidemark_demo_migrations' };

const folderOf = (set: MigrationSet) => set.folder ?? path.join(PROJECT_ROOT, 'migrations', set.name);

const FUNCTIONS = path.join(PROJECT_ROOT, 'sql', 'functions');
const VIEWS = path.join(PROJECT_ROOT, 'sql', 'views');
/** Two `migrate` at once would meet in the system catalog; the number is arbitrary but fixed. */
const FUNCTIONS_LOCK = 7_241_865_325;

export interface MigrationStatus {
  readonly set: string;
  readonly migration: string;
  readonly state: 'applied' | 'pending' | 'missing file';
}

export interface MigrateReport {
  readonly applied: readonly { set: string; migration: string }[];
  readonly functions: number;
}

/**
 * Brings a warehouse to the present: Tidemark's own migrations, then every function and view file, then the registered dimensions.
 * Safe to repeat, and to run twice at once.
 * @throws TidemarkError naming the migration or function file that failed; what ran before it stays.
 */
export async function migrateWarehouse(
  settings: DatabaseSettings,
  dimensionsFolder: string = folderOf(DIMENSIONS),
): Promise<MigrateReport> {
  const own = await runMigrations(settings, WAREHOUSE);
  const functions = await withDatabase(settings, 'migrate', applyFunctions);
  const dimensions = await runMigrations(settings, { ...DIMENSIONS, folder: dimensionsFolder });
  if (dimensions.length > 0)
    await withDatabase(settings, 'migrate', (warehouse) => warehouse`select tidemark._create_versions_view()`);
  return { applied: [...own, ...dimensions], functions };
}

/** Every migration of a warehouse and where it stands, in the order in which they run. Changes nothing. */
export async function migrationStatus(
  settings: DatabaseSettings,
  dimensionsFolder: string = folderOf(DIMENSIONS),
): Promise<MigrationStatus[]> {
  return withDatabase(settings, 'migrate status', async (warehouse) => [
    ...(await statusOf(warehouse, WAREHOUSE)),
    ...(await statusOf(warehouse, { ...DIMENSIONS, folder: dimensionsFolder })),
  ]);
}

/** Runs the pending migrations of one set, all in one transaction. Returns those that ran. */
export async function runMigrations(
  settings: DatabaseSettings,
  set: MigrationSet,
): Promise<{ set: string; migration: string }[]> {
  const failures: string[] = [];
  await sqlFiles(folderOf(set));
  // Not above: it is slow to load, and most of what asks where migrations stand runs none.
  const { runner } = await import('node-pg-migrate');
  const say = (line: string) => {
    logger.debug(line);
  };
  try {
    const done = await withPgClient(settings, async (dbClient) => {
      if (set.name === 'dimensions') await dbClient.query(VIEWS_LATER);
      return runner({
        dbClient,
        dir: folderOf(set),
        direction: 'up',
        migrationsTable: set.table,
        migrationsSchema: set.schema,
        createMigrationsSchema: true,
        singleTransaction: true,
        checkOrder: true,
        advisoryLockMode: 'wait',
        logger: { debug: say, info: say, warn: say, error: (line) => void failures.push(line) },
      });
    });
    return done.map((migration) => ({ set: set.name, migration: migration.name }));
  } catch (error) {
    const explained = explainDatabaseError(error, settings);
    if (!(error instanceof Error) || !('severity' in error) || isConnectionFault(error)) throw explained;
    throw new TidemarkError(`a migration failed: ${error.message}`, {
      detail: `${shownPath(folderOf(set))}${failures.length > 0 ? `: ${firstLine(failures)}` : ''}`,
      hint: 'nothing of this set was changed: correct the migration, then migrate again',
      code: 'code' in error ? String(error.code) : undefined,
      cause: error,
    });
  }
}

/** Registrations leave the views of all dimensions to the end of the run: made anew for each, they take longer the more there are. */
const VIEWS_LATER = 'set tidemark.views_later = on';

const firstLine = (lines: readonly string[]) => (lines[0] ?? '').split('\n')[0] ?? '';

async function statusOf(database: Database, set: MigrationSet): Promise<MigrationStatus[]> {
  const [ledger] = await database<{ found: boolean }[]>`
    select to_regclass(${`${set.schema}.${set.table}`}) is not null as found`;
  const rows =
    ledger?.found === true
      ? await database<{ name: string }[]>`select name from ${database(set.schema)}.${database(set.table)} order by id`
      : [];
  const applied = new Set(rows.map((row) => row.name));
  const files = (await sqlFiles(folderOf(set))).map((file) => path.basename(file, '.sql'));
  return [
    ...files.map((migration) => ({
      set: set.name,
      migration,
      state: applied.has(migration) ? ('applied' as const) : ('pending' as const),
    })),
    ...[...applied]
      .filter((name) => !files.includes(name))
      .map((migration) => ({ set: set.name, migration, state: 'missing file' as const })),
  ];
}

async function sqlFiles(folder: string): Promise<string[]> {
  const names = await readdir(folder, { recursive: true }).catch((error: unknown) => {
    throw new TidemarkError(`the folder of migrations cannot be read: ${folder}`, {
      cause: error,
      hint: 'make it, or set DIMENSIONS_DIR to the folder of yours',
    });
  });
  return names
    .filter((name) => name.endsWith('.sql'))
    .sort()
    .map((name) => path.join(folder, name));
}

interface SqlFile {
  readonly file: string;
  readonly text: string;
}

const readSql = (files: readonly string[]): Promise<SqlFile[]> =>
  Promise.all(files.map(async (file) => ({ file, text: await readFile(file, 'utf8') })));

/**
 * Applies every function file twice in one transaction: first unchecked, so that their order does not matter, then checked; then the views on them.
 * Fails, and changes nothing, if schema tidemark then holds a function that has no file.
 */
async function applyFunctions(warehouse: Database): Promise<number> {
  const functions = await readSql(await sqlFiles(FUNCTIONS));
  const checking = (value: string) => ({ file: '', text: `set local check_function_bodies = ${value};` });
  const all = [checking('off'), ...functions, checking('on'), ...functions, ...(await readSql(await sqlFiles(VIEWS)))];
  const names = functionsMadeBy(functions);
  const applyInTransaction = (apply: (transaction: Transaction) => Promise<unknown>) =>
    inTransaction(warehouse, 'isolation level read committed', async (transaction) => {
      await transaction`select pg_advisory_xact_lock(${FUNCTIONS_LOCK})`;
      await apply(transaction);
      await compileDimensions(transaction);
      await assertNoOrphans(transaction, names);
      await transaction`
        select tidemark._comment_from_header(p.oid),
          case when p.proname !~ '^_' and p.provolatile <> 'i' and p.proconfig is not null then tidemark._pin_settings(p.oid) end
        from pg_catalog.pg_proc as p
        where p.pronamespace = 'tidemark'::regnamespace and p.prokind = 'f' and p.proname = any (${names})`;
    });
  try {
    // One round trip for all of them.
    const text = all.map((each) => each.text).join('\n');
    await applyInTransaction((transaction) => transaction.unsafe(text));
  } catch (error) {
    if (error instanceof TidemarkError || isConnectionFault(error)) throw error;
    // Once more, one by one, to say which of them fails.
    await applyInTransaction(async (transaction) => {
      for (const each of all) await applyFile(transaction, each);
    });
  }
  return functions.length;
}

/** Writes the history functions of every dimension, where they are not what they should be. One that cannot be compiled stops no other. */
async function compileDimensions(transaction: Transaction): Promise<void> {
  const faults = await transaction<{ dimension_name: string; fault: string }[]>`
    select dimension_name, fault from tidemark._compile_dimensions()`;
  for (const { dimension_name, fault } of faults)
    logger.warn({ table: dimension_name }, `its history functions cannot be compiled: ${fault}`);
}

async function applyFile(transaction: Transaction, { file, text }: SqlFile): Promise<void> {
  try {
    await transaction.unsafe(text);
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    throw new TidemarkError(`a function file failed: ${error.message}`, {
      detail: shownPath(file),
      hint: 'no function was changed: correct the file, then migrate again',
      code: 'code' in error ? String(error.code) : undefined,
      cause: error,
    });
  }
}

/** The names of the functions that files make: one public function a file, and its private ones. */
function functionsMadeBy(files: readonly SqlFile[]): string[] {
  return files.flatMap(({ text }) =>
    [...text.matchAll(/^create or replace (?:function|aggregate) tidemark\.(\w+)/gm)].map(([, name = '']) => name),
  );
}

async function assertNoOrphans(transaction: Transaction, names: readonly string[]): Promise<void> {
  const orphans = await transaction<{ signature: string }[]>`
    select p.oid::regprocedure::text as signature
    from pg_catalog.pg_proc as p
    where p.pronamespace = 'tidemark'::regnamespace
      and p.proname not in (
        select tidemark._function_name(k.kind, d.dimension_name)
        from tidemark.dimensions as d
        cross join (values ('apply'), ('converge')) as k (kind))
      and (p.proname <> all (${names}) or exists (
        select from pg_catalog.pg_proc as q
        where q.pronamespace = p.pronamespace and q.proname = p.proname and q.oid > p.oid))
    order by 1`;
  if (orphans.length === 0) return;
  throw new TidemarkError('schema tidemark holds functions that have no file, or two signatures of one name', {
    detail: orphans.map((orphan) => orphan.signature).join(', '),
    hint: 'add a migration in migrations/warehouse that drops the old signature, then migrate again',
  });
}
