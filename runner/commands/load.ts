import { describeError, outcomeOf, withOutcome } from '../base/errors.js';
import { logger } from '../base/logger.js';
import type { Settings } from '../base/settings.js';
import { counted } from '../base/text-table.js';
import { ChangeLogWatch } from '../change-log/watch.js';
import type { LoadResult } from '../load/chain.js';
import { dryRunTables, formatDryRun } from '../load/dry-run.js';
import { formatRetry, retryTables, type RetryReport } from '../load/rejected.js';
import { loadedByReaders, notingHowFar } from '../operate/loaded.js';
import { loadTables } from '../load/tables.js';
import { runPart } from '../services/run.js';
import { TABLE_OPTION, defineCommand, flag, logEach, number, numberOf, printAll, serviceOption } from './command.js';

const report = (result: LoadResult) => {
  const some = (number: number, noun: string, what: string) => (number > 0 ? `, ${counted(number, noun)} ${what}` : '');
  return (
    `${result.table}: ${counted(result.changes, 'change')} in ${counted(result.batches, 'batch')} applied, ` +
    `${counted(result.inserted_versions, 'version')} opened, ${result.closed_versions} closed, ` +
    `${counted(result.absorbed_changes, 'change')} absorbed${some(result.late_changes, 'change', 'late')}` +
    some(result.corrected_versions, 'version', 'corrected') +
    some(result.rejected_changes, 'change', 'rejected')
  );
};

/** A line a table; those with nothing to say are counted. */
function reportAll<T>(
  results: readonly T[],
  isBusy: (result: T) => boolean,
  say: (result: T) => string,
  nothing: string,
) {
  const lines = results.filter(isBusy).map(say);
  const quiet = results.length - lines.length;
  if (quiet === 0) return lines;
  return [...lines, `${counted(quiet, 'table')}${lines.length === 0 ? '' : ' besides'}: ${nothing}`];
}

const reportLoaded = (results: readonly LoadResult[]) =>
  reportAll(results, ({ batches, skipped }) => batches + skipped > 0, report, 'nothing to load');
const reportRetried = (results: readonly RetryReport[]) =>
  reportAll(results, ({ tried }) => tried > 0, formatRetry, 'nothing to try again');

/** A table that cannot be loaded keeps no other from trying its rejected changes again. */
async function loadAndRetry(loading: Promise<readonly LoadResult[]>, retry: () => Promise<readonly RetryReport[]>) {
  const faults: Error[] = [];
  const partOf = (error: Error) => {
    const outcome = outcomeOf(error);
    if (outcome === undefined) throw error;
    if (faults.push(error) > 1) logger.error(describeError(error, false));
    return outcome.result as readonly never[];
  };
  const loaded = await loading.catch(partOf);
  const retried = await retry().catch(partOf);
  const failures = faults.flatMap((error) => outcomeOf(error)?.failures ?? []);
  return { loaded, retried, error: faults[0] && withOutcome(faults[0], { result: loaded, failures }) };
}

/** Loads what has come where the change log was seen to change, and everything when it is time. What fails waits for that, too. */
async function loadWatching(
  settings: Settings,
  watching: ChangeLogWatch,
  tables: readonly string[],
  load: (only?: ReadonlySet<string>) => Promise<readonly LoadResult[]>,
): Promise<readonly LoadResult[]> {
  const fresh = watching.take();
  try {
    if (fresh !== undefined) return await load(fresh);
    const elsewhere = await loadedByReaders(settings);
    await watching.follow((name) => !elsewhere.has(name) && (tables.length === 0 || tables.includes(name)));
    return await load();
  } catch (error) {
    watching.leave(outcomeOf(error)?.failures.flatMap(({ table }) => table ?? []));
    throw error;
  }
}

export const command = defineCommand(
  {
    examples: {
      'load --dry-run': 'What the pending batches would do to history',
      'load --watch --parallel 4': 'Four tables at once, until interrupted',
      'load --retry-rejected': 'And what could not be applied, once its cause is gone',
    },
    options: {
      table: TABLE_OPTION,
      parallel: {
        ...number('How many tables and shards to load at once, each over a connection of its own'),
        default: 1,
      },
      watch: flag(
        'Go on until interrupted: at once where a batch is published, and every CDC_EXTRACTION_INTERVAL_SECONDS',
      ),
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
  async ({ table: tables = [], watch = false, service = false, dryRun, ...given }, { settings, print }) => {
    const { retryRejected = false } = given;
    const limits = { least: 1, most: settings.max_connections, mostName: 'MAX_CONNECTIONS' };
    const parallel = numberOf('load', 'parallel', given.parallel, limits);
    if (dryRun === true) {
      const dry = dryRunTables({ settings, tables }, retryRejected);
      await printAll(dry, print, (results) => results.map(formatDryRun).join('\n\n'));
      return;
    }
    let retried: readonly RetryReport[] = [];
    const watching = watch
      ? new ChangeLogWatch(settings.cdc_log_dir, settings.cdc_extraction_interval_seconds * 1000)
      : undefined;
    await runPart(
      settings,
      {
        name: 'load',
        service: service ? 'loader' : undefined,
        greeting: 'Starting SCD Type 2 Loader',
        interval: watch ? settings.cdc_extraction_interval_seconds : undefined,
        wait: watching && ((signal) => watching.wait(signal)),
      },
      async (signal) => {
        const load = (only?: ReadonlySet<string>) => {
          const some = () =>
            loadTables({ settings, tables, only, parallel, signal, lockPatience: watch ? 0 : undefined });
          return tables.length === 0 && only === undefined ? notingHowFar(settings, some) : some();
        };
        if (watching !== undefined) return loadWatching(settings, watching, tables, load);
        const loading = load();
        if (!retryRejected) return loading;
        const both = await loadAndRetry(loading, () => retryTables({ settings, tables }));
        ({ retried } = both);
        if (both.error !== undefined) throw both.error;
        return both.loaded;
      },
      service
        ? logEach(report)
        : (loaded, error) => {
            const words = [...reportLoaded(loaded), ...reportRetried(retried)].join('\n');
            print(retryRejected ? { loaded, retried } : loaded, words, error);
          },
    ).finally(() => watching?.leave());
  },
);
