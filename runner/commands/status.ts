import { setTimeout as sleep } from 'node:timers/promises';
import type { Settings } from '../base/settings.js';
import { formatRows } from '../base/text-table.js';
import { serverStatuses } from '../embedded/servers.js';
import { formatStatus, pipelineStatus } from '../operate/status.js';
import { interruptible } from '../run/rounds.js';
import { defineCommand, flag } from './command.js';

const REFRESH_MS = 2000;
const SERVER_COLUMNS = ['database', 'port', 'state', 'pid', 'version', 'since'] as const;

export const command = defineCommand(
  {
    options: { watch: flag('Refresh every two seconds until interrupted') },
    epilogue:
      'state: running, stopped, or died (it was not stopped, and its process is gone: "tidemark start" starts it again).\nlag_seconds: since the source was last read to its end; of a table that is captured from the log, since the last commit that was read. Times are UTC.',
  },
  async ({ watch, json }, { settings, print }) => {
    if (watch !== true) return print(...(await look(settings)));
    const inPlace = process.stdout.isTTY && json !== true ? (await import('log-update')).default : undefined;
    await interruptible(settings, async (signal) => {
      while (!signal.aborted) {
        const [status, words] = await look(settings);
        if (inPlace === undefined) print(status, words);
        else inPlace(`${words}\n\n${new Date().toISOString().slice(0, 19).replace('T', ' ')} UTC, Ctrl-C ends this`);
        await sleep(REFRESH_MS, undefined, { signal }).catch(() => undefined);
      }
    });
    inPlace?.done();
  },
);

async function look(settings: Settings): Promise<[status: object, words: string]> {
  const [status, servers] = await Promise.all([pipelineStatus(settings), serverStatuses(settings)]);
  const embedded = servers.filter(({ state }) => state !== 'missing' && state !== 'external');
  const words = formatStatus(status, embedded.length === 0 ? '' : formatRows(embedded, SERVER_COLUMNS));
  return [{ ...status, servers }, words];
}
