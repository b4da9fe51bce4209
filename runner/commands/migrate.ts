import type { CommandModule } from 'yargs';
import { loadSettings } from '../base/settings.js';
import { migrateWarehouse, migrationStatus } from '../warehouse/migrate.js';
import { formatRows } from '../base/text-table.js';

interface MigrateArguments {
  readonly 'dry-run'?: boolean | undefined;
  readonly json?: boolean | undefined;
  readonly action?: string | undefined;
}

export const migrateCommand: CommandModule<object, MigrateArguments> = {
  command: 'migrate [action]',
  describe: 'Bring the warehouse to the present: migrations, functions, registered dimensions',
  builder: (yargs) =>
    yargs
      .positional('action', {
        type: 'string',
        choices: ['status'],
        describe: 'status: list every migration and where it stands',
      })
      .option('dry-run', { type: 'boolean', describe: 'Only list what would run' })
      .option('json', { type: 'boolean', describe: 'Print the result as JSON' }),
  handler: async (given) => {
    const { warehouse, dimensions_dir: folder } = loadSettings();
    const lists = given.action === 'status' || given['dry-run'] === true;
    const print = (result: unknown, text: string) => {
      process.stdout.write(`${given.json === true ? JSON.stringify(result) : text}\n`);
    };
    if (!lists) {
      const report = await migrateWarehouse(warehouse, folder);
      const lines = report.applied.map(({ set, migration }) => `applied ${set}/${migration}`);
      print(
        report,
        [
          ...lines,
          `the warehouse is up to date: ${String(report.applied.length)} migrations applied, ${String(report.functions)} functions in place`,
        ].join('\n'),
      );
      return;
    }
    const all = await migrationStatus(warehouse, folder);
    const shown = given['dry-run'] === true ? all.filter(({ state }) => state === 'pending') : all;
    print(shown, shown.length === 0 ? 'nothing is pending' : formatRows(shown.map((row) => ({ ...row }))));
  },
};
