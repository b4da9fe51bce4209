import { UsageError } from '../base/errors.js';
import { loadSettings } from '../base/settings.js';
import { dismiss, formatRejected, listRejected, type RejectedPlace } from '../load/rejected.js';
import { TABLE_OPTION, defineCommand, flag, number, numberOf, text } from './command.js';

/** @throws UsageError for what is no place */
function readPlace(option: string, text: string): RejectedPlace {
  const [, batch, line] = /^(.+):([1-9][0-9]{0,8})$/.exec(text) ?? [];
  if (batch === undefined || line === undefined)
    throw new UsageError(`--${option} is "${text}", accepted is <batch>:<line>`, {
      hint: 'npx tidemark rejected lists both',
    });
  return { batch_id: batch, change_line: Number(line) };
}

export const command = defineCommand(
  {
    options: {
      table: TABLE_OPTION,
      limit: { ...number('At most so many of each table'), default: 20 },
      dismissed: flag('List those that were dismissed instead'),
      dismiss: {
        ...text('Dismiss the change at <batch>:<line>: it is kept, fails no check and is not tried again'),
        conflicts: ['restore', 'dismissed'],
      },
      reason: text('With --dismiss: why history need not have it'),
      restore: {
        ...text('Let the dismissed change at <batch>:<line> wait again'),
        conflicts: ['dismissed', 'reason'],
      },
      json: flag('Print the result as JSON; a list with the whole changes'),
    },
  },
  async ({ table = [], dismissed = false, dismiss: place, reason = '', restore, ...given }, print) => {
    const limit = numberOf('rejected', 'limit', given.limit, { least: 1 });
    if (place === undefined && reason !== '')
      throw new UsageError('--reason goes with --dismiss only', { hint: 'see "tidemark rejected --help"' });
    if (place !== undefined && reason.trim() === '')
      throw new UsageError('--dismiss needs a reason', {
        hint: 'say why history need not have the change: --reason "..."; it is kept with it',
      });
    const selection = { settings: loadSettings(), tables: table };
    const asked = place ?? restore;
    if (asked !== undefined) {
      const isDismissed = place !== undefined;
      const found = readPlace(isDismissed ? 'dismiss' : 'restore', asked);
      const owner = await dismiss(selection, found, isDismissed ? reason : null);
      const said = isDismissed
        ? 'is dismissed: it is kept, and not waited for any more'
        : 'waits again: npx tidemark load --retry-rejected';
      print({ table: owner, ...found, is_dismissed: isDismissed }, `${owner}: ${asked} ${said}`);
      return;
    }
    const state = dismissed ? 'dismissed' : 'waiting';
    const reports = await listRejected(selection, state, limit);
    print(reports, formatRejected(reports, state));
  },
);
