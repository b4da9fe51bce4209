/** Notices that the clock of the source was set back, by the clock of this machine that never is. */

export interface ClockReading {
  /** What the clock of the source said. */
  readonly clock: string;
  /** Before it was asked and after it had answered, in ms of performance.now. */
  readonly asked_at: number;
  readonly read_at: number;
}

interface Watched {
  readonly last: ClockReading;
  /** The clock at the beginning of the full sweep that was the newest one when a step was noticed. */
  readonly doubted: string | undefined;
}

const watched = new Map<string, Watched>();

/** Clocks are slewed by less than a thousandth; one that has come a second less far was set back. */
const wasSetBack = (last: ClockReading, now: ClockReading): boolean =>
  Date.parse(now.clock) - Date.parse(last.clock) < (now.asked_at - last.read_at) * 0.999 - 1000;

/**
 * Whether the clock was set back since this process last looked, although it may read later than it did then; and still true of the next
 * look where no full sweep has been published since.
 * @param chain a table or shard of a source
 * @param fullSweep the clock at the beginning of its newest full sweep
 */
export function noticesStep(chain: string, now: ClockReading, fullSweep: string): boolean {
  const before = watched.get(chain);
  const isDoubted = before !== undefined && (wasSetBack(before.last, now) || before.doubted === fullSweep);
  watched.set(chain, { last: now, doubted: isDoubted ? fullSweep : undefined });
  return isDoubted;
}
