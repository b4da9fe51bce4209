import type { ServerResponse } from 'node:http';
import { pipeline } from 'node:stream/promises';
import { hasCode } from '../base/errors.js';
import type { Listing, Row } from './page.js';

const PART = 1000;
/** Who takes nothing for so long is left: the place that their session takes is one of few. */
const STALLED_MS = 60_000;

/** A cell of CSV. A program that reads formulas must not find one: what begins like it gets a ' before it, numbers aside. */
function cell(text: string | null): string {
  if (text === null) return '';
  const safe = /^[=+\-@\t\r]/.test(text) && !/^[+-]?[\d.]+(e[+-]?\d+)?$/i.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) || safe === '' ? `"${safe.replaceAll('"', '""')}"` : safe;
}

const FORMATS = {
  csv: {
    type: 'text/csv; charset=utf-8',
    begin: (columns: readonly string[]) => `${columns.map(cell).join(',')}\r\n`,
    row: (_: readonly string[], row: Row) => `${row.map(cell).join(',')}\r\n`,
    end: (fault: string | undefined) => (fault === undefined ? '' : `${cell(`# incomplete: ${fault}`)}\r\n`),
  },
  json: {
    type: 'application/json; charset=utf-8',
    begin: () => '{"rows": [\n',
    row: (columns: readonly string[], row: Row, isFirst: boolean) =>
      `${isFirst ? '' : ',\n'}${JSON.stringify(Object.fromEntries(columns.map((name, place) => [name, row[place] ?? null])))}`,
    end: (fault: string | undefined) => `\n], "incomplete": ${JSON.stringify(fault ?? null)}}\n`,
  },
} as const;
export type Format = keyof typeof FORMATS;

/** The part of a path that says what is wanted of a page, if it is not the page. */
export function formatOf(path: string): { readonly path: string; readonly format: Format | undefined } {
  const [, page = '', ending] = /^(.*)\.(csv|json)$/.exec(path) ?? [];
  return ending === undefined ? { path, format: undefined } : { path: page, format: ending as Format };
}

/**
 * Writes a list, part by part, as fast as it is taken. It begins when the first part is there, so that what cannot be read at all is an error page.
 * What ends it early, a fault or the most rows, is said at its end: in JSON as "incomplete", in CSV as a last line.
 * @param told what is said of a fault
 * @param stalledMs how long a client may take nothing
 */
export async function writeList(
  response: ServerResponse,
  format: Format,
  listing: Listing,
  most: number,
  headers: Readonly<Record<string, string>>,
  told: (error: unknown) => string,
  stalledMs = STALLED_MS,
): Promise<void> {
  response.setTimeout(stalledMs, () => response.destroy());
  const { type, begin, row, end } = FORMATS[format];
  const { columns, read } = listing;
  let part = await read(null, Math.min(PART, most));
  response.writeHead(200, { ...headers, 'content-type': type });
  const texts = async function* () {
    yield begin(columns);
    let [written, fault]: [number, string | undefined] = [0, undefined];
    while (fault === undefined) {
      const rows = part.rows.slice(0, most - written);
      yield rows.map((each, place) => row(columns, each, written + place === 0)).join('');
      written += rows.length;
      if (part.next === null && rows.length === part.rows.length) break;
      if (written >= most) fault = `it ends at ${most} rows (CONSOLE_EXPORT_ROWS)`;
      else part = await read(part.next, PART).catch((error: unknown) => ((fault = told(error)), part));
    }
    yield end(fault);
  };
  await pipeline(texts, response).catch((error: unknown) => {
    // Whoever asked has gone.
    if (!hasCode(error, 'ERR_STREAM_PREMATURE_CLOSE')) throw error;
  });
}
