import { readFileSync } from 'node:fs';
import type { Database } from '../runner/base/database.js';
import { applyAll, document, pageOf, rowToJson } from './contenders.js';
import { partsOf } from './floors.js';
import { serverTime } from './processor.js';
import { addOrders, type Ends } from './server.js';

/**
 * A guard against becoming slow: processor time of the server's processes in small, as ratios to what PostgreSQL needs for the same rows by
 * plain statements (bench.plain_apply, row_to_json), beside the ratios of guard.json. What a busy machine adds only makes a figure greater,
 * so the least of several interleaved rounds counts, of each side by itself; and while one passes its limit, rounds go on.
 */
export const GUARD_FILE = new URL('./guard.json', import.meta.url).pathname;

export type Ratios = Readonly<Record<string, number>>;

/** By major version of PostgreSQL. */
export const committedRatios = (): Readonly<Record<string, Ratios>> =>
  JSON.parse(readFileSync(GUARD_FILE, 'utf8')) as Record<string, Ratios>;

/** A loss of a third; a batch of one is so short that it comes out 40% apart from one session to the next: of that, a loss of half. */
const lossOf = (name: string): number => (name === ONE ? 2 : 4 / 3);
const ONE = 'a batch of one change';
const [LEAST_ROUNDS, MOST_ROUNDS] = [8, 40];
/** Keys of the history, with two versions each; changes of a batch; batches of one change; rows of a page. */
const [KEYS, CHANGES, ONES, ROWS] = [30_000, 500, 8, 1000];

/** What has become slower than it may be, with how much; nothing where all is well. */
export const slower = (measured: Ratios, committed: Ratios): string[] =>
  Object.entries(committed).flatMap(([name, ratio]) => {
    const found = measured[name] ?? Number.POSITIVE_INFINITY;
    return found <= ratio * lossOf(name) ? [] : [`${name}: ${found.toFixed(2)}, and ${ratio.toFixed(2)} is committed`];
  });

/** The batches of a round. Each has keys of its own; all are captured in their order but the late one. */
async function batchesOf(warehouse: Database, round: number) {
  const minute = (minutes: number) => new Date(Date.parse('2026-03-01T00:00:00Z') + minutes * 60_000);
  const of = (what: string, state: number, first: number, captured: Date, count = CHANGES) =>
    document(warehouse, {
      name: `${what}_${String(round)}_${String(first)}`,
      first,
      last: first + count - 1,
      state,
      captured,
    });
  const [fresh, known, at] = [1_000_000 + round * CHANGES, 1 + round * CHANGES, round * 100];
  const single = Array.from({ length: ONES }, (_, place) =>
    of('one', 60 + round, KEYS - place, minute(at + 3 + place), 1),
  );
  return {
    inserts: await of('insert', 0, fresh, minute(at)),
    again: await of('again', 1, fresh, minute(at + 1)),
    updates: await of('update', 50, known, minute(at + 2)),
    single: await Promise.all(single),
    late: await of('late', 2, known, minute(round - 10_000)),
  };
}

/**
 * Ratios by name, of some ten rounds, or of more while one passes what is committed.
 * @param most rounds; the ends are pools of one connection each
 */
export async function guardRatios({ source, warehouse }: Ends, committed: Ratios, most = MOST_ROUNDS): Promise<Ratios> {
  await warehouse`truncate bench.plain`;
  await warehouse`set work_mem = '32MB'`;
  await warehouse`set synchronous_commit = off`;
  await warehouse`call bench.fill_history(${KEYS}, 2)`;
  await warehouse`vacuum public.dim_orders_history`;
  await source`truncate public.orders`;
  await addOrders({ source }, 2 * ROWS);
  const page = await pageOf({ source, warehouse }, ROWS);
  const least = new Map<string, number>();
  const note = async (name: string, database: Database, work: () => Promise<unknown>) => {
    const taken = await serverTime(database, work);
    least.set(name, Math.min(least.get(name) ?? Number.POSITIVE_INFINITY, taken));
  };
  const apply = (name: string, batch: string) => note(name, warehouse, () => applyAll(warehouse, [batch]));
  const plain = (name: string, batch: string, closes: boolean) =>
    note(name, warehouse, async () => {
      await warehouse`select bench.plain_apply(${partsOf(batch).changes}::text::json, 'bench', ${closes})`;
    });
  const ratio = (name: string, plainly: string) => (least.get(name) ?? Number.NaN) / (least.get(plainly) ?? Number.NaN);
  const ratios = (): Ratios => ({
    'INSERT changes': ratio('insert', 'plain insert'),
    'UPDATE changes': ratio('update', 'plain update'),
    'late changes': ratio('late', 'plain update'),
    [ONE]: ratio('one', 'plain one'),
    'a page of rows': ratio('page', 'row_to_json'),
  });
  for (let round = 0; round <= most; round += 1) {
    const { inserts, again, updates, single, late } = await batchesOf(warehouse, round);
    await plain('plain insert', inserts, false);
    await apply('insert', inserts);
    await plain('plain update', again, true);
    await apply('update', updates);
    // Each by itself: the shorter a piece of work, the likelier that nothing comes between.
    for (const one of single) {
      await plain('plain one', one, true);
      await apply('one', one);
    }
    await apply('late', late);
    await note('row_to_json', source, () => rowToJson(source, ROWS));
    await note('page', source, page);
    // The first fills caches and plans; it does not count.
    if (round === 0) least.clear();
    else if (round >= LEAST_ROUNDS && slower(ratios(), committed).length === 0) break;
  }
  return ratios();
}
