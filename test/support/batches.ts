import type { TransactionSql } from 'postgres';
import { createHash } from 'node:crypto';
import type { Database, Transaction } from '../../runner/base/database.js';
import type { ApplyResult } from '../../runner/warehouse/batches.js';

/** Batch documents for tests, and what the warehouse made of them, in words short enough to compare at a glance. */

export type Change = Readonly<Record<string, unknown>>;

const DAY = '2026-02-01';

/** 09:10 is short for 2026-02-01T09:10:00; anything else stays as it is. */
export const at = (time: string): string =>
  /^\d\d:\d\d/.test(time) ? `${DAY}T${time.length === 5 ? `${time}:00` : time}` : time;

/** One change of an order. The status is what makes it different from another. */
export function change(id: number | null, status: string, time: string, overrides: Change = {}): Change {
  return {
    id,
    customer_id: 101,
    product_id: 201,
    quantity: 2,
    unit_price: 29.99,
    total_amount: 59.98,
    order_status: status,
    order_date: at('09:00'),
    last_updated: at(time),
    created_at: at('09:00'),
    operation_type: 'UPDATE',
    cdc_timestamp: at(time),
    ...overrides,
  };
}

/** A deletion carries its key and no other column. */
export const deletion = (id: number, time: string): Change => ({
  id,
  operation_type: 'DELETE',
  cdc_timestamp: at(time),
});

/** The text of a batch file. A change given as text goes in as it is; `metadata` overrides what is worked out here. */
export function batch(
  batchId: string,
  extractedAt: string,
  changes: readonly (Change | string)[],
  metadata: Change = {},
): string {
  const extracted = `${at(extractedAt)}Z`;
  const lines = changes.map((item) =>
    typeof item === 'string' ? item : JSON.stringify({ ...item, extracted_at: item.extracted_at ?? extracted }),
  );
  const head = {
    batch_id: batchId,
    table: 'orders',
    extracted_at: extracted,
    change_count: changes.length,
    watermark: null,
    checksum: checksum(lines),
    ...metadata,
  };
  return `{"batch_metadata": ${JSON.stringify(head)},\n"changes": [\n${lines.join(',\n')}\n]}\n`;
}

/** The checksum of change lines, as the design defines it. */
export const checksum = (lines: readonly string[]): string =>
  createHash('sha256')
    .update(lines.length === 0 ? '' : `${lines.join(',\n')}\n`)
    .digest('hex');

/** Applies within whatever transaction `sql` stands for. */
export async function apply(sql: Database | Transaction, document: string): Promise<ApplyResult> {
  const [result] = await sql<[ApplyResult]>`select * from tidemark.apply_batch(${document}::text::json)`;
  return result;
}

/** Writes the history functions anew, after a history was altered by hand. */
export async function compile(sql: Database | Transaction, dimension = 'orders'): Promise<void> {
  await sql`select tidemark.compile_dimension(${dimension})`;
}

/** The counts of a batch that was applied, those that are not given being 0. */
export const applied = (counts: Partial<Record<keyof ApplyResult, number>> = {}): Record<string, unknown> => ({
  inserted_versions: '0',
  closed_versions: '0',
  absorbed_changes: '0',
  corrected_versions: '0',
  late_changes: '0',
  rejected_changes: '0',
  ...Object.fromEntries(Object.entries(counts).map(([name, count]) => [name, String(count)])),
  already_applied: false,
});

const ALREADY = { ...applied(), already_applied: true };
export const alreadyApplied = (): Record<string, unknown> => ALREADY;

const brief = (time: string | null) => time?.replace(`${DAY} `, '').replace(/^(\d\d:\d\d):00$/, '$1') ?? '';

/** Every version of every order as `key status [from, to) operation`, in the order of time. An open end is empty. */
export async function versions(sql: Database | Transaction): Promise<string[]> {
  const rows = await sql<
    { order_key: number; order_status: string; valid_from: string; valid_to: string | null; cdc_operation: string }[]
  >`
    select order_key, order_status, valid_from, valid_to, cdc_operation from public.dim_orders_history order by order_key, valid_from`;
  return rows.map(
    (row) =>
      `${String(row.order_key)} ${row.order_status} [${brief(row.valid_from)}, ${brief(row.valid_to)}) ${row.cdc_operation}`,
  );
}

/** Every absorbed change as `batch:line operation key reason`, and for a delete the end of the version it closed. */
export async function absorbed(sql: Database | Transaction): Promise<string[]> {
  const rows = await sql<{ place: string; closed_at: string | null }[]>`
    select format('%s:%s %s %s %s', batch_id, change_line, cdc_operation, business_key, reason) as place, (closed_at at time zone 'UTC') as closed_at
    from tidemark.absorbed_changes order by batch_id, change_line`;
  return rows.map((row) => (row.closed_at === null ? row.place : `${row.place} ${brief(row.closed_at)}`));
}

/** Everything a batch can write, as text: equal before and after means that nothing was written. */
export async function everything(sql: Database | Transaction): Promise<unknown[]> {
  return Promise.all(
    ['public.dim_orders_history', 'tidemark.batches', 'tidemark.absorbed_changes', 'tidemark.rejected_changes'].map(
      (table) => sql.unsafe(`select t::text as row from ${table} as t order by t::text`).then((rows) => [...rows]),
    ),
  );
}

/**
 * Takes the warehouse back to where nothing was ever loaded. Rows are deleted: what is truncated has new files, and the session plans all of
 * apply_batch anew.
 */
export async function empty(sql: Database): Promise<void> {
  const emptied = ['tidemark.batches', 'tidemark.first_values', 'tidemark.changes_known_later', 'tidemark.former_keys'];
  // With what refers to them, which goes first.
  const tables = await sql<{ name: string; sequence: string | null }[]>`
    with recursive emptied (relation, depth) as (
      select c.relation, 0 from unnest(${[...emptied, 'public.pipeline_metadata']}::regclass[]) as c (relation)
      union
      select d.history_relation, 0 from tidemark.dimensions as d
      union
      select k.conrelid, e.depth + 1 from emptied as e join pg_constraint as k on k.confrelid = e.relation and k.contype = 'f')
    select e.relation::text as name, q.objid::regclass::text as sequence
    from emptied as e
    left join pg_depend as q on q.classid = 'pg_class'::regclass and q.refclassid = q.classid and q.refobjid = e.relation and q.deptype in ('i', 'a')
      and exists (select from pg_class as c where c.oid = q.objid and c.relkind = 'S')
    group by 1, 2
    order by max(e.depth) desc`;
  const sequences = tables.flatMap(({ sequence }) => (sequence === null ? [] : [`setval('${sequence}', 1, false)`]));
  await sql.unsafe(`
    ${tables.map(({ name }) => `delete from ${name};`).join(' ')}
    select ${sequences.join(', ')};
    update tidemark.dimension_columns set may_be_missing = false where may_be_missing`);
}

/** The driver's own transaction, which has savepoints. */
export type TestTransaction = TransactionSql<{ date: string }>;

class RolledBack extends Error {}

/** Does `work` in a transaction, hands over its result, and leaves nothing behind. */
export async function rolledBack<T>(sql: Database, work: (transaction: TestTransaction) => Promise<T>): Promise<T> {
  let result: { value: T } | undefined;
  await sql
    .begin('isolation level read committed', async (transaction) => {
      result = { value: await work(transaction) };
      throw new RolledBack();
    })
    .catch((error: unknown) => {
      if (!(error instanceof RolledBack)) throw error;
    });
  if (result === undefined) throw new Error('the transaction did no work');
  return result.value;
}
