import { TidemarkError } from '../base/errors.js';
import { shownName, type CatalogTable } from '../source/catalog.js';

/** Which columns tell the rows of a source table apart, and whether history can tell them apart likewise. */

/**
 * The key that the user names, or else the primary key, or the first unique index over columns that are not null.
 * @param given columns; empty for none
 * @throws TidemarkError where nothing tells the rows apart
 */
export function businessKey(table: CatalogTable, given: readonly string[]): readonly string[] {
  const hasIndexes = ['r', 'p'].includes(table.kind);
  const nullable = (columns: readonly string[]) => columns.filter((name) => table.columns.some((column) => column.name === name && !column.is_not_null));
  const fits = (columns: readonly string[]) => nullable(columns).length === 0;
  if (given.length === 0) {
    const found = table.unique_keys.find(({ columns }) => fits(columns));
    if (found !== undefined && hasIndexes) return found.columns;
    throw new TidemarkError(`${shownName(table)} has no key: nothing says which of its rows is which`, {
      hint: hasIndexes ? 'give it a primary key, or name the columns of a unique index that are not null with --key' : 'it is no table: name the columns that are never twice the same with --key',
    });
  }
  const isUnique = table.unique_keys.some(({ columns }) => columns.length === given.length && columns.every((name) => given.includes(name)));
  if (!hasIndexes || (isUnique && fits(given))) return given;
  const fault = isUnique ? `may be null: ${nullable(given).join(', ')}` : 'is not unique there: no unique index has exactly these columns';
  throw new TidemarkError(`the key of ${shownName(table)} ${fault}`, { detail: `key: ${given.join(', ')}`, hint: 'rows would be lost between pages: make it unique and not null at the source, or choose another key' });
}

/** Equal values of these types may print in several ways: 1 day and 24:00, {"a": 1} and {"a": 1.0}. */
const LOOSE_TYPES = ['citext', 'interval', 'jsonb'];

/**
 * What history keeps beside its versions is found by the text of the key: a type or collation that takes two texts for one would tear a row in
 * two. Numbers and padded texts are brought to one form (tidemark._key_member); the warehouse refuses the rest (tidemark._is_printed_as_equal).
 * @throws TidemarkError naming the column
 */
export function assertKeyIsExact(table: CatalogTable, key: readonly string[]): void {
  const loose = table.columns.find(({ name, type_name, is_deterministic }) => key.includes(name) && (LOOSE_TYPES.includes(type_name) || !is_deterministic));
  if (loose === undefined) return;
  const what = LOOSE_TYPES.includes(loose.type_name) ? `of type ${loose.type_name}` : 'under a collation that is not deterministic';
  throw new TidemarkError(`${loose.name}, in the key of ${shownName(table)}, is ${what}: texts that are not the same are one key there, and two in history`, {
    hint: `name another unique key with --key; or let the source tell them apart: alter table ${shownName(table)} alter column ${loose.name} type text collate "C"`,
  });
}
