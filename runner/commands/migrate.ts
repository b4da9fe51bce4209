import { formatRows } from '../base/text-table.js';
import { migrateWarehouse, migrationStatus } from '../warehouse/migrate.js';
import { defineAnswer, flag } from './command.js';

export const command = defineAnswer(
  {
    examples: { migrate: 'Run what is pending', 'migrate status': 'Say what has run' },
    positionals: {
      action: { type: 'string', choices: ['status'], describe: 'status: list every migration and where it stands' },
    },
    options: { 'dry-run': flag('Only list what would run') },
  },
  async ({ action, dryRun = false }, { warehouse, dimensions_dir: folder }) => {
    if (action === 'status' || dryRun) {
      const all = await migrationStatus(warehouse, folder);
      const shown = dryRun ? all.filter(({ state }) => state === 'pending') : all;
      return [shown, shown.length === 0 ? 'nothing is pending' : formatRows(shown)];
    }
    const report = await migrateWarehouse(warehouse, folder);
    const { applied, functions } = report;
    const summary = `the warehouse is up to date: ${applied.length} migrations applied, ${functions} functions in place`;
    return [report, [...applied.map(({ set, migration }) => `applied ${set}/${migration}`), summary].join('\n')];
  },
);
