import type { Database } from '../base/database.js';
import { asJson, daysAgo, perform } from './call.js';

/** A row of a view of indicators, by its columns; the view says what they are. */
export type Indicators = Readonly<Record<string, string | number | null>>;

/** The indicators of each dimension, and of all together where dimension_name is null, over the window the warehouse is set to (sql/views/kpis.sql). */
export const kpis = async (warehouse: Database): Promise<Indicators[]> =>
  warehouse<Indicators[]>`select * from tidemark.kpis`;

/** What each run that is alive uses of its machine. */
export const resourceKpis = async (warehouse: Database): Promise<Indicators[]> =>
  warehouse<Indicators[]>`select * from tidemark.resource_kpis`;

/** Sessions of the warehouse server: one row. */
export const connectionKpis = async (warehouse: Database): Promise<Indicators[]> =>
  warehouse<Indicators[]>`select * from tidemark.connection_kpis`;

export interface Alert {
  readonly rule_name: string;
  readonly dimension_name: string | null;
  readonly severity: 'info' | 'warning' | 'critical';
  readonly condition: string;
  readonly measured: number;
  readonly since: string | null;
  readonly subject: string | null;
  readonly meaning: string;
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
export const noteReconciliation = (
  warehouse: Database,
  {
    table,
    source_rows,
    missing,
    extra,
    different,
    repaired,
  }: Readonly<{
    table: string;
    source_rows: number;
    missing: number;
    extra: number;
    different: number;
    repaired: number;
  }>,
): Promise<void> =>
  perform(warehouse, 'note_reconciliation', {
    dimension_name: table,
    source_rows,
    missing,
    extra,
    different,
    repaired,
    reconciled_at: daysAgo(0),
  });
