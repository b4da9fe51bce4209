import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { withDatabase } from '../base/database.js';
import { TidemarkError } from '../base/errors.js';
import type { Settings } from '../base/settings.js';
import { dbtFiles } from '../warehouse/functions.js';

/**
 * Writes the histories as files of a dbt project, over what was written before.
 * @returns the files, in the folder
 * @throws TidemarkError where one cannot be written
 */
export async function exportDbt(settings: Settings, folder: string): Promise<string[]> {
  const files = await withDatabase(settings.warehouse, 'export', dbtFiles);
  for (const { file_name: name, content } of files) {
    const file = path.join(folder, name);
    try {
      await mkdir(path.dirname(file), { recursive: true });
      await writeFile(file, content.replace(/^\n/, ''));
    } catch (error) {
      throw new TidemarkError('a file of the dbt project cannot be written', {
        detail: `${file} (${String(error)})`,
        hint: 'give --output a folder that can be written',
        cause: error,
      });
    }
  }
  return files.map((each) => each.file_name);
}
