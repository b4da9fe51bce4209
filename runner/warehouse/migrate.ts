import { createHash } from 'node:crypto';
import { readFile, readdir } from 'node:fs/promises';
import path from 'node:path';
import { PACKAGE_ROOT, shownPath, type DatabaseSettings } from '../base/settings.js';
import { explainDatabaseError, isConnectionFault, withDatabase, withPgClient } from '../base/database.js';
import type { Database, Transaction } from '../base/database.js';
import { TidemarkError, describeError, hasCode } from '../base/errors.js';
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

const folderOf = (set: MigrationSet) => set.folder ?? path.join(PACKAGE_ROOT, 'migrations', set.name);

const FUNCTIONS = path.join(PACKAGE_ROOT, 'sql', 'functions');
const VIEWS = path.join(PACKAGE_ROOT, 'sql', 'views');
/** Two `migrate` at once would meet in the system catalog; the number is arbitrary but fixed. */
const FUNCTIONS_LOCK = 7_241_865_325;

export interface MigrationStatus {
  readonly set: string;
  readonly migration: string;
  readonly state: 'applied' | 'pending' | 'missing file';
}

export type MigrateReport = Readonly<{ applied: readonly { set: string; migration: string }[]; functions: number }>;

/**
 * Brings a warehouse to the present: Tidemark's own migrations, then every function and view file, then the registered dimensions.
 * Safe to repeat, and to run twice at once. A registration that fails holds up no other.
 * @throws TidemarkError naming the migration or function file that failed; what else could run has run, and stays.
 */
export async function migrateWarehouse(
  settings: DatabaseSettings,
  folder = folderOf(DIMENSIONS),
): Promise<MigrateReport> {
  const own = await runMigrations(settings, WAREHOUSE);
  const functions = await withDatabase(settings, 'migrate', applyFunctions);
  return { applied: [...own, ...(await migrateDimensions(settings, folder))], functions };
}

/**
 * Registers what is to be registered, in a warehouse whose functions are at the present.
 * @throws TidemarkError naming the migration that failed; what else could run has run, and stays.
 */
export async function migrateDimensions(settings: DatabaseSettings, folder: string): Promise<MigrateReport['applied']> {
  const { applied, failures } = await runDimensions(settings, { ...DIMENSIONS, folder });
  if (applied.length > 0)
    await withDatabase(settings, 'migrate', (warehouse) => warehouse`select tidemark._create_versions_view()`);
  const [first] = failures;
  if (first === undefined) return applied;
  for (const { set, migration } of applied) logger.info(`applied ${set}/${migration}`);
  if (failures.length === 1) throw first.error;
  for (const { error } of failures) logger.error(describeError(error, false));
  throw new TidemarkError(
    `${failures.length} migrations failed: ${failures.map(({ migration }) => migration).join(', ')}`,
    { hint: 'the lines above say why; the others ran' },
  );
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

type Migration = MigrateReport['applied'][number];

/** A migration that could not run. */
type FailedMigration = Readonly<{ migration: string; error: TidemarkError }>;

/** Runs the pending migrations of one set, all in one transaction. Returns those that ran. */
export async function runMigrations(settings: DatabaseSettings, set: MigrationSet): Promise<Migration[]> {
  const status = await withDatabase(settings, 'migrate', (database) => statusOf(database, set));
  if (status.every(({ state }) => state !== 'pending')) return [];
  const { applied, failure } = await runFiles(settings, set);
  if (failure !== undefined) throw failure.error;
  return applied;
}

/** What a file of the folder of dimensions is about, by the names in it. */
type DimensionFile = Readonly<{ migration: string; dimensions: readonly string[] }>;

const DIMENSION_NAMES =
  /p_dimension_name\s*=>\s*'([^']+)'|\btidemark\.\w+\s*\(\s*'([^']+)'|\bdim_(\w+?)_(?:history|current)\b/g;

async function readDimensionFiles(folder: string): Promise<DimensionFile[]> {
  return (await readSql(await sqlFiles(folder))).map(({ file, text }) => ({
    migration: path.basename(file, '.sql'),
    dimensions: [...new Set([...text.matchAll(DIMENSION_NAMES)].flatMap((found) => found.slice(1).filter(Boolean)))],
  }));
}

const isOfOne = (one: DimensionFile, other: DimensionFile) =>
  one.dimensions.some((name) => other.dimensions.includes(name));

/**
 * Runs the pending migrations of dimensions, each in a transaction of its own. One that fails holds up those behind it that are about the
 * same dimension, and all behind it where it or they say of none; no other.
 */
async function runDimensions(settings: DatabaseSettings, set: MigrationSet & { readonly folder: string }) {
  const status = await withDatabase(settings, 'migrate', (warehouse) => statusOf(warehouse, set));
  const hasRun = ({ migration }: DimensionFile) =>
    status.some((each) => each.migration === migration && each.state === 'applied');
  const files = await readDimensionFiles(set.folder);
  if (files.length === 0) {
    logger.info(`no table is registered in ${shownPath(set.folder)} yet: "tidemark add" writes there`);
    return { applied: [], failures: [] };
  }
  if (files.every(hasRun)) return { applied: [], failures: [] };
  const applied: Migration[] = [];
  const failures = files.flatMap((file, place) => {
    const later = files.slice(place + 1).find((each) => hasRun(each) && isOfOne(file, each));
    return hasRun(file) || later === undefined ? [] : [precedes(file, later, set)];
  });
  for (;;) {
    const leftOut = files.filter((file, place) =>
      files
        .slice(0, place + 1)
        .filter(({ migration }) => failures.some((each) => each.migration === migration))
        .some(
          (failed) => failed === file || isOfOne(failed, file) || [failed, file].some((each) => !each.dimensions[0]),
        ),
    );
    const run = await runFiles(settings, set, files, leftOut);
    applied.push(...run.applied);
    if (run.failure === undefined) return { applied, failures };
    // It came to none of them.
    if (run.failure.migration === '') throw run.failure.error;
    failures.push(run.failure);
  }
}

function precedes({ migration }: DimensionFile, later: DimensionFile, set: MigrationSet): FailedMigration {
  const error = new TidemarkError(`${migration} was not run: ${later.migration}, which follows it, has run already`, {
    detail: shownPath(path.join(folderOf(set), `${migration}.sql`)),
    hint: 'both are about the same table: give the file the next number, then migrate again',
  });
  return { migration, error };
}

/**
 * Runs the pending migrations of a set: all in one transaction, or, where `files` says what they are about, each in its own, without those
 * that are left out, up to the first that fails.
 */
async function runFiles(
  settings: DatabaseSettings,
  set: MigrationSet,
  files?: readonly DimensionFile[],
  leftOut: readonly DimensionFile[] = [],
): Promise<{ applied: Migration[]; failure?: FailedMigration }> {
  const begun: string[] = [];
  const say = (line: string) => {
    begun.push(...(/^### MIGRATION (.+) \(UP\) ###$/.exec(line)?.slice(1) ?? []));
    logger.debug(line);
  };
  const listed = (names: readonly string[]) => names.map((migration) => ({ set: set.name, migration }));
  // Not above: it is slow to load, and most of what asks where migrations stand runs none.
  const { runner } = await import('node-pg-migrate');
  try {
    await withPgClient(settings, async (dbClient) => {
      if (files !== undefined) await dbClient.query(VIEWS_LATER);
      await runner({
        dbClient,
        dir: folderOf(set),
        direction: 'up',
        migrationsTable: set.table,
        migrationsSchema: set.schema,
        createMigrationsSchema: true,
        singleTransaction: files === undefined,
        checkOrder: files === undefined,
        ignorePattern: `(?:\\..*|${leftOut.map(({ migration }) => `${literally(migration)}\\.sql`).join('|')})`,
        advisoryLockMode: 'wait',
        logger: { debug: say, info: say, warn: say, error: say },
      });
    });
    return { applied: listed(begun) };
  } catch (error) {
    const explained = explainDatabaseError(error, settings);
    if (!(error instanceof Error) || !('severity' in error) || isConnectionFault(error)) throw explained;
    const migration = begun.pop() ?? '';
    const file = shownPath(path.join(folderOf(set), migration === '' ? '' : `${migration}.sql`));
    const about = files?.find((each) => each.migration === migration)?.dimensions ?? [];
    const { code, detail, hint } = error as Partial<Record<'code' | 'detail' | 'hint', string>>;
    const next =
      files === undefined
        ? 'nothing of this set was changed: correct the migration, then migrate again'
        : 'nothing of it was changed, and the other tables do not wait for it: correct the file, or write it anew (npx tidemark add --replace), then migrate again';
    const failure = new TidemarkError(`a migration failed: ${error.message}`, {
      detail: [file, ...about.map((name) => `table=${name}`), ...(detail === undefined ? [] : [detail])].join(' '),
      hint: hint === undefined ? next : `${hint}; ${next}`,
      code,
      cause: error,
    });
    return { applied: listed(files === undefined ? [] : begun), failure: { migration, error: failure } };
  }
}

/** A text as a regular expression that matches nothing else. */
const literally = (text: string) => text.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&');

/** Registrations leave the views of all dimensions to the end of the run: made anew for each, they take longer the more there are. */
const VIEWS_LATER = 'set tidemark.views_later = on';

/** The migrations of a set that have run, by name, in their order. */
async function appliedOf(database: Database, { schema, table }: MigrationSet): Promise<string[]> {
  const [ledger] = await database`select to_regclass(${`${schema}.${table}`}) is not null as is_there`;
  if (ledger?.is_there !== true) return [];
  const rows = await database<{ name: string }[]>`select name from ${database(schema)}.${database(table)} order by id`;
  return rows.map(({ name }) => name);
}

/** The migrations of dimensions that have run, by name. */
export const appliedDimensions = (warehouse: Database): Promise<string[]> => appliedOf(warehouse, DIMENSIONS);

async function statusOf(database: Database, set: MigrationSet): Promise<MigrationStatus[]> {
  const applied = await appliedOf(database, set);
  const files = (await sqlFiles(folderOf(set))).map((file) => path.basename(file, '.sql'));
  const stateOf = (name: string) =>
    !files.includes(name) ? 'missing file' : applied.includes(name) ? 'applied' : 'pending';
  return [...new Set([...files, ...applied])].map((name) => ({ set: set.name, migration: name, state: stateOf(name) }));
}

async function sqlFiles(folder: string): Promise<string[]> {
  const names = await readdir(folder, { recursive: true }).catch((error: unknown) => {
    if (hasCode(error, 'ENOENT')) return [];
    throw new TidemarkError(`the folder of migrations cannot be read: ${folder}`, {
      cause: error,
      hint: 'let this user read it, or set DIMENSIONS_DIR to the folder of yours',
    });
  });
  // As Kubernetes mounts a ConfigMap, each file is a link to one in a hidden folder beside it.
  const isShown = (name: string) => name.endsWith('.sql') && !/(^|[\\/])\./.test(name);
  return names
    .filter(isShown)
    .sort()
    .map((name) => path.join(folder, name));
}

type SqlFile = Readonly<{ file: string; text: string }>;

const readSql = (files: readonly string[]): Promise<SqlFile[]> =>
  Promise.all(files.map(async (file) => ({ file, text: await readFile(file, 'utf8') })));

/**
 * Brings functions and views to the present. Functions that are as they were when these very files were applied last stay as they are.
 * Fails, and changes nothing, if schema tidemark then holds a function that has no file.
 */
async function applyFunctions(warehouse: Database): Promise<number> {
  const functions = await readSql(await sqlFiles(FUNCTIONS));
  const views = await readSql(await sqlFiles(VIEWS));
  const names = functionsMadeBy(functions);
  const files = createHash('sha256')
    .update([...functions.map(({ text }) => text), FINISH].join('\n'))
    .digest('hex');
  await inTransaction(warehouse, 'isolation level read committed', async (transaction) => {
    await transaction`select pg_advisory_xact_lock(${FUNCTIONS_LOCK})`;
    const isPresent = (await stateOfFunctions(transaction, names, files)).is_noted;
    if (!isPresent) await applyFiles(transaction, functions);
    await Promise.all(views.map((each) => applyFile(transaction, each)));
    await compileDimensions(transaction);
    await assertNoOrphans(transaction, names);
    if (isPresent) return;
    await transaction.unsafe(FINISH, [names]);
    const { state } = await stateOfFunctions(transaction, names, files);
    await transaction`delete from tidemark.applied_functions`;
    await transaction`insert into tidemark.applied_functions (files, state) values (${files}, ${state})`;
  });
  return functions.length;
}

/** What is done to functions once all are there: comments, and the settings of public ones. */
const FINISH = `
  select tidemark._comment_from_header(p.oid),
    case when p.proname !~ '^_' and p.provolatile <> 'i' and p.proconfig is not null then tidemark._pin_settings(p.oid) end
  from pg_catalog.pg_proc as p
  where p.pronamespace = 'tidemark'::regnamespace and p.prokind = 'f' and p.proname = any ($1)`;

/** Applies every function file twice: first unchecked, so that their order does not matter, then checked. */
async function applyFiles(transaction: Transaction, files: readonly SqlFile[]): Promise<void> {
  const checking = (value: string) => ({ file: '', text: `set local check_function_bodies = ${value};` });
  // All are on their way at once; the first that fails is the one that is named.
  const all = [checking('off'), ...files, checking('on'), ...files];
  await Promise.all(all.map((each) => applyFile(transaction, each)));
}

/**
 * What the catalog has of the functions that files made, and of any other that no dimension has, in short; and whether it is what was noted
 * when files of this digest were applied. One that was altered, granted or dropped by hand, or restored from a dump, is another.
 */
async function stateOfFunctions(transaction: Transaction, names: readonly string[], files: string) {
  const found = await transaction<[{ state: string; is_noted: boolean }]>`
    select s.state, exists (select from tidemark.applied_functions as a where a.files = ${files} and a.state = s.state) as is_noted
    from (
      select md5(string_agg(concat_ws(' ', p::text, pg_catalog.obj_description(p.oid, 'pg_proc')), ' ' order by p.oid)) as state
      from pg_catalog.pg_proc as p
      where p.pronamespace = 'tidemark'::regnamespace
        and (p.proname = any (${names}) or p.prosrc not like '%Written by tidemark.compile_dimension:%')
    ) as s`;
  return found[0];
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
    if (!(error instanceof Error) || isConnectionFault(error)) throw error;
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
        cross join (values ('apply'), ('converge'), ('known'), ('render'), ('on_node'), ('versions')) as k (kind))
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
