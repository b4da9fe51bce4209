import { isUtf8 } from 'node:buffer';
import { NULL, UNCHANGED, type Tuple } from './pgoutput.js';

/**
 * Rows as change lines, bytes to bytes: as `to_json` prints them for a poll (sql/source/describe_table.sql), from the text that the log carries,
 * which is that of the very same functions of each type.
 */

/**
 * How a value stands in JSON: as it is; as it is where it is finite; true and false; with a T; and an offset of two digits more; as a text:
 * without the blanks it was filled up with; with the length of its network always, as casting to text has it.
 */
type Print = 'digits' | 'number' | 'boolean' | 'timestamp' | 'timestamptz' | 'padded text' | 'address' | 'text';

const PRINTS: Readonly<Record<string, Print>> = {
  int2: 'digits',
  int4: 'digits',
  int8: 'digits',
  float4: 'number',
  float8: 'number',
  numeric: 'number',
  bool: 'boolean',
  timestamp: 'timestamp',
  timestamptz: 'timestamptz',
  bpchar: 'padded text',
  inet: 'address',
};

/** Those of the types that no message names, because each server has them. */
const BUILT_IN: Readonly<Record<number, string>> = {
  ...{ 16: 'bool', 20: 'int8', 21: 'int2', 23: 'int4', 700: 'float4', 701: 'float8', 869: 'inet', 1042: 'bpchar' },
  ...{ 1114: 'timestamp', 1184: 'timestamptz', 1700: 'numeric' },
};

/** @param domains base types of pg_catalog by the number of a domain, as messages name them */
export const printOf = (type: number, domains: ReadonlyMap<number, string>): Print =>
  PRINTS[BUILT_IN[type] ?? domains.get(type) ?? ''] ?? 'text';

export const labelOf = (name: string): Buffer => Buffer.from(`${JSON.stringify(name)}:`);

/** A column that goes into the lines, and where it stands in a tuple. */
export interface LineColumn {
  readonly name: string;
  /** The name as a member of a line, with its colon. */
  readonly label: Buffer;
  readonly place: number;
  readonly print: Print;
  readonly isKey: boolean;
  readonly isIdentity: boolean;
}

/** Lines that gather, parted by comma and line break. */
export interface Lines {
  bytes: Buffer;
  length: number;
  count: number;
}

const FIRST_SIZE = 16 * 1024;

export const noLines = (size = FIRST_SIZE): Lines => ({ bytes: Buffer.allocUnsafe(size), length: 0, count: 0 });

/** Takes the lines out that end at a place, and leaves the others. @param count how many they are */
export function takeLines(lines: Lines, length: number, count: number): Buffer {
  const taken = lines.bytes.subarray(0, length);
  const parted = length + (lines.count > count && count > 0 ? SEPARATOR.length : 0);
  const rest = lines.bytes.subarray(parted, lines.length);
  Object.assign(lines, noLines(Math.max(FIRST_SIZE, rest.length)), { length: rest.length, count: lines.count - count });
  rest.copy(lines.bytes);
  return taken;
}

const SEPARATOR = Buffer.from(',\n');
const [QUOTE, BACKSLASH, BLANK, COMMA, COLON, SLASH] = [0x22, 0x5c, 0x20, 0x2c, 0x3a, 0x2f];
const [TRUE, FALSE, NOTHING, ZONE] = ['true', 'false', 'null', '+00'].map((text) => Buffer.from(text)) as [
  Buffer,
  Buffer,
  Buffer,
  Buffer,
];
/** What JSON calls by a letter, by the byte. */
const LETTERS: Readonly<Record<number, string>> = { 8: 'b', 9: 't', 10: 'n', 12: 'f', 13: 'r' };
const ESCAPES: readonly (Buffer | undefined)[] = Array.from({ length: 128 }, (_, byte) => {
  if (byte === QUOTE || byte === BACKSLASH) return Buffer.from([BACKSLASH, byte]);
  if (byte >= BLANK) return undefined;
  return Buffer.from(LETTERS[byte] === undefined ? `\\u${byte.toString(16).padStart(4, '0')}` : `\\${LETTERS[byte]}`);
});

function room(lines: Lines, bytes: number): void {
  if (lines.length + bytes <= lines.bytes.length) return;
  const larger = Buffer.allocUnsafe(Math.max(lines.bytes.length * 2, lines.length + bytes));
  lines.bytes.copy(larger, 0, 0, lines.length);
  lines.bytes = larger;
}

/** To copy so little byte by byte takes less time than to have it copied. */
const SHORT = 64;

function append(lines: Lines, bytes: Buffer, start = 0, end = bytes.length): void {
  room(lines, end - start);
  if (end - start > SHORT) bytes.copy(lines.bytes, lines.length, start, end);
  else for (let at = start, to = lines.length; at < end; at += 1, to += 1) lines.bytes[to] = bytes[at] ?? 0;
  lines.length += end - start;
}

function appendString(lines: Lines, text: string): void {
  room(lines, text.length * 3);
  lines.length += lines.bytes.write(text, lines.length);
}

function appendByte(lines: Lines, byte: number): void {
  room(lines, 1);
  lines.bytes[lines.length] = byte;
  lines.length += 1;
}

function appendText(lines: Lines, bytes: Buffer, start: number, end: number): void {
  room(lines, end - start + 2);
  let { length } = lines;
  const isShort = end - start <= SHORT;
  lines.bytes[length] = QUOTE;
  length += 1;
  let plain = start;
  for (let at = start; at < end; at += 1) {
    const byte = bytes[at] ?? 0;
    const escape = byte <= BACKSLASH ? ESCAPES[byte] : undefined;
    if (escape === undefined) {
      if (isShort) lines.bytes[length++] = byte;
      continue;
    }
    lines.length = length;
    if (!isShort) append(lines, bytes, plain, at);
    append(lines, escape);
    room(lines, end - at + 1);
    ({ length } = lines);
    plain = at + 1;
  }
  lines.length = length;
  if (!isShort) append(lines, bytes, plain, end);
  appendByte(lines, QUOTE);
}

/** 2026-02-01 09:00:00+00 is 2026-02-01T09:00:00+00:00; infinity has neither; what comes before Christ says so after the offset. */
function appendTime(lines: Lines, bytes: Buffer, start: number, end: number, hasZone: boolean): void {
  const from = lines.length;
  appendText(lines, bytes, start, end);
  const blank = lines.bytes.subarray(from, lines.length).indexOf(BLANK);
  if (blank < 0) return;
  lines.bytes[from + blank] = 0x54;
  if (!hasZone) return;
  const zone = lines.bytes.subarray(from, lines.length).lastIndexOf(ZONE) + ZONE.length;
  const rest = Buffer.from(lines.bytes.subarray(from + zone, lines.length));
  lines.length = from + zone;
  appendString(lines, ':00');
  append(lines, rest);
}

const isDigit = (byte = 0): boolean => byte >= 0x30 && byte <= 0x39;

function appendValue(lines: Lines, print: Print, { bytes, starts, lengths }: Tuple, place: number): void {
  const [start = 0, length = NULL] = [starts[place], lengths[place]];
  let end = start + length;
  if (length === NULL) append(lines, NOTHING);
  else if (print === 'digits' || (print === 'number' && isDigit(bytes[end - 1]))) append(lines, bytes, start, end);
  else if (print === 'boolean') append(lines, bytes[start] === 0x74 ? TRUE : FALSE);
  else if (print === 'timestamp' || print === 'timestamptz')
    appendTime(lines, bytes, start, end, print === 'timestamptz');
  else {
    if (print === 'padded text') while (end > start && bytes[end - 1] === BLANK) end -= 1;
    appendText(lines, bytes, start, end);
    const value = bytes.subarray(start, end);
    if (print !== 'address' || value.includes(SLASH)) return;
    lines.length -= 1;
    appendString(lines, value.includes(COLON) ? '/128"' : '/32"');
  }
}

function appendMembers(lines: Lines, columns: readonly LineColumn[], tupleOf: (column: LineColumn) => Tuple): void {
  for (const column of columns) {
    const tuple = tupleOf(column);
    if (tuple.lengths[column.place] === UNCHANGED) continue;
    append(lines, column.label);
    appendValue(lines, column.print, tuple, column.place);
    appendByte(lines, COMMA);
  }
}

/** What a change is besides its row. */
export interface ChangeOf {
  readonly operation: 'INSERT' | 'UPDATE' | 'DELETE' | 'TRUNCATE';
  /** When it was committed, in JSON: its capture time. */
  readonly at: string;
  /** The column that is its effective time; undefined where that is its capture time too. */
  readonly effective?: LineColumn | undefined;
  /** Whether the source takes any bytes (SQL_ASCII), so that they are to be looked at. */
  readonly mayBeUnreadable?: boolean | undefined;
}

const valueOf = ({ bytes, starts, lengths }: Tuple, place: number): Buffer => {
  const start = starts[place] ?? 0;
  return bytes.subarray(start, start + Math.max(0, lengths[place] ?? 0));
};

/** As encode(..., 'escape') has it. */
const escaped = (bytes: Buffer): string =>
  [...bytes]
    .map((byte) => (byte === BACKSLASH ? '\\\\' : byte < 0x80 ? String.fromCharCode(byte) : `\\${byte.toString(8)}`))
    .join('');

const NONE: readonly LineColumn[] = [];

let times = { of: '', bytes: Buffer.alloc(0) };

/** What lines of one transaction end with, and most of the lines that follow each other. */
function timesOf(operation: string, at: string): Buffer {
  const of = `"operation_type":"${operation}","cdc_timestamp":${at}`;
  if (times.of !== of) times = { of, bytes: Buffer.from(`${of},"extracted_at":${at}`) };
  return times.bytes;
}

/**
 * Adds the line of one change.
 * @param columns of the row that go into it, in this order
 * @param row undefined for a TRUNCATE
 * @param old what is known of the row before: there the values of its identity are that the new row leaves out
 * @param moved whether `old` is of another key, under which unchanged values are found
 * @returns whether there are values that were not sent, which the line names
 */
export function addLine(
  lines: Lines,
  { operation, at, effective, mayBeUnreadable = false }: ChangeOf,
  columns: readonly LineColumn[],
  row?: Tuple,
  old?: Tuple,
  moved = false,
): boolean {
  if (lines.count > 0) append(lines, SEPARATOR);
  lines.count += 1;
  appendByte(lines, 0x7b);
  const from = ({ place, isIdentity }: LineColumn, tuple: Tuple) =>
    tuple.lengths[place] === UNCHANGED && isIdentity && old !== undefined ? old : tuple;
  const isHidden = (column: LineColumn) =>
    mayBeUnreadable && row !== undefined && !isUtf8(valueOf(from(column, row), column.place));
  const hidden = mayBeUnreadable ? columns.filter(isHidden) : NONE;
  const shown = hidden.length === 0 ? columns : columns.filter((column) => !isHidden(column));
  if (row !== undefined) appendMembers(lines, shown, (column) => from(column, row));
  const said = hidden.length === 0 ? operation : 'UNREADABLE';
  if (row !== undefined && effective !== undefined && (row.lengths[effective.place] ?? NULL) >= 0) {
    appendString(lines, `"operation_type":"${said}","cdc_timestamp":`);
    appendValue(lines, effective.print, row, effective.place);
    appendString(lines, `,"extracted_at":${at}`);
  } else append(lines, timesOf(said, at));
  if (row !== undefined && hidden.length > 0) {
    const values = hidden.map((column) => [column.name, escaped(valueOf(from(column, row), column.place))]);
    appendString(lines, `,"unreadable":${JSON.stringify(Object.fromEntries(values))}`);
  }
  const unchanged = row?.lengths.includes(UNCHANGED)
    ? columns.filter((column) => isUnchanged(from(column, row), column))
    : NONE;
  if (unchanged.length > 0) {
    appendString(lines, `,"unchanged":${JSON.stringify(unchanged.map(({ name }) => name))}`);
    if (moved && old !== undefined) {
      appendString(lines, ',"unchanged_of":{');
      const keys = columns.filter(({ isKey }) => isKey);
      appendMembers(lines, keys, () => old);
      lines.length -= 1;
      appendByte(lines, 0x7d);
    }
  }
  appendByte(lines, 0x7d);
  return unchanged.length > 0;
}

const isUnchanged = ({ lengths }: Tuple, { place }: LineColumn): boolean => lengths[place] === UNCHANGED;

/** Whether two tuples have the same key: the same text, for what is padded without its blanks. */
export function isSameKey(columns: readonly LineColumn[], one: Tuple, other: Tuple): boolean {
  return columns.every((column) => {
    if (!column.isKey || isUnchanged(one, column) || isUnchanged(other, column)) return true;
    return valueOf(one, column.place).equals(valueOf(other, column.place));
  });
}
