import { UsageError } from '../base/errors.js';
import { LONGEST_NAME, fitName } from '../base/sql-text.js';

/** Columns that every history has for itself. */
export const OWN_COLUMNS: readonly string[] = [
  'surrogate_key',
  'valid_from',
  'valid_to',
  'is_current',
  'cdc_operation',
  'cdc_timestamp',
  'batch_id',
  'created_at',
  'updated_at',
  'captured_at',
  'change_line',
];

/**
 * Names of history columns by those of the source: the same, but for those that the user renames, and those that history needs
 * for itself (created_at becomes source_created_at). A key called id is named after its table: customers.id becomes customer_key.
 * @param stored columns of the source that history keeps
 * @param taken columns that the history has already
 * @throws UsageError for a new name that another column has, and for one of a column that history does not keep
 */
export function historyNames(
  table: string,
  stored: readonly string[],
  key: readonly string[],
  rename: ReadonlyMap<string, string>,
  taken: readonly string[] = OWN_COLUMNS,
): ReadonlyMap<string, string> {
  const names = new Map<string, string>();
  const isFree = (name: string) => !taken.includes(name) && ![...names.values()].includes(name);
  for (const [source, history] of rename) {
    if (!stored.includes(source))
      throw new UsageError(`--rename ${source}=${history}: history does not keep ${source}`, {
        hint: 'rename columns that are tracked, untracked or part of the key',
      });
    if (Buffer.byteLength(history) > LONGEST_NAME)
      throw new UsageError(`--rename ${source}=${history}: the name is longer than ${String(LONGEST_NAME)} bytes`, {
        hint: 'PostgreSQL would cut it: give a shorter one',
      });
    if (!isFree(history))
      throw new UsageError(`--rename ${source}=${history}: history has a column of that name`, {
        hint: `taken are: ${[...taken, ...names.values()].join(', ')}`,
      });
    names.set(source, history);
  }
  for (const source of stored.filter((name) => !names.has(name))) {
    const wanted = key.includes(source) && source === 'id' ? keyName(table) : source;
    const candidates = [
      wanted,
      fitName(`source_${source}`),
      ...stored.map((_, place) => fitName(`source_${source}`, `_${String(place + 2)}`)),
    ];
    names.set(source, candidates.find((name) => isFree(name) && (name === source || !stored.includes(name))) ?? source);
  }
  return names;
}

/** A name in lower-case letters, digits and underscores alone. */
export const plainName = (name: string): string =>
  name
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '_')
    .replace(/^_+|_+$/g, '');

/** orders becomes order_key, categories category_key, addresses address_key. */
function keyName(table: string): string {
  const singular = plainName(table)
    .replace(/ies$/, 'y')
    .replace(/(ss|x|ch|sh)es$/, '$1')
    .replace(/(?<!s)s$/, '');
  return fitName(/^[a-z]/.test(singular) ? singular : `source_${singular}`, '_key');
}
