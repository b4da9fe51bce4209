import { lstat, open, readdir, rename, rm, unlink } from 'node:fs/promises';
import { hostname } from 'node:os';
import path from 'node:path';
import * as z from 'zod';
import { TEMPORARY_PREFIX, flushFolder, readPrivateFile, replaceFile } from '../base/durable-file.js';
import { TidemarkError, hasCode, tolerateGone } from '../base/errors.js';
import { withLock } from '../base/lock-file.js';

/**
 * The folder of an export. Its manifest is the export: what it names is there, whole, and never altered; a name is used once. What is replaced stays
 * for readers that began with an older manifest, and is named in it until it goes. Any other file of such a name was never published.
 */

export const MANIFEST = 'manifest.json';
const LOCK = '.lock';
const FORMAT = 'tidemark export';
const FILE_NAME = /^(?:current|\d{4,}-\d{2})-\d+-[0-9a-f]{8}\.parquet$/;

const fileSchema = z.object({
  name: z.string().regex(FILE_NAME),
  part: z.string(),
  versions: z.number(),
  digest: z.string(),
  bytes: z.number(),
  columns: z.record(z.string(), z.string()),
});
const manifestSchema = z.object({
  format: z.literal(FORMAT),
  version: z.literal(1),
  export_id: z.uuid(),
  number: z.int(),
  table: z.string(),
  history: z.string(),
  exported_at: z.string(),
  versions: z.number(),
  key: z.array(z.string()),
  columns: z.array(
    z.object({ name: z.string(), type: z.string(), parquet: z.string(), text_because: z.string().nullable() }),
  ),
  left_out: z.array(z.string()),
  files: z.array(fileSchema),
  replaced: z.array(z.object({ name: z.string().regex(FILE_NAME), replaced_at: z.iso.datetime() })),
});

/** A file of Parquet: the part it holds, and the types of its columns by their names. */
export type ExportFile = Readonly<z.infer<typeof fileSchema>>;
/** What an export consists of. */
export type Manifest = Readonly<Omit<z.infer<typeof manifestSchema>, 'format' | 'version'>>;

/**
 * What is in the folder by now; undefined where there is no export.
 * @throws TidemarkError where its manifest is none of Tidemark's, or broken
 */
export async function readManifest(folder: string): Promise<Manifest | undefined> {
  const file = path.join(folder, MANIFEST);
  const text = await readPrivateFile(file).catch(tolerateGone);
  if (text === undefined) return undefined;
  try {
    return manifestSchema.parse(JSON.parse(text));
  } catch (error) {
    throw new TidemarkError('the folder has a manifest that is no export of this release, or broken', {
      detail: file,
      hint: 'give --to another folder; or, where the export is to be made anew, remove that file first',
      cause: error,
    });
  }
}

/** Puts a manifest in the place of the one before, whole or not at all. A file, a column and what was replaced has a line each. */
export async function publishManifest(folder: string, manifest: Manifest): Promise<void> {
  const members = Object.entries({ format: FORMAT, version: 1, ...manifest }).map(([name, value]) => {
    const isList = Array.isArray(value) && value.some((each) => typeof each === 'object');
    const lines = isList ? `[\n${(value as object[]).map((each) => JSON.stringify(each)).join(',\n')}\n]` : undefined;
    return `${JSON.stringify(name)}: ${lines ?? JSON.stringify(value)}`;
  });
  await replaceFile(folder, MANIFEST, `{\n${members.join(',\n')}\n}\n`, READABLE);
  await flushFolder(folder);
}

/** Who may enter the folder may read what is in it. */
const READABLE = 0o644;

/** The name of a file: of which part, published first by the manifest of that number. */
export const fileName = (part: string, number: number, exportId: string): string =>
  `${part}-${number}-${exportId.slice(0, 8)}.parquet`;

/** A name for what is not published yet. */
export const temporaryName = (folder: string, ending: string): string =>
  path.join(folder, `${TEMPORARY_PREFIX}${process.pid}${ending}`);

/** Gives a file that is written its name; both survive a crash of the machine once the folder is flushed. Returns its size in bytes. */
export async function nameFile(written: string, file: string): Promise<number> {
  const handle = await open(written, 'r+');
  try {
    await handle.sync();
    await rename(written, file);
    return (await handle.stat()).size;
  } finally {
    await handle.close();
  }
}

/** Files in the folder that no manifest names: of exports that were cut off. */
export async function leftovers(folder: string, manifest: Manifest | undefined): Promise<string[]> {
  const named = new Set([...(manifest?.files ?? []), ...(manifest?.replaced ?? [])].map(({ name }) => name));
  const names = (await readdir(folder).catch(tolerateGone)) ?? [];
  return names.filter((name) => name.startsWith(TEMPORARY_PREFIX) || (FILE_NAME.test(name) && !named.has(name)));
}

export async function removeFiles(folder: string, names: readonly string[]): Promise<void> {
  for (const name of names)
    if (name.startsWith(TEMPORARY_PREFIX)) await rm(path.join(folder, name), { recursive: true, force: true });
    else await unlink(path.join(folder, name)).catch(tolerateGone);
  if (names.length > 0) await flushFolder(folder);
}

/** Whether a file is there as the manifest has it. */
export const isThere = async (folder: string, { name, bytes }: ExportFile): Promise<boolean> => {
  const found = await lstat(path.join(folder, name)).catch(tolerateGone);
  return found?.isFile() === true && found.size === bytes;
};

/** Refuses a copy of an export that is still in the folder that is noted for it: in one of them only would a key be forgotten. */
export async function assertNoCopy(
  folder: string,
  noted: { readonly export_id: string; readonly host: string; readonly folder: string },
): Promise<void> {
  if (noted.host !== hostname()) return;
  const there = await readManifest(noted.folder).catch(() => undefined);
  if (there?.export_id !== noted.export_id) return;
  const [one, other] = [await lstat(path.join(folder, MANIFEST)), await lstat(path.join(noted.folder, MANIFEST))];
  // It may be the same under a second path.
  if (one.ino === other.ino && one.dev === other.dev) return;
  throw new TidemarkError(`the folder is a copy of the export in ${noted.folder}`, {
    detail: folder,
    hint: `a key is forgotten in one of them only: give --to that one; or remove ${MANIFEST} here: everything is written anew then, as an export of its own`,
  });
}

/** Does what changes the folder, one at a time. */
export const whileHeld = <T>(folder: string, work: () => Promise<T>): Promise<T> =>
  withLock(path.join(folder, LOCK), work).catch((error: unknown) => explain(error, folder));

/** Throws what a user can act on. */
export function explain(error: unknown, folder: string): never {
  const cause = error instanceof TidemarkError ? error.cause : error;
  const parts = { detail: folder, cause: error };
  if (
    hasCode(cause, 'ENOSPC', 'EDQUOT') ||
    /No space left|[Qq]uota exceeded/.test((cause as Error | undefined)?.message ?? '')
  )
    throw new TidemarkError('the disk of the export is full', {
      ...parts,
      hint: 'free some room: beside a file, its versions as text must fit. The export before this one stands; the same command goes on',
    });
  if (hasCode(cause, 'EACCES', 'EPERM', 'EROFS', 'ENOTDIR', 'EEXIST', 'ELOOP'))
    throw new TidemarkError('the folder of the export cannot be written', {
      detail: `${folder} (${(cause as Error).message})`,
      hint: 'give this user the folder, or give --to another one',
      cause: error,
    });
  throw error;
}
