import { setTimeout as sleep } from 'node:timers/promises';
import { EXIT, UsageError, describeError } from '../base/errors.js';
import { logger } from '../base/logger.js';
import type { Settings } from '../base/settings.js';

const NOTICE_MS = 1000;

/** Those that say how long the work in hand may go on after a signal. */
type Bounds = Pick<Settings, 'shutdown_timeout_seconds'>;

/**
 * Does work with an abort signal that the first SIGINT or SIGTERM raises; a second one ends the process at once, as ever. Where the work goes on for
 * longer than SHUTDOWN_TIMEOUT_SECONDS after the first one, the process ends, and what it had not committed is rolled back.
 */
export async function interruptible<T>(
  { shutdown_timeout_seconds: boundSeconds }: Bounds,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const controller = new AbortController();
  const timers: NodeJS.Timeout[] = [];
  const unlisten = () => {
    process.off('SIGINT', abort);
    process.off('SIGTERM', abort);
  };
  function abort(): void {
    unlisten();
    const said = `finishing the work in hand, for at most ${boundSeconds} seconds; a second signal ends it now`;
    timers.push(
      setTimeout(() => logger.info(said), NOTICE_MS),
      setTimeout(giveUp, boundSeconds * 1000, boundSeconds),
    );
    controller.abort();
  }
  process.on('SIGINT', abort);
  process.on('SIGTERM', abort);
  return work(controller.signal).finally(() => {
    unlisten();
    for (const timer of timers) clearTimeout(timer);
  });
}

const lastWords: (() => Promise<void>)[] = [];
const LAST_WORDS_MS = 3000;

/** What is to be noted if the work in hand is given up, before the process ends: a few seconds are left for it. */
export function onGiveUp(note: () => Promise<void>): void {
  lastWords.push(note);
}

function giveUp(seconds: number): void {
  logger.error(
    `the work in hand did not end within ${seconds} seconds of the signal: it is given up, and what was not committed is rolled back`,
  );
  // The work in hand would keep the process alive.
  const end = () => process.exit(EXIT.failed);
  setTimeout(end, LAST_WORDS_MS);
  void Promise.allSettled(lastWords.map((note) => note())).then(end);
}

/** How rounds are run: with an interval (seconds) again and again, without one once. */
export interface Rounds {
  readonly interval?: number | undefined;
  /** Waits in place of the interval. */
  readonly wait?: ((signal: AbortSignal) => Promise<unknown>) | undefined;
}

/**
 * Runs `round` once, or again and again until interrupted; the round in hand is told by the signal.
 * A round that fails ends a single run; in an endless one it is logged and tried again, because most faults pass: wrong usage does not.
 * @returns whether a single run was interrupted, so that it may have left something to do
 */
export const runRounds = (
  bounds: Bounds,
  { interval, wait = (signal) => sleep((interval ?? 0) * 1000, undefined, { signal }) }: Rounds,
  round: (signal: AbortSignal) => Promise<void>,
): Promise<boolean> =>
  interruptible(bounds, async (signal) => {
    if (interval === undefined) {
      await round(signal);
      return signal.aborted;
    }
    while (!signal.aborted) {
      await round(signal).catch(tolerate);
      await wait(signal).catch(() => undefined);
    }
    return false;
  });

function tolerate(error: unknown): void {
  if (error instanceof UsageError) throw error;
  logger.error(describeError(error, logger.isLevelEnabled('debug')));
}

/** What a single run says, and how it exits, when it was interrupted before its end. */
export function sayInterrupted(what: string): void {
  logger.warn(`interrupted: ${what} goes on with the rest when it is run again`);
  process.exitCode = EXIT.failed;
}
