import { UsageError } from '../base/errors.js';
import { counted } from '../base/text-table.js';
import { dismiss, formatRejected, listRejected } from '../load/rejected.js';
import { REJECTED_STATES } from '../warehouse/rejected.js';
import { TABLE_OPTION, defineCommand, flag, number, numberOf, printAll, text } from './command.js';

export const command = defineCommand(
  {
    examples: {
      'rejected --table orders': 'Those that wait',
      'rejected dismiss --column net --reason old': 'Wait no more for those with a fault in net',
    },
    positionals: {
      action: {
        type: 'string',
        choices: ['list', 'dismiss', 'restore'],
        default: 'list',
        describe: 'dismiss: they are kept, fail no check and are not tried again; restore: they wait again',
      },
    },
    options: {
      table: TABLE_OPTION,
      batch: text('dismiss, restore: only those of this batch'),
      line: { ...number('dismiss, restore: only the one in this line of the batch'), implies: 'batch' },
      column: text('dismiss, restore: only those with a fault in this column of the source'),
      fault: text('dismiss, restore: only those that were rejected for a reason with this text in it'),
      reason: text('dismiss: why history need not have them'),
      state: {
        type: 'string',
        choices: REJECTED_STATES,
        default: 'waiting',
        describe: 'list: those that wait, that a later change of their key has settled, or that were dismissed',
      },
      limit: { ...number('list: at most so many of each table'), default: 20 },
      json: flag('Print the result as JSON; a list with the whole changes'),
    },
  },
  async ({ action, table: tables = [], batch, column, fault, reason = '', state, ...given }, { settings, print }) => {
    const limit = numberOf('rejected', 'limit', given.limit, { least: 1 });
    if (action !== 'dismiss' && reason !== '')
      throw new UsageError('--reason goes with dismiss only', { hint: 'see "tidemark rejected --help"' });
    if (action === 'dismiss' && reason.trim() === '')
      throw new UsageError('dismiss needs a reason', {
        hint: 'say why history need not have the changes: --reason "..."; it is kept with them',
      });
    const selection = { settings, tables };
    const chosen = { batch, line: numberOf('rejected', 'line', given.line, { least: 1 }), column, fault };
    const isChosen = tables.length > 0 || Object.values(chosen).some((value) => value !== undefined);
    if (action === 'list') {
      await printAll(listRejected(selection, state, limit), print, (reports) => formatRejected(reports, state));
      return;
    }
    if (!isChosen)
      throw new UsageError(`${action} which? Give --table, --batch, --line, --column or --fault`, {
        hint: 'npx tidemark rejected lists them',
      });
    const said =
      action === 'dismiss'
        ? 'dismissed: kept, and not waited for any more'
        : 'waiting again: npx tidemark load --retry-rejected';
    await printAll(dismiss(selection, chosen, action === 'dismiss' ? reason : undefined), print, (done) =>
      done.map((each) => `${each.table}: ${counted(each.changes, 'change')} ${said}`).join('\n'),
    );
  },
);
