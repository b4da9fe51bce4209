import { execFileSync } from 'node:child_process';
import { mkdtemp, readFile, readdir, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  batchFiles,
  checksumOf,
  isNewestProcessed,
  markProcessed,
  newestCheckpoint,
  openChangeLog,
  readBatch,
  type ChangeLog,
} from '../../runner/change-log/chain.js';
import {
  compressApplied,
  findBatch,
  oldestBatch,
  removeAbandoned,
  startCompressing,
} from '../../runner/change-log/applied.js';
import type { BatchMetadata } from '../../runner/batch/metadata.js';
import { pruneChangeLog } from '../../runner/load/retention.js';
import { publishBatch, publishCheckpoint } from '../../runner/change-log/publish.js';

let root: string;
let log: ChangeLog;
beforeEach(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'tidemark-log-'));
  log = await openChangeLog(path.join(root, 'cdc_logs'), 'orders');
});
afterEach(async () => {
  await rm(root, { recursive: true, force: true });
});

const LINES = '{"id":1,"note":"line one"},\n{"id":2,"note":"äöü 🙂"}';
const DAY_MS = 86_400_000;
const idOf = (day: number) => `changes_202602${String(day).padStart(2, '0')}_090000_000`;
const instantOf = (day: number) => `2026-02-${String(day).padStart(2, '0')}T09:00:00+00:00`;

/** The batch of a day of February, its sequence being the day. */
function metadata(day: number): BatchMetadata & { batch_id: string } {
  return {
    batch_id: idOf(day),
    table: 'orders',
    shard: null,
    shard_layout: null,
    sequence: day,
    extracted_at: instantOf(day),
    change_count: 2,
    watermark: null,
    high_watermark: null,
    floor: instantOf(day),
    snapshot: '10:10:',
    sweep: {
      complete: true,
      is_full: false,
      undated: null,
      from_floor: null,
      from_high_watermark: null,
      counters: null,
      from_transaction: null,
      before_transaction: '10',
      fills: [],
    },
    system_identifier: '1',
    database_oid: '1',
    timeline: 1,
    columns: ['id', 'note'],
    columns_fingerprint: 'f',
    unfilled_columns: [],
    relation_oid: null,
    horizon: null,
    full_sweep: null,
    previous_batch_id: null,
    previous_checksum: null,
    checksum: checksumOf(LINES),
  };
}

async function applied(...days: number[]): Promise<void> {
  for (const day of days) await markProcessed(log, await publishBatch(log, metadata(day), LINES));
}

const compress = (name: string) => compressApplied(log, path.join(log.processed, name));
const inProcessed = async () => (await readdir(log.processed)).sort();

describe('an applied batch', () => {
  it("is compressed: whole, its owner's alone, readable by gzip, and read as before", async () => {
    const text = await readFile(await publishBatch(log, metadata(1), LINES), 'utf8');
    await markProcessed(log, path.join(log.folder, `${idOf(1)}.json`));
    await compress(`${idOf(1)}.json`);
    expect(await inProcessed()).toEqual([`${idOf(1)}.json.gz`]);
    const file = path.join(log.processed, `${idOf(1)}.json.gz`);
    expect(execFileSync('gzip', ['-dc', file], { encoding: 'utf8' })).toBe(text);
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect(await readBatch(file)).toMatchObject({ text, head: { batch_id: idOf(1) } });
    expect(await isNewestProcessed(log)).toBe(true);
  });

  it('may be put back as it is, to be applied again', async () => {
    await applied(1);
    await compress(`${idOf(1)}.json`);
    await rename(path.join(log.processed, `${idOf(1)}.json.gz`), path.join(log.folder, `${idOf(1)}.json.gz`));
    expect(await batchFiles(log)).toEqual([path.join(log.folder, `${idOf(1)}.json.gz`)]);
  });

  it('that a loader had compressed when it died, but not removed, is removed; one of other content is not', async () => {
    await applied(1, 2);
    const file = path.join(log.processed, `${idOf(1)}.json`);
    const text = await readFile(file);
    await compress(path.basename(file));
    await writeFile(file, text);
    await compress(path.basename(file));
    expect(await inProcessed()).toEqual([`${idOf(1)}.json.gz`, `${idOf(2)}.json`]);
    await writeFile(file, 'something else');
    await expect(compress(path.basename(file))).rejects.toThrow('is there already, with other content');
    expect(await readFile(file, 'utf8')).toBe('something else');
  });

  it('that two loaders compress at once is compressed once', async () => {
    await applied(1);
    await Promise.all([1, 2, 3].map(() => compress(`${idOf(1)}.json`)));
    expect(await inProcessed()).toEqual([`${idOf(1)}.json.gz`]);
  });

  it.each<[string, (bytes: Buffer) => Buffer, string]>([
    ['is truncated', (bytes) => bytes.subarray(0, bytes.length - 12), 'it is no compressed file, or it is truncated'],
    [
      'was altered',
      (bytes) => {
        bytes[30] = (bytes[30] ?? 0) ^ 255;
        return bytes;
      },
      'it is no compressed file, or it is truncated',
    ],
    ['is no compressed file', () => Buffer.from('{}'), 'it is no compressed file, or it is truncated'],
    ['is empty', () => Buffer.alloc(0), 'a batch file cannot be loaded'],
  ])('that %s is refused by name', async (_, spoil, message) => {
    await applied(1);
    await compress(`${idOf(1)}.json`);
    const file = path.join(log.processed, `${idOf(1)}.json.gz`);
    await writeFile(file, spoil(await readFile(file)));
    await expect(readBatch(file)).rejects.toMatchObject({
      message: expect.stringContaining(message) as string,
      detail: file,
    });
  });

  it('is found by its name, wherever it lies', async () => {
    await applied(1, 2);
    await publishBatch(log, metadata(3), LINES);
    await compress(`${idOf(1)}.json`);
    for (const day of [1, 2, 3])
      expect(await findBatch(log, idOf(day))).toMatchObject({ head: { batch_id: idOf(day) } });
    expect(await findBatch(log, idOf(4))).toBeUndefined();
    expect(await findBatch(log, '../orders/checkpoints/1')).toBeUndefined();
  });
});

describe('retention', () => {
  /** As many days as have passed since noon of a day of February. */
  const since = (day: number) => (Date.now() - Date.parse(instantOf(day)) - 3 * 3_600_000) / DAY_MS;
  const noted: string[] = [];
  /** A ledger in which all batches are, and all but those of the days are settled. */
  const ledger = (...unsettled: number[]) => ({
    ask: (names: readonly string[]) =>
      Promise.resolve({
        known: new Set(names),
        settled: new Set(names.filter((name) => !unsettled.map(idOf).includes(name))),
      }),
    note: async (names: readonly string[]) => {
      expect((await inProcessed()).filter((name) => names.includes(name.replace(/\.json(\.gz)?$/, '')))).toHaveLength(
        names.length,
      );
      noted.push(...names);
    },
  });
  const pruned = (day: number, asked = ledger()) => pruneChangeLog(log, since(day), asked);
  const checkpoints = async () => (await readdir(log.checkpoints)).sort();

  it('removes applied batches that are older, with their checkpoints, and no others', async () => {
    await applied(1, 9, 11, 15);
    await compress(`${idOf(1)}.json`);
    await writeFile(path.join(log.processed, 'changes_from_elsewhere.json'), '{}');
    expect(await pruned(10)).toEqual({ batch_files: 2, checkpoints: 2 });
    expect(await inProcessed()).toEqual([`${idOf(11)}.json`, `${idOf(15)}.json`, 'changes_from_elsewhere.json']);
    expect(await checkpoints()).toEqual(['11.json', '15.json']);
    expect(await oldestBatch(log)).toBe(idOf(11));
    expect(await pruned(10)).toEqual({ batch_files: 0, checkpoints: 0 });
  });

  it('notes in the ledger which it removes, before it does', async () => {
    await applied(1, 9, 11);
    noted.splice(0);
    await pruned(10);
    expect(noted.splice(0)).toEqual([idOf(1), idOf(9)]);
    await pruneChangeLog(log, since(15), ledger(), true);
    expect(noted).toEqual([]);
  });

  it('keeps the newest batch and the newest checkpoint, whatever their age', async () => {
    await applied(1, 2);
    await publishCheckpoint(log, {
      ...metadata(3),
      batch_id: null,
      checksum: null,
      previous_batch_id: idOf(2),
      previous_checksum: checksumOf(LINES),
    });
    await pruned(15);
    expect(await inProcessed()).toEqual([`${idOf(2)}.json`]);
    expect(await newestCheckpoint(log)).toMatchObject({ sequence: 3 });
    expect(await isNewestProcessed(log)).toBe(true);
  });

  it('stops at a batch that still waits: it and what follows it stay, with their checkpoints', async () => {
    await applied(1);
    await publishBatch(log, metadata(2), LINES);
    await applied(3, 4);
    expect(await pruned(15)).toEqual({ batch_files: 1, checkpoints: 1 });
    expect(await checkpoints()).toEqual(['2.json', '3.json', '4.json']);
    expect(await inProcessed()).toEqual([3, 4].map((day) => `${idOf(day)}.json`));
    expect([await batchFiles(log), await oldestBatch(log)]).toEqual([
      [path.join(log.folder, `${idOf(2)}.json`)],
      idOf(2),
    ]);
  });

  it('stops at a batch that the ledger has not settled, so that it leaves no hole', async () => {
    await applied(1, 2, 3, 4);
    expect(await pruned(15, ledger(2))).toEqual({ batch_files: 1, checkpoints: 1 });
    expect(await inProcessed()).toEqual([2, 3, 4].map((day) => `${idOf(day)}.json`));
    expect(await checkpoints()).toEqual(['2.json', '3.json', '4.json']);
  });
});

describe('looking after applied batches', () => {
  it('compresses them, those of an earlier run too', async () => {
    await applied(1, 2, 3);
    const compressing = startCompressing(log);
    compressing.add(path.join(log.processed, `${idOf(3)}.json`));
    await compressing.finish();
    expect(await inProcessed()).toEqual([1, 2, 3].map((day) => `${idOf(day)}.json.gz`));
  });

  it('fails no load: what goes wrong is said', async () => {
    await applied(1);
    await writeFile(path.join(log.processed, `${idOf(1)}.json.gz`), 'something else');
    const compressing = startCompressing(log);
    compressing.add(path.join(log.processed, `${idOf(1)}.json`));
    await expect(compressing.finish()).resolves.toBeUndefined();
    expect(await inProcessed()).toHaveLength(2);
  });

  it('removes temporary files that nobody has written to for an hour', async () => {
    const [old, fresh] = ['.tmp-1-a', '.tmp-1-b'].map((name) => path.join(log.processed, name));
    for (const file of [old ?? '', fresh ?? '']) await writeFile(file, '');
    await utimes(old ?? '', new Date(Date.now() - 2 * 3_600_000), new Date(Date.now() - 2 * 3_600_000));
    await removeAbandoned(log, Date.now());
    expect(await inProcessed()).toEqual(['.tmp-1-b']);
  });
});
