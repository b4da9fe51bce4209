import { once } from 'node:events';
import { logger } from '../base/logger.js';
import { serveMetrics } from '../operate/serve.js';
import { interruptible } from '../run/rounds.js';
import { defineCommand } from './command.js';

export const command = defineCommand(
  {
    hasResult: false,
    epilogue:
      'It listens on METRICS_HOST (127.0.0.1) and METRICS_PORT (9464). Whoever can reach it may read it: names of tables and alerts, never a row.',
  },
  async (_, { settings }) => {
    await interruptible(settings, async (signal) => {
      const server = await serveMetrics(settings);
      logger.info(`serving ${server.url}/metrics, /healthz and /readyz`);
      if (!signal.aborted) await once(signal, 'abort');
      await server.close();
    });
    logger.info('stopped');
  },
);
