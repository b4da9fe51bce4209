import type { DimensionMapping } from '../batch/mapping.js';
import { labelOf, printOf, type LineColumn } from './lines.js';
import type { Relation } from './pgoutput.js';

/** How rows of a table become lines: by its mapping, and by what the log says of its columns. */

/**
 * The columns that go into the lines of a table, in the order of its mapping, as those of a poll.
 * @param domains base types by the number of a domain
 */
export function lineColumnsOf(
  { columns }: Pick<DimensionMapping, 'columns'>,
  relation: Relation,
  domains: ReadonlyMap<number, string>,
): LineColumn[] {
  return [...new Set(columns.map(({ source }) => source))].flatMap((name) => {
    const place = relation.columns.findIndex((column) => column.name === name);
    const column = relation.columns[place];
    if (column === undefined) return [];
    const isKey = columns.some(({ source, role }) => source === name && role === 'business key');
    const print = printOf(column.type, domains);
    return [{ name, label: labelOf(name), place, print, isKey, isIdentity: column.isIdentity }];
  });
}
