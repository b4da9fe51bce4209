import os from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';

/** The load of the last minute below which a machine counts as quiet. */
const QUIET = 0.5;

export const load = (): number => Number((os.loadavg()[0] ?? 0).toFixed(2));

/** Waits until the machine is quiet, some minutes at most. Where no load is told (Windows) it is. @throws Error where it does not come to that */
export async function untilQuiet(minutes: number, say: (line: string) => void): Promise<void> {
  const deadline = Date.now() + minutes * 60_000;
  for (let told = 0; load() >= QUIET; told += 1) {
    if (Date.now() > deadline)
      throw new Error(
        `the load is ${String(load())}, not below ${String(QUIET)}, after ${String(minutes)} minutes: end what else runs, wait longer (--wait), or measure regardless (--busy)`,
      );
    if (told % 6 === 0) say(`the load is ${String(load())}: waiting until it is below ${String(QUIET)}`);
    await sleep(5000);
  }
}
