import { answer } from '../operate/time-travel.js';
import { KEY_OPTION, LAYOUTS, MOMENTS, defineCommand, layoutOf, tableOption, text, texts } from './command.js';

export const command = defineCommand(
  {
    epilogue: MOMENTS,
    examples: {
      'as-of orders yesterday': 'Every order as it was when yesterday began',
      'as-of orders 2026-02-01T09:05 --key 17': 'One order at that time',
      'as-of orders now --where quantity=2': 'Those that match',
    },
    positionals: { table: tableOption, moment: { type: 'string', demandOption: true, describe: 'When' } },
    options: {
      known: text('As it was known at this moment'),
      key: KEY_OPTION,
      where: texts('Only rows with this value: column=value'),
      ...LAYOUTS,
    },
    hasResult: false,
  },
  async (given, { settings }) => {
    const { moment, ...asked } = given;
    await answer(settings, { ...asked, asked: 'as_of', moments: [moment], layout: layoutOf(given) });
  },
);
