import { counted, formatRows } from '../base/text-table.js';
import { verifyTables, type VerifyResult } from '../load/replay.js';
import { TABLE_OPTION, defineCommand, printAll } from './command.js';

function report({ table, batches, pruned, missing, differences, rows }: VerifyResult): string {
  if (missing.length > 0)
    return `FAIL  ${table}: the change log lacks ${counted(missing.length, 'batch')} of the ledger, first ${missing.slice(0, 3).join(', ')}: nothing can be verified without what no CDC_LOG_RETENTION_DAYS accounts for`;
  const replayed = `${table}: ${counted(batches, 'batch')} replayed${pruned === 0 ? '' : `, ${counted(pruned, 'batch')} before them pruned by retention`}`;
  if (differences === 0)
    return `ok    ${replayed}, history ${pruned === 0 ? '' : 'of the keys that began since '}is what they make`;
  const shown = formatRows(rows, ['found_in', 'business_key', 'valid_from', 'version']);
  const first = differences > rows.length ? `, the first ${rows.length} are shown` : '';
  return `FAIL  ${replayed}, ${counted(differences, 'row')} ${differences === 1 ? 'differs' : 'differ'}${first}\n${shown.replace(/^/gm, '        ')}`;
}

const isWrong = ({ missing, differences }: VerifyResult) => missing.length > 0 || differences > 0;
const reportAll = (results: readonly VerifyResult[]) => results.map(report).join('\n');

export const command = defineCommand(
  { options: { table: TABLE_OPTION } },
  async ({ table = [] }, { settings, print }) => {
    await printAll(verifyTables(settings, table), print, reportAll, (results) => results.some(isWrong));
  },
);
