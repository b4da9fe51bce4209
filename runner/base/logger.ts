import { createRequire } from 'node:module';
import { pino, stdTimeFunctions, type Logger } from 'pino';
import type pretty from 'pino-pretty';

const LEVELS = { DEBUG: 'debug', INFO: 'info', WARNING: 'warn', ERROR: 'error' } as const;

/** Where log lines go: anything that takes a line. */
export type LogSink = Readonly<{ write: (line: string) => void }>;

/** For people: one line each, with the time in UTC. Also reads what the log files hold. */
export const prettyOptions = (isTerminal: boolean): pretty.PrettyOptions => ({
  colorize: isTerminal,
  translateTime: 'UTC:yyyy-mm-dd HH:MM:ss',
  ignore: 'pid,hostname,run_id,service',
  singleLine: true,
});

/** For people, to stderr. Loaded with the first line there is to say: most commands say none. */
function openStderr(): LogSink {
  const make = createRequire(import.meta.url)('pino-pretty') as typeof pretty;
  return make({ ...prettyOptions(process.stderr.isTTY), destination: 2, sync: true });
}

let sink: LogSink | undefined;
const context: Record<string, string> = {};

/** Progress and logs, to stderr: stdout is for results. A service logs to its file instead. */
export const logger: Logger = pino(
  {
    level: 'info',
    base: null,
    timestamp: stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
    mixin: () => ({ ...context }),
  },
  {
    write: (line) => (sink ??= openStderr()).write(line),
  },
);

/** Sets how much is logged, by the names LOG_LEVEL takes. */
export function setLogLevel(level: keyof typeof LEVELS): void {
  logger.level = LEVELS[level];
}

/** Puts these fields into every line from now on: which service, which run. */
export function setLogContext(fields: Readonly<Record<string, string>>): void {
  Object.assign(context, fields);
}

/** Sends every line, as JSON, to another place from now on. */
export function setLogSink(other: LogSink): void {
  sink = other;
}

const warned = new Set<string>();

/** Warns once a process of what a key names: a round of "--watch" need not repeat what the one before it said. */
export function warnOnce(key: string, message: string, about: object = {}): void {
  if (warned.has(key)) return;
  warned.add(key);
  logger.warn(about, message);
}

/** Warns of everything once more from now on. */
export function warnAnew(): void {
  warned.clear();
}
