import { TidemarkError } from '../base/errors.js';
import { type CatalogTable, shownName } from '../source/catalog.js';

/** What a user says of columns that are part of a key, or cannot be. */
type SaidOfColumns = Readonly<Record<'key' | 'track' | 'untracked' | 'ignore', readonly string[]>>;

/** The columns of a key, and whether nothing at the source keeps it unique. */
interface BusinessKey {
  readonly key: readonly string[];
  readonly key_is_asserted: boolean;
  /** What a reader should know of it. */
  readonly remarks: readonly string[];
}

/** The most columns of a unique index are 32, and in history the time of the version is one. */
const MOST_KEY_COLUMNS = 31;

/**
 * The key that the user names, or else the primary key, or the first unique index over columns that are not null; of a table without one all
 * columns but its times.
 * @throws TidemarkError where nothing tells the rows apart
 */
export function businessKey(table: CatalogTable, options: SaidOfColumns, times: readonly string[]): BusinessKey {
  const given = options.key;
  const isTable = ['r', 'p'].includes(table.kind);
  const found = table.unique_keys.find(({ nullable }) => nullable.length === 0);
  if (given.length === 0 && found !== undefined) return { key: found.columns, key_is_asserted: false, remarks: [] };
  const same = table.unique_keys.find(
    ({ columns }) => columns.length === given.length && columns.every((name) => given.includes(name)),
  );
  if (same?.nullable.length === 0 || (!isTable && given.length > 0))
    return { key: given, key_is_asserted: false, remarks: [] };
  if (found !== undefined)
    throw new TidemarkError(
      `the key of ${shownName(table)} ${same === undefined ? 'is not unique there: no unique index has exactly these columns' : `may be null: ${same.nullable.join(', ')}`}`,
      {
        detail: `key: ${given.join(', ')}`,
        hint: `make it unique and not null at the source, or choose another key: ${found.columns.join(', ')} is one`,
      },
    );
  const left = [...times, ...options.ignore, ...options.track, ...options.untracked];
  const all = table.columns.map(({ name }) => name).filter((name) => isTable && !left.includes(name));
  const key = given.length > 0 ? given : all;
  if (key.length === 0 || key.length > MOST_KEY_COLUMNS)
    throw new TidemarkError(
      `${shownName(table)} has no key: nothing says which of its rows is which${key.length === 0 ? '' : `, and all its columns are too many for one (${String(key.length)}, of at most ${String(MOST_KEY_COLUMNS)})`}`,
      {
        hint: isTable
          ? 'give it a primary key, or name the columns that are never twice the same with --key'
          : 'it is no table: name the columns that are never twice the same with --key',
      },
    );
  const taken =
    given.length > 0
      ? 'the one that --key names is taken at its word'
      : `all its columns are taken for one (${key.join(', ')}), so that a changed row is another row, and the old one is gone`;
  const remark = `${shownName(table)} has no key that it keeps unique: ${taken}. Two rows that are alike in it, or a null, stop the table (full sweeps and reconcile look for them), and so does a key of more than about 2,600 bytes`;
  return { key, key_is_asserted: true, remarks: [remark] };
}

/**
 * What history keeps beside its versions is found by the text of the key: a type or collation that takes two texts for one would tear a row in
 * two. Numbers and padded texts are brought to one form (tidemark._key_member); the rest is refused, in the words of tidemark.dimension_faults,
 * which sees the type of the history alone: of a composite, which is kept as text, only the source knows what it consists of.
 * @throws TidemarkError naming the column
 */
export function assertKeyIsExact(table: CatalogTable, key: readonly string[]): void {
  const column = table.columns.find(({ name, key_fault }) => key.includes(name) && key_fault !== null);
  if (column === undefined) return;
  throw new TidemarkError(
    `column ${column.name} of ${shownName(table)} cannot be a key: ${column.key_fault ?? ''} (${column.declared})`,
    {
      hint: column.is_textual
        ? `name another unique key with --key; or let the source tell them apart: alter table ${shownName(table)} alter column ${column.name} type text collate "C"`
        : 'name another unique key with --key',
    },
  );
}
