import { TidemarkError, UsageError, withOutcome } from '../base/errors.js';
import { logger } from '../base/logger.js';
import { shownPath } from '../base/settings.js';
import { formatRows } from '../base/text-table.js';
import { writeDimensionFile } from '../registration/files.js';
import { CAPTURES, type RegistrationOptions } from '../registration/options.js';
import type { Registration } from '../registration/plan.js';
import * as many from '../registration/many.js';
import { proposeUpdate } from '../registration/propose.js';
import { parseTableName } from '../source/catalog.js';
import { choice, defineCommand, flag, number, numberOf, text, texts, type Print } from './command.js';

function readRename(text: string): [string, string] {
  const at = text.indexOf('=');
  if (at > 0 && at < text.length - 1) return [text.slice(0, at), text.slice(at + 1)];
  throw new UsageError(`--rename is "${text}", accepted is source_column=history_column`, {
    hint: 'see "tidemark add --help"',
  });
}

const formatRegistration = (all: Registration['columns']) =>
  formatRows(all.map(({ source, history, type = '', role, remark = '' }) => ({ source, history, type, role, remark })));

/** How deletes are found, for people. */
const sayDeletes = (deletes: string) =>
  `deletes: ${deletes}${deletes === 'none' ? ', but for "reconcile --repair"' : deletes === 'log' ? '' : '. The reconciler, which "start" runs, looks every RECONCILE_INTERVAL_SECONDS'}`;

/** What is said of one table and of no other. */
const OF_ONE_TABLE = [
  'update',
  'name',
  'key',
  'effective-time',
  'insert-time',
  'track',
  'untracked',
  'ignore',
  'rename',
  'deleted-column',
  'deleted-values',
] as const;

/** What is settled when a table is registered. */
const SETTLED = [
  'key',
  'effective-time',
  'insert-time',
  'time-zone',
  'change-order',
  'overlap',
  'with-children',
  'partitions',
  'distributed-by',
] as const;

export const command = defineCommand(
  {
    examples: {
      'add --schema public --exclude audit_log': 'Every table of a schema but one',
      'add public.orders --capture log': 'Read it from the log: every state',
      'add public.users --untracked seen': 'A new value there makes no version',
      'add public.users --ignore password': 'It stays out of history, and needs no right',
      'add public.items --deleted-column gone_at': 'Rows that have a value there are deleted',
      'add --update public.items --rename net=sum': 'Follow a column that was renamed',
    },
    positionals: {
      sources: {
        type: 'string',
        array: true,
        default: [],
        describe: "Source tables: schema.table, or patterns in single quotes: 'public.order*'",
      },
    },
    options: {
      schema: texts('All tables of these schemas; without a name or schema all tables of the source'),
      exclude: texts('Leave these tables out: names or patterns'),
      name: text('Name of the dimension; that of the table by default'),
      key: texts('Columns of the business key; the primary key by default, or all of a table that has none'),
      capture: choice(
        CAPTURES,
        'How it is read: by polling, which is the default, from the write-ahead log of the source, or both: from the log, and compared by sweeps',
      ),
      'effective-time': text(
        'Column that says when a row changed; last_updated, updatedAt, modifieddate, ... by default, or else "capture": when its change was read. From the log "commit": when its change was committed, by default',
      ),
      'insert-time': text('Column that says when a row was made, or "none"; created_at, ... by default'),
      track: texts('Only these are tracked, the others overwritten in place'),
      untracked: texts('Overwritten in place: a difference makes no version'),
      ignore: texts('Left out of history'),
      rename: texts('Another name in history: source_column=history_column'),
      'time-zone': text('Zone of timestamps without zone; UTC by default'),
      'change-order': choice(['capture', 'effective_time'], 'How changes of a key are ordered; capture by default'),
      deletes: choice(
        ['none', 'reconcile', 'soft', 'log'],
        'How deletes at the source are found: soft (a column marks them) where one is called deleted_at, is_deleted, ..., else reconcile, or log with --capture log',
      ),
      'deleted-column': text('Deletes are soft, and this column marks them; deleted_at, is_deleted, ... by default'),
      'deleted-values': texts('Its values that mean deleted; by default true for a boolean, else anything but null'),
      'with-children': flag('Read the rows of tables that inherit from it with its own'),
      update: flag(
        'Follow a registered table: add its new columns; with --rename old=new, --retire, --ignore say what became of others; --deletes and its columns change how deletes are found',
      ),
      replace: flag('Write the registration anew where its migration has not run'),
      retire: texts('With --update: columns that the source has dropped'),
      source: text('With --update: the name that the table has now, where it or its schema was renamed'),
      browse: flag('Add two indexes by which what happened between two moments is found; each load keeps them'),
      partitions: number(
        'Part the history into so many partitions, by hash of its key: 2 to 1024; into none by default',
      ),
      'distributed-by': text(
        'Distribute the history over the nodes of Citus, by hash of this column of its key; not by default',
      ),
      overlap: flag(
        '--no-overlap adds the constraint that no two versions of a key overlap; it doubles the cost of a load',
      ),
      'dry-run': flag('Print the migration and write nothing'),
    },
  },
  async (given, { settings, print }) => {
    const { sources, schema: schemas = [], exclude = [], name, dryRun = false } = given;
    const { track = [], untracked = [], ignore = [], retire = [] } = given;
    const columns = {
      ...{ track, untracked, ignore, rename: new Map((given.rename ?? []).map(readRename)) },
      ...{ deletes: given.deletes, deleted_column: given.deletedColumn, deleted_values: given.deletedValues },
    };
    const [source] = sources;
    if (source === undefined && schemas.length === 0)
      throw new UsageError('give a table, a pattern, or --schema', { hint: 'see "tidemark add --help"' });
    const isOne = sources.length === 1 && source?.includes('*') === false && schemas.length === 0;
    const one = OF_ONE_TABLE.find((option) => given[option] !== undefined);
    if (!isOne && one !== undefined)
      throw new UsageError(`--${one} goes with one table`, {
        hint: 'add the others first; what one of them needs is then said with --replace, before its migration has run',
      });
    if (given.update === true) {
      if (given.capture !== undefined)
        throw new UsageError('--update cannot change --capture', {
          hint: `npx tidemark table capture <name> ${given.capture}`,
        });
      const settled = SETTLED.find((option) => given[option] !== undefined);
      if (settled !== undefined)
        throw new UsageError(`--update cannot change --${settled}`, {
          hint: 'key, times and order are settled when a table is registered: register it anew, under another name',
        });
      const table = parseTableName(source ?? '');
      const moved = given.source === undefined ? table : parseTableName(given.source);
      const proposed = await proposeUpdate(settings, table, name, { ...columns, retire }, moved);
      if (proposed === undefined)
        return print({ file: null }, 'nothing to update: history knows every column of the source');
      const { words, text: migration } = proposed;
      if (dryRun) return print({ file: null, migration }, migration.trimEnd());
      const file = await writeDimensionFile(settings.dimensions_dir, words, migration);
      return print({ file, migration }, written(file));
    }
    const alone = (['retire', 'source'] as const).find((option) => given[option] !== undefined);
    if (alone !== undefined)
      throw new UsageError(`--${alone} goes with --update only`, { hint: 'see "tidemark add --help"' });
    assertOneOf(given.partitions, given.distributedBy);
    const { replace = false } = given;
    const asked = { names: sources, schemas, exclude };
    const options: RegistrationOptions = {
      ...{ ...columns, name, key: given.key ?? [], effective_time: given.effectiveTime, insert_time: given.insertTime },
      ...{ time_zone: given.timeZone ?? 'UTC', change_order: given.changeOrder ?? 'capture' },
      no_overlap: given.overlap === false,
      browse: given.browse,
      partitions: numberOf('add', 'partitions', given.partitions, { least: 2, most: 1024 }),
      distributed_by: given.distributedBy,
      with_children: given.withChildren === true,
      capture: given.capture,
    };
    const found = await many.addTables(settings, asked, options, { isDry: dryRun, replace });
    if (given.capture === undefined && found.writes_log && found.tables.some(({ how }) => how !== null))
      logger.info('the source could serve its log too: --capture log has every state and every delete');
    const [only] = found.tables;
    if (!isOne || only === undefined) reportTables(found, dryRun, print);
    else reportTable(only, one !== undefined || replace, dryRun, print);
  },
);

function assertOneOf(partitions: number | undefined, distributedBy: string | undefined): void {
  if (partitions === undefined || distributedBy === undefined) return;
  throw new UsageError('--partitions does not go with --distributed-by', {
    hint: 'a history is parted on one server, or distributed over several',
  });
}

const written = (file: string) =>
  `wrote ${shownPath(file)}: read it, edit it, commit it, then run: npx tidemark migrate`;

/** Says what became of the one table that was named. @param isTold whether anything was said of it, so that one that is registered is an error */
function reportTable({ error, ...table }: many.AddedTable, isTold: boolean, isDry: boolean, print: Print): void {
  const { state, file, migration, how } = table;
  if (error !== undefined && (isTold || state === 'failed')) throw error;
  for (const remark of how?.remarks ?? []) logger.warn(remark);
  const next = `${written(file ?? '')}${many.thenHandOver([table])}`;
  if (how === null || migration === null)
    print(table, `${table.table}: ${many.standingOf(table, isDry)}, and left alone`);
  else if (file === null) print(table, migration.trimEnd());
  else print(table, `${formatRegistration(how.columns)}\n\n${sayDeletes(how.deletes)}\n\n${next}`);
}

/** Says what became of each. @throws TidemarkError that names those that cannot be added */
function reportTables(found: many.AddedTables, isDry: boolean, print: Print): void {
  const failures = found.tables.filter(({ state }) => state === 'failed');
  const shown = found.tables.map(({ error, ...table }) => ({
    ...table,
    error: table.state === 'failed' ? { message: error?.message, next_step: error?.hint ?? null } : null,
  }));
  const names = failures.map(({ table }) => table).join(', ');
  const message = `${failures.length} of ${found.tables.length} tables cannot be added: ${names}`;
  const failed = new TidemarkError(message, { hint: 'what is printed says why, and what to do' });
  const error = failures.length === 0 ? undefined : withOutcome(failed, { result: found, failures });
  print({ ...found, tables: shown }, many.describeTables(found, isDry), error);
  if (error !== undefined) throw error;
}
