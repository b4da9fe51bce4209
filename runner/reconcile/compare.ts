import { createHash } from 'node:crypto';
import { logger } from '../base/logger.js';
import { compareAtSource, type ComparisonQueries, type SourceState } from '../source/comparison.js';
import { keyFault, type SourceTable } from '../source/table.js';
import type { Database } from '../base/database.js';
import { comparisonChecksums, comparisonDigests, comparisonStates, retractedStates } from '../warehouse/functions.js';
import type { BucketChecksum, KeyDigest } from '../warehouse/functions.js';

/** A key whose row and current version are not the same. Contents are printed as PostgreSQL prints a row of texts. */
export interface Difference {
  /** The text of a JSON array of texts. */
  readonly key: string;
  /** missing: the source has a row, history no version in force. extra: the other way round. */
  readonly kind: 'missing' | 'extra' | 'different';
  readonly source: string | null;
  readonly history: string | null;
  /** The retracted batch that said what the source has: without the retraction there would be no difference. */
  readonly retracted?: string | undefined;
}

export interface Comparison {
  readonly source_rows: number;
  readonly current_versions: number;
  readonly differences: readonly Difference[];
  /** Keys whose rows kept changing while they were looked at: nothing can be said of them. */
  readonly unsettled: number;
  /** Which part of the rows in buckets that differ was looked at: less than 1 where more keys differ than one run looks at. */
  readonly part_looked_at: number;
}

/** How many digests of rows are held at a time, and after how many keys that differ a run looks no further. */
export type CompareLimits = Readonly<{ digests: number; candidates: number }>;

export interface Comparing {
  readonly source: Database;
  readonly warehouse: Database;
  readonly table: string;
  readonly described: SourceTable;
  readonly queries: ComparisonQueries;
  /** Extracts and loads all there is, so that a key that still differs does so for good. */
  readonly catchUp: () => Promise<void>;
  /** Those of the tables that there are, unless a test has less. */
  readonly limits?: CompareLimits | undefined;
}

/** A power of 2: of a million rows, 250 fall into each bucket. */
const BUCKETS = 4096;
const LIMITS: CompareLimits = { digests: 50_000, candidates: 100_000 };
/** Keys whose rows are fetched at a time. */
const MOST_KEYS = 5_000;
const PASSES = 3;

/**
 * Compares the rows of a table with the versions in force. Both servers take checksums of buckets of keys; only where these differ do
 * digests of rows travel, and only where those differ the rows. A key counts as different if its row did not change from before
 * everything was extracted and loaded until after it: what is merely under way does not. Where rows and versions were not as many, and none
 * differs after all, both are counted again: the numbers are of one state.
 */
export async function compareTable(comparing: Comparing, again = PASSES): Promise<Comparison> {
  const { source, warehouse, table, described, queries } = comparing;
  const [ours, theirs] = await Promise.all([
    comparisonChecksums(warehouse, table, BUCKETS),
    compareAtSource<BucketChecksum>(source, described, queries.checksums, [String(BUCKETS)]),
  ]);
  const buckets = differingBuckets(theirs, ours);
  const { candidates, part_looked_at } = await findCandidates(comparing, buckets);
  const differences: Difference[] = [];
  let open = candidates;
  for (let pass = 0; pass < PASSES && open.length > 0; pass += 1) open = await settle(comparing, open, differences);
  const [source_rows, current_versions] = [countRows(theirs), countRows(ours)];
  if (source_rows !== current_versions && differences.length === 0 && again > 0)
    return compareTable(comparing, again - 1);
  return { source_rows, current_versions, differences, unsettled: open.length, part_looked_at };
}

const countRows = (checksums: readonly BucketChecksum[]) =>
  checksums.reduce((sum, { row_count }) => sum + Number(row_count), 0);

/** A bucket that differs, and how many rows it has at the end that has more of them. */
type DifferingBucket = Readonly<{ bucket: number; rows: number }>;

function differingBuckets(theirs: readonly BucketChecksum[], ours: readonly BucketChecksum[]): DifferingBucket[] {
  const contents = (all: readonly BucketChecksum[]) =>
    new Map(all.map(({ bucket, row_count, checksum }) => [bucket, `${row_count} ${checksum}`]));
  const rows = new Map<number, number>();
  for (const { bucket, row_count } of [...theirs, ...ours])
    rows.set(bucket, Math.max(rows.get(bucket) ?? 0, Number(row_count)));
  return differing(contents(theirs), contents(ours)).map((bucket) => ({ bucket, rows: rows.get(bucket) ?? 0 }));
}

/** What only one of the two has, or is not the same in both. */
const differing = <K>(one: ReadonlyMap<K, string>, other: ReadonlyMap<K, string>): K[] =>
  [...new Set([...one.keys(), ...other.keys()])].filter((key) => one.get(key) !== other.get(key));

async function findCandidates(
  { source, warehouse, table, described, queries, limits = LIMITS }: Comparing,
  buckets: readonly DifferingBucket[],
): Promise<{ candidates: string[]; part_looked_at: number }> {
  const candidates: string[] = [];
  let rows = 0;
  for (const group of groups(buckets, limits.digests)) {
    const wanted = group.map(({ bucket }) => bucket);
    const [ours, theirs] = await Promise.all([
      comparisonDigests(warehouse, table, BUCKETS, wanted),
      compareAtSource<KeyDigest>(source, described, queries.digests, [String(BUCKETS), JSON.stringify(wanted)]),
    ]);
    rows += sumOfRows(group);
    const digests = (all: readonly KeyDigest[]) => new Map(all.map(({ key, digest }) => [key, digest]));
    const there = digests(theirs);
    if (there.size < theirs.length) throw keyFault(table, described, theirs.length - there.size);
    for (const key of differing(there, digests(ours))) candidates.push(key);
    if (candidates.length < limits.candidates) continue;
    logger.warn(
      { table },
      `${candidates.length} keys differ so far: these are looked at, run reconcile again for the rest`,
    );
    break;
  }
  return { candidates, part_looked_at: rows === 0 ? 1 : rows / sumOfRows(buckets) };
}

const sumOfRows = (buckets: readonly DifferingBucket[]) => buckets.reduce((sum, { rows }) => sum + rows, 0);

/** Buckets, so many at a time that the digests of their rows fit into memory. */
function groups(buckets: readonly DifferingBucket[], most: number): DifferingBucket[][] {
  const found: DifferingBucket[][] = [];
  let rowsInLast = Infinity;
  for (const each of buckets) {
    rowsInLast += each.rows;
    if (rowsInLast <= most) {
      found.at(-1)?.push(each);
      continue;
    }
    found.push([each]);
    rowsInLast = each.rows;
  }
  return found;
}

/** Looks at the keys before and after everything was loaded. Adds to `differences`; returns the keys whose rows changed meanwhile. */
async function settle(comparing: Comparing, keys: readonly string[], differences: Difference[]): Promise<string[]> {
  const pieces = chunks(keys, MOST_KEYS);
  const before = new Map<string, string>();
  for (const piece of pieces)
    for (const state of await sourceStates(comparing, piece)) before.set(state.key, fingerprintOf(state));
  await comparing.catchUp();
  const changed: string[] = [];
  for (const piece of pieces) {
    const states = await comparisonStates(comparing.warehouse, comparing.table, piece);
    const history = new Map(states.map(({ key, content }) => [key, content]));
    const retracted = new Map(
      (await retractedStates(comparing.warehouse, comparing.table, piece)).map((state) => [state.key, state]),
    );
    const after = new Map((await sourceStates(comparing, piece)).map((state) => [state.key, state]));
    for (const key of piece) {
      const row = after.get(key);
      const [source, stored] = [row?.content ?? null, history.get(key) ?? null];
      const kind = stored === null ? 'missing' : source === null ? 'extra' : 'different';
      if (before.get(key) !== (row && fingerprintOf(row))) changed.push(key);
      else if (source !== stored) {
        const said = retracted.get(key);
        const by = said?.content === source ? said.batch_id : undefined;
        differences.push({ key, kind, source, history: stored, retracted: by });
      }
    }
  }
  return changed;
}

/** Stands for a row in memory: rows may be large and many, and of most only whether they changed is asked. */
const fingerprintOf = ({ content, written_by }: SourceState) =>
  createHash('sha256').update(written_by).update('\0').update(content).digest('base64');

const sourceStates = ({ source, described, queries }: Comparing, keys: readonly string[]) =>
  compareAtSource<SourceState>(source, described, queries.states, [JSON.stringify(keys)]);

/** Cuts a list into pieces of at most `size`. */
export function chunks<T>(list: readonly T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(list.length / size) }, (_, index) =>
    list.slice(index * size, (index + 1) * size),
  );
}
