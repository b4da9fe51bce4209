import { markup, type Raw } from './html.js';

/**
 * Drawings. They stretch to the width they are given, so they hold no text: what they say is beside them, and in the label of each part.
 * No style stands in them: the policy of the pages forbids it.
 */

const WIDTH = 1000;
const round = (number: number): string => number.toFixed(1);

/** Bars of a few figures, in the height of a line. */
export function sparkline(figures: readonly number[], label: string): Raw {
  const most = Math.max(1, ...figures);
  const step = WIDTH / Math.max(1, figures.length);
  return markup`<svg class="sparkline" viewBox="0 0 ${WIDTH} 20" preserveAspectRatio="none" role="img"
aria-label="${label}">
${figures.map((figure, place) => {
  const height = figure === 0 ? 1 : Math.max(2, (20 * figure) / most);
  return markup`<rect
x="${round(place * step)}" y="${round(20 - height)}" width="${round(step * 0.75)}" height="${round(height)}"
${figure === 0 && markup` class="none"`} />`;
})} </svg>`;
}

/** A part of a drawing that leads somewhere. */
type Linked = Readonly<{ label: string; href: string; isChosen: boolean }>;
export type Bar = Linked & { readonly figure: number };

/** Bars over a span of time, each a link. */
export function histogram(bars: readonly Bar[], label: string): Raw {
  const most = Math.max(1, ...bars.map(({ figure }) => figure));
  const step = WIDTH / Math.max(1, bars.length);
  return markup`<svg class="histogram" viewBox="0 0 ${WIDTH} 48" preserveAspectRatio="none" role="group"
aria-label="${label}">
${bars.map(({ figure, label: each, href, isChosen }, place) => {
  const height = figure === 0 ? 0 : Math.max(2, (46 * figure) / most);
  return markup`<a href="${href}" aria-label="${each}" ${isChosen && markup` class="chosen"`}><title>${each}</title><rect class="back" x="${round(place * step)}" y="0" width="${round(step)}" height="48" /><rect
x="${round(place * step + step * 0.06)}" y="${round(48 - height)}" width="${round(step * 0.88)}"
height="${round(height)}" /></a>`;
})} </svg>`;
}

/** In milliseconds; where it has no end yet, to that of the drawing. */
export type Span = Linked & Readonly<Record<'from' | 'to', number>>;
export type Mark = Readonly<{ at: number; kind: 'rejected' | 'other'; label: string }>;

/**
 * The life of a key: a bar a version, nothing but a dashed line where it was deleted, a diamond for a change that opened none, a cross for one that
 * was rejected.
 */
export function lifeline(
  spans: readonly Span[],
  marks: readonly Mark[],
  moment: number | undefined,
  label: string,
): Raw {
  const [first, end] = [spans[0]?.from ?? 0, Math.max(...spans.map(({ to }) => to))];
  const place = (at: number) => (WIDTH * (Math.min(Math.max(at, first), end) - first)) / Math.max(1, end - first);
  const bars = spans.map(({ from, to, label: each, href, isChosen }, index) => {
    const [left, width] = [place(from), Math.max(3, place(to) - place(from) - 1.5)];
    return markup`<a href="${href}" aria-label="${each}"
class="${index % 2 === 0 ? 'even' : 'odd'}${isChosen ? ' chosen' : ''}"><title>${each}</title><rect x="${round(left)}" y="8" width="${round(width)}" height="24" /></a>`;
  });
  return markup`<svg class="lifeline" viewBox="0 0 ${WIDTH} 52" preserveAspectRatio="none" role="group"
aria-label="${label}"> <line class="gone" x1="0" x2="${WIDTH}" y1="20" y2="20" />
${bars}${marks.map(({ at, kind, label: each }) => {
    const x = place(at);
    return markup`<g class="${kind}" role="img" aria-label="${each}"><title>${each}</title><path d="${kind === 'rejected' ? `M${round(x - 4)} 38l8 10m-8 0l8 -10` : `M${round(x)} 37l4 6l-4 6l-4 -6z`}" /></g>`;
  })}${moment !== undefined && markup`<line class="moment" x1="${round(place(moment))}" x2="${round(place(moment))}" y1="0" y2="52" />`}
</svg>`;
}
