import { formatTable } from '../runner/base/text-table.js';
import { spread, type Spread } from './measure.js';

/** A row of the table: what was measured in a few interleaved runs, and what it should be. */
export interface Figure {
  /** By which another row names it. */
  readonly id: string;
  readonly name: string;
  /** "x COPY", or what is not a ratio: "ms", "MB", "s". */
  readonly unit: string;
  readonly measured: Spread;
  /** None of a floor, and of what is there to compare with. */
  readonly target?: Target | undefined;
  /** The row of which this is the floor: what PostgreSQL itself needs for the same, with nothing of Tidemark. */
  readonly floor_of?: string | undefined;
  /** Seconds behind a ratio, by name: for the curious; they mean little elsewhere. */
  readonly seconds: Readonly<Record<string, Spread>>;
}

export interface Target {
  readonly value: number;
  readonly bound: 'at most' | 'at least';
}

const BATCHES = 'less for V8 to collect while the log is read, and what apply has left to win';
const CHECKS = 'a checksum in place of the checks of each change that the reader has made already';
const PIECES = 'batches that are handed on in pieces, so that none is anywhere whole';
const AT_ONCE = 'what is done for each table and could be done for all at once';

/** What to try next for each row that has a target, where it is missed by more than its floor explains; by id, without the rate. */
const IDEAS: Readonly<Record<string, string>> = {
  one: 'one function that knows the ledger, the lock and the batch of its dimension, compiled with it',
  insert: CHECKS,
  update: CHECKS,
  history: 'the plans of the look-ups, by auto_explain: what grows with the history reads more of it than its keys',
  late: 'keys with several changes, or with changes that were absorbed, in fewer and narrower steps',
  page: 'lines handed over by COPY as they are printed, and not as one text',
  whole: 'fewer and larger flushes; what apply has left to win',
  memory_extract: PIECES,
  memory_load: PIECES,
  start: 'fewer modules before the command is known, and the compile cache of Node',
  log_applied: BATCHES,
  log_p50: BATCHES,
  log_p99: BATCHES,
  log_time: BATCHES,
  log_memory: PIECES,
  'missed_the log': 'nothing may be missed: it is a fault, to be found by "tidemark verify-log" and "reconcile"',
  tables_migrate: AT_ONCE,
  tables_extract: AT_ONCE,
  tables_reconcile: AT_ONCE,
  suite: 'fewer processes, sessions and databases for each test',
};
export const ideaOf = ({ id }: Pick<Figure, 'id'>): string | undefined => IDEAS[id.replace(/_[\d.]+k$/, '')];

export interface Measured extends Omit<Figure, 'measured' | 'seconds'> {
  readonly values: readonly number[];
  readonly seconds?: Readonly<Record<string, readonly number[]>>;
}

export const figure = ({ values, seconds = {}, ...rest }: Measured): Figure => ({
  ...rest,
  measured: spread(values),
  seconds: Object.fromEntries(Object.entries(seconds).map(([each, figures]) => [each, spread(figures)])),
});

export const atMost = (value: number): Target => ({ value, bound: 'at most' });
export const atLeast = (value: number): Target => ({ value, bound: 'at least' });

/** A figure whose values are ratios of two measured in the same run. */
export const ratioOf = (
  what: Omit<Measured, 'values' | 'seconds'>,
  ...[one, other]: readonly [name: string, seconds: readonly number[]][]
): Figure => {
  if (one === undefined || other === undefined) throw new Error(`"${what.name}" compares nothing`);
  const values = one[1].map((value, run) => value / (other[1][run] ?? Number.NaN));
  return figure({ ...what, values, seconds: Object.fromEntries([one, other]) });
};

/** Undefined where there is no target. */
export const isMet = ({ measured, target }: Figure): boolean | undefined =>
  target && (target.bound === 'at most' ? measured.median <= target.value : measured.median >= target.value);

/** How many times its floor a figure is, or its floor the figure where more is better; undefined where it has none. */
export const timesFloor = (of: Figure, figures: readonly Figure[]): number | undefined => {
  const floor = figures.find(({ floor_of }) => floor_of === of.id);
  const times = floor && of.measured.median / floor.measured.median;
  return times && (of.target?.bound === 'at least' ? 1 / times : times);
};

/** The floor of a ratio to what is a floor already. */
export const yardstick = ({ id, unit }: Figure, name: string): Figure =>
  figure({ id: `${id}_floor`, floor_of: id, name, unit, values: [1] });

/** A miss beyond this many times its floor has something left to try. */
export const NEAR_FLOOR = 1.3;

export const short = (value: number): string =>
  Number.isInteger(value) || value >= 100 ? value.toFixed(0) : value.toFixed(value >= 10 ? 1 : 2);

export const verdict = (of: Figure, figures: readonly Figure[]): string => {
  const met = isMet(of);
  if (met === undefined || met) return met === undefined ? '' : 'yes';
  const times = timesFloor(of, figures);
  return times === undefined ? 'no' : `no: ${short(times)} x its floor`;
};

export const boundOf = ({ target }: Figure): string => (target ? `${target.bound} ${String(target.value)}` : '');

/** What is missed, by how much, and what to try where the floor does not explain it. */
const misses = (figures: readonly Figure[]): string[] =>
  figures
    .filter((each) => isMet(each) === false)
    .map((each) => {
      const [times, idea] = [timesFloor(each, figures), ideaOf(each)];
      const what = `${each.name}: ${short(each.measured.median)} ${each.unit}, ${boundOf(each)}`;
      const next = idea === undefined ? '' : ` Next: ${idea}.`;
      if (times === undefined) return `${what}; no floor was measured.${next}`;
      return `${what}; ${short(times)} x its floor.${times > NEAR_FLOOR ? next : ''}`;
    });

/** The table that the bench prints, and what it misses; each floor is below its row. */
export function formatFigures(figures: readonly Figure[]): string {
  const table = formatTable(
    ['what', 'min', 'median', 'max', 'unit', 'target', 'met'],
    figures.map((each) => [
      each.floor_of === undefined ? each.name : `  floor: ${each.name}`,
      ...[each.measured.min, each.measured.median, each.measured.max].map(short),
      each.unit,
      boundOf(each),
      verdict(each, figures),
    ]),
  );
  const missed = misses(figures);
  return missed.length === 0 ? table : [table, '', ...missed].join('\n');
}
