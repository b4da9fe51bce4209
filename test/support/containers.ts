import type { Address } from './servers.js';

/** What was started for a run, and ends with it. */
export interface Started {
  readonly address: Address;
  readonly stop: () => Promise<void>;
}

/** The command of a server for tests, which no crash needs to survive. */
const serverWith = (settings: Readonly<Record<string, string>>): string[] => [
  'postgres',
  ...Object.entries({ fsync: 'off', autovacuum: 'off', max_connections: '200', ...settings }).flatMap(
    ([name, value]) => ['-c', `${name}=${value}`],
  ),
];

/** A server of a Docker image. */
export async function startContainer(image: string): Promise<Started> {
  const { PostgreSqlContainer } = await import('@testcontainers/postgresql');
  const container = await new PostgreSqlContainer(image)
    .withCommand(serverWith({ max_prepared_transactions: '20' }))
    .start();
  const address = {
    host: container.getHost(),
    port: container.getPort(),
    user: container.getUsername(),
    password: container.getPassword(),
  };
  return {
    address,
    stop: async () => {
      await container.stop();
    },
  };
}

/**
 * A cluster of a Docker image of Citus: a coordinator and two workers, each in a container. They know each other by their names on a network of
 * their own; tests reach each by a port of this host.
 */
export async function startCluster(image: string): Promise<Started> {
  const { GenericContainer, Network, Wait } = await import('testcontainers');
  const network = await new Network().start();
  const containers = await Promise.all(
    ['coordinator', 'worker1', 'worker2'].map((name) =>
      new GenericContainer(image)
        .withNetwork(network)
        .withNetworkAliases(name)
        .withExposedPorts(5432)
        .withEnvironment({ POSTGRES_PASSWORD: 'postgres', POSTGRES_HOST_AUTH_METHOD: 'trust' })
        .withCommand(serverWith({ max_prepared_transactions: '100', wal_level: 'logical' }))
        // While its first start sets it up, it listens to no other container.
        .withWaitStrategy(Wait.forSuccessfulCommand('pg_isready -h localhost -U postgres'))
        .start()
        .then((container) => ({ name, container })),
    ),
  );
  const [coordinator, ...workers] = containers.map(({ name, container }) => ({
    host: container.getHost(),
    port: container.getMappedPort(5432),
    inside: { host: name, port: 5432 },
  }));
  if (coordinator === undefined) throw new Error('there are three containers');
  return {
    address: { ...coordinator, user: 'postgres', password: 'postgres', workers },
    stop: async () => {
      for (const { container } of containers) await container.stop();
      await network.stop();
    },
  };
}

/** Whether Docker, or what takes its place, runs here; says so where it does not. */
export async function hasDocker(wanted: string): Promise<boolean> {
  const { getContainerRuntimeClient } = await import('testcontainers');
  const runs = await getContainerRuntimeClient().then(
    () => true,
    () => false,
  );
  if (!runs)
    process.stderr.write(`skipped: ${wanted} is set, and no Docker runs here: nothing is tried on a cluster\n`);
  return runs;
}
