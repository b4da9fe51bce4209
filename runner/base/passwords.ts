import { statSync } from 'node:fs';
import { UsageError } from './errors.js';
import { readNamedFile } from './named-file.js';

/** More than any password, so that a path set by mistake is no burden. */
const MOST_BYTES = 65_536;

/**
 * The password in a file that holds nothing else. A container's secret may be readable by others within it: its mode is whoever mounts it's
 * business.
 * @throws UsageError for a file that cannot be used; never with a password in it
 */
export function passwordIn(name: string, file: string): string {
  const text = readSmall(name, file).replace(/\r?\n$/, '');
  if (text === '' || text.includes('\n'))
    throw new UsageError(`${name} names a file that does not hold one line with a password: ${file}`);
  return text;
}

/**
 * The password of the first line that fits, in a file in the format of libpq's .pgpass. @param wanted host, port, database and user
 * @throws UsageError for a file that cannot be used; never with a password in it
 */
export function passwordFor(wanted: readonly string[], file: string): string | undefined {
  const text = readSmall('PGPASSFILE', file);
  if ((statSync(file).mode & 0o077) !== 0)
    throw new UsageError(`PGPASSFILE names a file that others can read: ${file}`, { hint: `run: chmod 600 ${file}` });
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
 * A secret, by where it is to be found: env:NAME or file:/path.
 * @throws UsageError where nothing is there; never with a secret in it
 */
export function secretAt(place: string): string {
  if (place.startsWith('file:')) return passwordIn('the secret', place.slice('file:'.length));
  const secret = process.env[place.replace(/^env:/, '')];
  if (secret !== undefined && secret !== '') return secret;
  throw new UsageError(`there is no secret at ${place}`, {
    hint: 'set that variable for the relay, or name a file: file:/path/of/secret',
  });
}
