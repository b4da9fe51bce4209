import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { prettyFactory } from 'pino-pretty';
import { logger, prettyOptions, setLogSink, warnAnew } from '../../runner/base/logger.js';
import { PROJECT_ROOT } from '../../runner/base/settings.js';
import { resetMeasurements } from '../../runner/run/measurements.js';
import type { Command } from '../../runner/commands/command.js';
import { environmentFor } from './roles.js';
import { tellWhenStuck } from './wait.js';

export interface CliResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

const CLI = path.join(PROJECT_ROOT, 'dist', 'cli.js');

/**
 * Runs a command as a user would, with `env` and nothing else of this process's settings, but for the roles of TEST_ROLES=1. In this process,
 * from the door on: a process of its own takes longer to begin than most commands take. What a process is needed for has one (startCli).
 */
export function runCli(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<CliResult> {
  return isCalling || needsProcess(args, env) ? startCli(args, env).ended : callCli(args, env);
}

/** They are of the process that they run in, serve until they are told to end, or read the terminal. */
const OF_PROCESSES = ['init', 'completion', 'console', 'db', 'forget', 'serve'];

/** NODE_ENV lets a failpoint end the process; the others Node takes up only when it begins. */
const needsProcess = (args: readonly string[], env: Readonly<Record<string, string>>): boolean =>
  (OF_PROCESSES.includes(args[0] ?? '') && !args.includes('--help')) ||
  args.some((each) => ['--watch', '--follow', '-f', '--get-yargs-completions'].includes(each)) ||
  Object.keys(env).some((name) => name.startsWith('NODE_') || name === 'TZ' || name === 'PATH');

/** One is called at a time: environment and output are the process's. */
let isCalling = false;

async function callCli(args: readonly string[], env: Readonly<Record<string, string>>): Promise<CliResult> {
  isCalling = true;
  const { env: environment, exitCode } = process;
  const { level } = logger;
  const written = { stdout: '', stderr: '' };
  const release = (['stdout', 'stderr'] as const).map((name) =>
    capture(process[name], (text) => (written[name] += text)),
  );
  // Of the run, what is read by the test that goes on meanwhile.
  const ofTheRun = Object.entries(environment).filter(([name]) => /^(TEST_|TMPDIR|VITEST)/.test(name));
  process.env = { ...Object.fromEntries(ofTheRun), ...cleanEnvironment(environmentFor(args, env)) };
  process.exitCode = undefined;
  warnAnew();
  resetMeasurements();
  setLogSink({ write: (line) => process.stderr.write(asPrinted(line)) });
  try {
    const { callCommand } = await import('../../runner/commands/door.js');
    await callCommand(args, VERSION, async (name) => {
      const file = path.join(PROJECT_ROOT, 'runner', 'commands', `${name}.ts`);
      return ((await import(file)) as { command: Command }).command;
    });
    return { code: exitCodeNow(), ...written };
  } finally {
    for (const each of release) each();
    Object.assign(process, { env: environment, exitCode });
    logger.level = level;
    isCalling = false;
  }
}

/** Takes what is written to a stream, until released. */
function capture(stream: NodeJS.WriteStream, take: (text: string) => void): () => void {
  const write = stream.write.bind(stream);
  stream.write = (chunk: Uint8Array | string, ...rest: unknown[]): boolean => {
    take(typeof chunk === 'string' ? chunk : Buffer.from(chunk).toString());
    const done = rest.find((each) => typeof each === 'function') as (() => void) | undefined;
    if (done !== undefined) process.nextTick(done);
    return true;
  };
  return () => {
    stream.write = write;
  };
}

/** As the type checker does not think it: a command sets it. */
const exitCodeNow = (): number => Number(process.exitCode ?? 0);

const asPrinted = prettyFactory(prettyOptions(false));

const { version: VERSION } = JSON.parse(readFileSync(path.join(PROJECT_ROOT, 'package.json'), 'utf8')) as {
  version: string;
};

export interface RunningCli {
  /** Resolves when it has ended; code is null if a signal ended it. */
  readonly ended: Promise<CliResult>;
  /** What it has written to stderr so far. */
  readonly stderr: () => string;
  /** Resolves when stdout matches, or the command has ended. */
  readonly printed: (pattern: RegExp) => Promise<unknown>;
  readonly kill: (signal: NodeJS.Signals) => void;
  readonly pid: number;
}

/** Of what a command has said, in an error of a test that waits in vain. */
const LAST_SAID = 4000;

/** Starts a command and leaves it running. */
export function startCli(args: readonly string[], env: Readonly<Record<string, string>> = {}): RunningCli {
  const child = spawn(process.execPath, [CLI, ...args], {
    env: cleanEnvironment(environmentFor(args, env)),
    cwd: PROJECT_ROOT,
  });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk.toString();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  const told = tellWhenStuck(() => `${args.join(' ')} runs, and said last:\n${stderr.slice(-LAST_SAID)}`);
  const ended = new Promise<CliResult>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => {
      told();
      resolve({ code, stdout, stderr });
    });
  });
  const printed = (pattern: RegExp) =>
    Promise.race([
      ended,
      new Promise<void>((resolve) => {
        child.stdout.on('data', () => {
          if (pattern.test(stdout)) resolve();
        });
      }),
    ]);
  return {
    ended,
    printed,
    pid: child.pid ?? 0,
    stderr: () => stderr,
    kill: (signal) => {
      child.kill(signal);
    },
  };
}

/** An ENV_FILE that is empty keeps a developer's own .env out of the tests. */
const EMPTY_ENV_FILE = '/dev/null';

export function cleanEnvironment(env: Readonly<Record<string, string>>): Record<string, string> {
  return { PATH: process.env.PATH ?? '', HOME: tmpdir(), ENV_FILE: EMPTY_ENV_FILE, ...env };
}
