import type { Database } from '../base/database.js';
import { unlessLocked } from '../base/locked-table.js';
import type { DatabaseSettings } from '../base/settings.js';
import { quoted } from '../base/sql-text.js';
import type { DimensionMapping } from '../batch/mapping.js';

/** Settings of sessions that go from table to table: none of them waits longer than a second for a lock, so that it is known who holds it. */
export const impatient = (source: DatabaseSettings): DatabaseSettings => ({
  ...source,
  limits: { ...source.limits, lock_seconds: 1 },
});

/** Does work that reads a source table. @throws LockedError that says who holds the lock which the work waited for in vain; what `work` throws */
export const whileReading = <T>(
  source: Database,
  { dimension_name: table, source_schema, source_table }: DimensionMapping,
  work: () => Promise<T>,
): Promise<T> =>
  unlessLocked(source, { table, relation: `${quoted(source_schema)}.${quoted(source_table)}`, use: 'read' }, work);
