import { counted } from '../base/text-table.js';
import { rebuildTables, type RebuildResult } from '../load/replay.js';
import { TABLE_OPTION, defineCommand, printAll } from './command.js';

const report = (result: RebuildResult) =>
  `${result.table}: ${counted(result.batches, 'batch')} replayed; ${counted(result.right_versions, 'version')} right, ` +
  `${result.corrected_versions} corrected, ${result.added_versions} added, ${result.removed_versions} removed`;

export const command = defineCommand(
  {
    options: { table: { ...TABLE_OPTION, demandOption: true, describe: 'The tables to rebuild' } },
    epilogue:
      'Versions that are right stay as they are, and keep their surrogate key. When things became known stays as it was; what the warehouse did ' +
      'not know, all of it where it was lost, is known since the rebuild.',
  },
  async ({ table }, { settings, print }) => {
    await printAll(rebuildTables(settings, table), print, (results) => results.map(report).join('\n'));
  },
);
