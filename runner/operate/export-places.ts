import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import path from 'node:path';
import { realpath } from 'node:fs/promises';
import { withDatabase } from '../base/database.js';
import { UsageError, tolerateGone } from '../base/errors.js';
import type { Settings } from '../base/settings.js';
import { exportNotes, placeOfExport, removeExportNote, type ExportNote } from '../warehouse/exports.js';
import { MANIFEST, assertNoCopy, leftovers, readManifest, removeFiles, whileHeld } from './export-folder.js';
import { exportTable } from './export-table.js';

/** Where histories are exported to, as the warehouse has noted it. A folder is told by its manifest, on whatever machine it is mounted. */

/** An export from which a forgotten key is gone; or why it may still hold it. */
export interface ReachedExport extends Pick<ExportNote, 'host' | 'folder' | 'exported_by'> {
  readonly fault: string | null;
}

/** The exports of a table that may hold a key that is forgotten. */
export const exportsBehind = (settings: Settings, table: string): Promise<ExportNote[]> =>
  withDatabase(settings.warehouse, 'exports', async (warehouse) =>
    (await exportNotes(warehouse, table)).filter(({ behind_since }) => behind_since !== null),
  );

/** Makes the exports of a table anew that may hold a key that is forgotten, where this machine reaches them. */
export async function renewExportsBehind(settings: Settings, table: string): Promise<ReachedExport[]> {
  const reached: ReachedExport[] = [];
  for (const note of await exportsBehind(settings, table)) {
    const { host, folder, exported_by } = note;
    // The key is erased by now: whatever keeps one export from it, the others are made anew, and this one is named.
    const fault = await renew(settings, note).catch((error: unknown) => (error as Error).message);
    reached.push({ host, folder, exported_by, fault });
  }
  return reached;
}

async function renew(settings: Settings, { export_id, dimension_name: table, host, folder }: ExportNote) {
  const manifest = await readManifest(folder);
  // One that was cut off before it had a manifest is finished; where nothing of it is left, nobody knows whether it is elsewhere.
  const isBegun = host === hostname() && (await leftovers(folder, undefined)).length > 0;
  if (manifest === undefined ? !isBegun : manifest.export_id !== export_id)
    return host === hostname() ? 'it is not there' : 'it is on another machine';
  await exportTable(settings, table, folder);
  return null;
}

export function formatReached(table: string, exports: readonly ReachedExport[]): string[] {
  return exports.map((each) =>
    each.fault === null
      ? `export made anew: ${placeOfExport(each)}`
      : `export that may still hold it: ${placeOfExport(each)} (${each.fault}), last exported by ${each.exported_by}; there: ` +
        `npx tidemark export ${table} --format parquet --to ${each.folder}; or, where it is no more: npx tidemark export ${table} --to ${placeOfExport(each)} --remove`,
  );
}

export type RemovedExport = Readonly<{ table: string; place: string; files: number }>;

/**
 * Removes an export: its files, where they are here, and what the warehouse notes of it.
 * @param to the folder; or, of one that is no more, as `placeOfExport` names it
 * @throws UsageError where the warehouse knows no such export of the table
 */
export function removeExport(settings: Settings, table: string, to: string): Promise<RemovedExport> {
  return withDatabase(settings.warehouse, 'export', async (warehouse) => {
    const notes = await exportNotes(warehouse, table);
    const absolute = path.resolve(to);
    const folder = (await realpath(absolute).catch(tolerateGone)) ?? absolute;
    const manifest = await readManifest(folder);
    const isMeant = (note: ExportNote) =>
      note.export_id === manifest?.export_id ||
      placeOfExport(note) === to ||
      placeOfExport(note) === `${hostname()}:${folder}`;
    const note = notes.find(isMeant);
    if (note === undefined)
      throw new UsageError(`no export of ${table} is known to be in ${to}`, {
        hint: notes.length === 0 ? 'there is none' : `known are ${notes.map(placeOfExport).join(', ')}`,
      });
    const isHere = manifest?.export_id === note.export_id;
    const remove = async () => {
      await removeFiles(folder, [MANIFEST]);
      const names = await leftovers(folder, undefined);
      await removeFiles(folder, names);
      return names.length + 1;
    };
    if (isHere) await assertNoCopy(folder, note);
    // Who may not remove notes removes no file: asked of a note that there is not. Where a file stays, so does the note.
    await removeExportNote(warehouse, randomUUID());
    const files = isHere ? await whileHeld(folder, remove) : 0;
    await removeExportNote(warehouse, note.export_id);
    return { table, place: isHere ? folder : placeOfExport(note), files };
  });
}

export const formatRemovedExport = ({ table, place, files }: RemovedExport): string =>
  files > 0
    ? `the export of ${table} in ${place} is removed: ${files} files`
    : `the export of ${table} in ${place} is known no more; no file was there to be removed`;
