import { loadSettings } from '../base/settings.js';
import { counted } from '../base/text-table.js';
import { rebuildTables, type RebuildResult } from '../load/replay.js';
import { sayAll } from '../run/each-table.js';
import { TABLE_OPTION, defineCommand } from './command.js';

const report = (result: RebuildResult) =>
  `${result.table}: ${counted(result.batches, 'batch')} replayed; ${counted(result.right_versions, 'version')} right, ` +
  `${String(result.corrected_versions)} corrected, ${String(result.added_versions)} added, ${String(result.removed_versions)} removed`;

export const command = defineCommand(
  {
    options: { table: { ...TABLE_OPTION, demandOption: true, describe: 'The tables to rebuild' } },
    epilogue: 'Versions that are right stay as they are, and keep their surrogate key.',
  },
  async ({ table }, print) => {
    await sayAll(rebuildTables(loadSettings(), table), (results, error) => {
      print(results, results.map(report).join('\n'), error);
    });
  },
);
