import { type Database, type Transaction, withDatabase } from '../base/database.js';
import type { Settings } from '../base/settings.js';
import { counted, formatRows } from '../base/text-table.js';
import { inTransaction, rolledBack } from '../base/transaction.js';
import { formatEffects, SHOWN_ROWS } from '../load/dry-run.js';
import { selectTables } from '../run/each-table.js';
import { type LedgerBatch, ledgerBatches } from '../warehouse/batches.js';
import * as functions from '../warehouse/functions.js';

/** What taking a batch out of history, or bringing it back, did to that, or would do. */
export interface MovedBatch
  extends Readonly<
    Record<'changes' | 'removed_versions' | 'opened_versions' | 'closed_versions' | 'corrected_versions', number> & {
      table: string;
      batch: string;
    }
  > {
  /** Whether it was so already: nothing was done. */
  readonly is_so_already: boolean;
  /** Of a dry run: the first rows of each kind. */
  readonly effects?: readonly functions.Effect[];
}

type Move = (session: Transaction) => Promise<Omit<MovedBatch, 'table' | 'batch' | 'effects'>>;

/** Takes a batch out of the history of a table, in one transaction. A dry run does the same, asks what became of it, and rolls back. */
export const retract = (
  settings: Settings,
  table: string,
  batch: string,
  reason: string,
  isDryRun: boolean,
): Promise<MovedBatch> =>
  move(settings, table, batch, isDryRun, async (session) => {
    const { already_retracted: is_so_already, ...found } = await functions.retractBatch(session, table, batch, reason);
    const { retracted_changes: changes, ...versions } = functions.asNumbers(found);
    return { changes, ...versions, is_so_already };
  });

/** Brings a batch back that was taken out, likewise. */
export const restore = (settings: Settings, table: string, batch: string, isDryRun: boolean): Promise<MovedBatch> =>
  move(settings, table, batch, isDryRun, async (session) => {
    const { already_restored: is_so_already, ...found } = await functions.restoreBatch(session, table, batch);
    const { restored_changes: changes, ...versions } = functions.asNumbers(found);
    return { changes, removed_versions: 0, ...versions, is_so_already };
  });

const withTable = <T>(settings: Settings, table: string, work: (warehouse: Database) => Promise<T>): Promise<T> =>
  withDatabase(settings.warehouse, 'batch', async (warehouse) => {
    selectTables(await functions.dimensionMappings(warehouse), [table]);
    return work(warehouse);
  });

function move(settings: Settings, table: string, batch: string, isDryRun: boolean, work: Move): Promise<MovedBatch> {
  return withTable(settings, table, (warehouse) =>
    isDryRun
      ? rolledBack(warehouse, async (session) => {
          const moved = await work(session);
          return { table, batch, ...moved, effects: await functions.transactionEffects(session, table, SHOWN_ROWS) };
        })
      : inTransaction(warehouse, 'isolation level read committed', async (session) => ({
          ...{ table, batch },
          ...(await work(session)),
        })),
  );
}

/** The newest batches of a table, or those that are out. */
export const listBatches = (
  settings: Settings,
  table: string,
  onlyRetracted: boolean,
  limit: number,
): Promise<LedgerBatch[]> =>
  withTable(settings, table, (warehouse) => ledgerBatches(warehouse, table, onlyRetracted, limit));

export function formatMoved(moved: MovedBatch, what: 'retract' | 'restore'): string {
  const { table, batch, is_so_already, effects } = moved;
  if (is_so_already) return `${table}: ${batch} is ${what === 'retract' ? 'out of' : 'in'} history already`;
  const done = {
    retract: ['taken out of', 'would be taken out of'],
    restore: ['back in', 'would be back in'],
  } as const;
  const versions =
    what === 'retract'
      ? `${counted(moved.removed_versions, 'version')} removed, ${moved.opened_versions} opened`
      : `${counted(moved.opened_versions, 'version')} opened`;
  const said =
    `${table}: ${counted(moved.changes, 'change')} of ${batch} ${done[what][effects === undefined ? 0 : 1]} history: ` +
    `${versions}, ${moved.closed_versions} closed, ${moved.corrected_versions} corrected`;
  if (effects !== undefined) return `${said}\n${formatEffects(effects)}`;
  return what === 'restore' ? said : `${said}\n  to bring it back: npx tidemark batch restore ${table} ${batch}`;
}

export function formatBatches(batches: readonly LedgerBatch[], table: string, onlyRetracted: boolean): string {
  if (batches.length === 0)
    return onlyRetracted ? `no batch of ${table} is retracted` : `no batch of ${table} is loaded`;
  const columns = Object.keys(batches[0] ?? {});
  const isAny = (column: string) => batches.some((one) => one[column as keyof LedgerBatch] !== null);
  return formatRows(batches, columns.filter(isAny));
}
