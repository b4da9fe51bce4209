import * as chain from '../change-log/chain.js';
import type { Settings } from '../base/settings.js';
import { chainHead } from '../batch/metadata.js';
import { explainDatabaseError, type Database, type Transaction } from '../base/database.js';
import { TidemarkError } from '../base/errors.js';
import { failpoint } from '../base/failpoint.js';
import { timed } from '../run/measurements.js';
import { chainName } from '../batch/shard.js';
import { applyBatch, type ApplyResult, newestBatch } from '../warehouse/batches.js';

/** Where batches are applied. In a transaction they are a dry run: nothing is committed. */
export interface Applying {
  readonly warehouse: Database | Transaction;
  readonly settings: Settings;
  /** The change log of the chain: of a table, or of one shard of it. */
  readonly log: chain.ChangeLog;
}

/** Applies a batch. @throws TidemarkError naming its file and what is wrong */
export async function applyDocument(
  { warehouse, settings, log }: Applying,
  document: chain.BatchDocument,
): Promise<ApplyResult> {
  assertInPlace(log, document);
  await assertInChain({ warehouse, log }, document);
  failpoint('apply');
  try {
    return await timed('apply', () => applyBatch(warehouse, document.text));
  } catch (error) {
    throw explainWithFile(error, settings, document.file);
  }
}

/** What the warehouse said of a batch, with the file that it is in. */
export function explainWithFile(error: unknown, settings: Settings, file: string): unknown {
  const explained = explainDatabaseError(error, settings.warehouse);
  if (!(explained instanceof TidemarkError)) return explained;
  const { code, detail, hint } = explained;
  return new TidemarkError(explained.message, {
    code,
    detail: detail === undefined ? file : `${file} (${detail})`,
    hint,
    cause: error,
  });
}

function assertInPlace(log: chain.ChangeLog, { file, head }: chain.BatchDocument): void {
  const place = chainName(head.table ?? 'orders', head.shard ?? '');
  if (place === chainName(log.table, log.shard)) return;
  throw new TidemarkError(`a batch of table ${place} lies in the change log of ${chainName(log.table, log.shard)}`, {
    detail: file,
    hint: 'it was left where it is: move it to the folder of its table, or of its shard',
  });
}

/** A warehouse that was lost and made anew has an empty ledger, while the change log says that its newest batch was applied. */
export async function assertLedgerIsThere(warehouse: Database | Transaction, log: chain.ChangeLog): Promise<void> {
  if (!(await chain.isNewestProcessed(log)) || (await newestBatch(warehouse, log.table, log.shard)) !== undefined)
    return;
  throw new TidemarkError('the change log holds applied batches, but the ledger of this warehouse is empty', {
    detail: `table=${log.table} ${log.processed}`,
    hint: `see that WAREHOUSE_DB_NAME is right; if the warehouse was lost, apply them again: mv ${log.processed}/* ${log.folder}/ and load`,
  });
}

/** Walks the hash chain: the batch must follow the newest one of the ledger, or be in the ledger already. */
async function assertInChain({ warehouse, log }: Omit<Applying, 'settings'>, { file, head }: chain.BatchDocument) {
  if (head.sequence == null) return;
  const newest = await newestBatch(warehouse, log.table, log.shard);
  if (newest !== undefined && head.sequence <= Number(newest.sequence)) return;
  if ((head.previous_checksum ?? null) === (newest?.checksum ?? null)) return;
  const found = `${file} follows ${head.previous_batch_id ?? 'no batch'}`;
  throw missing('a batch is missing before this one', found, log, newest?.batch_id);
}

/**
 * Where nothing waits, the newest batch that was published must be in the ledger: its file may be gone, and no later one be there to tell.
 * The ledger is looked at last, so that a loader at work beside this one raises no alarm.
 */
export async function assertNothingIsMissing(warehouse: Database | Transaction, log: chain.ChangeLog): Promise<void> {
  const published = await chain.newestCheckpoint(log);
  const { batch_id: name } = chainHead(published);
  if (published === undefined || name === null || (await chain.batchFiles(log)).length > 0) return;
  const newest = await newestBatch(warehouse, log.table, log.shard);
  if (newest !== undefined && (newest.batch_id === name || Number(newest.sequence) >= published.sequence)) return;
  const found = `table=${log.table}${log.shard === '' ? '' : ` shard=${log.shard}`} ${name} is not in ${log.folder}`;
  throw missing('a batch that was published is missing', found, log, newest?.batch_id);
}

const missing = (message: string, found: string, log: chain.ChangeLog, newest: string | undefined) =>
  new TidemarkError(message, {
    detail: `${found}; the newest in the ledger is ${newest ?? 'none'}`,
    hint: `put the missing batch files back (see processed/ and backups), then load again; where there are none, remove ${log.folder}: extract then goes on from the ledger`,
  });
