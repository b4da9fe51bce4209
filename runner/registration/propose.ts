import type { DatabaseSettings, Settings } from '../base/settings.js';
import { isConnectionFault, isNotMigrated, withDatabase, type Database } from '../base/database.js';
import { registeringFiles, type RegisteringFile } from './files.js';
import { TidemarkError, UsageError } from '../base/errors.js';
import { logger } from '../base/logger.js';
import { tableArgument } from '../base/sql-text.js';
import { asWarehouseHolds, dimensionName, planRegistration, type Deletes, type Registration } from './plan.js';
import type { RegistrationOptions, UpdateOptions } from './options.js';
import { relationsOf, renderRegistration, renderUpdate } from './write.js';
import { findDrift, isEmpty, type MappingUpdate } from './follow.js';
import { assertTimeZone, readTable, readTables, shownName } from '../source/catalog.js';
import type { CatalogTable, OutsideType, TableName } from '../source/catalog.js';
import { dimensionMappings } from '../warehouse/functions.js';
import { relationsThere, typesThere } from '../warehouse/dimensions.js';
import { appliedDimensions } from '../warehouse/migrate.js';
import { dimensionMappingSchema, isLogged, type DimensionMapping } from '../batch/mapping.js';
import { impatient, whileReading } from '../source/locked.js';
import { WAL_LEVEL, assertPublishable, writesLog } from '../source/log.js';
import { assertKeysUnique, describeTable, misfit } from '../source/table.js';

/** A migration that is not written yet. */
interface ProposedMigration {
  /** What it does, as a file name: register_customers. */
  readonly words: string;
  readonly text: string;
}

interface Proposed extends ProposedMigration {
  readonly registration: Registration;
  /** The file of an earlier registration that has not run, whose place it takes. */
  readonly replaces: string | undefined;
}

/** What becomes of a table that is to be registered. */
export type Proposal = { readonly table: TableName } & (
  | Proposed
  | {
      /** What keeps it from being registered. */
      readonly error: TidemarkError;
      /** Where it is registered already. */
      readonly there: Standing | undefined;
    }
);

/** Under which name a table is registered, and by which file, where that has not run yet. */
type Standing = Readonly<{ dimension: string; waiting?: RegisteringFile }>;

/**
 * Reads source tables from their catalog and writes the text of the migrations that register them. Nothing is changed, neither at the source
 * nor in the warehouse. While the warehouse is away, types of its own are not known.
 * @param replace takes the place of registrations that have not run
 * @throws UsageError for a time zone that is none; what keeps a table from being registered stands in its place
 */
export async function proposeRegistrations(
  settings: Settings,
  names: readonly TableName[],
  options: RegistrationOptions,
  replace = false,
): Promise<Proposal[]> {
  return withDatabase(settings.source, 'add', async (source) => {
    await assertTimeZone(source, options.time_zone);
    const tables = await readTables(source, names);
    const ground = await survey(settings, names, options, tables);
    const proposals: Proposal[] = [];
    for (const [place, table] of names.entries()) {
      const found = standing(table, ground);
      const there = replace && found?.waiting !== undefined ? undefined : found;
      const plan = async (): Promise<Registration & Pick<Proposed, 'replaces'>> => {
        const described = tables[place];
        if (described === undefined || described instanceof TidemarkError) throw described ?? new Error('no answer');
        const replaces = replace ? replacedFile(table, options, ground)?.file : undefined;
        const taken = proposals.flatMap((each) => ('registration' in each ? each.registration.name : []));
        const name = chooseName(table, options, ground, taken);
        const returns = assertNameFree(name, ground, replaces);
        if (options.name === undefined && there !== undefined)
          throw new TidemarkError(`${shownName(table)} is registered already, as ${there.dimension}`, {
            detail: there.waiting && `${there.waiting.migration}.sql, which has not run yet`,
            hint: 'to register it once more give another name with --name',
          });
        const planned = planRegistration(asWarehouseHolds(described, ground.types), { ...options, name });
        await assertValuesFit(source, described, [planned.deletes]);
        if (isLogged(options)) await assertPublishable(source, [{ ...namesOf(table), columns: planned.columns }]);
        await assertRowsApart(settings.source, planned);
        const isOwn = options.name !== undefined || name === dimensionName(table, options);
        const renamed = `${shownName(table)} is called ${name} here: another table has the shorter name`;
        const remarks = [...planned.remarks, ...(isOwn ? [] : [renamed]), ...(await remarkOnLog(source, options))];
        return { ...planned, returns, replaces, remarks };
      };
      try {
        const { replaces, ...registration } = await plan();
        const text = renderRegistration(registration);
        proposals.push({ table, words: `register_${registration.name}`, text, registration, replaces });
      } catch (error) {
        if (!(error instanceof TidemarkError)) throw error;
        proposals.push({ table, error, there });
      }
    }
    return proposals;
  });
}

const namesOf = ({ schema, table }: TableName) => ({ source_schema: schema, source_table: table });

/** The registration can wait for a restart of the source; the hand-over cannot. */
const remarkOnLog = async (source: Database, options: RegistrationOptions): Promise<string[]> =>
  !isLogged(options) || (await writesLog(source))
    ? []
    : [`the source does not write what it takes to read its log: ${WAL_LEVEL}, before the table is handed over`];

/** What is there already, where tables are to be registered. */
type Ground = Awaited<ReturnType<typeof survey>>;

async function survey(
  settings: Settings,
  names: readonly TableName[],
  options: RegistrationOptions,
  tables: readonly (CatalogTable | TidemarkError)[],
) {
  const files = await registeringFiles(settings.dimensions_dir);
  const look = async (warehouse: Database) => ({
    files,
    /** False while the warehouse is away: then nothing is known of it. */
    isKnown: true,
    mappings: await dimensionMappings(warehouse).catch((error: unknown): DimensionMapping[] => {
      if (error instanceof Error && isNotMigrated(error)) return [];
      throw error;
    }),
    /** Migrations that have run. */
    applied: await appliedDimensions(warehouse),
    /** Relations of histories, of those that may be made. */
    relations: await relationsThere(warehouse, [
      ...new Set(
        names
          .flatMap((table) => possibleNames(table, options))
          .map(relationsOf)
          .flatMap(({ history, current }) => [history, current, firstPartOf(history)]),
      ),
    ]),
    /** Types outside pg_catalog, of those that the source has. */
    types: await typesKnown(
      warehouse,
      tables.filter((table) => 'columns' in table),
    ),
  });
  try {
    return await withDatabase(settings.warehouse, 'add', look);
  } catch (error) {
    // It is needed when a migration runs, not when it is written.
    if (!isConnectionFault(error)) throw error;
    logger.warn(`${(error as Error).message}: the migration is written without a look at it`);
    return { files, isKnown: false, mappings: [], applied: [], relations: [], types: [] };
  }
}

/** Which of the types outside pg_catalog that tables have the warehouse has too. */
async function typesKnown(warehouse: Database, tables: readonly CatalogTable[]): Promise<OutsideType[]> {
  const wanted = tables.flatMap(({ columns }) => columns.flatMap(({ outside }) => outside ?? []));
  return wanted.length === 0 ? [] : typesThere(warehouse, wanted);
}

const isSame = (table: TableName) => (mapping: DimensionMapping) =>
  mapping.source_schema === table.schema && mapping.source_table === table.table;

/** Where a table is registered: in the warehouse, or by a file that has not run; one that was registered and removed is not. */
function standing(table: TableName, { files, mappings, applied }: Ground): Standing | undefined {
  const registered = mappings.find(isSame(table));
  if (registered !== undefined) return { dimension: registered.dimension_name };
  const waiting = files.findLast((file) => file.isOf(table) && !applied.includes(file.migration));
  return waiting === undefined ? undefined : { dimension: waiting.dimension, waiting };
}

/**
 * The file of a table's registration that is to be written anew; undefined where there is none.
 * @throws TidemarkError where it has run, or nobody can say whether it has
 */
function replacedFile(table: TableName, { name }: RegistrationOptions, ground: Ground): RegisteringFile | undefined {
  const { files, applied, isKnown, mappings } = ground;
  const own = files.filter((file) => file.isOf(table));
  if (own.length > 0 && !isKnown)
    throw new TidemarkError(
      `whether ${String(own.at(-1)?.migration)}.sql has run is not known while the warehouse is away`,
      {
        hint: 'replace it when the warehouse answers; what has run is not to be altered',
      },
    );
  const waiting = own.filter(({ migration }) => !applied.includes(migration));
  const meant = waiting.length > 1 ? waiting.filter(({ dimension }) => dimension === name) : waiting;
  const [found] = meant;
  const ran = mappings.find(isSame(table));
  if (waiting.length === 0 && ran !== undefined)
    throw new TidemarkError(
      `${shownName(table)} is registered as ${ran.dimension_name}: its migration has run, and cannot be replaced`,
      {
        hint: `to follow the source: npx tidemark add --update ${tableArgument(table.schema, table.table)}; to begin anew: npx tidemark table remove ${ran.dimension_name}, then add`,
      },
    );
  const isShared = files.filter(({ file }) => file === found?.file).length > 1;
  if ((waiting.length > 0 && meant.length !== 1) || isShared)
    throw new TidemarkError(
      `what to replace for ${shownName(table)} is not clear: ${isShared ? 'its file registers other tables too' : 'several files register it'}`,
      {
        detail: waiting.map(({ migration }) => `${migration}.sql`).join(', '),
        hint: isShared
          ? 'edit the file'
          : `say which with --name: ${waiting.map(({ dimension }) => dimension).join(', ')}`,
      },
    );
  return found;
}

/** As tidemark.create_partitions calls it. */
const firstPartOf = (history: string) => `${history}_p0`;

/** Names that a dimension of the table may get, the first that is free; none where none can be made of the name of the table. */
function possibleNames(table: TableName, options: RegistrationOptions): string[] {
  const whole = `${table.schema}_${table.table}`;
  const stems = [table.table, ...[whole, ...[2, 3, 4].map((number) => `${whole}_${number}`)]];
  try {
    return stems.map((stem) => dimensionName({ ...table, table: stem }, options));
  } catch {
    return [];
  }
}

/** The name that is given, or else that of the table; where another table has it, one with the schema before it. */
function chooseName(
  table: TableName,
  options: RegistrationOptions,
  { files, mappings }: Ground,
  taken: readonly string[],
): string {
  const own = dimensionName(table, options);
  const isOthers = (name: string) =>
    taken.includes(name) ||
    mappings.some((mapping) => mapping.dimension_name === name && !isSame(table)(mapping)) ||
    files.some((file) => file.dimension === name && !file.isOf(table));
  return possibleNames(table, options).find((name) => !isOthers(name)) ?? own;
}

/**
 * Compares a registered table with its source and writes the text of the migration by which it follows. Nothing is changed.
 * @param dimension its name, needed only where several dimensions follow one table
 * @returns undefined where there is nothing to follow
 * @throws UsageError, TidemarkError saying what keeps it from following
 */
export async function proposeUpdate(
  settings: Settings,
  name: TableName,
  dimension: string | undefined,
  options: UpdateOptions,
  moved = name,
): Promise<(ProposedMigration & { update: MappingUpdate }) | undefined> {
  return withDatabase(settings.warehouse, 'add', async (warehouse) => {
    const mapping = followerOf(await dimensionMappings(warehouse), name, dimension);
    const types = mapping.columns.map(({ history_type }) => history_type);
    const table = await withDatabase(settings.source, 'add', (source) => readTable(source, moved, types));
    const update = findDrift(asWarehouseHolds(table, await typesKnown(warehouse, [table])), mapping, options);
    if (isEmpty(update)) return undefined;
    await withDatabase(settings.source, 'add', (source) => assertValuesFit(source, table, update.deletes));
    const [current] = await relationsThere(
      warehouse,
      [mapping.history_table.replace(/_history$/, '_current')].filter((view) => view !== mapping.history_table),
    );
    const text = renderUpdate(table, mapping, update, current);
    return { words: `update_${mapping.dimension_name.toLowerCase()}`, text, update };
  });
}

/** Looks at the rows where nothing at the source keeps the key unique. @throws TidemarkError if two have one key */
async function assertRowsApart(settings: DatabaseSettings, planned: Registration): Promise<void> {
  const { table, options, columns, key_is_asserted } = planned;
  if (['r', 'p'].includes(table.kind) && !key_is_asserted && !(options.with_children && table.has_children)) return;
  const mapping = dimensionMappingSchema.parse({
    ...{ dimension_name: planned.name, history_table: relationsOf(planned.name).history, columns, key_is_asserted },
    ...{ source_schema: table.schema, source_table: table.table, source_time_zone: options.time_zone },
    with_children: options.with_children,
  });
  await withDatabase(impatient(settings), 'add', (source) =>
    whileReading(source, mapping, async () => {
      await assertKeysUnique(source, planned.name, await describeTable(source, mapping));
    }),
  );
}

/** @throws UsageError for values that the column that marks deleted rows cannot have */
async function assertValuesFit(source: Database, table: CatalogTable, deletes: readonly Deletes[]): Promise<void> {
  for (const { deleted_column: column, deleted_values: values } of deletes) {
    const type = table.columns.find(({ name }) => name === column)?.type;
    if (type === undefined || values === undefined) continue;
    const fault = await misfit(source, type, values);
    if (fault !== undefined)
      throw new UsageError(`the values that mean deleted are none of column ${column ?? ''} (${type}): ${fault}`, {
        hint: 'give values as the column has them: --deleted-values <value> ...',
      });
  }
}

function followerOf(mappings: readonly DimensionMapping[], name: TableName, dimension?: string): DimensionMapping {
  const followers = mappings.filter(isSame(name));
  const [only, another] = followers.filter((each) => each.dimension_name === (dimension ?? each.dimension_name));
  if (another !== undefined)
    throw new UsageError(`several dimensions follow ${shownName(name)}`, {
      hint: `say which with --name: ${followers.map(({ dimension_name }) => dimension_name).join(', ')}`,
    });
  if (only !== undefined) return only;
  throw new UsageError(
    `no dimension follows ${shownName(name)}${dimension === undefined ? '' : ` under the name ${dimension}`}`,
    { hint: 'leave out --update to register it; npx tidemark table list shows what is registered' },
  );
}

/**
 * Makes sure that a name is free.
 * @param replaced a file that is written anew: it does not take its name
 * @returns whether a dimension had it before, and was removed: a migration that has run says so, and the warehouse does not know it
 */
function assertNameFree(name: string, ground: Ground, replaced: string | undefined): boolean {
  const { files, applied, mappings, relations } = ground;
  const hint = 'give this one another name with --name; to add columns to a dimension use --update';
  const file = files.findLast((each) => each.dimension === name && each.file !== replaced)?.migration;
  const isRegistered = mappings.some(({ dimension_name }) => dimension_name === name);
  if (file === undefined && isRegistered)
    throw new TidemarkError(`the name ${name} is taken: a dimension is registered under it`, { hint });
  if (file !== undefined && (isRegistered || !ground.isKnown))
    throw new TidemarkError(`a dimension called ${name} is registered by a migration already`, {
      detail: `${file}.sql`,
      hint,
    });
  if (file !== undefined && !applied.includes(file))
    throw new TidemarkError(`a dimension called ${name} is registered by a migration that has not run yet`, {
      detail: `${file}.sql`,
      hint: 'run it: npx tidemark migrate; write it anew with --replace; or, if it is not wanted, remove the file',
    });
  const { history, current, as_of: asOf } = relationsOf(name);
  const there = relations.find((relation) => relation === history || relation === current);
  if (there !== undefined && file === undefined)
    throw new TidemarkError(`the name ${name} is taken: the warehouse has ${there}`, {
      hint: 'give another name with --name',
    });
  const withParts = relations.includes(firstPartOf(history))
    ? `; do $$ begin execute (select string_agg(format('alter table %s set schema kept', p), '; ') from tidemark._history_parts('kept.dim_${name}_history') as p); end $$`
    : '';
  if (there !== undefined)
    throw new TidemarkError(`${name} was removed and its history kept: ${there} is in the way of a new one`, {
      hint:
        `a history without its ledger cannot go on. To keep it, on the warehouse: create schema if not exists kept; drop view if exists ${current}; drop function if exists ${asOf}(timestamptz), ${asOf}(timestamp); ` +
        `alter table ${history} set schema kept${withParts}; to give it up: drop table ${history} cascade; or give the new one another name with --name`,
    });
  return file !== undefined;
}
