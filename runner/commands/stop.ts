import { formatStopped, stopPipeline } from '../services/background.js';
import { defineAnswer } from './command.js';

export const command = defineAnswer(
  {
    epilogue:
      'A service that does not end within SHUTDOWN_TIMEOUT_SECONDS is killed, and what it had not committed is rolled back.\nThe embedded servers go on running: "tidemark db stop" ends them.',
  },
  async (_, settings) => {
    const stopped = await stopPipeline(settings);
    return [stopped, formatStopped(stopped)];
  },
);
