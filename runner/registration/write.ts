import { commentText, fitName, quoteName, quoteText } from '../base/sql-text.js';
import type { DimensionMapping } from '../batch/mapping.js';
import { type CatalogTable, shownName } from '../source/catalog.js';
import type { MappingUpdate } from './follow.js';
import type { Deletes, RegisteredColumn, Registration } from './plan.js';

/** A call of a function of schema tidemark, one argument a line; those that are undefined go without saying. */
function callText(fn: string, given: Readonly<Record<string, string | undefined>>): string {
  const named = Object.entries(given).flatMap(([name, value]) =>
    value === undefined ? [] : [`    p_${name} => ${value}`],
  );
  return `select tidemark.${fn}(\n${named.join(',\n')}\n);\n`;
}

const arrayText = (values: readonly string[]) => `array[${values.map(quoteText).join(', ')}]`;

/** The call that leaves columns of the source out, and why it is there; nothing where there are none. */
const renderIgnored = (dimension: string, columns: readonly string[]): string[] =>
  columns.length === 0
    ? []
    : [
        `-- Columns of the source that are left out on purpose.\n${callText('ignore_columns', { dimension_name: quoteText(dimension), source_columns: arrayText(columns) })}`,
      ];

/** Names of what a registration makes. */
export const relationsOf = (name: string): { history: string; current: string; as_of: string } => ({
  history: `public.dim_${name}_history`,
  current: `public.dim_${name}_current`,
  as_of: `public.dim_${name}_history_as_of`,
});

/** The migration that registers a table: what a person would write, to be read, edited and committed. */
export function renderRegistration(registration: Registration): string {
  const { name, table } = registration;
  const parts = [
    `-- Up Migration\n-- The dimension "${name}": its history table, how to read it, and its mapping from ${commentText(shownName(table))}.\n` +
      `-- Written by "tidemark add" from the catalog of the source: read it, edit it, commit it, then run "npm run migrate".\n` +
      registration.remarks.map((remark) => `-- Note: ${commentText(remark)}.\n`).join(''),
    ...(registration.returns ? [renderReturn(name)] : []),
    renderTable(registration),
    renderComments(registration),
    renderReaders(registration),
    renderCall(registration),
    ...renderIgnored(name, registration.ignored),
  ];
  return parts.join('\n');
}

/** A warehouse that is made from these files meets the earlier registration on the way, and no removal: that was done by hand. */
const renderReturn = (
  name: string,
) => `-- It was registered before, and removed. A warehouse made anew from these files has registered it again by now: it is taken out
-- there, where nothing was ever loaded. Where something was, this migration fails and changes nothing.
select tidemark.remove_dimension(p_dimension_name => d.dimension_name, p_drop_history => true)
from tidemark.dimensions as d
where d.dimension_name = ${quoteText(name)}
    and not exists (select from tidemark.batches as b where b.dimension_name = d.dimension_name);
`;

/** A column of a history: name, what it is, its comment, and what a reader of the migration should know about it. */
type HistoryColumn = readonly [name: string, sql: string, comment: string, remark?: string | undefined];

function historyColumns({ table, columns, time_type: time, options }: Registration): HistoryColumn[] {
  const clock = time === 'timestamptz' ? '' : ` (${options.time_zone})`;
  return [
    ['surrogate_key', 'bigint generated always as identity', 'Identity of the version.'],
    // The times have no type: they become valid_from.
    ...columns.flatMap(({ history, type, role, comment, remark }): HistoryColumn[] => {
      if (type === undefined) return [];
      const sql = `${type}${role === 'business key' ? ' not null' : ''}`;
      return [[quoteName(history, table.keywords), sql, comment, remark]];
    }),
    ['valid_from', `${time} not null`, `First moment at which this version was in force${clock}.`],
    ['valid_to', time, `First moment at which it no longer was; null while it is${clock}.`],
    ['is_current', 'boolean not null default true', 'True while the version is in force.'],
    ['cdc_operation', 'varchar(10) not null', 'INSERT where a life begins, else UPDATE.'],
    ['cdc_timestamp', `${time} not null`, 'Effective time of the change that opened the version, as the change said.'],
    ['batch_id', 'varchar(100) not null', 'The batch of that change.'],
    ['created_at', 'timestamp not null default current_timestamp', 'When the row was written (UTC).'],
    ['updated_at', 'timestamp not null default current_timestamp', 'When the row was last changed (UTC).'],
    ['captured_at', 'timestamptz not null', 'Instant of the source snapshot in which the change was read.'],
    ['change_line', 'integer not null', 'Line of the change in its batch, from 1.'],
  ];
}

function renderTable(registration: Registration): string {
  const { history } = relationsOf(registration.name);
  const prefix = history.replace('public.', '');
  const key = keyList(registration);
  const lines = [
    ...historyColumns(registration).map(([name, sql, , remark]) => [`${name} ${sql}`, remark] as const),
    [`constraint ${fitName(prefix, '_pkey')} primary key (surrogate_key)`] as const,
    [`constraint ${fitName(prefix, '_one_version_a_time')} unique (${key}, valid_from)`] as const,
    [`constraint ${fitName(prefix, '_valid_from_precedes_valid_to')} check (valid_to > valid_from)`] as const,
    [`constraint ${fitName(prefix, '_current_has_no_end')} check (is_current = (valid_to is null))`] as const,
  ].map(([sql, remark], place, all) => {
    const comma = place === all.length - 1 ? '' : ',';
    return `    ${sql}${comma}${remark === undefined ? '' : ` -- ${commentText(remark)}`}\n`;
  });
  return (
    `create table ${history} (\n${lines.join('')});\n\n` +
    `create unique index ${fitName(prefix, '_one_current_version')} on ${history} (${key}) where is_current;\n`
  );
}

const keyList = ({ columns, table }: Registration) =>
  columns
    .filter(({ role }) => role === 'business key')
    .map(({ history }) => quoteName(history, table.keywords))
    .join(', ');

function renderComments(registration: Registration): string {
  const { table } = registration;
  const { history } = relationsOf(registration.name);
  const about = `Every version of every row of ${shownName(table)}: SCD type 2, written by tidemark.apply_batch only.`;
  const onColumns = historyColumns(registration).map(
    ([name, , comment]) => `comment on column ${history}.${name} is ${quoteText(comment)};\n`,
  );
  return `comment on table ${history} is ${quoteText(table.comment === null ? about : `${about} ${table.comment}`)};\n${onColumns.join('')}`;
}

/** The current view and the as-of function. */
function renderReaders(registration: Registration): string {
  const { history, current, as_of: asOf } = relationsOf(registration.name);
  const {
    time_type: time,
    options: { time_zone: zone },
  } = registration;
  return `create view ${current} as
select *
from ${history}
where is_current;

comment on view ${current} is 'The version in force of every row that exists.';

-- Carries no "set" clause, so that the planner can look inside.
create function ${asOf}(p_moment ${time})
returns setof ${history}
language sql
stable
parallel safe
as $$
select h.*
from ${history} as h
where h.valid_from <= p_moment and (h.valid_to > p_moment or h.valid_to is null);
$$;

comment on function ${asOf} (${time}) is ${quoteText(`The version of every row that was in force at that moment${time === 'timestamptz' ? '' : ` (${zone})`}.`)};
`;
}

function renderCall({ name, table, columns, options, deletes }: Registration): string {
  return callText('register_dimension', {
    dimension_name: quoteText(name),
    source_schema: quoteText(table.schema),
    source_table: quoteText(table.table),
    history_relation: quoteText(relationsOf(name).history),
    columns: renderMapping(columns),
    change_order: options.change_order === 'capture' ? undefined : quoteText(options.change_order),
    source_time_zone: options.time_zone === 'UTC' ? undefined : quoteText(options.time_zone),
    no_overlap: options.no_overlap ? 'true' : undefined,
    ...deletesArguments(deletes),
    ...(deletes.policy === 'none' ? { deletes: undefined } : {}),
  });
}

/** The arguments that say how deletes are found. */
const deletesArguments = ({ policy, column, values }: Deletes) => ({
  deletes: quoteText(policy),
  deleted_column: column === undefined ? undefined : quoteText(column),
  deleted_values: values === undefined ? undefined : arrayText(values),
});

const WIDEST = 30;

/** The mapping as a JSON literal, one column a line, in aligned columns. */
function renderMapping(columns: readonly Pick<RegisteredColumn, 'source' | 'history' | 'role'>[]): string {
  const text = (value: string) => `${JSON.stringify(value)}, `;
  const width = (of: (column: Pick<RegisteredColumn, 'source' | 'history'>) => string) =>
    Math.min(WIDEST, Math.max(...columns.map((column) => text(of(column)).length)));
  const [sourceWidth, historyWidth] = [width(({ source }) => source), width(({ history }) => history)];
  const lines = columns.map(
    ({ source, history, role }) =>
      `        {"source": ${text(source).padEnd(sourceWidth)}"history": ${text(history).padEnd(historyWidth)}"role": ${JSON.stringify(role)}}`,
  );
  return `'[\n${lines.join(',\n').replaceAll("'", "''")}\n    ]'`;
}

/** The migration by which a registered table follows its source. `current` is its view of current versions, where there is one. */
export function renderUpdate(
  table: CatalogTable,
  { dimension_name: name, history_table: history }: DimensionMapping,
  update: MappingUpdate,
  current: string | undefined,
): string {
  const call = (fn: string, given: Readonly<Record<string, string>>) =>
    callText(fn, { dimension_name: quoteText(name), ...given });
  const quoted = (column: string) => quoteName(column, table.keywords);
  const isRetyped = update.retyped.length > 0;
  const parts = [
    `-- Up Migration\n-- The dimension "${name}" follows its source, ${commentText(shownName(table))}.\n` +
      '-- Written by "tidemark add --update" from the catalog of the source: read it, edit it, commit it, then run "npm run migrate".\n',
    ...renameSteps(update.renamed).map(
      ({ from, to, remark }) =>
        `-- ${remark}\n${call('rename_source_column', { from: quoteText(from), to: quoteText(to) })}`,
    ),
    ...(isRetyped && current !== undefined
      ? [`-- Made anew below: a view in the way of a new type.\ndrop view ${current};\n`]
      : []),
    ...update.retyped.map(
      ({ history: column, from, type }) =>
        `-- Was ${commentText(from)}, which no longer holds what the source may say. Rewrites the table.\n${call('retype_history_column', { history_column: quoteText(column), type: quoteText(type) })}`,
    ),
    ...update.returned.map(
      (source) =>
        `-- Back at the source.\n${call('retire_source_column', { source_column: quoteText(source), is_retired: 'false' })}`,
    ),
    ...update.added.map(
      ({ source, history: column, role, type, comment, remark }) =>
        `${remark === undefined ? '' : `-- ${commentText(remark)}\n`}alter table ${history} add column ${quoted(column)} ${type};\n` +
        `comment on column ${history}.${quoted(column)} is ${quoteText(comment)};\n` +
        call('add_dimension_column', { source: quoteText(source), history: quoteText(column), role: quoteText(role) }),
    ),
    // After new columns, which may be what marks deleted rows, and before those that go, which may be what did.
    ...update.deletes.map(
      (deletes) =>
        `-- How deletes at the source are found from now on. What was deleted before is closed by: npx tidemark reconcile --repair\n${callText('declare_deletes', { dimension_name: quoteText(name), ...deletesArguments(deletes) })}`,
    ),
    ...update.retired.map(
      ({ source, history: column }) =>
        `-- Gone at the source; history keeps what it has.\n${column === 'valid_from' ? '' : `alter table ${history} alter column ${quoted(column)} drop not null;\n`}${call('retire_source_column', { source_column: quoteText(source) })}`,
    ),
    ...renderIgnored(name, update.ignored),
    ...(current !== undefined && (update.added.length > 0 || isRetyped)
      ? [
          `-- The view of current versions shows all columns.\ncreate or replace view ${current} as\nselect *\nfrom ${history}\nwhere is_current;\n${isRetyped ? `\ncomment on view ${current} is 'The version in force of every row that exists.';\n` : ''}`,
        ]
      : []),
  ];
  return parts.join('\n');
}

interface RenameStep {
  readonly from: string;
  readonly to: string;
  readonly remark: string;
}

/** Renames one by one, each to a name that is free by then; of columns that have changed places one steps aside first. */
function renameSteps(renamed: MappingUpdate['renamed']): RenameStep[] {
  const steps: RenameStep[] = [];
  let left = [...renamed];
  while (left.length > 0) {
    const next = left.find(({ to }) => !left.some(({ from }) => from === to));
    const [first] = left;
    if (next !== undefined) {
      steps.push({ ...next, remark: 'Renamed at the source; the history column keeps its name.' });
      left = left.filter((each) => each !== next);
    } else if (first !== undefined) {
      const aside = fitName(`tidemark_aside_${first.from}`);
      steps.push({
        from: first.from,
        to: aside,
        remark:
          'Columns have changed places at the source: one steps aside first. What was captured between that and this\n-- migration has their values crossed: compare and repair (tidemark reconcile --repair).',
      });
      left = left.map((each) => (each === first ? { from: aside, to: each.to } : each));
    }
  }
  return steps;
}
