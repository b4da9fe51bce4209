import type { BatchMetadata } from '../batch/metadata.js';
import type { Database } from '../base/database.js';
import { TidemarkError } from '../base/errors.js';
import { warnOnce } from '../base/logger.js';
import { readTable, type CatalogColumn } from './catalog.js';
import type { SourceTable } from './table.js';
import { quoteName, tableArgument } from '../base/sql-text.js';
import type { DimensionMapping } from '../batch/mapping.js';

/** Warns, once, of columns that the source has and history does not, with the command that adds them. */
export function warnOfUnmapped(
  { dimension_name: table, source_schema, source_table, ignored_columns }: DimensionMapping,
  { unmapped_columns }: Pick<SourceTable, 'unmapped_columns'>,
): void {
  const columns = unmapped_columns.filter((column) => !ignored_columns.includes(column));
  if (columns.length === 0) return;
  warnOnce(
    `${table}: ${columns.join(', ')}`,
    'the source has columns that are not mapped to history: they are not captured. ' +
      `To add them, or to leave them out for good: npx tidemark add --update ${tableArgument(source_schema, source_table)} (--ignore <column>)`,
    { table, columns },
  );
}

/** What becomes of a column in history: it fits there, or is widened there by the first batch that has it, or neither. */
export const fitOf = (
  { history_type: type, can_widen }: DimensionMapping['columns'][number],
  column: CatalogColumn | undefined,
): 'fits' | 'widened' | 'misfit' =>
  type === null || column?.fits.includes(type) !== false
    ? 'fits'
    : column.widens.includes(type) && can_widen
      ? 'widened'
      : 'misfit';

/**
 * Makes sure that columns whose type has changed at the source since the newest batch still fit into history, or that history will
 * follow by itself, which is said. What a registration maps from the beginning is its own decision: a value that does not fit is set aside
 * when it is loaded.
 * @throws TidemarkError naming the other columns, before anything is written
 */
export async function assertFits(
  source: Database,
  mapping: DimensionMapping,
  described: Pick<SourceTable, 'column_types' | 'columns_fingerprint'>,
  newest: BatchMetadata | undefined,
): Promise<void> {
  if (newest?.column_types === undefined || newest.columns_fingerprint === described.columns_fingerprint) return;
  const before = newest.column_types;
  const now = described.column_types;
  const retyped = Object.keys(now).filter((name) => before[name] !== undefined && before[name] !== now[name]);
  if (retyped.length === 0) return;
  const { columns } = await readTable(
    source,
    { schema: mapping.source_schema, table: mapping.source_table },
    mapping.columns.map(({ history_type }) => history_type),
  );
  const having = (fit: ReturnType<typeof fitOf>) =>
    mapping.columns.filter((mapped) => {
      const { source: name } = mapped;
      const column = columns.find((each) => each.name === name);
      return retyped.includes(name) && fitOf(mapped, column) === fit;
    });
  const shown = (mapped: DimensionMapping['columns']) =>
    mapped
      .map(
        ({ source: name, history, history_type }) =>
          `${name} was ${before[name] ?? ''} and is ${now[name] ?? ''}, history column ${history} is ${history_type ?? ''}`,
      )
      .join('; ');
  const [widened, misfits] = [having('widened'), having('misfit')];
  if (widened.length > 0)
    warnOnce(
      `wider ${mapping.dimension_name} ${shown(widened)}`,
      `${mapping.dimension_name}: ${shown(widened)}: history becomes as wide when the next batch is loaded`,
    );
  if (misfits.length === 0) return;
  const time = misfits.find(({ history }) => history === 'valid_from');
  throw new TidemarkError(
    `columns of ${mapping.source_schema}.${mapping.source_table} have another type now, which does not fit into history`,
    {
      detail: `table=${mapping.dimension_name} ${shown(misfits)}`,
      hint:
        time !== undefined
          ? wayBackOfTime(mapping, time.source, time.history_type ?? '')
          : `undo it at the source, or write the migration that follows: npx tidemark add --update ${tableArgument(mapping.source_schema, mapping.source_table)}`,
    },
  );
}

/** What to do where the effective or insert time has the other kind of timestamp now. @param type that of history */
export function wayBackOfTime(
  { source_schema: schema, source_table: table, dimension_name: name, source_time_zone: zone }: DimensionMapping,
  column: string,
  type: string,
): string {
  return (
    `undo it at the source: alter table ${quoteName(schema)}.${quoteName(table)} alter column ${quoteName(column)} type ${type} using ${quoteName(column)} at time zone '${zone}' ` +
    `(the zone its values are meant in); or begin a new history beside this one: npx tidemark add ${schema}.${table} --name ${name}_2 (then: npx tidemark table remove ${name}, which keeps the old one)`
  );
}
