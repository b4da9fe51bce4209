import { formatServices } from '../operate/status.js';
import { serviceStatuses, startPipeline } from '../services/background.js';
import type { BaseService } from '../services/record.js';
import { defineAnswer, flag } from './command.js';

export const command = defineAnswer(
  {
    options: {
      console: flag('Also serve the console, to a browser on this machine'),
      simulate: flag('Also run the simulator, which writes demo traffic to the demo source'),
    },
    epilogue:
      'The streamer runs where a table is captured from the log, and the extractor where one is not; the reconciler where a table is registered with deletes => \'reconcile\' or \'soft\', or with capture => \'both\'; the relay where somebody is told of events ("tidemark events").\nThe services outlive this command and log to LOG_DIR. See them with "tidemark status" and "tidemark logs", end them with "tidemark stop".',
  },
  async ({ simulate, console }, settings) => {
    const asked: BaseService[] = ['extractor', 'loader'];
    if (simulate === true) asked.push('simulator');
    if (console === true) asked.push('console');
    await startPipeline(settings, asked);
    const statuses = await serviceStatuses(settings);
    const { console_host: host, console_port: port } = settings;
    const address = console === true ? `\nthe console is at http://${host}:${port}` : '';
    return [statuses, `${formatServices(statuses)}${address}`];
  },
);
