import type { Curve } from './scaling.js';
import type { Figure } from './scenarios.js';

const escape = (text: string) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;');

/** One curve: sizes across on a logarithmic scale, costs upwards from 0. */
function draw({ name, across, unit, points }: Curve): string {
  const [sizes, most] = [points.map(({ at }) => Math.log10(at)), 1.1 * Math.max(...points.map(({ cost }) => cost))];
  const [least, range] = [Math.min(...sizes), Math.max(...sizes) - Math.min(...sizes) || 1];
  const placed = points.map(({ at, cost }) => ({
    at,
    cost,
    x: 60 + (500 * (Math.log10(at) - least)) / range,
    y: 220 - (180 * cost) / most,
  }));
  const marks = placed.map(
    ({ at, cost, x, y }) =>
      `<circle cx="${x.toFixed(1)}" cy="${y.toFixed(1)}" r="3"/><text x="${x.toFixed(1)}" y="${(y - 8).toFixed(1)}" text-anchor="middle">${cost.toFixed(2)}</text>` +
      `<text x="${x.toFixed(1)}" y="238" text-anchor="middle">${at.toLocaleString('en')}</text>`,
  );
  return (
    `<h2>${escape(name)}</h2><svg width="640" height="260" font-size="12"><line x1="60" x2="560" y1="220" y2="220" stroke="#222"/>` +
    `<polyline fill="none" stroke="#3a7d44" stroke-width="2" points="${placed.map(({ x, y }) => `${x.toFixed(1)},${y.toFixed(1)}`).join(' ')}"/>${marks.join('')}` +
    `<text x="10" y="20">${escape(unit)}</text><text x="560" y="256" text-anchor="end">${escape(across)}</text></svg>`
  );
}

/** A page that draws each ratio beside its target, on a logarithmic scale, and how costs change with sizes. */
export function plot(
  machine: Readonly<Record<string, unknown>>,
  figures: readonly Figure[],
  curves: readonly Curve[],
): string {
  const most = Math.max(...figures.flatMap(({ ratio, target }) => [ratio.max, target]));
  const x = (value: number) => 10 + (580 * Math.log10(1 + value)) / Math.log10(1 + most);
  const rows = figures.map(({ name, unit, ratio, target, bound, isMet }, index) => {
    const y = 30 + index * 44;
    return (
      `<text x="10" y="${String(y - 8)}">${escape(name)}: ${ratio.median.toFixed(2)} ${escape(unit)} (${bound} ${String(target)})</text>` +
      `<rect x="10" y="${String(y)}" width="${(x(ratio.median) - 10).toFixed(1)}" height="14" fill="${isMet ? '#3a7d44' : '#b23a48'}"/>` +
      `<line x1="${x(ratio.min).toFixed(1)}" x2="${x(ratio.max).toFixed(1)}" y1="${String(y + 7)}" y2="${String(y + 7)}" stroke="#222"/>` +
      `<line x1="${x(target).toFixed(1)}" x2="${x(target).toFixed(1)}" y1="${String(y - 3)}" y2="${String(y + 17)}" stroke="#222" stroke-width="2"/>`
    );
  });
  const about = Object.entries(machine)
    .map(([name, value]) => `${escape(name)}: ${escape(String(value))}`)
    .join('<br>');
  return (
    `<!doctype html><meta charset="utf-8"><title>Tidemark bench</title><body style="font: 14px sans-serif"><h1>Tidemark bench</h1><p>${about}</p>` +
    `<p>Bars: median of the ratio; thin line: least to greatest; thick mark: the target.</p>` +
    `<svg width="640" height="${String(40 + figures.length * 44)}" font-size="12">${rows.join('')}</svg>${curves.map(draw).join('')}</body>\n`
  );
}
