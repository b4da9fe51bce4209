import { EXIT } from '../base/errors.js';
import { loadSettings } from '../base/settings.js';
import { runDemo } from '../demo/morning.js';
import { defineCommand } from './command.js';

export const command = defineCommand({ hasResult: false }, async (_, print) => {
  const passed = await runDemo(loadSettings(), (line) => print(undefined, line));
  if (!passed) process.exitCode = EXIT.violations;
});
