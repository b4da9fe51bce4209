import path from 'node:path';
import { withDatabase } from '../base/database.js';
import { type TidemarkError, UsageError, whereAndNext } from '../base/errors.js';
import type { Settings } from '../base/settings.js';
import { isLogged } from '../batch/mapping.js';
import { formatRows, linesOf } from '../base/text-table.js';
import { listTables, parseTableName, shownName } from '../source/catalog.js';
import { writesLog } from '../source/log.js';
import { writeDimensionFile } from './files.js';
import type { RegistrationOptions } from './options.js';
import type { Registration } from './plan.js';
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
  readonly how: ReturnType<typeof howCaptured> | null;
  /** Why there is no new one. */
  readonly error: TidemarkError | undefined;
}

export interface AddedTables {
  readonly tables: readonly AddedTable[];
  /** What was matched and is not to be registered by itself, and why. */
  readonly left_out: readonly { readonly table: string; readonly reason: string }[];
  /** Whether the source writes a log from which changes can be read. */
  readonly writes_log: boolean;
}

/**
 * Registers many tables: writes one migration for each that can be and is not. What keeps one from it keeps no other.
 * @param isDry writes nothing
 * @param replace writes registrations anew that have not run
 */
export async function addTables(
  settings: Settings,
  { names, schemas, exclude }: Asked,
  options: RegistrationOptions,
  { isDry, replace }: { readonly isDry: boolean; readonly replace: boolean },
): Promise<AddedTables> {
  const asked = [...names.map((name) => parseTableName(name)), ...schemas.map((schema) => ({ schema, table: '*' }))];
  const excluded = exclude.map((name) => parseTableName(name, '*'));
  const { found, writes_log } = await withDatabase(settings.source, 'add', async (source) => ({
    found: await listTables(source, asked, excluded),
    writes_log: await writesLog(source),
  }));
  const chosen = found.filter(({ state }) => state === 'chosen');
  const proposals = chosen.length === 0 ? [] : await proposeRegistrations(settings, chosen, options, replace);
  const tables: AddedTable[] = [];
  for (const proposal of proposals) tables.push(await added(settings, proposal, isDry));
  const unmatched = found.filter(({ state }) => state === 'unmatched').map(shownName);
  return {
    tables: [...tables, ...unmatched.map((table) => ({ ...NOTHING_NEW, table, error: noneIsCalled(table) }))],
    left_out: found.flatMap((table) =>
      table.reason === null ? [] : [{ table: shownName(table), reason: table.reason }],
    ),
    writes_log,
  };
}

const noneIsCalled = (pattern: string) =>
  new UsageError(`no table is called so: ${pattern}`, {
    hint: 'see that DB_NAME is right, and that DB_USER may use the schema; in a shell a pattern stands in single quotes',
  });

const NOTHING_NEW = { dimension: null, state: 'failed', file: null, migration: null, how: null } as const;

/** Writes the migration of a table that is new, unless it is a dry run, and says what became of it. */
async function added(settings: Settings, proposal: Proposal, isDry: boolean): Promise<AddedTable> {
  const table = shownName(proposal.table);
  if ('error' in proposal) {
    const { error, there } = proposal;
    if (there === undefined) return { ...NOTHING_NEW, table, error };
    const { dimension, waiting } = there;
    const state = waiting === undefined ? 'registered' : 'waiting';
    return { ...NOTHING_NEW, table, state, dimension, file: waiting?.file ?? null, error };
  }
  const { registration, words, text: migration, replaces } = proposal;
  const file = isDry ? null : await writeDimensionFile(settings.dimensions_dir, words, migration, replaces);
  const how = howCaptured(registration);
  return { table, dimension: registration.name, state: 'new', file, migration, how, error: undefined };
}

/** What was decided about a table, by names of the source. */
function howCaptured({ columns, effective_time, deletes, options, remarks }: Registration) {
  const of = (role: string) => columns.filter((column) => column.role === role).map(({ source }) => source);
  const values = deletes.deleted_values === undefined ? '' : ` = ${deletes.deleted_values.join(', ')}`;
  const mark = deletes.deleted_column === undefined ? '' : ` (${deletes.deleted_column}${values})`;
  return {
    key: of('business key'),
    /** A column, "capture": when a change was read, or "commit": when it was committed. */
    effective_time,
    deletes: `${deletes.deletes ?? 'none'}${mark}`,
    capture: options.capture ?? 'poll',
    untracked: of('untracked'),
    ignored: options.ignore,
    /** What was guessed, and what a reader should know. */
    remarks,
    columns,
  };
}

/** Where a table stands, in words. */
export function standingOf({ state, dimension, file }: Omit<AddedTable, 'error'>, isDry: boolean): string {
  const name = String(dimension);
  if (state === 'failed') return 'cannot be added';
  if (state === 'registered') return `registered as ${name}`;
  if (state === 'waiting') return `registered as ${name} by ${path.basename(file ?? '')}, which has not run yet`;
  return isDry ? `to be added as ${name}` : path.basename(file ?? '');
}

/** A table and what is to be said about it; the name once. */
const about = (table: string, sentence: string) => (sentence.startsWith(table) ? sentence : `${table}: ${sentence}`);

/** What is to be said of several tables alike, once. */
const once = (all: AddedTables['left_out'], say: (tables: readonly string[], reason: string) => string) =>
  [...new Set(all.map(({ reason }) => reason))].map((reason) =>
    say(
      all.filter((each) => each.reason === reason).map(({ table }) => table),
      reason,
    ),
  );

/** The step after the migration, for those that are to be read from the log. */
export function thenHandOver(tables: readonly Omit<AddedTable, 'error'>[]): string {
  const logged = tables.filter(({ how }) => isLogged({ capture: how?.capture }));
  const calls = logged.map(
    ({ dimension, how }) => `npx tidemark table capture ${String(dimension)} ${String(how?.capture)}`,
  );
  return calls.length === 0 ? '' : `, and to begin with the log: ${calls.join('; ')}`;
}

/** What was decided about each table, in one table; below it what was guessed, what cannot be added and what to do, and what was left out. */
export function describeTables({ tables, left_out: leftOut }: AddedTables, isDry: boolean): string {
  const rows = tables.map((table): Record<string, string | undefined> => {
    const { key, effective_time, deletes, capture, untracked, ignored } = table.how ?? {};
    return {
      ...{
        table: table.table,
        state: standingOf(table, isDry),
        key: key?.join(', '),
        'effective time': effective_time,
      },
      ...{ deletes, capture, untracked: untracked?.join(', '), ignored: ignored?.join(', ') },
    };
  });
  const isUsed = (column: string) => rows.some((row) => (row[column] ?? '') !== '');
  const columns = Object.keys(rows[0] ?? {}).filter(isUsed);
  const noted = tables.flatMap(({ table, how }) => how?.remarks.map((reason) => ({ table, reason })) ?? []);
  const isWritten = !isDry && tables.some(({ state }) => state === 'new' || state === 'waiting');
  const more = ({ length }: readonly string[]) => (length > 5 ? ` and ${length - 5} more` : '');
  return linesOf(
    rows.length === 0 ? 'no table is to be added' : formatRows(rows, columns),
    ...once(noted, (of, remark) => `note: ${about(of.join(', '), remark)}`),
    ...tables.flatMap(({ table, state, error }) =>
      state !== 'failed' || error === undefined
        ? []
        : [`not added: ${about(table, error.message)}`, ...whereAndNext(error)],
    ),
    ...once(leftOut, (of, reason) => `left out: ${of.slice(0, 5).join(', ')}${more(of)}: ${reason}`),
    isWritten && `next: read the files, edit them, commit them, then run: npx tidemark migrate${thenHandOver(tables)}`,
  );
}
