import { mkdir, readFile, readdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { TidemarkError, hasCode } from '../base/errors.js';

const NUMBERED = /^(\d+)_.*\.sql$/;

/** The name, without ending, of the last migration of the folder that registers a dimension of that name; undefined where none does. */
export async function registeringFile(folder: string, name: string): Promise<string | undefined> {
  const files = await readdir(folder).catch((error: unknown) => {
    if (hasCode(error, 'ENOENT')) return [];
    throw error;
  });
  for (const file of files
    .filter((each) => each.endsWith('.sql'))
    .sort()
    .reverse()) {
    const text = await readFile(path.join(folder, file), 'utf8');
    if (text.includes('register_dimension') && text.includes(`p_dimension_name => '${name}'`))
      return path.basename(file, '.sql');
  }
  return undefined;
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
