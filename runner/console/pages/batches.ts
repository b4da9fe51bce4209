import { readBatch } from '../../change-log/chain.js';
import { findBatchFile } from '../../change-log/inspect.js';
import { batchList, schemaHistory, type ListedBatch } from '../../warehouse/browse.js';
import { dimensionMappings } from '../../warehouse/functions.js';
import path from 'node:path';
import { LONG, count, duration, link, markup, ofNumbers, ofTimes, table, tableLink, time, value } from '../html.js';
import type { Piece } from '../html.js';
import { PageError, actLink, given, here, pager, textsOf, wholeListing, columnsOf } from '../page.js';
import type { Asked, Listing, Page } from '../page.js';
import { MASKED } from './table.js';

const ROWS = 50;

async function batchesOf({ session, query }: Asked, after: readonly string[] | null, limit: number) {
  return batchList(session.warehouse, given(query, 'table'), after?.[0], after?.[1], limit);
}

const placeOf = (batch: ListedBatch | undefined): string[] =>
  batch === undefined ? [] : [batch.applied_at, batch.batch_id];

/** The ledger: every batch, the last first, with what it did to history. */
export async function batchesPage(asked: Asked): Promise<Page> {
  const after = asked.query.getAll('after');
  const found = await batchesOf(asked, after.length === 2 ? after : null, ROWS + 1);
  const rows = found.slice(0, ROWS);
  const name = given(asked.query, 'table');
  const body = markup`<h1>Batches${
    name !== undefined &&
    markup` of <a href="${tableLink(name)}">${name}</a>
<small><a href="${here(asked, { table: undefined, after: undefined })}">of all tables</a></small>`
  }</h1>
${
  rows.length === 0
    ? markup`<p class="empty">
${name === undefined ? 'No batch was applied yet: npx tidemark extract, then load.' : 'There is no batch here.'}
</p>`
    : markup`${table(
        'Batches',
        COLUMNS.slice(name === undefined ? 0 : 1),
        rows.map((row) => batchRow(asked, row).slice(name === undefined ? 0 : 1)),
      )} ${pager(asked, `${count(rows.length)} batches`, found.length > ROWS ? placeOf(rows.at(-1)) : null)}`
}`;
  return { title: 'Batches', body };
}

const FIGURES = [
  ...(['change_count', 'inserted_versions', 'closed_versions'] as const),
  ...(['absorbed_changes', 'late_changes', 'corrected_versions'] as const),
];
const NUMBERS = ['changes', 'opened', 'closed', 'absorbed', 'late', 'corrected', 'rejected'];
const COLUMNS: Parameters<typeof table>[1] = [
  ...['table', 'batch', ofTimes('captured'), ...['applied', 'took', ...NUMBERS].map(ofNumbers), 'chain'],
];

function batchRow(asked: Asked, batch: ListedBatch): Piece[] {
  const { dimension_name: name, batch_id: id, follows, rejected_changes: rejected } = batch;
  return [
    markup`<a href="${tableLink(name)}">${name}</a>`,
    markup`<a data-row href="${tableLink(name, '/line', { batch: id })}">${value(id)}</a>${batch.retracted_at !== null && markup` <span class="tag bad">out of history</span>`}`,
    time(batch.extracted_at.replace(/\.\d+/, '')),
    markup`<span title="${batch.applied_at}">+${duration((Date.parse(batch.applied_at) - Date.parse(batch.extracted_at)) / 1000)}</span>`,
    batch.seconds < 1 ? `${Math.round(batch.seconds * 1000)} ms` : duration(batch.seconds),
    ...FIGURES.map((figure) => batch[figure]).map((figure) =>
      figure === 0 ? markup`<span class="quiet">0</span>` : count(figure),
    ),
    rejected === 0
      ? markup`<span class="quiet">0</span>`
      : markup`<a class="bad" href="${link('/work', { table: name })}">${count(rejected)}</a>`,
    [
      follows === null
        ? '–'
        : markup`${batch.shard !== '' && `${batch.shard} `}${batch.sequence}
${follows ? markup`<span class="good" title="it follows the one before it">✓</span>` : markup`<span class="bad">✕ a gap before it</span>`}`,
      ' ',
      actLink(asked, batch.retracted_at === null ? 'retract' : 'restore', name, { batch: id }),
    ],
  ];
}

const LISTED = [
  ...(['dimension_name', 'batch_id', 'shard', 'sequence', 'extracted_at', 'applied_at', 'seconds'] as const),
  ...FIGURES,
  ...(['rejected_changes', 'follows', 'retracted_at'] as const),
];

export const batchesList = (asked: Asked): Listing => ({
  columns: LISTED,
  read: async (after, limit) => {
    const found = await batchesOf(asked, after, limit);
    return { rows: textsOf(LISTED, found), next: found.length < limit ? null : placeOf(found.at(-1)) };
  },
});

/** The columns of a table, and how its source changed its shape. */
export async function schemaPage(asked: Asked): Promise<Page> {
  const { session, table: name } = asked;
  const { keys, values } = await columnsOf(asked);
  const mapping = (await dimensionMappings(session.warehouse)).find((each) => each.dimension_name === name);
  const changes = await schemaHistory(session.warehouse, name);
  const body = markup`<h1 class="hidden">Schema of ${name}</h1> <p class="lead">
Follows <code>${mapping?.source_schema}.${mapping?.source_table}</code> by
${mapping?.capture === 'poll' ? 'polling' : 'its log'} into <code>${mapping?.history_table}</code>. ${actLink(asked, mapping?.is_paused === true ? 'resume' : 'pause', name)}</p>
${table(
  'Columns',
  ['column', 'type', 'role', 'meaning'],
  [...keys, ...values].map((column) => [
    column.column_name,
    column.type_name,
    column.is_readable ? column.column_role : markup`${column.column_role} ${MASKED}`,
    column.meaning,
  ]),
)}
${(mapping?.ignored_columns.length ?? 0) > 0 && markup`<p class="lead">Left out on purpose: ${mapping?.ignored_columns.join(', ')}.</p>`}
<h2>What changed</h2>
${table(
  'Changes of the schema',
  ['since', 'batch', 'came', 'went', 'note'],
  changes.map((change) => [
    time(change.since),
    value(change.batch_id),
    change.added.length > 0 && markup`<ins>${change.added.join(', ')}</ins>`,
    change.gone.length > 0 && markup`<del>${change.gone.join(', ')}</del>`,
    change.note,
  ]),
)}`;
  return { title: `${name}: schema`, body };
}

const CHANGED = ['since', 'batch_id', 'added', 'gone', 'note'] as const;
export const schemaList = ({ session, table: name }: Asked): Listing =>
  wholeListing(CHANGED, async () => textsOf(CHANGED, await schemaHistory(session.warehouse, name)));

/** The change lines of a batch as they stand in its file, or one of them. @throws PageError where they are not shown, or not here */
async function linesOf(asked: Asked): Promise<{ file: string; lines: string[]; place?: number }> {
  const { settings, table: name, query, isLocal, session } = asked;
  const { console_show_lines: shown, cdc_log_dir: root } = settings;
  if (shown === 'none' || (shown === 'local' && !isLocal))
    throw new PageError(403, 'lines of batch files are not shown here', 'CONSOLE_SHOW_LINES says to whom they are');
  const { values } = await columnsOf(asked);
  if (values.some((column) => !column.is_readable))
    throw new PageError(
      403,
      `${session.reader.role} may not read every column of ${name}, so no line of a file either`,
      'its versions show what it may',
    );
  const batch = given(query, 'batch') ?? '';
  const file = /^[\w-]+$/.test(batch) ? await findBatchFile(root, name, batch) : undefined;
  if (file === undefined)
    throw new PageError(
      404,
      `the file of batch ${batch.slice(0, 100)} is not on this machine`,
      'it was removed by prune, or is where the loader runs',
    );
  const { head, text } = await readBatch(path.join(root, file));
  const lines = text
    .slice(text.indexOf('"changes"'))
    .split('\n')
    .slice(1)
    .map((line) => line.replace(/,$/, ''))
    .filter((line) => line.startsWith('{'));
  const line = Number(given(query, 'line') ?? 0);
  if (head.forgotten_lines.includes(line))
    throw new PageError(404, `line ${count(line)} was forgotten, with all of its key`, 'the file has it no more');
  // The others keep their numbers.
  const place = line - head.forgotten_lines.filter((gone) => gone < line).length;
  if (!(place <= lines.length))
    throw new PageError(404, `the file has ${count(lines.length)} changes`, 'give a line of it');
  return place > 0 ? { file, lines: lines.slice(place - 1, place), place } : { file, lines };
}

/** Where a version came from: the line of the file, as it stands. */
export async function linePage(asked: Asked): Promise<Page> {
  const { file, lines, place } = await linesOf(asked);
  const shown = lines.slice(0, ROWS);
  const command = `${file.endsWith('.gz') ? 'gzip -dc' : 'cat'} ${file} | sed '1,/^"changes"/d'${place === undefined ? '' : ` | sed -n ${place}p`}`;
  const body = markup`<h1>
${place === undefined ? 'The changes' : `Line ${given(asked.query, 'line') ?? ''}`} of ${value(given(asked.query, 'batch'))} </h1>
<pre tabindex="0">${shown.map((each) => markup`${value(each, LONG)} `)}</pre>
${lines.length > shown.length && markup`<p class="quiet">${count(lines.length - shown.length)} more: take them all as JSON.</p>`}
<p class="source">On this machine, in the folder of the change log: <code>${command}</code></p>`;
  return { title: 'Changes of a batch', body };
}

export const lineList = (asked: Asked): Listing =>
  wholeListing(['change'], async () => (await linesOf(asked)).lines.map((line) => [line]));
