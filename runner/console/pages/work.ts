import { rejectedCauses, workList } from '../../warehouse/browse.js';
import { count, markup, ofNumbers, ofTimes, table, tableLink, time, value } from '../html.js';
import type { Piece } from '../html.js';
import { actLink, counted, given, textsOf, wholeListing, type Asked, type Listing, type Page } from '../page.js';

const MOST = 200;
const GOOD = ['passed', 'equal', 'restored'];

/** What waits for somebody: rejected changes by their cause, checks, comparisons, batches that were taken out. */
export async function workPage(asked: Asked): Promise<Page> {
  const { warehouse } = asked.session;
  const name = given(asked.query, 'table');
  const causes = await rejectedCauses(warehouse, name, MOST);
  const items = await workList(warehouse, name, MOST);
  const waiting = causes.reduce((sum, cause) => sum + Number(cause.changes), 0);
  const section = (kind: string, title: string, empty: Piece) => {
    const its = items.filter((item) => item.kind === kind);
    return markup`<h2>${title}</h2>
${its.length === 0 ? markup`<p class="empty">${empty}</p>` : itemsTable(asked, title, its)}`;
  };
  const done = items.find(({ kind, since }) => kind === 'action' && since === given(asked.query, 'done'));
  const body = markup`${done !== undefined && markup`<p class="done" role="status">✓ ${done.state} is done: ${value(done.details, 300)}</p>`}<h1> Work
list${name !== undefined && markup` of <a href="${tableLink(name)}">${name}</a> <small><a href="/work">of all tables</a></small>`}
</h1> <h2> Rejected
<small>${waiting === 0 ? 'none waits' : `${counted(waiting, 'change')} wait${waiting === 1 ? 's' : ''}, by cause`}</small>
</h2> ${causes.length === 0 ? markup`<p class="empty">Every change could be applied.</p>` : causesTable(asked, causes)}
${name === undefined && section('check', 'Checks', markup`None has run yet: <code>npx tidemark check</code>.`)}
${section('comparison', 'Comparisons with the source', markup`None was made yet: <code>npx tidemark reconcile</code>.`)}
${section('retraction', 'Batches taken out of history', 'None.')}
${section('action', 'Done by hand', 'Nothing.')}`;
  return { title: 'Work list', body };
}

const causesTable = (asked: Asked, causes: Awaited<ReturnType<typeof rejectedCauses>>) =>
  table(
    'Rejected changes',
    [
      ...['table', 'column', 'cause', ofNumbers('changes'), ofTimes('since'), 'the oldest'],
      markup`<span class="hidden">do</span>`,
    ],
    causes.map((cause) => [
      markup`<a href="${tableLink(cause.dimension_name)}">${cause.dimension_name}</a>`,
      value(cause.column_name),
      value(cause.cause, 300),
      markup`<b class="bad">${count(cause.changes)}</b>`,
      time(cause.since.replace(/\.\d+/, '')),
      markup`<a data-row
href="${tableLink(cause.dimension_name, '/line', { batch: cause.batch_id, line: String(cause.change_line) })}">${cause.batch_id} line ${cause.change_line}</a>
${cause.business_key !== null && value(cause.business_key)}`,
      [
        actLink(asked, 'retry', cause.dimension_name),
        actLink(asked, 'dismiss', cause.dimension_name, { column: cause.column_name ?? undefined, cause: cause.cause }),
      ],
    ]),
  );

const itemsTable = (asked: Asked, title: string, items: Awaited<ReturnType<typeof workList>>) =>
  table(
    title,
    [
      ...(items.some((item) => item.dimension_name !== null) ? ['table'] : []),
      ...['what', 'state', ofTimes('since'), 'details'],
    ],
    items.map((item) => [
      ...(item.dimension_name === null
        ? []
        : [markup`<a href="${tableLink(item.dimension_name)}">${item.dimension_name}</a>`]),
      item.subject !== null && value(item.subject),
      item.kind === 'action'
        ? item.state
        : GOOD.includes(item.state)
          ? markup`<span class="good">✓ ${item.state}</span>`
          : markup`<b class="bad">✕ ${item.state}</b>`,
      time(item.since.replace(/\.\d+/, '')),
      [
        item.details === null ? '' : value(item.details, 300),
        item.state === 'out of history' &&
          actLink(asked, 'restore', item.dimension_name ?? '', { batch: item.subject ?? '' }),
      ],
    ]),
  );

/** The rejected changes that wait, by cause; what else is on the page stands in tables of its own. */
export const workListing = ({ session, query, settings }: Asked): Listing =>
  wholeListing(LISTED, async () =>
    textsOf(LISTED, await rejectedCauses(session.warehouse, given(query, 'table'), settings.console_export_rows)),
  );

const LISTED = [
  ...(['dimension_name', 'column_name', 'cause', 'changes', 'since'] as const),
  ...(['batch_id', 'change_line', 'business_key'] as const),
];
