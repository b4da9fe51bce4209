import { EXIT } from '../base/errors.js';
import { runLogDemo } from '../demo/log.js';
import { runDemo } from '../demo/morning.js';
import { interruptible } from '../run/rounds.js';
import { defineCommand, flag } from './command.js';

export const command = defineCommand(
  {
    hasResult: false,
    options: {
      log: flag(
        'Show what the write-ahead log has and polling has not: an order that changes three times between two looks, and one that is deleted',
      ),
    },
  },
  async ({ log = false }, { settings, print }) => {
    const say = (line: string) => print(undefined, line);
    // Interrupted, that of the log still drops the slot.
    const passed = await (log
      ? interruptible(settings, (signal) => runLogDemo(settings, signal, say))
      : runDemo(settings, say));
    if (!passed) process.exitCode = EXIT.violations;
  },
);
