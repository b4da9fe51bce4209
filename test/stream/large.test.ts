// Runs once: no version of PostgreSQL changes it.
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { timesReached } from '../../runner/base/failpoint.js';
import { newestCheckpoint, openChangeLog } from '../../runner/change-log/chain.js';
import { startCli, type RunningCli } from '../support/cli.js';
import { createPipeline, type TestPipeline } from '../support/databases.js';
import { createSourceTable, registerDimension, type TestColumn } from '../support/dimensions.js';
import { captureFromLog, loggedBatches, stream } from '../support/log.js';
import { until } from '../support/wait.js';

/** Transactions that are larger than a batch, and so are written in parts. */

const COLUMNS: readonly TestColumn[] = [
  { source: 'id', type: 'integer', role: 'business key' },
  { source: 'state', type: 'text', role: 'tracked' },
];

/** `npm run soak -- --log` takes two million. */
const ROWS = Number(process.env.LOG_LARGE_ROWS ?? '20000');
const BATCH = String(Math.min(10_000, ROWS / 25));
const MOST_KILOBYTES = 200 * 1024;

let pipeline: TestPipeline;
beforeEach(async () => {
  pipeline = await createPipeline({ BATCH_SIZE: BATCH, BATCH_SIZE_MAX: BATCH });
  for (const table of ['things', 'others']) {
    await createSourceTable(pipeline.source, table, COLUMNS);
    await registerDimension(pipeline.warehouse, table, table, COLUMNS);
  }
  await captureFromLog(pipeline, 'things', 'others');
});
afterEach(async () => {
  delete process.env.TIDEMARK_FAILPOINT;
  await pipeline.drop();
});

/** The most memory a command has needed until it ended, in kilobytes. */
async function mostMemoryOf({ pid, ended }: RunningCli): Promise<number> {
  let [most, hasEnded] = [0, false];
  void ended.then(() => (hasEnded = true));
  for (; !hasEnded; await sleep(100)) {
    const status = await readFile(`/proc/${String(pid)}/status`, 'utf8').catch(() => '');
    most = Math.max(most, Number(/VmHWM:\s*([0-9]+)/.exec(status)?.[1] ?? 0));
  }
  return most;
}

const insideOf = async (table: string) =>
  (await newestCheckpoint(await openChangeLog(pipeline.settings.cdc_log_dir, table)))?.log?.inside ?? null;

/** Writes numbered states of a row beside it, a transaction each, until told to stop. @returns how many */
async function writeBeside(signal: AbortSignal): Promise<number> {
  for (let number = 1; ; number += 1) {
    await pipeline.source`insert into others values (1, ${String(number)}) on conflict (id) do update set state = excluded.state`;
    await sleep(20, undefined, { signal }).catch(() => undefined);
    if (signal.aborted) return number;
  }
}

describe('a transaction that is written in parts', () => {
  it('of large rows, with a TRUNCATE among them, is there whole and once, wherever its reader fails', async () => {
    const wanted: string[] = [];
    for (let ordinal = 1, isReached = true; isReached; ordinal += 1) {
      await pipeline.source.unsafe(`
        truncate things;
        insert into things select g, repeat('x', 3000) from generate_series(1, 3) as g;
        truncate things;
        insert into things select g, repeat('y', 3000) from generate_series(4, 5) as g`);
      wanted.push(...['TRUNCATE', '1', '2', '3', 'TRUNCATE', '4', '5']);
      process.env.TIDEMARK_FAILPOINT = `stream published:${String(ordinal)}:ENOSPC`;
      const overrides = { batch_max_bytes: 7000 };
      await stream(pipeline, overrides).catch(() => undefined);
      isReached = timesReached() >= ordinal;
      delete process.env.TIDEMARK_FAILPOINT;
      await stream(pipeline, overrides);
      const lines = (await loggedBatches(pipeline, 'things')).flatMap(({ changes }) => changes);
      expect(lines.map(({ id, operation_type }) => String(id ?? operation_type))).toEqual(wanted);
    }
    expect(wanted.length).toBeGreaterThan(4 * 7);
  });

  it('of very many rows needs little memory, is there whole and once though its reader is killed half way, and so is what is written beside it', async () => {
    const { source, warehouse, env } = pipeline;
    const stop = new AbortController();
    const beside = writeBeside(stop.signal);
    const first = startCli(['stream', '--watch', '--load'], env);
    const memory = [mostMemoryOf(first)];
    await source`insert into things select g, repeat('x', 80) || g from generate_series(1, ${ROWS}::integer) as g`;
    await until(async () => ((await insideOf('things'))?.changes ?? 0) > ROWS / 3);
    first.kill('SIGKILL');
    await first.ended;
    expect(await insideOf('things')).not.toBeNull();
    stop.abort();
    const number = await beside;
    const second = startCli(['stream', '--load'], env);
    memory.push(mostMemoryOf(second));
    const { code, stderr } = await second.ended;
    expect(code, stderr).toBe(0);
    const [history] = await warehouse`
      select count(*)::integer as versions, count(distinct id)::integer as keys, count(distinct valid_from)::integer as moments
      from dim_things_history where state = repeat('x', 80) || id`;
    expect(history).toEqual({ versions: ROWS, keys: ROWS, moments: 1 });
    const [others] =
      await warehouse`select count(*)::integer as versions, max(state::integer) as newest from dim_others_history`;
    expect(others).toEqual({ versions: number, newest: number });
    const most = await Promise.all(memory);
    process.stdout.write(
      `large: a transaction of ${String(ROWS)} rows, its reader and loader killed half way, ${String(number)} commits beside it: ` +
        `at most ${most.map((each) => String(Math.round(each / 1024))).join(', then ')} MiB\n`,
    );
    for (const each of most) expect(each).toBeLessThan(MOST_KILOBYTES);
  });
});
