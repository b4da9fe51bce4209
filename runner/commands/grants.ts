import { formatGrants, grantRoles } from '../operate/grants.js';
import { defineAnswer, flag, text } from './command.js';

export const command = defineAnswer(
  {
    examples: {
      grants: 'Read them first',
      'grants --apply --prefix shop': 'Make shop_reader, shop_owner, shop_loader and shop_analyst',
    },
    options: {
      apply: flag(
        'Run them, in one transaction each end; as a superuser, or a role that may create roles and give what they own',
      ),
      prefix: text('What the names of the roles begin with; tidemark by default'),
    },
    epilogue:
      'tidemark_reader reads the registered tables of the source; in the warehouse tidemark_owner migrates, tidemark_loader runs the pipeline and cannot\n' +
      'write history but through tidemark.apply_batch, tidemark_analyst reads. Where a table is captured from the\n' +
      'log, tidemark_reader has REPLICATION, and the publication is made, which takes a superuser or the owner of the tables. They are made without passwords: give them some (\\password in psql). Repeat it after "migrate".',
  },
  async ({ apply = false, prefix = 'tidemark' }, settings) => {
    const grants = await grantRoles(settings, prefix, apply);
    return [grants, formatGrants(grants)];
  },
);
