import { mkdir, mkdtemp, readFile, readdir, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { loadSettings, type Settings } from '../../runner/base/settings.js';
import { ensureLogFolder, openLogFile, type LogFile } from '../../runner/services/logs.js';
import { foldersIn } from '../support/databases.js';
import { until } from '../support/wait.js';

let folder: string;
let settings: Settings;
let log: LogFile;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'tidemark-logs-'));
  settings = loadSettings(
    { ...foldersIn(folder), LOG_ROTATE_BYTES: '10000', LOG_ROTATE_FILES: '2', ENV_FILE: '/dev/null' },
    folder,
  );
  await ensureLogFolder(settings);
  log = openLogFile(settings, 'loader');
});
afterEach(async () => {
  vi.restoreAllMocks();
  await log.close();
  await rm(folder, { recursive: true, force: true });
});

const logs = () => path.join(folder, 'logs');
const names = async () => (await readdir(logs())).filter((name) => !name.startsWith('.')).sort();

/** Writes numbered lines, one at a time as a service does, until the files are as `wanted` says. */
async function writeUntil(wanted: () => Promise<boolean>): Promise<number> {
  let written = 0;
  await until(async () => {
    for (let line = 0; line < 10; line += 1, written += 1)
      log.write(`${String(written).padStart(6, '0')} ${'x'.repeat(92)}\n`);
    return wanted();
  });
  return written;
}

describe('a log file', () => {
  test('is for its owner only, rotates by size into compressed files, and keeps as many as it is told', async () => {
    await writeUntil(async () => (await names()).filter((name) => name.endsWith('.gz')).length === 2);
    await writeUntil(async () => (await stat(path.join(logs(), 'scd2_loader.log'))).size > 2000);
    await log.close();
    expect((await stat(path.join(logs(), 'scd2_loader.log'))).mode & 0o777).toBe(0o600);
    const old = (await names()).filter((name) => name.endsWith('.gz'));
    expect(old.length).toBeLessThanOrEqual(2);
    for (const name of old) expect(name).toMatch(/^scd2_loader\.\d{4}-\d\d-\d\d\.\d+\.log\.gz$/);
    const text = gunzipSync(await readFile(path.join(logs(), old[0] ?? ''))).toString();
    expect(text.split('\n').filter((line) => line !== '' && !/^\d{6} x{92}$/.test(line))).toEqual([]);
  });

  test('of another day is rotated when the service begins', async () => {
    const file = path.join(logs(), 'extractor.log');
    await writeFile(file, 'of old\n');
    const old = new Date(Date.now() - 2 * 86_400_000);
    await utimes(file, old, old);
    const other = openLogFile(settings, 'extractor');
    other.write('of today\n');
    await until(async () => (await names()).some((name) => /^extractor\..*\.gz$/.test(name)));
    await other.close();
    const [rotated = ''] = (await names()).filter((name) => /^extractor\..*\.gz$/.test(name));
    expect(gunzipSync(await readFile(path.join(logs(), rotated))).toString()).toBe('of old\n');
    expect(await readFile(file, 'utf8')).toBe('of today\n');
  });

  test('that cannot be written any more sends its lines to stderr and is tried again', async () => {
    const said: string[] = [];
    vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
      said.push(String(text));
      return true;
    });
    await writeFile(`${logs()}.blocked`, '');
    // The log may make its folder anew at any moment.
    await until(async () => {
      await rm(logs(), { recursive: true, force: true });
      return rename(`${logs()}.blocked`, logs()).then(
        () => true,
        () => false,
      );
    });
    await writeUntil(() => Promise.resolve(said.some((text) => text.includes('x'.repeat(92)))));
    expect(said.join('')).toContain('the log file cannot be written, lines go here meanwhile');
    await rm(logs());
    await mkdir(logs());
    vi.spyOn(Date, 'now').mockReturnValue(Date.now() + 60_000);
    await writeUntil(async () => (await names()).includes('scd2_loader.log'));
  });

  test('whose folder cannot be made is refused with the setting', async () => {
    await writeFile(path.join(folder, 'file'), '');
    const wrong = { ...settings, log_dir: path.join(folder, 'file', 'logs') };
    await expect(ensureLogFolder(wrong)).rejects.toMatchObject({
      message: 'the folder of the log files cannot be written',
      hint: expect.stringContaining('LOG_DIR') as string,
    });
  });
});
