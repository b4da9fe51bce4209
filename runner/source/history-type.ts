import type { CatalogColumn } from './catalog.js';

/** A type outside pg_catalog that the warehouse has too. */
export interface WarehouseType {
  readonly type_schema: string;
  readonly type_name: string;
  /** Labels of an enum. */
  readonly labels: readonly string[] | null;
}

/** The type of a history column, and why it is not that of the source, where it is not. */
export interface HistoryType {
  readonly type: string;
  readonly reason: string | undefined;
}

/** Their text means something in one database only, or depends on its settings or on how its server was built. */
const ONLY_AS_TEXT = /^(reg[a-z]+|money|xml|xid|xid8|cid|tid|aclitem|pg_node_tree|pg_snapshot|txid_snapshot)$/;

const isOutside = (column: CatalogColumn) => column.type_schema !== 'pg_catalog';

/** The types of columns that a warehouse may or may not have. */
export const outsideTypes = (columns: readonly CatalogColumn[]): CatalogColumn[] =>
  columns.filter((column) => isOutside(column) && 'berm'.includes(column.kind));

/**
 * The type that holds every value of a source column as PostgreSQL prints it. Text where the warehouse has no such type: a batch
 * carries what PostgreSQL prints, so nothing is lost, and versions are compared by what is printed anyway.
 */
export function historyType(column: CatalogColumn, inWarehouse: readonly WarehouseType[]): HistoryType {
  const asText = (reason: string): HistoryType => ({
    type: column.type.endsWith('[]') ? 'text[]' : 'text',
    reason: `${column.declared} is kept as text: ${reason}`,
  });
  if (!'berm'.includes(column.kind)) return asText('it has no type of its own that history could share');
  if (!isOutside(column)) {
    if (ONLY_AS_TEXT.test(column.type_name)) return asText('its values mean something in their own database only');
    return { type: shortType(column.type), reason: undefined };
  }
  const found = inWarehouse.find(
    (each) => each.type_schema === column.type_schema && each.type_name === column.type_name,
  );
  if (found === undefined) return asText('the warehouse has no such type');
  const missing = (column.labels ?? []).filter((label) => !(found.labels ?? []).includes(label));
  return missing.length === 0
    ? { type: column.type, reason: undefined }
    : asText(`the type of that name in the warehouse lacks ${missing.map((label) => `'${label}'`).join(', ')}`);
}

/** A type as people write it: timestamptz(3), varchar(50). */
export function shortType(type: string): string {
  return type
    .replace(/^(timestamp|time)(\(\d\))? with time zone/, '$1tz$2')
    .replace(/^(timestamp|time)(\(\d\))? without time zone/, '$1$2')
    .replace(/^character varying/, 'varchar')
    .replace(/^character(?=[([]|$)/, 'char');
}

/** Digits that every value of an integer type fits into. */
const INTEGERS: Readonly<Record<string, number>> = { smallint: 5, integer: 10, bigint: 19 };

interface TypeParts {
  readonly base: string;
  /** Length, or precision and scale; empty where the type has none. */
  readonly modifiers: readonly number[];
  readonly is_array: boolean;
}

function partsOf(type: string): TypeParts {
  const [, name = '', modifiers = '', rest = '', array = ''] =
    /^([^(]*?)(?:\((-?\d+(?:,-?\d+)?)\))?([^(]*?)(\[\])?$/.exec(shortType(type)) ?? [];
  return {
    base: `${name}${rest}`.trim(),
    modifiers: modifiers === '' ? [] : modifiers.split(',').map(Number),
    is_array: array !== '',
  };
}

/** Whether every value of a type at the source, as PostgreSQL prints it, is a value of the type in history that prints the same. */
export function fitsType(source: string, history: string): boolean {
  if (source === history) return true;
  const [from, to] = [partsOf(source), partsOf(history)];
  const isUnlimitedText = (to.base === 'text' || to.base === 'varchar') && to.modifiers.length === 0;
  if (isUnlimitedText && (!to.is_array || from.is_array)) return true;
  if (from.is_array !== to.is_array) return false;
  if (to.base === 'numeric') return fitsNumeric(from, to.modifiers);
  if (from.base in INTEGERS) {
    const digits = INTEGERS[from.base] ?? Infinity;
    return digits <= (INTEGERS[to.base] ?? 0) || (to.base === 'double precision' && digits <= 10);
  }
  if (to.base === 'varchar')
    return ['varchar', 'char'].includes(from.base) && (from.modifiers[0] ?? Infinity) <= (to.modifiers[0] ?? 0);
  if (from.base === 'real' && to.base === 'double precision') return true;
  if (from.base === 'jsonb' && to.base === 'json') return true;
  // Precision of times, length of bit strings: none in history takes any.
  return (
    from.base === to.base &&
    (to.modifiers.length === 0 ||
      (from.modifiers.length > 0 && from.base !== 'char' && (from.modifiers[0] ?? Infinity) <= (to.modifiers[0] ?? 0)))
  );
}

function fitsNumeric(from: TypeParts, [precision, scale = 0]: readonly number[]): boolean {
  const [fromPrecision, fromScale = 0] = from.base in INTEGERS ? [INTEGERS[from.base], 0] : from.modifiers;
  if (from.base !== 'numeric' && !(from.base in INTEGERS)) return false;
  if (precision === undefined) return true;
  // A scale that is not the same would print other zeros.
  return (
    fromPrecision !== undefined &&
    (fromScale === scale || (from.base in INTEGERS && scale === 0)) &&
    precision - scale >= fromPrecision - fromScale
  );
}
