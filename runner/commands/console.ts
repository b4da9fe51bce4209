import { spawn } from 'node:child_process';
import { randomBytes, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { logger } from '../base/logger.js';
import { serveConsole } from '../console/server.js';
import { interruptible } from '../run/rounds.js';
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
      'allow-actions': flag('Let who has a token retry, dismiss, retract, restore, pause'),
      service: flag(
        'Be the console that status shows and stop ends, and log to LOG_DIR, as "tidemark start --console" does',
      ),
    },
    epilogue:
      'It listens on CONSOLE_HOST (127.0.0.1), and cannot write: it reads as CONSOLE_DB_USER, else as the analyst of "tidemark grants".\n' +
      'With --allow-actions it wants a token of CONSOLE_TOKEN_FILE, else one that is made up and printed once, and acts as the loader. docs/console.md shows it.',
  },
  async ({ port, open = false, allowActions = false, service: isService = false }, { settings: given, print }) => {
    const settings = allowActions ? { ...given, console_allow_actions: 'yes' as const } : given;
    const console_port = numberOf('console', 'port', port, { least: 0, most: 65_535 }) ?? settings.console_port;
    const serve = async (signal: AbortSignal) => {
      // It would stay in the log of a service, or wherever else the output goes.
      const isSeen = !isService && process.stdout.isTTY;
      const isWanted = settings.console_allow_actions === 'yes' && settings.console_token_file === undefined;
      const token = isWanted && isSeen ? randomBytes(16).toString('base64url') : undefined;
      const server = await serveConsole({ ...settings, console_port }, token);
      logger.info(`the console is at ${server.url}`);
      if (token !== undefined) print(undefined, `its token, until it ends: ${token}`);
      if (open)
        spawn(OPENERS[process.platform] ?? 'xdg-open', [server.url], { stdio: 'ignore', detached: true })
          .on('error', () => logger.warn(`nothing here opens a browser: go to ${server.url}`))
          .unref();
      if (!signal.aborted) await once(signal, 'abort');
      await server.close();
      logger.info('stopped');
    };
    await interruptible(settings, async (signal) => {
      const service = isService ? await becomeService(settings, 'console', 'serving', randomUUID()) : undefined;
      await serve(signal).finally(() => service?.end());
    });
  },
);
