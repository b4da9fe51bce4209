import { setTimeout as sleep } from 'node:timers/promises';

/** What can tell of the test that waits, such as what a running command has said. */
const witnesses = new Set<() => string>();

/** Lets an error of `until` tell what `witness` says then. Returns what ends that. */
export function tellWhenStuck(witness: () => string): () => void {
  witnesses.add(witness);
  return () => witnesses.delete(witness);
}

/** No wait takes so long, on a machine that is short of time either; the time limit of a test is longer, for it may wait often. */
const STUCK_MS = 150_000;

/**
 * Looks again and again until `look` gives something, and returns it. What takes long to look at is looked at more seldom: what is waited for
 * needs the processor, too.
 * @throws Error with what was waited for, and what the commands that run have said, when it does not come
 */
export async function until<T>(look: () => Promise<T | undefined | null | false>): Promise<T> {
  for (const start = performance.now(); performance.now() - start < STUCK_MS; ) {
    const began = performance.now();
    const seen = await look();
    if (seen !== undefined && seen !== null && seen !== false) return seen;
    await sleep(Math.min(1000, Math.max(50, 2 * (performance.now() - began))));
  }
  const said = [...witnesses].map((witness) => witness()).join('\n');
  throw new Error(`waited ${String(STUCK_MS / 1000)} seconds in vain for ${look.toString()}\n${said}`.trimEnd());
}
