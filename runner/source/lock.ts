import { setTimeout as sleep } from 'node:timers/promises';
import { tryLock, unlock } from '../base/advisory-lock.js';
import type { Database } from '../base/database.js';
import { chainName } from '../batch/shard.js';

/**
 * Takes the courtesy lock that keeps two extractors of one table or shard apart; it ends with the session. Shards share the table, and
 * who extracts it whole, or repairs it, waits for all of them.
 * The fence that really protects the change log is the link of the checkpoint.
 * @returns undefined if it was taken, else who holds it
 */
export async function lockExtraction(source: Database, table: string, shard = ''): Promise<string | undefined> {
  if (shard === '') return tryLock(source, lockOf(table));
  const holder = await tryLock(source, lockOf(table), true);
  if (holder !== undefined) return holder;
  const rival = await tryLock(source, lockOf(chainName(table, shard)));
  if (rival !== undefined) await unlock(source, lockOf(table), true);
  return rival;
}

const lockOf = (chain: string): string => `tidemark.extract ${chain}`;

const LONGEST_WAIT_MS = 3_000;
const PAUSE_MS = 100;

/** The same for an extractor, which waits a moment: a reconciler polls before it compares, and gives the lock back soon. */
export async function awaitExtraction(source: Database, table: string, shard: string): Promise<string | undefined> {
  for (const deadline = performance.now() + LONGEST_WAIT_MS; ; ) {
    const holder = await lockExtraction(source, table, shard);
    if (holder === undefined || performance.now() > deadline) return holder;
    await sleep(PAUSE_MS);
  }
}

/** Gives the courtesy lock back; harmless where the session has already ended. */
export async function unlockExtraction(source: Database, table: string, shard = ''): Promise<void> {
  if (shard !== '') await unlock(source, lockOf(chainName(table, shard)));
  await unlock(source, lockOf(table), shard !== '');
}
