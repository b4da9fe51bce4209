import type { DimensionMapping } from '../batch/metadata.js';
import type { Database } from '../base/database.js';
import { TidemarkError } from '../base/errors.js';
import { tableArgument } from '../base/sql-text.js';

/** What the catalog says of the column that marks deleted rows. */
export interface DeletedMark {
  /** Its type without a modifier; null where no column marks them, or it is gone. */
  readonly deleted_type: string | null;
  /** True where the column is never null, and anything but null means deleted. */
  readonly is_always_deleted: boolean | null;
}

/** PostgreSQL's codes for a text that is no value of a type, or a type that cannot be compared. */
const MISFIT = /^(22|23|42883)/;

/**
 * Makes sure that the column that marks deleted rows can tell them from the others: a column of another type, or one that is never null,
 * would end every life, or none.
 * @throws TidemarkError naming the column, its type and the values
 */
export async function assertMarkFits(source: Database, mapping: DimensionMapping, { deleted_type, is_always_deleted }: DeletedMark): Promise<void> {
  const { source_schema, source_table, deleted_column: column, deleted_values: values } = mapping;
  if (column === null || deleted_type === null) return;
  const name = `${source_schema}.${source_table}`;
  const hint = `say what marks a deleted row: npx tidemark add --update ${tableArgument(source_schema, source_table)} --deleted-column ${column} --deleted-values <value> ...`;
  if (is_always_deleted === true)
    throw new TidemarkError(`every row of ${name} would count as deleted: column ${column} is never null`, { detail: `table=${mapping.dimension_name} column=${column} type=${deleted_type}`, hint });
  if (values === null) return;
  const fault = await misfit(source, deleted_type, values);
  if (fault !== undefined)
    throw new TidemarkError(`the values that mean deleted are none of column ${column} of ${name}: ${fault}`, {
      detail: `table=${mapping.dimension_name} type=${deleted_type} values=${values.join(', ')}`, hint,
    });
}

/** Why these texts cannot be compared with values of a type of the source; undefined where they can. @param type as SQL names it */
export async function misfit(source: Database, type: string, values: readonly string[]): Promise<string | undefined> {
  try {
    await source.unsafe(
      `select (select array_agg(v.value) from json_array_elements_text($1::text::json) as v (value))::${type}[] is null, null::${type} = any (null::${type}[])`,
      [JSON.stringify(values)],
    );
    return undefined;
  } catch (error) {
    if (error instanceof Error && 'code' in error && MISFIT.test(String(error.code))) return error.message;
    throw error;
  }
}
