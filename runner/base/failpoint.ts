let reached = 0;

/** How often the place that TIDEMARK_FAILPOINT names was reached. */
export const timesReached = (): number => reached;

let armed = '';

/** Looked at once: to ask for it takes longer than all that is done here else. */
const isTest = process.env.NODE_ENV === 'test';

/**
 * Where a test may end the process, or make a call fail, as a crash or a bad disk would.
 * Does nothing unless NODE_ENV is test and TIDEMARK_FAILPOINT is set, to `<place or *>:<n>:<kill, stop or error code>`:
 * then the n-th time the place is reached the process is killed, or stopped until SIGCONT, or the call fails with that code.
 */
export function failpoint(place: string): void {
  if (!isTest) return;
  const setting = process.env.TIDEMARK_FAILPOINT ?? '';
  if (setting !== armed) [armed, reached] = [setting, 0];
  const [wanted, ordinal, effect] = setting.split(':');
  if (wanted !== '*' && wanted !== place) return;
  reached += 1;
  if (reached !== Number(ordinal)) return;
  if (effect === 'stop') {
    process.kill(process.pid, 'SIGSTOP');
    return;
  }
  if (effect !== 'kill') throw Object.assign(new Error(`${String(effect)}: failpoint ${place}`), { code: effect });
  process.kill(process.pid, 'SIGKILL');
  // The signal needs a moment, and nothing may happen in it.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
}
