import { createHash } from 'node:crypto';

/** Names, values and comments as SQL text, for files that people read: nothing in them can end the line or the quotes it stands in. */

const CONTROL = /[\u0000-\u001f\u007f\u0085\u2028\u2029]/g;

const codePoint = (character: string) => character.charCodeAt(0).toString(16).padStart(4, '0');

/** A name in quotes, whether it needs them or not. */
export const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`;

/** A name, in quotes where it needs them: it is no plain lower-case word, or one of `keywords`. */
export function quoteName(name: string, keywords: readonly string[] = []): string {
  if (/^[a-z_][a-z0-9_]*$/.test(name) && !keywords.includes(name)) return name;
  if (name.search(CONTROL) < 0) return quoted(name);
  return `U&${quoted(name)
    .replaceAll('\\', '\\\\')
    .replace(CONTROL, (character) => `\\${codePoint(character)}`)}`;
}

/** A text as a literal on one line. */
export function quoteText(text: string): string {
  const doubled = text.replaceAll("'", "''");
  if (text.search(CONTROL) < 0) return `'${doubled}'`;
  return `E'${doubled
    .replaceAll('\\', '\\\\')
    .replaceAll('\n', '\\n')
    .replace(CONTROL, (character) => `\\u${codePoint(character)}`)}'`;
}

/** A table's name as it is given to a command in a shell: in quotes where a shell, or parseTableName (source-catalog), would take it apart otherwise. */
export function tableArgument(schema: string, table: string): string {
  const parts = [schema, table].map((part) => (/["'.]/.test(part) ? quoted(part) : part));
  const name = parts.join('.');
  return /^[\w.]+$/.test(name) ? name : `'${name.replaceAll("'", "'\\''")}'`;
}

/** A text as it may stand in a comment, on one line. */
export const commentText = (text: string): string => text.replace(CONTROL, ' ');

/** In bytes: PostgreSQL cuts a longer name. */
export const LONGEST_NAME = 63;

/** A name made of a stem and an ending. PostgreSQL would cut it after 63 bytes; cut here, long names of one beginning stay apart. */
export function fitName(stem: string, ending = '', longest = LONGEST_NAME): string {
  if (Buffer.byteLength(stem + ending) <= longest) return stem + ending;
  const tail = `_${createHash('sha256').update(stem).digest('hex').slice(0, 6)}${ending}`;
  let head = stem;
  while (Buffer.byteLength(head + tail) > longest) head = head.slice(0, -1);
  return head + tail;
}
