import { withDatabase } from '../base/database.js';
import { EXIT } from '../base/errors.js';
import { loadSettings } from '../base/settings.js';
import { sayAll } from '../run/each-table.js';
import { formatChecks, rememberChecks, runChecks } from '../warehouse/checks.js';
import { defineCommand } from './command.js';

export const command = defineCommand(
  {
    examples: {
      check: 'Every suite',
      'check scd2': 'That of histories alone',
    },
    positionals: { suite: { type: 'string', array: true, describe: 'Only these suites; all by default' } },
  },
  async ({ suite = [] }, print) => {
    const checked = withDatabase(loadSettings().warehouse, 'check', async (database) => {
      const found = await runChecks(database, suite);
      await rememberChecks(database, found);
      return found;
    });
    await sayAll(checked, (results, error) => {
      print(results, formatChecks(results), error);
      if (results.some(({ violations }) => violations > 0)) process.exitCode = EXIT.violations;
    });
  },
);
