import { mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { PROJECT_ROOT } from '../../runner/base/settings.js';
import { quoteText } from '../../runner/base/sql-text.js';
import { isOnCluster, onCluster } from './cluster.js';
import type { RegistrationOptions } from '../../runner/registration/options.js';

/** TEST_PARTITIONS: into how many partitions every history of the suite is parted; unset: into none, as users have it who say nothing. */
const PARTITIONS = Number(process.env.TEST_PARTITIONS ?? '');

/** Whether they are: what a plan or a text says by the name of a table says it of partitions then. */
export const IS_PARTITIONED = PARTITIONS > 0;

/** The same for one that is registered by `tidemark add`. */
export const ALL_PARTITIONED: Pick<RegistrationOptions, 'partitions'> = IS_PARTITIONED
  ? { partitions: PARTITIONS }
  : {};

/** The statement that creates a history table, of one that is not partitioned; parted where the suite is told so. */
export function inPartitions(create: string, count = PARTITIONS): string {
  if (!(count > 0)) return create;
  const key = /\bunique \((.*?), valid_from\)/.exec(create)?.[1] ?? '';
  const history = /create table (.+?) \(\n/.exec(create)?.[1] ?? '';
  return create
    .replace('generated always as identity primary key,', () => `not null, primary key (surrogate_key, ${key}),`)
    .replace('generated always as identity', 'not null')
    .replace('primary key (surrogate_key)', () => `primary key (surrogate_key, ${key})`)
    .replace(
      /\);(?=\s+create unique index)/,
      () => `) partition by hash (${key}); select tidemark.create_partitions(${quoteText(history)}, ${String(count)});`,
    );
}

/** Does something with the folder of the migrations that register the tables of the demo, whose histories are parted as the suite is told. */
export async function withDemoDimensions<R>(use: (folder: string) => Promise<R>): Promise<R> {
  const project = path.join(PROJECT_ROOT, 'migrations', 'dimensions');
  if (!IS_PARTITIONED && !isOnCluster()) return use(project);
  const folder = await mkdtemp(path.join(tmpdir(), 'tidemark-dimensions-'));
  try {
    for (const file of await readdir(project))
      await writeFile(
        path.join(folder, file),
        onCluster(inPartitions(await readFile(path.join(project, file), 'utf8'))),
      );
    return await use(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}
