import { loadSettings } from '../base/settings.js';
import { formatRows } from '../base/text-table.js';
import { migrateWarehouse, migrationStatus } from '../warehouse/migrate.js';
import { defineCommand, flag } from './command.js';

export const command = defineCommand(
  {
    examples: { migrate: 'Run what is pending', 'migrate status': 'Say what has run' },
    positionals: {
      action: { type: 'string', choices: ['status'], describe: 'status: list every migration and where it stands' },
    },
    options: { 'dry-run': flag('Only list what would run') },
  },
  async ({ action, dryRun = false }, print) => {
    const { warehouse, dimensions_dir: folder } = loadSettings();
    if (action === 'status' || dryRun) {
      const all = await migrationStatus(warehouse, folder);
      const shown = dryRun ? all.filter(({ state }) => state === 'pending') : all;
      print(shown, shown.length === 0 ? 'nothing is pending' : formatRows(shown));
      return;
    }
    const report = await migrateWarehouse(warehouse, folder);
    const { applied, functions } = report;
    const summary = `the warehouse is up to date: ${String(applied.length)} migrations applied, ${String(functions)} functions in place`;
    print(report, [...applied.map(({ set, migration }) => `applied ${set}/${migration}`), summary].join('\n'));
  },
);
