import { backOff } from 'exponential-backoff';
import { isPassing, type Link } from '../base/database.js';
import { HeldError } from '../base/errors.js';
import { logger } from '../base/logger.js';

const ATTEMPTS = 6;
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 10_000;

/**
 * Does `work`, which is safe to repeat, again after a fault that passes: a lost connection, a deadlock, a server that restarts. It gets a
 * new connection then.
 * Pauses grow from a quarter of a second to four, each cut at random, so that many who failed together do not come back together.
 * @throws what `work` threw last: at once where repeating cannot help
 */
export function retrying<T>(
  table: string,
  link: Pick<Link, 'renew'>,
  signal: AbortSignal | undefined,
  work: () => Promise<T>,
): Promise<T> {
  let hasFailed = false;
  const attempt = async () => {
    if (hasFailed) await link.renew();
    return work();
  };
  return backOff(attempt, {
    numOfAttempts: ATTEMPTS,
    startingDelay: FIRST_PAUSE_MS,
    maxDelay: LONGEST_PAUSE_MS,
    jitter: 'full',
    retry: (error: unknown, attempts) => {
      // The session that was lost may hold its lock until the server notices.
      const canPass = isPassing(error) || (hasFailed && error instanceof HeldError);
      if (!canPass || attempts >= ATTEMPTS || signal?.aborted === true) return false;
      hasFailed = true;
      logger.warn({ table }, `${(error as Error).message}: attempt ${attempts + 1} of ${ATTEMPTS} follows`);
      return true;
    },
  });
}
