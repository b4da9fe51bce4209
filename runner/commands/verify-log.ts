import type { CommandModule } from 'yargs';
import { loadSettings } from '../base/settings.js';
import { EXIT } from '../base/errors.js';
import { type VerifyResult, verifyTables } from '../load/replay.js';
import { counted, formatRows } from '../base/text-table.js';

interface VerifyArguments {
  readonly table?: readonly string[] | undefined;
  readonly json?: boolean | undefined;
}

const prunedWords = (pruned: number): string =>
  pruned === 0 ? '' : `, ${counted(pruned, 'batch')} before them pruned by retention`;

function report({ table, batches, pruned, missing, differences, rows }: VerifyResult): string {
  if (missing.length > 0)
    return `FAIL  ${table}: the change log lacks ${counted(missing.length, 'batch')} of the ledger, first ${missing.slice(0, 3).join(', ')}: nothing can be verified without what no CDC_LOG_RETENTION_DAYS accounts for`;
  if (differences === 0)
    return `ok    ${table}: ${counted(batches, 'batch')} replayed${prunedWords(pruned)}, history ${pruned === 0 ? '' : 'of the keys that began since '}is what they make`;
  const shown = formatRows(
    rows.map(({ found_in, business_key, valid_from, version }) => ({ found_in, business_key, valid_from, version })),
  );
  return `FAIL  ${table}: ${counted(batches, 'batch')} replayed${prunedWords(pruned)}, ${counted(differences, 'row')} ${differences === 1 ? 'differs' : 'differ'}${differences > rows.length ? `, the first ${String(rows.length)} are shown` : ''}\n${shown.replace(/^/gm, '        ')}`;
}

export const verifyLogCommand: CommandModule<object, VerifyArguments> = {
  command: 'verify-log',
  describe: 'Make history once more from the change log and compare it with the one there is; exits 3 if they differ',
  builder: {
    table: { type: 'string', array: true, requiresArg: true, describe: 'Only these tables; all by default' },
    json: { type: 'boolean', describe: 'Print the result as JSON' },
  },
  handler: async ({ table = [], json }) => {
    const results = await verifyTables(loadSettings(), table);
    process.stdout.write(`${json === true ? JSON.stringify(results) : results.map(report).join('\n')}\n`);
    if (results.some(({ missing, differences }) => missing.length > 0 || differences > 0))
      process.exitCode = EXIT.violations;
  },
};
