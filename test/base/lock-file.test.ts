import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { withLock } from '../../runner/base/lock-file.js';
import { processIdentity } from '../../runner/base/process.js';

let folder: string;
let file: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'tidemark-lock-'));
  file = path.join(folder, '.lock');
});
afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});

const take = () => withLock(file, () => readdir(folder));

describe('a lock', () => {
  test('is held while the work goes on, by one at a time, and gone afterwards, also when the work fails', async () => {
    let running = 0;
    const work = async () => {
      running += 1;
      expect(running).toBe(1);
      await sleep(20);
      running -= 1;
    };
    await Promise.all([1, 2, 3].map(() => withLock(file, work)));
    await expect(withLock(file, () => Promise.reject(new Error('no')))).rejects.toThrow('no');
    expect(await readdir(folder)).toEqual([]);
    expect(await take()).toEqual(['.lock']);
  });

  test('of a process that was killed is taken over at once, also where another has its number by now', async () => {
    const dead = spawn('sleep', ['600']);
    await once(dead, 'spawn');
    const text = `${String(dead.pid)} ${(await processIdentity(dead.pid ?? 0)) ?? ''}`;
    dead.kill('SIGKILL');
    await once(dead, 'exit');
    for (const holder of [text, `${String(process.ppid)} another life`, 'nonsense']) {
      await symlink(holder, file);
      expect(await take()).toEqual(['.lock']);
    }
  });

  test('that is a plain file was left by an older release, and is taken over', async () => {
    await writeFile(file, '4711 a command that was killed');
    expect(await take()).toEqual(['.lock']);
    expect(await readdir(folder)).toEqual([]);
  });

  test('of a process that lives stays with it, however long it is silent', async () => {
    const holder = spawn('sleep', ['600']);
    await once(holder, 'spawn');
    holder.kill('SIGSTOP');
    await symlink(`${String(holder.pid)} ${(await processIdentity(holder.pid ?? 0)) ?? ''}`, file);
    let isTaken = false;
    const taken = take().then(() => {
      isTaken = true;
    });
    await sleep(1000);
    expect(isTaken).toBe(false);
    holder.kill('SIGKILL');
    await taken;
  });
});
