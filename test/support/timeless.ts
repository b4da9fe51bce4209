import type { Settings } from '../../runner/base/settings.js';
import { extractTables } from '../../runner/extract/tables.js';
import { loadTables } from '../../runner/load/tables.js';
import { reconcileTables } from '../../runner/reconcile/tables.js';
import type { Registration } from '../../runner/registration/plan.js';
import type { TestPipeline } from './databases.js';
import { quoted } from '../../runner/base/sql-text.js';

/** Extracts and loads a table; with `repairs` what was deleted is found too. */
export async function loadAll(settings: Settings, table: string, repairs = false): Promise<void> {
  await extractTables({ settings, tables: [table] });
  await loadTables({ settings, tables: [table] });
  if (repairs) await reconcileTables({ settings, tables: [table], repair: true, allowDeletes: true });
}

/** The rows of a registered table, and its versions in force, as texts of the columns that history keeps. */
export async function sourceAndHistory(
  { source, warehouse }: TestPipeline,
  { columns, name, table }: Registration,
): Promise<{ source: string[]; history: string[] }> {
  const kept = columns.filter(({ type }) => type !== undefined);
  const read = async (sql: TestPipeline['source'], names: readonly string[], from: string) => {
    const rows = await sql.unsafe<{ line: string }[]>(
      `select array[${names.map((each) => `${quoted(each)}::text`).join(', ')}]::text as line from ${from} order by 1`,
    );
    return rows.map(({ line }) => line);
  };
  return {
    source: await read(
      source,
      kept.map((column) => column.source),
      quoted(table.table),
    ),
    history: await read(
      warehouse,
      kept.map((column) => column.history),
      `dim_${name}_current`,
    ),
  };
}
