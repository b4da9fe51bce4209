import { lookup } from 'node:dns/promises';
import { readFile, readdir, readlink } from 'node:fs/promises';
import { createServer, isIPv4 } from 'node:net';
import type { DatabaseSettings } from '../base/settings.js';
import { TidemarkError } from '../base/errors.js';

/** True for a host that can only be this machine; others are a user's own servers. */
export function isLocal(host: string): boolean {
  return host.toLowerCase() === 'localhost' || host === '::1' || (isIPv4(host) && host.startsWith('127.'));
}

/**
 * Tries the ports by binding them, all of them before anything is started.
 * @param ends the databases whose servers are about to be started.
 * @throws TidemarkError naming each port that is taken, by whom where that can be found out, and the setting to change.
 */
export async function assertPortsFree(ends: readonly DatabaseSettings[]): Promise<void> {
  const problems = (await Promise.all(ends.map(portProblem))).filter((problem) => problem !== undefined);
  if (problems.length === 0) return;
  throw new TidemarkError(problems.map((problem) => problem.message).join('; '), {
    code: problems[0]?.code,
    hint: `set ${problems.map((problem) => problem.setting).join(' and ')} to a free port, or stop what is there; `
      + 'a database that is there on purpose (docker compose, your own) needs no "db start"',
  });
}

async function portProblem(end: DatabaseSettings): Promise<{ code: string; message: string; setting: string } | undefined> {
  const setting = `${end.prefix}PORT`;
  for (const address of await addressesOf(end.host)) {
    const code = await bindingFails(address, end.port);
    if (code === undefined || code === 'EADDRNOTAVAIL' || code === 'EAFNOSUPPORT') continue;
    const port = `port ${String(end.port)} (${setting})`;
    if (code !== 'EADDRINUSE') return { code, setting, message: `${port} cannot be used on ${address}: ${code}` };
    const holder = await portHolder(end.port).catch(() => undefined);
    return { code, setting, message: `${port} is already in use${holder === undefined ? '' : ` by ${holder}`}` };
  }
  return undefined;
}

async function addressesOf(host: string): Promise<string[]> {
  const found = await lookup(host, { all: true }).catch(() => []);
  return found.length === 0 ? ['127.0.0.1'] : [...new Set(found.map(({ address }) => address))];
}

function bindingFails(address: string, port: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', (error: NodeJS.ErrnoException) => { resolve(error.code ?? error.message); });
    server.listen({ host: address, port, exclusive: true }, () => { server.close(() => { resolve(undefined); }); });
  });
}

/** Which process listens on a port: Linux only, and only for processes that this user may look at. */
async function portHolder(port: number): Promise<string | undefined> {
  const tables = await Promise.all(['tcp', 'tcp6'].map((name) => readFile(`/proc/net/${name}`, 'utf8').catch(() => '')));
  const hex = port.toString(16).toUpperCase().padStart(4, '0');
  const rows = tables.join('\n').split('\n').map((line) => line.trim().split(/\s+/));
  const sockets = rows.filter((row) => row[1]?.endsWith(`:${hex}`) === true && row[3] === '0A').map((row) => `socket:[${row[9] ?? ''}]`);
  for (const pid of (await readdir('/proc')).filter((name) => /^[0-9]+$/.test(name))) {
    for (const fd of await readdir(`/proc/${pid}/fd`).catch(() => [])) {
      if (!sockets.includes(await readlink(`/proc/${pid}/fd/${fd}`).catch(() => ''))) continue;
      const command = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).split('\0').slice(0, 3).join(' ').trim();
      return `process ${pid} (${command})`;
    }
  }
  return undefined;
}
