import { UsageError } from '../base/errors.js';
import { LONGEST_NAME, fitName } from '../base/sql-text.js';

/** A column of a history: name, what it is, its comment, and what a reader of the migration should know about it. */
export type HistoryColumn = readonly [name: string, sql: string, comment: string, remark?: string | undefined];

/** The identity of a version, which comes first in a history. */
export const IDENTITY: HistoryColumn = [
  'surrogate_key',
  'bigint generated always as identity',
  'Identity of the version.',
];

/** The same where the history is partitioned: tidemark.create_partitions gives it a sequence. */
export const NUMBERED: HistoryColumn = [IDENTITY[0], 'bigint not null', IDENTITY[2]];

/** What every history has for itself, last. @param clock what times without a zone are meant in, to follow a sentence */
export const versionColumns = (time: string, clock: string): readonly HistoryColumn[] => [
  ['valid_from', `${time} not null`, `First moment at which this version was in force${clock}.`],
  ['valid_to', time, `First moment at which it no longer was; null while it is${clock}.`],
  ['is_current', 'boolean not null default true', 'True while the version is in force.'],
  ['cdc_operation', 'varchar(10) not null', 'INSERT where a life begins, else UPDATE.'],
  ['cdc_timestamp', `${time} not null`, 'Effective time of the change that opened the version, as the change said.'],
  ['batch_id', 'varchar(100) not null', 'The batch of that change.'],
  ['created_at', 'timestamp not null default current_timestamp', 'When the row was written (UTC).'],
  ['updated_at', 'timestamp not null default current_timestamp', 'When the row was last changed (UTC).'],
  ['captured_at', 'timestamptz not null', 'Instant of the source snapshot in which the change was read.'],
  ['change_line', 'integer not null', 'Line of the change in its batch, from 1.'],
];

/** Columns that every history has for itself. */
export const OWN_COLUMNS: readonly string[] = [IDENTITY, ...versionColumns('', '')].map(([name]) => name);

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
      throw new UsageError(`--rename ${source}=${history}: the name is longer than ${LONGEST_NAME} bytes`, {
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
      ...stored.map((_, place) => fitName(`source_${source}`, `_${place + 2}`)),
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

/** orders becomes order_key, categories category_key, addresses address_key; rls and status keep their s: they are no plurals. */
function keyName(table: string): string {
  const singular = plainName(table)
    .replace(/ies$/, 'y')
    .replace(/(ss|x|ch|sh)es$/, '$1')
    .replace(/(?<=[aeiouy][a-z]*)(?<![isu])s$/, '');
  return fitName(/^[a-z]/.test(singular) ? singular : `source_${singular}`, '_key');
}
