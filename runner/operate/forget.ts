import { tryLock, unlock, whileLocked } from '../base/advisory-lock.js';
import { type Database, withDatabase } from '../base/database.js';
import { HeldError, TidemarkError } from '../base/errors.js';
import { failpoint } from '../base/failpoint.js';
import type { Settings } from '../base/settings.js';
import { counted, linesOf } from '../base/text-table.js';
import { inTransaction } from '../base/transaction.js';
import { batchNameOf } from '../batch/name.js';
import type { ChangeLog } from '../change-log/chain.js';
import { loggedTables, openChains } from '../change-log/inspect.js';
import { readForgettings, rewriteBatches, rewriteCheckpoints, writeForgettings } from '../change-log/rewrite.js';
import { selectTables } from '../run/each-table.js';
import * as functions from '../warehouse/forgetting.js';
import { dimensionMappings } from '../warehouse/functions.js';
import { formatReached, renewExportsBehind, type ReachedExport } from './export-places.js';

/** Whatever is erased, copies are where no command comes to. */
export const OUT_OF_REACH =
  'not reached: the source and what it sends again; backups of the warehouse and of the change log; dead rows until VACUUM, ' +
  "the planner's statistics until ANALYZE, and the write-ahead log and replicas of the warehouse; logs of servers and of commands; " +
  'change logs that were set aside; copies made elsewhere';

/** Forgettings of one table that are under way, by the numbers of their notes. */
interface Forgetting {
  readonly warehouse: Database;
  readonly table: string;
  /** The change logs of the table: of the whole, then of its shards; none where it was never extracted. */
  readonly logs: readonly ChangeLog[];
  readonly ids: readonly string[];
  /** When lines that went, and the newest of each chain, were captured. */
  readonly captured: string[];
  /** Batches whose files were written anew. */
  readonly rewritten: Set<string>;
  /** What was forgotten of the table before, as far as the warehouse or the notes beside the change log know. */
  readonly known: readonly functions.Forgetting[];
  /** Whether it is about what was forgotten before. */
  readonly isAgain?: boolean;
}

/** The note of a forgetting, and what came of exports that held the key. */
export type Forgotten = functions.Forgetting & { readonly exports: readonly ReachedExport[] };

/**
 * Erases a key: what it is about is noted first, then its lines go from the batch files, then its rows from the warehouse. Loaders wait meanwhile.
 * Exports of the history are made anew after that.
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
): Promise<Forgotten> {
  const [done] = await whileHeld(settings, [table], async (place) => {
    const id = await functions.beginForgetting(place.warehouse, table, key, reference, keepShells);
    failpoint('forget begun');
    return (await erase({ ...place, ids: [id] }, key))[0];
  });
  if (done === undefined) throw new TidemarkError('the forgetting has no note', { detail: `table=${table}` });
  return { ...done, exports: await renewExportsBehind(settings, table) };
}

/** What forgetting again came to in one table. */
export interface ForgottenAgain {
  readonly table: string;
  /** The tickets of all that was forgotten of it. */
  readonly references: readonly string[];
  /** How many versions and changes were there again, and how many batch files were written anew. */
  readonly rows: number;
  readonly files: number;
  /** Tickets whose keys this warehouse cannot tell: another one noted them, with another secret. */
  readonly unknown: readonly string[];
  /** Exports that held any of it. */
  readonly exports: readonly ReachedExport[];
}

/**
 * Erases again what was forgotten, after a backup of the warehouse or of the change log was restored: keys are found by their hashes. What was captured
 * after a key was forgotten is a new life of it, and stays. Cut off at any point it is finished by the same call.
 * @param tables all by default
 */
export async function forgetAgain(settings: Settings, tables?: readonly string[]): Promise<ForgottenAgain[]> {
  const found = await whileHeld(settings, tables, async ({ table, ...place }) => {
    const before = place.known;
    const rewritten = new Set<string>();
    const forgetting = { ...place, table, ids: before.map((each) => each.forgetting_id), rewritten, isAgain: true };
    const after = before.length === 0 ? [] : await erase(forgetting);
    const { unknown } = await functions.forgettingNotes(place.warehouse, table, await noted(place.logs));
    const references = [...new Set(before.map(({ reference }) => reference))];
    return { table, references, rows: rowsOf(after) - rowsOf(before), files: rewritten.size, unknown };
  });
  const done: ForgottenAgain[] = [];
  for (const each of found) done.push({ ...each, exports: await renewExportsBehind(settings, each.table) });
  return done;
}

const rowsOf = (forgettings: readonly functions.Forgetting[]): number =>
  forgettings.reduce(
    (sum, each) => sum + each.versions + each.absorbed_changes + each.rejected_changes + each.retracted_changes,
    0,
  );

/** Works on one table after the other; holds the lock that apply_batch takes, by the session. */
function whileHeld<T>(
  settings: Settings,
  tables: readonly string[] | undefined,
  work: (place: Omit<Forgetting, 'ids'>) => Promise<T>,
): Promise<T[]> {
  return withDatabase(settings.warehouse, 'forget', async (warehouse) => {
    const logged = await loggedTables(settings.cdc_log_dir);
    const done: T[] = [];
    for (const { dimension_name: table } of selectTables(await dimensionMappings(warehouse), tables ?? [])) {
      const lock = `tidemark.dimension ${table}`;
      const holder = await tryLock(warehouse, lock);
      if (holder !== undefined)
        throw new HeldError(`the history of ${table} is at work: ${holder}`, {
          detail: `table=${table}`,
          hint: 'nothing was erased: wait for it, or stop what loads the table, then run this again',
        });
      const logs = logged.includes(table) ? await openChains(settings.cdc_log_dir, table) : [];
      const erasing = async () => {
        const known = await functions.recallForgettings(warehouse, table, await noted(logs));
        return work({ warehouse, table, logs, known, captured: [], rewritten: new Set() });
      };
      done.push(await whileLocked(() => unlock(warehouse, lock), erasing));
    }
    return done;
  });
}

const noted = (logs: readonly ChangeLog[]): Promise<string> =>
  logs[0] === undefined ? Promise.resolve('[]') : readForgettings(logs[0]);

/** Keeps what the warehouse knows of the forgettings of a table beside its change log, too. */
async function note({ warehouse, table, logs }: Forgetting): Promise<void> {
  if (logs[0] === undefined) return;
  const before = await readForgettings(logs[0]);
  const { notes } = await functions.forgettingNotes(warehouse, table, before);
  if (notes !== before) await writeForgettings(logs[0], notes);
}

async function erase(forgetting: Forgetting, key?: readonly string[]): Promise<functions.Forgetting[]> {
  const { warehouse, logs, ids, captured } = forgetting;
  await note(forgetting);
  for (const log of logs) await forgetInChain(forgetting, log);
  failpoint('forget files');
  await functions.noteCapturedUntil(warehouse, ids, captured);
  await note(forgetting);
  return inTransaction(warehouse, 'isolation level read committed', (session) =>
    functions.forgetKeys(session, ids, key),
  );
}

async function forgetInChain(forgetting: Forgetting, log: ChangeLog): Promise<void> {
  const { warehouse, table, ids, captured, rewritten, isAgain = false } = forgetting;
  const newest = await rewriteCheckpoints(log, (metadata) => functions.forgetInMetadata(warehouse, ids, metadata));
  if (newest !== undefined) captured.push(newest.extracted_at);
  await rewriteBatches(log, async ({ file, head, text }) => {
    const left = await functions.forgetInBatch(warehouse, ids, text);
    // What was forgotten before, the warehouse may not know.
    const content = left?.content_checksum ?? (isAgain ? head.content_checksum : undefined);
    const [about, lines] = [left?.forgetting_ids ?? [], left?.forgotten_lines ?? head.forgotten_lines.length];
    if (content != null)
      await functions.noteForgottenContent(warehouse, table, about, head.shard ?? '', head.batch_id, content, lines);
    if (left === undefined) return undefined;
    if (left.captured_until !== null) captured.push(left.captured_until);
    rewritten.add(head.batch_id);
    failpoint(`forget ${batchNameOf(file)}`);
    return { metadata: left.batch_metadata, lines: left.changes };
  });
}

export function formatForgetting(table: string, done: Forgotten): string {
  const lines = Object.values(done.files).reduce((sum, each) => sum + each, 0);
  return [
    `${table}: one key is forgotten (note ${done.forgetting_id}, ${done.reference}): ${counted(done.versions, done.keeps_shells ? 'shell' : 'version')}, ` +
      `${done.absorbed_changes} absorbed, ${done.rejected_changes} rejected, ${done.retracted_changes} retracted changes; ` +
      `${counted(Object.keys(done.files).length, 'batch file')} written anew, which lack ${counted(lines, 'line')}`,
    ...formatReached(table, done.exports),
    OUT_OF_REACH,
  ].join('\n');
}

export const formatForgottenAgain = (found: readonly ForgottenAgain[]): string =>
  linesOf(
    ...found.flatMap(({ table, references, rows, files, unknown, exports }) => [
      references.length > 0 &&
        `${table}: forgotten again (${references.join(', ')}): ${counted(rows, 'version')} and kept changes, in ${counted(files, 'batch file')}`,
      unknown.length > 0 &&
        `${table}: cannot be told here, as another warehouse noted them: ${unknown.join(', ')}; forget these keys by name`,
      ...formatReached(table, exports),
    ]),
    OUT_OF_REACH,
  );
