import path from 'node:path';
import type { CommandModule } from 'yargs';
import { loadSettings } from '../base/settings.js';
import { withDatabase } from '../base/database.js';
import { UsageError } from '../base/errors.js';
import { writeReport } from '../operate/report.js';

interface ReportArguments {
  readonly table?: readonly string[] | undefined;
  readonly key?: readonly string[] | undefined;
  readonly output?: string | undefined;
  readonly json?: boolean | undefined;
}

export const reportCommand: CommandModule<object, ReportArguments> = {
  command: 'report',
  describe:
    "Write scd2_lineage_report_<time>.md: how much history, what changes most, and where a key's versions came from",
  builder: (yargs) =>
    yargs
      .option('table', {
        type: 'string',
        array: true,
        requiresArg: true,
        describe: 'Only these tables; all by default',
      })
      .option('key', {
        type: 'string',
        array: true,
        requiresArg: true,
        describe:
          'Business key of one row: its versions, with batch, file and line of each (several values for a key of several columns)',
      })
      .option('output', { type: 'string', requiresArg: true, default: '.', describe: 'Folder to write the report to' })
      .option('json', { type: 'boolean', describe: 'Print the path of the report as JSON' }),
  handler: async ({ table = [], key = [], output = '.', json }) => {
    if (typeof output !== 'string')
      throw new UsageError('--output is given twice', { hint: 'one folder takes the report' });
    const settings = loadSettings();
    const options = {
      tables: table,
      key: key.map(String),
      changeLog: settings.cdc_log_dir,
      folder: path.resolve(output),
      now: new Date(),
    };
    const file = await withDatabase(settings.warehouse, 'report', (warehouse) => writeReport(warehouse, options));
    process.stdout.write(`${json === true ? JSON.stringify({ report: file }) : file}\n`);
  },
};
