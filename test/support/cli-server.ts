import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import path from 'node:path';
import type { Command } from '../../runner/commands/command.js';
import type { callCommand as CallCommand } from '../../runner/commands/door.js';

/**
 * Calls commands of an installed package in one process, one after the other: a process of its own takes longer to begin than most take.
 * Who connects sends how many arguments there are, and each, with a NUL after it. The answer is a line with the exit code and one with the
 * length of what went to stderr; then that, and what went to stdout.
 */
const [dist = ''] = process.argv.slice(2);
const [, door = ''] = /callCommand\n} from "(.*?)"/.exec(readFileSync(path.join(dist, 'cli.js'), 'utf8')) ?? [];
const { callCommand } = (await import(path.join(dist, door))) as { callCommand: typeof CallCommand };

async function call(args: readonly string[]): Promise<string> {
  const written = { stdout: '', stderr: '' };
  const streams = ['stdout', 'stderr'] as const;
  const writes = streams.map((name) => process[name].write.bind(process[name]));
  for (const name of streams)
    process[name].write = (chunk: Uint8Array | string) => {
      written[name] += typeof chunk === 'string' ? chunk : Buffer.from(chunk).toString();
      return true;
    };
  process.exitCode = undefined;
  await callCommand(args, '', async (name) => {
    const found = (await import(path.join(dist, 'commands', `${name}.js`))) as { command: Command };
    return found.command;
  });
  for (const [index, name] of streams.entries()) if (writes[index] !== undefined) process[name].write = writes[index];
  const { stdout, stderr } = written;
  return `${String(exitCodeNow())}\n${String(Buffer.byteLength(stderr))}\n${stderr}${stdout}`;
}

/** As the type checker does not think it: a command sets it. */
const exitCodeNow = (): number => Number(process.exitCode ?? 0);

let last = Promise.resolve('');
const server = createServer((socket) => {
  let asked = '';
  socket.on('data', (chunk) => {
    asked += chunk.toString();
    const [count = '', ...args] = asked.split('\0');
    // The last is what follows the last NUL.
    if (args.length <= Number(count)) return;
    last = last.then(() => call(args.slice(0, -1)));
    void last.then((answer) => socket.end(answer));
  });
});
server.listen(0, '127.0.0.1', () => {
  const address = server.address();
  process.stdout.write(`${typeof address === 'object' ? String(address?.port) : ''}\n`);
});
