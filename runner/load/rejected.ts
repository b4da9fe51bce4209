import { withDatabase, type Database, type Transaction } from '../base/database.js';
import { UsageError } from '../base/errors.js';
import { counted, cutShort, formatRows } from '../base/text-table.js';
import type { Counted } from '../warehouse/batches.js';
import { asNumbers, dimensionMappings, dismissRejected, retryRejected } from '../warehouse/functions.js';
import { countRejected, rejectedChanges } from '../warehouse/rejected.js';
import type { ChosenRejected, RejectedChange, RejectedState } from '../warehouse/rejected.js';
import { eachTable, selectUnpaused, selectTables, type Selection } from '../run/each-table.js';

export interface RetryReport extends Readonly<Record<Counted, number>> {
  readonly table: string;
  /** How many were tried; those still rejected are counted as such. */
  readonly tried: number;
  /** Of those still rejected: how many a later change of their key has settled. */
  readonly settled: number;
  /** The first of those that wait. */
  readonly remaining: readonly RejectedChange[];
}

export interface RejectedReport {
  readonly table: string;
  readonly total: number;
  /** The first of them. */
  readonly changes: readonly RejectedChange[];
}

const SHOWN_REMAINING = 5;
const LONGEST_VALUE = 40;

/** Tries the rejected changes of the selected tables again, a transaction a table. A table that fails stops no other. */
export async function retryTables({ settings, tables }: Selection): Promise<RetryReport[]> {
  return withDatabase(settings.warehouse, 'load', async (warehouse) => {
    const selected = selectUnpaused(await dimensionMappings(warehouse), tables);
    return eachTable(settings.warehouse, selected, ({ dimension_name: table }) => retryTable(warehouse, table));
  });
}

/** Tries the rejected changes of one table again, within a transaction where it is given one. */
export async function retryTable(warehouse: Database | Transaction, table: string): Promise<RetryReport> {
  const tried = (await countRejected(warehouse, table, 'waiting')) + (await countRejected(warehouse, table, 'settled'));
  const counts = asNumbers(await retryRejected(warehouse, table));
  const settled = await countRejected(warehouse, table, 'settled');
  const remaining = await rejectedChanges(warehouse, table, 'waiting', SHOWN_REMAINING);
  return { table, tried, ...counts, settled, remaining };
}

/** The rejected changes of the selected tables, at most `limit` a table. */
export async function listRejected(
  { settings, tables }: Selection,
  state: RejectedState,
  limit: number,
): Promise<RejectedReport[]> {
  return withDatabase(settings.warehouse, 'rejected', async (warehouse) => {
    const selected = selectTables(await dimensionMappings(warehouse), tables);
    return eachTable(settings.warehouse, selected, async ({ dimension_name: table }) => ({
      table,
      total: await countRejected(warehouse, table, state),
      changes: await rejectedChanges(warehouse, table, state, limit),
    }));
  });
}

/**
 * Dismisses rejected changes of the selected tables, or, where no reason is given, lets them wait again.
 * @returns how many there were, of each table that has any
 * @throws UsageError where none has
 */
export async function dismiss(
  { settings, tables }: Selection,
  { batch, line, column, fault }: ChosenRejected,
  reason: string | undefined,
): Promise<{ table: string; changes: number }[]> {
  return withDatabase(settings.warehouse, 'rejected', async (warehouse) => {
    const selected = selectTables(await dimensionMappings(warehouse), tables);
    const found = await eachTable(
      settings.warehouse,
      selected,
      async ({ dimension_name: table }) => ({
        table,
        changes: Number(await dismissRejected(warehouse, table, batch, line, column, fault, reason)),
      }),
      (done) => done.filter(({ changes }) => changes > 0),
    );
    if (found.length === 0)
      throw new UsageError('there is no such rejected change', {
        hint: 'npx tidemark rejected lists them by batch and line; --state dismissed those that were dismissed',
      });
    return found;
  });
}

const NEXT_STEP =
  'remove the cause, then: npx tidemark load --retry-rejected; where history need not have it: npx tidemark rejected dismiss --batch <batch> --line <line> --reason "..."';

export function formatRetry(report: RetryReport): string {
  const { table, remaining, settled, rejected_changes: left } = report;
  const summary =
    `${table}: ${counted(report.tried, 'rejected change')} tried again, ${counted(report.inserted_versions, 'version')} opened, ` +
    `${counted(report.absorbed_changes, 'change')} absorbed, ${counted(report.corrected_versions, 'version')} corrected, ${left} still rejected${settled === 0 ? '' : `, ${settled} of them settled by later changes`}`;
  if (remaining.length === 0) return summary;
  const lines = remaining.map(
    ({ batch_id, change_line, business_key, reason }) => `  ${batch_id}:${change_line} ${business_key ?? ''} ${reason}`,
  );
  const more =
    left - settled > remaining.length
      ? [`  and ${left - settled - remaining.length} more: npx tidemark rejected --table ${table}`]
      : [];
  return [summary, ...lines, ...more, `  ${NEXT_STEP}`].join('\n');
}

/** One line a change: where it is, its key, and what is wrong with it. */
export function formatRejected(reports: readonly RejectedReport[], state: RejectedState): string {
  const total = reports.reduce((sum, report) => sum + report.total, 0);
  const { none, named, next } = WORDS[state];
  if (total === 0) return none;
  const shown = reports.flatMap(({ changes }) => changes);
  const rows = shown.map((each) => ({
    table: each.table,
    batch_id: each.batch_id,
    line: each.change_line,
    key: each.business_key,
    column: each.column,
    value: cutShort(each.value, LONGEST_VALUE),
    reason: each.reason,
    ...(state === 'settled' ? { settled_by: each.settled_by } : {}),
    ...(state === 'dismissed' ? { dismissed_by: each.dismissed_by, because: each.dismiss_reason } : {}),
  }));
  const more = total > shown.length ? `, the first ${shown.length} are shown (--limit)` : '';
  return `${formatRows(rows)}\n\n${counted(total, 'change')} ${named}${more}; ${next}`;
}

const WORDS = {
  waiting: { none: 'no change is rejected', named: 'rejected', next: NEXT_STEP },
  settled: {
    none: 'no change is settled',
    named: 'settled by a later change of the key',
    next: 'history lacks what they said; if the cause is gone: npx tidemark load --retry-rejected',
  },
  dismissed: {
    none: 'no change was dismissed',
    named: 'dismissed',
    next: 'to let one wait again: npx tidemark rejected restore --batch <batch> --line <line>',
  },
} as const;
