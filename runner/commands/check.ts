import { withDatabase } from '../base/database.js';
import { formatChecks, rememberChecks, runChecks } from '../warehouse/checks.js';
import { defineCommand, printAll } from './command.js';

export const command = defineCommand(
  {
    examples: { check: 'Every suite', 'check scd2': 'That of histories alone' },
    positionals: { suite: { type: 'string', array: true, describe: 'Only these suites; all by default' } },
  },
  async ({ suite = [] }, { settings, print }) => {
    const checked = withDatabase(settings.warehouse, 'check', async (database) => {
      const found = await runChecks(database, suite);
      await rememberChecks(database, found);
      return found;
    });
    await printAll(checked, print, formatChecks, (results) => results.some(({ violations }) => violations > 0));
  },
);
