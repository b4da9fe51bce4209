import { inTransaction } from '../base/transaction.js';
import type { ApplyResult } from './batches.js';
import { callForRow, callForValue, type Texts, type Warehouse } from './call.js';

/** Counts of rejected changes that were tried again. */
export type RetryResult = Omit<ApplyResult, 'already_applied'>;

/** A change that was set aside because it cannot be applied. */
export interface RejectedChange extends Texts<'table' | 'batch_id' | 'reason' | 'rejected_at'> {
  readonly change_line: number;
  readonly business_key: string | null;
  readonly column: string | null;
  readonly value: string | null;
  /** The later change of its key that settled it; null where none did. */
  readonly settled_by: string | null;
  /** When, by whom and why it was dismissed; null where it was not. */
  readonly dismissed_at: string | null;
  readonly dismissed_by: string | null;
  readonly dismiss_reason: string | null;
  readonly change: unknown;
}

/** What becomes of a rejected change: it waits, a later change of its key settles it, or somebody dismisses it. */
export const REJECTED_STATES = ['waiting', 'settled', 'dismissed'] as const;
export type RejectedState = (typeof REJECTED_STATES)[number];

/** Which rejected changes of a table are meant; what is not given is any. */
export interface ChosenRejected {
  readonly batch?: string | undefined;
  readonly line?: number | undefined;
  readonly column?: string | undefined;
  /** A text within the reason of the rejection. */
  readonly fault?: string | undefined;
}

/** Tries the rejected changes of a table again, in a transaction of its own where it is not given one. */
export async function retryRejected(warehouse: Warehouse, table: string): Promise<RetryResult> {
  if ('begin' in warehouse)
    return inTransaction(warehouse, 'isolation level read committed', (session) => retryRejected(session, table));
  return callForRow(warehouse, 'retry_rejected', { dimension_name: table });
}

const inState = (warehouse: Warehouse, state: RejectedState) => warehouse`
  case when dismissed_at is not null then 'dismissed' when settled_at is not null then 'settled' else 'waiting' end = ${state}`;

/** The changes of a table that were set aside, oldest batch first; at most `limit`. */
export async function rejectedChanges(
  warehouse: Warehouse,
  table: string,
  state: RejectedState,
  limit: number,
): Promise<RejectedChange[]> {
  return warehouse<RejectedChange[]>`
    select dimension_name as table, batch_id, change_line, business_key, column_name as column, value, reason, rejected_at,
      settled_by_batch || ':' || settled_by_line as settled_by, dismissed_at, dismissed_by, dismiss_reason, change
    from tidemark.rejected_changes where dimension_name = ${table} and ${inState(warehouse, state)}
    order by batch_id, rejected_changes.change_line limit ${limit}`;
}

/** How many changes of a table were set aside. */
export async function countRejected(warehouse: Warehouse, table: string, state: RejectedState): Promise<number> {
  const [row] = await warehouse<[{ count: string }]>`
    select count(*) from tidemark.rejected_changes where dimension_name = ${table} and ${inState(warehouse, state)}`;
  return Number(row.count);
}

/** Dismisses rejected changes; without a reason they wait again. Returns how many there were. */
export const dismissRejected = async (
  warehouse: Warehouse,
  table: string,
  { batch, line, column, fault }: ChosenRejected,
  reason: string | null,
): Promise<number> =>
  Number(
    await callForValue<string>(warehouse, 'dismiss_rejected', {
      dimension_name: table,
      batch_id: batch ?? null,
      change_line: line ?? null,
      reason,
      column_name: column ?? null,
      fault: fault ?? null,
    }),
  );
