import cliProgress from 'cli-progress';
import { logger } from '../base/logger.js';

/** How a long run tells how far it is. */
export interface Progress {
  /** Counts `n` more items as done. */
  readonly advance: (n: number) => void;
  /** Says how many items there are in all, once that is known. */
  readonly expect: (total: number) => void;
}

/** Off a terminal, a log line at most this often: often enough to see life, seldom enough to keep a log readable. */
const LOG_INTERVAL_MS = 5_000;
const BAR_WIDTH = 40;

/** Items done of all there are (undefined where nobody knows), and since when. */
export type Standing = Readonly<{ label: string; done: number; total: number | undefined; seconds: number }>;

/** How far a run is, how fast it goes and how long it will take, in words. The total may be an estimate, and too low. */
export function describeStanding({ label, done, total, seconds }: Standing): string {
  const rate = seconds > 0 ? done / seconds : 0;
  const speed = rate > 0 ? `, ${Math.round(rate)} a second` : '';
  if (total === undefined) return `${label}: ${done}${speed}`;
  const left = rate > 0 && total > done ? `, ${formatSeconds((total - done) / rate)} left` : '';
  return `${label}: ${done} of ${Math.max(total, done)}${speed}${left}`;
}

function formatSeconds(seconds: number): string {
  const whole = Math.ceil(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

/**
 * Shows the progress of a long run on stderr while it lasts: a bar on a terminal, log lines elsewhere.
 * @param label what is being done, e.g. "load orders"
 * @param total items to do in all; undefined where nobody knows yet: only the count and the rate are shown
 */
export async function withProgress<T>(
  label: string,
  total: number | undefined,
  work: (progress: Progress) => Promise<T>,
): Promise<T> {
  const started = performance.now();
  const known = { label, done: 0, total };
  const standing = () => ({ ...known, seconds: (performance.now() - started) / 1000 });
  const bar = process.stderr.isTTY ? startBar(standing) : undefined;
  let lastLog = started;
  const advance = (n: number) => {
    known.done += n;
    bar?.increment();
    if (bar !== undefined || performance.now() - lastLog < LOG_INTERVAL_MS) return;
    lastLog = performance.now();
    logger.info(describeStanding(standing()));
  };
  const expect = (number: number) => {
    known.total = number;
  };
  return work({ advance, expect }).finally(() => bar?.stop());
}

function startBar(standing: () => Standing): cliProgress.SingleBar {
  const format = (): string => {
    const { done, total } = standing();
    const filled = total === undefined || total === 0 ? 0 : Math.round(Math.min(1, done / total) * BAR_WIDTH);
    const bar = total === undefined ? '' : `[${'='.repeat(filled)}${'-'.repeat(BAR_WIDTH - filled)}] `;
    return `${bar}${describeStanding(standing())}`;
  };
  // A run that ends on a signal stops its bar itself; the bar's own handlers would be one more owner of the signal.
  const bar = new cliProgress.SingleBar({ format, stream: process.stderr, clearOnComplete: true, gracefulExit: false });
  bar.start(0, 0);
  return bar;
}
