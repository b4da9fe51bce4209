import { once } from 'node:events';
import type { CommandModule } from 'yargs';
import { loadSettings } from '../base/settings.js';
import { UsageError } from '../base/errors.js';
import { onInterrupt } from '../run/rounds.js';
import { isService, knownServices } from '../services/record.js';
import { tailLogs } from '../services/logs.js';

interface LogsArguments {
  readonly service?: readonly string[] | undefined;
  readonly follow?: boolean | undefined;
  readonly lines?: number | undefined;
  readonly json?: boolean | undefined;
}

export const logsCommand: CommandModule<object, LogsArguments> = {
  command: 'logs [service...]',
  describe: "Show the last lines of the services' logs, for people to read",
  builder: (yargs) =>
    yargs
      .positional('service', {
        type: 'string',
        array: true,
        describe:
          'Only these services (simulator, extractor, loader, reconciler, or extractor-<shard>); all by default',
      })
      .option('follow', { alias: 'f', type: 'boolean', describe: 'Go on with what comes, until interrupted' })
      .option('lines', {
        alias: 'n',
        type: 'number',
        requiresArg: true,
        default: 20,
        describe: 'How many lines of each log',
      })
      .option('json', { type: 'boolean', describe: 'Print the lines as they are, JSON' }),
  handler: async ({ service = [], follow, lines = 20, json }) => {
    if (!Number.isInteger(lines) || lines < 0)
      throw new UsageError(`--lines is ${String(lines)}, accepted is a whole number from 0`, {
        hint: 'see "tidemark logs --help"',
      });
    const settings = loadSettings();
    const unknown = service.filter((each) => !isService(each));
    if (unknown.length > 0)
      throw new UsageError(`there is no service called ${unknown.join(', ')}`, {
        hint: 'there are simulator, extractor, loader, reconciler, and extractor-<shard>, as extractor-2-of-4',
      });
    const chosen = service.length === 0 ? await knownServices(settings.run_dir) : service;
    const { signal, release } = onInterrupt(settings.shutdown_timeout_seconds);
    try {
      const shown = await tailLogs(
        settings,
        chosen,
        { lines, follow: follow === true, json: json === true, signal },
        process.stdout,
      );
      if (!shown)
        process.stderr.write(`there are no logs in ${settings.log_dir} yet: "npx tidemark start" makes them\n`);
      if (process.stdout.writableNeedDrain) await once(process.stdout, 'drain');
    } finally {
      release();
    }
  },
};
