import { randomBytes } from 'node:crypto';
import { tryLock, unlock, whileLocked } from '../base/advisory-lock.js';
import { type Database, withDatabase } from '../base/database.js';
import { HeldError } from '../base/errors.js';
import { failpoint } from '../base/failpoint.js';
import type { Settings } from '../base/settings.js';
import { counted } from '../base/text-table.js';
import { inTransaction } from '../base/transaction.js';
import { batchNameOf } from '../batch/name.js';
import type { ChangeLog } from '../change-log/chain.js';
import { loggedTables, openChains } from '../change-log/inspect.js';
import { rewriteBatches, rewriteCheckpoints } from '../change-log/rewrite.js';
import { selectTables } from '../run/each-table.js';
import * as functions from '../warehouse/forgetting.js';
import { dimensionMappings } from '../warehouse/functions.js';

/** Whatever is erased, copies are where no command comes to. */
export const OUT_OF_REACH =
  'not reached: the source and what it sends again; backups of the warehouse and of the change log; dead rows until VACUUM, and the ' +
  'write-ahead log and replicas of the warehouse; logs of servers and of commands; change logs that were set aside; copies made elsewhere';

interface Forgetting {
  readonly warehouse: Database;
  readonly table: string;
  readonly key: readonly string[];
  /** What stands where the key stood. */
  readonly token: string;
  /** Number of its note. */
  readonly id: string;
}

/**
 * Erases a key: what it is about is noted first, then its lines go from the batch files, then its rows from the warehouse. Loaders wait meanwhile.
 * Cut off at any point it is finished by the same call.
 * @param reference the name of the ticket that asks for it
 * @returns its note
 * @throws HeldError where somebody is at work on the history; TidemarkError naming a file that cannot be read
 */
export function forget(
  settings: Settings,
  table: string,
  key: readonly string[],
  reference: string,
): Promise<functions.Forgetting> {
  return withDatabase(settings.warehouse, 'forget', async (warehouse) => {
    selectTables(await dimensionMappings(warehouse), [table]);
    // The lock that apply_batch takes, held by the session.
    const lock = `tidemark.dimension ${table}`;
    const holder = await tryLock(warehouse, lock);
    if (holder !== undefined)
      throw new HeldError(`the history of ${table} is at work: ${holder}`, {
        detail: `table=${table}`,
        hint: 'nothing was erased: wait for it, or stop what loads the table, then run this again',
      });
    return whileLocked(
      () => unlock(warehouse, lock),
      async () => {
        const id = await functions.beginForgetting(warehouse, table, key, reference);
        const token = `forgotten-${randomBytes(8).toString('hex')}`;
        failpoint('forget begun');
        const forgetting = { warehouse, table, key, token, id };
        const isLogged = (await loggedTables(settings.cdc_log_dir)).includes(table);
        for (const log of isLogged ? await openChains(settings.cdc_log_dir, table) : [])
          await forgetInChain(forgetting, log);
        failpoint('forget files');
        return inTransaction(warehouse, 'isolation level read committed', (session) =>
          functions.forgetKey(session, id, key, token),
        );
      },
    );
  });
}

async function forgetInChain({ warehouse, table, key, token, id }: Forgetting, log: ChangeLog): Promise<void> {
  await rewriteCheckpoints(log, (metadata) => functions.forgetInMetadata(warehouse, table, key, token, metadata));
  await rewriteBatches(log, async ({ file, head, text }) => {
    const left = await functions.forgetInBatch(warehouse, table, key, token, text);
    if (left === undefined) return undefined;
    await functions.noteForgottenContent(
      warehouse,
      id,
      head.shard ?? '',
      head.batch_id,
      left.content_checksum,
      left.forgotten_lines,
    );
    failpoint(`forget ${batchNameOf(file)}`);
    return { metadata: left.batch_metadata, lines: left.changes };
  });
}

export function formatForgetting(table: string, done: functions.Forgetting): string {
  const lines = Object.values(done.files).reduce((sum, each) => sum + each, 0);
  return [
    `${table}: one key is forgotten (note ${done.forgetting_id}, ${done.reference}): ${counted(done.versions, 'version')}, ` +
      `${String(done.absorbed_changes)} absorbed, ${String(done.rejected_changes)} rejected, ${String(done.retracted_changes)} retracted changes; ` +
      `${counted(Object.keys(done.files).length, 'batch file')} written anew, which lack ${counted(lines, 'line')}`,
    OUT_OF_REACH,
  ].join('\n');
}
