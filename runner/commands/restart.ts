import type { CommandModule } from 'yargs';
import { loadSettings } from '../base/settings.js';
import { SERVICES, type BaseService } from '../services/record.js';
import { serviceStatuses } from '../services/background.js';
import { assertReady, startPipeline, stopPipeline } from '../services/pipeline.js';
import { formatServices } from '../operate/status.js';

interface RestartArguments {
  readonly json?: boolean | undefined;
}

export const restartCommand: CommandModule<object, RestartArguments> = {
  command: 'restart',
  describe:
    'Stop the services and start again what was running (extractor and loader if nothing was); extractors of shards run on',
  builder: { json: { type: 'boolean', describe: 'Print the state of the services as JSON' } },
  handler: async ({ json }) => {
    const settings = loadSettings();
    const running = (await serviceStatuses(settings))
      .filter(({ state }) => state !== 'stopped')
      .map(({ service }) => service);
    // Extractors of shards are started, and started again, by whoever knows what they are told.
    const known = SERVICES.filter((service) => running.includes(service));
    const services: readonly BaseService[] = known.length > 0 ? known : ['extractor', 'loader'];
    // What cannot be started again is not stopped.
    await assertReady(settings, services);
    await stopPipeline(settings, SERVICES);
    await startPipeline(settings, services);
    const statuses = await serviceStatuses(settings);
    process.stdout.write(`${json === true ? JSON.stringify(statuses) : formatServices(statuses)}\n`);
  },
};
