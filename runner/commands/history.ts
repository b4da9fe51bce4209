import { TidemarkError } from '../base/errors.js';
import { answer, timeline } from '../operate/time-travel.js';
import { LAYOUTS, defineCommand, layoutOf, tableOption } from './command.js';

export const command = defineCommand(
  {
    examples: {
      'history orders 17': 'Every change of one order, and where it came from',
      'history seats A 7 --json': 'Of a key of two columns, whole versions',
    },
    positionals: {
      table: tableOption,
      key: { type: 'string', array: true, demandOption: true, describe: 'The key, a value for each of its columns' },
    },
    options: LAYOUTS,
    hasResult: false,
  },
  async (given, { settings }) => {
    const { table, key } = given;
    const layout = layoutOf(given);
    const asked = { asked: 'changes', table, moments: ['-infinity', 'infinity'], key, layout } as const;
    const rows = await answer(settings, asked, process.stdout.isTTY ? timeline : undefined);
    if (rows === 0 && layout === 'table')
      throw new TidemarkError('the key has no history', {
        detail: `table=${table} key=${key.join(', ')}`,
        hint: `tidemark as-of ${table} now shows the keys in force`,
      });
  },
);
