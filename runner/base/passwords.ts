import { readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { UsageError } from './errors.js';
import type { DatabaseSettings } from './settings.js';

/** Whose password is looked for, and where it may be. */
interface PasswordPlaces extends Pick<DatabaseSettings, 'prefix' | 'host' | 'port' | 'database' | 'user'> {
  /** The password itself; an empty one counts. */
  readonly password: string | undefined;
  /** A file that holds nothing else. */
  readonly passwordFile: string | undefined;
  /** A file in the format of libpq's .pgpass. */
  readonly passFile: string | undefined;
  /** What relative paths are relative to. */
  readonly folder: string;
}

/** Fit for the demo only. */
const DEFAULT_PASSWORD = 'postgres';

/** More than any password, so that a path set by mistake is no burden. */
const MOST_BYTES = 65_536;

/**
 * The password of a database: as it is set, else from *_PASSWORD_FILE, else from PGPASSFILE, else that of the demo.
 * @throws UsageError for a file that cannot be used; never with a password in it
 */
export function findPassword({ prefix, password, passwordFile, passFile, folder, ...end }: PasswordPlaces): string {
  if (password !== undefined) return password;
  if (passwordFile !== undefined) return passwordIn(`${prefix}PASSWORD_FILE`, path.resolve(folder, passwordFile));
  if (passFile !== undefined) return lineFor(path.resolve(folder, passFile), end) ?? DEFAULT_PASSWORD;
  return DEFAULT_PASSWORD;
}

/** A container's secret may be readable by others within it: its mode is whoever mounts it's business. */
function passwordIn(name: string, file: string): string {
  const text = readSmall(name, file).replace(/\r?\n$/, '');
  if (text === '' || text.includes('\n'))
    throw new UsageError(`${name} names a file that does not hold one line with a password: ${file}`);
  return text;
}

function lineFor(
  file: string,
  { host, port, database, user }: Pick<DatabaseSettings, 'host' | 'port' | 'database' | 'user'>,
): string | undefined {
  const text = readSmall('PGPASSFILE', file);
  if ((statSync(file).mode & 0o077) !== 0)
    throw new UsageError(`PGPASSFILE names a file that others can read: ${file}`, { hint: `run: chmod 600 ${file}` });
  const wanted = [host, String(port), database, user];
  for (const line of text.split(/\r?\n/)) {
    if (line === '' || line.startsWith('#')) continue;
    const [, ...fields] =
      /^((?:\\.|[^:\\])*):((?:\\.|[^:\\])*):((?:\\.|[^:\\])*):((?:\\.|[^:\\])*):(.*)$/.exec(line) ?? [];
    const [password, ...pattern] = [...fields].reverse().map((field) => field.replaceAll(/\\(.)/g, '$1'));
    if (password !== undefined && pattern.reverse().every((field, place) => field === '*' || field === wanted[place]))
      return password;
  }
  return undefined;
}

const readSmall = (name: string, file: string): string => readNamedFile(`${name} names a file that`, file, MOST_BYTES);

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
