import type { CommandModule } from 'yargs';
import { loadSettings } from '../base/settings.js';
import { formatStopped } from '../services/background.js';
import { stopPipeline } from '../services/pipeline.js';

interface StopArguments {
  readonly json?: boolean | undefined;
}

export const stopCommand: CommandModule<object, StopArguments> = {
  command: 'stop',
  describe: 'End the services that run in the background: each finishes what it has in hand',
  builder: (yargs) =>
    yargs
      .option('json', { type: 'boolean', describe: 'Print what was stopped as JSON' })
      .epilogue(
        'A service that does not end within SHUTDOWN_TIMEOUT_SECONDS is killed, and what it had not committed is rolled back.\nThe embedded servers go on running: "tidemark db stop" ends them.',
      ),
  handler: async ({ json }) => {
    const stopped = await stopPipeline(loadSettings());
    process.stdout.write(`${json === true ? JSON.stringify(stopped) : formatStopped(stopped)}\n`);
  },
};
