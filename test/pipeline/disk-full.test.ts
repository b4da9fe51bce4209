// Runs once: no version of PostgreSQL changes it.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { withLock } from '../../runner/base/lock-file.js';
import { extractTables } from '../../runner/extract/tables.js';
import { createPipeline } from '../support/databases.js';
import { loadTables } from '../../runner/load/tables.js';

const disk = mkdtempSync(path.join(tmpdir(), 'tidemark-disk-'));

/** A disk of 256 KiB; only root of a machine that allows mounting can have one. */
function mountSmallDisk(): boolean {
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', disk], { stdio: 'ignore' });
    return true;
  } catch {
    process.stderr.write('skipped: a full disk cannot be tried here, because mounting a small one needs root\n');
    return false;
  }
}

const isMounted = mountSmallDisk();
afterAll(() => {
  if (isMounted) execFileSync('umount', [disk]);
  rmSync(disk, { recursive: true });
});

describe.skipIf(!isMounted)('a full disk', () => {
  it('stops extraction with a clear error, leaves no half file, and loses nothing once there is room', async () => {
    const pipeline = await createPipeline({
      CDC_LOG_DIR: path.join(disk, 'cdc_logs'),
      BATCH_SIZE: '50',
      BATCH_SIZE_MAX: '50',
    });
    await pipeline.source`
      insert into orders (customer_id, product_id, quantity, unit_price, total_amount, order_status, order_date, last_updated, created_at)
      select g, 201, 1, 1.10, 1.10, 'pending', now(), clock_timestamp(), now() from generate_series(1, 400) as g`;
    const ballast = path.join(disk, 'ballast');
    await writeFile(ballast, Buffer.alloc(128 * 1024));
    const extract = () => extractTables({ settings: pipeline.settings, tables: [] });
    await expect(extract()).rejects.toMatchObject({
      message: 'the disk of the change log is full',
      hint: expect.stringContaining('free some room') as string,
    });
    const folder = path.join(disk, 'cdc_logs', 'orders');
    const names = (await readdir(folder)).filter((name) => name !== 'processed' && name !== 'checkpoints');
    expect(names.length).toBeGreaterThan(0);
    expect(names.filter((name) => !name.startsWith('changes_'))).toEqual([]);
    for (const name of names) expect((await readFile(path.join(folder, name), 'utf8')).endsWith('\n]}\n')).toBe(true);
    await rm(ballast);
    await extract();
    await loadTables({ settings: pipeline.settings, tables: [] });
    expect(
      await pipeline.warehouse`select count(*) as versions, count(distinct order_key) as keys from dim_orders_history`,
    ).toEqual([{ versions: '400', keys: '400' }]);
    await pipeline.drop();
  });

  it('lets commands take turns all the same, so that what runs can be stopped', async () => {
    const ballast = path.join(disk, 'ballast');
    await expect(writeFile(ballast, Buffer.alloc(512 * 1024))).rejects.toMatchObject({ code: 'ENOSPC' });
    const lock = path.join(disk, '.lock');
    const said: string[] = [];
    const take = (name: string) =>
      withLock(lock, async () => {
        said.push(`${name} begins`);
        await readdir(disk);
        said.push(`${name} ends`);
      });
    await Promise.all([take('one'), take('two')]);
    const [first = ''] = said[0]?.split(' ') ?? [];
    const second = first === 'one' ? 'two' : 'one';
    expect(said).toEqual([`${first} begins`, `${first} ends`, `${second} begins`, `${second} ends`]);
    expect(await readdir(disk)).not.toContain('.lock');
    await rm(ballast);
  });
});
