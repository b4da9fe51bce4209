import { setTimeout as sleep } from 'node:timers/promises';

/**
 * Looks again and again until `look` gives something, and returns it; the time limit of the test is its end. What takes long to look at is
 * looked at more seldom: what is waited for needs the processor, too.
 */
export async function until<T>(look: () => Promise<T | undefined | null | false>): Promise<T> {
  for (;;) {
    const began = performance.now();
    const seen = await look();
    if (seen !== undefined && seen !== null && seen !== false) return seen;
    await sleep(Math.min(1000, Math.max(50, 2 * (performance.now() - began))));
  }
}
