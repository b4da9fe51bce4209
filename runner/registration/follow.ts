import { isDeepStrictEqual } from 'node:util';
import { fitOf, wayBackOfTime } from '../source/changed-columns.js';
import { TidemarkError, UsageError } from '../base/errors.js';
import { OWN_COLUMNS, historyNames } from './names.js';
import type { UpdateOptions } from './options.js';
import { historyType, planDeletes, storedColumn, type Deletes } from './plan.js';
import { shownName, type CatalogColumn, type CatalogTable, type TableName } from '../source/catalog.js';
import type { DimensionMapping } from '../batch/mapping.js';

/** How a registered table has moved away from its mapping, and what the migration that follows does about it. */
export interface MappingUpdate {
  /** One where the table has another name or schema by now. */
  readonly moved: readonly TableName[];
  readonly added: readonly ReturnType<typeof storedColumn>[];
  /** Columns that have another name at the source. */
  readonly renamed: readonly { from: string; to: string }[];
  /** Columns that the source no longer has, by name of the source and of history. */
  readonly retired: readonly { source: string; history: string }[];
  /** Retired columns that are back. */
  readonly returned: readonly string[];
  /** History columns that must become wider. */
  readonly retyped: readonly { history: string; from: string; type: string }[];
  readonly ignored: readonly string[];
  /** One where deletes are found in another way from now on. */
  readonly deletes: readonly Deletes[];
}

/**
 * Compares a source table with its mapping. What a column that is gone means nobody can tell but the user: it was renamed, or dropped.
 * @throws UsageError where the user must say so, or says what does not fit; TidemarkError where history cannot follow
 */
export function findDrift(table: CatalogTable, mapping: DimensionMapping, options: UpdateOptions): MappingUpdate {
  const found = survey(table, mapping, options);
  assertTimesKept(found);
  assertSaid(found);
  assertRetirable(found);
  const isBack = ({ name }: CatalogColumn) => mapping.retired_columns.includes(name);
  return {
    moved: table.schema === mapping.source_schema && table.table === mapping.source_table ? [] : [table],
    deletes: changedDeletes(found),
    renamed: found.renamed,
    returned: found.fresh.filter(isBack).map(({ name }) => name),
    retyped: found.misfits.flatMap(retyped),
    ignored: options.ignore,
    retired: found.gone.map(({ source, history }) => ({ source, history })),
    added: addedColumns(
      found,
      found.fresh.filter((column) => !isBack(column)),
    ),
  };
}

/** The mapped columns as the source has them now, and those of the source that are not mapped. */
function survey(table: CatalogTable, mapping: DimensionMapping, options: UpdateOptions) {
  const renamed = renamedColumns(table, mapping, options.rename);
  const mapped = mapping.columns.map((each) => {
    const now = renamed.find(({ from }) => from === each.source)?.to ?? each.source;
    return { ...each, now, column: table.columns.find(({ name }) => name === now) };
  });
  const isKnown = (name: string) =>
    mapped.some(({ now }) => now === name) || options.ignore.includes(name) || mapping.ignored_columns.includes(name);
  return {
    ...{ table, mapping, options, renamed, mapped },
    fresh: table.columns.filter(({ name }) => !isKnown(name)),
    gone: mapped.filter(({ column }) => column === undefined),
    // Those that history follows by itself are no business of a migration.
    misfits: mapped.filter((each) => fitOf(each, each.column) === 'misfit'),
  };
}
type Survey = ReturnType<typeof survey>;

/** What becomes of the columns that the source has and the mapping has not; --rename names some of them in history. */
function addedColumns({ table, mapping, renamed, options }: Survey, newcomers: readonly CatalogColumn[]) {
  const stored = newcomers.map(({ name }) => name);
  const inHistory = [...options.rename].filter(
    ([from, to]) => stored.includes(from) && !renamed.some((each) => each.from === from && each.to === to),
  );
  const taken = [...OWN_COLUMNS, ...mapping.columns.map(({ history }) => history), ...mapping.history_columns];
  const names = historyNames(table.table, stored, [], new Map(inHistory), taken);
  return newcomers.map((column) => storedColumn(table, column, false, names, options));
}

/**
 * Mapped columns that have another name at the source, as the user says. A name that is still there may be another column's by now:
 * a and b may have changed places, or a new column has taken the name that is free.
 * @throws UsageError for a new name that the source does not have, or that a mapped column has and keeps
 */
function renamedColumns(table: CatalogTable, { columns }: DimensionMapping, rename: UpdateOptions['rename']) {
  const isMapped = (name: string) => columns.some(({ source }) => source === name);
  const renamed = [...rename].filter(([from]) => isMapped(from)).map(([from, to]) => ({ from, to }));
  for (const { from, to } of renamed) {
    const fault =
      from === to
        ? 'both names are the same'
        : !table.columns.some(({ name }) => name === to)
          ? `the source has no column ${to}`
          : isMapped(to) && !renamed.some((each) => each.from === to)
            ? `${to} is mapped to history itself`
            : renamed.filter((each) => each.to === to).length > 1
              ? `two columns cannot both be ${to}`
              : undefined;
    if (fault !== undefined)
      throw new UsageError(`--rename ${from}=${to}: ${fault}`, {
        hint: 'with --update: --rename <old name at the source>=<new name>; of columns that changed places, both',
      });
  }
  return renamed;
}

/** @throws TidemarkError where a time has the other kind of timestamp now: what its older values mean in the new one only their owner knows */
function assertTimesKept({ table, mapping, misfits }: Survey): void {
  const time = misfits.find(({ history }) => history === 'valid_from');
  if (time === undefined) return;
  const { now, role, history_type: from, column } = time;
  throw new TidemarkError(
    `${now}, the ${role} of ${shownName(table)}, was ${from ?? ''} and is ${column?.declared ?? ''}: history cannot follow`,
    { hint: wayBackOfTime(mapping, now, from ?? '') },
  );
}

/** Whether there is nothing to follow. */
export const isEmpty = (update: MappingUpdate): boolean =>
  Object.values(update).every((part: readonly unknown[]) => part.length === 0);

function assertSaid({ table, mapping, options, fresh }: Survey): void {
  const isNew = (name: string) => fresh.some((column) => column.name === name);
  const wrong = [...options.track, ...options.untracked].find((name) => !isNew(name));
  if (wrong !== undefined)
    throw new UsageError(`${shownName(table)} has no new column ${wrong}`, {
      hint: 'with --update, say what becomes of columns that are not mapped yet',
    });
  const mapped = options.ignore.find((name) => mapping.columns.some(({ source }) => source === name));
  if (mapped !== undefined)
    throw new UsageError(`column ${mapped} is mapped to history`, {
      hint: 'only columns that are not mapped can be left out',
    });
  const lost = [...options.rename].find(
    ([from]) => !isNew(from) && !mapping.columns.some(({ source }) => source === from),
  );
  if (lost !== undefined)
    throw new UsageError(
      `--rename ${lost.join('=')}: neither was ${lost[0]} renamed at the source, nor is it a new column`,
      { hint: 'with --update: --rename <old name at the source>=<new name>, or <new column>=<name in history>' },
    );
}

function assertRetirable({ table, gone, options: { retire } }: Survey): void {
  const needed = gone.find(({ role }) => role === 'business key' || role === 'effective time');
  if (needed !== undefined)
    throw new TidemarkError(`${needed.source}, the ${needed.role} of ${shownName(table)}, is gone at the source`, {
      hint: `if it was renamed: --rename ${needed.source}=<its new name>; else register the table anew, under another name`,
    });
  const unsaid = gone.filter(({ source }) => !retire.includes(source)).map(({ source }) => source);
  if (unsaid.length > 0)
    throw new UsageError(`columns of ${shownName(table)} are gone at the source: ${unsaid.join(', ')}`, {
      hint: `say what has become of each: --rename ${unsaid[0] ?? ''}=<its new name>, or --retire ${unsaid[0] ?? ''} where it was dropped`,
    });
  const wrong = retire.find((name) => !gone.some(({ source }) => source === name));
  if (wrong !== undefined)
    throw new UsageError(`--retire ${wrong}: it is no mapped column that is gone at the source`, {
      hint: 'retire what the source no longer has',
    });
}

/**
 * How deletes are found from now on, where that is said and is not so already.
 * @throws UsageError where it must be said: the column that marks deleted rows is gone
 */
function changedDeletes({ table, mapping, options, mapped, gone }: Survey): Deletes[] {
  const { deletes, deleted_column, deleted_values } = options;
  const mark = mapped.find(({ source }) => source === mapping.deleted_column);
  const present = {
    deletes: mapping.deletes,
    deleted_column: mark?.now,
    deleted_values: mapping.deleted_values ?? undefined,
  };
  const isSaid = deletes !== undefined || deleted_column !== undefined || deleted_values !== undefined;
  const planned = isSaid
    ? planDeletes(
        table,
        { ...options, deleted_column: deleted_column ?? (deletes === undefined ? mark?.now : undefined) },
        [...options.ignore, ...mapping.ignored_columns],
        mapped.map(({ now, role }) => ({ source: now, role })),
      )
    : undefined;
  if (planned !== undefined && !isDeepStrictEqual(planned, present)) return [planned];
  if (mark !== undefined && gone.includes(mark))
    throw new UsageError(`${mark.source}, which marks deleted rows of ${shownName(table)}, is gone at the source`, {
      hint: 'say how deletes are found from now on: --deletes none, --deletes reconcile, or --deleted-column <another column>',
    });
  return [];
}

/** A mapped column whose values no longer fit becomes what the source has now, or text where that would spoil older values. */
function retyped({ history, history_type: from, column }: Survey['mapped'][number]): MappingUpdate['retyped'] {
  if (column === undefined || from === null) return [];
  const wanted = historyType(column);
  const holds = wanted === 'text[]' ? from.endsWith('[]') : column.holds.includes(from);
  return wanted === from ? [] : [{ history, from, type: holds ? wanted : 'text' }];
}
