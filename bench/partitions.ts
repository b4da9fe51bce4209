import { connect, type Database } from '../runner/base/database.js';
import { applyAll } from './contenders.js';
import { spread } from './measure.js';
import { processorTimes } from './processor.js';
import type { Scale, Scaled } from './scale.js';
import type { Bench } from './server.js';

/** Histories in partitions, beside one that is whole: what batches cost, and what several loaders at once come to. */

const PARTITIONS = 16;
const PARTS = 4;
const LOADERS = [1, 2, 4];
const ROUNDS = 3;
const DAY = 86_400_000;

type Side = 'whole' | 'parted';
const SIDES = ['whole', 'parted'] as const;
const SHOWN = { whole: 'a whole history', parted: `${String(PARTITIONS)} partitions` } as const;

interface Part {
  readonly part: number;
  readonly keys: readonly number[];
}

/** A history of so many versions, two a key, whole and in partitions. Processor time is that of the sessions, in the server. */
export async function manyPartitions(
  { settings, warehouse }: Bench,
  versions: number,
  say: (line: string) => void,
): Promise<Scale> {
  say(`two histories of ${String(versions)} versions`);
  const keys = Math.floor(versions / 2);
  await warehouse.file(new URL('./sql/partitions.sql', import.meta.url).pathname).simple();
  await warehouse`call bench.fill_history(${keys}, 2)`;
  await warehouse`call bench.fill_parted(${PARTITIONS})`;
  for (const side of SIDES) await warehouse.unsafe(`vacuum analyze public.dim_${side}_history`);

  let state = 2;
  const nextState = () => (state += 1);
  const figures: Scaled[] = [];
  const session = connect(settings.warehouse, 'bench', 1);
  for (const [size, batches] of [
    [1, 100],
    [1000, 10],
    [10_000, 2],
  ] as const) {
    say(`batches of ${String(size)}`);
    const taken: Record<Side, number[]> = { whole: [], parted: [] };
    for (let round = 0; round <= ROUNDS; round += 1) {
      const lists = Array.from({ length: batches }, () => ({ keys: someKeys(size, keys), state: nextState() }));
      for (const side of round % 2 === 0 ? SIDES : SIDES.toReversed()) {
        const documents = await Promise.all(
          lists.map((list) => documentOf(warehouse, side, null, list.keys, list.state)),
        );
        const micros = await costOf([session], () => applyAll(session, documents));
        // The first makes plans; it does not count.
        if (round > 0) taken[side].push(micros / batches / 1000);
      }
    }
    for (const side of SIDES)
      figures.push({
        name: `a batch of ${String(size)}, ${SHOWN[side]}`,
        value: spread(taken[side]).min,
        unit: 'ms of processor time',
      });
  }
  await session.end();
  figures.push(...(await loadedAtOnce({ settings, warehouse }, keys, nextState, say)));
  return { figures, plans: [] };
}

/** Four parts of the keys, by one, two and four loaders at once: parted as shards are, and so that no two loaders write to one partition. */
async function loadedAtOnce(
  { settings, warehouse }: Pick<Bench, 'settings' | 'warehouse'>,
  keys: number,
  nextState: () => number,
  say: (line: string) => void,
): Promise<Scaled[]> {
  const most = Math.min(keys, 20_000);
  const partsOf = (isAligned: boolean) => warehouse<Part[]>`select * from bench.parts(${most}, ${isAligned})`;
  const [shards, aligned] = [await partsOf(false), await partsOf(true)];
  const ways = [
    { name: 'a whole history, by shards', side: 'whole', parts: shards, layout: 'of-4' },
    { name: `${SHOWN.parted}, by shards`, side: 'parted', parts: shards, layout: 'of-4' },
    { name: `${SHOWN.parted}, each loader its own`, side: 'parted', parts: aligned, layout: 'of-4-aligned' },
  ] as const;
  const sessions = Array.from({ length: Math.max(...LOADERS) }, () => connect(settings.warehouse, 'bench', 1));
  const taken = new Map<string, { seconds: number; micros: number }[]>();
  for (let round = 0; round <= ROUNDS; round += 1)
    for (const loaders of LOADERS)
      for (const { name, side, parts, layout } of ways) {
        say(`round ${String(round)}: ${name}, ${String(loaders)} at once`);
        const number = nextState();
        const documents = await Promise.all(
          parts.map(async (part) =>
            Promise.all(
              chunks(part.keys, 1000).map((each) =>
                documentOf(warehouse, side, `${String(part.part + 1)}-${layout}`, each, number),
              ),
            ),
          ),
        );
        const used = sessions.slice(0, loaders);
        await warehouse`checkpoint`;
        const began = performance.now();
        const micros = await costOf(used, async () => {
          await Promise.all(
            used.map(async (session, place) => {
              for (let part = place; part < PARTS; part += loaders) await applyAll(session, documents[part] ?? []);
            }),
          );
        });
        const measured = { seconds: (performance.now() - began) / 1000, micros };
        const key = `${name}, ${String(loaders)} at once`;
        if (round > 0) taken.set(key, [...(taken.get(key) ?? []), measured]);
      }
  for (const session of sessions) await session.end();
  return [...taken].flatMap(([name, runs]) => [
    { name, value: most / spread(runs.map(({ seconds }) => seconds)).min, unit: 'changes a second' },
    { name, value: spread(runs.map(({ micros }) => micros)).min / most, unit: 'us of processor time a change' },
  ]);
}

const someKeys = (count: number, keys: number): number[] => {
  const from = 1 + Math.floor(Math.random() * Math.max(1, keys - count));
  return Array.from({ length: Math.min(count, keys) }, (_, place) => from + place);
};

const chunks = (keys: readonly number[], size: number): number[][] =>
  Array.from({ length: Math.ceil(keys.length / size) }, (_, place) => keys.slice(place * size, (place + 1) * size));

async function documentOf(
  warehouse: Database,
  side: Side,
  shard: string | null,
  keys: readonly number[],
  state: number,
): Promise<string> {
  const captured = new Date(Date.parse('2026-02-03T00:00:00Z') + state * DAY).toISOString();
  const name = `bench_${String(state)}_${String(keys[0])}${shard === null ? '' : `_${shard}`}`;
  const [row] = await warehouse<[{ document: string }]>`
    select bench.document_of(${side}, ${shard}, ${name}, ${[...keys]}::integer[], ${state}, ${captured}::text::timestamptz) as document`;
  return row.document;
}

/** Microseconds of processor time that sessions took in the server while something was done. */
async function costOf(sessions: readonly Database[], work: () => Promise<void>): Promise<number> {
  const pids = await Promise.all(
    sessions.map(async (session) => (await session<[{ pid: number }]>`select pg_backend_pid() as pid`)[0].pid),
  );
  const before = await processorTimes(pids);
  await work();
  return (await processorTimes(pids)) - before;
}
