import { TidemarkError, UsageError } from '../base/errors.js';
import { type CatalogColumn, type CatalogTable, shownName } from '../source/catalog.js';
import { isLogged } from '../batch/mapping.js';
import type { RegistrationOptions } from './options.js';

/** Of an effective time: that of the capture, where no column says when a row changed. */
export const CAPTURE = 'capture';
/** Of one that is read from the log: that of the commit. */
export const COMMIT = 'commit';

/** What tells the rows of a table apart, and what dates them. */
interface Roles {
  /** The columns of the key. */
  readonly key: readonly string[];
  /** Whether nothing at the source keeps the key unique. */
  readonly key_is_asserted: boolean;
  /** Undefined where it is that of the capture. */
  readonly effective: CatalogColumn | undefined;
  /** The columns that are times, by name. */
  readonly times: readonly string[];
  /** What was guessed, and what it costs. */
  readonly remarks: readonly string[];
}

/**
 * Decides which columns are the key, the effective time and the insert time, by what the user said or by their names.
 * @throws UsageError, TidemarkError for a column that cannot be one, or where nothing tells the rows apart
 */
export function planRoles(table: CatalogTable, options: RegistrationOptions): Roles {
  const time = effectiveTime(table, options);
  const timesBeside = (key: readonly string[]) =>
    [time.effective, insertTime(table, options, key, time.effective)].flatMap((column) => column?.name ?? []);
  // A table without a key is told apart by all columns that are no times, which are known before it.
  const { key, key_is_asserted, remarks } = businessKey(table, options, timesBeside(options.key));
  assertKeyIsExact(table, key);
  const times = timesBeside(key);
  // What a key means and when it took effect are two things.
  assertOneRoleEach(
    options,
    key,
    times.filter((each) => !key.includes(each)),
  );
  return { key, key_is_asserted, effective: time.effective, times, remarks: [...remarks, ...time.remarksFor(key)] };
}

function assertOneRoleEach(options: RegistrationOptions, key: readonly string[], times: readonly string[]): void {
  const roles = [key, times, options.track, options.untracked, options.ignore].flatMap((names) => [...new Set(names)]);
  const twice = roles.find((name, place) => roles.indexOf(name) !== place);
  if (twice === undefined) return;
  throw new UsageError(`column ${twice} is given two roles`, {
    hint: 'a column is part of the key, one of the times, tracked, untracked or ignored',
  });
}

/** The most columns of a unique index are 32, and in history the time of the version is one. */
const MOST_KEY_COLUMNS = 31;

/**
 * The key that the user names, or else the primary key, or the first unique index over columns that are not null; of a table without one all
 * columns but its times.
 * @throws TidemarkError where nothing tells the rows apart
 */
function businessKey(table: CatalogTable, options: RegistrationOptions, times: readonly string[]) {
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
      `${shownName(table)} has no key: nothing says which of its rows is which${key.length === 0 ? '' : `, and all its columns are too many for one (${key.length}, of at most ${MOST_KEY_COLUMNS})`}`,
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
function assertKeyIsExact(table: CatalogTable, key: readonly string[]): void {
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

const MOMENT = '(at|on|time|date|datetime|timestamp|ts|utc)*$';
const OF_ROW = '^(row|record|date|time|dt|ts)?';
/** What the name of a column says without regard to capital letters and underscores: updatedAt is updated_at. The surest first, the last a guess. */
const CHANGED = [
  RegExp(`^lastupdated?${MOMENT}`),
  RegExp(`${OF_ROW}updated?${MOMENT}`),
  RegExp(`${OF_ROW}(last)?(modified|modify|modification|edited)${MOMENT}`),
  RegExp(`${OF_ROW}(last)?changed?${MOMENT}`),
  /^writedate$/,
  /updated|modified/,
];
const MADE = RegExp(`${OF_ROW}(created?|creation|inserted?|insertion)${MOMENT}`);

const says = (pattern: RegExp | undefined, { name }: CatalogColumn): boolean =>
  pattern?.test(name.toLowerCase().replaceAll(/[^a-z0-9]/g, '')) === true;

/** Whether an effective time is said to be none of a column. */
export const isOwnTime = (asked: string, fromLog: boolean): boolean =>
  asked === CAPTURE || (fromLog && asked === COMMIT);

function effectiveTime(table: CatalogTable, options: RegistrationOptions) {
  const { effective_time: asked, insert_time, ignore } = options;
  const usable = table.columns.filter(({ name, time_type }) => time_type !== null && !ignore.includes(name));
  const named = CHANGED.map((pattern) => usable.filter((column) => says(pattern, column)));
  const likely = [...new Set(named.flat())];
  const effective = asked === undefined && !isLogged(options) ? likely[0] : usable.find(({ name }) => name === asked);
  if (effective === undefined) {
    if (asked !== undefined && !isOwnTime(asked, isLogged(options)))
      throw new TidemarkError(
        `column ${asked} of ${shownName(table)} is no timestamp: it cannot be the effective time`,
        {
          hint: `a timestamp or timestamptz that every change of a row sets is needed; or take that of the capture: --effective-time ${CAPTURE}`,
        },
      );
    if (insert_time !== undefined && insert_time !== 'none')
      throw new UsageError('--insert-time goes with an effective time that is a column', {
        hint: 'leave it out: the column is kept as any other',
      });
    return {
      effective,
      remarksFor: () => (isLogged(options) ? [] : [captureRemark(table, asked === undefined, ignore)]),
    };
  }
  const isGuessed = asked === undefined && (likely.length > 1 || named.at(-1)?.length === named.flat().length);
  const remarksFor = (key: readonly string[]) =>
    [
      isGuessed &&
        `${effective.name} is taken for the effective time${likely.length > 1 ? `, of ${likely.map(({ name }) => name).join(', ')}` : ' for its name'}: where not every change of a row sets it, name another with --effective-time, or say --effective-time ${CAPTURE}`,
      !effective.is_not_null &&
        ['r', 'p'].includes(table.kind) &&
        `${effective.name} may be null: a row without it takes the time of its capture`,
      key.includes(effective.name) &&
        !isLogged(options) &&
        `${effective.name} is part of the key, so that no update sets it: full sweeps find updates of older rows`,
    ].filter((remark) => remark !== false);
  return { effective, remarksFor };
}

function captureRemark(table: CatalogTable, isGuessed: boolean, ignore: readonly string[]): string {
  const clues = table.columns
    .filter(({ name }) => isGuessed && !ignore.includes(name))
    .flatMap((column) => {
      if (column.time_type !== null) return says(MADE, column) ? `${column.name} says when it was made` : [];
      return CHANGED.some((pattern) => says(pattern, column)) && /^(date|time|bigint|integer|numeric)/.test(column.type)
        ? `${column.name} is of type ${column.type}`
        : [];
    });
  const why = isGuessed ? `no column says when a row changed${clues.length > 0 ? ` (${clues.join('; ')})` : ''}: ` : '';
  return ['r', 'p'].includes(table.kind)
    ? `${why}changes are found by their transactions, versions are valid from their capture, and each sweep reads the whole table`
    : `${why}versions are valid from their capture, and each sweep writes all rows, of which the load absorbs those that have not changed`;
}

/** The insert time, where there is one. */
function insertTime(
  table: CatalogTable,
  { insert_time, track, untracked, ignore }: RegistrationOptions,
  key: readonly string[],
  effective: CatalogColumn | undefined,
): CatalogColumn | undefined {
  if (effective === undefined || insert_time === 'none') return undefined;
  const fits = (column: CatalogColumn) => column.time_type === effective.time_type && column !== effective;
  const asked = table.columns.find(({ name }) => name === insert_time);
  if (asked !== undefined && !fits(asked))
    throw new TidemarkError(`column ${asked.name} of ${shownName(table)} cannot be the insert time`, {
      hint: `it must be a ${effective.time_type ?? ''}, as ${effective.name} is; or give --insert-time none`,
    });
  const taken = [...track, ...untracked, ...ignore, ...key];
  return asked ?? table.columns.find((column) => says(MADE, column) && fits(column) && !taken.includes(column.name));
}
