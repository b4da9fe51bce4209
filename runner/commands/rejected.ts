import type { CommandModule } from 'yargs';
import { loadSettings } from '../base/settings.js';
import { UsageError } from '../base/errors.js';
import { dismiss, formatRejected, listRejected, type RejectedPlace } from '../load/rejected.js';

interface RejectedArguments {
  readonly table?: readonly string[] | undefined;
  readonly limit: number;
  readonly dismissed?: boolean | undefined;
  readonly dismiss?: string | undefined;
  readonly reason?: string | undefined;
  readonly restore?: string | undefined;
  readonly json?: boolean | undefined;
}

/** @throws UsageError for what is no place */
function readPlace(option: string, text: string): RejectedPlace {
  const [, batch, line] = /^(.+):([1-9][0-9]{0,8})$/.exec(text) ?? [];
  if (batch === undefined || line === undefined)
    throw new UsageError(`--${option} is "${text}", accepted is <batch>:<line>`, {
      hint: 'npx tidemark rejected lists both',
    });
  return { batch_id: batch, change_line: Number(line) };
}

export const rejectedCommand: CommandModule<object, RejectedArguments> = {
  command: 'rejected',
  describe: 'List the changes that could not be applied and were set aside; dismiss one that history need not have',
  builder: {
    table: { type: 'string', array: true, requiresArg: true, describe: 'Only these tables; all by default' },
    limit: { type: 'number', default: 20, requiresArg: true, describe: 'At most so many of each table' },
    dismissed: { type: 'boolean', describe: 'List those that were dismissed instead' },
    dismiss: {
      type: 'string',
      requiresArg: true,
      describe: 'Dismiss the change at <batch>:<line>: it is kept, fails no check and is not tried again',
      conflicts: ['restore', 'dismissed'],
    },
    reason: { type: 'string', requiresArg: true, describe: 'With --dismiss: why history need not have it' },
    restore: {
      type: 'string',
      requiresArg: true,
      describe: 'Let the dismissed change at <batch>:<line> wait again',
      conflicts: ['dismissed', 'reason'],
    },
    json: { type: 'boolean', describe: 'Print the result as JSON; a list with the whole changes' },
  },
  handler: async ({ table = [], limit, json, dismissed, dismiss: place, reason, restore }) => {
    if (!Number.isInteger(limit) || limit < 1)
      throw new UsageError(`--limit is ${String(limit)}, accepted is a whole number from 1`, {
        hint: 'leave it out to see the first 20',
      });
    if (place === undefined && reason !== undefined)
      throw new UsageError('--reason goes with --dismiss only', { hint: 'see "tidemark rejected --help"' });
    if (place !== undefined && (reason ?? '').trim() === '')
      throw new UsageError('--dismiss needs a reason', {
        hint: 'say why history need not have the change: --reason "..."; it is kept with it',
      });
    const selection = { settings: loadSettings(), tables: table };
    const print = (result: unknown, text: string) => {
      process.stdout.write(`${json === true ? JSON.stringify(result) : text}\n`);
    };
    const asked = place ?? restore;
    if (asked !== undefined) {
      const isDismissed = place !== undefined;
      const found = readPlace(isDismissed ? 'dismiss' : 'restore', asked);
      const owner = await dismiss(selection, found, isDismissed ? (reason ?? '') : null);
      print(
        { table: owner, ...found, is_dismissed: isDismissed },
        `${owner}: ${asked} ${isDismissed ? 'is dismissed: it is kept, and not waited for any more' : 'waits again: npx tidemark load --retry-rejected'}`,
      );
      return;
    }
    const state = dismissed === true ? 'dismissed' : 'waiting';
    const reports = await listRejected(selection, state, limit);
    print(reports, formatRejected(reports, state));
  },
};
