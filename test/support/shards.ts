import path from 'node:path';
import type { Settings } from '../../runner/base/settings.js';
import type { Database } from '../../runner/base/database.js';
import type { LoadResult } from '../../runner/load/chain.js';
import { extractTables } from '../../runner/extract/tables.js';
import { parseShard } from '../../runner/batch/shard.js';
import { createWarehouseDatabase, type TestDatabase, type TestPipeline } from './databases.js';
import { createSourceTable, registerDimension, type TestColumn } from './dimensions.js';
import { underRole } from './roles.js';
import { loadTables } from '../../runner/load/tables.js';

/** Parcels: a row may change its region, which is no part of its key. */
export const PARCELS: readonly TestColumn[] = [
  { source: 'depot', type: 'text', role: 'business key' },
  { source: 'id', type: 'integer', role: 'business key' },
  { source: 'region', type: 'text', role: 'tracked' },
  { source: 'state', type: 'text', role: 'tracked' },
  { source: 'touched', type: 'timestamptz', role: 'effective time' },
];

export async function createParcels(pipeline: TestPipeline): Promise<void> {
  await createSourceTable(pipeline.source, 'parcels', PARCELS);
  await registerDimension(pipeline.warehouse, 'parcels', 'parcels', PARCELS);
}

/** Another way from the same source to a warehouse of its own. */
export interface Way {
  readonly name: string;
  /** What each extractor is told; none extracts the table whole. */
  readonly shards: readonly string[];
  readonly parallel: number;
  readonly settings: Settings;
  readonly warehouse: Database;
  readonly drop: () => Promise<void>;
}

export async function createWay(
  pipeline: TestPipeline,
  name: string,
  shards: readonly string[],
  parallel: number,
): Promise<Way> {
  const warehouse: TestDatabase = await createWarehouseDatabase();
  await registerDimension(warehouse.sql, 'parcels', 'parcels', PARCELS);
  const settings = {
    ...pipeline.settings,
    warehouse: underRole(warehouse.settings),
    cdc_log_dir: path.join(pipeline.folder, `log ${name}`),
  };
  return { name, shards, parallel, settings, warehouse: warehouse.sql, drop: warehouse.drop };
}

/** All extractors of a way, at once; each is told another shard. */
export async function extractBy(settings: Settings, shards: readonly string[], table = 'parcels'): Promise<number> {
  const told = shards.length === 0 ? [undefined] : shards;
  const results = await Promise.all(
    told.map((shard) => extractTables({ settings, tables: [table], shard: parseShard(shard) })),
  );
  return results.flat().reduce((sum, { changes }) => sum + changes, 0);
}

export const load = (settings: Settings, parallel = 1, table = 'parcels'): Promise<LoadResult[]> =>
  loadTables({ settings, tables: [table], parallel });

/** A history without what differs from load to load: numbers of versions, and when and in which batch they came. */
export async function historyOf(warehouse: Database): Promise<string[]> {
  const rows = await warehouse<{ line: string }[]>`
    select format('%s/%s %s %s [%s, %s) %s %s', depot, id, region, state, valid_from, valid_to, is_current, cdc_operation) as line
    from dim_parcels_history order by depot collate "C", id, valid_from`;
  return rows.map(({ line }) => line);
}
