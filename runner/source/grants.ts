import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { PROJECT_ROOT } from '../base/settings.js';
import type { DimensionMapping } from '../batch/metadata.js';
import type { Database } from '../base/database.js';

const GRANTS = path.join(PROJECT_ROOT, 'sql', 'source', 'grant_statements.sql');

/** The statements that make the role which may read the registered tables of a source and nothing else. */
export async function sourceGrants(source: Database, role: string, mappings: readonly DimensionMapping[]): Promise<string[]> {
  const tables = mappings.map(({ source_schema, source_table }) => ({ source_schema, source_table }));
  const rows = await source.unsafe<{ line: string }[]>(await readFile(GRANTS, 'utf8'), [role, JSON.stringify(tables)]);
  return rows.map(({ line }) => line);
}
