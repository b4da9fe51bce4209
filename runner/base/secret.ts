import { UsageError } from './errors.js';
import { passwordIn } from './passwords.js';

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
