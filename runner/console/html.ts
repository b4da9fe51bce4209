/** Text that is HTML already. What is not of this kind is escaped, wherever it comes from. */
export type Raw = Readonly<{ raw: string }>;
export type Piece = Raw | string | number | null | undefined | false | readonly Piece[];

/** What turns the direction of text, and has no picture. */
export const TURNS = /[\u202A-\u202E\u2066-\u2069\u200E\u200F]/g;

const ESCAPES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

const rendered = (piece: Piece): string => {
  if (piece === null || piece === undefined || piece === false) return '';
  if (typeof piece === 'string' || typeof piece === 'number')
    return String(piece)
      .replace(/[&<>"']/g, (mark) => ESCAPES[mark] ?? '')
      .replace(TURNS, (mark) => `&#${mark.charCodeAt(0)};`);
  return 'raw' in piece ? piece.raw : piece.map(rendered).join('');
};

/** HTML with whatever stands in it escaped, also within the quotes of an attribute. */
export const markup = (strings: TemplateStringsArray, ...pieces: readonly Piece[]): Raw => ({
  raw: strings.map((text, place) => text + rendered(pieces[place])).join(''),
});

/** The most characters of a value that a list shows, and that a page of one row shows. */
const SHORT = 120;
export const LONG = 4000;

/** Text with its control characters made visible: their pictures stand in their order from U+2400 on; what turns text has none. */
export const visible = (text: string): string =>
  text
    .replace(/[\0-\x08\x0B-\x1F]/g, (mark) => String.fromCharCode(0x2400 + mark.charCodeAt(0)))
    .replace(TURNS, '\uFFFD');

/**
 * A value of a row: its text, apart from what is around it whatever direction it is written in, control characters made visible, cut where it is
 * long.
 */
export function value(text: string | null | undefined, most = SHORT): Raw {
  if (text === null || text === undefined) return markup`<span class="null">null</span>`;
  if (text === '') return markup`<span class="null">empty</span>`;
  const cut = text.length > most ? text.slice(0, most).replace(/[\uD800-\uDBFF]$/, '') : text;
  const rest = text.length - cut.length;
  return markup`<bdi${text.length > 40 && markup` class="long"`}>${visible(cut)}</bdi>${rest > 0 && markup`<span class="more"> … ${count(rest)} more</span>`}`;
}

/** A whole number with its thousands apart. */
export const count = (number: number | string): string => String(number).replace(/\B(?=(\d{3})+$)/g, ',');

/** A moment as the server prints it in UTC, with or without zone. */
export const time = (moment: string | null | undefined): Raw =>
  moment === null || moment === undefined
    ? markup`<span class="null">–</span>`
    : markup`<time datetime="${moment.replace(' ', 'T').replace(/\+00$/, 'Z')}">${plain(moment)}</time>`;

/** The text of a moment, as a URL and a form have it. */
export const plain = (moment: string): string => moment.replace(/\+00$/, '');

/** A duration that is given in seconds, short. */
export function duration(seconds: number | null): string {
  if (seconds === null) return '–';
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`;
  return `${count(Math.round(seconds / 86_400))} d`;
}

/** Parameters of an address: one that is undefined is left out, of a list each is a parameter of its own. */
export type Query = Readonly<Record<string, string | readonly string[] | undefined>>;

/** An address with its parameters, after those that are `kept`. */
export function link(path: string, query: Query = {}, kept: [string, string][] = []): string {
  const search = new URLSearchParams(kept);
  for (const [name, given] of Object.entries(query))
    for (const each of given === undefined ? [] : [given].flat()) search.append(name, each);
  return search.size === 0 ? path : `${path}?${search.toString()}`;
}

/** The address of a table's page; a name of a table is a plain one. */
export const tableLink = (table: string, page = '', query: Query = {}): string =>
  link(`/t/${encodeURIComponent(table)}${page}`, query);

export interface Column {
  readonly label: Piece;
  /** A number stands to the right; a time is not broken. */
  readonly kind?: 'number' | 'time' | undefined;
}

export const ofNumbers = (label: Piece): Column => ({ label, kind: 'number' });
export const ofTimes = (label: Piece): Column => ({ label, kind: 'time' });

/** How values of a type stand. */
export const kindOf = (type: string): Column['kind'] =>
  /^(smallint|integer|bigint|numeric|real|double)/.test(type)
    ? 'number'
    : /^(time|date)/.test(type)
      ? 'time'
      : undefined;

/** A table of HTML, which scrolls by itself where it is too wide. @param given columns, or their labels alone */
export function table(
  caption: string,
  given: readonly (Column | Raw | string)[],
  rows: readonly (readonly Piece[])[],
): Raw {
  const columns = given.map(
    (column): Column => (typeof column === 'object' && 'label' in column ? column : { label: column }),
  );
  const kind = (place: number) => columns[place]?.kind !== undefined && markup` class="${columns[place].kind}"`;
  return markup`<div class="scroll" role="region" aria-label="${caption}" tabindex="0"> <table>
<caption class="hidden"> ${caption} </caption> <thead> <tr>
${columns.map(({ label }, place) => markup`<th scope="col" ${kind(place)}>${label}</th>`)} </tr> </thead> <tbody>
${rows.map((cells) => markup`<tr> ${cells.map((cell, place) => markup`<td${kind(place)}>${cell}</td>`)} </tr> `)}
</tbody> </table> </div>`;
}
