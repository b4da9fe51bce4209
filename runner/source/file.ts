import path from 'node:path';
import type { Database } from '../base/database.js';
import { TidemarkError } from '../base/errors.js';
import { PACKAGE_ROOT } from '../base/settings.js';

/** Runs a file of sql/source; its head says what the parameters are. */
export const runFile = <T extends object>(
  source: Pick<Database, 'file'>,
  name: string,
  parameters: readonly (string | null)[],
): PromiseLike<T[]> => source.file<T[]>(path.join(PACKAGE_ROOT, 'sql', 'source', `${name}.sql`), [...parameters]);

/** The one row of an answer that has one. */
export function one<T>([row]: readonly T[]): T {
  if (row === undefined) throw new TidemarkError('the source answered without a row');
  return row;
}
