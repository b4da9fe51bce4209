import { afterAll, beforeAll, expect, it } from 'vitest';
import { runCli, startCli } from '../support/cli.js';
import { createPipeline, type TestPipeline } from '../support/databases.js';
import { createThings } from '../support/extraction.js';
import { openProxy } from '../support/proxy.js';

/** Reconcile where almost everything agrees: `RECONCILE_ROWS=1000000 npx vitest run test/reconcile-large.test.ts` measures a million. */
const ROWS = Number(process.env.RECONCILE_ROWS ?? '100000');

/** Buckets times the bytes of one answer, from both ends, and some for describing the table: it does not grow with the rows. */
const MOST_BYTES = 2 * 4096 * 100 + 128 * 1024;
const MOST_MEMORY = 150 * 1024 * 1024;

let pipeline: TestPipeline;
beforeAll(async () => {
  pipeline = await createPipeline({ BATCH_SIZE: '20000', BATCH_SIZE_MAX: '20000' });
  await createThings(pipeline);
  await pipeline.source`insert into things select g, 'state ' || g, now() from generate_series(1, ${ROWS}::integer) as g`;
  for (const command of ['extract', 'load'])
    expect((await runCli([command, '--table', 'things'], pipeline.env)).code).toBe(0);
});
afterAll(async () => {
  await pipeline.drop();
});

/** Runs reconcile through proxies; what crossed, and what it took. */
async function measured(
  args: readonly string[],
): Promise<{ stdout: string; code: number | null; bytes: number; memory: number; seconds: number }> {
  const { source, warehouse } = pipeline.settings;
  const [one, other] = [await openProxy(source.host, source.port), await openProxy(warehouse.host, warehouse.port)];
  const started = performance.now();
  // Of its own process is the memory that it notes.
  const { stdout, code } = await startCli(['reconcile', '--table', 'things', ...args], {
    ...pipeline.env,
    DB_HOST: '127.0.0.1',
    WAREHOUSE_DB_HOST: '127.0.0.1',
    DB_PORT: String(one.port),
    WAREHOUSE_DB_PORT: String(other.port),
  }).ended;
  const seconds = (performance.now() - started) / 1000;
  const bytes = one.received() + other.received();
  await Promise.all([one.close(), other.close()]);
  const [run] = await pipeline.warehouse<[{ memory: string }]>`
    select performance_metrics ->> 'peak_memory_bytes' as memory from pipeline_metadata where pipeline_name = 'reconcile' order by id desc limit 1`;
  process.stdout.write(
    `reconcile: ${String(ROWS)} rows in ${seconds.toFixed(1)} s, ${String(bytes)} bytes crossed, ${(Number(run.memory) / 2 ** 20).toFixed(0)} MiB of memory\n`,
  );
  return { stdout, code, bytes, memory: Number(run.memory), seconds };
}

it('only checksums cross where all agree, and memory stays small, however many rows there are', async () => {
  const { stdout, code, bytes, memory } = await measured([]);
  expect(stdout).toContain(
    `things: no differences (${String(ROWS)} rows at the source, ${String(ROWS)} current versions)`,
  );
  expect(code).toBe(0);
  expect(bytes).toBeLessThan(MOST_BYTES);
  expect(memory).toBeLessThan(MOST_MEMORY);
});

it('of few differences only their buckets cross besides', async () => {
  await pipeline.source`update things set state = 'other', touched = '2020-01-01' where id = 77`;
  await pipeline.source`delete from things where id = 78`;
  await pipeline.warehouse`delete from dim_things_history where id = 79`;
  const { stdout, code, bytes, memory } = await measured(['--json']);
  const [result] = JSON.parse(stdout) as { differences: { key: string; kind: string }[] }[];
  expect(result?.differences.map(({ key, kind }) => `${key} ${kind}`).sort()).toEqual([
    '["77"] different',
    '["78"] extra',
    '["79"] missing',
  ]);
  expect(code).toBe(3);
  expect(bytes).toBeLessThan(MOST_BYTES + 3 * 2 * (ROWS / 4096) * 200 + 64 * 1024);
  expect(memory).toBeLessThan(MOST_MEMORY);
});
