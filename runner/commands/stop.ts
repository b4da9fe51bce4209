import { loadSettings } from '../base/settings.js';
import { formatStopped, stopPipeline } from '../services/background.js';
import { defineCommand } from './command.js';

export const command = defineCommand(
  {
    epilogue:
      'A service that does not end within SHUTDOWN_TIMEOUT_SECONDS is killed, and what it had not committed is rolled back.\nThe embedded servers go on running: "tidemark db stop" ends them.',
  },
  async (_, print) => {
    const stopped = await stopPipeline(loadSettings());
    print(stopped, formatStopped(stopped));
  },
);
