import { readFileSync } from 'node:fs';
import path from 'node:path';
import { PACKAGE_ROOT, type Settings } from '../base/settings.js';
import { TidemarkError, isDataFault } from '../base/errors.js';
import { browseColumns, moments, type BrowseColumn } from '../warehouse/browse.js';
import { count, markup, link, plain, tableLink, time, type Piece, type Query, type Raw } from './html.js';
import type { Session } from './session.js';
import type { Visitor } from './token.js';

/** What a page is asked for. */
export interface Asked {
  readonly settings: Settings;
  readonly path: string;
  /** The table in the path; empty where it is of none. */
  readonly table: string;
  readonly query: URLSearchParams;
  readonly session: Session;
  readonly visitor: Visitor;
  /** Whether it comes from this machine. */
  readonly isLocal: boolean;
}

export interface Page {
  readonly title: string;
  readonly body: Raw;
  /** The moment it looks at, where that is not now. */
  readonly past?: string | null;
  /** When what it shows was known, where that is not now; undefined where a page has no such clock. */
  readonly known?: string | null;
  /** Whether a script asks for it again every few seconds. */
  readonly isLive?: boolean;
}

export type Row = readonly (string | null)[];

/** What of a page is a list: all of it can be had as CSV and JSON. */
export interface Listing {
  readonly columns: readonly string[];
  /** The next rows after a place, which is what the part before gave as its next. */
  readonly read: (after: readonly string[] | null, limit: number) => Promise<{ rows: Row[]; next: string[] | null }>;
}

/** A list that is read at once. */
export const wholeListing = (columns: readonly string[], rows: () => Promise<Row[]>): Listing => ({
  columns,
  read: async () => ({ rows: await rows(), next: null }),
});

/** A file that pages use, as it is. */
export const assetText = (name: string): string =>
  readFileSync(path.join(PACKAGE_ROOT, 'runner', 'console', 'assets', name), 'utf8');

/** What rows hold under these names, as text; several of them with commas between. */
export const textsOf = <N extends string>(names: readonly N[], rows: readonly Readonly<Record<N, unknown>>[]): Row[] =>
  rows.map((row) => names.map((name) => (row[name] === null ? null : [row[name]].flat().join(', '))));

/** A fault of who asks: what is said, and what next. */
export class PageError extends TidemarkError {
  readonly status: number;

  constructor(status: number, message: string, hint: string) {
    super(message, { hint });
    this.status = status;
  }
}

/** A parameter that was given and is not empty. */
export const given = (query: URLSearchParams, name: string): string | undefined =>
  [query.get(name)].find((text) => text !== null && text !== '') ?? undefined;

/** Moments of the address as the server reads them. @throws PageError for one that is none */
export async function momentsOf(asked: Asked, ...names: readonly string[]): Promise<(string | null)[]> {
  const texts = names.map((name) => (name === 'now' ? name : (given(asked.query, name) ?? '')));
  const hint = 'write it as 2026-02-01 09:05, in UTC, or as -5 minutes';
  return moments(asked.session.warehouse, texts).catch(asFault(`${names.join(', ')}: that is no moment`, hint));
}

/** Throws a data exception as a fault of who asks, any other as it is. */
export const asFault =
  (message: string, hint: string) =>
  (error: unknown): never => {
    throw isDataFault(error) ? new PageError(400, message, hint) : error;
  };

/** The columns of a history, those of its key apart. */
export type Columns = Readonly<{ keys: readonly BrowseColumn[]; values: readonly BrowseColumn[] }>;

/** Of what stands in the order of the values, what the reader may read. */
export const readable = <T>({ values }: Columns, these: readonly T[]): T[] =>
  these.filter((_, place) => values[place]?.is_readable);

/** @throws PageError where the reader may not read the key */
export async function columnsOf({ session, table, query }: Asked): Promise<Columns> {
  const columns = (await browseColumns(session.warehouse, table)).map((column) =>
    session.isForOthers === true && column.is_masked ? { ...column, is_readable: false } : column,
  );
  const keys = columns.filter(({ column_role: role }) => role === 'business key');
  const refuse = (what: string, hint: string) =>
    new PageError(403, `${session.reader.role} may not read ${what}`, hint);
  if (keys.some((key) => !key.is_readable))
    throw refuse(
      `the key of ${table}`,
      'without it no page of the table can be shown; npx tidemark grants gives the analyst what it needs',
    );
  if (given(query, 'known') !== undefined && columns.some((column) => !column.is_readable))
    throw refuse(
      `every column of ${table}, so it cannot be told what was known of it`,
      'without the second clock its pages show what it may',
    );
  return { keys, values: columns.filter((column) => !keys.includes(column)) };
}

const ROOMS: readonly (readonly [label: string, path: string, key: string])[] = [
  ['Overview', '/', 'o'],
  ['Batches', '/batches', 'b'],
  ['Work list', '/work', 'w'],
];

/** What stands above the pages of a table. */
export const tabs = ({ table, path, query }: Asked): Raw => {
  const [as_of, known] = [given(query, 'as_of'), given(query, 'known')];
  const pages = [
    ['Rows', '', { as_of, known }],
    ['What changed', '/diff', { to: as_of }],
    ['Schema', '/schema', {}],
  ] as const;
  return markup`<nav class="tabs" aria-label="${table}">
<a class="name" href="${tableLink(table)}">${table}</a>${pages.map(([label, page, kept]) => markup`<a href="${tableLink(table, page, kept)}" ${path === tableLink(table, page) && markup` aria-current="page"`}>${label}</a>`)}<a href="${link('/batches', { table })}">Batches</a>
</nav>`;
};

/** A page as a whole document. */
export function document(page: Page, asked: Asked, tables: readonly string[]): Raw {
  const { path, table, session, query } = asked;
  const { reader, statements } = session;
  const here = path === '/' ? '/index' : path;
  const twin = (ending: string) => `${here}${ending}${query.size === 0 ? '' : `?${query.toString()}`}`;
  return markup`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>${page.title} · Tidemark</title><link rel="stylesheet" href="/console.css"><link rel="icon" href="/icon.svg">
<script type="module" src="/console.js"></script></head>
<body${(page.past ?? page.known) != null && markup` class="past"`}${page.isLive === true && markup` data-live="5"`}>
<a class="skip" href="#main">To the content</a>
<header><a class="mark" href="/"><img src="/icon.svg" alt="" width="20" height="20">Tidemark</a>
<nav aria-label="Console">${ROOMS.map(([label, to, key]) => markup`<a href="${to}" data-go="${key}" ${path === to && markup` aria-current="page"`}>${label}</a>`)}</nav>
<form class="find" action="/find" role="search"><select name="table" aria-label="Table">${tables.map((name) => markup`<option${name === table && markup` selected`}>${name}</option>`)}</select><input name="k" aria-label="Key" placeholder="find a key" autocomplete="off" required data-find><button>Find</button></form></header>
${reader.isOwn && markup`<aside class="banner" aria-label="Who reads">This console reads as <b>${reader.role}</b>, who may do more than read: nothing is written by these pages, but set CONSOLE_DB_USER, or make the roles by <code>npx tidemark grants --apply</code>.</aside>`}
<main id="main" tabindex="-1"><div id="live"> ${table !== '' && tabs(asked)}
${pastBanner(page, asked)} ${page.body}
<footer><span class="twins"><a href="${twin('.csv')}" data-export>CSV</a> <a href="${twin('.json')}">JSON</a></span>
<details class="sql"><summary>Show SQL</summary><pre tabindex="0">set timezone = 'UTC';
${reader.isOwn ? '' : `set role "${reader.role}";\n`}${statements.join('\n')}</pre></details>
<span class="who">as ${reader.role} · all times UTC · <kbd>?</kbd> keys</span></footer> </div></main></body></html>`;
}

/** Says which moment a page looks at, and when what it shows was known, and leads back. */
function pastBanner({ past = null, known }: Page, asked: Asked): Raw | false {
  if (past === null && known == null) return false;
  const to = (label: string, changed: Query) =>
    markup` <a href="${here(asked, { after: undefined, ...changed })}">${label}</a>`;
  return markup`<p class="past-banner" role="status" aria-live="polite"><span>${asked.table}${past !== null && markup` as of <b>${time(past)}</b> UTC`}${
    known != null ? markup`, as it was known at <b>${time(known)}</b> UTC` : known === null && ', as it is known now'
  }</span>${
    known != null
      ? past !== null && to('as it is known now', { known: undefined })
      : known === null && to('as it was known then', { known: plain(past ?? '') })
  }${to('back to now', { as_of: undefined, known: undefined })}</p>`;
}

/** The address of this page with some of its parameters replaced. */
export const here = ({ path, query }: Asked, changed: Query): string =>
  link(
    path,
    changed,
    [...query].filter(([name]) => !(name in changed)),
  );

/** What stands below a list: how much it shows, and where it goes on, after a place, if there is more. */
export const pager = (asked: Asked, shown: Piece, after: readonly string[] | null): Raw =>
  markup`<p class="pager"><span>${shown}</span>${after !== null && markup` <a rel="next" href="${here(asked, { after })}">next ▸</a>`}</p>`;

/** Parameters of the address but for some, as hidden fields of a form. */
export const hidden = (query: URLSearchParams, ...without: readonly string[]): Raw =>
  markup`${[...query].filter(([name]) => !without.includes(name)).map(([name, text]) => markup`<input type="hidden" name="${name}" value="${text}" />`)}`;

/** The moment that is looked at, and when it was known; null is now. */
export type Clocks = readonly [moment: string | null, known: string | null];

/** The form by which a moment is chosen, and its slider where there is a script; `stops` are moments it rests at, else it goes from end to end. */
export function momentForm(
  asked: Asked,
  [moment, known]: Clocks,
  range: { readonly from: string; readonly to: string; readonly stops?: readonly string[] } | undefined,
  neighbours: { readonly previous?: string | undefined; readonly next?: string | undefined },
): Raw {
  const step = (to: string | undefined, label: string, mark: string, key: string) =>
    to === undefined
      ? markup`<span class="step" aria-hidden="true">${mark}</span>`
      : markup`<a class="step" href="${here(asked, { as_of: plain(to), after: undefined })}" aria-label="${label}"
data-key="${key}">${mark}</a>`;
  return markup`<form class="moment" action="${asked.path}">
${hidden(asked.query, 'as_of', 'known', 'after')} ${step(neighbours.previous, 'previous change', '◀', '[')}
${
  range !== undefined &&
  markup`<input type="range" hidden data-slider aria-label="As of" min="0"
max="${range.stops === undefined ? 1000 : range.stops.length - 1}" data-from="${range.from}" data-to="${range.to}"
data-at="${moment ?? range.to}" data-stops="${range.stops?.join('|')}" />`
}
${step(neighbours.next, 'next change', '▶', ']')} <label>as of <input name="as_of"
value="${moment === null ? '' : plain(moment)}" placeholder="now, or 2026-02-01 09:05" size="27"
autocomplete="off" /></label>
<input type="datetime-local" step="1" aria-label="As of, by a calendar" data-picker hidden />
${(moment ?? known) !== null && markup`<label>known at <input name="known" value="${plain(known ?? '')}" placeholder="now" size="20" autocomplete="off" /></label>`}
<button>Go</button>
</form>`;
}

/** What may be done by hand, each by its button. */
export const ACTIONS = ['retry', 'dismiss', 'retract', 'restore', 'pause', 'resume'] as const;

/** A link to the page that says what would be done, where this console may do it. */
export const actLink = (
  { settings }: Asked,
  what: (typeof ACTIONS)[number],
  table: string,
  query: Query = {},
): Raw | false =>
  settings.console_allow_actions === 'yes' &&
  markup`<a class="act" href="${tableLink(table, '/act', { do: what, ...query })}">${what}…</a> `;

/** "3 versions", "1 version". */
export const counted = (number: number | string, noun: string): string =>
  `${count(number)} ${noun}${Number(number) === 1 ? '' : 's'}`;
