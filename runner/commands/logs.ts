import { once } from 'node:events';
import { UsageError } from '../base/errors.js';
import { interruptible } from '../run/rounds.js';
import { tailLogs } from '../services/logs.js';
import { isService, knownServices } from '../services/record.js';
import { defineCommand, flag, number, numberOf } from './command.js';

export const command = defineCommand(
  {
    examples: { 'logs -f': 'All of them, as they grow', 'logs loader -n 100': 'The last hundred lines of one' },
    positionals: {
      service: {
        type: 'string',
        array: true,
        describe:
          'Only these services (simulator, extractor, streamer, loader, reconciler, relay, console, or extractor-<shard>); all by default',
      },
    },
    options: {
      follow: { alias: 'f', type: 'boolean', describe: 'Go on with what comes, until interrupted' },
      lines: { ...number('How many lines of each log'), alias: 'n', default: 20 },
      json: flag('Print the lines as they are, JSON'),
    },
  },
  async ({ service = [], follow = false, json = false, ...given }, { settings }) => {
    const lines = numberOf('logs', 'lines', given.lines, { least: 0 });
    const unknown = service.filter((each) => !isService(each));
    if (unknown.length > 0)
      throw new UsageError(`there is no service called ${unknown.join(', ')}`, {
        hint: 'there are simulator, extractor, streamer, loader, reconciler, relay, console, and extractor-<shard>, as extractor-2-of-4',
      });
    const chosen = service.length === 0 ? await knownServices(settings.run_dir) : service;
    await interruptible(settings, async (signal) => {
      const shown = await tailLogs(settings, chosen, { lines, follow, json, signal }, process.stdout);
      if (!shown)
        process.stderr.write(`there are no logs in ${settings.log_dir} yet: "npx tidemark start" makes them\n`);
      if (process.stdout.writableNeedDrain) await once(process.stdout, 'drain');
    });
  },
);
