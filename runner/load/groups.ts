import path from 'node:path';
import { isPublished, readBatch, type BatchDocument, type ChangeLog } from '../change-log/chain.js';
import { tolerateGone } from '../base/errors.js';
import { failpoint } from '../base/failpoint.js';
import { logger } from '../base/logger.js';
import { timed } from '../run/measurements.js';

/**
 * Consecutive batches that are small enough are applied in one transaction: one commit and one move for all of them. So much at most, that
 * memory, and the time for which others wait, stay what they are for one batch of ordinary size.
 */
export const GROUP = { batches: 50, changes: 5_000, bytes: 2 * 1024 * 1024 } as const;

/**
 * Reads batch files in their order, as groups that may be applied together: alone, what is large or no link of the chain. What was read
 * before a file that is bad comes before the error.
 */
export async function* readGroups(
  log: ChangeLog,
  files: readonly string[],
  isStopping: () => boolean,
): AsyncGenerator<readonly BatchDocument[]> {
  let group: BatchDocument[] = [];
  try {
    for (const file of files) {
      if (isStopping()) return;
      // Before the next is read: two large batches are not held at once.
      if (isFull(group)) {
        yield group;
        group = [];
        if (isStopping()) return;
      }
      const document = await readPublished(log, file);
      if (document === undefined) continue;
      if (!fits(group, document)) {
        yield group;
        group = [];
      }
      group.push(document);
    }
  } catch (error) {
    if (group.length > 0) yield group;
    throw error;
  }
  if (group.length > 0) yield group;
}

const isFull = (group: readonly BatchDocument[]): boolean =>
  changesOf(group) >= GROUP.changes || bytesOf(group) >= GROUP.bytes;

const changesOf = (group: readonly BatchDocument[]): number =>
  group.reduce((sum, { head }) => sum + head.change_count, 0);
const bytesOf = (group: readonly BatchDocument[]): number => group.reduce((sum, { text }) => sum + text.length, 0);

function fits(group: readonly BatchDocument[], next: BatchDocument): boolean {
  const [last, all] = [group.at(-1)?.head, [...group, next]];
  if (last === undefined) return true;
  const { sequence, previous_checksum, table, shard } = next.head;
  const follows = sequence != null && previous_checksum != null && previous_checksum === last.checksum;
  if (!follows || table !== last.table || shard !== last.shard) return false;
  return all.length <= GROUP.batches && changesOf(all) <= GROUP.changes && bytesOf(all) <= GROUP.bytes;
}

async function readPublished(log: ChangeLog, file: string): Promise<BatchDocument | undefined> {
  failpoint('read batch');
  // A file that is gone was moved by another loader, which has applied it.
  const document = await timed('read', () => readBatch(file)).catch(tolerateGone);
  if (document === undefined || (await isPublished(log, document.head))) return document;
  const name = path.basename(file);
  logger.info({ table: log.table }, `leaving ${name} alone: it has no checkpoint, so it is not published`);
  return undefined;
}
