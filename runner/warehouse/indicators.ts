import type { Database } from '../base/database.js';
import { daysAgo, perform, type Texts } from './call.js';

/** A sample for Prometheus: its name without tidemark_ before it, and what it says; null is no sample. */
export interface Sample extends Texts<'metric' | 'meaning'> {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number | null;
}

/** The indicators and alerts of now. */
export const samples = async (warehouse: Database): Promise<Sample[]> =>
  warehouse<Sample[]>`select * from tidemark.metrics`;

export interface Alert extends Texts<'rule_name' | 'condition' | 'meaning'> {
  readonly severity: 'info' | 'warning' | 'critical';
  readonly dimension_name: string | null;
  readonly measured: number;
  readonly since: string | null;
  readonly subject: string | null;
}

/** The alerts that are on, the gravest first. */
export const alerts = async (warehouse: Database): Promise<Alert[]> =>
  warehouse<Alert[]>`select * from tidemark.alerts`;

/** Notes what a comparison of source and history found, for missing_change_rate. */
export async function noteReconciliation(
  warehouse: Database,
  found: Readonly<Record<'source_rows' | 'missing' | 'extra' | 'different' | 'repaired', number> & { table: string }>,
): Promise<void> {
  const { table, source_rows, missing, extra, different, repaired } = found;
  const counts = { source_rows, missing, extra, different, repaired };
  await perform(warehouse, 'note_reconciliation', { dimension_name: table, ...counts, reconciled_at: daysAgo(0) });
}
