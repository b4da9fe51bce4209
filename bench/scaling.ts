import { apply, copy, documents, empty } from './contenders.js';
import { spread } from './measure.js';
import type { Size } from './scenarios.js';
import type { Bench } from './server.js';

/** How a cost changes with a size: a line of the page. */
export interface Curve {
  readonly name: string;
  readonly across: string;
  readonly unit: string;
  readonly points: readonly { readonly at: number; readonly cost: number }[];
}

const upTo = (sizes: readonly number[], most: number) => sizes.filter((size) => size <= most);

/** UPDATE changes in batches of 1,000 and more, against COPY of as many finished rows: least of the runs. */
export async function byBatchSize(bench: Bench, { changes, runs }: Size, say: (line: string) => void): Promise<Curve> {
  const { warehouse } = bench;
  const points = [];
  for (const at of upTo([1000, 3000, 10_000, 30_000, 100_000], changes)) {
    say(`batches of ${String(at)} changes`);
    const ratios: number[] = [];
    const [inserts, updates] = [await documents(warehouse, changes, 0), await documents(warehouse, changes, 1, at)];
    for (let run = 0; run < runs; run += 1) {
      await empty(warehouse);
      await apply(warehouse, inserts);
      await warehouse`vacuum (analyze) public.dim_orders_history`;
      const copied = await copy(bench, 'true');
      ratios.push((await apply(warehouse, updates)) / copied);
    }
    points.push({ at, cost: spread(ratios).min });
  }
  return { name: 'UPDATE changes, by batch size', across: 'changes a batch', unit: 'x COPY', points };
}

/** 1,000 changes to histories of 10,000 versions and more, against the same to the shortest: least of the runs. */
export async function byHistorySize(
  { warehouse }: Bench,
  { history, runs }: Size,
  say: (line: string) => void,
): Promise<Curve> {
  const least: { at: number; seconds: number }[] = [];
  for (const at of upTo([10_000, 100_000, 1_000_000, 10_000_000], 2 * history)) {
    say(`a history of ${String(at)} versions`);
    await warehouse`call bench.fill_history(${at / 2}, 2)`;
    await warehouse`vacuum public.dim_orders_history`;
    const taken: number[] = [];
    // The first fills caches and plans; it does not count.
    for (let run = 0; run <= runs; run += 1)
      taken.push(await apply(warehouse, await documents(warehouse, 1000, 2 + run, 1000)));
    least.push({ at, seconds: spread(taken.slice(1)).min });
  }
  const shortest = least[0]?.seconds ?? Number.NaN;
  return {
    name: '1,000 changes, by history size',
    across: 'versions in the history',
    unit: 'x the shortest',
    points: least.map(({ at, seconds }) => ({ at, cost: seconds / shortest })),
  };
}
