import { answer } from '../operate/time-travel.js';
import { KEY_OPTION, LAYOUTS, MOMENTS, defineCommand, layoutOf, tableOption } from './command.js';

export const command = defineCommand(
  {
    epilogue: MOMENTS,
    examples: {
      'diff orders yesterday today': 'What changed yesterday, net',
      'diff orders 2026-02-01 now --key 17': 'What is different of one order',
    },
    positionals: {
      table: tableOption,
      from: { type: 'string', demandOption: true, describe: 'The first moment' },
      to: { type: 'string', demandOption: true, describe: 'The second moment' },
    },
    options: { key: KEY_OPTION, ...LAYOUTS },
    hasResult: false,
  },
  async (given, { settings }) => {
    const { table, from, to, key } = given;
    await answer(settings, { asked: 'diff', table, moments: [from, to], key, layout: layoutOf(given) });
  },
);
