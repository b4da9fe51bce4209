import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statfsSync } from 'node:fs';
import { freemem, tmpdir } from 'node:os';
import path from 'node:path';
import { isAlive } from '../../runner/base/process.js';

const PREFIX = 'tidemark-suite-';
const HAS_PROC = existsSync('/proc/self/environ');
const PATIENCE_MS = 10_000;

const IN_MEMORY = '/dev/shm';
/** What a run with three workers writes at most, with room to spare, in bytes. */
const ROOM = 6 * 1024 ** 3;

/** A database is three hundred files, and tests make thousands: in memory that takes a tenth of the time. TMPDIR, where it is set, decides. */
function placeOfRuns(): string {
  if (process.env.TMPDIR !== undefined || !existsSync(IN_MEMORY)) return tmpdir();
  const { bavail, bsize } = statfsSync(IN_MEMORY);
  return Math.min(bavail * bsize, freemem()) > ROOM ? IN_MEMORY : tmpdir();
}

/**
 * Makes the folder of a run, in which are its servers and all that its tests write. It carries the number of this process, by which the
 * next run knows one that was killed: it ends what that left running, and removes it.
 */
export function makeRunFolder(): string {
  const place = placeOfRuns();
  for (const name of readdirSync(place)) {
    const owner = name.startsWith(PREFIX) ? Number.parseInt(name.slice(PREFIX.length), 10) : Number.NaN;
    if (owner > 0 && hasEnded(owner)) removeRunFolder(path.join(place, name));
  }
  const folder = mkdtempSync(path.join(place, `${PREFIX}${String(process.pid)}-`));
  // The servers' OS user passes through it.
  chmodSync(folder, 0o711);
  return folder;
}

/** One that was killed may stay in the list of processes until its parent collects it. */
const hasEnded = (pid: number) => !isAlive(pid) || /\) [ZX] /.test(readQuietly(`/proc/${String(pid)}/stat`));

/** Ends at once what this process has started itself, where there is a /proc: a worker that goes on would write, or start a server anew. */
export function endWorkers(): void {
  const pid = String(process.pid);
  for (const worker of readQuietly(`/proc/${pid}/task/${pid}/children`).split(' ').filter(Boolean)) end(Number(worker));
}

/** Ends every process that has to do with the folder, at once, and removes it. It waits without letting go, as a process that exits must. */
export function removeRunFolder(folder: string): void {
  for (const deadline = Date.now() + PATIENCE_MS; Date.now() < deadline; ) {
    const left = processesOf(folder);
    if (left.length === 0) break;
    for (const pid of left) end(pid);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50);
  }
  // A test mounts a small disk in it; the innermost first.
  for (const mounted of readQuietly('/proc/mounts').split('\n').reverse()) {
    const [, place = ''] = mounted.split(' ');
    if (place.startsWith(`${folder}/`)) spawnSync('umount', ['-l', place]);
  }
  rmSync(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 });
}

/** What was started with it: servers, commands, services, their children. Without a /proc the servers alone are found. */
function processesOf(folder: string): number[] {
  const found = HAS_PROC
    ? readdirSync('/proc')
        .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
        .filter((pid) => ['cmdline', 'environ'].some((file) => readQuietly(`/proc/${pid}/${file}`).includes(folder)))
        .map(Number)
    : serversBelow(folder);
  return found.filter(isAlive);
}

function serversBelow(folder: string): number[] {
  return (existsSync(folder) ? readdirSync(folder, { recursive: true, encoding: 'utf8' }) : [])
    .filter((name) => path.basename(name) === 'postmaster.pid')
    .map((name) => Number.parseInt(readQuietly(path.join(folder, name)), 10))
    .filter((pid) => pid > 0);
}

function readQuietly(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

/** A server takes its sessions with it when it is told to quit, and leaves them behind when it is killed. */
function end(pid: number): void {
  const isServer = (readQuietly(`/proc/${String(pid)}/cmdline`).split('\0')[0] ?? '').endsWith('/postgres');
  try {
    process.kill(pid, isServer || !HAS_PROC ? 'SIGQUIT' : 'SIGKILL');
  } catch {
    // It has ended meanwhile.
  }
}
