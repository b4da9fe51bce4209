import type { Database } from '../base/database.js';
import { inTransaction } from '../base/transaction.js';
import type { ApplyResult } from './batches.js';
import { callForRow, perform, type Texts, type Warehouse } from './call.js';

/** Counts of rejected changes that were tried again. */
export type RetryResult = Omit<ApplyResult, 'already_applied'>;

/** A change that was set aside because it cannot be applied. */
export interface RejectedChange extends Texts<'table' | 'batch_id' | 'reason' | 'rejected_at'> {
  readonly change_line: number;
  readonly business_key: string | null;
  readonly column: string | null;
  readonly value: string | null;
  /** When, by whom and why it was dismissed; null while it waits. */
  readonly dismissed_at: string | null;
  readonly dismissed_by: string | null;
  readonly dismiss_reason: string | null;
  readonly change: unknown;
}

/** Which of a table's rejected changes: those that wait, or those that were dismissed. */
export type RejectedState = 'waiting' | 'dismissed';

/** Tries the rejected changes of a table again, in a transaction of its own where it is not given one. */
export async function retryRejected(warehouse: Warehouse, table: string): Promise<RetryResult> {
  if ('begin' in warehouse)
    return inTransaction(warehouse, 'isolation level read committed', (session) => retryRejected(session, table));
  return callForRow(warehouse, 'retry_rejected', { dimension_name: table });
}

/** The changes of a table that were set aside, oldest batch first; at most `limit`. */
export async function rejectedChanges(
  warehouse: Warehouse,
  table: string,
  state: RejectedState,
  limit: number,
): Promise<RejectedChange[]> {
  return warehouse<RejectedChange[]>`
    select dimension_name as table, batch_id, change_line, business_key, column_name as column, value, reason, rejected_at,
      dismissed_at, dismissed_by, dismiss_reason, change
    from tidemark.rejected_changes where dimension_name = ${table} and (dismissed_at is not null) = ${state === 'dismissed'}
    order by batch_id, rejected_changes.change_line limit ${limit}`;
}

/** How many changes of a table were set aside. */
export async function countRejected(warehouse: Warehouse, table: string, state: RejectedState): Promise<number> {
  const [row] = await warehouse<[{ count: string }]>`
    select count(*) from tidemark.rejected_changes where dimension_name = ${table} and (dismissed_at is not null) = ${state === 'dismissed'}`;
  return Number(row.count);
}

/** Which tables have a rejected change in that place, waiting or dismissed. */
export async function tablesWithRejected(warehouse: Database, batchId: string, line: number): Promise<string[]> {
  const rows = await warehouse<{ table: string }[]>`
    select distinct dimension_name as table from tidemark.rejected_changes where batch_id = ${batchId} and change_line = ${line} order by 1`;
  return rows.map(({ table }) => table);
}

/** Dismisses a rejected change; without a reason it waits again. */
export const dismissRejected = (
  warehouse: Database,
  table: string,
  batchId: string,
  line: number,
  reason: string | null,
): Promise<void> =>
  perform(warehouse, 'dismiss_rejected', { dimension_name: table, batch_id: batchId, change_line: line, reason });
