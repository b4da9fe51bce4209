import { withDatabase, type Database } from '../base/database.js';
import { type TidemarkError, UsageError } from '../base/errors.js';
import { literally } from '../base/pattern.js';
import type { Settings } from '../base/settings.js';
import { quoted } from '../base/sql-text.js';
import { type ListedTable, type TableName, listTables, parseTableName, shownName } from '../source/catalog.js';
import { writeDimensionFile } from './files.js';
import type { Registration, RegistrationOptions } from './plan.js';
import { proposeRegistrations, type Proposal } from './propose.js';

/** Which tables are to be registered. */
export interface Asked {
  /** Names of tables, or patterns: * stands for any letters. */
  readonly names: readonly string[];
  /** All tables of these schemas; where nothing is named, all there are. */
  readonly schemas: readonly string[];
  /** Names or patterns of those to leave out; without a schema, of any. */
  readonly exclude: readonly string[];
}

/** A table that was asked for, and what became of it. */
export interface AddedTable {
  readonly table: string;
  readonly dimension: string | null;
  /** new: a migration registers it, written now or, on a dry run, to be written; waiting: by one that has not run; failed: it cannot be registered. */
  readonly state: 'new' | 'registered' | 'waiting' | 'failed';
  readonly file: string | null;
  /** The text of a new one. */
  readonly migration: string | null;
  readonly how: HowCaptured | null;
  /** Why there is no new one. */
  readonly error: TidemarkError | undefined;
}

/** What was decided about a table, by names of the source. */
export interface HowCaptured {
  readonly key: readonly string[];
  /** A column, or "capture": when a change was read. */
  readonly effective_time: string;
  readonly deletes: string;
  readonly capture: string;
  readonly untracked: readonly string[];
  readonly ignored: readonly string[];
  /** What was guessed, and what a reader should know. */
  readonly remarks: readonly string[];
  readonly columns: Registration['columns'];
}

export interface AddedTables {
  readonly tables: readonly AddedTable[];
  /** What was matched and is not to be registered by itself, and why. */
  readonly left_out: readonly { readonly table: string; readonly reason: string }[];
}

/**
 * Registers many tables: writes one migration for each that can be and is not. What keeps one from it keeps no other.
 * @param isDry writes nothing
 * @param replace writes registrations anew that have not run
 */
export async function addTables(
  settings: Settings,
  asked: Asked,
  options: RegistrationOptions,
  { isDry, replace }: { readonly isDry: boolean; readonly replace: boolean },
): Promise<AddedTables> {
  const { chosen, left_out, unmatched } = await withDatabase(settings.source, 'add', (source) => choose(source, asked));
  const proposals = chosen.length === 0 ? [] : await proposeRegistrations(settings, chosen, options, replace);
  const tables: AddedTable[] = [];
  for (const proposal of proposals)
    tables.push(added(proposal, isDry || 'error' in proposal ? undefined : await write(settings, proposal)));
  return { tables: [...tables, ...unmatched], left_out };
}

const write = (settings: Settings, { words, text, replaces }: Extract<Proposal, { words: string }>) =>
  writeDimensionFile(settings.dimensions_dir, words, text, replaces);

const nothing = { dimension: null, file: null, migration: null, how: null, error: undefined };

function added(proposal: Proposal, file: string | undefined): AddedTable {
  const table = shownName(proposal.table);
  if ('error' in proposal) {
    const { error, there } = proposal;
    if (there === undefined) return { ...nothing, table, state: 'failed', error };
    const state = there.waiting === undefined ? 'registered' : 'waiting';
    return { ...nothing, table, state, dimension: there.dimension, file: there.waiting?.file ?? null, error };
  }
  const { registration, text } = proposal;
  const { name: dimension } = registration;
  return {
    ...{ table, state: 'new', dimension, file: file ?? null, migration: text },
    ...{ how: howCaptured(registration), error: undefined },
  };
}

/** What was decided about a table. */
function howCaptured({ columns, deletes, options, remarks }: Registration): HowCaptured {
  const of = (role: string) => columns.filter((column) => column.role === role).map(({ source }) => source);
  const values = deletes.deleted_values === undefined ? '' : ` = ${deletes.deleted_values.join(', ')}`;
  const mark = deletes.deleted_column === undefined ? '' : ` (${deletes.deleted_column}${values})`;
  return {
    key: of('business key'),
    effective_time: of('effective time')[0] ?? 'capture',
    deletes: `${deletes.deletes ?? 'none'}${mark}`,
    capture: 'poll',
    untracked: of('untracked'),
    ignored: options.ignore,
    remarks,
    columns,
  };
}

/** Finds the tables that are asked for. A name that is none of a pattern is taken as it is, whatever there is of it. */
async function choose(source: Database, { names, schemas, exclude }: Asked) {
  const isPlain = (name: string) => !name.includes('*');
  const all = names.length === 0 && schemas.length === 0;
  const patterns = [...names.filter((name) => !isPlain(name)), ...schemas.map((schema) => `${quoted(schema)}.*`)];
  const listed = await listTables(source);
  const isLeftOut = matcherOf(exclude, '*');
  const found = listed.filter((table) => (all || matcherOf(patterns)(table)) && !isLeftOut(table));
  const named = names.filter(isPlain).map(parseTableName);
  const isNamed = (table: TableName) => named.some((each) => shownName(each) === shownName(table));
  const matched = found.filter((table) => !isNamed(table) && whyNot(table) === undefined);
  const chosen = [...named.filter((table, place) => !isLeftOut(table) && indexOf(named, table) === place), ...matched];
  const inParent = (table: TableName) =>
    listed
      .find((each) => shownName(each) === shownName(table))
      ?.partition_of.find((parent) => indexOf(chosen, parent) >= 0);
  const reasons = [...found.filter((table) => !isNamed(table)), ...named].flatMap((table) => {
    const parent = inParent(table);
    const reason = parent === undefined ? whyNot(table) : `a partition of ${shownName(parent)}, which is read whole`;
    return reason === undefined ? [] : [{ table: shownName(table), reason }];
  });
  return {
    chosen: chosen.filter((table) => inParent(table) === undefined),
    left_out: reasons,
    unmatched: patterns.filter((pattern) => !listed.some(matcherOf([pattern]))).map(unmatched),
  };
}

const indexOf = (tables: readonly TableName[], table: TableName) =>
  tables.findIndex((each) => shownName(each) === shownName(table));

/** Why a table that a pattern or schema matches is not taken; one that is named is. */
function whyNot(table: TableName | ListedTable): string | undefined {
  if (!('kind' in table)) return undefined;
  const [parent] = table.partition_of;
  if (parent !== undefined) return `a partition of ${shownName(parent)}: add that`;
  return ['r', 'p'].includes(table.kind) ? undefined : 'no table: name it, with the --key that its rows have';
}

const unmatched = (pattern: string): AddedTable => ({
  ...nothing,
  table: pattern,
  state: 'failed',
  error: new UsageError(`no table is called so: ${pattern}`, {
    hint: 'see that DB_NAME is right, and that DB_USER may use the schema; in a shell a pattern stands in single quotes',
  }),
});

/** Whether a table is called as one of these patterns say. @param schema that of a pattern without one */
function matcherOf(patterns: readonly string[], schema?: string): (table: TableName) => boolean {
  const parsed = patterns.map((pattern) => {
    const name = parseTableName(pattern);
    return {
      ...name,
      schema: schema !== undefined && /^(?:"(?:[^"]|"")*"|[^".]*)$/.test(pattern) ? schema : name.schema,
    };
  });
  const matches = (pattern: string, name: string) =>
    new RegExp(`^${pattern.split('*').map(literally).join('.*')}$`, 'su').test(name);
  return (table) =>
    parsed.some((pattern) => matches(pattern.schema, table.schema) && matches(pattern.table, table.table));
}
