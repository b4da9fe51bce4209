import path from 'node:path';
import { UsageError } from '../base/errors.js';
import { htmlReport } from '../console/report.js';
import { writeReport } from '../operate/report.js';
import { TABLE_OPTION, defineAnswer, flag, text, texts } from './command.js';

export const command = defineAnswer(
  {
    epilogue: 'It is written to scd2_lineage_report_<time>.md, or .html.',
    examples: {
      'report --table orders --key 17': 'With each version of one order, and where it came from',
      'report --html --table orders --key 17': 'The same with drawings, as one file',
    },
    options: {
      table: TABLE_OPTION,
      key: texts(
        'Business key of one row: its versions, with batch, file and line of each (several values for a key of several columns)',
      ),
      html: flag('Write HTML, with the drawings of the console; masked columns stay masked'),
      output: { ...text('Folder to write the report to'), default: '.' },
    },
  },
  async ({ table: tables = [], key = [], html = false, output }, settings) => {
    if (typeof output !== 'string')
      throw new UsageError('--output is given twice', { hint: 'one folder takes the report' });
    const rendering = html ? htmlReport(settings) : undefined;
    const file = await writeReport(settings, tables, key.map(String), path.resolve(output), rendering);
    return [{ report: file }, file];
  },
);
