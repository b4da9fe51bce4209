import type { CommandModule } from 'yargs';
import { loadSettings } from '../base/settings.js';
import { UsageError } from '../base/errors.js';
import { counted, formatRows } from '../base/text-table.js';
import { listTables, pauseTable, removeTable, type RemovedTable } from '../registration/registered.js';

interface TableArguments {
  readonly action: 'list' | 'pause' | 'resume' | 'remove';
  readonly name?: string | undefined;
  readonly 'drop-history'?: boolean | undefined;
  readonly json?: boolean | undefined;
}

const SHOWN_BATCHES = 5;

function reportRemoved({
  table,
  history_table,
  is_history_dropped,
  change_log,
  pending_batches: pending,
}: RemovedTable): string {
  const more = pending.length > SHOWN_BATCHES ? ` and ${String(pending.length - SHOWN_BATCHES)} more` : '';
  return [
    `${table} is no longer registered; ${is_history_dropped ? `${history_table} is dropped` : `${history_table} stays as it is`}`,
    ...(change_log === undefined ? [] : [`its change log is set aside: ${change_log}`]),
    ...(pending.length === 0
      ? []
      : [
          `${counted(pending.length, 'batch')} in it ${pending.length === 1 ? 'was' : 'were'} never loaded, history lacks them: ${pending.slice(0, SHOWN_BATCHES).join(', ')}${more}`,
        ]),
    `the migration that registered ${table} stays: for other warehouses write one after it that selects tidemark.remove_dimension`,
    `to register it again: npx tidemark add${is_history_dropped ? '' : '; its history must make room first, add says how'}`,
  ].join('\n');
}

export const tableCommand: CommandModule<object, TableArguments> = {
  command: 'table <action> [name]',
  describe: 'List the registered tables; pause one, let it go on, or remove it',
  builder: (yargs) =>
    yargs
      .positional('action', {
        type: 'string',
        choices: ['list', 'pause', 'resume', 'remove'] as const,
        demandOption: true,
        describe: 'remove keeps the history, unless told otherwise',
      })
      .positional('name', { type: 'string', describe: 'The table, by the name of its dimension' })
      .option('drop-history', {
        type: 'boolean',
        describe: 'remove: drop the history table too, with its current view and as-of function',
      })
      .option('json', { type: 'boolean', describe: 'Print the result as JSON' }),
  handler: async ({ action, name, json, 'drop-history': dropHistory = false }) => {
    const settings = loadSettings();
    const print = (result: unknown, text: string) => {
      process.stdout.write(`${json === true ? JSON.stringify(result) : text}\n`);
    };
    if (dropHistory && action !== 'remove')
      throw new UsageError('--drop-history goes with remove only', { hint: 'see "tidemark table --help"' });
    if (action === 'list') {
      const tables = await listTables(settings);
      print(
        tables,
        tables.length === 0
          ? 'no table is registered: npx tidemark add'
          : formatRows(tables.map((table) => ({ ...table }))),
      );
      return;
    }
    if (name === undefined)
      throw new UsageError(`${action} needs the name of a table`, { hint: 'npx tidemark table list shows them' });
    if (action === 'remove') {
      const removed = await removeTable(settings, name, dropHistory);
      print(removed, reportRemoved(removed));
      return;
    }
    await pauseTable(settings, name, action === 'pause');
    print(
      { table: name, state: action === 'pause' ? 'paused' : 'active' },
      action === 'pause'
        ? `${name} is paused: npx tidemark table resume ${name}`
        : `${name} goes on from its watermark`,
    );
  },
};
