import { TidemarkError, UsageError } from '../base/errors.js';
import { type CatalogColumn, type CatalogTable, shownName } from '../source/catalog.js';

/** Of an effective time: that of the capture, where no column says when a row changed. */
export const CAPTURE = 'capture';

/** What a user says of the times of a table. */
interface TimeOptions {
  readonly effective_time?: string | undefined;
  readonly insert_time?: string | undefined;
  readonly track: readonly string[];
  readonly untracked: readonly string[];
  readonly ignore: readonly string[];
}

/** Where the times of a row come from. */
export interface Times {
  /** Undefined where it is that of the capture. */
  readonly effective: CatalogColumn | undefined;
  readonly insert: CatalogColumn | undefined;
  /** What was guessed, and what it costs. */
  readonly remarks: readonly string[];
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

/** The columns that are times, by name. */
export const timeNames = ({ effective, insert }: Times): string[] =>
  [effective, insert].flatMap((column) => column?.name ?? []);

/**
 * Decides which columns are the effective time and the insert time, by what the user said or by their names.
 * @throws UsageError, TidemarkError for a column that cannot be one
 */
export function planTimes(table: CatalogTable, options: TimeOptions, key: readonly string[]): Times {
  const { effective_time: asked, insert_time, ignore } = options;
  const usable = table.columns.filter(({ name, time_type }) => time_type !== null && !ignore.includes(name));
  const named = CHANGED.map((pattern) => usable.filter((column) => says(pattern, column)));
  const likely = [...new Set(named.flat())];
  const effective = asked === undefined ? likely[0] : usable.find(({ name }) => name === asked);
  if (effective === undefined) {
    if (asked !== undefined && asked !== CAPTURE)
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
    return { effective, insert: undefined, remarks: [captureRemark(table, asked === undefined, ignore)] };
  }
  const isGuessed = asked === undefined && (likely.length > 1 || named.at(-1)?.length === named.flat().length);
  return {
    effective,
    insert: insertTime(table, options, key, effective),
    remarks: [
      isGuessed &&
        `${effective.name} is taken for the effective time${likely.length > 1 ? `, of ${likely.map(({ name }) => name).join(', ')}` : ' for its name'}: where not every change of a row sets it, name another with --effective-time, or say --effective-time ${CAPTURE}`,
      !effective.is_not_null &&
        ['r', 'p'].includes(table.kind) &&
        `${effective.name} may be null: a row without it takes the time of its capture`,
      key.includes(effective.name) &&
        `${effective.name} is part of the key, so that no update sets it: full sweeps find updates of older rows`,
    ].filter((remark) => remark !== false),
  };
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
  { insert_time, track, untracked, ignore }: TimeOptions,
  key: readonly string[],
  effective: CatalogColumn,
): CatalogColumn | undefined {
  if (insert_time === 'none') return undefined;
  const fits = (column: CatalogColumn) => column.time_type === effective.time_type && column !== effective;
  const asked = table.columns.find(({ name }) => name === insert_time);
  if (asked !== undefined && !fits(asked))
    throw new TidemarkError(`column ${asked.name} of ${shownName(table)} cannot be the insert time`, {
      hint: `it must be a ${effective.time_type ?? ''}, as ${effective.name} is; or give --insert-time none`,
    });
  const taken = [...track, ...untracked, ...ignore, ...key];
  return asked ?? table.columns.find((column) => says(MADE, column) && fits(column) && !taken.includes(column.name));
}
