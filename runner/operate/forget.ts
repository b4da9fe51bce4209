import { tryLock, unlock, whileLocked } from '../base/advisory-lock.js';
import { type Database, withDatabase } from '../base/database.js';
import { HeldError, TidemarkError } from '../base/errors.js';
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

/** Forgettings of one table that are under way, by the numbers of their notes. */
interface Forgetting {
  readonly warehouse: Database;
  readonly table: string;
  readonly ids: readonly string[];
}

/**
 * Erases a key: what it is about is noted first, then its lines go from the batch files, then its rows from the warehouse. Loaders wait meanwhile.
 * Cut off at any point it is finished by the same call.
 * @param reference the name of the ticket that asks for it
 * @param keepShells whether its versions stay, with their times and no values
 * @returns its note
 * @throws HeldError where somebody is at work on the history; TidemarkError naming a file that cannot be read
 */
export async function forget(
  settings: Settings,
  table: string,
  key: readonly string[],
  reference: string,
  keepShells = false,
): Promise<functions.Forgetting> {
  const [done] = await whileHeld(settings, table, async (warehouse) => {
    const id = await functions.beginForgetting(warehouse, table, key, reference, keepShells);
    failpoint('forget begun');
    return erase(settings, { warehouse, table, ids: [id] }, key);
  });
  if (done === undefined) throw new TidemarkError('the forgetting has no note', { detail: `table=${table}` });
  return done;
}

/** Holds the lock that apply_batch takes, by the session. */
function whileHeld<T>(settings: Settings, table: string, work: (warehouse: Database) => Promise<T>): Promise<T> {
  return withDatabase(settings.warehouse, 'forget', async (warehouse) => {
    selectTables(await dimensionMappings(warehouse), [table]);
    const lock = `tidemark.dimension ${table}`;
    const holder = await tryLock(warehouse, lock);
    if (holder !== undefined)
      throw new HeldError(`the history of ${table} is at work: ${holder}`, {
        detail: `table=${table}`,
        hint: 'nothing was erased: wait for it, or stop what loads the table, then run this again',
      });
    return whileLocked(
      () => unlock(warehouse, lock),
      () => work(warehouse),
    );
  });
}

async function erase(
  settings: Settings,
  forgetting: Forgetting,
  key?: readonly string[],
): Promise<functions.Forgetting[]> {
  const { warehouse, table, ids } = forgetting;
  const isLogged = (await loggedTables(settings.cdc_log_dir)).includes(table);
  for (const log of isLogged ? await openChains(settings.cdc_log_dir, table) : []) await forgetInChain(forgetting, log);
  failpoint('forget files');
  return inTransaction(warehouse, 'isolation level read committed', (session) =>
    functions.forgetKeys(session, ids, key),
  );
}

async function forgetInChain({ warehouse, table, ids }: Forgetting, log: ChangeLog): Promise<void> {
  await rewriteCheckpoints(log, (metadata) => functions.forgetInMetadata(warehouse, ids, metadata));
  await rewriteBatches(log, async ({ file, head, text }) => {
    const left = await functions.forgetInBatch(warehouse, ids, text);
    if (left === undefined) return undefined;
    await functions.noteForgottenContent(
      warehouse,
      table,
      left.forgetting_ids,
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
    `${table}: one key is forgotten (note ${done.forgetting_id}, ${done.reference}): ${counted(done.versions, done.keeps_shells ? 'shell' : 'version')}, ` +
      `${String(done.absorbed_changes)} absorbed, ${String(done.rejected_changes)} rejected, ${String(done.retracted_changes)} retracted changes; ` +
      `${counted(Object.keys(done.files).length, 'batch file')} written anew, which lack ${counted(lines, 'line')}`,
    OUT_OF_REACH,
  ].join('\n');
}
