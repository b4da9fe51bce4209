import { once } from 'node:events';
import type { CommandModule } from 'yargs';
import { loadSettings } from '../base/settings.js';
import { onInterrupt } from '../run/rounds.js';
import { logger } from '../base/logger.js';
import { serveMetrics } from '../operate/serve.js';

export const serveCommand: CommandModule = {
  command: 'serve',
  describe: 'Serve /metrics for Prometheus, /healthz and /readyz until interrupted',
  builder: (yargs) =>
    yargs.epilogue(
      'It listens on METRICS_HOST (127.0.0.1) and METRICS_PORT (9464). Whoever can reach it may read it: names of tables and alerts, never a row.',
    ),
  handler: async () => {
    const settings = loadSettings();
    const { signal, release } = onInterrupt(settings.shutdown_timeout_seconds);
    const server = await serveMetrics(settings);
    logger.info(`serving ${server.url}/metrics, /healthz and /readyz`);
    if (!signal.aborted) await once(signal, 'abort');
    await server.close();
    release();
    logger.info('stopped');
  },
};
