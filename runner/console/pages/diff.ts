import { diffPage, diffSummary, type KeyDifference } from '../../warehouse/browse.js';
import { count, kindOf, markup, ofNumbers, plain, table, tableLink, value } from '../html.js';
import type { Column, Raw } from '../html.js';
import { PageError, asFault, columnsOf, counted, given, here, hidden, momentsOf, pager, readable } from '../page.js';
import type { Asked, Columns, Listing, Page } from '../page.js';

const ROWS = 50;
const SIGNS = { created: '+', updated: '~', deleted: '−' } as const;
const SPANS = { 'last 5 minutes': '-5 minutes', 'last hour': '-1 hour', 'last day': '-1 day' } as const;

/** From when to when: the last hour, unless the address says otherwise. @throws PageError where it ends before it begins */
async function spanOf(asked: Asked): Promise<readonly [from: string, to: string]> {
  const query = new URLSearchParams(asked.query);
  if (given(query, 'from') === undefined) query.set('from', '-1 hour');
  const [from, to, now] = await momentsOf({ ...asked, query }, 'from', 'to', 'now');
  const span = [from ?? '', to ?? now ?? ''] as const;
  if (span[0] < span[1]) return span;
  const message = `it ends at ${plain(span[1])}, not after it begins at ${plain(span[0])}`;
  throw new PageError(400, message, 'give a later end');
}

async function differencesOf(
  asked: Asked,
  [from, to]: readonly [string, string],
  after: readonly string[] | null,
  limit: number,
) {
  const { table: name, session, query } = asked;
  const [kind, column] = [given(query, 'kind'), given(query, 'column')];
  return diffPage(session.warehouse, name, from, to, after, kind, column, limit).catch(
    asFault('the place to go on from is no key', 'begin again without it'),
  );
}

/** What differs between two moments: how much first, then key by key. */
export async function diffPageOf(asked: Asked): Promise<Page> {
  const { table: name, query, session } = asked;
  const [columns, span] = [await columnsOf(asked), await spanOf(asked)];
  const summary = await diffSummary(session.warehouse, name, ...span);
  const after = query.getAll('after');
  const found = await differencesOf(asked, span, after.length === 0 ? null : after, ROWS + 1);
  const rows = found.slice(0, ROWS);
  const total = Number(summary.created) + Number(summary.updated) + Number(summary.deleted);
  const tile = (kind: keyof typeof SIGNS) =>
    markup`<a class="tile ${kind}"
href="${here(asked, { kind: given(query, 'kind') === kind ? undefined : kind, after: undefined })}"
${given(query, 'kind') === kind && markup` aria-current="true"`}><b>${SIGNS[kind]} ${count(summary[kind])}</b> ${kind}</a>`;
  const body = markup`<h1 class="hidden">What changed in ${name}</h1> <form class="moment" action="${asked.path}">
${hidden(query, 'from', 'to', 'after')}<label>from <input name="from" value="${plain(span[0])}" size="27" autocomplete="off" /></label><label>to
<input name="to" value="${given(query, 'to') === undefined ? '' : plain(span[1])}" placeholder="now" size="27"
autocomplete="off" /></label><button>Compare</button> ${Object.entries(SPANS).map(([label, from]) => markup`<a href="${here(asked, { from, to: undefined, after: undefined })}">${label}</a> `)}
</form> <p class="tiles">
${(['created', 'updated', 'deleted'] as const).map(tile)}${!summary.is_exact && markup`<span class="quiet">of the first 5,000 keys that changed: a shorter time is counted whole</span>`}
</p> ${columnBars(asked, summary.changed_columns)} ${
    rows.length === 0
      ? markup`<p class="empty">
${total === 0 ? `Nothing changed between ${plain(span[0])} and ${plain(span[1])}.` : 'There are no more rows.'}
</p>`
      : markup`${differencesTable(asked, columns, rows, span)} ${pager(asked, counted(rows.length, 'key'), found.length > ROWS ? (rows.at(-1)?.business_key ?? null) : null)}`
  }`;
  return { title: `${name}: what changed`, body };
}

type Bars = Awaited<ReturnType<typeof diffSummary>>['changed_columns'];

/** In how many keys each column differs; one that is chosen filters the rows. */
function columnBars(asked: Asked, columns: Bars): Raw {
  const [most, chosen] = [columns[0]?.keys ?? 0, given(asked.query, 'column')];
  const bar = ({ column_name: name, keys }: Bars[number]) =>
    markup`<li> <a href="${here(asked, { column: chosen === name ? undefined : name, after: undefined })}"
${chosen === name && markup` aria-current="true"`}>${name}</a>
<meter min="0" max="${most}" value="${keys}" aria-label="${name}"></meter> <span>${count(keys)}</span> </li>`;
  return markup`<ul class="bars" aria-label="Columns that changed"> ${columns.map(bar)} </ul>`;
}

function differencesTable(
  asked: Asked,
  { keys, values }: Columns,
  rows: readonly KeyDifference[],
  [from, to]: readonly [string, string],
): Raw {
  // A column in which no row of this page differs, and no row was created or deleted, would be empty.
  const isShown = values.map(
    ({ column_name: name, is_readable: may }) =>
      may && rows.some((row) => row.kind !== 'updated' || row.changed?.includes(name)),
  );
  const cell = (row: KeyDifference, place: number) => {
    const [before, after] = [row.before_values?.[place], row.after_values?.[place]];
    if (row.kind === 'created') return markup`<ins>${value(after)}</ins>`;
    if (row.kind === 'deleted') return markup`<del>${value(before)}</del>`;
    if (row.changed?.includes(values[place]?.column_name ?? '') !== true)
      return markup`<span class="same">${value(after)}</span>`;
    return markup`<del>${value(before)}</del> → <ins>${value(after)}</ins>`;
  };
  return table(
    `Differences of ${asked.table}`,
    [
      ...[...keys.map(({ column_name: name }) => name), 'what'],
      ...values
        .filter((_, place) => isShown[place])
        .map(
          ({ column_name: name, type_name: type }): Column => ({
            label: name,
            kind: kindOf(type) === 'time' ? 'time' : undefined,
          }),
        ),
      ofNumbers('versions'),
    ],
    rows.map((row) => [
      ...row.business_key.map(
        (part) =>
          markup`<a data-row href="${tableLink(asked.table, '/key', { k: row.business_key, as_of: plain(to) })}">${value(part)}</a>`,
      ),
      markup`<span class="kind ${row.kind}">${SIGNS[row.kind]} ${row.kind}</span>`,
      ...values
        .map((_, place) => place)
        .filter((place) => isShown[place])
        .map((place) => cell(row, place)),
      markup`<span title="began between ${plain(from)} and ${plain(to)}">${row.versions}</span>`,
    ]),
  );
}

/** All differences, with the values of each column before and after. */
export async function diffList(asked: Asked): Promise<Listing> {
  const [columns, span] = [await columnsOf(asked), await spanOf(asked)];
  const names = readable(columns, columns.values).flatMap(({ column_name: name }) => [
    `${name} before`,
    `${name} after`,
  ]);
  const pairs = ({ before_values: before, after_values: after }: KeyDifference) =>
    readable(
      columns,
      columns.values.map((_, place) => [before?.[place] ?? null, after?.[place] ?? null]),
    ).flat();
  return {
    columns: [...columns.keys.map(({ column_name: name }) => name), 'kind', 'changed', ...names, 'versions'],
    read: async (after, limit) => {
      const found = await differencesOf(asked, span, after, limit);
      const rows = found.map((row) => [
        ...[...row.business_key, row.kind, row.changed?.join(', ') ?? null],
        ...[...pairs(row), row.versions],
      ]);
      return { rows, next: found.length < limit ? null : [...(found.at(-1)?.business_key ?? [])] };
    },
  };
}
