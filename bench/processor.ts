import { existsSync } from 'node:fs';
import { readFile, readdir } from 'node:fs/promises';
import type { Database } from '../runner/base/database.js';

/** Processor time of processes, where the system tells it: by /proc of Linux, in nanoseconds, not by the clock on the wall. */

export const TELLS_PROCESSOR_TIME = existsSync('/proc/self/schedstat');

/** Microseconds of processor time that a process has taken with all its threads; 0 where it is gone. */
export async function processorTime(pid: number): Promise<number> {
  const folder = `/proc/${String(pid)}/task`;
  const threads = await readdir(folder).catch(() => []);
  const taken = threads.map(async (thread) => {
    const text = await readFile(`${folder}/${thread}/schedstat`, 'utf8').catch(() => '0');
    return Number(text.split(' ')[0]) / 1000;
  });
  return (await Promise.all(taken)).reduce((sum, each) => sum + each, 0);
}

export const processorTimes = async (pids: readonly number[]): Promise<number> =>
  (await Promise.all(pids.map(processorTime))).reduce((sum, each) => sum + each, 0);

/** Microseconds that the server's process of a session takes for `work`; the pool must be of one connection. */
export async function serverTime(database: Database, work: () => Promise<unknown>): Promise<number> {
  const pid = async () => (await database<[{ pid: number }]>`select pg_backend_pid() as pid`)[0].pid;
  const session = await pid();
  const before = await processorTime(session);
  await work();
  const after = await processorTime(session);
  if ((await pid()) !== session) throw new Error('the session that was measured has ended');
  return after - before;
}
