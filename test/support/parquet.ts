import { readFileSync } from 'node:fs';
import path from 'node:path';
import { DataType, tableFromIPC, type Vector } from 'apache-arrow';
import { readParquet } from 'parquet-wasm';

/** Files of an export, read by another library than the one that writes them, as the text that PostgreSQL prints. */

export type Row = Readonly<Record<string, string | null>>;

export interface ExportManifest {
  readonly export_id: string;
  readonly number: number;
  readonly exported_at: string;
  readonly columns: readonly {
    readonly name: string;
    readonly type: string;
    readonly parquet: string;
    readonly text_because: string | null;
  }[];
  readonly left_out: readonly string[];
  readonly files: readonly { readonly name: string; readonly part: string; readonly versions: number }[];
  readonly replaced: readonly { readonly name: string; readonly replaced_at: string }[];
}

export const manifestOf = (folder: string): ExportManifest =>
  JSON.parse(readFileSync(path.join(folder, 'manifest.json'), 'utf8')) as ExportManifest;

/** Every version of an export, part by part. A column that a file lacks is null in it. */
export function readExport(folder: string): Row[] {
  const { files, columns } = manifestOf(folder);
  return files.flatMap(({ name }) => {
    const rows = readFile(path.join(folder, name));
    return rows.map((row) => Object.fromEntries(columns.map((column) => [column.name, row[column.name] ?? null])));
  });
}

export function readFile(file: string): Row[] {
  const table = tableFromIPC(readParquet(new Uint8Array(readFileSync(file))).intoIPCStream());
  const columns = table.schema.fields.map(({ name }, index) => [name, textsOf(table.getChildAt(index))] as const);
  return Array.from({ length: table.numRows }, (_, row) =>
    Object.fromEntries(columns.map(([name, texts]) => [name, texts[row] ?? null])),
  );
}

/** From the bits as they are: what the library makes of moments and decimals would be rounded. */
function textsOf(column: Vector | null): (string | null)[] {
  return (column?.data ?? []).flatMap((data) =>
    Array.from({ length: data.length }, (_, row) => {
      if (!data.getValid(row)) return null;
      const values = data.values as BigInt64Array | Int32Array | Uint32Array;
      const type = data.type as DataType;
      const number = () => BigInt(values[row] ?? 0);
      if (DataType.isDecimal(type)) return decimal((values as Uint32Array).slice(row * 4, row * 4 + 4), type.scale);
      if (DataType.isTimestamp(type)) return `${moment(number())}${type.timezone == null ? '' : '+00'}`;
      if (DataType.isTime(type)) return moment(number()).slice(11);
      if (DataType.isDate(type)) return moment(number() * 86_400_000_000n).slice(0, 10);
      return plain(type, column?.get(row));
    }),
  );
}

function plain(type: DataType, value: unknown): string {
  if (typeof value === 'boolean') return value ? 't' : 'f';
  if (typeof value === 'number') return numberText(value);
  if (!(value instanceof Uint8Array)) return String(value);
  const hex = Buffer.from(value).toString('hex');
  return DataType.isBinary(type) ? `\\x${hex}` : hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

/** One text for a number, whoever has printed it. */
export const numberText = (value: number): string => (Object.is(value, -0) ? '-0' : String(value));

function decimal(words: Uint32Array, scale: number): string {
  const bits = words.reduceRight((sum, word) => (sum << 32n) | BigInt(word), 0n);
  const value = BigInt.asIntN(128, bits);
  const digits = String(value < 0n ? -value : value).padStart(scale + 1, '0');
  const whole = digits.slice(0, digits.length - scale);
  return `${value < 0n ? '-' : ''}${whole}${scale === 0 ? '' : `.${digits.slice(-scale)}`}`;
}

/** Microseconds since 1970, as PostgreSQL prints a timestamp. */
function moment(micros: bigint): string {
  const rest = ((micros % 1000n) + 1000n) % 1000n;
  const text = new Date(Number((micros - rest) / 1000n)).toISOString().replace('T', ' ').replace('Z', '');
  return `${text}${String(rest).padStart(3, '0')}`
    .replace(/\.?0+$/, (zeros) => (zeros.startsWith('.') ? '' : zeros))
    .replace(/(\.\d*?)0+$/, '$1');
}
