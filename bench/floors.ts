import { open } from 'node:fs/promises';
import path from 'node:path';
import { connect, type Database } from '../runner/base/database.js';
import { documentParts } from '../runner/batch/document.js';
import type { Bench } from './server.js';

/** What PostgreSQL itself needs for the same work, by plain statements (sql/prepare.sql), with nothing of Tidemark. */

/** The two members of a batch document of the bench. */
export function partsOf(batch: string): NonNullable<ReturnType<typeof documentParts>> {
  const parts = documentParts(batch);
  if (parts === undefined) throw new Error('it is no batch in the frame of Tidemark');
  return parts;
}

/** Reads the changes of batches as JSON. */
export async function plainRead(warehouse: Database, batches: readonly string[]): Promise<void> {
  for (const batch of batches) await warehouse`select bench.plain_read(${partsOf(batch).changes}::text::json)`;
}

/** Reads the changes of batches and writes their rows into bench.plain, one transaction a batch; `closes` updates the rows in force first. */
export async function plainApply(warehouse: Database, batches: readonly string[], closes: boolean): Promise<void> {
  for (const batch of batches)
    await warehouse`select bench.plain_apply(${partsOf(batch).changes}::text::json, 'bench', ${closes})`;
}

/** Updates as many rows as closing their versions would, a statement for all. */
export const plainUpdate = (warehouse: Database) => async (): Promise<void> => {
  await warehouse`
    update bench.plain set valid_to = valid_from + interval '1 minute', is_current = false, updated_at = now() where is_current`;
};

/** Rows that are finished, from a table into one with the same indexes, a statement for all. */
export const plainInsert = (warehouse: Database) => async (): Promise<void> => {
  await warehouse`insert into bench.plain overriding user value select * from public.dim_orders_history where is_current`;
};

/** Tables like the histories of as many tables, in one transaction. */
export const plainTables = async (warehouse: Database, tables: number): Promise<void> => {
  await warehouse.unsafe(`
    do $$ begin
      for i in 1..${String(tables)} loop
        execute format('create table bench.many_%s (like public.dim_many_%1$s_history including all)', i);
      end loop;
    end $$`);
};

/** Asks as many tables one by one, in a session of its own; `histories` says whether those of the source or of the warehouse. */
export async function plainLook({ settings }: Bench, tables: number, histories: boolean): Promise<void> {
  const session = connect(histories ? settings.warehouse : settings.source, 'bench');
  for (let table = 1; table <= tables; table += 1) {
    const [name, newer] = histories
      ? [`dim_many_${String(table)}_history`, 'is_current']
      : [`many_${String(table)}`, 'updated_at > now()'];
    await session.unsafe(`select count(*) from public.${name} where ${newer}`);
  }
  await session.end();
}

/** The shortest whole way that there is: pages printed by row_to_json, each flushed to a file, and its rows inserted. */
export async function plainWay({ source, warehouse, settings }: Bench, rows: number): Promise<void> {
  const page = settings.batch_size;
  const [newest] = await source<[{ id: number }]>`select max(id) as id from public.orders`;
  for (let after = newest.id - rows; after < newest.id; after += page) {
    const [printed] = await source<[{ changes: string }]>`
      select '[' || string_agg(row_to_json(r)::text, E',\n' order by r.id) || ']' as changes
      from (
        select o.*, 'INSERT' as operation_type, o.last_updated as cdc_timestamp, now() as extracted_at
        from public.orders as o where o.id > ${after} and o.id <= ${after + page}
      ) as r`;
    const file = await open(path.join(settings.run_dir, `plain_${String(after)}.json`), 'w');
    await file.writeFile(printed.changes);
    await file.sync();
    await file.close();
    await warehouse`select bench.plain_apply(${printed.changes}::text::json, 'bench', false)`;
  }
}
