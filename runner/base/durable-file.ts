import { isUtf8 } from 'node:buffer';
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { gunzip, gzip } from 'node:zlib';
import { TidemarkError, hasCode, tolerateGone } from './errors.js';
import { failpoint } from './failpoint.js';
import { assertSafeFolder } from './safe-folder.js';

/** Only the disk is waited for: the rest takes less time here than it would to hand it to another thread, which on a busy machine comes to it late. */
const flush = promisify(fs.fsync);
const { constants } = fs;

/** Temporary files begin like this; what carries the prefix was never published and may be removed. */
export const TEMPORARY_PREFIX = '.tmp-';

/** Somebody else has published a file of this name: the writer has lost the race and must start again. */
export class AlreadyPublishedError extends TidemarkError {}

/**
 * Makes a folder only its owner can enter. A symbolic link in its place is refused, and a folder that others can change.
 * The folders above it stay open to others: the embedded servers' data may lie beside it.
 */
export async function ensurePrivateFolder(folder: string, setting = 'CDC_LOG_DIR'): Promise<void> {
  try {
    await mkdir(path.dirname(folder), { recursive: true, mode: 0o755 });
    await mkdir(folder, { mode: 0o700 }).catch((error: unknown) => {
      if (!hasCode(error, 'EEXIST')) throw error;
    });
  } catch (error) {
    throw explainFileError(error, folder);
  }
  await assertSafeFolder(folder, setting);
}

/**
 * Publishes a file so that it is whole or absent, whatever happens: written under a temporary name (0600, no links followed),
 * flushed, then linked to its name, then the folder flushed. Unlike rename, link fails where the name is taken.
 * @throws AlreadyPublishedError if the name is taken; TidemarkError if the disk is full or the folder cannot be written.
 */
export async function publishFile(folder: string, name: string, content: Content): Promise<void> {
  const temporary = temporaryFile(folder);
  try {
    await writeFlushed(temporary, content);
    failpoint('link');
    fs.linkSync(temporary, path.join(folder, name));
    await flushFolder(folder);
    failpoint('unlink');
  } catch (error) {
    if (hasCode(error, 'EEXIST'))
      throw new AlreadyPublishedError(`another writer has already published ${name}`, { detail: folder, cause: error });
    throw explainFileError(error, folder);
  } finally {
    discard(temporary);
  }
}

/** Writes a file that may be replaced at any time, such as a cache: readers see the old one or the new one, whole. By its name it is compressed. */
export async function replaceFile(folder: string, name: string, content: string, mode = PRIVATE): Promise<void> {
  const temporary = temporaryFile(folder);
  try {
    await writeFlushed(temporary, name.endsWith(COMPRESSED) ? await compress(Buffer.from(content)) : content, mode);
    failpoint('replace');
    fs.renameSync(temporary, path.join(folder, name));
  } catch (error) {
    discard(temporary);
    throw explainFileError(error, folder);
  }
}

const temporaryFile = (folder: string) =>
  path.join(folder, `${TEMPORARY_PREFIX}${process.pid}-${randomBytes(6).toString('hex')}`);

/** Removes a file, or heeds why it could not be removed. */
function discard(file: string, heed: (error: unknown) => void = () => undefined): void {
  try {
    fs.unlinkSync(file);
  } catch (error) {
    heed(error);
  }
}

const PRIVATE = 0o600;

/** What a file holds, or its parts. */
export type Content = string | Buffer | readonly (string | Buffer)[];

async function writeFlushed(file: string, content: Content, mode = PRIVATE): Promise<void> {
  const flags = constants.O_CREAT | constants.O_EXCL | constants.O_WRONLY | constants.O_NOFOLLOW;
  failpoint('open');
  const opened = fs.openSync(file, flags, mode);
  try {
    failpoint('write');
    for (const part of [content].flat()) fs.writeFileSync(opened, part);
    failpoint('fsync');
    await flush(opened);
  } finally {
    fs.closeSync(opened);
  }
}

/** Makes the names in a folder survive a crash of the machine. */
export async function flushFolder(folder: string): Promise<void> {
  failpoint('flush folder');
  const opened = fs.openSync(folder, constants.O_RDONLY | constants.O_DIRECTORY);
  await flush(opened).finally(() => fs.closeSync(opened));
}

/**
 * Moves a file into another folder of the same disk, without replacing anything there. The new name is flushed before the old one goes;
 * this may be there again after a crash, and a repeat is harmless. A file that is gone was moved by somebody else.
 */
export async function moveFile(file: string, toFolder: string): Promise<void> {
  try {
    if (!(await linkInto(file, path.join(toFolder, path.basename(file))))) return;
    failpoint('move flush');
    await flushFolder(toFolder);
    failpoint('move unlink');
    discard(file, tolerateGone);
    failpoint('moved');
  } catch (error) {
    throw explainFileError(error, toFolder);
  }
}

/** Whether the file is still to be removed where it was: an earlier move may have got as far as here, or another loader all the way. */
async function linkInto(from: string, target: string): Promise<boolean> {
  try {
    failpoint('move link');
    try {
      fs.linkSync(from, target);
    } catch (error) {
      if (!hasCode(error, 'EEXIST')) throw error;
      const [one, other] = [fs.lstatSync(from), fs.lstatSync(target)];
      if (one.ino === other.ino && one.dev === other.dev) return true;
      const same = one.isFile() && other.isFile() && (await readPrivateFile(from)) === (await readPrivateFile(target));
      if (!same) throw otherContent(target);
    }
    return true;
  } catch (error) {
    tolerateGone(error);
    return false;
  }
}

const otherContent = (file: string) =>
  new TidemarkError(`${file} is there already, with other content`, {
    hint: 'compare the two files and remove the one that is wrong',
  });

const LARGEST_FILE = 500 * 1024 * 1024;
const tooLarge = (file: string, cause?: unknown) =>
  new TidemarkError(`it is larger than ${LARGEST_FILE} bytes`, { detail: file, cause });

/** What a compressed file is called: as it was, with this at the end. */
export const COMPRESSED = '.gz';

/** Quickly rather than well: these files shrink to a tenth either way. */
const compress = (bytes: Buffer): Promise<Buffer> => promisify(gzip)(bytes, { level: 1 });

/**
 * Replaces a file by a compressed one, beside it or in another folder of the same disk, whole or not at all; a repeat after a crash is harmless. One that
 * was written anew meanwhile, without what was forgotten, stays.
 */
export async function compressFile(file: string, toFolder = path.dirname(file)): Promise<void> {
  const { ino } = fs.lstatSync(file);
  const bytes = await readPrivateBytes(file);
  const target = path.join(toFolder, path.basename(file) + COMPRESSED);
  try {
    await publishFile(toFolder, path.basename(target), await compress(bytes));
  } catch (error) {
    if (!(error instanceof AlreadyPublishedError)) throw error;
    if (!(await readPrivateBytes(target)).equals(bytes)) throw otherContent(target);
  }
  // After a crash it may be there again, and is compressed again.
  fs.unlinkSync(fs.lstatSync(file).ino === ino ? file : target);
}

/** Reads a regular file as text; a compressed one is unpacked. A symbolic link is refused. */
export async function readPrivateFile(file: string): Promise<string> {
  const bytes = await readPrivateBytes(file);
  if (!isUtf8(bytes)) throw new TidemarkError('it is not valid UTF-8', { detail: file });
  return bytes.toString();
}

async function readPrivateBytes(file: string): Promise<Buffer> {
  // A pipe that nobody writes to would never open, and the process would never end: it is opened at once, and refused below.
  const opened = fs.openSync(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const stat = fs.fstatSync(opened);
    if (!stat.isFile()) throw new TidemarkError('it is not a regular file', { detail: file });
    if (stat.size > LARGEST_FILE) throw tooLarge(file);
    // Into one buffer of the size of the file.
    const bytes = fs.readFileSync(opened);
    return file.endsWith(COMPRESSED) ? await promisify(gunzip)(bytes, { maxOutputLength: LARGEST_FILE }) : bytes;
  } catch (error) {
    if (hasCode(error, 'ERR_BUFFER_TOO_LARGE')) throw tooLarge(file, error);
    if (error instanceof Error && 'code' in error && String(error.code).startsWith('Z_'))
      throw new TidemarkError('it is no compressed file, or it is truncated', { detail: file, cause: error });
    throw error;
  } finally {
    fs.closeSync(opened);
  }
}

/** Turns what the file system throws into what a user can act on. */
export function explainFileError(error: unknown, folder: string): unknown {
  if (error instanceof TidemarkError) return error;
  if (hasCode(error, 'ENOSPC', 'EDQUOT'))
    return new TidemarkError('the disk of the change log is full', {
      detail: folder,
      hint: 'free some room; nothing was lost, the same command goes on where it stopped',
      cause: error,
    });
  if (hasCode(error, 'EACCES', 'EPERM', 'EROFS', 'ENOTDIR', 'EEXIST', 'ELOOP'))
    return new TidemarkError('the change log cannot be written', {
      detail: `${folder} (${(error as Error).message})`,
      hint: 'give this user the folder, or set CDC_LOG_DIR to another one',
      cause: error,
    });
  return error;
}
