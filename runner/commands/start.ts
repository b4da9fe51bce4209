import type { CommandModule } from 'yargs';
import { loadSettings } from '../base/settings.js';
import { serviceStatuses } from '../services/background.js';
import { startPipeline } from '../services/pipeline.js';
import { formatServices } from '../operate/status.js';

interface StartArguments {
  readonly simulate?: boolean | undefined;
  readonly json?: boolean | undefined;
}

export const startCommand: CommandModule<object, StartArguments> = {
  command: 'start',
  describe:
    'Run extractor, loader and, where a table needs it, the reconciler in the background; start again what has died',
  builder: (yargs) =>
    yargs
      .option('simulate', {
        type: 'boolean',
        describe: 'Also run the simulator, which writes demo traffic to the demo source',
      })
      .option('json', { type: 'boolean', describe: 'Print the state of the services as JSON' })
      .epilogue(
        'The reconciler runs where a table is registered with deletes => \'reconcile\'.\nThe services outlive this command and log to LOG_DIR. See them with "tidemark status" and "tidemark logs", end them with "tidemark stop".',
      ),
  handler: async ({ simulate, json }) => {
    const settings = loadSettings();
    await startPipeline(settings, simulate === true ? ['simulator', 'extractor', 'loader'] : ['extractor', 'loader']);
    const statuses = await serviceStatuses(settings);
    process.stdout.write(`${json === true ? JSON.stringify(statuses) : formatServices(statuses)}\n`);
  },
};
