import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { logger } from '../base/logger.js';
import { loadSettings } from '../base/settings.js';
import { serveConsole } from '../console/server.js';
import { onInterrupt } from '../run/rounds.js';
import { becomeService } from '../services/run.js';
import { defineCommand, flag, number, numberOf } from './command.js';

/** What opens an address in the browser of whoever is at the machine. */
const OPENERS: Partial<Record<NodeJS.Platform, string>> = { darwin: 'open', linux: 'xdg-open' };

export const command = defineCommand(
  {
    hasResult: false,
    options: {
      port: number('Port to listen on; CONSOLE_PORT (9465) by default'),
      open: flag('Open it in the browser'),
      service: flag(
        'Be the console that status shows and stop ends, and log to LOG_DIR, as "tidemark start --console" does',
      ),
    },
    epilogue:
      'It listens on CONSOLE_HOST (127.0.0.1), and cannot write: it reads as CONSOLE_DB_USER, else as the analyst of "tidemark grants". docs/console.md shows it.',
  },
  async ({ port, open = false, service: isService = false }) => {
    const settings = loadSettings();
    const console_port = numberOf('console', 'port', port, { least: 0, most: 65_535 }) ?? settings.console_port;
    const { signal, release } = onInterrupt(settings.shutdown_timeout_seconds);
    const service = isService ? await becomeService(settings, 'console', 'serving', randomUUID()) : undefined;
    try {
      const server = await serveConsole({ ...settings, console_port });
      logger.info(`the console is at ${server.url}`);
      if (open)
        spawn(OPENERS[process.platform] ?? 'xdg-open', [server.url], { stdio: 'ignore', detached: true })
          .on('error', () => logger.warn(`nothing here opens a browser: go to ${server.url}`))
          .unref();
      if (!signal.aborted) await once(signal, 'abort');
      await server.close();
      logger.info('stopped');
    } finally {
      release();
      await service?.end();
    }
  },
);
