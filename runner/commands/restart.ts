import { formatServices } from '../operate/status.js';
import { assertReady, serviceStatuses, startPipeline, stopPipeline } from '../services/background.js';
import { SERVICES, type BaseService } from '../services/record.js';
import { defineAnswer } from './command.js';

export const command = defineAnswer(
  {
    epilogue:
      'Where nothing was running, what "tidemark start" starts is started. Which of extractor, streamer, reconciler and relay run is seen anew. Extractors of shards run on.',
  },
  async (_, settings) => {
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
    return [statuses, formatServices(statuses)];
  },
);
