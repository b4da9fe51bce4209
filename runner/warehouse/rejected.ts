import type { Texts, TextsOrNull, Warehouse } from './call.js';

/** A change that was set aside because it cannot be applied. */
export interface RejectedChange
  extends Texts<'table' | 'batch_id' | 'reason' | 'rejected_at'>,
    // The later change of its key that settled it; when, by whom and why it was dismissed.
    TextsOrNull<
      'business_key' | 'column' | 'value' | 'settled_by' | 'dismissed_at' | 'dismissed_by' | 'dismiss_reason'
    > {
  readonly change_line: number;
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
  const [{ count }] = await warehouse<[{ count: string }]>`
    select count(*) from tidemark.rejected_changes where dimension_name = ${table} and ${inState(warehouse, state)}`;
  return Number(count);
}
