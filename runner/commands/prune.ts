import type { Settings } from '../base/settings.js';
import { counted, formatRows, linesOf } from '../base/text-table.js';
import { prune, type Pruned } from '../operate/prune.js';
import { TABLE_OPTION, defineCommand, flag, printAll } from './command.js';

/** What is kept for ever unless a setting says otherwise. */
const KEPT = {
  cdc_log_retention_days: 'batch files and checkpoints',
  absorbed_retention_days: 'absorbed changes',
  run_retention_days: 'runs and reconciliations',
  event_retention_days: 'events',
} as const;

function report(settings: Settings, { is_dry_run, tables, runs, reconciliations, events }: Pruned): string {
  const forEver = Object.entries(KEPT)
    .filter(([setting]) => settings[setting as keyof typeof KEPT] === undefined)
    .map(([setting, what]) => `${what} (${setting.toUpperCase()})`);
  return linesOf(
    tables.length > 0 && formatRows(tables),
    `${is_dry_run ? 'would be removed' : 'removed'} besides: ${counted(runs, 'run')}, ${counted(reconciliations, 'reconciliation')}, ${counted(events, 'event')}`,
    forEver.length > 0 && `kept for ever: ${forEver.join(', ')}`,
    is_dry_run && 'nothing was removed',
  );
}

export const command = defineCommand(
  {
    examples: { 'prune --dry-run': 'Only say what is old' },
    options: { table: TABLE_OPTION, 'dry-run': flag('Say what would be removed, and remove nothing') },
    epilogue:
      'What is not applied is never removed, nor what follows it. "rebuild" needs every batch that was ever applied: it is over once ' +
      'CDC_LOG_RETENTION_DAYS has removed the first. "verify-log" then says how many are gone, and verifies what began since.',
  },
  async ({ table = [], dryRun = false }, { settings, print }) => {
    await printAll(prune(settings, table, dryRun), print, (pruned) => report(settings, pruned));
  },
);
