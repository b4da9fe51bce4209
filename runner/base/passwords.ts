import { statSync } from 'node:fs';
import path from 'node:path';
import { UsageError } from './errors.js';
import { readNamedFile } from './named-file.js';

/** Whose password is looked for, and where it may be. */
interface PasswordPlaces {
  /** How the settings begin: DB_ or WAREHOUSE_DB_. */
  readonly prefix: string;
  readonly host: string;
  readonly port: number;
  readonly database: string;
  readonly user: string;
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
  { host, port, database, user }: Pick<PasswordPlaces, 'host' | 'port' | 'database' | 'user'>,
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
