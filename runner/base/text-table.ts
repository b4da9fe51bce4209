import Table from 'cli-table3';

/** What the library would draw around the cells. */
const SIDES = ['top', 'bottom', 'left', 'right', 'mid'];
const LINES = SIDES.flatMap((side) => [side, ...['left', 'mid', 'right'].map((end) => `${side}-${end}`)]);

/** Prints rows as a table for a terminal: one line a row, columns as wide as they must be, null as a dash. */
export function formatTable(columns: readonly string[], rows: readonly (readonly unknown[])[]): string {
  const table = new Table({
    head: [...columns],
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 0 },
    chars: { ...Object.fromEntries(LINES.map((name) => [name, ''])), middle: '  ' },
  });
  table.push(...rows.map((row) => row.map(formatValue)));
  return table.toString().replace(/[^\S\n]+$/gm, '');
}

function formatValue(value: unknown): string {
  if (value === null || value === undefined) return '-';
  return typeof value === 'string' ? value : JSON.stringify(value);
}

/** Prints rows that are objects: those columns, or else all that the first one has. */
export function formatRows(rows: readonly object[], columns: readonly string[] = Object.keys(rows[0] ?? {})): string {
  return formatTable(
    columns,
    rows.map((row) => columns.map((column) => (row as Readonly<Record<string, unknown>>)[column])),
  );
}

/** A text of these lines; what is false, undefined or null is none of them. */
export const linesOf = (...lines: readonly (string | false | null | undefined)[]): string =>
  lines.filter((line) => typeof line === 'string').join('\n');

/** A text, or so much of its beginning as there is room for. */
export const cutShort = (text: string | null, longest: number): string | null =>
  text === null || text.length <= longest ? text : `${text.slice(0, longest)}...`;

/** A number and its noun: "1 change", "2 changes", "2 batches". */
export function counted(number: number | string, noun: string): string {
  const plural = noun.endsWith('ch') ? `${noun}es` : `${noun}s`;
  return `${number} ${Number(number) === 1 ? noun : plural}`;
}
