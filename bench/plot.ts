import { boundOf, isMet, short, timesFloor, verdict, type Figure } from './figures.js';
import type { Curve } from './growth.js';

/** Drawings in SVG, and a page of them. */

const escape = (text: string) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;');

const [GREEN, RED, INK, GREY] = ['#3a7d44', '#b23a48', '#222', '#999'];

const svg = (width: number, height: number, inside: readonly string[]) =>
  `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${String(width)} ${String(height)}" width="${String(width)}" height="${String(height)}" font-family="sans-serif" font-size="12">` +
  `<rect width="100%" height="100%" fill="#fff"/>${inside.join('')}</svg>\n`;

const text = (x: number, y: number, what: string, more = '') =>
  `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" fill="${INK}"${more}>${escape(what)}</text>`;
const line = (x1: number, y1: number, x2: number, y2: number, colour = INK, width = 1) =>
  `<line x1="${x1.toFixed(1)}" y1="${y1.toFixed(1)}" x2="${x2.toFixed(1)}" y2="${y2.toFixed(1)}" stroke="${colour}" stroke-width="${String(width)}"/>`;

/** One curve: sizes across on a logarithmic scale, but for percents and other small ones, costs upwards from 0. */
export function drawCurve({ across, unit, points }: Curve): string {
  const isWide = Math.max(...points.map(({ at }) => at)) > 100;
  const place = (at: number) => (isWide ? Math.log10(at) : at);
  const [sizes, most] = [points.map(({ at }) => place(at)), 1.15 * Math.max(...points.map(({ cost }) => cost))];
  const [least, range] = [Math.min(...sizes), Math.max(...sizes) - Math.min(...sizes) || 1];
  const placed = points.map(({ at, cost }) => ({
    at,
    cost,
    x: 60 + (500 * (place(at) - least)) / range,
    y: 220 - (180 * cost) / most,
  }));
  return svg(640, 264, [
    line(60, 220, 560, 220),
    `<polyline fill="none" stroke="${GREEN}" stroke-width="2" points="${placed.map(({ x, y }) => `${x.toFixed(1)},${y.toFixed(1)}`).join(' ')}"/>`,
    ...placed.map(
      ({ at, cost, x, y }) =>
        `<circle cx="${x.toFixed(1)}" cy="${y.toFixed(1)}" r="3" fill="${GREEN}"/>` +
        text(x, y - 8, short(cost), ' text-anchor="middle"') +
        text(x, 238, at.toLocaleString('en'), ' text-anchor="middle"'),
    ),
    text(10, 20, unit),
    text(560, 257, across, ' text-anchor="end"'),
  ]);
}

/** A bar for each figure that has a target: how many times its target it costs, so that one mark is the target of all. */
export function drawFigures(all: readonly Figure[]): string {
  const bars = all.flatMap((figure) => {
    const { measured, target } = figure;
    if (target === undefined || target.value === 0) return [];
    const share = (value: number) => (target.bound === 'at most' ? value / target.value : target.value / value);
    const times = timesFloor(figure, all);
    const median = share(measured.median);
    return [{ figure, median, ends: [share(measured.min), share(measured.max)], floor: times && median / times }];
  });
  const most = Math.max(2, ...bars.flatMap(({ ends }) => ends));
  const x = (value: number) => 10 + (600 * value) / most;
  const bottom = 30 + bars.length * 40;
  const rows = bars.map(({ figure, median, ends, floor }, index) => {
    const y = 32 + index * 40;
    const [from = 0, to = 0] = ends.map(x).sort((one, other) => one - other);
    const label = `${figure.name}: ${short(figure.measured.median)} ${figure.unit} (${boundOf(figure)})`;
    return [
      text(10, y - 5, label),
      `<rect x="10" y="${String(y)}" width="${(x(median) - 10).toFixed(1)}" height="13" fill="${isMet(figure) === true ? GREEN : RED}"/>`,
      line(from, y + 6.5, to, y + 6.5),
      ...(floor === undefined ? [] : [line(x(floor), y, x(floor), y + 13, '#fff', 3)]),
    ].join('');
  });
  return svg(640, bottom + 20, [
    ...rows,
    line(x(1), 14, x(1), bottom, GREY),
    text(x(1), bottom + 14, 'target', ' text-anchor="middle"'),
    text(10, bottom + 14, 'shorter is better; thin line: least to greatest; white: floor'),
  ]);
}

/** A page of all that was measured. */
export function plot(
  machine: Readonly<Record<string, unknown>>,
  figures: readonly Figure[],
  curves: readonly Curve[],
): string {
  const about = Object.entries(machine).map(([name, value]) => `${escape(name)}: ${escape(String(value))}`);
  const rows = figures.map((each) => {
    const { name, unit, measured } = each;
    const cells = [`${each.floor_of === undefined ? '' : 'floor: '}${name}`, unit];
    const all = [...cells, short(measured.min), short(measured.median), short(measured.max), boundOf(each)];
    return `<tr>${[...all, verdict(each, figures)].map((cell) => `<td>${escape(cell)}`).join('')}`;
  });
  const head = ['what', 'unit', 'least', 'median', 'greatest', 'target', 'met'].map((cell) => `<th>${cell}`).join('');
  const table = `${drawFigures(figures)}<table border="1" cellspacing="0" cellpadding="4"><tr>${head}${rows.join('')}</table>`;
  const drawn = curves.map((curve) => `<h2>${escape(curve.name)}</h2>${drawCurve(curve)}`);
  return (
    `<!doctype html><meta charset="utf-8"><title>Tidemark bench</title><body style="font: 14px sans-serif"><h1>Tidemark bench</h1>` +
    `<p>${about.join('<br>')}</p>${figures.length === 0 ? '' : table}${drawn.join('')}</body>\n`
  );
}
