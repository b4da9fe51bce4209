import { loadSettings } from '../base/settings.js';
import { formatServices } from '../operate/status.js';
import { serviceStatuses, startPipeline } from '../services/background.js';
import { defineCommand, flag } from './command.js';

export const command = defineCommand(
  {
    options: { simulate: flag('Also run the simulator, which writes demo traffic to the demo source') },
    epilogue:
      'The streamer runs where a table is captured from the log, and the extractor where one is not; the reconciler where a table is registered with deletes => \'reconcile\' or \'soft\', or with capture => \'both\'.\nThe services outlive this command and log to LOG_DIR. See them with "tidemark status" and "tidemark logs", end them with "tidemark stop".',
  },
  async ({ simulate }, print) => {
    const settings = loadSettings();
    await startPipeline(settings, simulate === true ? ['simulator', 'extractor', 'loader'] : ['extractor', 'loader']);
    const statuses = await serviceStatuses(settings);
    print(statuses, formatServices(statuses));
  },
);
