import path from 'node:path';

/** The name of a batch that Tidemark wrote: its instant, and its shard where there is one. */
export const BATCH_NAME = /^changes_[0-9]{8}_[0-9]{6}_[0-9]{3}(_[0-9]+-of-[\w-]+)?$/;

/** The name of the batch that a file holds, compressed or not. */
export const batchNameOf = (file: string): string => path.basename(file).replace(/\.json(\.gz)?$/, '');

/** The instant in the name of a batch, in milliseconds. */
export function momentOf(batchName: string): number {
  return Date.parse(batchName.replace(/^changes_(.{4})(..)(..)_(..)(..)(..)_(...).*$/, '$1-$2-$3T$4:$5:$6.$7Z'));
}
