// Runs once: no version of PostgreSQL changes it.
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, inject, it } from 'vitest';
import { connect, type Database } from '../../runner/base/database.js';
import { startCluster, stopCluster } from '../../runner/embedded/cluster.js';
import { runChecks } from '../../runner/warehouse/checks.js';
import { runCli, startCli, type CliResult } from '../support/cli.js';
import { createWarehouseDatabase, environmentOf, foldersIn, type TestDatabase } from '../support/databases.js';
import { registerDimension, type TestColumn } from '../support/dimensions.js';
import {
  LOGGED_TABLES,
  committedStates,
  createLoggedTables,
  historyStates,
  newRandom,
  writeLoggedTraffic,
  type Random,
  type ToldState,
} from '../support/log-traffic.js';
import { underRole } from '../support/roles.js';
import { FAST, copyEmptyCluster, freePort, settingsFor, testedPackage } from '../support/servers.js';
import type { Traffic } from '../support/traffic.js';

/**
 * Writers of many kinds, who tell what they committed, and everything that reads the log killed again and again: one table is read from the
 * log all the time, the other goes over and back. `npm run soak` takes longer. LOG_CHAOS_SEED repeats what is chosen, though not when.
 */
const SECONDS = Number(process.env.LOG_CHAOS_SECONDS ?? '7');
const SEED = Number(process.env.LOG_CHAOS_SEED ?? Date.now() % 1_000_000_000);

const COLUMNS: readonly TestColumn[] = [
  { source: 'id', type: 'integer', role: 'business key' },
  { source: 'state', type: 'text', role: 'tracked' },
  { source: 'big', type: 'text', role: 'tracked' },
];

let folder: string;
let env: Record<string, string>;
let port: number;
let source: Database;
let warehouse: TestDatabase;

const start = () =>
  startCluster({
    folder: path.join(folder, 'source'),
    port,
    package: testedPackage(),
    settings: { ...FAST, wal_level: 'logical', max_prepared_transactions: '20', deadlock_timeout: '100ms' },
  });
const address = () =>
  settingsFor({ host: '127.0.0.1', port, user: 'postgres', password: 'postgres' }, 'source', 'postgres');

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'tidemark-log-chaos-'));
  await chmod(folder, 0o711);
  port = await freePort();
  await copyEmptyCluster(inject('runFolder'), path.join(folder, 'source'));
  await start();
  source = connect(address(), 'test');
  await createLoggedTables(source);
  warehouse = await createWarehouseDatabase();
  for (const table of LOGGED_TABLES) await registerDimension(warehouse.sql, table, table, COLUMNS);
  env = {
    ...foldersIn(folder),
    ...environmentOf(address()),
    ...environmentOf(underRole(warehouse.settings)),
    ...{ NODE_ENV: 'test', BATCH_SIZE: '50', BATCH_SIZE_MAX: '50' },
    ...{ CDC_EXTRACTION_INTERVAL_SECONDS: '1', STREAM_HEARTBEAT_SECONDS: '1', WATERMARK_ADVANCE_SECONDS: '1' },
  };
});
afterAll(async () => {
  await source.end({ timeout: 1 });
  await warehouse.drop();
  await stopCluster(path.join(folder, 'source'), 'immediate');
  await rm(folder, { recursive: true, force: true });
});

interface Faults {
  kills: number;
  restarts: number;
  handOvers: number;
}

/** What a command may end with while the source is restarted, and others that were killed hold what it needs. */
const PASSING =
  /does not answer|ended the connection|starting up or shutting down|another reader|holds the replication slot|another extractor holds|is read from the log|another writer/;

/** Ends a command at a step it takes, whichever, or at a moment; else lets it run. @returns how it ended */
async function tryCommand(
  args: readonly string[],
  random: Random,
  faults: Faults,
  longest: number | undefined,
  signal?: AbortSignal,
): Promise<CliResult> {
  // Early: that is within the first rounds.
  const strikes = random(4) > 0;
  const failpoint = strikes ? { TIDEMARK_FAILPOINT: `*:${String(1 + random(80))}:kill` } : {};
  const running = startCli(args, { ...env, ...failpoint });
  if (longest !== undefined)
    await Promise.race([running.ended, sleep(500 + random(longest), undefined, { signal }).catch(() => undefined)]);
  if (longest !== undefined) running.kill('SIGKILL');
  const ended = await running.ended;
  if (ended.code === null) faults.kills += 1;
  else if (ended.code !== 0) expect(`${args.join(' ')}: ${ended.stderr}`).toMatch(PASSING);
  return ended;
}

/** Until it is done, however often it is killed. */
async function insist(args: readonly string[], random: Random, faults: Faults): Promise<void> {
  for (let attempt = 0; ; attempt += 1) {
    const { code } = await (attempt < 3 ? tryCommand(args, random, faults, undefined) : runCli(args, env));
    if (code === 0) return;
  }
}

async function succeed(...args: string[]): Promise<void> {
  const { code, stdout, stderr } = await runCli(args, env);
  expect(code, `${args.join(' ')}: ${stdout}${stderr}`).toBe(0);
}

/** The reader, with the loader in its process or without. */
async function read(random: Random, signal: AbortSignal, faults: Faults): Promise<void> {
  while (!signal.aborted)
    await tryCommand(['stream', '--watch', ...(random(2) === 0 ? ['--load'] : [])], random, faults, 4000, signal);
}

async function load(random: Random, signal: AbortSignal, faults: Faults): Promise<void> {
  while (!signal.aborted) await tryCommand(['load', '--watch'], random, faults, 5000, signal);
}

/** One table goes back to polling, is polled, and goes over again, as one that was never captured from the log does. */
async function handOver(random: Random, signal: AbortSignal, faults: Faults): Promise<void> {
  while (!signal.aborted) {
    await insist(['table', 'capture', 'others', 'poll'], random, faults);
    await insist(['extract', '--table', 'others'], random, faults);
    await insist(['table', 'capture', 'others', 'log'], random, faults);
    faults.handOvers += 1;
    await sleep(random(2000), undefined, { signal }).catch(() => undefined);
  }
}

/** There is nothing to repair, however much of it is under way. */
async function repair(random: Random, signal: AbortSignal, faults: Faults): Promise<void> {
  while (!signal.aborted) {
    await tryCommand(['reconcile', '--table', 'things', '--repair'], random, faults, undefined);
    await sleep(2000, undefined, { signal }).catch(() => undefined);
  }
}

async function restart(random: Random, signal: AbortSignal, faults: Faults): Promise<void> {
  for (;;) {
    await sleep(2000 + random(4000), undefined, { signal }).catch(() => undefined);
    if (signal.aborted) return;
    await stopCluster(path.join(folder, 'source'), random(2) === 0 ? 'fast' : 'immediate');
    await start();
    faults.restarts += 1;
  }
}

/** The states of each key, in their order. */
function byKey(states: readonly ToldState[]): Map<number, ToldState[]> {
  const keys = new Map<number, ToldState[]>();
  for (const state of states) keys.set(state.id, [...(keys.get(state.id) ?? []), state]);
  return keys;
}

const namesOf = (states: readonly ToldState[] = []) => states.map(({ state }) => state);

/** Keys whose states in history are not those that were committed, in that order. */
function differing(committed: readonly ToldState[], history: readonly ToldState[]): object[] {
  const [wanted, found] = [byKey(committed), byKey(history)];
  return [...new Set([...wanted.keys(), ...found.keys()])].flatMap((id) => {
    const [own, told] = [namesOf(wanted.get(id)), namesOf(found.get(id))];
    const place = own.findIndex((state, index) => state !== told[index]);
    const at = place < 0 && told.length > own.length ? own.length : place;
    return at < 0 ? [] : [{ id, at, committed: own.slice(at, at + 3), history: told.slice(at, at + 3) }];
  });
}

/** Keys of which history has a state that was never committed, or twice, or in another order. */
function disordered(committed: readonly ToldState[], history: readonly ToldState[]): object[] {
  const wanted = byKey(committed);
  return [...byKey(history)].flatMap(([id, states]) => {
    const own = namesOf(wanted.get(id));
    let place = -1;
    const wrong = states.find(({ state }) => state !== null && (place = own.indexOf(state, place + 1)) < 0);
    return wrong === undefined ? [] : [{ id, wrong }];
  });
}

/** Transactions whose states do not begin at one moment, which no other has. */
function torn(committed: readonly ToldState[], history: readonly ToldState[]): string[] {
  const moments = new Map<string, Set<string>>();
  for (const [index, { by }] of committed.entries())
    moments.set(by, (moments.get(by) ?? new Set()).add(history[index]?.by ?? ''));
  const all = [...moments.values()].flatMap((each) => [...each]);
  return [
    ...[...moments].filter(([, { size }]) => size > 1).map(([by]) => by),
    ...(new Set(all).size < all.length ? ['two at once'] : []),
  ];
}

it('every commit is in history once, in its order, and nothing that was rolled back, whatever is killed and restarted', async () => {
  process.stderr.write(`chaos of the log: LOG_CHAOS_SEED=${String(SEED)}\n`);
  for (const table of LOGGED_TABLES) await succeed('table', 'capture', table, 'log');
  const traffic: Traffic = { committed: 0, rolledBack: 0, kinds: new Set() };
  const faults: Faults = { kills: 0, restarts: 0, handOvers: 0 };
  const time = new AbortController();
  setTimeout(() => {
    time.abort();
  }, SECONDS * 1000);
  await Promise.all([
    writeLoggedTraffic(address(), SEED, time.signal, traffic),
    ...[read, load, handOver, repair, restart].map((work, index) =>
      work(newRandom(SEED + 100 + index), time.signal, faults),
    ),
  ]);
  for (const args of [
    ['stream', '--load'],
    ['load'],
    ['reconcile', '--table', 'others', '--repair', '--allow-deletes'],
  ])
    await succeed(...args);

  const [committed, history] = [await committedStates(source, 'things'), await historyStates(warehouse.sql, 'things')];
  process.stdout.write(
    `chaos of the log: ${String(SECONDS)} s, ${String(traffic.committed)} transactions of ${String(traffic.kinds.size)} kinds, ${String(traffic.rolledBack)} rolled back, ` +
      `${String(committed.length)} states; ${String(faults.kills)} kills, ${String(faults.restarts)} restarts of the source, ${String(faults.handOvers)} hand-overs: ` +
      `keys that differ ${String(differing(committed, history).length)}\n`,
  );
  expect(differing(committed, history).slice(0, 5)).toEqual([]);
  expect(torn(committed, history)).toEqual([]);
  expect(disordered(await committedStates(source, 'others'), await historyStates(warehouse.sql, 'others'))).toEqual([]);
  for (const args of [['verify-log'], ['reconcile', '--table', ...LOGGED_TABLES]]) await succeed(...args);
  expect((await runChecks(warehouse.sql, ['pipeline', 'scd2'])).filter(({ violations }) => violations > 0)).toEqual([]);
  expect(traffic.kinds.size).toBeGreaterThanOrEqual(10);
  expect(faults.kills).toBeGreaterThan(3);
  expect(faults.restarts).toBeGreaterThan(0);
});
