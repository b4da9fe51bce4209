import type { Settings } from '../base/settings.js';
import { isAway, isNotMigrated, withDatabase, type Database } from '../base/database.js';
import { registeringFile } from './files.js';
import { TidemarkError, UsageError } from '../base/errors.js';
import { logger } from '../base/logger.js';
import { type Deletes, planRegistration, type Registration, type RegistrationOptions } from './plan.js';
import { relationsOf, renderRegistration, renderUpdate } from './write.js';
import { findDrift, isEmpty, type MappingUpdate, type UpdateOptions } from './follow.js';
import {
  assertTimeZone,
  readTable,
  shownName,
  type CatalogColumn,
  type CatalogTable,
  type OutsideType,
  type TableName,
} from '../source/catalog.js';
import { dimensionMappings } from '../warehouse/batches.js';
import { appliedDimensionFiles, relationsThere, typesThere } from '../warehouse/dimensions.js';
import type { DimensionMapping } from '../batch/mapping.js';
import { misfit } from '../source/table.js';

/** A migration that is not written yet. */
interface ProposedMigration {
  /** What it does, as a file name: register_customers. */
  readonly words: string;
  readonly text: string;
}

/**
 * Reads a source table from its catalog and writes the text of the migration that registers it.
 * Nothing is changed, neither at the source nor in the warehouse. While the warehouse is away, types of its own are not known.
 * @throws UsageError, TidemarkError saying what keeps the table from being registered
 */
export async function proposeRegistration(
  settings: Settings,
  name: TableName,
  options: RegistrationOptions,
): Promise<ProposedMigration & { registration: Registration }> {
  const table = await withDatabase(settings.source, 'add', async (source) => {
    await assertTimeZone(source, options.time_zone);
    return readTable(source, name);
  });
  const planned = planRegistration(table, options, await typesInWarehouse(settings, table.columns));
  await assertValuesFit(settings, table, [planned.deletes]);
  const registration = { ...planned, returns: await assertNameFree(settings, planned.name) };
  return { words: `register_${registration.name}`, text: renderRegistration(registration), registration };
}

/** Asks the warehouse, which may be away or not migrated: it is needed when the migration runs, not when it is written. */
async function whereWarehouseAnswers<T>(
  settings: Settings,
  otherwise: T,
  ask: (warehouse: Database) => Promise<T>,
): Promise<T> {
  try {
    return await withDatabase(settings.warehouse, 'add', ask);
  } catch (error) {
    const cause = error instanceof Error ? error.cause : undefined;
    if (!isAway(error) && !(cause instanceof Error && isNotMigrated(cause))) throw error;
    logger.warn(`${(error as Error).message}: the migration is written without a look at it`);
    return otherwise;
  }
}

/** Which of the types of these columns the warehouse has; it is asked only where one is not built in. */
async function typesInWarehouse(settings: Settings, columns: readonly CatalogColumn[]): Promise<OutsideType[]> {
  const wanted = columns.flatMap(({ outside }) => outside ?? []);
  return wanted.length === 0
    ? []
    : whereWarehouseAnswers<OutsideType[]>(settings, [], (warehouse) => typesThere(warehouse, wanted));
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
): Promise<(ProposedMigration & { update: MappingUpdate }) | undefined> {
  return withDatabase(settings.warehouse, 'add', async (warehouse) => {
    const mapping = followerOf(await dimensionMappings(warehouse), name, dimension);
    const types = mapping.columns.map(({ history_type }) => history_type);
    const table = await withDatabase(settings.source, 'add', (source) => readTable(source, name, types));
    const update = findDrift(table, mapping, options, await typesInWarehouse(settings, table.columns));
    if (isEmpty(update)) return undefined;
    await assertValuesFit(settings, table, update.deletes);
    const [current] = await relationsThere(
      warehouse,
      [mapping.history_table.replace(/_history$/, '_current')].filter((view) => view !== mapping.history_table),
    );
    const text = renderUpdate(table, mapping, update, current);
    return { words: `update_${mapping.dimension_name.toLowerCase()}`, text, update };
  });
}

/** @throws UsageError for values that the column that marks deleted rows cannot have */
async function assertValuesFit(settings: Settings, table: CatalogTable, deletes: readonly Deletes[]): Promise<void> {
  for (const { deleted_column: column, deleted_values: values } of deletes) {
    const type = table.columns.find(({ name }) => name === column)?.type;
    if (type === undefined || values === undefined) continue;
    const fault = await withDatabase(settings.source, 'add', (source) => misfit(source, type, values));
    if (fault !== undefined)
      throw new UsageError(`the values that mean deleted are none of column ${column ?? ''} (${type}): ${fault}`, {
        hint: 'give values as the column has them: --deleted-values <value> ...',
      });
  }
}

function followerOf(
  mappings: readonly DimensionMapping[],
  name: TableName,
  dimension: string | undefined,
): DimensionMapping {
  const found = mappings.filter(
    ({ source_schema, source_table, dimension_name }) =>
      source_schema === name.schema &&
      source_table === name.table &&
      (dimension === undefined || dimension === dimension_name),
  );
  const [only] = found;
  if (only !== undefined && found.length === 1) return only;
  if (found.length > 1)
    throw new UsageError(`several dimensions follow ${shownName(name)}`, {
      hint: `say which with --name: ${found.map(({ dimension_name }) => dimension_name).join(', ')}`,
    });
  throw new UsageError(
    `no dimension follows ${shownName(name)}${dimension === undefined ? '' : ` under the name ${dimension}`}`,
    { hint: 'leave out --update to register it; npx tidemark table list shows what is registered' },
  );
}

/**
 * Makes sure that a name is free.
 * @returns whether a dimension had it before, and was removed: a migration that has run says so, and the warehouse does not know it
 */
async function assertNameFree(settings: Settings, name: string): Promise<boolean> {
  const hint = 'give this one another name with --name; to add columns to a dimension use --update';
  const file = await registeringFile(settings.dimensions_dir, name);
  const isKnownFree = await whereWarehouseAnswers(settings, false, async (warehouse) => {
    const isRegistered = (await dimensionMappings(warehouse)).some(({ dimension_name }) => dimension_name === name);
    if (file === undefined && isRegistered)
      throw new TidemarkError(`the name ${name} is taken: a dimension is registered under it`, { hint });
    if (isRegistered) return false;
    if (file !== undefined && !(await appliedDimensionFiles(warehouse)).includes(file))
      throw new TidemarkError(`a dimension called ${name} is registered by a migration that has not run yet`, {
        detail: `${file}.sql`,
        hint: 'run it: npx tidemark migrate; or, if it is not wanted, remove the file',
      });
    const { history, current, as_of: asOf } = relationsOf(name);
    const [there] = await relationsThere(warehouse, [history, current]);
    if (there !== undefined && file === undefined)
      throw new TidemarkError(`the name ${name} is taken: the warehouse has ${there}`, {
        hint: 'give another name with --name',
      });
    if (there !== undefined)
      throw new TidemarkError(`${name} was removed and its history kept: ${there} is in the way of a new one`, {
        hint:
          `a history without its ledger cannot go on. To keep it, on the warehouse: create schema if not exists kept; drop view if exists ${current}; drop function if exists ${asOf}(timestamptz), ${asOf}(timestamp); ` +
          `alter table ${history} set schema kept; to give it up: drop table ${history} cascade; or give the new one another name with --name`,
      });
    return true;
  });
  if (file === undefined || isKnownFree) return file !== undefined;
  throw new TidemarkError(`a dimension called ${name} is registered by a migration already`, {
    detail: `${file}.sql`,
    hint,
  });
}
