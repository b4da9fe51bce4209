import { getHeapStatistics, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/**
 * Batches are megabytes of text each, needed once. Left to itself V8 lets some seventy megabytes of them gather before it looks, which
 * is more than all the rest of a runner. Whatever reads one calls this first: what the batches before it left is given back as soon as
 * it comes to MOST_GARBAGE. That costs a few milliseconds of each large batch.
 */
export function releaseBatchMemory(): void {
  if (collect === undefined || sizeNow() - sizeAfter < MOST_GARBAGE) return;
  collect();
  sizeAfter = sizeNow();
}

const MOST_GARBAGE = 4 * 1024 * 1024;

let collect: (() => void) | undefined;

/**
 * The command line begins with this; a program that merely uses what Tidemark is made of keeps V8 as it set it.
 * Both hold in a process that runs already: the collector is there for contexts made from now on, and the space for young objects
 * stays at the 2 MB it begins with. Else texts on their way let it grow to 32. Set here, not in NODE_OPTIONS, a script or a unit:
 * so they hold however the command is started.
 */
export function keepMemorySmall(): void {
  setFlagsFromString('--expose-gc');
  setFlagsFromString('--semi-space-growth-factor=1');
  collect = runInNewContext('gc') as () => void;
  sizeAfter = sizeNow();
}

/** What V8 holds, dead or not: texts on its heap, and the buffers beside it. */
function sizeNow(): number {
  const { used_heap_size: heap, external_memory: external } = getHeapStatistics();
  return heap + external;
}

let sizeAfter = 0;
