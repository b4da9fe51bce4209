import type { Argv, CommandModule } from 'yargs';
import { loadSettings, type Settings } from '../base/settings.js';
import { serverStatuses, startServers, stopServers, type ServerStatus } from '../embedded/servers.js';
import { formatTable } from '../base/text-table.js';

const COLUMNS = [
  'role',
  'database',
  'port',
  'state',
  'pid',
  'version',
  'since',
  'data_folder',
] as const satisfies readonly (keyof ServerStatus)[];

/** What a person reads: one line a server. */
export function formatStatuses(statuses: readonly ServerStatus[]): string {
  return formatTable(
    COLUMNS.map((name) => name.replace('_', ' ')),
    statuses.map((status) => COLUMNS.map((name) => status[name])),
  );
}

const subcommand = (
  name: string,
  describe: string,
  epilogue: string,
  work: (settings: Settings) => Promise<ServerStatus[]>,
): CommandModule<object, { json: boolean }> => ({
  command: name,
  describe,
  builder: (yargs: Argv) =>
    yargs
      .option('json', { type: 'boolean', default: false, describe: 'print the state of both servers as JSON' })
      .epilogue(epilogue),
  handler: async ({ json }) => {
    const statuses = await work(loadSettings());
    process.stdout.write(`${json ? JSON.stringify(statuses, null, 2) : formatStatuses(statuses)}\n`);
  },
});

const start = subcommand(
  'start',
  'start the two embedded PostgreSQL servers and make their databases',
  'operational_db listens on DB_PORT (5434), warehouse_db on WAREHOUSE_DB_PORT (5433), on this machine only. They go on running after this\n' +
    'command, and keep their data in TIDEMARK_DATA_DIR. An end whose host is not this machine is a server of your own and left alone.',
  startServers,
);

const stop = subcommand(
  'stop',
  'stop the embedded servers; the data stays',
  'Open connections are ended. Nothing to stop is no error.',
  stopServers,
);

const status = subcommand(
  'status',
  'show what runs, on which port, since when, and where the data is',
  'state: running, starting, stopping, stopped, missing (no data yet), or external (a server of your own).',
  serverStatuses,
);

/** tidemark db start|stop|status */
export const dbCommand: CommandModule = {
  command: 'db',
  describe: 'start, stop and look at the embedded PostgreSQL servers',
  builder: (yargs) =>
    yargs
      .command(start)
      .command(stop)
      .command(status)
      .demandCommand(1, 1, 'give one of start, stop, status', 'give one of start, stop, status'),
  handler: () => undefined,
};
