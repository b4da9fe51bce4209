import { readFileSync, statSync } from 'node:fs';
import { UsageError } from './errors.js';

/**
 * Reads a file that a setting names.
 * @throws UsageError where it cannot be read, in a sentence that begins with `what`, or is larger than `most` bytes
 */
export function readNamedFile(
  what: string,
  file: string,
  most = Infinity,
  hint = 'give the path of a file that this user can read',
): string {
  try {
    if (statSync(file).size <= most) return readFileSync(file, 'utf8');
  } catch (error) {
    throw new UsageError(`${what} cannot be read: ${file}`, { hint, cause: error });
  }
  throw new UsageError(`${what} is too large for a password: ${file}`);
}
