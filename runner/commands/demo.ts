import type { CommandModule } from 'yargs';
import { loadSettings } from '../base/settings.js';
import { runDemo } from '../demo/morning.js';
import { EXIT } from '../base/errors.js';

export const demoCommand: CommandModule = {
  command: 'demo',
  describe: 'Make the demo source and replay a morning of orders, step by step, into history',
  handler: async () => {
    const passed = await runDemo(loadSettings(), (line) => {
      process.stdout.write(`${line}\n`);
    });
    if (!passed) process.exitCode = EXIT.violations;
  },
};
