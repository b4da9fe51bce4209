import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { PROJECT_ROOT } from '../runner/base/settings.js';
import { NEAR_FLOOR, boundOf, ideaOf, isMet, short, timesFloor, verdict, type Figure } from './figures.js';
import type { Growth } from './growth.js';
import { drawCurve, drawFigures } from './plot.js';
import type { Scaled } from './scale.js';

/**
 * What documents say of figures: made of what runs recorded in results/, and written between marks that name it, so that none is typed.
 * `npm run bench:docs` writes it; a test of the suite sees that it is what is there.
 */

interface Recorded {
  readonly machine: Readonly<Record<string, unknown>>;
  readonly figures: readonly Figure[];
}

/** In this order; the first is that of the plot. */
const VERSIONS = ['18', '15'] as const;
/** The rows of README. */
const IN_SHORT = [
  ...['one', 'insert', 'update', 'page', 'history', 'late', 'whole'],
  ...['log_p50_10k', 'log_p99_10k', 'log_time_10k', 'memory_load'],
];
/** In this order. */
const SCALES = ['changes', 'versions', 'partitions', 'events'] as const;

const PAGE = 'docs/performance.md';
export const PLOTS = 'docs/plots';

/** What was recorded by that name; undefined where nothing was. */
const read = (name: string): unknown => {
  const file = path.join(PROJECT_ROOT, 'bench', 'results', `${name}.json`);
  return existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : undefined;
};

const row = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
const table = (head: readonly string[], rows: readonly (readonly string[])[]) =>
  [row(head), row(head.map(() => '---')), ...rows.map(row)].join('\n');

type Runs = readonly (Recorded & { readonly version: string })[];

const find = ({ figures }: Recorded, id: string) => figures.find((figure) => figure.id === id);

/** A row that names how many there were of names those of its own run. */
const medianOf = (run: Recorded, { id, name }: Figure) => {
  const found = find(run, id);
  if (found === undefined) return '';
  const [many] = found.name === name ? [] : (/^of \d+/.exec(found.name) ?? []);
  return [short(found.measured.median), ...(many === undefined ? [] : [many])].join(' ');
};

/** Every figure of the first run, beside the medians of the others. */
function allFigures(runs: Runs): string {
  const [first, ...others] = runs;
  if (first === undefined) return '';
  const head = ['what', 'unit', 'target', `${first.version}: least`, 'median', 'greatest', 'met'];
  const rows = first.figures.map((each) => {
    const { name, unit, measured, floor_of } = each;
    const what = floor_of === undefined ? name : `*floor: ${name}*`;
    const cells = [what, unit, boundOf(each), short(measured.min), short(measured.median), short(measured.max)];
    return [...cells, verdict(each, first.figures), ...others.map((run) => medianOf(run, each))];
  });
  return table([...head, ...others.map(({ version }) => `${version}: median`)], rows);
}

function machineOf({ machine }: Pick<Recorded, 'machine'>): string {
  const { model, cores, memory_gib, postgresql, node, load, measured_on } = machine;
  const facts = [`${String(cores)} cores (${String(model)})`, `${String(memory_gib)} GiB`];
  return `${String(postgresql)}: ${[...facts, `Node ${String(node)}`, `load ${String(load)} at the beginning`, String(measured_on)].join(', ')}.`;
}
const machines = (runs: Runs) => runs.map((run) => `- ${machineOf(run)}`).join('\n');

/** What a version has of a row: how much, and how many times its floor where it is missed. */
function missOf({ figures }: Recorded, of: Figure): string {
  const [value, times] = [short(of.measured.median), timesFloor(of, figures)];
  if (isMet(of) !== false) return `${value}: met`;
  return times === undefined ? value : `${value}, ${short(times)} x its floor`;
}

/** What any version misses, and what to try where the floor does not explain it. */
function missesOf(runs: Runs): string {
  const ids = new Set(
    runs.flatMap(({ figures }) => figures.filter((each) => isMet(each) === false)).map(({ id }) => id),
  );
  const rows = [...ids].flatMap((id) => {
    const all = runs.map((run) => ({ run, found: find(run, id) }));
    const missed = all.flatMap(({ run, found }) => (found && isMet(found) === false ? [{ run, found }] : []));
    const [{ found: named } = { found: undefined }] = missed;
    if (named === undefined) return [];
    const isNear = missed.every(({ run, found }) => (timesFloor(found, run.figures) ?? Infinity) <= NEAR_FLOOR);
    const cells = all.map(({ run, found }) => (found === undefined ? '' : missOf(run, found)));
    return [
      [named.name, `${boundOf(named)} ${named.unit}`, ...cells, isNear ? 'near its floor' : (ideaOf(named) ?? '')],
    ];
  });
  return rows.length === 0
    ? 'Every target is met.'
    : table(['what', 'target', ...runs.map(({ version }) => version), 'what to try next'], rows);
}

function inShort(runs: Runs): string {
  const rows = IN_SHORT.flatMap((id) => {
    const found = runs[0] && find(runs[0], id);
    if (found === undefined) return [];
    return [[found.name, ...runs.map((run) => medianOf(run, found)), found.unit, boundOf(found)]];
  });
  return table(['what', ...runs.map(({ version }) => `PostgreSQL ${version}`), 'unit', 'target'], rows);
}

/** What runs of very many of one thing recorded, each below its command. */
function scales(): string {
  const parts = SCALES.flatMap((name) => {
    const found = read(`scale-${name}`) as (Pick<Recorded, 'machine'> & { figures: readonly Scaled[] }) | undefined;
    if (found === undefined) return [];
    const rows = found.figures.map(({ name: what, value, unit }) => [what, short(value), unit]);
    const command = `\`npm run bench -- --scale ${String(found.machine.size)} --record\``;
    return [`${command}, ${machineOf(found)}`, table(['what', 'measured', 'unit'], rows)];
  });
  return parts.length === 0 ? 'No run is recorded yet.' : parts.join('\n\n');
}

/** What stands between "<!-- figures: name -->" and "<!-- end of figures -->" becomes `text`. @throws Error where there is no such place */
function between(document: string, name: string, text: string): string {
  const [begin, end] = [`<!-- figures: ${name} -->\n`, '<!-- end of figures -->'];
  const from = document.indexOf(begin);
  const to = document.indexOf(end, from);
  if (from < 0 || to < 0) throw new Error(`there is no place for ${name}`);
  return `${document.slice(0, from + begin.length)}\n${text}\n\n${document.slice(to)}`;
}

/** The documents and plots by their path in the project, as they are to be. */
export function documented(): Map<string, string> {
  const runs = VERSIONS.flatMap((version) => {
    const found = read(version) as Recorded | undefined;
    return found === undefined ? [] : [{ ...found, version }];
  });
  const grown = read('growth') as Growth | undefined;
  const curves = Object.entries(grown?.curves ?? {});
  const written = new Map<string, string>();
  const page = (name: string) => readFileSync(path.join(PROJECT_ROOT, name), 'utf8');
  const bars = `${PLOTS}/figures.svg`;
  written.set(bars, drawFigures(runs[0]?.figures ?? []));
  for (const [name, curve] of curves) written.set(`${PLOTS}/growth-${name}.svg`, drawCurve(curve));
  const drawn = curves.map(([name, curve]) => {
    const alt = `${curve.name}: ${curve.unit} by ${curve.across}`;
    return `![${alt}](plots/growth-${name}.svg)`;
  });
  const growth =
    grown === undefined ? 'Not measured yet on this machine.' : [`- ${machineOf(grown)}`, ...drawn].join('\n\n');
  const figures = [`![Costs beside their targets](plots/figures.svg)`, machines(runs), allFigures(runs)];
  let performance = between(page(PAGE), 'all', figures.join('\n\n'));
  performance = between(performance, 'misses', missesOf(runs));
  performance = between(performance, 'growth', growth);
  written.set(PAGE, between(performance, 'scale', scales()));
  const short = [`![What Tidemark costs, beside its targets](${bars})`, machines(runs), inShort(runs)];
  written.set('README.md', between(page('README.md'), 'in short', short.join('\n\n')));
  return written;
}
