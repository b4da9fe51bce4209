import type { Database } from '../base/database.js';
import { asJson, daysAgo, perform, type Texts } from './call.js';

/** A row of a view of indicators, by its columns; the view says what they are. */
export type Indicators = Readonly<Record<string, string | number | null>>;

/**
 * What the views of indicators have: kpis of each dimension, and of all together where dimension_name is null, over the window the warehouse is set
 * to; resource_kpis, what each run that is alive uses of its machine; connection_kpis, sessions of the warehouse server, one row.
 */
export const indicators = async (
  warehouse: Database,
  view: 'kpis' | 'resource_kpis' | 'connection_kpis',
): Promise<Indicators[]> => warehouse<Indicators[]>`select * from ${warehouse(`tidemark.${view}`)}`;

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

/** Notes how checks ended, for the alert on violations. */
export async function noteChecks(
  warehouse: Database,
  results: readonly { suite: string; check: string; violations: number }[],
): Promise<void> {
  const noted = results.map(({ suite, check, violations }) => ({ suite, check, violations }));
  await perform(warehouse, 'note_checks', { results: asJson(JSON.stringify(noted)), now: daysAgo(0) });
}

/** Notes what a comparison of source and history found, for missing_change_rate. */
export async function noteReconciliation(
  warehouse: Database,
  found: Readonly<Record<'source_rows' | 'missing' | 'extra' | 'different' | 'repaired', number> & { table: string }>,
): Promise<void> {
  const { table, source_rows, missing, extra, different, repaired } = found;
  const counts = { source_rows, missing, extra, different, repaired };
  await perform(warehouse, 'note_reconciliation', { dimension_name: table, ...counts, reconciled_at: daysAgo(0) });
}
