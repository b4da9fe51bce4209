import type { DimensionMapping } from '../batch/metadata.js';
import { renderDeletes } from './write.js';
import type { Drift } from './follow.js';
import { shownName, type CatalogTable } from '../source/catalog.js';
import { commentText, fitName, quoteName, quoteText } from '../base/sql-text.js';

/** The migration by which a registered table follows its source. `current` is its view of current versions, where there is one. */
export function renderUpdate(table: CatalogTable, mapping: DimensionMapping, drift: Drift, current: string | undefined): string {
  const { dimension_name: name, history_table: history } = mapping;
  const dimension = `p_dimension_name => ${quoteText(name)}`;
  const call = (fn: string, ...values: string[]) => `select tidemark.${fn}(\n    ${[dimension, ...values].join(',\n    ')}\n);\n`;
  const quoted = (column: string) => quoteName(column, table.keywords);
  // After new columns, which may be what marks deleted rows, and before those that go, which may be what did.
  const declared = drift.deletes.map(({ policy, ...mark }) => `-- How deletes at the source are found from now on. What was deleted before is closed by: npx tidemark reconcile --repair\n${
    call('declare_deletes', ...renderDeletes({ policy, ...mark }, true).map(([argument, value]) => `${argument} => ${value}`))}`);
  const parts = [
    `-- Up Migration\n-- The dimension "${name}" follows its source, ${commentText(shownName(table))}.\n`
      + '-- Written by "tidemark add --update" from the catalog of the source: read it, edit it, commit it, then run "npm run migrate".\n',
    ...renameSteps(drift.renamed).map(({ from, to, remark }) => `-- ${remark}\n${call('rename_source_column', `p_from => ${quoteText(from)}`, `p_to => ${quoteText(to)}`)}`),
    ...(drift.retyped.length > 0 && current !== undefined ? [`-- Made anew below: a view in the way of a new type.\ndrop view ${current};\n`] : []),
    ...drift.retyped.map(({ history: column, from, type }) => `-- Was ${commentText(from)}, which no longer holds what the source may say. Rewrites the table.\n${call('retype_history_column', `p_history_column => ${quoteText(column)}`, `p_type => ${quoteText(type)}`)}`),
    ...drift.returned.map((source) => `-- Back at the source.\n${call('retire_source_column', `p_source_column => ${quoteText(source)}`, 'p_is_retired => false')}`),
    ...drift.added.map(({ source, history: column, role, type, comment, remark }) => (
      `${remark === undefined ? '' : `-- ${commentText(remark)}\n`}alter table ${history} add column ${quoted(column)} ${type};\n`
      + `comment on column ${history}.${quoted(column)} is ${quoteText(comment)};\n`
      + call('add_dimension_column', `p_source => ${quoteText(source)}`, `p_history => ${quoteText(column)}`, `p_role => ${quoteText(role)}`))),
    ...declared,
    ...drift.retired.map(({ source, history: column }) => `-- Gone at the source; history keeps what it has.\n${column === 'valid_from' ? '' : `alter table ${history} alter column ${quoted(column)} drop not null;\n`}${call('retire_source_column', `p_source_column => ${quoteText(source)}`)}`),
    ...(drift.ignored.length > 0 ? [`-- Columns of the source that are left out on purpose.\n${call('ignore_columns', `p_source_columns => array[${drift.ignored.map(quoteText).join(', ')}]`)}`] : []),
    ...(current !== undefined && (drift.added.length > 0 || drift.retyped.length > 0)
      ? [`-- The view of current versions shows all columns.\ncreate or replace view ${current} as\nselect *\nfrom ${history}\nwhere is_current;\n${drift.retyped.length > 0 ? `\ncomment on view ${current} is 'The version in force of every row that exists.';\n` : ''}`] : []),
  ];
  return parts.join('\n');
}

interface RenameStep { readonly from: string; readonly to: string; readonly remark: string }

/** Renames one by one, each to a name that is free by then; of columns that have changed places one steps aside first. */
function renameSteps(renamed: Drift['renamed']): RenameStep[] {
  const steps: RenameStep[] = [];
  let left = [...renamed];
  while (left.length > 0) {
    const next = left.find(({ to }) => !left.some(({ from }) => from === to));
    const [first] = left;
    if (next !== undefined) {
      steps.push({ ...next, remark: 'Renamed at the source; the history column keeps its name.' });
      left = left.filter((each) => each !== next);
    } else if (first !== undefined) {
      const aside = fitName(`tidemark_aside_${first.from}`);
      steps.push({ from: first.from, to: aside, remark: 'Columns have changed places at the source: one steps aside first. What was captured between that and this\n-- migration has their values crossed: compare and repair (tidemark reconcile --repair).' });
      left = left.map((each) => (each === first ? { from: aside, to: each.to } : each));
    }
  }
  return steps;
}
