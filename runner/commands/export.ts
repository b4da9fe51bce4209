import path from 'node:path';
import { loadSettings } from '../base/settings.js';
import { exportDbt } from '../operate/export.js';
import { defineCommand, text } from './command.js';

export const command = defineCommand(
  {
    examples: { 'export dbt --output ../shop_dbt': 'Into the folder of a dbt project' },
    positionals: {
      what: {
        type: 'string',
        choices: ['dbt'],
        demandOption: true,
        describe: 'For dbt: sources, and macros as of a moment',
      },
    },
    options: { output: { ...text('Folder of the project'), default: '.' } },
  },
  async ({ output }, print) => {
    const files = await exportDbt(loadSettings(), path.resolve(output));
    print({ files }, files.join('\n'));
  },
);
