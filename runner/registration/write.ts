import { UsageError } from '../base/errors.js';
import { commentText, fitName, quoteName, quoteText } from '../base/sql-text.js';
import { linesOf } from '../base/text-table.js';
import { isLogged, type DimensionMapping } from '../batch/mapping.js';
import { type CatalogTable, shownName } from '../source/catalog.js';
import type { MappingUpdate } from './follow.js';
import { IDENTITY, NUMBERED, versionColumns, type HistoryColumn } from './names.js';
import type { RegisteredColumn, Registration } from './plan.js';

/** The value of an argument; what is SQL already says so. */
type Argument = string | boolean | readonly string[] | { readonly sql: string } | undefined;

function argumentText(value: Exclude<Argument, undefined>): string {
  if (typeof value === 'string') return quoteText(value);
  if (typeof value === 'boolean') return String(value);
  return 'sql' in value ? value.sql : `array[${value.map(quoteText).join(', ')}]`;
}

/** A call of a function of schema tidemark, one argument a line; those that are undefined go without saying. */
function callText(fn: string, dimension: string, given: Readonly<Record<string, Argument>>): string {
  const all: typeof given = { dimension_name: dimension, ...given };
  const named = Object.entries(all).flatMap(([name, value]) =>
    value === undefined ? [] : [`    p_${name} => ${argumentText(value)}`],
  );
  return `select tidemark.${fn}(\n${named.join(',\n')}\n);\n`;
}

/** A step of a migration, under what it is for. */
const step = (remark: string, sql: string) => `-- ${remark}\n${sql}`;

/** The call that leaves columns of the source out, and why it is there; false where there are none. */
const renderIgnored = (dimension: string, columns: readonly string[]) =>
  columns.length > 0 &&
  step(
    'Columns of the source that are left out on purpose.',
    callText('ignore_columns', dimension, { source_columns: columns }),
  );

/** Names of what a registration makes. */
export const relationsOf = (name: string): { history: string; current: string; as_of: string } => ({
  history: `public.dim_${name}_history`,
  current: `public.dim_${name}_current`,
  as_of: `public.dim_${name}_history_as_of`,
});

/** The migration that registers a table: what a person would write, to be read, edited and committed. */
export function renderRegistration(registration: Registration): string {
  const { name, table } = registration;
  return linesOf(
    `-- Up Migration\n-- The dimension "${name}": its history table, how to read it, and its mapping from ${commentText(shownName(table))}.\n` +
      `-- Written by "tidemark add" from the catalog of the source: read it, edit it, commit it, then run "npx tidemark migrate".\n` +
      registration.remarks.map((remark) => `-- Note: ${commentText(remark)}.\n`).join(''),
    registration.returns && renderReturn(name),
    renderTable(registration),
    renderComments(registration),
    renderReaders(registration),
    step(`Also writes ${relationsOf(name).as_of}, for a timestamptz and for a timestamp.`, renderCall(registration)),
    renderIgnored(name, registration.options.ignore),
  );
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

function historyColumns({ table, columns, time_type: time, options }: Registration): HistoryColumn[] {
  // The times have no type: they become valid_from.
  const kept = columns.flatMap(({ history, type, role, comment, remark }): HistoryColumn[] => {
    const notNull = role === 'business key' ? ' not null' : '';
    return type === undefined ? [] : [[quoteName(history, table.keywords), `${type}${notNull}`, comment, remark]];
  });
  return [
    options.partitions === undefined ? IDENTITY : NUMBERED,
    ...kept,
    ...versionColumns(time, time === 'timestamptz' ? '' : ` (${options.time_zone})`),
  ];
}

function renderTable(registration: Registration): string {
  const { history } = relationsOf(registration.name);
  const { partitions } = registration.options;
  const by = distributionColumn(registration);
  const isInParts = partitions !== undefined || by !== undefined;
  const prefix = history.replace('public.', '');
  const key = registration.columns
    .filter(({ role }) => role === 'business key')
    .map((column) => quoteName(column.history, registration.table.keywords))
    .join(', ');
  const lines: readonly (readonly [sql: string, remark?: string | undefined])[] = [
    ...historyColumns(registration).map(([name, sql, , remark]) => [`${name} ${sql}`, remark] as const),
    [`constraint ${fitName(prefix, '_pkey')} primary key (surrogate_key${isInParts ? `, ${key}` : ''})`],
    [`constraint ${fitName(prefix, '_one_version_a_time')} unique (${key}, valid_from)`],
    [`constraint ${fitName(prefix, '_valid_from_precedes_valid_to')} check (valid_to > valid_from)`],
    [`constraint ${fitName(prefix, '_current_has_no_end')} check (is_current = (valid_to is null))`],
  ];
  const written = lines.map(([sql, remark], place) => {
    const comma = place === lines.length - 1 ? '' : ',';
    return `    ${sql}${comma}${remark === undefined ? '' : ` -- ${commentText(remark)}`}\n`;
  });
  const parted = partitions === undefined ? '' : ` partition by hash (${key})`;
  return (
    `create table ${history} (\n${written.join('')})${parted};\n\n` +
    (partitions === undefined ? '' : renderPartitions(history, partitions)) +
    `create unique index ${fitName(prefix, '_one_current_version')} on ${history} (${key}) where is_current;\n` +
    (registration.options.browse === true ? renderBrowse(prefix, history) : '') +
    (by === undefined ? '' : renderDistribution(history, by))
  );
}

/** The history column that it is distributed by; undefined where it is a table of one server. */
function distributionColumn({ columns, options: { distributed_by: by } }: Registration): string | undefined {
  if (by === undefined) return undefined;
  const keys = columns.filter(({ role }) => role === 'business key');
  const found = keys.find(({ source, history }) => source === by || history === by);
  if (found !== undefined) return found.history;
  throw new UsageError(`--distributed-by is "${by}", which is no column of the key`, {
    hint: `all versions of a key must be on one node; its columns are: ${keys.map(({ source }) => source).join(', ')}`,
  });
}

const renderDistribution = (history: string, by: string) =>
  `\n-- Over the nodes of Citus. Its shards are as many as citus.shard_count says, now and for good.\n` +
  `set local citus.multi_shard_modify_mode = 'sequential';\n` +
  `select create_distributed_table(${quoteText(history)}, ${quoteText(by)});\n`;

const renderPartitions = (history: string, partitions: number) =>
  `-- Its partitions, named after it: ..._p0 to ..._p${partitions - 1}, and the sequence that numbers the versions in all of them.\n` +
  `select tidemark.create_partitions(p_history_relation => ${quoteText(history)}, p_partitions => ${partitions});\n\n`;

/** Known to tidemark.browse_indexes by the ends of their names. */
const renderBrowse = (prefix: string, history: string): string =>
  `create index ${fitName(prefix, '_browse_from')} on ${history} (valid_from);\n` +
  `create index ${fitName(prefix, '_browse_to')} on ${history} (valid_to) where valid_to is not null;\n`;

function renderComments(registration: Registration): string {
  const { table } = registration;
  const { history } = relationsOf(registration.name);
  const about = `Every version of every row of ${shownName(table)}: SCD type 2, written by tidemark.apply_batch only.`;
  const onColumns = historyColumns(registration).map(
    ([name, , comment]) => `comment on column ${history}.${name} is ${quoteText(comment)};\n`,
  );
  return `comment on table ${history} is ${quoteText(table.comment === null ? about : `${about} ${table.comment}`)};\n${onColumns.join('')}`;
}

/** The view of current versions, which shows all columns. The as-of functions are written by the registration. */
const currentView = (create: string, current: string, history: string) =>
  `${create} ${current} as\nselect *\nfrom ${history}\nwhere is_current;\n`;

function renderReaders({ name }: Registration): string {
  const { history, current } = relationsOf(name);
  return `${currentView('create view', current, history)}
comment on view ${current} is 'The version in force of every row that exists.';
`;
}

const renderCall = (registration: Registration) => {
  const { name, table, columns, options, deletes, effective_time, key_is_asserted } = registration;
  return callText('register_dimension', name, {
    source_schema: table.schema,
    source_table: table.table,
    history_relation: relationsOf(name).history,
    columns: { sql: renderMapping(columns) },
    change_order: options.change_order === 'capture' ? undefined : options.change_order,
    source_time_zone: options.time_zone === 'UTC' ? undefined : options.time_zone,
    no_overlap: options.no_overlap || undefined,
    effective_time: columns.some(({ role }) => role === 'effective time') ? undefined : effective_time,
    ...(deletes.deletes === 'none' ? {} : deletes),
    with_children: options.with_children === true ? true : undefined,
    key_is_asserted: key_is_asserted || undefined,
    capture: isLogged(options) ? options.capture : undefined,
    distributed_by: distributionColumn(registration),
  });
};

const WIDEST = 30;

/** The mapping as a JSON literal, one column a line, in aligned columns. */
function renderMapping(columns: readonly Pick<RegisteredColumn, 'source' | 'history' | 'role'>[]): string {
  const texts = columns.map(({ source, history, role }) =>
    [source, history, role].map((value) => JSON.stringify(value)),
  );
  const padded = (row: readonly string[], place: 0 | 1) =>
    `${row[place] ?? ''}, `.padEnd(Math.min(WIDEST, 2 + Math.max(...texts.map((each) => each[place]?.length ?? 0))));
  const lines = texts.map(
    (row) => `        {"source": ${padded(row, 0)}"history": ${padded(row, 1)}"role": ${row[2] ?? ''}}`,
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
  const call = (fn: string, given: Readonly<Record<string, Argument>>) => callText(fn, name, given);
  const quoted = (column: string) => quoteName(column, table.keywords);
  return linesOf(
    `-- Up Migration\n-- The dimension "${name}" follows its source, ${commentText(shownName(table))}.\n` +
      '-- Written by "tidemark add --update" from the catalog of the source: read it, edit it, commit it, then run "npx tidemark migrate".\n',
    ...update.moved.map(({ schema, table: moved }) =>
      step(
        'The source table has another name; the dimension, its change log and its history keep theirs.',
        call('move_source', { source_schema: schema, source_table: moved }),
      ),
    ),
    ...renameSteps(update.renamed).map(({ remark, ...names }) => step(remark, call('rename_source_column', names))),
    ...update.retyped.map(({ history: column, from, type }) =>
      step(
        `Was ${commentText(from)}, which no longer holds what the source may say. Rewrites the table.`,
        call('retype_history_column', { history_column: column, type }),
      ),
    ),
    ...update.returned.map((source) =>
      step('Back at the source.', call('retire_source_column', { source_column: source, is_retired: false })),
    ),
    ...update.added.map(
      ({ source, history: column, role, type, comment, remark }) =>
        `${remark === undefined ? '' : `-- ${commentText(remark)}\n`}alter table ${history} add column ${quoted(column)} ${type};\n` +
        `comment on column ${history}.${quoted(column)} is ${quoteText(comment)};\n` +
        call('add_dimension_column', { source, history: column, role }),
    ),
    // After new columns, which may be what marks deleted rows, and before those that go, which may be what did.
    ...update.deletes.map((deletes) =>
      step(
        'How deletes at the source are found from now on. What was deleted before is closed by: npx tidemark reconcile --repair',
        call('declare_deletes', { ...deletes }),
      ),
    ),
    ...update.retired.map(({ source, history: column }) =>
      step(
        'Gone at the source; history keeps what it has.',
        `${column === 'valid_from' ? '' : `alter table ${history} alter column ${quoted(column)} drop not null;\n`}${call('retire_source_column', { source_column: source })}`,
      ),
    ),
    renderIgnored(name, update.ignored),
    current !== undefined &&
      update.added.length > 0 &&
      step('The view of current versions shows all columns.', currentView('create or replace view', current, history)),
  );
}

type Rename = MappingUpdate['renamed'][number];

/** Renames one by one, each to a name that is free by then; of columns that have changed places one steps aside first. */
function renameSteps(renamed: readonly Rename[]): (Rename & { readonly remark: string })[] {
  const [first, ...others] = renamed;
  if (first === undefined) return [];
  const next = renamed.find(({ to }) => !renamed.some(({ from }) => from === to));
  if (next !== undefined) {
    const remark = 'Renamed at the source; the history column keeps its name.';
    return [{ ...next, remark }, ...renameSteps(renamed.filter((each) => each !== next))];
  }
  const aside = fitName(`tidemark_aside_${first.from}`);
  const remark =
    'Columns have changed places at the source: one steps aside first. What was captured between that and this\n-- migration has their values crossed: compare and repair (tidemark reconcile --repair).';
  return [{ from: first.from, to: aside, remark }, ...renameSteps([{ from: aside, to: first.to }, ...others])];
}
