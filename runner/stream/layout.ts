import type { Database } from '../base/database.js';
import { TidemarkError } from '../base/errors.js';
import { quoteName } from '../base/sql-text.js';
import type { DimensionMapping } from '../batch/mapping.js';
import type { BatchMetadata } from '../batch/metadata.js';
import { assertFits, warnOfUnmapped } from '../source/changed-columns.js';
import { nameTypes } from '../source/log.js';
import type { Columns } from '../source/table.js';
import { labelOf, printOf, type LineColumn } from './lines.js';
import type { Relation } from './pgoutput.js';

/** How rows of a table become lines: by its mapping, and by what the log says of its columns. */
export interface Layout {
  readonly relation: Relation;
  readonly columns: readonly LineColumn[];
  readonly keys: readonly LineColumn[];
  /** The column that is the effective time; undefined where the commit is. */
  readonly effective: LineColumn | undefined;
  readonly mayBeUnreadable: boolean;
  /** What a batch says of its columns. */
  readonly described: Columns;
}

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

/**
 * Reads what the log says of a table.
 * @param newest the newest batch of the table
 * @throws TidemarkError if it does not fit into history any more
 */
export async function describeRelation(
  source: Database,
  mapping: DimensionMapping,
  relation: Relation,
  domains: ReadonlyMap<number, string>,
  newest: BatchMetadata,
): Promise<Layout> {
  const columns = lineColumnsOf(mapping, relation, domains);
  assertComplete(mapping, relation, columns, newest);
  const keys = columns.filter(({ isKey }) => isKey);
  const mapped = new Set(columns.map(({ name }) => name));
  warnOfUnmapped(mapping, {
    unmapped_columns: relation.columns.map(({ name }) => name).filter((name) => !mapped.has(name)),
  });
  const { may_be_unreadable: mayBeUnreadable, ...types } = await nameTypes(
    source,
    columns.map(({ name, place }) => ({ name, ...relation.columns[place] })),
  );
  const mappedTo = mapping.columns.filter(({ role }) => !role.endsWith(' time'));
  const described = {
    ...types,
    columns: columns.map(({ name }) => name),
    history_columns: Object.fromEntries(mappedTo.map(({ source: name, history }) => [name, history])),
  };
  await assertFits(source, mapping, described, newest);
  const time = mapping.columns.find(({ role }) => role === 'effective time')?.source;
  return { relation, columns, keys, effective: columns.find(({ name }) => name === time), mayBeUnreadable, described };
}

function assertComplete(
  mapping: DimensionMapping,
  relation: Relation,
  columns: readonly LineColumn[],
  newest: BatchMetadata,
): void {
  const name = `${mapping.source_schema}.${mapping.source_table}`;
  const detail = `table=${mapping.dimension_name}`;
  if (newest.relation_oid !== null && newest.relation_oid !== String(relation.oid))
    throw new TidemarkError(`another table is called ${relation.schema}.${relation.table} now`, { detail });
  const lacking = mapping.columns.filter(({ source }) => !columns.some((column) => column.name === source));
  if (lacking.length > 0)
    throw new TidemarkError(
      `the log of ${name} lacks columns that its mapping names: ${lacking.map(({ source }) => source).join(', ')}`,
      { detail, hint: `restore them, or write the migration that follows: npx tidemark add --update ${name}` },
    );
  if (columns.some(({ isKey, isIdentity }) => isKey && !isIdentity))
    throw new TidemarkError(
      `the replica identity of ${name} does not hold its business key, so that the log does not say which row was deleted`,
      {
        detail,
        hint: `on the source: alter table ${quoteName(mapping.source_schema)}.${quoteName(mapping.source_table)} replica identity full`,
      },
    );
}
