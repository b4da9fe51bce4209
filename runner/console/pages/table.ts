import { hasCode } from '../../base/errors.js';
import { asKnownPage, asOfPage, changeHistogram, type Bucket, type RowAsOf } from '../../warehouse/browse.js';
import { count, markup, kindOf, ofTimes, plain, table, tableLink, time, value } from '../html.js';
import type { Column, Piece, Raw } from '../html.js';
import { PageError, asFault, columnsOf, counted, given, here, hidden, momentForm, momentsOf } from '../page.js';
import { pager, readable, type Asked, type Clocks, type Columns, type Listing, type Page } from '../page.js';
import { histogram } from '../svg.js';

const ROWS = 50;
const BUCKETS = 60;
/** How the parameter of a filter begins, so that no column can be mistaken for another parameter. */
const FILTER = 'f.';
const IS_NULL = 'is null';

/** The filters of the address, by column; null is what is null. */
export function filtersOf(query: URLSearchParams): Record<string, string | null> {
  const entries = [...query].filter(([name]) => name.startsWith(FILTER));
  return Object.fromEntries(entries.map(([name, text]) => [name.slice(FILTER.length), text === IS_NULL ? null : text]));
}

/** Rows as of a moment, and the key after which there may be more. @throws PageError where a filter cannot be answered */
async function rowsOf(asked: Asked, [moment, known]: Clocks, after: readonly string[] | null, limit: number) {
  const { table: name, session, query } = asked;
  const filters = filtersOf(query);
  const asking =
    known === null
      ? asOfPage(session.warehouse, name, moment, after, filters, limit + 1)
      : asKnownPage(session.warehouse, name, moment, known, after, filters, limit + 1);
  const found = await asking.catch((error: unknown) => {
    if (hasCode(error, '42703'))
      throw new PageError(400, `${name} has no column of that name to filter by`, 'the columns are those of its rows');
    return asFault('a filter, or the place to go on from, is no value of its column', `back to ${name}`)(error);
  });
  const rows = found.slice(0, limit).filter((row): row is RowAsOf => row.shown_values !== null);
  const last = found.length > limit ? found[limit - 1] : found.find((row) => row.shown_values === null);
  return { rows, next: last === undefined ? null : [...last.business_key] };
}

/** Where a form without script left a filter apart from its column, the address it means. */
export function tableRedirect(asked: Asked): string | undefined {
  const [column, equals] = [given(asked.query, 'column'), asked.query.get('equals')];
  if (column === undefined || equals === null) return undefined;
  return here(asked, { column: undefined, equals: undefined, after: undefined, [FILTER + column]: equals });
}

/** A table as it is, or was at a moment: filters, a page of rows in the order of the key, when it changed. */
export async function tablePage(asked: Asked): Promise<Page> {
  const { query, table: name } = asked;
  const columns = await columnsOf(asked);
  const clocks = await momentsOf(asked, 'as_of', 'known', 'from', 'to', 'now');
  const [moment = null, known = null, from = null, to = null, now] = clocks;
  const after = query.getAll('after');
  const { rows, next } = await rowsOf(asked, [moment, known], after.length === 0 ? null : after, ROWS);
  const buckets = await changeHistogram(asked.session.warehouse, name, from, to ?? now ?? '', BUCKETS);
  const at = moment ?? known ?? now ?? '';
  const began = rows.map((row) => row.valid_from).filter((each) => each < at);
  const ended = rows.flatMap((row) => (row.valid_to !== null && row.valid_to > at ? row.valid_to : []));
  const [first, last] = [buckets[0], buckets.at(-1)];
  const range = first === undefined || last === undefined ? undefined : { from: first.starts_at, to: last.ends_at };
  const body = markup`<h1 class="hidden">${name}${moment !== null && markup` as of ${plain(moment)} UTC`}</h1>
${momentForm(asked, [moment, known], range, { previous: began.sort().at(-1), next: ended.sort()[0] })}
${histogramOf(asked, buckets, at, from !== null || to !== null)} ${filterForm(asked, columns)}
${
  rows.length > 0
    ? rowsTable(asked, columns, rows)
    : markup`<p class="empty">
${next !== null ? 'None of the next 1,000 keys was there then, or none fits the filters.' : after.length > 0 ? 'There are no more rows.' : known !== null ? 'Nothing was known of it then that is to be shown: no batch was applied yet, or no row fits.' : query.size > 0 ? 'No row was there then, or none fits the filters.' : 'This history has no current row.'}
</p>`
} ${pager(asked, rows.length > 0 && counted(rows.length, 'row'), next)}`;
  return { title: name, body, past: moment, known };
}

/** When a table changed, each part of the time a link. */
export function histogramOf(asked: Asked, buckets: readonly Bucket[], at: string, isZoomed: boolean): Raw {
  if (buckets.length === 0)
    return markup`<p class="empty">
When it changed cannot be drawn: the history is large, and was never analysed. <code>analyze</code> it. </p>`;
  const isChosen = ({ starts_at, ends_at }: Bucket) => starts_at < at && at <= ends_at;
  const chosen = buckets.findIndex(isChosen);
  const drawn = buckets.map((bucket) => ({
    figure: Number(bucket.changes),
    label: `${bucket.is_exact ? '' : 'about '}${count(bucket.changes)} versions began from ${plain(bucket.starts_at)} to ${plain(bucket.ends_at)}`,
    href: here(asked, { as_of: plain(bucket.ends_at), after: undefined }),
    isChosen: isChosen(bucket),
  }));
  const [around, beyond] = [buckets[Math.max(0, chosen - 1)], buckets[Math.min(buckets.length - 1, chosen + 1)]];
  const zoom = { from: plain(around?.starts_at ?? ''), to: plain(beyond?.ends_at ?? '') };
  return markup`<figure> ${histogram(drawn, 'Versions that began, over time')} <figcaption>
<span>${time(buckets[0]?.starts_at.replace(/\.\d+/, ''))}</span><span>versions that
began${buckets[0]?.is_exact === false && ', about'}${chosen >= 0 && markup`<i class="lead-on"> · <a href="${here(asked, zoom)}">closer</a></i>`}${isZoomed && markup` · <a href="${here(asked, { from: undefined, to: undefined })}">whole history</a>`}</span><span>${time(buckets.at(-1)?.ends_at.replace(/\.\d+/, ''))}</span>
</figcaption> </figure>`;
}

function filterForm(asked: Asked, { keys, values }: Columns): Raw {
  const filters = Object.entries(filtersOf(asked.query));
  const free = [...keys, ...values].filter(
    ({ column_name: name, is_readable: may }) => may && !filters.some(([each]) => each === name),
  );
  return markup`<form class="filters" action="${asked.path}"> ${hidden(asked.query, 'after', 'column', 'equals')}
${filters.map(
  ([name, text]) => markup`<span class="chip">${name} ${text === null ? IS_NULL : markup`= ${value(text, 40)}`}
<a href="${here(asked, { [FILTER + name]: undefined, after: undefined })}"
aria-label="without the filter on ${name}">×</a></span>`,
)} <label>where <select name="column">
${free.map(({ column_name: name }) => markup`<option>${name}</option>`)} </select></label>
<label>is <input name="equals" size="16" placeholder="value, or: is null" autocomplete="off" /></label><button>Filter</button>
</form>`;
}

function rowsTable(asked: Asked, { keys, values }: Columns, rows: readonly RowAsOf[]): Raw {
  const [as_of, known] = [given(asked.query, 'as_of'), given(asked.query, 'known')];
  const head = ({ column_name: name, meaning, is_readable: may }: Columns['values'][number]): Column['label'] =>
    markup`<span title="${may ? meaning : 'not yours to see'}">${name}</span>`;
  const columns = [...keys, ...values].map(
    (column): Column => ({ label: head(column), kind: kindOf(column.type_name) }),
  );
  return table(
    `Rows of ${asked.table}`,
    [...columns, ofTimes('in force since'), ofTimes('until')],
    rows.map((row): Piece[] => [
      ...row.business_key.map(
        (part) =>
          markup`<a href="${tableLink(asked.table, '/key', { k: row.business_key, as_of, known })}" data-row>${value(part)}</a>`,
      ),
      ...values.map(({ is_readable: may }, place) => (may ? value(row.shown_values[place]) : MASKED)),
      time(row.valid_from),
      row.valid_to === null ? markup`<span class="null">now</span>` : time(row.valid_to),
    ]),
  );
}

/** What stands for a value that the reader may not read. */
export const MASKED = markup`<span class="null" title="not yours to see">•••</span>`;

/** All rows as of the moment, filters included. */
export async function tableList(asked: Asked): Promise<Listing> {
  const columns = await columnsOf(asked);
  const [moment = null, known = null] = await momentsOf(asked, 'as_of', 'known');
  const names = [...columns.keys, ...readable(columns, columns.values)].map(({ column_name: name }) => name);
  return {
    columns: [...names, 'valid_from', 'valid_to'],
    read: async (after, limit) => {
      const { rows, next } = await rowsOf(asked, [moment, known], after, limit);
      const values = (row: RowAsOf) => readable(columns, row.shown_values);
      return { rows: rows.map((row) => [...row.business_key, ...values(row), row.valid_from, row.valid_to]), next };
    },
  };
}
