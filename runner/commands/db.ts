import type { Settings } from '../base/settings.js';
import { formatRows } from '../base/text-table.js';
import { serverStatuses, startServers, stopServers, type ServerStatus } from '../embedded/servers.js';
import { defineAnswer, defineGroup, type Command } from './command.js';

const COLUMNS = ['role', 'database', 'port', 'state', 'pid', 'version', 'since', 'data_folder'];

const subcommand = (work: (settings: Settings) => Promise<ServerStatus[]>, epilogue: string): Command =>
  defineAnswer({ epilogue }, async (_, settings) => {
    const statuses = await work(settings);
    return [statuses, formatRows(statuses, COLUMNS)];
  });

export const command = defineGroup({
  start: [
    'start the two embedded PostgreSQL servers and make their databases',
    subcommand(
      startServers,
      'operational_db listens on DB_PORT (5434), warehouse_db on WAREHOUSE_DB_PORT (5433), on this machine only. They go on running after this\n' +
        'command, and keep their data in TIDEMARK_DATA_DIR. An end whose host is not this machine is a server of your own and left alone.',
    ),
  ],
  stop: [
    'stop the embedded servers; the data stays',
    subcommand(stopServers, 'Open connections are ended. Nothing to stop is no error.'),
  ],
  status: [
    'show what runs, on which port, since when, and where the data is',
    subcommand(
      serverStatuses,
      'state: running, starting, stopping, stopped, missing (no data yet), or external (a server of your own).',
    ),
  ],
});
