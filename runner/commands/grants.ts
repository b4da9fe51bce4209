import type { CommandModule } from 'yargs';
import { loadSettings } from '../base/settings.js';
import { formatGrants, grantRoles } from '../operate/grants.js';

interface GrantsArguments {
  readonly apply?: boolean | undefined;
  readonly prefix?: string | undefined;
  readonly json?: boolean | undefined;
}

export const grantsCommand: CommandModule<object, GrantsArguments> = {
  command: 'grants',
  describe: 'Print the statements that make the least-privilege roles of source and warehouse, or run them',
  builder: (yargs) =>
    yargs
      .option('apply', {
        type: 'boolean',
        describe:
          'Run them, in one transaction each end; as a superuser, or a role that may create roles and give what they own',
      })
      .option('prefix', {
        type: 'string',
        requiresArg: true,
        describe: 'What the names of the roles begin with; tidemark by default',
      })
      .option('json', { type: 'boolean', describe: 'Print the statements as JSON' })
      .epilogue(
        'tidemark_reader reads the registered tables of the source; in the warehouse tidemark_owner migrates, tidemark_loader runs the pipeline and cannot\n' +
          'write history but through tidemark.apply_batch, tidemark_analyst reads. They are made without passwords: give them some (\\password in psql). Repeat it after "migrate".',
      ),
  handler: async ({ apply = false, prefix = 'tidemark', json }) => {
    const grants = await grantRoles(loadSettings(), prefix, apply);
    process.stdout.write(`${json === true ? JSON.stringify(grants) : formatGrants(grants)}\n`);
  },
};
