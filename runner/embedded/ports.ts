import { lookup } from 'node:dns/promises';
import { once } from 'node:events';
import { readdir, readFile, readlink } from 'node:fs/promises';
import { createServer } from 'node:net';
import { TidemarkError } from '../base/errors.js';
import { lookAtProcess, processIds } from '../base/process.js';
import type { DatabaseSettings } from '../base/settings.js';

/**
 * Tries the ports by binding them, all of them before anything is started.
 * @param ends the databases whose servers are about to be started.
 * @throws TidemarkError naming each port that is taken, by whom where that can be found out, and the setting to change.
 */
export async function assertPortsFree(ends: readonly DatabaseSettings[]): Promise<void> {
  const problems = (await Promise.all(ends.map(portProblem))).filter((problem) => problem !== undefined);
  if (problems.length === 0) return;
  throw new TidemarkError(problems.map(({ message }) => message).join('; '), {
    code: problems[0]?.code,
    hint:
      `set ${problems.map(({ setting }) => setting).join(' and ')} to a free port, or stop what is there; ` +
      'a database that is there on purpose (docker compose, your own) needs no "db start"',
  });
}

interface PortProblem {
  readonly code: string;
  readonly message: string;
  readonly setting: string;
}

async function portProblem({ host, port, prefix }: DatabaseSettings): Promise<PortProblem | undefined> {
  const setting = `${prefix}PORT`;
  for (const { address } of await lookup(host, { all: true }).catch(() => [{ address: '127.0.0.1' }])) {
    const code = await bindingFails(address, port);
    if (code === undefined || code === 'EADDRNOTAVAIL' || code === 'EAFNOSUPPORT') continue;
    const name = `port ${String(port)} (${setting})`;
    if (code !== 'EADDRINUSE') return { code, setting, message: `${name} cannot be used on ${address}: ${code}` };
    const holder = await portHolder(port).catch(() => undefined);
    return { code, setting, message: `${name} is already in use${holder === undefined ? '' : ` by ${holder}`}` };
  }
  return undefined;
}

async function bindingFails(host: string, port: number): Promise<string | undefined> {
  const server = createServer();
  try {
    await once(server.listen({ host, port, exclusive: true }), 'listening');
    await once(server.close(), 'close');
    return undefined;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  }
}

/** Which process listens on a port: Linux only, and only for processes that this user may look at. */
async function portHolder(port: number): Promise<string | undefined> {
  const lists = await Promise.all(['tcp', 'tcp6'].map((name) => readFile(`/proc/net/${name}`, 'utf8').catch(() => '')));
  const hex = port.toString(16).toUpperCase().padStart(4, '0');
  const sockets = lists
    .flatMap((list) => list.split('\n').map((line) => line.trim().split(/\s+/)))
    .filter(([, local, , state]) => local?.endsWith(`:${hex}`) === true && state === '0A')
    .map((fields) => `socket:[${fields[9] ?? ''}]`);
  for (const pid of await processIds()) {
    const open = `/proc/${String(pid)}/fd`;
    for (const file of await readdir(open).catch(() => []))
      if (sockets.includes(await readlink(`${open}/${file}`).catch(() => '')))
        return `process ${String(pid)} (${(await lookAtProcess(pid))?.args.slice(0, 3).join(' ').trim() ?? ''})`;
  }
  return undefined;
}
