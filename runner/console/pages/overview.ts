import { overview, type Overview } from '../../warehouse/browse.js';
import { alerts, type Alert } from '../../warehouse/functions.js';
import { serviceStatuses, type ServiceStatus } from '../../services/background.js';
import { count, duration, link, markup, ofNumbers, table, tableLink, time, value } from '../html.js';
import type { Piece, Raw } from '../html.js';
import { counted, textsOf, wholeListing, type Asked, type Listing, type Page } from '../page.js';
import { sparkline } from '../svg.js';

const WINDOW = '1 hour';
const BUCKETS = 24;

const GRAVITY: Readonly<Record<Alert['severity'], number>> = { critical: 3, warning: 2, info: 1 };

/** How much a table wants to be looked at. */
const gravityOf = (row: Overview, on: readonly Alert[]): number =>
  on
    .filter((alert) => alert.dimension_name === row.dimension_name)
    .reduce((sum, { severity }) => sum + 1000 * GRAVITY[severity], 0) +
  Number(row.rejected_changes) +
  Number(row.pending_batches ?? 0);

/** Every table, worst first. */
async function tablesOf({ session }: Asked): Promise<{ tables: Overview[]; on: Alert[] }> {
  const on = await alerts(session.warehouse);
  const tables = await overview(session.warehouse, WINDOW, BUCKETS);
  tables.sort((a, b) => gravityOf(b, on) - gravityOf(a, on) || (b.lag_seconds ?? -1) - (a.lag_seconds ?? -1));
  return { tables, on };
}

/** The first page: what is wrong, every table with its lag and pace, and the services of this machine. No history is read for it. */
export async function overviewPage(asked: Asked): Promise<Page> {
  const { tables, on } = await tablesOf(asked);
  const services = await serviceStatuses(asked.settings);
  const running = services.filter(({ state }) => state === 'running').length;
  const body = markup`<h1 class="hidden">Overview</h1> <p class="summary">
<b>${counted(tables.length, 'table')}</b> · ${counted(running, 'service')} running ·
${on.length === 0 ? markup`<span class="good">no alert</span>` : markup`<b class="bad">${counted(on.length, 'alert')}</b>`}
</p> ${on.map(alertLine)} ${
    tables.length === 0
      ? markup`<p class="empty">
No table is registered: <code>npx tidemark add public.orders</code>, then <code>npx tidemark migrate</code>.
</p>`
      : tablesTable(tables)
  } <p class="services">${services.map(serviceLine)}</p>`;
  return { title: 'Overview', body, isLive: true };
}

function tablesTable(tables: readonly Overview[]): Raw {
  const columns = [
    ...['table', ofNumbers('lag'), 'changes in the last hour', ofNumbers(markup`<span class="hidden">how many</span>`)],
    ofNumbers(markup`latency <small>p50 / p95</small>`),
    ...[...['waiting', 'rejected', 'current', 'versions'].map(ofNumbers), 'last batch'],
  ];
  return table('Tables', columns, tables.map(tableRow));
}

function tableRow(row: Overview): Piece[] {
  const { dimension_name: name, series, changes } = row;
  const about = (estimate: string | null) => (estimate === null ? '–' : `~${count(estimate)}`);
  return [
    markup`<a href="${tableLink(name)}" data-row>${name}</a>${row.is_paused && markup` <span class="tag">paused</span>`}${row.capture !== 'poll' && markup` <span class="tag">${row.capture}</span>`}`,
    duration(row.lag_seconds),
    sparkline(
      series.map(Number),
      `${name}: changes in each of ${BUCKETS} parts of the last hour: ${series.join(', ')}`,
    ),
    count(changes),
    `${duration(row.latency_p50)} / ${duration(row.latency_p95)}`,
    row.pending_batches === null ? '–' : count(row.pending_batches),
    row.rejected_changes === '0'
      ? '0'
      : markup`<a class="bad" href="${link('/work', { table: name })}">${count(row.rejected_changes)} ▲</a>`,
    about(row.current_estimate),
    about(row.versions_estimate),
    row.last_batch === null
      ? '–'
      : markup`<a href="${link('/batches', { table: name })}">${time(row.last_applied_at?.replace(/\.\d+/, ''))}</a>`,
  ];
}

const alertLine = (alert: Alert): Raw =>
  markup`<p class="alert ${alert.severity}"> <b>▲ ${alert.severity}</b>
<span>${alert.rule_name}${
    alert.dimension_name !== null &&
    markup` · <a
href="${alert.rule_name === 'Rejected Changes' ? link('/work', { table: alert.dimension_name }) : tableLink(alert.dimension_name)}">${alert.dimension_name}</a>`
  }${alert.subject !== null && markup` · ${value(alert.subject)}`} <small>${alert.condition}</small></span>
<span>${value(alert.meaning, 300)}</span> </p>`;

const serviceLine = ({ service, state, since, last_error: fault }: ServiceStatus): Raw =>
  markup`<span class="service ${state}"><b>${service}</b> ${state}${since !== null && markup` since ${time(`${since.slice(0, 19).replace('T', ' ')}+00`)}`}${state !== 'stopped' && fault != null && markup` <span class="bad">its last error is in its log</span>`}</span> `;

const COLUMNS = [
  ...['dimension_name', 'lag_seconds', 'changes', 'latency_p50', 'latency_p95', 'pending_batches', 'rejected_changes'],
  ...['current_estimate', 'versions_estimate', 'last_batch', 'last_applied_at'],
] as const satisfies readonly (keyof Overview)[];

export const overviewList = (asked: Asked): Listing =>
  wholeListing(COLUMNS, async () => textsOf(COLUMNS, (await tablesOf(asked)).tables));
