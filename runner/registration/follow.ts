import { isDeepStrictEqual } from 'node:util';
import { wayBackOfTime } from '../source/changed-columns.js';
import { TidemarkError, UsageError } from '../base/errors.js';
import { OWN_COLUMNS, historyNames } from './names.js';
import { fitsType, historyType, type WarehouseType } from '../source/history-type.js';
import { type Deletes, type DeletesOptions, planDeletes, type RegistrationOptions } from './plan.js';
import { shownName, type CatalogColumn, type CatalogTable } from '../source/catalog.js';
import type { DimensionMapping } from '../batch/mapping.js';

/** How a registered table has moved away from its mapping, and what the migration that follows does about it. */
export interface Drift {
  readonly added: readonly {
    source: string;
    history: string;
    role: 'tracked' | 'untracked';
    type: string;
    comment: string;
    remark: string | undefined;
  }[];
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

/** What the user says about columns that come and go. */
export type UpdateOptions = Pick<RegistrationOptions, 'track' | 'untracked' | 'ignore' | 'rename'> &
  DeletesOptions & { readonly retire: readonly string[] };

/**
 * Compares a source table with its mapping. What a column that is gone means nobody can tell but the user: it was renamed, or dropped.
 * @throws UsageError where the user must say so, or says what does not fit; TidemarkError where history cannot follow
 */
export function findDrift(
  table: CatalogTable,
  mapping: DimensionMapping,
  options: UpdateOptions,
  inWarehouse: readonly WarehouseType[],
): Drift {
  const there = table.columns.map(({ name }) => name);
  const renamed = renamedColumns(table, mapping, options.rename);
  assertTimesKept(table, mapping, renamed);
  const mapped = mapping.columns.map((column) => ({
    ...column,
    now: renamed.find(({ from }) => from === column.source)?.to ?? column.source,
  }));
  const fresh = table.columns.filter(
    ({ name }) =>
      !mapped.some(({ now }) => now === name) &&
      !options.ignore.includes(name) &&
      !mapping.ignored_columns.includes(name),
  );
  assertSaid(table, options, fresh, mapping);
  const retired = mapped.filter(({ now }) => !there.includes(now));
  assertRetirable(table, retired, options.retire);
  const deletes = changedDeletes(table, mapping, options, renamed);
  assertMarkStays(table, mapping, retired, deletes);
  const returned = fresh.filter(({ name }) => mapping.retired_columns.includes(name)).map(({ name }) => name);
  const newcomers = fresh.filter(({ name }) => !returned.includes(name));
  const rename = new Map(
    [...options.rename].filter(
      ([from, to]) =>
        newcomers.some(({ name }) => name === from) && !renamed.some((each) => each.from === from && each.to === to),
    ),
  );
  const taken = [...OWN_COLUMNS, ...mapping.columns.map(({ history }) => history), ...mapping.history_columns];
  const names = historyNames(
    table.table,
    newcomers.map(({ name }) => name),
    [],
    rename,
    taken,
  );
  return {
    deletes,
    renamed,
    returned,
    retyped: retypedColumns(table, mapping, renamed, inWarehouse),
    ignored: options.ignore,
    retired: retired.map(({ source, history }) => ({ source, history })),
    added: newcomers.map((column) => {
      const { type, reason } = historyType(column, inWarehouse);
      const isUntracked =
        options.untracked.includes(column.name) || (options.track.length > 0 && !options.track.includes(column.name));
      return {
        source: column.name,
        history: names.get(column.name) ?? column.name,
        role: isUntracked ? 'untracked' : 'tracked',
        type,
        comment: column.comment ?? `${table.table}.${column.name}.`,
        remark: reason,
      };
    }),
  };
}

/**
 * Mapped columns that have another name at the source, as the user says. A name that is still there may be another column's by now:
 * a and b may have changed places, or a new column has taken the name that is free.
 * @throws UsageError for a new name that the source does not have, or that a mapped column has and keeps
 */
function renamedColumns(
  table: CatalogTable,
  { columns }: DimensionMapping,
  rename: UpdateOptions['rename'],
): Drift['renamed'] {
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
function assertTimesKept(table: CatalogTable, mapping: DimensionMapping, renamed: Drift['renamed']): void {
  for (const { source, history_type: from, role } of mapping.columns.filter(
    ({ history, history_type }) => history === 'valid_from' && history_type !== null,
  )) {
    const name = renamed.find((each) => each.from === source)?.to ?? source;
    const column = table.columns.find((each) => each.name === name);
    if (column === undefined || fitsType(column.type, from ?? '')) continue;
    throw new TidemarkError(
      `${name}, the ${role} of ${shownName(table)}, was ${from ?? ''} and is ${column.type}: history cannot follow`,
      { hint: wayBackOfTime(mapping, name, from ?? '') },
    );
  }
}

/** Whether there is nothing to follow. */
export const isEmpty = (drift: Drift): boolean =>
  Object.values(drift).every((part: readonly unknown[]) => part.length === 0);

function assertSaid(
  table: CatalogTable,
  options: UpdateOptions,
  fresh: readonly CatalogColumn[],
  mapping: DimensionMapping,
): void {
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

function assertRetirable(table: CatalogTable, gone: DimensionMapping['columns'], retire: readonly string[]): void {
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

/** How deletes are found from now on, where that is said and is not so already. */
function changedDeletes(
  table: CatalogTable,
  mapping: DimensionMapping,
  options: UpdateOptions,
  renamed: Drift['renamed'],
): Deletes[] {
  if (options.deletes === undefined && options.deleted_column === undefined && options.deleted_values === undefined)
    return [];
  const nameNow = (source: string) => renamed.find(({ from }) => from === source)?.to ?? source;
  const said = {
    ...options,
    deleted_column:
      options.deleted_column ??
      (options.deletes === undefined && mapping.deleted_column !== null ? nameNow(mapping.deleted_column) : undefined),
  };
  const unusable = new Map([
    ...[...options.ignore, ...mapping.ignored_columns].map((column): [string, string] => [column, 'left out']),
    ...mapping.columns.flatMap(({ source, role }): [string, string][] =>
      role === 'tracked' || role === 'untracked' ? [] : [[nameNow(source), `the ${role}`]],
    ),
  ]);
  const planned = planDeletes(table, said, unusable);
  const now = {
    policy: mapping.deletes,
    column: mapping.deleted_column === null ? undefined : nameNow(mapping.deleted_column),
    values: mapping.deleted_values ?? undefined,
  };
  return isDeepStrictEqual(planned, now) ? [] : [planned];
}

function assertMarkStays(
  table: CatalogTable,
  mapping: DimensionMapping,
  retired: readonly { source: string }[],
  deletes: readonly Deletes[],
): void {
  if (deletes.length > 0 || !retired.some(({ source }) => source === mapping.deleted_column)) return;
  throw new UsageError(
    `${mapping.deleted_column ?? ''}, which marks deleted rows of ${shownName(table)}, is gone at the source`,
    {
      hint: 'say how deletes are found from now on: --deletes none, --deletes reconcile, or --deleted-column <another column>',
    },
  );
}

/** Mapped columns whose values no longer fit; they become what the source has now, or text where that would spoil older values. */
function retypedColumns(
  table: CatalogTable,
  mapping: DimensionMapping,
  renamed: Drift['renamed'],
  inWarehouse: readonly WarehouseType[],
): Drift['retyped'] {
  return mapping.columns.flatMap(({ source, history, history_type: from }) => {
    const name = renamed.find((each) => each.from === source)?.to ?? source;
    const column = table.columns.find((each) => each.name === name);
    if (column === undefined || from === null || history === 'valid_from' || fitsType(column.type, from)) return [];
    const wanted = historyType(column, inWarehouse).type;
    return wanted === from ? [] : [{ history, from, type: fitsType(from, wanted) ? wanted : 'text' }];
  });
}
