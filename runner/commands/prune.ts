import { loadSettings, type Settings } from '../base/settings.js';
import { counted, formatRows } from '../base/text-table.js';
import { prune, type Pruned } from '../operate/prune.js';
import { TABLE_OPTION, defineCommand, flag, printAll } from './command.js';

/** What is kept for ever, by the setting that would change it. */
const kept = ({
  cdc_log_retention_days,
  absorbed_retention_days,
  run_retention_days,
  event_retention_days,
}: Settings): string[] => [
  ...(cdc_log_retention_days === undefined ? ['batch files and checkpoints (CDC_LOG_RETENTION_DAYS)'] : []),
  ...(absorbed_retention_days === undefined ? ['absorbed changes (ABSORBED_RETENTION_DAYS)'] : []),
  ...(run_retention_days === undefined ? ['runs and reconciliations (RUN_RETENTION_DAYS)'] : []),
  ...(event_retention_days === undefined ? ['events (EVENT_RETENTION_DAYS)'] : []),
];

function report(settings: Settings, { is_dry_run, tables, runs, reconciliations, events }: Pruned): string {
  const forEver = kept(settings);
  return [
    ...(tables.length === 0 ? [] : [formatRows(tables)]),
    `${is_dry_run ? 'would be removed' : 'removed'} besides: ${counted(runs, 'run')}, ${counted(reconciliations, 'reconciliation')}, ${counted(events, 'event')}`,
    ...(forEver.length === 0 ? [] : [`kept for ever: ${forEver.join(', ')}`]),
    ...(is_dry_run ? ['nothing was removed'] : []),
  ].join('\n');
}

export const command = defineCommand(
  {
    examples: { 'prune --dry-run': 'Only say what is old' },
    options: { table: TABLE_OPTION, 'dry-run': flag('Say what would be removed, and remove nothing') },
    epilogue:
      'What is not applied is never removed, nor what follows it. "rebuild" needs every batch that was ever applied: it is over once ' +
      'CDC_LOG_RETENTION_DAYS has removed the first. "verify-log" then says how many are gone, and verifies what began since.',
  },
  async ({ table = [], dryRun = false }, print) => {
    const settings = loadSettings();
    await printAll(prune(settings, table, dryRun), print, (pruned) => report(settings, pruned));
  },
);
