import { withDatabase, type Database, type Transaction } from '../base/database.js';
import { UsageError } from '../base/errors.js';
import { counted, formatRows } from '../base/text-table.js';
import { countsOf, type Counts } from './chain.js';
import { dimensionMappings } from '../warehouse/batches.js';
import {
  countRejected,
  dismissRejected,
  rejectedChanges,
  retryRejected,
  tablesWithRejected,
  type RejectedChange,
  type RejectedState,
} from '../warehouse/rejected.js';
import { eachTable, selectUnpaused, selectTables, type Selection } from '../run/each-table.js';

export interface RetryReport extends Readonly<Counts> {
  readonly table: string;
  /** How many were tried; those still rejected are counted as such. */
  readonly tried: number;
  /** The first of those that are still rejected. */
  readonly remaining: readonly RejectedChange[];
}

export interface RejectedReport {
  readonly table: string;
  readonly total: number;
  /** The first of them. */
  readonly changes: readonly RejectedChange[];
}

/** A rejected change by its place. */
export interface RejectedPlace {
  readonly batch_id: string;
  readonly change_line: number;
}

const SHOWN_REMAINING = 5;

/** Tries the rejected changes of the selected tables again, a transaction a table. A table that fails stops no other. */
export async function retryTables({ settings, tables }: Selection): Promise<RetryReport[]> {
  return withDatabase(settings.warehouse, 'load', async (warehouse) => {
    const selected = selectUnpaused(await dimensionMappings(warehouse), tables);
    return eachTable(selected, ({ dimension_name: table }) => retryTable(warehouse, table));
  });
}

/** Tries the rejected changes of one table again, within a transaction where it is given one. */
export async function retryTable(warehouse: Database | Transaction, table: string): Promise<RetryReport> {
  const tried = await countRejected(warehouse, table, 'waiting');
  const counts = countsOf(await retryRejected(warehouse, table));
  return { table, tried, ...counts, remaining: await rejectedChanges(warehouse, table, 'waiting', SHOWN_REMAINING) };
}

/** The rejected changes of the selected tables, at most `limit` a table. */
export async function listRejected(
  { settings, tables }: Selection,
  state: RejectedState,
  limit: number,
): Promise<RejectedReport[]> {
  return withDatabase(settings.warehouse, 'rejected', async (warehouse) => {
    const selected = selectTables(await dimensionMappings(warehouse), tables);
    return eachTable(selected, async ({ dimension_name: table }) => ({
      table,
      total: await countRejected(warehouse, table, state),
      changes: await rejectedChanges(warehouse, table, state, limit),
    }));
  });
}

/**
 * Dismisses a rejected change, or, where no reason is given, lets it wait again.
 * @param tables in which to look; all where empty
 * @returns the table that has it
 * @throws UsageError where none has such a change, or several have; TidemarkError TM012 from the warehouse
 */
export async function dismiss(
  { settings, tables }: Selection,
  { batch_id, change_line }: RejectedPlace,
  reason: string | null,
): Promise<string> {
  return withDatabase(settings.warehouse, 'rejected', async (warehouse) => {
    const known = selectTables(await dimensionMappings(warehouse), tables).map(({ dimension_name }) => dimension_name);
    const found = (await tablesWithRejected(warehouse, batch_id, change_line)).filter((table) => known.includes(table));
    const [only] = found;
    const place = `${batch_id}:${String(change_line)}`;
    if (only === undefined)
      throw new UsageError(`no rejected change is at ${place}`, {
        hint: 'npx tidemark rejected lists them by batch and line; --dismissed those that were dismissed',
      });
    if (found.length > 1)
      throw new UsageError(`several tables have a rejected change at ${place}: ${found.join(', ')}`, {
        hint: 'say which with --table',
      });
    await dismissRejected(warehouse, only, batch_id, change_line, reason);
    return only;
  });
}

const NEXT_STEP =
  'remove the cause, then: npx tidemark load --retry-rejected; where history need not have it: npx tidemark rejected --dismiss <batch>:<line> --reason "..."';

export function formatRetry(report: RetryReport): string {
  const { table, remaining, rejected_changes: left } = report;
  const summary =
    `${table}: ${counted(report.tried, 'rejected change')} tried again, ${counted(report.inserted_versions, 'version')} opened, ` +
    `${counted(report.absorbed_changes, 'change')} absorbed, ${counted(report.corrected_versions, 'version')} corrected, ${String(left)} still rejected`;
  if (remaining.length === 0) return summary;
  const lines = remaining.map(
    ({ batch_id, change_line, business_key, reason }) =>
      `  ${batch_id}:${String(change_line)} ${business_key ?? ''} ${reason}`,
  );
  const more =
    left > remaining.length
      ? [`  and ${String(left - remaining.length)} more: npx tidemark rejected --table ${table}`]
      : [];
  return [summary, ...lines, ...more, `  ${NEXT_STEP}`].join('\n');
}

/** One line a change: where it is, its key, and what is wrong with it. */
export function formatRejected(reports: readonly RejectedReport[], state: RejectedState): string {
  const total = reports.reduce((sum, report) => sum + report.total, 0);
  if (total === 0) return state === 'waiting' ? 'no change is rejected' : 'no change was dismissed';
  const shown = reports.flatMap(({ changes }) => changes);
  const rows = shown.map(
    ({ table, batch_id, change_line, business_key, column, value, reason, dismissed_by, dismiss_reason }) => ({
      table,
      batch_id,
      line: change_line,
      key: business_key,
      column,
      value: shorten(value),
      reason,
      ...(state === 'dismissed' ? { dismissed_by, because: dismiss_reason } : {}),
    }),
  );
  const more = total > shown.length ? `, the first ${String(shown.length)} are shown (--limit)` : '';
  const next =
    state === 'waiting' ? NEXT_STEP : 'to let one wait again: npx tidemark rejected --restore <batch>:<line>';
  return `${formatRows(rows)}\n\n${counted(total, 'change')} ${state === 'waiting' ? 'rejected' : 'dismissed'}${more}; ${next}`;
}

const LONGEST_VALUE = 40;
const shorten = (value: string | null) =>
  value === null || value.length <= LONGEST_VALUE ? value : `${value.slice(0, LONGEST_VALUE)}...`;
