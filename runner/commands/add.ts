import { UsageError } from '../base/errors.js';
import { logger } from '../base/logger.js';
import { loadSettings, shownPath } from '../base/settings.js';
import { formatRows } from '../base/text-table.js';
import { writeDimensionFile } from '../registration/files.js';
import type { Registration } from '../registration/plan.js';
import { proposeRegistration, proposeUpdate } from '../registration/propose.js';
import { parseTableName } from '../source/catalog.js';
import { defineCommand, flag, text, texts } from './command.js';

function readRename(text: string): [string, string] {
  const at = text.indexOf('=');
  if (at > 0 && at < text.length - 1) return [text.slice(0, at), text.slice(at + 1)];
  throw new UsageError(`--rename is "${text}", accepted is source_column=history_column`, {
    hint: 'see "tidemark add --help"',
  });
}

const formatRegistration = (all: Registration['columns']) =>
  formatRows(all.map(({ source, history, type = '', role, remark = '' }) => ({ source, history, type, role, remark })));

/** What is settled when a table is registered. */
const SETTLED = ['key', 'effective-time', 'insert-time', 'time-zone', 'change-order', 'overlap'] as const;

export const command = defineCommand(
  {
    positionals: { source: { type: 'string', demandOption: true, describe: 'The source table: schema.table' } },
    options: {
      name: text('Name of the dimension; that of the table by default'),
      key: texts('Columns of the business key; the primary key by default'),
      'effective-time': text('Column that says when a row changed; last_updated, updated_at, ... by default'),
      'insert-time': text('Column that says when a row was made, or "none"; created_at, ... by default'),
      track: texts('Only these are tracked, the others overwritten in place'),
      untracked: texts('Overwritten in place: a difference makes no version'),
      ignore: texts('Left out of history'),
      rename: texts('Another name in history: source_column=history_column'),
      'time-zone': text('Zone of timestamps without zone; UTC by default'),
      'change-order': {
        type: 'string',
        choices: ['capture', 'effective_time'],
        describe: 'How changes of a key are ordered; capture by default',
      },
      deletes: {
        type: 'string',
        choices: ['none', 'reconcile', 'soft'],
        describe: 'How deletes at the source are found; none by default. soft: a column marks them',
      },
      'deleted-column': text('Deletes are soft, and this column marks them; deleted_at, is_deleted, ... by default'),
      'deleted-values': texts('Its values that mean deleted; by default true for a boolean, else anything but null'),
      update: flag(
        'Follow a registered table: add its new columns; with --rename old=new, --retire, --ignore say what became of others; --deletes and its columns change how deletes are found',
      ),
      retire: texts('With --update: columns that the source has dropped'),
      overlap: flag(
        '--no-overlap adds the constraint that no two versions of a key overlap; it doubles the cost of a load',
      ),
      'dry-run': flag('Print the migration and write nothing'),
    },
  },
  async (given, print) => {
    const settings = loadSettings();
    const table = parseTableName(given.source);
    const { name, track = [], untracked = [], ignore = [], retire = [], dryRun = false } = given;
    const rename = new Map((given.rename ?? []).map(readRename));
    const deletes = {
      deletes: given.deletes,
      deleted_column: given.deletedColumn,
      deleted_values: given.deletedValues,
    };
    const write = async (words: string, migration: string, said = '') => {
      if (dryRun) return print({ file: null, migration }, migration.trimEnd());
      const file = await writeDimensionFile(settings.dimensions_dir, words, migration);
      const next = `wrote ${shownPath(file)}: read it, edit it, commit it, then run: npx tidemark migrate`;
      print({ file, migration }, `${said}${next}`);
    };
    if (given.update === true) {
      const settled = SETTLED.find((option) => given[option] !== undefined);
      if (settled !== undefined)
        throw new UsageError(`--update cannot change --${settled}`, {
          hint: 'key, times and order are settled when a table is registered: register it anew, under another name',
        });
      const options = { track, untracked, ignore, rename, retire, ...deletes };
      const proposed = await proposeUpdate(settings, table, name, options);
      if (proposed === undefined) print({ file: null }, 'nothing to update: history knows every column of the source');
      else await write(proposed.words, proposed.text);
      return;
    }
    if (given.retire !== undefined)
      throw new UsageError('--retire goes with --update only', { hint: 'see "tidemark add --help"' });
    const { words, text, registration } = await proposeRegistration(settings, table, {
      name,
      track,
      untracked,
      ignore,
      rename,
      ...deletes,
      key: given.key ?? [],
      effective_time: given.effectiveTime,
      insert_time: given.insertTime,
      time_zone: given.timeZone ?? 'UTC',
      change_order: given.changeOrder ?? 'capture',
      no_overlap: given.overlap === false,
    });
    for (const remark of registration.remarks) logger.warn(remark);
    await write(words, text, `${formatRegistration(registration.columns)}\n\n`);
  },
);
