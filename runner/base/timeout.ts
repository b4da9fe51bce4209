import { setTimeout as sleep } from 'node:timers/promises';

/**
 * Waits for something, but not for ever: a server that takes a question and is silent must not stop what can do without the answer.
 * @param seconds how long
 * @throws an error with code CONNECT_TIMEOUT, as for a server that does not answer, when that time is over; the work goes on unheeded then
 */
export async function within<T>(seconds: number, work: Promise<T>): Promise<T> {
  const timer = new AbortController();
  const silence = sleep(seconds * 1000, undefined, timer).then(() => {
    throw Object.assign(new Error(`no answer within ${seconds} seconds`), { code: 'CONNECT_TIMEOUT' });
  });
  return Promise.race([work, silence]).finally(() => timer.abort());
}
