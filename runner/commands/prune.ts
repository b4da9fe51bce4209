import type { CommandModule } from 'yargs';
import { loadSettings, type Settings } from '../base/settings.js';
import { prune, type Pruned } from '../operate/prune.js';
import { counted, formatRows } from '../base/text-table.js';

interface PruneArguments {
  readonly table?: readonly string[] | undefined;
  readonly dryRun?: boolean | undefined;
  readonly json?: boolean | undefined;
}

/** What is kept for ever, by the setting that would change it. */
const kept = ({ cdc_log_retention_days, absorbed_retention_days, run_retention_days }: Settings): string[] => [
  ...(cdc_log_retention_days === undefined ? ['batch files and checkpoints (CDC_LOG_RETENTION_DAYS)'] : []),
  ...(absorbed_retention_days === undefined ? ['absorbed changes (ABSORBED_RETENTION_DAYS)'] : []),
  ...(run_retention_days === undefined ? ['runs and reconciliations (RUN_RETENTION_DAYS)'] : []),
];

function report(settings: Settings, { is_dry_run, tables, runs, reconciliations }: Pruned): string {
  const forEver = kept(settings);
  return [
    ...(tables.length === 0 ? [] : [formatRows(tables.map((table) => ({ ...table })))]),
    `${is_dry_run ? 'would be removed' : 'removed'} besides: ${counted(runs, 'run')}, ${counted(reconciliations, 'reconciliation')}`,
    ...(forEver.length === 0 ? [] : [`kept for ever: ${forEver.join(', ')}`]),
    ...(is_dry_run ? ['nothing was removed'] : []),
  ].join('\n');
}

export const pruneCommand: CommandModule<object, PruneArguments> = {
  command: 'prune',
  describe: 'Remove what is older than its retention setting says: applied batches, absorbed changes, reports of runs',
  builder: (yargs) =>
    yargs
      .option('table', {
        type: 'string',
        array: true,
        requiresArg: true,
        describe: 'Only these tables; all by default',
      })
      .option('dry-run', { type: 'boolean', describe: 'Say what would be removed, and remove nothing' })
      .option('json', { type: 'boolean', describe: 'Print the result as JSON' })
      .epilogue(
        'What is not applied is never removed, nor what follows it. "rebuild" needs every batch that was ever applied: it is over once ' +
          'CDC_LOG_RETENTION_DAYS has removed the first. "verify-log" then says how many are gone, and verifies what began since.',
      ),
  handler: async ({ table = [], dryRun = false, json }) => {
    const settings = loadSettings();
    const pruned = await prune(settings, table, dryRun);
    process.stdout.write(`${json === true ? JSON.stringify(pruned) : report(settings, pruned)}\n`);
  },
};
