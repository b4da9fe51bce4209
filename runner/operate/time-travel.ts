import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { copyOut } from '../base/copy.js';
import { withDatabase, type Transaction } from '../base/database.js';
import { UsageError, hasCode } from '../base/errors.js';
import { nearest } from '../base/nearest.js';
import type { Settings } from '../base/settings.js';
import { formatRows } from '../base/text-table.js';
import { inTransaction } from '../base/transaction.js';
import type { DimensionMapping } from '../batch/mapping.js';
import * as functions from '../warehouse/functions.js';

/** What is asked of one history, as it was typed. */
export interface Asked {
  readonly table: string;
  /** The moments, in their order; `known` besides, where it is asked what was known then. */
  readonly moments: readonly string[];
  readonly known?: string | undefined;
  /** A value for each column of the key, or none: every key. */
  readonly key?: readonly string[] | undefined;
  /** Filters, as column=value. */
  readonly where?: readonly string[] | undefined;
  readonly asked: 'as_of' | 'diff' | 'changes';
  readonly layout: functions.Layout;
}

/** Rows held at a time; so many lines of a table are as wide as each other. */
const ROWS = 500;

type Row = Readonly<Record<string, string | null>>;

/**
 * Writes the answer of a history, in bounded memory, from one snapshot. PostgreSQL prints every value.
 * @param draw how rows of a table are drawn, and whether they are the first; by default in columns
 * @returns how many rows there were; of CSV, undefined
 * @throws UsageError for a table, column, key or moment that there is not, naming what may be meant
 */
export function answer(
  settings: Settings,
  asked: Asked,
  draw: (rows: readonly Row[], isFirst: boolean) => string = inColumns,
  out: NodeJS.WritableStream = process.stdout,
): Promise<number | undefined> {
  return withDatabase(settings.warehouse, 'time travel', (database) =>
    inTransaction(database, 'isolation level repeatable read read only', async (warehouse) => {
      const query = await queryOf(warehouse, asked).catch(asUsage);
      if (asked.layout === 'csv') {
        await copyOut(database, warehouse, `copy (${query}) to stdout (format csv, header)`, out, { end: false });
        return undefined;
      }
      const counted = { rows: 0 };
      const lines = asked.layout === 'json' ? jsonLines : tableLines(draw);
      await write(Readable.from(lines(rowsOf(warehouse, query, counted))), out);
      return counted.rows;
    })
      .catch(tolerateEnd)
      .catch(asUsage),
  );
}

async function queryOf(warehouse: Transaction, { asked, ...given }: Asked): Promise<string> {
  const mapping = tableOf(await functions.dimensionMappings(warehouse), given.table);
  const filters = (given.where ?? []).map((filter) => filterOf(mapping, filter));
  const name = mapping.dimension_name;
  const moments: string[] = [];
  for (const text of given.moments) moments.push(await functions.moment(warehouse, name, text, false));
  if (given.known !== undefined) moments.push(await functions.moment(warehouse, name, given.known, true));
  const [key, layout] = [given.key ?? [], given.layout];
  const which = given.known === undefined ? asked : 'as_known';
  return functions.timeTravelQuery(warehouse, name, which, moments, key, Object.fromEntries(filters), layout);
}

/** What was probably meant by a name that there is not, as a part of a sentence. */
function meant(given: string, names: readonly string[]): string {
  const near = nearest(given, names, Math.max(1, Math.floor(given.length / 3)));
  return near === undefined ? '' : `; did you mean ${near}?`;
}

function tableOf(mappings: readonly DimensionMapping[], table: string): DimensionMapping {
  const names = mappings.map(({ dimension_name }) => dimension_name);
  const mapping = mappings.find(({ dimension_name }) => dimension_name === table);
  if (mapping !== undefined) return mapping;
  throw new UsageError(`no table is registered as ${table}${meant(table, names)}`, {
    hint: names.length === 0 ? 'register one: npx tidemark add' : `registered are: ${names.join(', ')}`,
  });
}

function filterOf({ dimension_name: table, history_columns: columns }: DimensionMapping, filter: string) {
  const [, column = '', value = ''] = /^([^=]+)=([^]*)$/.exec(filter) ?? [];
  if (column === '') throw new UsageError(`--where ${filter} is no filter`, { hint: 'give column=value' });
  if (!columns.includes(column))
    throw new UsageError(`the history of ${table} has no column ${column}${meant(column, columns)}`, {
      hint: `it has ${columns.join(', ')}`,
    });
  return [column, value] as const;
}

/** A text that is no moment, no value of its column's type, or no key is wrong usage. */
function asUsage(error: unknown): never {
  const isOfText = error instanceof Error && 'code' in error && /^(22...|TM020)$/.test(String(error.code));
  if (!isOfText) throw error;
  const { detail, hint } = error as { readonly detail?: string; readonly hint?: string };
  throw new UsageError(error.message, { detail, hint, cause: error });
}

async function* rowsOf(warehouse: Transaction, query: string, counted: { rows: number }): AsyncGenerator<Row[]> {
  for await (const rows of warehouse.unsafe<Row[]>(query).cursor(ROWS)) {
    counted.rows += rows.length;
    yield rows;
  }
}

async function* jsonLines(batches: AsyncIterable<readonly Row[]>): AsyncGenerator<string> {
  let before = '[';
  for await (const rows of batches)
    for (const { line } of rows) {
      yield `${before}${line ?? 'null'}`;
      before = ',\n';
    }
  yield before === '[' ? '[]\n' : ']\n';
}

const tableLines = (draw: (rows: readonly Row[], isFirst: boolean) => string) =>
  async function* (batches: AsyncIterable<readonly Row[]>): AsyncGenerator<string> {
    let isFirst = true;
    for await (const rows of batches) {
      yield `${draw(rows, isFirst)}\n`;
      isFirst = false;
    }
  };

const inColumns = (rows: readonly Row[], isFirst: boolean): string => {
  const table = formatRows(rows);
  return isFirst ? table : table.slice(table.indexOf('\n') + 1);
};

const MARKS: Readonly<Record<string, string>> = { created: '┌', deleted: '└' };

/** The life of a key as a line down the screen: when and what, and below it which line of which batch said so. */
export const timeline = (rows: readonly Row[]): string =>
  rows
    .map(({ happened_at: when, what, changes, batch_id: batch, line, captured_at: captured, applied_at: applied }) =>
      [
        `${MARKS[what ?? ''] ?? '├'} ${when ?? ''}  ${what ?? ''}  ${changes ?? ''}`.trimEnd(),
        `${what === 'deleted' ? ' ' : '│'}   ${batch === null ? 'by a delete that was pruned' : `${batch ?? ''}, line ${line ?? ''}; captured ${captured ?? ''}, applied ${applied ?? ''}`}`,
      ].join('\n'),
    )
    .join('\n');

/** No faster than it is read. */
const write = (lines: Readable, out: NodeJS.WritableStream): Promise<void> => pipeline(lines, out, { end: false });

/** Whoever reads it may stop. */
function tolerateEnd(error: unknown): undefined {
  if (!hasCode(error, 'EPIPE', 'ERR_STREAM_PREMATURE_CLOSE')) throw error;
}
