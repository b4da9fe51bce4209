import { readFile, readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import type { BatchMetadata } from '../../runner/batch/metadata.js';
import type { ExtractResult } from '../../runner/extract/table.js';
import { extractTables } from '../../runner/extract/tables.js';
import type { TestPipeline } from './databases.js';
import { createSourceTable, registerDimension, type TestColumn } from './dimensions.js';

/** A change of the dimension "things". */
export interface Thing {
  readonly id: number;
  readonly state: string;
  readonly touched: string | null;
  readonly cdc_timestamp: string | null;
}

export interface BatchFile {
  readonly batch_metadata: BatchMetadata;
  readonly changes: readonly Thing[];
}

/** A dimension of a test's own, with the type of its effective time. */
export const thingColumns = (timeType: string): readonly TestColumn[] => [
  { source: 'id', type: 'integer', role: 'business key' },
  { source: 'state', type: 'text', role: 'tracked' },
  { source: 'touched', type: timeType, role: 'effective time' },
];

/** Makes the source table "things" and registers its dimension. */
export async function createThings(pipeline: TestPipeline, timeType = 'timestamptz'): Promise<void> {
  await createSourceTable(pipeline.source, 'things', thingColumns(timeType));
  await registerDimension(pipeline.warehouse, 'things', 'things', thingColumns(timeType), {
    timeType: timeType.startsWith('timestamptz') ? 'timestamptz' : 'timestamp',
  });
}

/** Extracts "things" once, with settings of its own where given. */
export async function extractThings(
  pipeline: TestPipeline,
  overrides: Partial<TestPipeline['settings']> = {},
  full = false,
): Promise<ExtractResult> {
  const [result] = await extractTables({ settings: { ...pipeline.settings, ...overrides }, tables: ['things'], full });
  if (result === undefined) throw new Error('no result');
  return result;
}

const folderOf = (pipeline: TestPipeline) => path.join(pipeline.settings.cdc_log_dir, 'things');

/** The batch files of "things" that wait to be loaded, oldest first. */
export async function batchesOf(pipeline: TestPipeline): Promise<BatchFile[]> {
  const names = (await readdir(folderOf(pipeline))).filter((name) => name.startsWith('changes_')).sort();
  return Promise.all(
    names.map(async (name) => JSON.parse(await readFile(path.join(folderOf(pipeline), name), 'utf8')) as BatchFile),
  );
}

/** Every captured state of "things", as "id state", in the order of capture. */
export async function captured(pipeline: TestPipeline): Promise<string[]> {
  return (await batchesOf(pipeline)).flatMap(({ changes }) => changes.map(({ id, state }) => `${String(id)} ${state}`));
}

/** As if the extractor had been killed just before it published the checkpoint of this sequence. */
export async function killBefore(pipeline: TestPipeline, sequence: number): Promise<void> {
  const folder = folderOf(pipeline);
  for (const { batch_metadata } of await batchesOf(pipeline))
    if (batch_metadata.sequence > sequence) await rm(path.join(folder, `${String(batch_metadata.batch_id)}.json`));
  for (const name of await readdir(path.join(folder, 'checkpoints')))
    if (Number.parseInt(name, 10) >= sequence) await rm(path.join(folder, 'checkpoints', name));
}
