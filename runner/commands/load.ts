import type { CommandModule } from 'yargs';
import { loadSettings } from '../base/settings.js';
import { dryRunTables, formatDryRun } from '../load/dry-run.js';
import { UsageError } from '../base/errors.js';
import { sayInterrupted } from '../run/rounds.js';
import type { LoadResult } from '../load/chain.js';
import { logger } from '../base/logger.js';
import { formatRetry, retryTables, type RetryReport } from '../load/rejected.js';
import { runPart } from '../services/part.js';
import { counted } from '../base/text-table.js';
import { loadTables } from '../load/tables.js';

interface LoadArguments {
  readonly table?: readonly string[] | undefined;
  readonly watch?: boolean | undefined;
  readonly service?: boolean | undefined;
  readonly json?: boolean | undefined;
  readonly retryRejected?: boolean | undefined;
  readonly dryRun?: boolean | undefined;
  readonly parallel?: number | undefined;
}

const report = (result: LoadResult) =>
  `${result.table}: ${counted(result.changes, 'change')} in ${counted(result.batches, 'batch')} applied, ` +
  `${counted(result.inserted_versions, 'version')} opened, ${String(result.closed_versions)} closed, ${counted(result.absorbed_changes, 'change')} absorbed${[
    [result.late_changes, `${counted(result.late_changes, 'change')} late`],
    [result.corrected_versions, `${counted(result.corrected_versions, 'version')} corrected`],
    [result.rejected_changes, `${counted(result.rejected_changes, 'change')} rejected`],
  ]
    .map(([count, words]) => (count === 0 ? '' : `, ${String(words)}`))
    .join('')}`;

function sayToLog(results: readonly LoadResult[]): void {
  for (const result of results)
    logger[result.batches > 0 ? 'info' : 'debug']({ table: result.table, changes: result.changes }, report(result));
}

export const loadCommand: CommandModule<object, LoadArguments> = {
  command: 'load',
  describe: 'Apply the pending batches of the change log to history',
  builder: {
    table: { type: 'string', array: true, requiresArg: true, describe: 'Only these tables; all by default' },
    parallel: {
      type: 'number',
      requiresArg: true,
      default: 1,
      describe: 'How many tables and shards to load at once, each over a connection of its own',
    },
    watch: { type: 'boolean', describe: 'Go on until interrupted, every CDC_EXTRACTION_INTERVAL_SECONDS' },
    service: {
      type: 'boolean',
      implies: 'watch',
      describe:
        'With --watch: be the loader that status shows and stop ends, and log to LOG_DIR, as "tidemark start" does',
    },
    'retry-rejected': {
      type: 'boolean',
      describe: 'Then try the changes again that were set aside because they could not be applied',
      conflicts: 'watch',
    },
    'dry-run': {
      type: 'boolean',
      describe: 'Apply everything, say what it does to history, and roll it back; with --retry-rejected that too',
      conflicts: 'watch',
    },
    json: { type: 'boolean', describe: 'Print the result as JSON' },
  },
  handler: async ({ table = [], parallel = 1, watch, service, json, retryRejected, dryRun }) => {
    const settings = loadSettings();
    if (!Number.isInteger(parallel) || parallel < 1 || parallel > settings.max_connections)
      throw new UsageError(
        `--parallel is ${Number.isNaN(parallel) ? 'not a number' : String(parallel)}, accepted is a whole number from 1 to MAX_CONNECTIONS (${String(settings.max_connections)})`,
        { hint: 'see "tidemark load --help"' },
      );
    const print = (results: unknown, words: () => string) => {
      process.stdout.write(`${json === true ? JSON.stringify(results) : words()}\n`);
    };
    if (dryRun === true) {
      const results = await dryRunTables({ settings, tables: table }, retryRejected === true);
      print(results, () => results.map(formatDryRun).join('\n\n'));
      return;
    }
    const interval = watch === true ? settings.extraction_interval_seconds : undefined;
    const part = {
      name: 'load',
      service: 'loader',
      greeting: 'Starting SCD Type 2 Loader',
      interval,
      asService: service === true,
    } as const;
    let retried: readonly RetryReport[] = [];
    const round = async (signal: AbortSignal) => {
      const loaded = await loadTables({ settings, tables: table, parallel, signal });
      if (retryRejected === true) retried = await retryTables({ settings, tables: table });
      return loaded;
    };
    const say = (loaded: readonly LoadResult[]) => {
      if (part.asService) sayToLog(loaded);
      else
        print(retryRejected === true ? { loaded, retried } : loaded, () =>
          [...loaded.map(report), ...retried.map(formatRetry)].join('\n'),
        );
    };
    const wasInterrupted = await runPart(settings, part, round, say);
    if (wasInterrupted) sayInterrupted('load');
  },
};
