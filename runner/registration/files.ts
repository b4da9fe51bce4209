import { mkdir, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { TidemarkError, tolerateGone } from '../base/errors.js';
import { quoteText } from '../base/sql-text.js';
import type { TableName } from '../source/catalog.js';

const NUMBERED = /^(\d+)_.*\.sql$/;

/** A migration of the folder that registers a dimension. */
export interface RegisteringFile {
  readonly file: string;
  /** Its name without ending: that of the migration. */
  readonly migration: string;
  readonly dimension: string;
  readonly isOf: (table: TableName) => boolean;
}

/** Every registration of the folder, in the order in which they run. */
export async function registeringFiles(folder: string): Promise<RegisteringFile[]> {
  const names = (await readdir(folder).catch(tolerateGone)) ?? [];
  const found = names
    .filter((name) => name.endsWith('.sql'))
    .sort()
    .map(async (name) => {
      const file = path.join(folder, name);
      const [, ...calls] = (await readFile(file, 'utf8')).split(/\bregister_dimension\s*\(/);
      return calls.flatMap((call): RegisteringFile[] => {
        const dimension = /p_dimension_name\s*=>\s*'([^']*)'/.exec(call)?.[1];
        const says = (argument: string, value: string) =>
          call.replaceAll(/\s+=>\s+/g, ' => ').includes(`p_${argument} => ${quoteText(value)}`);
        const isOf = ({ schema, table }: TableName) => says('source_schema', schema) && says('source_table', table);
        return dimension === undefined ? [] : [{ file, migration: path.basename(name, '.sql'), dimension, isOf }];
      });
    });
  return (await Promise.all(found)).flat();
}

/**
 * Writes the next migration of the folder. A number that somebody else took meanwhile is not taken twice.
 * @param words what it does, as a file name: register_customers
 * @param replaced the file of a migration that has not run, whose number and place it takes
 * @returns the path of the file
 */
export async function writeDimensionFile(
  folder: string,
  words: string,
  text: string,
  replaced?: string,
): Promise<string> {
  try {
    await mkdir(folder, { recursive: true });
    const numbers = (await readdir(folder)).map((name) => Number(NUMBERED.exec(name)?.[1] ?? 0));
    const own = replaced === undefined ? undefined : /^\d+/.exec(path.basename(replaced))?.[0];
    const number = own ?? String(Math.max(0, ...numbers) + 1).padStart(4, '0');
    const file = path.join(folder, `${number}_${words}.sql`);
    await writeFile(file, text, { flag: file === replaced ? 'w' : 'wx' });
    if (replaced !== undefined && replaced !== file) await rm(replaced);
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
