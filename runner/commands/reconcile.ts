import type { CommandModule } from 'yargs';
import { loadSettings } from '../base/settings.js';
import { EXIT, UsageError } from '../base/errors.js';
import { sayInterrupted } from '../run/rounds.js';
import { logger } from '../base/logger.js';
import { reconcileTables, type ReconcileResult } from '../reconcile/tables.js';
import { runPart } from '../services/part.js';
import { counted, formatRows } from '../base/text-table.js';

interface ReconcileArguments {
  readonly table?: readonly string[] | undefined;
  readonly repair?: boolean | undefined;
  readonly allowDeletes?: boolean | undefined;
  readonly watch?: boolean | undefined;
  readonly service?: boolean | undefined;
  readonly json?: boolean | undefined;
}

const SHOWN = 20;

function summary({
  table,
  source_rows,
  current_versions,
  missing,
  extra,
  different,
  unsettled,
  repaired,
  differences,
}: ReconcileResult): string {
  const counts = `${counted(source_rows, 'row')} at the source, ${counted(current_versions, 'current version')}`;
  const found =
    differences.length === 0
      ? 'no differences'
      : `${String(missing)} missing, ${String(extra)} extra, ${String(different)} different`;
  return `${table}: ${found} (${counts})${unsettled === 0 ? '' : `, ${counted(unsettled, 'key')} kept changing`}${repaired === 0 ? '' : `, ${counted(repaired, 'change')} repaired`}`;
}

function report(result: ReconcileResult): string {
  const { differences } = result;
  const lines = [summary(result)];
  if (differences.length > 0)
    lines.push(formatRows(differences.slice(0, SHOWN).map((difference) => ({ ...difference }))));
  if (differences.length > SHOWN) lines.push(`and ${String(differences.length - SHOWN)} more: --json shows all`);
  return lines.join('\n');
}

/** Keys and values stay out of the log: they are data. So it is with what goes on for ever, whose output systemd and containers log. */
function sayToLog(results: readonly ReconcileResult[]): void {
  for (const result of results) logger.info({ table: result.table, repaired: result.repaired }, summary(result));
}

export const reconcileCommand: CommandModule<object, ReconcileArguments> = {
  command: 'reconcile',
  describe:
    'Compare the source with the current versions of history, and repair what differs; exits 3 if something does',
  builder: {
    table: { type: 'string', array: true, requiresArg: true, describe: 'Only these tables; all by default' },
    repair: {
      type: 'boolean',
      describe: 'Write the differences to the change log and load them: repairs are history too',
    },
    'allow-deletes': { type: 'boolean', describe: 'Let the repair close more versions than MAX_DELETE_PERCENT' },
    watch: {
      type: 'boolean',
      describe:
        'Go on until interrupted, every RECONCILE_INTERVAL_SECONDS: repairs the tables whose deletes are found so, and compares others that --table names',
    },
    service: {
      type: 'boolean',
      implies: 'watch',
      describe:
        'With --watch: be the reconciler that status shows and stop ends, and log to LOG_DIR, as "tidemark start" does',
    },
    json: { type: 'boolean', describe: 'Print the result as JSON' },
  },
  handler: async ({ table = [], repair = false, allowDeletes = false, watch, service, json }) => {
    if (allowDeletes && !repair) throw new UsageError('--allow-deletes is for a repair', { hint: 'add --repair' });
    if (repair && watch === true)
      throw new UsageError('--watch repairs by itself the tables whose deletes are found by reconciling', {
        hint: 'leave out --repair or --watch',
      });
    const settings = loadSettings();
    const interval = watch === true ? settings.reconcile_interval_seconds : undefined;
    const part = {
      name: 'reconcile',
      service: 'reconciler',
      greeting: 'Starting reconciler',
      interval,
      asService: service === true,
    } as const;
    const round = (signal: AbortSignal) =>
      reconcileTables({
        settings,
        tables: table,
        signal,
        repair: watch === true ? 'declared' : repair,
        allowDeletes,
        onlyDeclared: watch === true && table.length === 0,
      });
    const print = (results: readonly ReconcileResult[]) => {
      process.stdout.write(
        `${json === true ? JSON.stringify(results) : results.map(watch === true ? summary : report).join('\n')}\n`,
      );
      const left = results.some(({ differences, repaired }) => differences.length > repaired);
      if (watch !== true && left) process.exitCode = EXIT.violations;
    };
    const wasInterrupted = await runPart(settings, part, round, part.asService ? sayToLog : print);
    if (wasInterrupted) sayInterrupted('reconcile');
  },
};
