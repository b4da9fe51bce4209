#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { EXIT } from './base/errors.js';
import { keepMemorySmall } from './base/v8-memory.js';
import type { Command } from './commands/command.js';
import { callCommand } from './commands/door.js';

keepMemorySmall();

let isToldToEnd = false;

// Whoever reads the output may stop reading, as "head" does: that is no error. What goes on for ever is told to end; what ends by itself
// does what it was asked for, its run is noted, and its exit code holds. A full disk behind stderr must end nothing.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  if (!isToldToEnd && process.argv.some((each) => /^(--watch|--follow|-[a-z]*f)$/.test(each)))
    isToldToEnd = process.emit('SIGTERM') || process.exit(EXIT.done);
});
process.stderr.on('error', () => undefined);

const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
  version: string;
};
void callCommand(process.argv.slice(2), version, async (name) => {
  const found = (await import(new URL(`./commands/${name}.js`, import.meta.url).href)) as { command: Command };
  return found.command;
});
