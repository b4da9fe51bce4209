import { EXIT, UsageError } from '../base/errors.js';
import { logger } from '../base/logger.js';
import { counted, formatRows, linesOf } from '../base/text-table.js';
import { reconcileTables, type ReconcileResult } from '../reconcile/tables.js';
import { runPart } from '../services/run.js';
import { TABLE_OPTION, defineCommand, flag, serviceOption } from './command.js';

const SHOWN = 20;

function summary(result: ReconcileResult): string {
  const { table, missing, extra, different, retracted, unsettled, repaired, differences } = result;
  const counts = `${counted(result.source_rows, 'row')} at the source, ${counted(result.current_versions, 'current version')}`;
  const found =
    differences.length === 0
      ? result.source_rows === result.current_versions
        ? 'no differences'
        : 'not as many rows as versions: what is under way was not waited for, look again'
      : `${missing} missing, ${extra} extra, ${different} different`;
  return `${table}: ${found} (${counts})${retracted === 0 ? '' : `, ${retracted} more by retracted batches`}${unsettled === 0 ? '' : `, ${counted(unsettled, 'key')} kept changing`}${repaired === 0 ? '' : `, ${counted(repaired, 'change')} repaired`}`;
}

function report(result: ReconcileResult): string {
  const { differences } = result;
  const columns = [
    'key',
    'kind',
    'source',
    'history',
    ...(differences.some((one) => one.retracted) ? ['retracted'] : []),
  ];
  return linesOf(
    summary(result),
    differences.length > 0 && formatRows(differences.slice(0, SHOWN), columns),
    differences.length > SHOWN && `and ${differences.length - SHOWN} more: --json shows all`,
  );
}

/** Keys and values stay out of the log: they are data. So it is with what goes on for ever, whose output systemd and containers log. */
function sayToLog(results: readonly ReconcileResult[]): void {
  for (const result of results) logger.info({ table: result.table, repaired: result.repaired }, summary(result));
}

export const command = defineCommand(
  {
    examples: {
      reconcile: 'Compare, and change nothing',
      'reconcile --table orders --repair': 'Load what differs, as changes like any other',
    },
    options: {
      table: TABLE_OPTION,
      repair: flag('Write the differences to the change log and load them: repairs are history too'),
      'include-retracted': flag('Repair also what differs because a batch was retracted: left alone otherwise'),
      'allow-deletes': flag('Let the repair close more versions than MAX_DELETE_PERCENT and MAX_DELETE_ROWS'),
      watch: flag(
        'Go on until interrupted, every RECONCILE_INTERVAL_SECONDS: repairs the tables whose deletes are to be found, and compares those whose capture is both, each PROOF_INTERVAL_SECONDS, and others that --table names',
      ),
      service: serviceOption('reconciler'),
    },
  },
  async ({ table: tables = [], repair = false, watch = false, service = false, ...given }, { settings, print }) => {
    const { allowDeletes = false, includeRetracted = false } = given;
    const alone = allowDeletes ? 'allow-deletes' : 'include-retracted';
    if ((allowDeletes || includeRetracted) && !repair)
      throw new UsageError(`--${alone} is for a repair`, { hint: 'add --repair' });
    if (repair && watch)
      throw new UsageError('--watch repairs by itself the tables whose deletes are to be found', {
        hint: 'leave out --repair or --watch',
      });
    const [repairs, onlyDeclared] = watch ? (['declared', tables.length === 0] as const) : [repair, false];
    await runPart(
      settings,
      {
        name: 'reconcile',
        service: service ? 'reconciler' : undefined,
        greeting: 'Starting reconciler',
        interval: watch ? settings.reconcile_interval_seconds : undefined,
      },
      (signal) =>
        reconcileTables({
          ...{ settings, tables, signal, repair: repairs, allowDeletes, includeRetracted, onlyDeclared },
          // The next round may be an hour away.
          lockPatience: watch ? 60 : undefined,
        }),
      service
        ? sayToLog
        : (results, error) => {
            print(results, results.map(watch ? summary : report).join('\n'), error);
            const isLeft = results.some((one) => one.missing + one.extra + one.different > one.repaired);
            if (!watch && isLeft) process.exitCode = EXIT.violations;
          },
    );
  },
);
