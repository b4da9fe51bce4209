import { setTimeout as sleep } from 'node:timers/promises';
import logUpdate from 'log-update';
import type { CommandModule } from 'yargs';
import { loadSettings, type Settings } from '../base/settings.js';
import { serverStatuses } from '../embedded/servers.js';
import { onInterrupt } from '../run/rounds.js';
import { formatStatus, pipelineStatus } from '../operate/status.js';
import { formatTable } from '../base/text-table.js';

interface StatusArguments {
  readonly watch?: boolean | undefined;
  readonly json?: boolean | undefined;
}

const REFRESH_MS = 2000;
const SERVER_COLUMNS = ['database', 'port', 'state', 'pid', 'version', 'since'] as const;

export const statusCommand: CommandModule<object, StatusArguments> = {
  command: 'status',
  describe: 'Show what runs, and for each table how far it is and what went wrong; changes nothing',
  builder: (yargs) =>
    yargs
      .option('watch', { type: 'boolean', describe: 'Refresh every two seconds until interrupted' })
      .option('json', { type: 'boolean', describe: 'Print everything as JSON' })
      .epilogue(
        'state: running, stopped, or died (it was not stopped, and its process is gone: "tidemark start" starts it again).\nlag_seconds: since the source was last read to its end. Times are UTC.',
      ),
  handler: async ({ watch, json }) => {
    const settings = loadSettings();
    if (watch !== true) {
      process.stdout.write(`${await look(settings, json === true)}\n`);
      return;
    }
    const { signal, release } = onInterrupt(settings.shutdown_timeout_seconds);
    const inPlace = process.stdout.isTTY && json !== true;
    while (!signal.aborted) {
      const text = await look(settings, json === true);
      if (inPlace)
        logUpdate(`${text}\n\n${new Date().toISOString().slice(0, 19).replace('T', ' ')} UTC, Ctrl-C ends this`);
      else process.stdout.write(`${text}\n`);
      await sleep(REFRESH_MS, undefined, { signal }).catch(() => undefined);
    }
    release();
    if (inPlace) logUpdate.done();
  },
};

async function look(settings: Settings, json: boolean): Promise<string> {
  const [status, servers] = await Promise.all([pipelineStatus(settings), serverStatuses(settings)]);
  if (json) return JSON.stringify({ ...status, servers });
  const embedded = servers.filter(({ state }) => state !== 'missing' && state !== 'external');
  return formatStatus(
    status,
    embedded.length === 0
      ? ''
      : formatTable(
          SERVER_COLUMNS,
          embedded.map((server) => SERVER_COLUMNS.map((column) => server[column])),
        ),
  );
}
