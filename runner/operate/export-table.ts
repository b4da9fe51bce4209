import { randomUUID } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { realpath, unlink } from 'node:fs/promises';
import { hostname } from 'node:os';
import path from 'node:path';
import { tryLock, unlock, whileLocked } from '../base/advisory-lock.js';
import { copyOut } from '../base/copy.js';
import { type Database, type Transaction, withDatabase } from '../base/database.js';
import { ensurePrivateFolder } from '../base/durable-file.js';
import { HeldError, TidemarkError, UsageError, tolerateGone } from '../base/errors.js';
import { failpoint } from '../base/failpoint.js';
import type { Settings } from '../base/settings.js';
import { counted, linesOf } from '../base/text-table.js';
import { inTransaction } from '../base/transaction.js';
import { withProgress } from '../run/progress.js';
import * as functions from '../warehouse/exports.js';
import { dimensionMappings } from '../warehouse/functions.js';
import * as place from './export-folder.js';
import { openParquetWriter, type ParquetWriter } from './parquet.js';

/** How long what was replaced stays for readers that began before, in hours. */
export const GRACE_HOURS = 24;

/** What an export came to. */
export type Exported = Awaited<ReturnType<typeof renew>>;

interface Export {
  readonly warehouse: Database;
  readonly folder: string;
  readonly table: string;
  readonly id: string;
  readonly before: place.Manifest | undefined;
  readonly writer: ParquetWriter;
  readonly signal: AbortSignal | undefined;
}

/**
 * Exports a history to a folder: files of Parquet, of ended versions by the month of their end and of those in force, from one snapshot. What is there
 * and still right stays. The manifest is put in its place last: cut off at any point, the export before it is there, whole.
 * @param graceHours how long what is replaced stays; nothing of it does where a key was forgotten
 * @throws UsageError where the writer is not installed; HeldError where another one is at it; TidemarkError for a folder with something else in it,
 * a disk that is full, columns that a file cannot tell apart
 */
export function exportTable(
  settings: Settings,
  table: string,
  folder: string,
  graceHours = GRACE_HOURS,
  signal?: AbortSignal,
): Promise<Exported> {
  return withDatabase(settings.warehouse, 'export', async (warehouse) => {
    // A name that there is not makes no folder.
    await functions.exportColumns(warehouse, table, [], []);
    await ensurePrivateFolder(folder, '--to').catch((error: unknown) => place.explain(error, folder));
    const real = await realpath(folder);
    return place.whileHeld(real, () => exportInto(warehouse, table, real, graceHours, signal));
  });
}

async function exportInto(
  warehouse: Database,
  table: string,
  folder: string,
  graceHours: number,
  signal: AbortSignal | undefined,
): Promise<Exported> {
  const before = await place.readManifest(folder);
  await assertOwn(warehouse, table, folder, before);
  const id = before?.export_id ?? randomUUID();
  const lock = `tidemark.export ${id}`;
  const holder = await tryLock(warehouse, lock);
  if (holder !== undefined)
    throw new HeldError(`this export of ${table} is at work on another machine: ${holder}`, {
      detail: folder,
      hint: 'wait for it, then run this again',
    });
  return whileLocked(
    () => unlock(warehouse, lock),
    async () => {
      await functions.noteExport(warehouse, id, table, hostname(), folder);
      await place.removeFiles(folder, await place.leftovers(folder, before));
      const writer = await openParquetWriter(place.temporaryName(folder, '-spill'));
      try {
        return await renew({ warehouse, folder, table, id, before, writer, signal }, graceHours);
      } finally {
        writer.close();
        await place.removeFiles(folder, await place.leftovers(folder, await place.readManifest(folder)));
      }
    },
  );
}

/** Refuses a folder in which there is the export of something else. */
async function assertOwn(warehouse: Database, table: string, folder: string, before: place.Manifest | undefined) {
  if (before === undefined) return;
  if (before.table !== table)
    throw new TidemarkError(`the folder has an export of ${before.table}`, {
      detail: folder,
      hint: 'a folder has the export of one table: give --to another one',
    });
  const notes = await functions.exportNotes(warehouse, table);
  const note = notes.find(({ export_id }) => export_id === before.export_id);
  if (note !== undefined) return place.assertNoCopy(folder, note);
  throw new TidemarkError(`the folder has an export of ${table} that this warehouse does not know`, {
    detail: folder,
    hint:
      'give --to another folder; or, where this warehouse was restored from a backup or the table registered anew, remove ' +
      `${place.MANIFEST} there: everything is written anew then`,
  });
}

/** Writes what differs, publishes it, and removes what has had its time. */
async function renew(given: Export, graceHours: number) {
  const { warehouse, folder, table, id, before } = given;
  const made = await inTransaction(warehouse, 'isolation level repeatable read read only', (snapshot) =>
    writeParts(snapshot, given),
  );
  const { manifest, behindSince } = made;
  const now = new Date();
  const live = new Set(manifest.files.map(({ name }) => name));
  const gone = (before?.files ?? []).filter(({ name }) => !live.has(name));
  const replaced = [...(before?.replaced ?? []), ...gone.map(({ name }) => ({ name, replaced_at: now.toISOString() }))];
  // Of a key that is forgotten there may be something in what was replaced.
  const isOver = (at: string) => behindSince !== null || now.getTime() - Date.parse(at) >= graceHours * 3_600_000;
  const over = replaced.filter(({ replaced_at }) => isOver(replaced_at));
  failpoint('export publish');
  await place.publishManifest(folder, { ...manifest, replaced: replaced.filter((each) => !over.includes(each)) });
  failpoint('export published');
  await place.removeFiles(
    folder,
    over.map(({ name }) => name),
  );
  await functions.noteExported(warehouse, id, manifest.exported_at, String(manifest.versions), behindSince);
  const kept = manifest.files.filter(({ name }) => before?.files.some((each) => each.name === name)).length;
  const asText = manifest.columns.filter(({ text_because }) => text_because !== null);
  return {
    table,
    folder,
    exported_at: manifest.exported_at,
    versions: manifest.versions,
    /** By what became of them: written now, still right, and removed after their time. */
    files: { written: manifest.files.length - kept, kept, removed: over.length },
    /** Columns that are text in files, each with the reason. */
    text_columns: Object.fromEntries(asText.map(({ name, text_because }) => [name, String(text_because)])),
    left_out: manifest.left_out,
  };
}

/** Writes the parts that are not in the folder as they are in the snapshot. Returns what the manifest is to say; and since when the export was behind, seen from there. */
async function writeParts(snapshot: Transaction, given: Export) {
  const { table, id, before } = given;
  const [clock] = await snapshot<{ moment: string }[]>`select transaction_timestamp()::text as moment`;
  const notes = await functions.exportNotes(snapshot, table);
  const leftBefore = before?.left_out ?? [];
  const readable = namesOf(await functions.exportColumns(snapshot, table, [], leftBefore));
  const parts = await functions.exportParts(snapshot, table, readable);
  const odd = [...new Set(parts.flatMap(({ odd_columns }) => odd_columns))];
  const all = await functions.exportColumns(snapshot, table, odd, leftBefore);
  const columns = all.filter(({ is_left_out }) => !is_left_out);
  assertTellable(table, readable);

  const number = (before?.number ?? 0) + 1;
  const types = Object.fromEntries(columns.map(({ column_name, parquet_type }) => [column_name, parquet_type]));
  const files: place.ExportFile[] = [];
  await withProgress(`export ${table}`, undefined, async ({ advance }) => {
    for (const part of parts) {
      given.signal?.throwIfAborted();
      const known = before?.files.find((file) => isSame(file, part, types));
      const isKept = known !== undefined && (await place.isThere(given.folder, known));
      files.push(isKept ? known : await writePart(snapshot, given, part, columns, types, number));
      advance(Number(part.versions));
    }
  });
  const { history, key } = await describe(snapshot, table);
  const manifest: Omit<place.Manifest, 'replaced'> = {
    ...{ export_id: id, number, table, history, exported_at: clock?.moment ?? '' },
    ...{ versions: files.reduce((sum, { versions }) => sum + versions, 0), key },
    columns: columns.map(({ column_name: name, column_type: type, parquet_type: parquet, text_because }) => ({
      ...{ name, type, parquet, text_because },
    })),
    left_out: all.flatMap(({ column_name, is_left_out }) => (is_left_out ? [column_name] : [])),
    files,
  };
  return { manifest, behindSince: notes.find(({ export_id }) => export_id === id)?.behind_since ?? null };
}

const namesOf = (columns: readonly functions.ExportColumn[]): string[] =>
  columns.flatMap(({ column_name, is_left_out }) => (is_left_out ? [] : [column_name]));

/** Readers of Parquet take two names that differ by the case of letters for one. */
function assertTellable(table: string, names: readonly string[]): void {
  const seen = new Map<string, string>();
  for (const name of names) {
    const other = seen.get(name.toLowerCase());
    if (other !== undefined)
      throw new TidemarkError(`columns ${other} and ${name} of ${table} cannot be told apart in a file of Parquet`, {
        hint: 'rename one of them in the history, with its mapping',
      });
    seen.set(name.toLowerCase(), name);
  }
}

/** Whether a file holds a part as it is now: a column that it lacks has no value there, or the digest would be another. */
const isSame = (file: place.ExportFile, part: functions.ExportPart, types: Readonly<Record<string, string>>): boolean =>
  file.part === part.part &&
  file.versions === Number(part.versions) &&
  file.digest === part.digest &&
  Object.entries(file.columns).every(([name, type]) => types[name] === type);

async function writePart(
  snapshot: Transaction,
  { warehouse, folder, table, id, writer, signal }: Export,
  { part, versions, digest, most_bytes }: functions.ExportPart,
  columns: readonly functions.ExportColumn[],
  types: Readonly<Record<string, string>>,
  number: number,
): Promise<place.ExportFile> {
  const [csv, written] = ['.csv', '.parquet'].map((ending) => place.temporaryName(folder, ending)) as [string, string];
  const query = await functions.exportQuery(snapshot, table, namesOf(columns), part);
  const name = place.fileName(part, number, id);
  try {
    const copy = `copy (${query}) to stdout (format csv, force_quote *)`;
    await copyOut(warehouse, snapshot, copy, createWriteStream(csv, { flags: 'wx', mode: 0o600 }), { signal });
    failpoint('export part');
    const rows = await writer.write(csv, written, columns, most_bytes);
    if (rows !== Number(versions))
      throw new TidemarkError(`a file of the export has ${rows} versions where there are ${versions}`, {
        detail: `table=${table} part=${part}`,
        hint: 'nothing was published; this is a fault of Tidemark or of its writer: report it',
      });
  } finally {
    await unlink(csv).catch(tolerateGone);
  }
  const bytes = await place.nameFile(written, path.join(folder, name));
  return { name, part, versions: Number(versions), digest, bytes, columns: types };
}

/** What a reader needs to know of the history besides its columns. */
async function describe(snapshot: Transaction, table: string) {
  const mapping = (await dimensionMappings(snapshot)).find(({ dimension_name }) => dimension_name === table);
  if (mapping === undefined) throw new UsageError(`no table is registered as ${table}`);
  const keys = mapping.columns.filter(({ role }) => role === 'business key');
  return { history: mapping.history_table, key: keys.map(({ history }) => history) };
}

const partly = (names: readonly string[]): string => names.slice(0, 8).join(', ') + (names.length > 8 ? ', ...' : '');

export function formatExported({ table, folder, versions, files, text_columns, left_out }: Exported): string {
  const texts = Object.entries(text_columns).map(([name, reason]) => `${name} (${reason})`);
  return linesOf(
    `${table}: ${counted(versions, 'version')} in ${folder}: ${counted(files.written, 'file')} written, ${files.kept} still right, ${files.removed} removed`,
    texts.length > 0 && `as text: ${partly(texts)}`,
    left_out.length > 0 && `left out, as they may not be read, or were left out before: ${partly(left_out)}`,
  );
}
