import type { CommandModule } from 'yargs';
import { formatChecks, rememberChecks, runChecks } from '../warehouse/checks.js';
import { loadSettings } from '../base/settings.js';
import { withDatabase } from '../base/database.js';
import { EXIT } from '../base/errors.js';

interface CheckArguments {
  readonly suite?: readonly string[] | undefined;
  readonly json?: boolean | undefined;
}

export const checkCommand: CommandModule<object, CheckArguments> = {
  command: 'check [suite...]',
  describe: 'Prove history and ledger by the assertions in sql/checks; exits 3 if one fails',
  builder: (yargs) =>
    yargs
      .positional('suite', { type: 'string', array: true, describe: 'Only these suites; all by default' })
      .option('json', { type: 'boolean', describe: 'Print the result as JSON' }),
  handler: async ({ suite = [], json }) => {
    const { warehouse } = loadSettings();
    const results = await withDatabase(warehouse, 'check', async (database) => {
      const found = await runChecks(database, suite);
      await rememberChecks(database, found);
      return found;
    });
    process.stdout.write(`${json === true ? JSON.stringify(results) : formatChecks(results)}\n`);
    if (results.some(({ violations }) => violations > 0)) process.exitCode = EXIT.violations;
  },
};
