import type { Database, Transaction } from '../../runner/base/database.js';
import { connect } from '../../runner/base/database.js';
import { settingsFor, type Address, type TestServer } from './servers.js';

/**
 * TEST_CITUS_URL: a coordinator of Citus, with its workers, that somebody brings, or that was started from TEST_CITUS_IMAGE: there every
 * history of the suite is distributed by the first column of its key. Unset: histories are tables of one server, as users have it who say nothing.
 */
export const isOnCluster = (): boolean => (process.env.TEST_CITUS_URL ?? '') !== '';

/** Why a test that needs a cluster is left out; shown, so that nobody takes a skipped test for one that passed. */
export const NO_CLUSTER =
  'no cluster: TEST_CITUS_URL names a coordinator, TEST_CITUS_IMAGE an image to start one from where Docker runs';

const SHARDS = 4;

/** Where a node of a cluster is; `inside`: by what other nodes know it, where that is not where tests reach it. */
export interface Node {
  readonly host: string;
  readonly port: number;
  readonly inside?: { readonly host: string; readonly port: number };
}

/** The workers of a cluster, as its coordinator knows them. */
export async function workersOf(server: Address): Promise<Node[]> {
  const sql = connect(settingsFor(server, 'warehouse', 'postgres'), 'test', 1);
  const nodes = await sql<{ host: string; port: number }[]>`
    select nodename as host, nodeport as port from pg_dist_node where groupid <> 0 order by groupid`;
  await sql.end();
  return [...nodes];
}

/** Says something to every node of a cluster, in one database of each; to the one server where there is none. */
export async function onEveryNode(
  server: TestServer,
  database: string,
  say: (sql: Database) => PromiseLike<unknown>,
): Promise<void> {
  for (const node of [server, ...(server.workers ?? [])]) {
    const sql = connect(settingsFor({ ...server, ...node }, 'warehouse', database), 'test', 1);
    try {
      await say(sql);
    } finally {
      await sql.end({ timeout: 1 });
    }
  }
}

/** Makes one cluster of the databases of a name that every node has. */
export async function joinDatabases(server: TestServer, database: string): Promise<void> {
  await onEveryNode(server, database, (sql) => sql`create extension citus`);
  const sql = connect(settingsFor(server, 'warehouse', database), 'test', 1);
  const known = (node: Node) => node.inside ?? node;
  await sql`select citus_set_coordinator_host(${known(server).host}::text, ${known(server).port}::integer)`;
  for (const { host, port } of (server.workers ?? []).map(known))
    await sql`select citus_add_node(${host}::text, ${port}::integer)`;
  await sql.end();
}

/**
 * Says several statements one after the other: of several in one text Citus takes none that alters a distributed table. Where they are said
 * in a transaction that then reads such a table, its shards are altered by one session a node.
 */
export async function sayEach(sql: Database | Transaction, text: string): Promise<void> {
  if (isOnCluster()) await sql`select set_config('citus.multi_shard_modify_mode', 'sequential', true)`;
  for (const statement of text.match(/(?:'[^']*'|[^;])+/g) ?? [])
    if (statement.trim() !== '') await sql.unsafe(statement);
}

/** What creates a history table, and registers it; distributed where the suite runs on a cluster, by the first column of the key or another. */
export function onCluster(create: string, given?: string | null): string {
  if (!isOnCluster() || given === null) return create;
  const keys = /\bunique \((.*?), valid_from\)/.exec(create)?.[1] ?? '';
  const history = /create table (\S+) \(/.exec(create)?.[1] ?? '';
  const by = given ?? distributedBy(keys.split(', ')) ?? '';
  return create
    .replace('always as identity primary key,', `always as identity, primary key (surrogate_key, ${keys}),`)
    .replace('primary key (surrogate_key)', `primary key (surrogate_key, ${keys})`)
    .replace(
      /create unique index [^;]*? where is_current\b;?/,
      (index) =>
        `${index.replace(/;$/, '')};\nselect set_config('citus.multi_shard_modify_mode', 'sequential', true);\n` +
        `select create_distributed_table('${history}', '${by}', shard_count := ${String(SHARDS)});\n`,
    )
    .replace('tidemark.register_dimension(', `tidemark.register_dimension(p_distributed_by => '${by}',`);
}

/** The column that a history with a key of these columns, as SQL names them, is distributed by; null where it is not. */
export const distributedBy = (keys: readonly string[]): string | null =>
  isOnCluster() ? (keys[0] ?? '').replaceAll('"', '') : null;
