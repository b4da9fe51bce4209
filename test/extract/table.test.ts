import { mkdir, readFile, readdir, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { BatchMetadata } from '../../runner/batch/metadata.js';
import { connect } from '../../runner/base/database.js';
import { extractTables } from '../../runner/extract/tables.js';
import { createPipeline, createSourceDatabase, type TestPipeline } from '../support/databases.js';
import { until } from '../support/wait.js';
import { loadTables } from '../../runner/load/tables.js';

interface Change {
  readonly id: number;
  readonly order_status: string;
  readonly operation_type: string;
  readonly cdc_timestamp: string;
  readonly last_updated: string;
}
interface Document {
  readonly batch_metadata: BatchMetadata;
  readonly changes: readonly Change[];
}

let pipeline: TestPipeline;
const begin = async () => {
  pipeline = await createPipeline({ BATCH_SIZE: '10', BATCH_SIZE_MAX: '10' });
};
/** Each test of a group has a pipeline of its own. */
const apart = () => {
  beforeEach(begin);
  afterEach(() => pipeline.drop());
};
/** Tests that load nothing, and alter no table, have one among them, with no order and no change log when they begin. */
const together = () => {
  beforeAll(begin);
  beforeEach(async () => {
    await pipeline.source`truncate orders restart identity`;
    await rm(pipeline.settings.cdc_log_dir, { recursive: true, force: true });
  });
  afterAll(() => pipeline.drop());
};

const folder = (...names: string[]) => path.join(pipeline.settings.cdc_log_dir, 'orders', ...names);

async function extract(overrides: Partial<TestPipeline['settings']> = {}, full = false) {
  const [result] = await extractTables({ settings: { ...pipeline.settings, ...overrides }, tables: ['orders'], full });
  if (result === undefined) throw new Error('no result');
  return result;
}

const load = () => loadTables({ settings: pipeline.settings, tables: ['orders'] });

async function documents(): Promise<Document[]> {
  const names = (await readdir(folder())).filter((name) => name.startsWith('changes_')).sort();
  return Promise.all(names.map(async (name) => JSON.parse(await readFile(folder(name), 'utf8')) as Document));
}

const capturedIds = async () => (await documents()).flatMap(({ changes }) => changes.map(({ id }) => id));

async function insertOrders(
  count: number,
  stamp = "'2026-02-01 09:00:00'::timestamp + make_interval(secs => g)",
  sql = pipeline.source,
): Promise<void> {
  await sql.unsafe(`
    insert into orders (customer_id, product_id, quantity, unit_price, total_amount, order_status, order_date, last_updated, created_at)
    select g, 201, 1, 1.10, 1.10, 'pending', ${stamp}, ${stamp}, ${stamp} from generate_series(1, ${String(count)}) as g`);
}

describe('extract', () => {
  together();

  it('reads every row the first time, in pages of BATCH_SIZE, each once', async () => {
    await insertOrders(25);
    expect(await extract()).toMatchObject({ batches: 3, changes: 25, watermark: '2026-02-01T09:00:25' });
    expect(await capturedIds()).toEqual(Array.from({ length: 25 }, (_, index) => index + 1));
    expect((await documents()).map(({ batch_metadata }) => batch_metadata.change_count)).toEqual([10, 10, 5]);
  });

  it('loses and repeats nothing where more rows share one timestamp than fit in a page', async () => {
    await insertOrders(95, "'2026-02-01 09:00:00'::timestamp");
    await extract();
    expect((await capturedIds()).sort((a, b) => a - b)).toEqual(Array.from({ length: 95 }, (_, index) => index + 1));
  });

  it('reads afterwards only what changed', async () => {
    await insertOrders(5);
    await extract();
    await pipeline.source`update orders set order_status = 'confirmed', last_updated = now() where id = 3`;
    expect(await extract()).toMatchObject({ batches: 1, changes: 1 });
    expect((await documents()).at(-1)?.changes).toMatchObject([
      { id: 3, order_status: 'confirmed', operation_type: 'UPDATE' },
    ]);
  });

  it('writes nothing where nothing changed, and a checkpoint once a heartbeat', async () => {
    await extract();
    await extract();
    expect(await readdir(folder('checkpoints'))).toEqual(['1.json']);
    await extract({ heartbeat_seconds: 0 });
    expect(await readdir(folder('checkpoints'))).toHaveLength(2);
    expect(await documents()).toEqual([]);
  });

  it('calls a row INSERT while it has not changed since it was created, with that time, else UPDATE', async () => {
    await insertOrders(1);
    await insertOrders(1, "'2026-02-01 10:00:00.000001'::timestamp");
    await pipeline.source`update orders set last_updated = '2026-02-01 11:00:00.123456' where id = 2`;
    await extract();
    expect((await documents()).flatMap(({ changes }) => changes)).toMatchObject([
      { id: 1, operation_type: 'INSERT', cdc_timestamp: '2026-02-01T09:00:01' },
      { id: 2, operation_type: 'UPDATE', cdc_timestamp: '2026-02-01T11:00:00.123456' },
    ]);
  });

  it('captures a row whose transaction stamped it before a poll and committed after it', async () => {
    await insertOrders(1, 'now()');
    const writer = await pipeline.source.reserve();
    await writer`begin`;
    await insertOrders(1, 'now()', writer);
    await insertOrders(1, 'now()');
    expect(await extract({ watermark_advance_seconds: 0 })).toMatchObject({ changes: 2 });
    await writer`commit`;
    writer.release();
    await extract({ watermark_advance_seconds: 0 });
    expect(new Set(await capturedIds())).toEqual(new Set([1, 2, 3]));
  });

  it('captures what a savepoint wrote, whose transaction number is in no snapshot', async () => {
    const writer = await pipeline.source.reserve();
    await writer`begin`;
    await writer`savepoint before_it`;
    await insertOrders(1, 'now()', writer);
    await writer`release savepoint before_it`;
    await extract({ watermark_advance_seconds: 0 });
    await writer`commit`;
    writer.release();
    await extract({ watermark_advance_seconds: 0 });
    expect(await capturedIds()).toEqual([1]);
  });

  it('is not held up by a long transaction, and repeats nothing while it is open', async () => {
    const writer = await pipeline.source.reserve();
    await writer`begin`;
    await insertOrders(1, 'now()', writer);
    for (const id of [2, 3, 4]) {
      await insertOrders(1, 'now()');
      expect(await extract()).toMatchObject({ changes: 1 });
      expect((await documents()).at(-1)?.changes).toMatchObject([{ id }]);
    }
    await writer`commit`;
    writer.release();
    await extract();
    expect(new Set(await capturedIds())).toEqual(new Set([1, 2, 3, 4]));
  });

  it('reads again what was written again within the margin, however old its timestamp', async () => {
    await insertOrders(3, "'2026-02-01 09:00:00'::timestamp");
    await extract();
    await pipeline.source`update orders set order_status = 'confirmed', last_updated = '2026-02-01 08:59:45' where id = 1`;
    expect(await extract({ watermark_advance_seconds: 0 })).toMatchObject({ changes: 0 });
    expect(await extract({ watermark_advance_seconds: 30 })).toMatchObject({ changes: 1 });
  });

  it('with --full also finds what did not touch its timestamp', async () => {
    await insertOrders(2);
    await extract();
    await pipeline.source`update orders set order_status = 'lost', last_updated = '2020-01-01' where id = 1`;
    expect(await extract()).toMatchObject({ changes: 0 });
    expect(await extract({}, true)).toMatchObject({ changes: 2 });
  });

  it('cuts a batch at BATCH_MAX_BYTES, and lets a larger row travel alone', async () => {
    // The last test of the group: what is altered stays so.
    await pipeline.source`alter table orders alter column order_status type text`;
    await insertOrders(4);
    await pipeline.source`update orders set order_status = repeat('x', 3000) where id = 2`;
    await extract({ batch_max_bytes: 2048 });
    expect((await documents()).map(({ changes }) => changes.map(({ id }) => id))).toEqual([[1], [2], [3, 4]]);
  });
});

describe('the chain', () => {
  together();

  it('links every batch to the one before it by name, number and checksum', async () => {
    await insertOrders(25);
    await extract();
    const chain = (await documents()).map(({ batch_metadata }) => batch_metadata);
    expect(chain.map(({ sequence }) => sequence)).toEqual([1, 2, 3]);
    expect(chain.map(({ previous_checksum }) => previous_checksum)).toEqual([
      null,
      chain[0]?.checksum,
      chain[1]?.checksum,
    ]);
    expect(chain.map(({ previous_batch_id }) => previous_batch_id)).toEqual([
      null,
      chain[0]?.batch_id,
      chain[1]?.batch_id,
    ]);
    expect(chain.map(({ watermark }) => watermark)).toEqual([null, '2026-02-01T09:00:10', '2026-02-01T09:00:20']);
  });

  it('goes on over a quiet poll', async () => {
    await insertOrders(1);
    await extract();
    await extract({ heartbeat_seconds: 0 });
    await insertOrders(1, 'now()');
    await extract();
    const [first, second] = (await documents()).map(({ batch_metadata }) => batch_metadata);
    expect(second).toMatchObject({
      sequence: 3,
      previous_checksum: first?.checksum,
      previous_batch_id: first?.batch_id,
    });
  });

  it('names batches by their instant, never twice the same', async () => {
    await insertOrders(60);
    await extract({ batch_size: 1, batch_size_max: 1 });
    const names = (await documents()).map(({ batch_metadata }) => batch_metadata.batch_id);
    expect(new Set(names).size).toBe(60);
    expect(names.every((name) => /^changes_\d{8}_\d{6}_\d{3}$/.test(name ?? ''))).toBe(true);
  });
});

describe('extraction that was interrupted', () => {
  together();

  /** As if the extractor had been killed after it linked the batch of this sequence, and before its checkpoint. */
  async function killBeforeCheckpoint(sequence: number): Promise<void> {
    for (const { batch_metadata } of await documents()) {
      if (batch_metadata.sequence > sequence) await rm(folder(`${String(batch_metadata.batch_id)}.json`));
      if (batch_metadata.sequence >= sequence)
        await rm(folder('checkpoints', `${String(batch_metadata.sequence)}.json`));
    }
  }

  it('resumes at its page and repeats nothing', async () => {
    await insertOrders(45);
    await extract();
    await killBeforeCheckpoint(4);
    await extract();
    const ids = await capturedIds();
    expect(ids.sort((a, b) => a - b)).toEqual(Array.from({ length: 45 }, (_, index) => index + 1));
  });

  it('finds what was written between the interruption and the resumption', async () => {
    await insertOrders(25);
    await extract();
    await killBeforeCheckpoint(2);
    await insertOrders(1, 'now()');
    await pipeline.source`update orders set order_status = 'confirmed', last_updated = now() where id = 1`;
    await extract();
    const statuses = (await documents()).flatMap(({ changes }) =>
      changes.map(({ id, order_status }) => `${String(id)} ${order_status}`),
    );
    expect(statuses).toContain('1 confirmed');
    expect(new Set(await capturedIds()).size).toBe(26);
  });

  it('by a signal ends after the page in hand, and the next one takes up the rest', async () => {
    await insertOrders(45);
    const interruption = new AbortController();
    const extractor = extractTables({ settings: pipeline.settings, tables: [], signal: interruption.signal });
    interruption.abort();
    expect((await extractor)[0]?.changes).toBeLessThan(45);
    await extract();
    expect((await capturedIds()).sort((a, b) => a - b)).toEqual(Array.from({ length: 45 }, (_, index) => index + 1));
  });

  it('by a checkpoint that cannot be read goes on once that is mended', async () => {
    await insertOrders(25);
    await mkdir(folder('checkpoints'), { recursive: true, mode: 0o700 });
    await writeFile(folder('checkpoints', '3.json'), '');
    await expect(extract()).rejects.toThrow('a checkpoint cannot be read');
    await rm(folder('checkpoints', '3.json'));
    expect((await extract()).changes).toBe(25);
  });
});

describe('where the change log is gone', () => {
  apart();

  it('the ledger is the watermark', async () => {
    await insertOrders(5);
    await extract();
    await load();
    await rm(pipeline.settings.cdc_log_dir, { recursive: true });
    await pipeline.source`update orders set order_status = 'confirmed', last_updated = now() where id = 2`;
    expect(await extract()).toMatchObject({ changes: 1 });
    expect((await documents())[0]?.batch_metadata.sequence).toBe(2);
    expect(await load()).toMatchObject([{ batches: 1, inserted_versions: 1 }]);
  });

  it('and batches were never loaded, they are read again', async () => {
    await insertOrders(5);
    await extract();
    await load();
    await insertOrders(2, 'now()');
    await extract();
    await rename(folder(), `${folder()}.lost`);
    await extract();
    await load();
    const [{ count } = { count: '' }] = await pipeline.warehouse<
      { count: string }[]
    >`select count(*) from dim_orders_history`;
    expect(count).toBe('7');
  });
});

describe('extraction stops, with one clear error,', () => {
  apart();

  it('where another extractor holds the table, and says who', async () => {
    const other = connect(pipeline.admin.source, 'somebody');
    await other`select pg_advisory_lock(hashtextextended('tidemark.extract orders', 0))`;
    await expect(extract()).rejects.toThrow(/another extractor holds orders: process \d+ \(tidemark somebody\) since/);
    await other.end();
  });

  it('but waits a moment for one that lets go of it, as a reconciler does after its poll', async () => {
    await insertOrders(2);
    const other = connect(pipeline.admin.source, 'somebody');
    await other`select pg_advisory_lock(hashtextextended('tidemark.extract orders', 0))`;
    const waiting = extract();
    await until(
      async () =>
        (
          await pipeline.source`select from pg_stat_activity where application_name = 'tidemark extract' and query like '%from pg_locks%'`
        ).length > 0,
    );
    await other.end();
    expect(await waiting).toMatchObject({ table: 'orders', changes: 2 });
  });

  it('where the source table is missing', async () => {
    await pipeline.source`drop table orders`;
    await expect(extract()).rejects.toThrow('source table public.orders does not exist');
  });

  it('where mapped columns are missing', async () => {
    await pipeline.source`alter table orders drop column quantity, drop column order_status`;
    await expect(extract()).rejects.toThrow('lacks columns that its mapping names: quantity, order_status');
  });

  it('where the source is another server than before, until told to read everything', async () => {
    await insertOrders(2);
    await extract();
    const file = folder('checkpoints', '1.json');
    await writeFile(
      file,
      (await readFile(file, 'utf8')).replace(/"system_identifier": "\d+"/, '"system_identifier": "42"'),
    );
    await expect(extract()).rejects.toThrow('the source is not the database this change log was extracted from');
    expect(await extract({}, true)).toMatchObject({ changes: 2 });
    expect(await extract()).toMatchObject({ changes: 0 });
  });

  it('where the business key is not unique, or may be null: rows would be lost between pages', async () => {
    await pipeline.source`alter table orders drop constraint orders_pkey`;
    await expect(extract()).rejects.toThrow(
      'the business key of source table public.orders is not unique there, or may be null',
    );
    await pipeline.source`create unique index on orders (id)`;
    expect(await extract()).toMatchObject({ changes: 0 });
    await pipeline.source`alter table orders alter column id drop not null`;
    await expect(extract()).rejects.toThrow('or may be null');
  });

  it('where the source is another database of the same server', async () => {
    await extract();
    const other = await createSourceDatabase();
    await expect(extract({ source: other.settings })).rejects.toThrow(
      'the source is not the database this change log was extracted from',
    );
    await other.drop();
  });

  it('where the change log is gone while the warehouse, whose ledger could say where to go on, is away', async () => {
    await insertOrders(2);
    await extract();
    await load();
    await rm(folder(), { recursive: true });
    await expect(extract({ warehouse: { ...pipeline.settings.warehouse, port: 1 } })).rejects.toThrow(
      'the change log has no checkpoint, and the warehouse',
    );
  });

  it('where no table of that name is registered', async () => {
    await expect(extractTables({ settings: pipeline.settings, tables: ['nothing'] })).rejects.toMatchObject({
      exitCode: 2,
      hint: 'registered are: customers, orders, products',
    });
  });
});

describe('extraction goes on', () => {
  apart();

  it('while the warehouse is away, with the mappings it last gave', async () => {
    await insertOrders(2);
    await extract();
    await insertOrders(1, 'now()');
    const away = { ...pipeline.settings.warehouse, port: 1 };
    expect(await extract({ warehouse: away })).toMatchObject({ changes: 1 });
  });

  it('but not before the warehouse has ever answered', async () => {
    const away = { ...pipeline.settings.warehouse, port: 1 };
    await expect(extract({ warehouse: away })).rejects.toThrow('the warehouse database does not answer at');
  });

  it('without a column that is not mapped', async () => {
    await pipeline.source`alter table orders add column coupon text default 'SPRING'`;
    await insertOrders(1);
    expect(await extract()).toMatchObject({ changes: 1 });
    expect(JSON.stringify(await documents())).not.toContain('SPRING');
  });
});
