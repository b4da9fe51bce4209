import { hasCode, isDataFault } from '../../base/errors.js';
import { keyMarks, keyVersions, moments, asOfPage, type KeyVersion } from '../../warehouse/browse.js';
import { LONG, markup, plain, tableLink, time, value, visible, type Raw } from '../html.js';
import { PageError, columnsOf, counted, given, here, momentForm, momentsOf } from '../page.js';
import { readable, wholeListing, type Asked, type Columns, type Listing, type Page } from '../page.js';
import { lifeline } from '../svg.js';
import { MASKED } from './table.js';

const VERSIONS = 100;
const MARKS = 200;

type Marks = Awaited<ReturnType<typeof keyMarks>>;

/** @throws PageError where the text is no value of a key column's type, or there are too few or too many of them */
async function versionsOf(
  { session, table, query }: Asked,
  { keys }: Columns,
  ...[known, before, limit]: [known: string | null, before: string | null, limit: number]
): Promise<KeyVersion[]> {
  const key = query.getAll('k');
  return keyVersions(session.warehouse, table, key, known, before, limit).catch((error: unknown) => {
    if (!hasCode(error, 'TM020') && !isDataFault(error)) throw error;
    const columns = keys.map(({ column_name: name, type_name: type }) => `${name} (${type})`).join(', ');
    const message = `that is no key of ${table}: ${key.length} given`;
    throw new PageError(400, message, `its key is ${columns}: one k= for each`);
  });
}

/** One key: how it came to be so, as a drawing and version by version, and where each came from. */
export async function keyPage(asked: Asked, most = VERSIONS): Promise<Page> {
  const { table, query, session } = asked;
  const [columns, key] = [await columnsOf(asked), query.getAll('k')];
  const clocks = await momentsOf(asked, 'as_of', 'known', 'before', 'now');
  const [moment = null, known = null, before = null, now = null] = clocks;
  const found = await versionsOf(asked, columns, known, before, most + 1);
  const versions = found.slice(-most);
  if (versions.length === 0) throw await unknownKey(asked, key);
  // What opened no version may have opened one in what was known then.
  const marks = known === null ? await keyMarks(session.warehouse, table, key, MARKS) : [];
  const at = moment ?? known ?? now ?? '';
  const starts = versions.map((version) => version.valid_from);
  const chosen = versions.find(({ valid_from: from, valid_to: to }) => from <= at && (to === null || at < to));
  const name = key.join(', ');
  const neighbours = {
    previous: starts.filter((each) => each < (moment ?? starts.at(-1) ?? '')).at(-1),
    next: moment === null ? undefined : starts.find((each) => each > moment),
  };
  const [first = '', last = ''] = [starts[0], starts.at(-1)];
  const body = markup`<h1> ${table} <span class="key">${value(name)}</span>
<small>${counted(versions.length, 'version')}${found.length > most && '+'}${marks.length > 0 && markup` · ${counted(marks.length, 'mark')}`}${chosen === undefined && markup` · <span class="bad">not there ${moment === null ? 'now' : 'then'}</span>`}</small>
</h1> ${momentForm(asked, [moment, known], { from: first, to: last, stops: starts }, neighbours)}
${drawing(asked, versions, marks, at, moment)}
${found.length > most && markup`<p class="pager"><a href="${here(asked, { before: plain(first) })}">◂ older versions</a></p>`}
<ol class="versions" reversed>
${[...versions].reverse().map((version) => card(asked, columns, version, versions, version === chosen))} </ol>
${marks.length > 0 && marksList(asked, marks)}`;
  return { title: `${table} ${visible(name)}`, body, past: moment, known };
}

/** An error that names the keys beside one that has no history. */
async function unknownKey(asked: Asked, key: readonly string[]): Promise<PageError> {
  const { session, table } = asked;
  const [now = null] = await moments(session.warehouse, ['now']);
  const next = await asOfPage(session.warehouse, table, null, key, {}, 2).catch(() => []);
  const near = next.map((row) => row.business_key.join(', '));
  return new PageError(
    404,
    `${table} has no history of that key${given(asked.query, 'known') === undefined ? '' : ' that was known then'}`,
    `${near.length === 0 ? `no current key comes after it` : `the next keys are ${near.join(' and ')}`}; looked at ${plain(now ?? '')}`,
  );
}

/** Milliseconds, and parts of them. */
const ms = (moment: string): number =>
  Date.parse(`${moment.slice(0, 19).replace(' ', 'T')}Z`) + 1000 * Number(/\.\d+/.exec(moment)?.[0] ?? 0);

/** As a place in a drawing in which all that lies between two of these moments is as wide. */
function stepped(bounds: readonly number[]): (at: number) => number {
  const sorted = [...new Set(bounds)].sort((a, b) => a - b);
  return (at) => {
    const next = sorted.findIndex((bound) => bound > at);
    const [from, to] = [sorted[next - 1], sorted[next]];
    if (from === undefined || to === undefined) return next === 0 ? 0 : sorted.length - 1;
    return next - 1 + (at - from) / (to - from);
  };
}

function drawing(asked: Asked, versions: readonly KeyVersion[], marks: Marks, at: string, moment: string | null): Raw {
  const end = Math.max(ms(at), ...versions.map(({ valid_from: from, valid_to: to }) => ms(to ?? from) + 1));
  const lives = versions.map(({ valid_from: from, valid_to: to }) => [ms(from), to === null ? end : ms(to)] as const);
  // To scale, short versions of a long life could not be seen.
  const isSeen = Math.min(...lives.map(([from, to]) => to - from)) > (end - (lives[0]?.[0] ?? 0)) / 200;
  const isStepped = (asked.query.get('scale') ?? (isSeen ? 'time' : 'steps')) === 'steps';
  const place = isStepped ? stepped(lives.flat()) : (each: number) => each;
  const spans = versions.map(({ valid_from: from, valid_to: to }, index) => ({
    label: `version ${index + 1}, from ${plain(from)}${to === null ? ', in force' : ` to ${plain(to)}`}`,
    href: `#v${index + 1}`,
    from: place(lives[index]?.[0] ?? 0),
    to: place(lives[index]?.[1] ?? 0),
    isChosen: from <= at && (to === null || at < to),
  }));
  const drawnMarks = marks.map((mark) => ({
    at: place(ms(mark.marked_at)),
    kind: mark.kind === 'rejected' ? ('rejected' as const) : ('other' as const),
    label: `${mark.kind}, ${plain(mark.marked_at)}`,
  }));
  const name = `Versions of ${asked.table} ${visible(asked.query.getAll('k').join(', '))}`;
  const [other, label] = isStepped ? ['time', 'to scale'] : ['steps', 'one step a version'];
  return markup`<figure> ${lifeline(spans, drawnMarks, moment === null ? undefined : place(ms(moment)), name)}
<figcaption> <span>${time(versions[0]?.valid_from)}</span> <span>${isStepped ? 'one step a version' : 'to scale'}<i class="lead-on"> ·
<a href="${here(asked, { scale: other })}">${label}</a></i>${marks.length > 0 && ' · ◇ opened none  ✕ rejected'}</span>
<span>${versions.at(-1)?.valid_to == null ? 'now' : time(versions.at(-1)?.valid_to)}</span> </figcaption> </figure>`;
}

function card(asked: Asked, { values }: Columns, version: KeyVersion, all: readonly KeyVersion[], isChosen: boolean) {
  const place = all.indexOf(version);
  const before = all[place - 1];
  const isBorn = version.cdc_operation === 'INSERT';
  const cells = values.map((column, index) => {
    const isChanged = !isBorn && version.changed?.includes(column.column_name) === true;
    const [now, then] = [version.shown_values[index], before?.shown_values[index]];
    const shown = !column.is_readable
      ? MASKED
      : isChanged && before !== undefined
        ? markup`<del>${value(then, LONG)}</del> → <ins>${value(now, LONG)}</ins>`
        : value(now, LONG);
    return markup`<div${isChanged && markup` class="changed"`}><dt>${column.column_name}</dt><dd>${shown}</dd></div>`;
  });
  const { table } = asked;
  const from = tableLink(table, '/line', { batch: version.batch_id, line: String(version.change_line) });
  return markup`<li id="v${place + 1}" tabindex="-1" data-row${isChosen && markup` class="chosen"`}
value="${place + 1}"> <h2> <span class="number">v${place + 1}</span> ${time(version.valid_from)} →
${version.valid_to === null ? 'now' : time(version.valid_to)}
<span class="tag">${version.cdc_operation === 'INSERT' ? 'created' : 'updated'}</span>${isChosen && markup` <span class="tag accent">in force</span>`}
</h2> <dl>${cells}</dl> <p class="source">
from <a href="${from}">${version.batch_id} line ${version.change_line}</a> · captured ${time(version.captured_at)}
· applied ${time(version.applied_at)}${
    before !== undefined &&
    markup`<i class="lead-on"> · <a
href="${tableLink(table, '/diff', { from: plain(before.valid_from), to: plain(version.valid_from) })}"
data-diff>what else changed</a></i>`
  } </p> </li>`;
}

const marksList = ({ table }: Asked, marks: Marks): Raw =>
  markup`<section> <h2>Changes that opened no version</h2> <ul class="marks"> ${marks.map(
    (mark) => markup`<li>
<span class="${mark.kind === 'rejected' ? 'bad' : 'quiet'}">${mark.kind === 'rejected' ? '✕' : '◇'} ${mark.kind}</span>
${time(mark.marked_at)} ·
<a href="${tableLink(table, '/line', { batch: mark.batch_id, line: String(mark.change_line) })}">${mark.batch_id} line ${mark.change_line}</a>
</li>`,
  )} </ul> </section>`;

/** The versions of a key, from the oldest on. */
export async function keyList(asked: Asked): Promise<Listing> {
  const columns = await columnsOf(asked);
  const [known = null] = await momentsOf(asked, 'known');
  const names = readable(columns, columns.values).map(({ column_name: name }) => name);
  const [first, last] = [
    ['valid_from', 'valid_to', 'cdc_operation'],
    ['batch_id', 'change_line', 'captured_at', 'applied_at'],
  ];
  return wholeListing(['surrogate_key', ...first, ...names, 'changed', ...last], async () =>
    (await versionsOf(asked, columns, known, null, asked.settings.console_export_rows)).map((its) => [
      ...[its.surrogate_key, its.valid_from, its.valid_to, its.cdc_operation],
      ...readable(columns, its.shown_values),
      ...[its.changed?.join(', ') ?? null, its.batch_id, String(its.change_line), its.captured_at, its.applied_at],
    ]),
  );
}

/** Where the search of the header leads: only a key of several columns is parted at its commas. */
export async function findRedirect(asked: Asked): Promise<string> {
  const table = given(asked.query, 'table') ?? '';
  const { keys } = await columnsOf({ ...asked, table });
  const key = given(asked.query, 'k') ?? '';
  return tableLink(table, '/key', { k: keys.length === 1 ? key : key.split(/,\s*/) });
}
