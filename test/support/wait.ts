import { setTimeout as sleep } from 'node:timers/promises';

/** Looks again and again until `look` gives something, and returns it; the time limit of the test is its end. */
export async function until<T>(look: () => Promise<T | undefined | null | false>): Promise<T> {
  for (;;) {
    const seen = await look();
    if (seen !== undefined && seen !== null && seen !== false) return seen;
    await sleep(50);
  }
}
