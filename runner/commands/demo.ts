import { EXIT } from '../base/errors.js';
import { loadSettings } from '../base/settings.js';
import { runLogDemo } from '../demo/log.js';
import { runDemo } from '../demo/morning.js';
import { onInterrupt } from '../run/rounds.js';
import { defineCommand, flag, type Print } from './command.js';

/** Interrupted, it still drops the slot. */
async function demoOfLog(print: Print): Promise<boolean> {
  const settings = loadSettings();
  const { signal, release } = onInterrupt(settings.shutdown_timeout_seconds);
  return runLogDemo(settings, signal, (line) => print(undefined, line)).finally(release);
}

export const command = defineCommand(
  {
    hasResult: false,
    options: {
      log: flag(
        'Show what the write-ahead log has and polling has not: an order that changes three times between two looks, and one that is deleted',
      ),
    },
  },
  async ({ log = false }, print) => {
    const passed = log ? await demoOfLog(print) : await runDemo(loadSettings(), (line) => print(undefined, line));
    if (!passed) process.exitCode = EXIT.violations;
  },
);
