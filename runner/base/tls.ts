import { isIP } from 'node:net';
import { checkServerIdentity, type ConnectionOptions } from 'node:tls';
import type { DatabaseSettings } from './settings.js';
import { readNamedFile } from './named-file.js';
import { UsageError } from './errors.js';

/**
 * How a connection is encrypted, by its sslmode; undefined where it is not. Said in full to either driver, so that neither reads a mode or
 * a file from elsewhere: disable, require (any certificate), verify-ca (one of the authority's), verify-full (and for this host).
 * @throws UsageError for a certificate authority that cannot be read
 */
export function tlsOptions(settings: DatabaseSettings): ConnectionOptions | undefined {
  const { sslmode, host, sslrootcert } = settings;
  if (sslmode === 'disable') return undefined;
  const options: ConnectionOptions = { minVersion: 'TLSv1.2', rejectUnauthorized: sslmode !== 'require' };
  // An address is no server name, and without one a driver checks the certificate against "localhost".
  if (isIP(host) === 0) options.servername = host;
  options.checkServerIdentity = (_, certificate) =>
    sslmode === 'verify-full' ? checkServerIdentity(host, certificate) : undefined;
  if (sslrootcert !== undefined && sslmode !== 'require') options.ca = readAuthority(settings.prefix, sslrootcert);
  return options;
}

function readAuthority(prefix: string, file: string): string {
  const text = readNamedFile(`${prefix}SSLROOTCERT names a file that`, file);
  if (text.includes('-----BEGIN CERTIFICATE-----')) return text;
  throw new UsageError(`${prefix}SSLROOTCERT names a file that holds no certificate: ${file}`, {
    hint: 'give the PEM file of the certificate authority',
  });
}

/** OpenSSL's names of what is wrong with a chain of certificates. */
const NOT_TRUSTED = /^(CERT|DEPTH_ZERO_SELF_SIGNED|SELF_SIGNED|UNABLE_TO_(GET|VERIFY)|INVALID_(PURPOSE|CA)$)/;

/** How Node and the driver of the migrations say that the server went on in plain text. */
const NO_TLS = /before secure TLS connection was established|does not support SSL connections/;

/** What an error of the encryption means, in words that name the setting; undefined for any other error. */
export function explainTlsError(
  error: Error,
  { role, prefix, host }: DatabaseSettings,
): { message: string; hint: string } | undefined {
  const code = 'code' in error ? String(error.code) : '';
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID')
    return {
      message: `the certificate of the ${role} database is not for ${host}`,
      hint: `set ${prefix}HOST to a name that the certificate has, or ${prefix}SSLMODE to verify-ca`,
    };
  if (NOT_TRUSTED.test(code))
    return {
      message: `the certificate of the ${role} database is not trusted: ${error.message}`,
      hint: `set ${prefix}SSLROOTCERT to the file of its certificate authority`,
    };
  if (NO_TLS.test(error.message) || /^(EPROTO$|ERR_SSL_)/.test(code))
    return {
      message: `the ${role} database does not speak TLS, or no version of it that is safe`,
      hint: `turn it on at the server (ssl = on), or set ${prefix}SSLMODE to disable`,
    };
  return undefined;
}
