import { execFileSync } from 'node:child_process';
import { constants } from 'node:os';
import type { TestProject } from 'vitest/node';
import { PROJECT_ROOT } from '../../runner/base/settings.js';
import { hasDocker, startCluster, startContainer } from './containers.js';
import { endWorkers, makeRunFolder, removeRunFolder } from './run-folder.js';
import { prepareServer, type Address, type TestServer } from './servers.js';

declare module 'vitest' {
  export interface ProvidedContext {
    /** In which the run keeps all it writes; a temporary folder of a test is in it too. */
    runFolder: string;
    /** The servers that were given, to be used by one worker each; none where each worker starts its own. */
    servers: readonly TestServer[];
  }
}

/**
 * Builds the command line and makes a folder for the run, with which everything ends that the run has started, however it ends.
 * TEST_DATABASE_URL names a server to use (its role must create databases), TEST_CITUS_URL the coordinator of a cluster; TEST_POSTGRES_IMAGE a Docker image to start, once a worker,
 * TEST_CITUS_IMAGE one to start a cluster from; else each worker starts an embedded server, of the major version that TEST_POSTGRES_VERSION names (18, or 15).
 */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  // What a run within a run would build anew, the other one has at work.
  if (process.env.TEST_IS_BUILT !== '1')
    execFileSync('npm', ['run', '--silent', 'build'], { cwd: PROJECT_ROOT, stdio: 'inherit' });
  const runFolder = makeRunFolder();
  const end = () => {
    endWorkers();
    removeRunFolder(runFolder);
  };
  process.once('exit', end);
  // vitest heeds a signal once: another one, which the terminal and whoever started this send too, would end it before the folder is removed.
  for (const signal of ['SIGHUP', 'SIGINT', 'SIGTERM'] as const)
    process.on(signal, () => process.exit(128 + constants.signals[signal]));
  // Whoever started this was killed. To wait for that must not keep this process from ending.
  process.once('disconnect', () => process.exit(143));
  process.channel?.unref();
  const prepared: { server: TestServer; drop: () => Promise<void> }[] = [];
  const given = await findServers(project.vitest.config.maxWorkers);
  for (const address of given.addresses) prepared.push(await prepareServer(address));
  project.provide('runFolder', runFolder);
  project.provide(
    'servers',
    prepared.map(({ server }) => server),
  );
  return async () => {
    for (const { drop } of prepared) await drop();
    await given.stop();
    process.off('exit', end);
    removeRunFolder(runFolder);
  };
}

async function findServers(workers: number): Promise<{ addresses: readonly Address[]; stop: () => Promise<void> }> {
  const { TEST_DATABASE_URL, TEST_CITUS_URL, TEST_CITUS_IMAGE = '', TEST_POSTGRES_IMAGE: image } = process.env;
  const url = [TEST_CITUS_URL, TEST_DATABASE_URL].find((given) => given !== undefined && given !== '');
  if (url !== undefined) return { addresses: [readUrl(url)], stop: () => Promise.resolve() };
  if (TEST_CITUS_IMAGE !== '' && (await hasDocker('TEST_CITUS_IMAGE'))) {
    const { address, stop } = await startCluster(TEST_CITUS_IMAGE);
    // Workers of the run are told by what they would be told of a cluster that was given.
    process.env.TEST_CITUS_URL = `postgres://${address.user}@${address.host}:${String(address.port)}/postgres`;
    return { addresses: [address], stop };
  }
  if (image === undefined || image === '') return { addresses: [], stop: () => Promise.resolve() };
  const started = await Promise.all(Array.from({ length: workers }, () => startContainer(image)));
  return {
    addresses: started.map(({ address }) => address),
    stop: async () => {
      await Promise.all(started.map(({ stop }) => stop()));
    },
  };
}

function readUrl(url: string): Address {
  const { hostname, port, username, password } = new URL(url);
  return {
    host: hostname,
    port: Number(port === '' ? 5432 : port),
    user: decodeURIComponent(username),
    password: decodeURIComponent(password),
  };
}
