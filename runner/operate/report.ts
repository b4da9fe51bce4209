import path from 'node:path';
import { writeFile } from 'node:fs/promises';
import { findBatchFile } from '../change-log/inspect.js';
import { withDatabase, type Transaction } from '../base/database.js';
import { TidemarkError, UsageError, isDataFault } from '../base/errors.js';
import type { Settings } from '../base/settings.js';
import { linesOf } from '../base/text-table.js';
import { inTransaction } from '../base/transaction.js';
import * as functions from '../warehouse/functions.js';
import type { Rendering, TableFacts, Versions } from '../warehouse/report.js';
import { selectTables } from '../run/each-table.js';

const LONGEST = 10;

/**
 * Writes scd2_lineage_report_<time>.md, or another ending: how much history there is, how often rows change, which change most, and for one key
 * where each of its versions came from. Reads the whole history of each table.
 * @param tables names of dimensions; all where empty
 * @param key values of one business key, in the order of its columns; then of one table. Empty: no lineage
 * @param folder where it is written to
 * @returns the path of the report
 * @throws UsageError for a table that is not registered, or a key without its table; TidemarkError if the key has no history
 */
export async function writeReport(
  settings: Settings,
  tables: readonly string[],
  key: readonly string[],
  folder: string,
  rendering: Rendering = markdown(settings.cdc_log_dir),
): Promise<string> {
  // One snapshot, so that the figures agree with each other while batches are loaded.
  const sections = await withDatabase(settings.warehouse, 'report', (database) =>
    inTransaction(database, 'isolation level repeatable read read only', (warehouse) =>
      readSections(warehouse, rendering, tables, key),
    ),
  );
  const made = new Date().toISOString();
  const stamp = made.replaceAll(/[-:Z]/g, '').replaceAll(/[T.]/g, '_');
  const file = path.join(folder, `scd2_lineage_report_${stamp}.${rendering.ending}`);
  const text = rendering.whole(made.slice(0, 19).replace('T', ' '), settings.warehouse.database, sections);
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

async function readSections(
  warehouse: Transaction,
  rendering: Rendering,
  tables: readonly string[],
  key: readonly string[],
): Promise<string[]> {
  const mappings = await functions.dimensionMappings(warehouse);
  const selected = selectTables(mappings, tables);
  const [first, ...others] = selected;
  if (key.length > 0 && (first === undefined || others.length > 0))
    throw new UsageError('--key names a row of one table', {
      hint: `add --table, one of: ${mappings.map(({ dimension_name }) => dimension_name).join(', ')}`,
    });
  const statuses = await functions.dimensionStatus(warehouse);
  const sections: string[] = [];
  for (const mapping of selected) {
    const name = mapping.dimension_name;
    const status = statuses.find((each) => each.dimension_name === name);
    const frequency = await functions.changeFrequency(warehouse, name);
    const longest = await functions.longestHistories(warehouse, name, LONGEST);
    const retractions = await functions.retractionsOf(warehouse, name, false);
    sections.push(await rendering.table(warehouse, { mapping, status, frequency, longest, retractions }));
  }
  if (key.length > 0 && first !== undefined) {
    const versions = await versionsOf(warehouse, first.dimension_name, key);
    sections.push(await rendering.key(warehouse, first.dimension_name, key, versions));
  }
  return sections;
}

const KEY_HINT =
  'give the values of the key columns, in their order, each with a --key; the report without it lists keys';

async function versionsOf(warehouse: Transaction, name: string, key: readonly string[]): Promise<Versions> {
  const versions = await functions.lineage(warehouse, name, key).catch((error: unknown) => {
    if (!(error instanceof Error) || !isDataFault(error)) throw error;
    throw new UsageError(`--key is no key of ${name}: ${error.message}`, { hint: KEY_HINT });
  });
  if (versions.length === 0)
    throw new TidemarkError('the key has no history', {
      detail: `table=${name} key=${key.join(', ')}`,
      hint: KEY_HINT,
    });
  return versions;
}

const markdown = (changeLog: string): Rendering => ({
  ending: 'md',
  whole: (made, database, sections) =>
    [
      `# SCD type 2 lineage report\n\nMade ${made} UTC from \`${database}\`. All times are as history holds them.\n`,
      ...sections,
    ].join('\n'),
  table: (_, facts) => tableSection(facts),
  key: (_, name, key, versions) => keySection(changeLog, name, key, versions),
});

function tableSection({ mapping, status, frequency, longest, retractions }: TableFacts): string {
  return linesOf(
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
      longest.map((its) => [
        ...[its.business_key, its.versions, time(its.first_seen), time(its.last_changed)],
        its.is_current ? 'current' : 'deleted',
      ]),
    ),
    retractions.length > 0 && `### Batches taken out of history\n\n${retractionsTable(retractions)}`,
  );
}

const retractionsTable = (retractions: TableFacts['retractions']) =>
  table(
    ['batch', 'changes', 'when', 'by', 'why', 'brought back'],
    retractions.map((its) => [
      ...[its.batch_id, its.retracted_changes, time(its.retracted_at), its.retracted_by, its.reason],
      its.restored_at === null ? 'no' : `${String(time(its.restored_at))}, by ${its.restored_by ?? ''}`,
    ]),
  );

async function keySection(changeLog: string, name: string, key: readonly string[], versions: Versions) {
  const rows = versions.map(async (its) => [
    ...[its.surrogate_key, its.valid_from, its.valid_to ?? 'in force', its.cdc_operation, its.differences],
    (await findBatchFile(changeLog, name, its.batch_id)) ?? `${its.batch_id} (file not here)`,
    ...[its.change_line, time(its.extracted_at), time(its.applied_at)],
  ]);
  return [
    `### Where the versions of ${cell(key.join(', '))} came from\n`,
    table(
      ['version', 'valid from', 'valid to', 'operation', 'what changed', 'batch file', 'change', 'captured', 'applied'],
      await Promise.all(rows),
    ),
    'A change is the line of its number among the change lines of its file: `sed \'1,/^"changes"/d\' FILE | sed -n NUMBERp` (a file that ends in .gz: `gzip -dc FILE | sed \'1,/^"changes"/d\' | sed -n NUMBERp`).\n',
  ].join('\n');
}

type Cell = string | number | null | undefined;

const time = (moment: string | null | undefined): Cell => moment?.replace('T', ' ').replace(/\+00(:00)?$/, '');

/** Text of the database as a part of Markdown: it cannot break out of its place. */
const cell = (value: Cell): string =>
  String(value ?? '–')
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll(/[\\|*_`[\]#]/g, '\\$&')
    .replaceAll(/\s*\n\s*/g, ' ');

/** A table of Markdown. */
function table(columns: readonly string[], rows: readonly (readonly Cell[])[]): string {
  const line = (cells: readonly Cell[]) => `| ${cells.map(cell).join(' | ')} |`;
  return [line(columns), `|${columns.map(() => '---').join('|')}|`, ...rows.map(line), ''].join('\n');
}
