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
  /** What to try where it is missed by more than the floor explains. */
  readonly next?: string;
}

export interface Measured extends Omit<Figure, 'measured' | 'seconds'> {
  readonly values: readonly number[];
  readonly seconds?: Readonly<Record<string, readonly number[]>>;
}

export const figure = ({ values, seconds = {}, ...rest }: Measured): Figure => ({
  ...rest,
  measured: spread(values),
  seconds: Object.fromEntries(Object.entries(seconds).map(([each, figures]) => [each, spread(figures)])),
});

export const atMost = (value: number, next?: string): Target => ({ value, bound: 'at most', ...(next && { next }) });
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

/** How many times its floor a figure is; undefined where it has none. */
export const timesFloor = (of: Figure, figures: readonly Figure[]): number | undefined => {
  const floor = figures.find(({ floor_of }) => floor_of === of.id);
  return floor && of.measured.median / floor.measured.median;
};

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

/** The table that the bench prints; each floor is below its row. */
export function formatFigures(figures: readonly Figure[]): string {
  return formatTable(
    ['what', 'min', 'median', 'max', 'unit', 'target', 'met'],
    figures.map((each) => [
      each.floor_of === undefined ? each.name : `  floor: ${each.name}`,
      ...[each.measured.min, each.measured.median, each.measured.max].map(short),
      each.unit,
      boundOf(each),
      verdict(each, figures),
    ]),
  );
}
