import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readFile, readdir, readlink } from 'node:fs/promises';
import { promisify } from 'node:util';
import { hasCode } from './errors.js';

/** What Linux tells of a process; what is hidden from this user is empty. */
export interface ProcessSeen {
  readonly pid: number;
  readonly parent: number;
  readonly args: readonly string[];
  /** The folder it works in. */
  readonly folder: string;
  /** R, S, Z, ... */
  readonly state: string;
  /** When it began, in ticks since the machine did. */
  readonly began: string;
}

/** What is to be seen of a process on Linux; undefined where it is gone. */
export async function lookAtProcess(pid: number): Promise<ProcessSeen | undefined> {
  const place = `/proc/${pid}`;
  const [stat, cmdline, folder] = await Promise.all([
    readFile(`${place}/stat`, 'utf8').catch(() => undefined),
    readFile(`${place}/cmdline`, 'utf8').catch(() => ''),
    readlink(`${place}/cwd`).catch(() => ''),
  ]);
  if (stat === undefined) return undefined;
  // The program's name stands in parentheses and may hold anything, parentheses and blanks too.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [state = '', parent, began = ''] = [fields[0], fields[1], fields[19]];
  return { pid, parent: Number(parent), args: cmdline.split('\0'), folder, state, began };
}

/** The numbers of all processes on Linux; elsewhere none. */
export const processIds = async (): Promise<number[]> =>
  (await readdir('/proc').catch(() => [])).map(Number).filter((pid) => pid > 0);

/**
 * What tells a process from a later one that was given its number: when it began, and in which life of the machine.
 * @returns undefined where no such process lives; one that has ended and waits to be collected counts as gone
 */
export async function processIdentity(pid: number): Promise<string | undefined> {
  if (!Number.isInteger(pid) || pid <= 0) return undefined;
  if (!existsSync('/proc/self/stat')) return identityFromPs(pid);
  const seen = await lookAtProcess(pid);
  if (seen === undefined || seen.state === 'Z' || seen.state === 'X') return undefined;
  const boot = await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => '');
  return `${boot.trim()} ${seen.began}`;
}

async function identityFromPs(pid: number): Promise<string | undefined> {
  const { stdout } = await promisify(execFile)('ps', ['-o', 'lstart=', '-p', String(pid)], {
    env: { PATH: '/bin:/usr/bin', LC_ALL: 'C', TZ: 'UTC' },
  }).catch(() => ({ stdout: '' }));
  return stdout.trim() === '' ? undefined : stdout.trim();
}

/** True when a process of that number exists, whoever owns it. */
export function isAlive(pid: number): boolean {
  try {
    return pid > 0 && process.kill(pid, 0);
  } catch (error) {
    return hasCode(error, 'EPERM');
  }
}

/** Sends a signal. @returns false where the process is gone. @throws EPERM for one of another OS user */
export function signalProcess(pid: number, signal: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, signal);
  } catch (error) {
    if (hasCode(error, 'ESRCH')) return false;
    throw error;
  }
}
