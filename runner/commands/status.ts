import { setTimeout as sleep } from 'node:timers/promises';
import { loadSettings, type Settings } from '../base/settings.js';
import { formatRows } from '../base/text-table.js';
import { serverStatuses } from '../embedded/servers.js';
import { formatStatus, pipelineStatus } from '../operate/status.js';
import { onInterrupt } from '../run/rounds.js';
import { defineCommand, flag } from './command.js';

const REFRESH_MS = 2000;
const SERVER_COLUMNS = ['database', 'port', 'state', 'pid', 'version', 'since'] as const;

export const command = defineCommand(
  {
    options: { watch: flag('Refresh every two seconds until interrupted') },
    epilogue:
      'state: running, stopped, or died (it was not stopped, and its process is gone: "tidemark start" starts it again).\nlag_seconds: since the source was last read to its end; of a table that is captured from the log, since the last commit that was read. Times are UTC.',
  },
  async ({ watch, json }, print) => {
    const settings = loadSettings();
    if (watch !== true) {
      print(...(await look(settings)));
      return;
    }
    const { signal, release } = onInterrupt(settings.shutdown_timeout_seconds);
    const inPlace = process.stdout.isTTY && json !== true ? (await import('log-update')).default : undefined;
    while (!signal.aborted) {
      const [status, words] = await look(settings);
      if (inPlace === undefined) print(status, words);
      else inPlace(`${words}\n\n${new Date().toISOString().slice(0, 19).replace('T', ' ')} UTC, Ctrl-C ends this`);
      await sleep(REFRESH_MS, undefined, { signal }).catch(() => undefined);
    }
    release();
    inPlace?.done();
  },
);

async function look(settings: Settings): Promise<[status: object, words: string]> {
  const [status, servers] = await Promise.all([pipelineStatus(settings), serverStatuses(settings)]);
  const embedded = servers.filter(({ state }) => state !== 'missing' && state !== 'external');
  const words = formatStatus(status, embedded.length === 0 ? '' : formatRows(embedded, SERVER_COLUMNS));
  return [{ ...status, servers }, words];
}
