import { spawn } from 'node:child_process';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { PROJECT_ROOT } from '../../runner/base/settings.js';
import { environmentFor } from './roles.js';

export interface CliResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

const CLI = path.join(PROJECT_ROOT, 'dist', 'cli.js');

/** Runs a command as a user would, with `env` and nothing else of this process's settings, but for the roles of TEST_ROLES=1. The test run has built it. */
export function runCli(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<CliResult> {
  return startCli(args, env).ended;
}

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
  const ended = new Promise<CliResult>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => {
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
