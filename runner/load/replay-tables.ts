import type { Settings } from '../base/settings.js';
import { withDatabase } from '../base/database.js';
import { eachTable, selectTables } from '../extract/tables.js';
import { startProgress } from '../run/progress.js';
import { rebuildTable, verifyTable, type RebuildResult, type Replaying, type VerifyResult } from './replay.js';
import { dimensionMappings } from '../warehouse/batches.js';
import { dimensionList } from '../warehouse/dimensions.js';

/** Verifies the change logs of the selected tables, paused ones too; all where none is named. */
export const verifyTables = (settings: Settings, tables: readonly string[]): Promise<VerifyResult[]> => replayTables(settings, tables, 'verify-log', verifyTable);

/** Rebuilds the histories of the selected tables. A table that fails stops no other. */
export const rebuildTables = (settings: Settings, tables: readonly string[]): Promise<RebuildResult[]> => replayTables(settings, tables, 'rebuild', rebuildTable);

function replayTables<T>(settings: Settings, tables: readonly string[], what: string, work: (replaying: Replaying) => Promise<T>): Promise<T[]> {
  return withDatabase(settings.warehouse, what, async (warehouse) => {
    const selected = selectTables(await dimensionMappings(warehouse), tables);
    const batches = new Map((await dimensionList(warehouse)).map((listed) => [listed.dimension_name, Number(listed.batches)]));
    return eachTable(selected, async ({ dimension_name: table }) => {
      const progress = startProgress(`${what} ${table} (batches)`, batches.get(table));
      try {
        return await work({ warehouse, settings, table, onBatch: () => { progress.advance(1); } });
      } finally {
        progress.stop();
      }
    });
  });
}
