import { readdir, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import * as z from 'zod';
import { ensurePrivateFolder, flushFolder, readPrivateFile, replaceFile } from '../base/durable-file.js';
import { HeldError, TidemarkError, hasCode } from '../base/errors.js';
import { lsnOf, lsnText, type Lsn } from '../base/replication.js';
import type { Settings } from '../base/settings.js';

/** How far the reader of a slot has come, for all its tables: data/cdc_logs/.stream/<slot>/position.json. Tables that were quiet have no other. */

const positionSchema = z.object({
  slot: z.string(),
  system_identifier: z.string(),
  database_oid: z.string(),
  timeline: z.number().int().nullable(),
  /** What was committed before is durable in the change log. */
  to: z.string(),
  last_commit_time: z.string(),
  /** When, by the clock of the source, nothing more was committed than what is before; null where nobody has asked yet. */
  complete_at: z.string().nullable().default(null),
  tables: z.record(
    z.string(),
    z.object({
      /** Of its newest checkpoint then: one that is lacking says that its folder is older than this file. */
      sequence: z.number().int(),
      /** The entry of the publication that it was read through: another one was made anew, and what was committed in between was not sent. */
      publication: z.string(),
      /** Since where nothing of it is taken any more, and why. */
      stopped: z.object({ at: z.string(), reason: z.string() }).nullable(),
    }),
  ),
});
export type Position = z.infer<typeof positionSchema>;

/** The slot and the publication of a source. */
export function slotOf({ stream_slot, stream_publication, source }: Settings): { slot: string; publication: string } {
  const byDefault = `tidemark_${source.database.toLowerCase().replaceAll(/[^a-z0-9_]/g, '_')}`.slice(0, 63);
  return { slot: stream_slot ?? byDefault, publication: stream_publication ?? stream_slot ?? byDefault };
}

const FOLDER = '.stream';
const NAME = 'position.json';
const folderOf = (root: string, slot: string): string => path.join(root, FOLDER, slot);

export const positionFile = (root: string, slot: string): string => path.join(folderOf(root, slot), NAME);

/** undefined where nothing was ever read. @throws TidemarkError if the file cannot be read */
export async function readPosition(root: string, slot: string): Promise<Position | undefined> {
  const file = positionFile(root, slot);
  try {
    return positionSchema.parse(JSON.parse(await readPrivateFile(file)));
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined;
    throw new TidemarkError('the position of the reader of the log cannot be read', {
      detail: file,
      cause: error,
      hint: 'remove it: then each table goes on from its own checkpoints',
    });
  }
}

/**
 * @param known what the file said when this reader began
 * @throws HeldError if another reader has gone on meanwhile, as one does that took this one for dead
 */
export async function writePosition(root: string, position: Position, known: Lsn): Promise<void> {
  const { slot, to } = position;
  const before = lsnOf((await readPosition(root, slot))?.to ?? '0/0');
  if (before > known && before > lsnOf(to))
    throw new HeldError(`another reader of the log has gone on: ${lsnText(before)}`, {
      detail: `slot=${slot} here=${to}`,
      hint: 'one reader is enough: stop the other one, or leave it to that',
    });
  await replaceFile(folderOf(root, slot), NAME, `${JSON.stringify(position, null, 2)}\n`);
  // The server is told of it, and never sends again what came before.
  await flushFolder(folderOf(root, slot));
}

export async function ensurePositionFolder(root: string, slot: string): Promise<void> {
  for (const folder of [root, path.join(root, FOLDER), folderOf(root, slot)]) await ensurePrivateFolder(folder);
}

/** An instant as to_json prints it, in UTC. @param micros microseconds since 1970 */
export function isoOf(micros: bigint): string {
  const [seconds, fraction] = [micros / 1_000_000n, micros % 1_000_000n];
  const digits = fraction === 0n ? '' : `.${String(fraction).padStart(6, '0').replace(/0+$/, '')}`;
  return `${new Date(Number(seconds) * 1000).toISOString().slice(0, 19)}${digits}+00:00`;
}

/** The same the other way round. */
export function microsOf(iso: string): bigint {
  const [, seconds = '', fraction = ''] = /^(.{19})(?:\.([0-9]{1,6}))?/.exec(iso) ?? [];
  return BigInt(Date.parse(`${seconds}Z`)) * 1000n + BigInt(fraction.padEnd(6, '0'));
}

/** Whether a snapshot shows what a transaction wrote. @param xid the lower half of its number, as the log has it */
export function isVisible(snapshot: string, xid: number): boolean {
  const [xmin = '0', xmax = '0', open = ''] = snapshot.split(':');
  const next = BigInt(xmax);
  // The number that is nearest to the snapshot's next one.
  const number = next + BigInt.asIntN(32, BigInt(xid) - BigInt.asUintN(32, next));
  return number < BigInt(xmin) || (number < next && !open.split(',').includes(String(number)));
}

const HOLDS = 'holds';

/**
 * While a table is handed over to the log, the reader of the slot confirms nothing, so that the server keeps what that table will go on from.
 * @returns ends that: then the reader takes the table in
 */
export async function holdSlot(root: string, slot: string, table: string): Promise<() => Promise<void>> {
  await ensurePositionFolder(root, slot);
  const folder = path.join(folderOf(root, slot), HOLDS);
  await ensurePrivateFolder(folder);
  await replaceFile(folder, table, '');
  return () => rm(path.join(folder, table), { force: true });
}

/** The tables that are being handed over, and what tells whether that has changed. */
export type Holds = Readonly<{ tables: readonly string[]; mark: string }>;

export async function readHolds(root: string, slot: string): Promise<Holds> {
  const folder = path.join(folderOf(root, slot), HOLDS);
  try {
    const { mtimeMs } = await stat(folder);
    return { tables: await readdir(folder), mark: String(mtimeMs) };
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return { tables: [], mark: '' };
    throw error;
  }
}

/** How soon a reader takes a table in that was handed over to it. */
export const HAND_OVER_MS = 500;

/** Waits so many seconds, or until a table was handed over, for a reader that has none, or could not begin. */
export async function awaitHandOver(settings: Settings, seconds: number, signal: AbortSignal): Promise<void> {
  const { slot } = slotOf(settings);
  const deadline = performance.now() + seconds * 1000;
  const { mark } = await readHolds(settings.cdc_log_dir, slot);
  for (let left = seconds * 1000; left > 0; left = deadline - performance.now()) {
    await sleep(Math.min(left, HAND_OVER_MS), undefined, { signal });
    const now = await readHolds(settings.cdc_log_dir, slot);
    if (now.tables.length === 0 && now.mark !== mark) return;
  }
}
