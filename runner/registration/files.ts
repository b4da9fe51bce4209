import { mkdir, readFile, readdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { TidemarkError, hasCode } from '../base/errors.js';

/** A migration in the folder of dimensions. */
export interface DimensionFile {
  readonly file: string;
  readonly text: string;
}

const NUMBERED = /^(\d+)_.*\.sql$/;

/** The migrations that register tables, in the order in which they run; none where the folder is not there yet. */
export async function dimensionFiles(folder: string): Promise<DimensionFile[]> {
  const names = await readdir(folder).catch((error: unknown) => {
    if (hasCode(error, 'ENOENT')) return [];
    throw error;
  });
  const files = names
    .filter((name) => name.endsWith('.sql'))
    .sort()
    .map((name) => path.join(folder, name));
  return Promise.all(files.map(async (file) => ({ file, text: await readFile(file, 'utf8') })));
}

/** The last file that registers a dimension of that name; undefined where none does. */
export function registeringFile(files: readonly DimensionFile[], name: string): string | undefined {
  return files.findLast(
    ({ text }) => text.includes('register_dimension') && text.includes(`p_dimension_name => '${name}'`),
  )?.file;
}

/**
 * Writes the next migration of the folder. A number that somebody else took meanwhile is not taken twice.
 * @param words what it does, as a file name: register_customers
 * @returns the path of the file
 */
export async function writeDimensionFile(folder: string, words: string, text: string): Promise<string> {
  try {
    await mkdir(folder, { recursive: true });
    const numbers = (await readdir(folder)).map((name) => Number(NUMBERED.exec(name)?.[1] ?? 0));
    const file = path.join(folder, `${String(Math.max(0, ...numbers) + 1).padStart(4, '0')}_${words}.sql`);
    await writeFile(file, text, { flag: 'wx' });
    return file;
  } catch (error) {
    throw new TidemarkError(
      `the migration cannot be written: ${error instanceof Error ? error.message : String(error)}`,
      {
        detail: folder,
        cause: error,
        hint: 'give this user the folder, set DIMENSIONS_DIR to another one, or print it with --dry-run',
      },
    );
  }
}
