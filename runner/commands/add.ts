import type { CommandModule } from 'yargs';
import { proposeRegistration, proposeUpdate, type ProposedMigration } from '../registration/propose.js';
import { loadSettings, shownPath, type Settings } from '../base/settings.js';
import { writeDimensionFile } from '../registration/files.js';
import { UsageError } from '../base/errors.js';
import { logger } from '../base/logger.js';
import type { DeletesPolicy, Registration, RegistrationOptions } from '../registration/plan.js';
import { parseTableName } from '../source/catalog.js';
import { formatRows } from '../base/text-table.js';

interface AddArguments {
  readonly source: string;
  readonly name?: string | undefined;
  readonly key?: readonly string[] | undefined;
  readonly 'effective-time'?: string | undefined;
  readonly 'insert-time'?: string | undefined;
  readonly track?: readonly string[] | undefined;
  readonly untracked?: readonly string[] | undefined;
  readonly ignore?: readonly string[] | undefined;
  readonly rename?: readonly string[] | undefined;
  readonly 'time-zone'?: string | undefined;
  readonly 'change-order'?: 'capture' | 'effective_time' | undefined;
  readonly deletes?: DeletesPolicy | undefined;
  readonly 'deleted-column'?: string | undefined;
  readonly 'deleted-values'?: readonly string[] | undefined;
  readonly overlap?: boolean | undefined;
  readonly update?: boolean | undefined;
  readonly retire?: readonly string[] | undefined;
  readonly 'dry-run'?: boolean | undefined;
  readonly json?: boolean | undefined;
}

function readOptions(given: AddArguments): RegistrationOptions {
  const renames = (given.rename ?? []).map((text): [string, string] => {
    const at = text.indexOf('=');
    if (at > 0 && at < text.length - 1) return [text.slice(0, at), text.slice(at + 1)];
    throw new UsageError(`--rename is "${text}", accepted is source_column=history_column`, {
      hint: 'see "tidemark add --help"',
    });
  });
  return {
    name: given.name,
    key: given.key ?? [],
    effective_time: given['effective-time'],
    insert_time: given['insert-time'],
    track: given.track ?? [],
    untracked: given.untracked ?? [],
    ignore: given.ignore ?? [],
    rename: new Map(renames),
    time_zone: given['time-zone'] ?? 'UTC',
    change_order: given['change-order'] ?? 'capture',
    no_overlap: given.overlap === false,
    deletes: given.deletes,
    deleted_column: given['deleted-column'],
    deleted_values: given['deleted-values'],
  };
}

const formatRegistration = ({ columns: all }: Registration) =>
  formatRows(
    all.map(({ source, history, type, role, remark }) => ({
      source,
      history,
      type: type ?? '',
      role,
      remark: remark ?? '',
    })),
  );

const whatNext = (file: string) =>
  `wrote ${shownPath(file)}: read it, edit it, commit it, then run: npx tidemark migrate`;

const columns = (describe: string) => ({ type: 'string', array: true, requiresArg: true, describe }) as const;

export const addCommand: CommandModule<object, AddArguments> = {
  command: 'add <source>',
  describe: 'Write the migration that registers a source table, from its catalog',
  builder: (yargs) =>
    yargs
      .positional('source', { type: 'string', demandOption: true, describe: 'The source table: schema.table' })
      .options({
        name: { type: 'string', requiresArg: true, describe: 'Name of the dimension; that of the table by default' },
        key: columns('Columns of the business key; the primary key by default'),
        'effective-time': {
          type: 'string',
          requiresArg: true,
          describe: 'Column that says when a row changed; last_updated, updated_at, ... by default',
        },
        'insert-time': {
          type: 'string',
          requiresArg: true,
          describe: 'Column that says when a row was made, or "none"; created_at, ... by default',
        },
        track: columns('Only these are tracked, the others overwritten in place'),
        untracked: columns('Overwritten in place: a difference makes no version'),
        ignore: columns('Left out of history'),
        rename: columns('Another name in history: source_column=history_column'),
        'time-zone': { type: 'string', requiresArg: true, describe: 'Zone of timestamps without zone; UTC by default' },
        'change-order': {
          type: 'string',
          choices: ['capture', 'effective_time'] as const,
          describe: 'How changes of a key are ordered; capture by default',
        },
        deletes: {
          type: 'string',
          choices: ['none', 'reconcile', 'soft'] as const,
          describe: 'How deletes at the source are found; none by default. soft: a column marks them',
        },
        'deleted-column': {
          type: 'string',
          requiresArg: true,
          describe: 'Deletes are soft, and this column marks them; deleted_at, is_deleted, ... by default',
        },
        'deleted-values': columns(
          'Its values that mean deleted; by default true for a boolean, else anything but null',
        ),
        update: {
          type: 'boolean',
          describe:
            'Follow a registered table: add its new columns; with --rename old=new, --retire, --ignore say what became of others; --deletes and its columns change how deletes are found',
        },
        retire: columns('With --update: columns that the source has dropped'),
        overlap: {
          type: 'boolean',
          describe:
            '--no-overlap adds the constraint that no two versions of a key overlap; it doubles the cost of a load',
        },
        'dry-run': { type: 'boolean', describe: 'Print the migration and write nothing' },
        json: { type: 'boolean', describe: 'Print the result as JSON' },
      }),
  handler: async (given) => {
    const settings = loadSettings();
    const table = parseTableName(given.source);
    const options = readOptions(given);
    if (given.update === true) {
      assertUpdateOptions(given);
      const proposed = await proposeUpdate(settings, table, given.name, { ...options, retire: given.retire ?? [] });
      await hand(given, settings, proposed, (file) => whatNext(file));
      return;
    }
    if (given.retire !== undefined)
      throw new UsageError('--retire goes with --update only', { hint: 'see "tidemark add --help"' });
    const proposed = await proposeRegistration(settings, table, options);
    for (const remark of proposed.registration.remarks) logger.warn(remark);
    await hand(
      given,
      settings,
      proposed,
      (file) => `${formatRegistration(proposed.registration)}\n\n${whatNext(file)}`,
    );
  },
};

/** Prints the migration, or writes it and says so. */
async function hand(
  given: AddArguments,
  settings: Settings,
  proposed: ProposedMigration | undefined,
  say: (file: string) => string,
): Promise<void> {
  const print = (result: unknown, text: string) => {
    process.stdout.write(given.json === true ? `${JSON.stringify(result)}\n` : text);
  };
  if (proposed === undefined) {
    print({ file: null }, 'nothing to update: history knows every column of the source\n');
  } else if (given['dry-run'] === true) {
    print({ file: null, migration: proposed.text }, proposed.text);
  } else {
    const file = await writeDimensionFile(settings.dimensions_dir, proposed.words, proposed.text);
    print({ file, migration: proposed.text }, `${say(file)}\n`);
  }
}

function assertUpdateOptions(given: AddArguments): void {
  const settled = (['key', 'effective-time', 'insert-time', 'time-zone', 'change-order', 'overlap'] as const).filter(
    (name) => given[name] !== undefined,
  );
  if (settled.length > 0)
    throw new UsageError(`--update cannot change --${settled[0] ?? ''}`, {
      hint: 'key, times and order are settled when a table is registered: register it anew, under another name',
    });
}
