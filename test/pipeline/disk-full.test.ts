import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { lsnOf } from '../../runner/base/replication.js';
import { withLock } from '../../runner/base/lock-file.js';
import { extractTables } from '../../runner/extract/tables.js';
import { createPipeline } from '../support/databases.js';
import { createSourceTable, registerDimension } from '../support/dimensions.js';
import { captureFromLog, stream } from '../support/log.js';
import { loadTables } from '../../runner/load/tables.js';
import { readPosition, slotOf } from '../../runner/stream/position.js';

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

  it('stops the reader of the log likewise: nothing is confirmed that is not there, and nothing is lost once there is room', async () => {
    const pipeline = await createPipeline({
      CDC_LOG_DIR: path.join(disk, 'logged'),
      BATCH_SIZE: '50',
      BATCH_SIZE_MAX: '50',
    });
    await createSourceTable(pipeline.source, 'things', [{ source: 'id', type: 'integer', role: 'business key' }]);
    await registerDimension(pipeline.warehouse, 'things', 'things', [
      { source: 'id', type: 'integer', role: 'business key' },
    ]);
    await captureFromLog(pipeline, 'things');
    await stream(pipeline);
    const ballast = path.join(disk, 'ballast');
    await rm(path.join(disk, 'cdc_logs'), { recursive: true });
    await writeFile(ballast, Buffer.alloc(128 * 1024));
    // One transaction that is written in parts, and others after it.
    await pipeline.source`insert into things select generate_series(1, 400)`;
    for (let id = 401; id <= 420; id += 1) await pipeline.source`insert into things values (${id})`;
    await expect(stream(pipeline)).rejects.toMatchObject({
      message: 'the disk of the change log is full',
      hint: expect.stringContaining('free some room') as string,
    });
    const { cdc_log_dir: root } = pipeline.settings;
    const { slot } = slotOf(pipeline.settings);
    const [state] = await pipeline.source<{ confirmed: string }[]>`
      select confirmed_flush_lsn::text as confirmed from pg_replication_slots where slot_name = ${slot}`;
    expect(lsnOf(state?.confirmed ?? '')).toBeLessThanOrEqual(lsnOf((await readPosition(root, slot))?.to ?? ''));
    await rm(ballast);
    await stream(pipeline);
    await loadTables({ settings: pipeline.settings, tables: ['things'] });
    expect(
      await pipeline.warehouse`select count(*) as versions, count(distinct id) as keys from dim_things_history`,
    ).toEqual([{ versions: '420', keys: '420' }]);
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
