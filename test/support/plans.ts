import { expect, vi } from 'vitest';
import type { Database } from '../../runner/base/database.js';
import { logger } from '../../runner/base/logger.js';
import { apply, rolledBack, type TestTransaction } from './batches.js';

/** A node of a plan, as PostgreSQL explains it in JSON. */
export interface Node {
  readonly 'Node Type': string;
  readonly 'Relation Name'?: string;
  readonly 'Index Name'?: string;
  readonly 'Actual Rows'?: number;
  readonly 'Rows Removed by Join Filter'?: number;
  readonly 'Sort Key'?: readonly string[];
  readonly 'Group Key'?: readonly string[];
  readonly Plans?: readonly Node[];
}

export const nodes = (node: Node): Node[] => [node, ...(node.Plans ?? []).flatMap(nodes)];

/** Applies a batch, explains the statement by which its history function did it, and rolls it back. */
export const explain = (session: Database, document: string): Promise<Node[]> =>
  explainWithin(session, 'with change as', (transaction) => apply(transaction, document));

/** Does something, explains the one statement with such a beginning that a function does meanwhile, and rolls it back. */
export async function explainWithin(
  session: Database,
  beginning: string,
  work: (transaction: TestTransaction) => Promise<unknown>,
): Promise<Node[]> {
  const notices = vi.spyOn(logger, 'debug');
  try {
    await rolledBack(session, async (transaction) => {
      await transaction.unsafe(`
        load 'auto_explain';
        set local auto_explain.log_min_duration = 0;
        set local auto_explain.log_analyze = on;
        set local auto_explain.log_timing = off;
        set local auto_explain.log_nested_statements = on;
        set local auto_explain.log_format = json;
        set local client_min_messages = log`);
      await work(transaction);
    });
    const plans = notices.mock.calls
      .map(([, message]) => String(message).replace(/^duration: .* plan:\n/, ''))
      .filter((message) => message.startsWith('{'))
      .map((message) => JSON.parse(message) as { 'Query Text': string; Plan: Node })
      .filter((plan) => plan['Query Text'].startsWith(beginning));
    expect(plans).toHaveLength(1);
    return plans.flatMap(({ Plan }) => nodes(Plan));
  } finally {
    notices.mockRestore();
  }
}

/** That every table is looked up by key, and none of them read through; the partitions of the history neither. */
export function expectLookUps(plan: readonly Node[], history = 'dim_orders_history'): void {
  const scans = plan.filter(
    (node) => node['Relation Name']?.startsWith(history) === true && node['Node Type'] !== 'ModifyTable',
  );
  expect(scans.length).toBeGreaterThan(1);
  expect(
    scans
      .map((node) => node['Node Type'])
      .filter((type) => !['Index Scan', 'Index Only Scan', 'Bitmap Heap Scan'].includes(type)),
  ).toEqual([]);
  expect(Math.max(...scans.map((node) => node['Actual Rows'] ?? 0))).toBeLessThan(4);
  expect(
    plan.filter(
      (node) =>
        node['Node Type'] === 'Seq Scan' &&
        ['absorbed_changes', 'batches', 'first_values'].includes(node['Relation Name'] ?? '') &&
        (node['Actual Rows'] ?? 0) > 3,
    ),
  ).toEqual([]);
}
