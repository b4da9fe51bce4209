import type { CommandModule } from 'yargs';
import { loadSettings } from '../base/settings.js';
import { type RebuildResult, rebuildTables } from '../load/replay.js';
import { counted } from '../base/text-table.js';

interface RebuildArguments {
  readonly table: readonly string[];
  readonly json?: boolean | undefined;
}

const report = ({
  table,
  batches,
  right_versions,
  corrected_versions,
  added_versions,
  removed_versions,
}: RebuildResult) =>
  `${table}: ${counted(batches, 'batch')} replayed; ${counted(right_versions, 'version')} right, ${String(corrected_versions)} corrected, ` +
  `${String(added_versions)} added, ${String(removed_versions)} removed`;

export const rebuildCommand: CommandModule<object, RebuildArguments> = {
  command: 'rebuild',
  describe:
    'Make a history from its change log again, and write what differs; versions that stay keep their surrogate key',
  builder: {
    table: { type: 'string', array: true, requiresArg: true, demandOption: true, describe: 'The tables to rebuild' },
    json: { type: 'boolean', describe: 'Print the result as JSON' },
  },
  handler: async ({ table, json }) => {
    const results = await rebuildTables(loadSettings(), table);
    process.stdout.write(`${json === true ? JSON.stringify(results) : results.map(report).join('\n')}\n`);
  },
};
