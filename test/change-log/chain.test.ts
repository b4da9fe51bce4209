import { execFileSync } from 'node:child_process';
import { existsSync, rmSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readFile, readdir, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  batchFiles,
  checksumOf,
  isPublished,
  markProcessed,
  newestCheckpoint,
  openChangeLog,
  readBatch,
  type ChangeLog,
} from '../../runner/change-log/chain.js';
import type { BatchMetadata } from '../../runner/batch/metadata.js';
import { AlreadyPublishedError } from '../../runner/base/durable-file.js';
import { publishBatch, publishCheckpoint, removeUnpublished } from '../../runner/change-log/publish.js';

let root: string;
let log: ChangeLog;
beforeEach(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'tidemark-log-'));
  log = await openChangeLog(path.join(root, 'cdc_logs'), 'orders');
});
afterEach(async () => {
  await chmod(log.folder, 0o700);
  await rm(root, { recursive: true, force: true });
});

const LINES = '{"id":1,"note":"line one"},\n{"id":2,"note":"äöü 🙂"}';

function metadata(sequence: number, changes: Partial<BatchMetadata> = {}): BatchMetadata & { batch_id: string } {
  const place = { time: '2026-02-01T09:00:00', key: ['1'] };
  return {
    batch_id: `changes_20260201_090000_${String(sequence).padStart(3, '0')}`,
    table: 'orders',
    shard: null,
    shard_layout: null,
    sequence,
    extracted_at: '2026-02-01T09:00:00+00:00',
    change_count: 2,
    watermark: null,
    high_watermark: place,
    floor: '2026-02-01T09:00:00+00:00',
    snapshot: '10:10:',
    sweep: {
      complete: true,
      from_floor: null,
      from_high_watermark: null,
      from_transaction: null,
      before_transaction: '10',
    },
    system_identifier: '1',
    database_oid: '1',
    timeline: 1,
    columns: ['id', 'note'],
    columns_fingerprint: 'f',
    previous_batch_id: null,
    previous_checksum: null,
    checksum: checksumOf(LINES),
    ...changes,
  } as BatchMetadata & { batch_id: string };
}

describe('a published batch', () => {
  it('is moved once by however many loaders that move it at the same moment', async () => {
    for (let sequence = 1; sequence <= 200; sequence += 1) {
      const file = await publishBatch(log, metadata(sequence), LINES);
      // The second begins a little later each time, so that it meets the first at each of its steps.
      const later = async () => {
        for (let turn = 0; turn < sequence; turn += 1) await new Promise(setImmediate);
        await markProcessed(log, file);
      };
      await Promise.all([markProcessed(log, file), later(), later()]);
    }
    expect(await batchFiles(log)).toEqual([]);
    expect((await readdir(log.processed)).filter((name) => name.startsWith('changes_'))).toHaveLength(200);
  });

  it('is one JSON document with one change a line, and says its checksum to sed and sha256sum', async () => {
    const file = await publishBatch(log, metadata(1), LINES);
    const text = await readFile(file, 'utf8');
    expect(JSON.parse(text)).toMatchObject({
      batch_metadata: { sequence: 1 },
      changes: [{ id: 1 }, { id: 2, note: 'äöü 🙂' }],
    });
    expect(text.split('\n').filter((line) => line.startsWith('{"id"'))).toHaveLength(2);
    const shell = execFileSync('bash', ['-c', `sed '1,/^"changes"/d;$d' "$1" | sha256sum`, '_', file], {
      encoding: 'utf8',
    });
    expect(shell.split(' ')[0]).toBe(checksumOf(LINES));
  });

  it('is readable by its owner alone, in folders only its owner can enter', async () => {
    const file = await publishBatch(log, metadata(1), LINES);
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    for (const folder of [log.folder, log.checkpoints, log.processed])
      expect((await stat(folder)).mode & 0o777).toBe(0o700);
  });

  it('has a checkpoint, which becomes the newest', async () => {
    await publishBatch(log, metadata(9), LINES);
    await publishBatch(log, metadata(10), LINES);
    expect(await newestCheckpoint(log)).toMatchObject({ sequence: 10, batch_id: 'changes_20260201_090000_010' });
  });

  it('leaves no temporary file behind', async () => {
    await publishBatch(log, metadata(1), LINES);
    const names = [...(await readdir(log.folder)), ...(await readdir(log.checkpoints))];
    expect(names.filter((name) => name.startsWith('.tmp-'))).toEqual([]);
  });

  it('is moved to processed, once and for all', async () => {
    const file = await publishBatch(log, metadata(1), LINES);
    await markProcessed(log, file);
    expect(await batchFiles(log)).toEqual([]);
    expect(await readdir(log.processed)).toEqual([path.basename(file)]);
  });

  it('never replaces another file in processed', async () => {
    const file = await publishBatch(log, metadata(1), LINES);
    await writeFile(path.join(log.processed, path.basename(file)), 'something else');
    await expect(markProcessed(log, file)).rejects.toThrow('is there already, with other content');
    expect(await batchFiles(log)).toEqual([file]);
  });
});

describe('of two writers of one sequence', () => {
  it('the second loses, and nothing of its batch remains', async () => {
    await publishBatch(log, metadata(1), LINES);
    const late = metadata(1, { batch_id: 'changes_20260201_090000_999' });
    await expect(publishBatch(log, late, LINES)).rejects.toThrow(AlreadyPublishedError);
    expect((await batchFiles(log)).map((file) => path.basename(file))).toEqual(['changes_20260201_090000_001.json']);
    expect(await newestCheckpoint(log)).toMatchObject({ batch_id: 'changes_20260201_090000_001' });
  });
});

describe('what a killed writer left', () => {
  it('is never a batch that has its checkpoint, whenever the writer that was taken for dead goes on', async () => {
    let published: ReturnType<typeof metadata> | undefined;
    for (let turn = 0; turn < 300; turn += 1) {
      const next = metadata((published?.sequence ?? 0) + 1);
      let isOver = false;
      // The other extractor finds the batch, and begins a little later each time, so that it meets the writer at each of its steps.
      const tidy = async () => {
        while (!(await batchFiles(log)).includes(path.join(log.folder, `${next.batch_id}.json`)) && !isOver)
          await new Promise(setImmediate);
        for (let wait = 0; wait < turn; wait += 1) await new Promise(setImmediate);
        await removeUnpublished(log, published);
      };
      const [written] = await Promise.allSettled([
        publishBatch(log, next, LINES).finally(() => {
          isOver = true;
        }),
        tidy(),
      ]);
      if (written.status === 'fulfilled') published = next;
      else expect(String(written.reason)).toMatch(/ENOENT|already published/);
    }
    expect(published?.sequence).toBeGreaterThan(20);
    expect((await batchFiles(log)).map((file) => path.basename(file))).toEqual(
      Array.from({ length: published?.sequence ?? 0 }, (_, index) => `${metadata(index + 1).batch_id}.json`),
    );
  });

  it('is never a batch that has its checkpoint, also where the other extractor tidies up once more while the batch is put back', async () => {
    for (let turn = 0; turn < 300; turn += 1) {
      const before = await newestCheckpoint(log);
      const next = metadata((before?.sequence ?? 0) + 1);
      const file = path.join(log.folder, `${next.batch_id}.json`);
      const temporary = async () => (await readdir(log.folder)).filter((name) => name.startsWith('.tmp-'));
      let isOver = false;
      // As one that took the writer for dead: the batch goes the moment before its checkpoint comes, then what is temporary, once.
      const tidy = async () => {
        while (!(await batchFiles(log)).includes(file) && !isOver) await new Promise(setImmediate);
        // In one step: the writer looks for its batch after its checkpoint has come, and this must not be later than that look.
        if (!existsSync(path.join(log.checkpoints, `${String(next.sequence)}.json`))) rmSync(file, { force: true });
        for (let left = await temporary(); !isOver; left = await temporary()) {
          if ((await newestCheckpoint(log))?.sequence === next.sequence && left.length > 0) {
            for (const name of left) await rm(path.join(log.folder, name), { force: true });
            return;
          }
        }
      };
      await Promise.allSettled([
        publishBatch(log, next, LINES).finally(() => {
          isOver = true;
        }),
        tidy(),
      ]);
      expect((await newestCheckpoint(log))?.sequence, String(turn)).toBe(next.sequence);
      expect(await batchFiles(log), String(turn)).toContain(file);
    }
  });

  it('is removed: temporary files, and a batch without its checkpoint', async () => {
    const kept = await publishBatch(log, metadata(1), LINES);
    const orphan = await publishBatch(log, metadata(2), LINES);
    await rm(path.join(log.checkpoints, '2.json'));
    await writeFile(path.join(log.folder, '.tmp-1-abc'), 'half a ba');
    await removeUnpublished(log, metadata(1));
    expect(await batchFiles(log)).toEqual([kept]);
    expect(await readdir(log.folder)).not.toContain('.tmp-1-abc');
    expect(await readdir(log.folder)).not.toContain(path.basename(orphan));
  });

  it('does not include a batch further back whose checkpoint was taken away', async () => {
    const first = await publishBatch(log, metadata(1), LINES);
    await publishBatch(log, metadata(2), LINES);
    await rm(path.join(log.checkpoints, '1.json'));
    await removeUnpublished(log, metadata(2));
    expect(await batchFiles(log)).toContain(first);
  });

  it('cannot be several batches: then checkpoints are missing, and nothing is removed', async () => {
    const files = [
      await publishBatch(log, metadata(1), LINES),
      await publishBatch(log, metadata(2), LINES),
      await publishBatch(log, metadata(3), LINES),
    ];
    await rm(path.join(log.checkpoints, '2.json'));
    await rm(path.join(log.checkpoints, '3.json'));
    await rm(files[1] ?? '');
    await expect(removeUnpublished(log, metadata(1))).rejects.toThrow('checkpoints of the change log are missing');
    expect(await batchFiles(log)).toHaveLength(2);
  });

  it('does not include a document somebody put there by hand', async () => {
    const file = path.join(log.folder, 'changes_by_hand.json');
    await writeFile(file, '{"batch_metadata": {"batch_id": "by_hand", "change_count": 0}, "changes": []}');
    await removeUnpublished(log, undefined);
    expect(await batchFiles(log)).toEqual([file]);
    expect(await isPublished(log, (await readBatch(file)).head)).toBe(true);
  });
});

describe('a bad batch file is refused by name and left where it is:', () => {
  const whole = async () => readFile(await publishBatch(log, metadata(1), LINES), 'utf8');
  const cases: [string, (text: string) => string | Buffer, string][] = [
    ['empty', () => '', 'it is empty'],
    ['truncated', (text) => text.slice(0, -30), 'it is truncated'],
    ['cut in its metadata', (text) => text.slice(0, 60), 'it is truncated'],
    ['not JSON', () => 'id,customer\n1,101\n', 'it is not JSON, or it is truncated'],
    ['JSON of another kind', () => '[1, 2]', 'it is JSON, but not a batch'],
    ['altered', (text) => text.replace('line one', 'line two'), 'the checksum does not fit'],
    [
      'with a line less',
      (text) => text.replace('{"id":1,"note":"line one"},\n', ''),
      'change_count is 2, but it holds 1 changes',
    ],
    ['not UTF-8', () => Buffer.from([0x7b, 0xff, 0xfe, 0x7d]), 'it is not valid UTF-8'],
  ];
  it.each(cases)('%s', async (_name, spoil, message) => {
    const file = path.join(log.folder, 'changes_bad.json');
    await writeFile(file, spoil(await whole()));
    await expect(readBatch(file)).rejects.toMatchObject({
      message: expect.stringContaining(message) as string,
      detail: file,
    });
    expect((await stat(file)).isFile()).toBe(true);
  });

  it('a symbolic link', async () => {
    const elsewhere = path.join(root, 'elsewhere.json');
    await writeFile(elsewhere, await whole());
    const file = path.join(log.folder, 'changes_link.json');
    await symlink(elsewhere, file);
    await expect(readBatch(file)).rejects.toThrow('a batch file cannot be read');
  });

  it('a pipe that nobody writes to, which is not waited for', async () => {
    const file = path.join(log.folder, 'changes_pipe.json');
    execFileSync('mkfifo', [file]);
    await expect(readBatch(file)).rejects.toMatchObject({
      message: expect.stringContaining('it is not a regular file') as string,
      detail: file,
    });
  });
});

describe('a checkpoint that cannot be read', () => {
  it('stops extraction, naming the file: guessing would lose or repeat', async () => {
    await publishCheckpoint(log, metadata(1));
    await writeFile(path.join(log.checkpoints, '1.json'), '{"sequence": 1');
    await expect(newestCheckpoint(log)).rejects.toMatchObject({
      message: 'a checkpoint cannot be read',
      detail: path.join(log.checkpoints, '1.json'),
    });
  });
});

describe('a change log folder', () => {
  it('with a name that leads elsewhere is refused', async () => {
    for (const name of ['../orders', 'a/b', '.hidden', ''])
      await expect(openChangeLog(root, name)).rejects.toThrow('cannot be the name');
  });

  it('that is a symbolic link is refused', async () => {
    await mkdir(path.join(root, 'real'));
    await symlink(path.join(root, 'real'), path.join(root, 'link'));
    await expect(openChangeLog(path.join(root, 'link'), 'orders')).rejects.toThrow('is not a folder of its own');
  });
});
