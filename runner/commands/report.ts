import path from 'node:path';
import { UsageError } from '../base/errors.js';
import { loadSettings } from '../base/settings.js';
import { writeReport } from '../operate/report.js';
import { TABLE_OPTION, defineCommand, text, texts } from './command.js';

export const command = defineCommand(
  {
    epilogue: 'It is written to scd2_lineage_report_<time>.md.',
    examples: { 'report --table orders --key 17': 'With each version of one order, and where it came from' },
    options: {
      table: TABLE_OPTION,
      key: texts(
        'Business key of one row: its versions, with batch, file and line of each (several values for a key of several columns)',
      ),
      output: { ...text('Folder to write the report to'), default: '.' },
    },
  },
  async ({ table: tables = [], key = [], output }, print) => {
    if (typeof output !== 'string')
      throw new UsageError('--output is given twice', { hint: 'one folder takes the report' });
    const file = await writeReport(loadSettings(), tables, key.map(String), path.resolve(output));
    print({ report: file }, file);
  },
);
