import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { runChecks } from '../../runner/warehouse/checks.js';
import type { Database } from '../../runner/base/database.js';
import { runCli, startCli, type RunningCli } from '../support/cli.js';
import { createPipeline } from '../support/databases.js';
import { registerDimension } from '../support/dimensions.js';
import { openProxy, type Proxy } from '../support/proxy.js';
import { createChaosTable, writeTraffic, type Traffic } from '../support/traffic.js';

/** The whole pipeline for a while, under faults. `npm run soak -- --minutes 30` takes longer. */
const SECONDS = Number(process.env.SOAK_SECONDS ?? '21');
const MOST_MEMORY = 150 * 1024 * 1024;
/** Memory is flat where a part of the run needs no more than this times what the part before it needed: a leak would not stop there. */
const MOST_GROWTH = 1.25;

const PARTS = ['extract', 'load'] as const;
type PartName = (typeof PARTS)[number];

interface Faults {
  kills: number;
  cuts: number;
}

/** Runs a part again and again: it is killed at random moments for a while, then lives until the signal, unless it dies by itself. */
async function keepRunning(
  part: PartName,
  env: Readonly<Record<string, string>>,
  killing: AbortSignal,
  signal: AbortSignal,
  faults: Faults,
): Promise<void> {
  const isOver = () => signal.aborted;
  while (!isOver()) {
    const running: RunningCli = startCli([part, '--watch', '--table', 'chaos'], env);
    const isKilled = !killing.aborted;
    await Promise.race([
      running.ended,
      sleep(isKilled ? 1500 + Math.random() * 3000 : 2 ** 31 - 1, undefined, { signal }).catch(() => undefined),
    ]);
    running.kill(isKilled && !isOver() ? 'SIGKILL' : 'SIGTERM');
    const { code, stderr } = await running.ended;
    if (code === null) faults.kills += 1;
    else expect(isOver() ? code : 'it ended by itself', stderr).toBe(0);
  }
}

/** Cuts connections of both ends at random moments. */
async function cutConnections(proxies: readonly Proxy[], signal: AbortSignal, faults: Faults): Promise<void> {
  while (!signal.aborted) {
    await sleep(1000 + Math.random() * 4000, undefined, { signal }).catch(() => undefined);
    faults.cuts += proxies[Math.floor(Math.random() * proxies.length)]?.cut() ?? 0;
  }
}

/** Memory of the parts that run, as they note it after each round, again and again. */
async function watchMemory(
  warehouse: Database,
  signal: AbortSignal,
): Promise<{ at: number; part: string; bytes: number }[]> {
  const samples: { at: number; part: string; bytes: number }[] = [];
  while (!signal.aborted) {
    const rows = await warehouse<{ part: string; bytes: string | null }[]>`
      select pipeline_name as part, performance_metrics ->> 'memory_bytes' as bytes from pipeline_metadata where status = 'running' and updated_at > now() at time zone 'UTC' - interval '10 s'`;
    for (const { part, bytes } of rows)
      if (bytes !== null) samples.push({ at: performance.now(), part, bytes: Number(bytes) });
    await sleep(500, undefined, { signal }).catch(() => undefined);
  }
  return samples;
}

const statesOf = async (sql: Database, query: string) =>
  (await sql.unsafe<{ state: string }[]>(query)).map(({ state }) => state).sort();

it('under kills, cut connections and long transactions nothing is lost or comes twice, all checks are green, and memory stays flat', async () => {
  const pipeline = await createPipeline({
    CDC_EXTRACTION_INTERVAL_SECONDS: '1',
    WATERMARK_ADVANCE_SECONDS: '1',
    BATCH_SIZE: '200',
    BATCH_SIZE_MAX: '200',
  });
  await createChaosTable(pipeline.source);
  await registerDimension(pipeline.warehouse, 'chaos', 'chaos', [
    { source: 'id', type: 'integer', role: 'business key' },
    { source: 'version', type: 'bigint', role: 'tracked' },
    { source: 'touched', type: 'timestamptz', role: 'effective time' },
  ]);
  const { source, warehouse } = pipeline.admin;
  const proxies = [await openProxy(source.host, source.port), await openProxy(warehouse.host, warehouse.port)] as const;
  const env = {
    ...pipeline.env,
    DB_HOST: '127.0.0.1',
    WAREHOUSE_DB_HOST: '127.0.0.1',
    DB_PORT: String(proxies[0].port),
    WAREHOUSE_DB_PORT: String(proxies[1].port),
  };
  const [killing, time] = [new AbortController(), new AbortController()];
  const began = performance.now();
  setTimeout(
    () => {
      killing.abort();
    },
    (SECONDS * 1000) / 3,
  );
  setTimeout(() => {
    time.abort();
  }, SECONDS * 1000);
  const traffic: Traffic = { committed: 0, rolledBack: 0, kinds: new Set() };
  const faults: Faults = { kills: 0, cuts: 0 };
  const [memory] = await Promise.all([
    watchMemory(pipeline.warehouse, time.signal),
    writeTraffic(source, time.signal, traffic),
    cutConnections(proxies, time.signal, faults),
    ...PARTS.map((part) => keepRunning(part, env, killing.signal, time.signal, faults)),
  ]);
  await Promise.all(proxies.map((proxy) => proxy.close()));

  for (const command of PARTS) expect((await runCli([command, '--table', 'chaos'], pipeline.env)).code).toBe(0);
  const current = await statesOf(
    pipeline.warehouse,
    `select format('%s %s', id, version) as state from dim_chaos_history where is_current`,
  );
  const history = await statesOf(
    pipeline.warehouse,
    `select format('%s %s', id, version) as state from dim_chaos_history`,
  );
  const rows = await statesOf(pipeline.source, `select format('%s %s', id, version) as state from chaos`);
  const known = new Set(current);
  const missed = rows.filter((state) => !known.has(state)).length;
  const third = (SECONDS * 1000) / 3;
  const most = (part: PartName, from: number) =>
    Math.max(
      0,
      ...memory
        .filter(
          (sample) =>
            sample.part === part && sample.at - began > from * third && sample.at - began <= (from + 1) * third,
        )
        .map(({ bytes }) => bytes),
    );
  process.stdout.write(
    `soak: ${String(SECONDS)} s, ${String(traffic.committed)} transactions of ${String(traffic.kinds.size)} kinds, ${String(traffic.rolledBack)} rolled back; ${String(faults.kills)} kills, ` +
      `${String(faults.cuts)} connections cut; ${String(rows.length)} rows, ${String(history.length)} versions: lost ${String(missed)}, twice ${String(history.length - new Set(history).size)}; ` +
      `${PARTS.map((part) => `${part} ${[1, 2].map((place) => (most(part, place) / 2 ** 20).toFixed(0)).join(' then ')} MiB`).join(', ')}\n`,
  );
  expect(current).toEqual(rows);
  expect(new Set(history).size).toBe(history.length);
  expect(faults.kills).toBeGreaterThan(1);
  expect(faults.cuts).toBeGreaterThan(1);
  for (const part of PARTS) {
    expect(most(part, 1), part).toBeGreaterThan(0);
    expect(most(part, 2), part).toBeLessThan(Math.min(MOST_MEMORY, most(part, 1) * MOST_GROWTH));
  }
  expect(
    (await runChecks(pipeline.warehouse, ['pipeline', 'scd2'])).filter(({ violations }) => violations > 0),
  ).toEqual([]);
  const reconciled = await runCli(['reconcile', '--table', 'chaos'], pipeline.env);
  expect(reconciled, reconciled.stdout).toMatchObject({ code: 0 });
  await pipeline.drop();
});
