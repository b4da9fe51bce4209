import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { cleanEnvironment } from './cli.js';
import { freePort } from './servers.js';
import { until } from './wait.js';

const SERVER = '/usr/lib/rabbitmq/bin/rabbitmq-server';

/** Whether the machine has RabbitMQ, from Debian; where it has not, that is said. */
export function hasRabbit(): boolean {
  const isThere = existsSync(SERVER);
  if (!isThere)
    process.stderr.write('skipped: rabbitmq-server is not installed, so nothing is published to a real broker\n');
  return isThere;
}

export interface Broker {
  readonly port: number;
  readonly stop: () => Promise<void>;
}

/** Ends a process and those that it began: the server is a script, whose end alone would leave the node behind. */
const end = async (child: ChildProcess): Promise<void> => {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  process.kill(-child.pid, 'SIGKILL');
  await ended;
};

/** Starts a RabbitMQ node of its own, in a temporary folder and on free ports: it meets no other that runs here. */
export async function startRabbit(): Promise<Broker> {
  const folder = await mkdtemp(path.join(tmpdir(), 'tidemark-rabbit-'));
  const [port, epmdPort, distributionPort] = [await freePort(), await freePort(), await freePort()];
  const within = (name: string) => path.join(folder, name);
  await writeFile(within('plugins'), '[].');
  await writeFile(within('nothing.conf'), '');
  const env = cleanEnvironment({
    HOME: folder,
    ERL_EPMD_PORT: String(epmdPort),
    ERL_EPMD_ADDRESS: '127.0.0.1',
    RABBITMQ_NODENAME: `tidemark${String(port)}@localhost`,
    RABBITMQ_NODE_IP_ADDRESS: '127.0.0.1',
    RABBITMQ_NODE_PORT: String(port),
    RABBITMQ_DIST_PORT: String(distributionPort),
    RABBITMQ_MNESIA_BASE: within('mnesia'),
    RABBITMQ_LOG_BASE: within('log'),
    RABBITMQ_CONF_ENV_FILE: within('nothing.conf'),
    RABBITMQ_CONFIG_FILE: within('nothing.conf'),
    RABBITMQ_ENABLED_PLUGINS_FILE: within('plugins'),
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: '+S 1:1',
  });
  // In the foreground, where it can be ended by its number: a node that finds none leaves one in the background.
  const epmd = spawn('epmd', ['-port', String(epmdPort), '-address', '127.0.0.1'], {
    env,
    stdio: 'ignore',
    detached: true,
  });
  await until(
    () =>
      new Promise<boolean>((resolve) => {
        const socket = connect(epmdPort, '127.0.0.1')
          .on('connect', () => {
            socket.destroy();
            resolve(true);
          })
          .on('error', () => {
            resolve(false);
          });
      }),
  );
  const node = spawn(SERVER, { cwd: folder, env, stdio: ['ignore', 'pipe', 'ignore'], detached: true });
  const stop = async () => {
    await end(node);
    await end(epmd);
    await rm(folder, { recursive: true, force: true });
  };
  const said: string[] = [];
  for await (const line of createInterface(node.stdout)) {
    said.push(line);
    if (line.includes('Starting broker... completed')) {
      node.stdout.resume();
      return { port, stop };
    }
  }
  await stop();
  throw new Error(`rabbitmq-server did not start:\n${said.join('\n')}`);
}
