import type { Stats } from 'node:fs';
import { lstat, realpath } from 'node:fs/promises';
import path from 'node:path';
import { TidemarkError, hasCode } from './errors.js';

/** What others could turn into a folder of theirs is no place for customers' data, nor for files that a process with rights writes. */

const OTHERS_MAY_WRITE = 0o002;
const STICKY = 0o1000;

const ownId = (): number | undefined => process.getuid?.();
const isTrusted = ({ uid }: Stats): boolean => ownId() === undefined || uid === 0 || uid === ownId();
/** In a sticky folder, as /tmp is, nobody moves away what belongs to others. */
const isOpenToAll = ({ mode }: Stats): boolean => (mode & OTHERS_MAY_WRITE) !== 0 && (mode & STICKY) === 0;

/**
 * Refuses a folder that is a symbolic link, that everybody may write to, or, where it must be its user's own, belongs to another;
 * and likewise one that is reached over a link that another user has laid, or lies below a folder in which everybody may move things.
 * One that is not there is fine.
 * @param setting the setting that names the folder
 * @throws TidemarkError with what is wrong and the command that mends it
 */
export async function assertSafeFolder(folder: string, setting: string, isOwn = true): Promise<void> {
  const found = await statOf(folder);
  const refuse = (what: string, hint: string) =>
    new TidemarkError(`${folder} is not safe: ${what}`, { hint: `${hint}, or set ${setting} to another folder` });
  if (found !== undefined) {
    if (!found.isDirectory())
      throw new TidemarkError(`${folder} is not a folder of its own`, {
        hint: `a symbolic link is not followed here: set ${setting} to the real folder`,
      });
    if ((found.mode & OTHERS_MAY_WRITE) !== 0)
      throw refuse('everybody may write to it', `close it (chmod o-w ${folder})`);
    if (isOwn && ownId() !== undefined && found.uid !== ownId())
      throw refuse(
        `it belongs to another OS user (number ${found.uid})`,
        'run the command as that user, give the folder to this one (chown -R)',
      );
  }
  for (const above of await waysTo(folder)) {
    const way = await statOf(above);
    if (way === undefined) continue;
    if (way.isSymbolicLink() && !isTrusted(way))
      throw refuse(`${above} on the way to it is a symbolic link of another OS user`, 'remove the link');
    if (way.isDirectory() && isOpenToAll(way))
      throw refuse(
        `everybody may write to ${above} above it, and put another folder in its place`,
        `close it (chmod o-w ${above})`,
      );
  }
}

/** The folders above one: as its path names them, and as they are once links are followed. */
async function waysTo(folder: string): Promise<Set<string>> {
  const parent = path.dirname(folder);
  const real = await realpath(parent).catch(() => parent);
  return new Set([...upFrom(parent), ...upFrom(real)]);
}

const upFrom = (folder: string): string[] =>
  path.dirname(folder) === folder ? [folder] : [folder, ...upFrom(path.dirname(folder))];

const statOf = (file: string): Promise<Stats | undefined> =>
  lstat(file).catch((error: unknown) => {
    if (hasCode(error, 'ENOENT', 'ENOTDIR', 'EACCES')) return undefined;
    throw error;
  });
