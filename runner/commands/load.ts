import { logger } from '../base/logger.js';
import { loadSettings } from '../base/settings.js';
import { counted } from '../base/text-table.js';
import type { LoadResult } from '../load/chain.js';
import { dryRunTables, formatDryRun } from '../load/dry-run.js';
import { formatRetry, retryTables, type RetryReport } from '../load/rejected.js';
import { loadTables } from '../load/tables.js';
import { runPart } from '../services/run.js';
import { TABLE_OPTION, defineCommand, flag, number, numberOf, serviceOption } from './command.js';

const report = (result: LoadResult) =>
  [
    `${result.table}: ${counted(result.changes, 'change')} in ${counted(result.batches, 'batch')} applied`,
    `${counted(result.inserted_versions, 'version')} opened`,
    `${String(result.closed_versions)} closed`,
    `${counted(result.absorbed_changes, 'change')} absorbed`,
    ...(result.late_changes === 0 ? [] : [`${counted(result.late_changes, 'change')} late`]),
    ...(result.corrected_versions === 0 ? [] : [`${counted(result.corrected_versions, 'version')} corrected`]),
    ...(result.rejected_changes === 0 ? [] : [`${counted(result.rejected_changes, 'change')} rejected`]),
  ].join(', ');

function sayToLog(results: readonly LoadResult[]): void {
  for (const result of results)
    logger[result.batches > 0 ? 'info' : 'debug']({ table: result.table, changes: result.changes }, report(result));
}

export const command = defineCommand(
  {
    options: {
      table: TABLE_OPTION,
      parallel: {
        ...number('How many tables and shards to load at once, each over a connection of its own'),
        default: 1,
      },
      watch: flag('Go on until interrupted, every CDC_EXTRACTION_INTERVAL_SECONDS'),
      service: serviceOption('loader'),
      'retry-rejected': {
        ...flag('Then try the changes again that were set aside because they could not be applied'),
        conflicts: 'watch',
      },
      'dry-run': {
        ...flag('Apply everything, say what it does to history, and roll it back; with --retry-rejected that too'),
        conflicts: 'watch',
      },
    },
  },
  async ({ table: tables = [], watch = false, service = false, retryRejected = false, dryRun, ...given }, print) => {
    const settings = loadSettings();
    const limits = { least: 1, most: settings.max_connections, mostName: 'MAX_CONNECTIONS' };
    const parallel = numberOf('load', 'parallel', given.parallel, limits);
    if (dryRun === true) {
      const results = await dryRunTables({ settings, tables }, retryRejected);
      print(results, results.map(formatDryRun).join('\n\n'));
      return;
    }
    let retried: readonly RetryReport[] = [];
    await runPart(
      settings,
      {
        name: 'load',
        service: service ? 'loader' : undefined,
        greeting: 'Starting SCD Type 2 Loader',
        interval: watch ? settings.cdc_extraction_interval_seconds : undefined,
      },
      async (signal) => {
        const loaded = await loadTables({ settings, tables, parallel, signal });
        if (retryRejected) retried = await retryTables({ settings, tables });
        return loaded;
      },
      service
        ? sayToLog
        : (loaded) => {
            const words = [...loaded.map(report), ...retried.map(formatRetry)].join('\n');
            print(retryRejected ? { loaded, retried } : loaded, words);
          },
    );
  },
);
