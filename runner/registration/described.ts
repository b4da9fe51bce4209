import path from 'node:path';
import { whereAndNext } from '../base/errors.js';
import { formatRows } from '../base/text-table.js';
import type { AddedTable, AddedTables } from './many.js';

/** Where a table stands, in words. */
export function standingOf({ state, dimension, file }: Omit<AddedTable, 'error'>, isDry: boolean): string {
  const name = String(dimension);
  if (state === 'failed') return 'cannot be added';
  if (state === 'registered') return `registered as ${name}`;
  if (state === 'waiting') return `registered as ${name} by ${path.basename(file ?? '')}, which has not run yet`;
  return isDry ? `to be added as ${name}` : path.basename(file ?? '');
}

function rowOf(table: AddedTable, isDry: boolean): Record<string, string | undefined> {
  const { how } = table;
  return {
    table: table.table,
    state: standingOf(table, isDry),
    key: how?.key.join(', '),
    'effective time': how?.effective_time,
    deletes: how?.deletes,
    capture: how?.capture,
    untracked: how?.untracked.join(', '),
    ignored: how?.ignored.join(', '),
  };
}

/** A table and what is to be said about it; the name once. */
const about = (table: string, sentence: string) => (sentence.startsWith(table) ? sentence : `${table}: ${sentence}`);

/** What is to be said of several tables alike, once. */
const once = (all: AddedTables['left_out'], say: (tables: readonly string[], reason: string) => string) =>
  [...new Set(all.map(({ reason }) => reason))].map((reason) =>
    say(
      all.filter((each) => each.reason === reason).map(({ table }) => table),
      reason,
    ),
  );

/** What was decided about each table, in one table; below it what was guessed, what cannot be added and what to do, and what was left out. */
export function describeTables({ tables, left_out: leftOut }: AddedTables, isDry: boolean): string {
  const rows = tables.map((table) => rowOf(table, isDry));
  const isUsed = (column: string) => rows.some((row) => row[column] !== undefined && row[column] !== '');
  const columns = Object.keys(rows[0] ?? {}).filter(isUsed);
  const failed = tables.filter(({ state }) => state === 'failed');
  const noted = tables.flatMap(({ table, how }) => how?.remarks.map((reason) => ({ table, reason })) ?? []);
  const parts = [
    rows.length === 0 ? 'no table is to be added' : formatRows(rows, columns),
    ...once(noted, (of, remark) => `note: ${about(of.join(', '), remark)}`),
    ...failed.flatMap(({ table, error }) =>
      error === undefined ? [] : [`not added: ${about(table, error.message)}`, ...whereAndNext(error)],
    ),
    ...once(leftOut, (of, reason) => {
      return `left out: ${of.slice(0, 5).join(', ')}${of.length > 5 ? ` and ${String(of.length - 5)} more` : ''}: ${reason}`;
    }),
  ];
  const isWritten = !isDry && tables.some(({ state }) => state === 'new' || state === 'waiting');
  return [
    ...parts,
    ...(isWritten ? ['next: read the files, edit them, commit them, then run: npx tidemark migrate'] : []),
  ].join('\n');
}
