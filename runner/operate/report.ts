import path from 'node:path';
import { writeFile } from 'node:fs/promises';
import { findBatchFile } from '../change-log/inspect.js';
import type { Database, Transaction } from '../base/database.js';
import { inTransaction } from '../base/transaction.js';
import { TidemarkError, UsageError } from '../base/errors.js';
import { dimensionMappings } from '../warehouse/batches.js';
import {
  changeFrequency,
  dimensionStatus,
  lineage,
  longestHistories,
  type DimensionStatus,
  type VersionLineage,
} from '../warehouse/report.js';
import type { DimensionMapping } from '../batch/mapping.js';
import { selectTables } from '../run/each-table.js';

export interface ReportOptions {
  /** Names of dimensions; all where empty. */
  readonly tables: readonly string[];
  /** Values of one business key, in the order of its columns; then of one table. Empty: no lineage. */
  readonly key: readonly string[];
  /** The folder of the change log, in which the batch files are looked for. */
  readonly changeLog: string;
  /** The folder it is written to. */
  readonly folder: string;
  /** When it is made; names the file. */
  readonly now: Date;
}

const LONGEST = 10;

type Cell = string | number | null | undefined;

/**
 * Writes scd2_lineage_report_<time>.md: how much history there is, how often rows change, which change most, and for one key where each of
 * its versions came from. Reads the whole history of each table.
 * @returns the path of the report
 * @throws UsageError for a table that is not registered, or a key without its table; TidemarkError if the key has no history
 */
export async function writeReport(database: Database, options: ReportOptions): Promise<string> {
  // One snapshot, so that the figures agree with each other while batches are loaded.
  const sections = await inTransaction(database, 'isolation level repeatable read read only', (warehouse) =>
    readSections(warehouse, options),
  );
  const made = options.now.toISOString();
  const title = `# SCD type 2 lineage report\n\nMade ${made.slice(0, 19).replace('T', ' ')} UTC from \`${database.options.database}\`. All times are as history holds them.`;
  const text = [`${title}\n`, ...sections].join('\n');
  const stamp = made.replaceAll(/[-:Z]/g, '').replaceAll(/[T.]/g, '_');
  const file = path.join(options.folder, `scd2_lineage_report_${stamp}.md`);
  try {
    await writeFile(file, text, { mode: 0o600, flag: 'wx' });
  } catch (error) {
    throw new TidemarkError('the report cannot be written', {
      detail: `${file} (${String(error)})`,
      hint: 'give --output a folder that can be written',
      cause: error,
    });
  }
  return file;
}

async function readSections(warehouse: Transaction, options: ReportOptions): Promise<string[]> {
  const mappings = await dimensionMappings(warehouse);
  const selected = selectTables(mappings, options.tables);
  const [first, ...others] = selected;
  if (options.key.length > 0 && (first === undefined || others.length > 0))
    throw new UsageError('--key names a row of one table', {
      hint: `add --table, one of: ${mappings.map(({ dimension_name }) => dimension_name).join(', ')}`,
    });
  const status = await dimensionStatus(warehouse);
  const sections: string[] = [];
  for (const mapping of selected) {
    const its = status.find((each) => each.dimension_name === mapping.dimension_name);
    sections.push(await tableSection(warehouse, mapping, its));
  }
  if (options.key.length > 0 && first !== undefined) sections.push(await keySection(warehouse, options, first));
  return sections;
}

async function tableSection(
  warehouse: Transaction,
  mapping: DimensionMapping,
  status: DimensionStatus | undefined,
): Promise<string> {
  const frequency = await changeFrequency(warehouse, mapping.dimension_name);
  const longest = await longestHistories(warehouse, mapping.dimension_name, LONGEST);
  return [
    `## ${mapping.dimension_name}\n`,
    `History of \`${mapping.source_schema}.${mapping.source_table}\` in \`${mapping.history_table}\`.\n`,
    table(
      ['versions', 'current', 'historical', 'last batch', 'applied at'],
      [[status?.total, status?.current, status?.historical, status?.last_batch, time(status?.last_applied_at)]],
    ),
    '### How often rows change\n',
    table(
      ['versions of a key', 'keys'],
      frequency.map(({ versions, keys }) => [versions, keys]),
    ),
    `### The longest histories\n`,
    table(
      ['key', 'versions', 'first seen', 'last changed', 'state'],
      longest.map(({ business_key: key, versions, first_seen: first, last_changed: last, is_current: isCurrent }) => [
        ...[key, versions, time(first), time(last)],
        isCurrent ? 'current' : 'deleted',
      ]),
    ),
  ].join('\n');
}

const KEY_HINT =
  'give the values of the key columns, in their order, each with a --key; the report without it lists keys';

async function keySection(
  warehouse: Transaction,
  { changeLog, key }: ReportOptions,
  mapping: DimensionMapping,
): Promise<string> {
  const { dimension_name: name } = mapping;
  const versions = await lineage(warehouse, name, key).catch((error: unknown) => {
    // Class 22, data exception: the text is no value of a key column's type.
    if (!(error instanceof Error) || !('code' in error) || !String(error.code).startsWith('22')) throw error;
    throw new UsageError(`--key is no key of ${name}: ${error.message}`, { hint: KEY_HINT });
  });
  if (versions.length === 0)
    throw new TidemarkError('the key has no history', {
      detail: `table=${name} key=${key.join(', ')}`,
      hint: KEY_HINT,
    });
  const rows = await Promise.all(versions.map((version) => lineageRow(changeLog, name, version)));
  return [
    `### Where the versions of ${cell(key.join(', '))} came from\n`,
    table(
      ['version', 'valid from', 'valid to', 'operation', 'what changed', 'batch file', 'change', 'captured', 'applied'],
      rows,
    ),
    'A change is the line of its number among the change lines of its file: `sed \'1,/^"changes"/d\' FILE | sed -n NUMBERp` (a file that ends in .gz: `gzip -dc FILE | sed \'1,/^"changes"/d\' | sed -n NUMBERp`).\n',
  ].join('\n');
}

async function lineageRow(changeLog: string, name: string, version: VersionLineage): Promise<Cell[]> {
  const file = await findBatchFile(changeLog, name, version.batch_id);
  return [
    version.surrogate_key,
    version.valid_from,
    version.valid_to ?? 'in force',
    version.cdc_operation,
    version.differences,
    file ?? `${version.batch_id} (file not here)`,
    version.change_line,
    time(version.extracted_at),
    time(version.applied_at),
  ];
}

const time = (moment: string | null | undefined): string | null =>
  moment == null ? null : moment.replace('T', ' ').replace(/\+00(:00)?$/, '');

/** Text of the database as a part of Markdown: it cannot break out of its place. */
const cell = (value: Cell): string =>
  String(value ?? '–')
    .replaceAll(/[\\|<&*_`[\]#]/g, (character) =>
      character === '<' ? '&lt;' : character === '&' ? '&amp;' : `\\${character}`,
    )
    .replaceAll(/\s*\n\s*/g, ' ');

/** A table of Markdown. */
function table(columns: readonly string[], rows: readonly (readonly Cell[])[]): string {
  const line = (cells: readonly Cell[]) => `| ${cells.map(cell).join(' | ')} |`;
  return [line(columns), `|${columns.map(() => '---').join('|')}|`, ...rows.map(line), ''].join('\n');
}
