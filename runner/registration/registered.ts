import path from 'node:path';
import { batchFiles, changeLogOf, setAsideChangeLog } from '../change-log/chain.js';
import { rememberMappings } from '../change-log/known-mappings.js';
import type { Settings } from '../base/settings.js';
import { withDatabase, type Database } from '../base/database.js';
import * as functions from '../warehouse/functions.js';
import { batchNameOf } from '../batch/name.js';
import { selectTables } from '../run/each-table.js';
import { exportNotes, placeOfExport } from '../warehouse/exports.js';

/** Every registered table and where it stands. */
export const listTables = (settings: Settings): ReturnType<typeof functions.dimensionList> =>
  withDatabase(settings.warehouse, 'table', functions.dimensionList);

/** Works on a table in the warehouse. @throws UsageError if none of that name is registered */
const withTable = <T>(settings: Settings, table: string, work: (warehouse: Database) => Promise<T>): Promise<T> =>
  withDatabase(settings.warehouse, 'table', async (warehouse) => {
    selectTables(await functions.dimensionMappings(warehouse), [table]);
    return work(warehouse);
  });

/** Pauses a table, or lets it go on. @throws UsageError if no table of that name is registered */
export const pauseTable = (
  settings: Settings,
  table: string,
  isPaused: boolean,
  reason: string | undefined,
): Promise<boolean> =>
  withTable(settings, table, (warehouse) => functions.pauseDimension(warehouse, table, isPaused, reason));

/**
 * Makes the indexes of a history for browsing by time, while it is loaded, or drops those made so.
 * @returns the statements that did it; none where nothing was to be done
 * @throws UsageError if no table of that name is registered
 */
export const browseTable = (settings: Settings, table: string, isOn: boolean): Promise<readonly string[]> =>
  withTable(settings, table, async (warehouse) => {
    const [indexes] = await functions.browseIndexes(warehouse, table);
    const statements = (isOn ? indexes?.make_statements : indexes?.drop_statements) ?? [];
    for (const statement of statements) await warehouse.unsafe(statement);
    return statements;
  });

export interface RemovedTable {
  readonly table: string;
  readonly history_table: string;
  readonly is_history_dropped: boolean;
  /** Where its change log lies now; undefined where it had none. */
  readonly change_log: string | undefined;
  /** Batches in it that were never loaded: history lacks them. */
  readonly pending_batches: readonly string[];
  /** Where the history was exported to: files there stay, and nobody knows of them from now on. */
  readonly exports: readonly string[];
}

/**
 * Takes a table out of Tidemark. Its history stays unless it is dropped; its change log is set aside under another name, so that
 * a table registered under this one later begins a chain of its own.
 * @throws UsageError if no table of that name is registered; TidemarkError where something else depends on a history to be dropped
 */
export const removeTable = (settings: Settings, table: string, dropHistory: boolean): Promise<RemovedTable> =>
  withTable(settings, table, async (warehouse) => {
    const exports = await exportNotes(warehouse, table);
    const history_table = await functions.removeDimension(warehouse, table, dropHistory);
    const { cdc_log_dir: folder } = settings;
    await rememberMappings(folder, await functions.dimensionMappings(warehouse));
    const change_log = await setAsideChangeLog(folder, table);
    const waiting = change_log === undefined ? [] : await batchFiles(changeLogOf(folder, path.basename(change_log)));
    return {
      table,
      history_table,
      is_history_dropped: dropHistory,
      change_log,
      pending_batches: waiting.map(batchNameOf),
      exports: exports.map(placeOfExport),
    };
  });
