import { UsageError } from '../base/errors.js';
import { formatBatches, formatMoved, listBatches, restore, retract } from '../operate/batches.js';
import { defineAnswer, flag, number, numberOf, tableOption, text } from './command.js';

export const command = defineAnswer(
  {
    examples: {
      'batch list orders': 'The newest batches of orders',
      'batch retract orders b1 --reason wrong': 'Take batch b1 out',
      'batch restore orders b1': 'Bring it back',
    },
    positionals: {
      action: {
        type: 'string',
        choices: ['list', 'retract', 'restore'],
        demandOption: true,
        describe: 'retract: history becomes what all other changes make of it; restore takes that back',
      },
      table: tableOption,
      batch: { type: 'string', describe: 'retract, restore: the name of the batch, which is that of its file' },
    },
    options: {
      reason: text('retract: what is wrong with the batch; it is kept'),
      'dry-run': flag('retract, restore: say what would be done, show the first rows, and roll back'),
      retracted: flag('list: only those that are out of history'),
      limit: { ...number('list: at most so many'), default: 20 },
    },
  },
  async ({ action, table, batch, reason = '', dryRun = false, retracted = false, ...given }, settings) => {
    const limit = numberOf('batch', 'limit', given.limit, { least: 1 });
    if (action === 'list') {
      const batches = await listBatches(settings, table, retracted, limit);
      return [batches, formatBatches(batches, table, retracted)];
    }
    if (batch === undefined)
      throw new UsageError(`${action} needs the name of a batch`, { hint: `npx tidemark batch list ${table}` });
    if ((action === 'retract') !== (reason.trim() !== ''))
      throw new UsageError(action === 'retract' ? 'retract needs a reason' : '--reason goes with retract only', {
        hint: 'say what is wrong with the batch: retract ... --reason "..."; it is kept with it',
      });
    const moved = await (action === 'retract'
      ? retract(settings, table, batch, reason, dryRun)
      : restore(settings, table, batch, dryRun));
    return [moved, formatMoved(moved, action)];
  },
);
