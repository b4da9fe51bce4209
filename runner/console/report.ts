import type { Transaction } from '../base/database.js';
import type { Settings } from '../base/settings.js';
import { changeHistogram, moments } from '../warehouse/browse.js';
import type { Rendering, TableFacts } from '../warehouse/report.js';
import { count, link, markup, table, time, value, type Raw } from './html.js';
import { assetText, type Asked } from './page.js';
import { keyPage } from './pages/key.js';
import { histogramOf } from './pages/table.js';

const BUCKETS = 60;

/** A page's HTML for a file: without forms, nor links to other pages of a console. Values cannot be taken for either: their marks are escaped. */
const alone = ({ raw }: Raw): string =>
  raw.replaceAll(/<form [^]*?<\/form>|<i class="lead-on">[^]*?<\/i>/g, '').replaceAll(/\shref="\/[^"]*"/g, '');

const askedOf = (settings: Settings, warehouse: Transaction, name: string, key: readonly string[] = []): Asked => ({
  ...{ settings, table: name, path: `/t/${name}`, isLocal: false, visitor: { who: '', form: '' } },
  query: new URLSearchParams(link('', { k: key })),
  session: { warehouse, isForOthers: true, statements: [], reader: { role: settings.warehouse.user, isOwn: true } },
});

/** When a table changed, how often, and what of it most. */
async function tableSection(asked: Asked, { mapping, status, frequency, longest, retractions }: TableFacts) {
  const { warehouse } = asked.session;
  const [now = null] = await moments(warehouse, ['now']);
  const buckets = await changeHistogram(warehouse, asked.table, null, now ?? '', BUCKETS);
  const times = frequency.map(({ versions, keys }) => [count(versions), count(keys)]);
  return markup`<section><h2>${asked.table}</h2><p class="lead">History of <code>${mapping.source_schema}.${mapping.source_table}</code> in
<code>${mapping.history_table}</code>: ${count(status?.total ?? 0)} versions, ${count(status?.current ?? 0)} of them current; the last batch, ${value(status?.last_batch)},
was applied ${time(status?.last_applied_at)}.</p> ${histogramOf(asked, buckets, now ?? '', false)} <h3>How often rows change</h3>
${table('How often rows change', ['versions of a key', 'keys'], times)} <h3>The longest histories</h3> ${table(
    'The longest histories',
    ['key', 'versions', 'first seen', 'last changed', 'state'],
    longest.map((its) => [
      ...[value(its.business_key), count(its.versions), time(its.first_seen), time(its.last_changed)],
      its.is_current ? 'current' : 'deleted',
    ]),
  )} ${
    retractions.length === 0
      ? ''
      : markup`<h3>Batches taken out of history</h3> ${table(
          'Batches taken out of history',
          ['batch', 'changes', 'when', 'by', 'why', 'brought back'].map((label) => ({ label })),
          retractions.map((its) => [
            ...[value(its.batch_id), count(its.retracted_changes), time(its.retracted_at), value(its.retracted_by)],
            ...[value(its.reason), its.restored_at === null ? 'no' : time(its.restored_at)],
          ]),
        )}`
  }</section>`;
}

/** The report of "tidemark report" as one file of HTML, which loads nothing and runs nothing; what is masked stays so. */
export const htmlReport = (settings: Settings): Rendering => ({
  ending: 'html',
  whole: (made, database, sections) =>
    markup`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="content-security-policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>SCD type 2 lineage report</title><style>${{ raw: assetText('console.css') }}</style></head>
<body><main id="main"><h1>SCD type 2 lineage report</h1><p class="lead">Made ${made} UTC from <code>${database}</code>. All times are UTC.</p>
${sections.map((raw) => ({ raw }))}</main></body></html>
`.raw,
  table: async (warehouse, facts) =>
    alone(await tableSection(askedOf(settings, warehouse, facts.mapping.dimension_name), facts)),
  key: async (warehouse, name, key) => {
    const { body } = await keyPage(askedOf(settings, warehouse, name, key), settings.console_export_rows);
    return alone(markup`${body}<p class="source">A change is the line of its number among the change lines of the file of its batch, in
the folder of the change log: <code>sed '1,/^"changes"/d' FILE | sed -n NUMBERp</code>, after <code>gzip -dc</code> for one that ends in .gz.</p>`);
  },
});
