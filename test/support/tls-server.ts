import { execFileSync, spawnSync } from 'node:child_process';
import { chmod, chown, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { accountFor } from '../../runner/embedded/account.js';
import { createCluster, startCluster, stopCluster } from '../../runner/embedded/cluster.js';
import { FAST, freePort, testedPackage } from './servers.js';

/** Whether openssl is there to make certificates; says so if not. */
export function hasOpenssl(): boolean {
  const found = spawnSync('openssl', ['version']).error === undefined;
  if (!found)
    process.stderr.write('\nSKIPPED: openssl is not on the PATH, so TLS is not tested against real certificates\n\n');
  return found;
}

/** A certificate and its key, by the paths of their files. */
export interface Certificate {
  readonly certificate: string;
  readonly key: string;
}

const openssl = (...args: string[]) => execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] });

/** An authority of its own. */
export function makeAuthority(folder: string, name: string): Certificate {
  const [certificate, key] = [path.join(folder, `${name}.crt`), path.join(folder, `${name}.key`)];
  openssl(
    'req',
    '-x509',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:prime256v1',
    '-nodes',
    '-days',
    '2',
    '-subj',
    `/CN=${name}`,
    '-keyout',
    key,
    '-out',
    certificate,
  );
  return { certificate, key };
}

/** A server's certificate, signed by that authority, for those names ("DNS:localhost", "IP:127.0.0.1"). */
export async function makeCertificate(
  folder: string,
  name: string,
  authority: Certificate,
  subjects: string,
): Promise<Certificate> {
  const [certificate, key, request, extensions] = ['crt', 'key', 'csr', 'ext'].map((ending) =>
    path.join(folder, `${name}.${ending}`),
  ) as [string, string, string, string];
  await writeFile(extensions, `subjectAltName=${subjects}\n`);
  openssl(
    'req',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:prime256v1',
    '-nodes',
    '-subj',
    '/CN=server',
    '-keyout',
    key,
    '-out',
    request,
  );
  openssl(
    'x509',
    '-req',
    '-in',
    request,
    '-CA',
    authority.certificate,
    '-CAkey',
    authority.key,
    '-CAcreateserial',
    '-days',
    '2',
    '-extfile',
    extensions,
    '-out',
    certificate,
  );
  return { certificate, key };
}

export interface TlsServer {
  readonly port: number;
  readonly password: string;
  readonly stop: () => Promise<void>;
}

/** The server settings for a certificate, with which encrypted connections alone are taken. Its files are given to the server's OS user. */
export async function tlsSettings(parent: string, { certificate, key }: Certificate): Promise<Record<string, string>> {
  const account = await accountFor(path.join(parent, 'cluster'));
  const hba = path.join(parent, 'hba.conf');
  // Which also takes a password that is kept for SCRAM, and proves it so.
  await writeFile(hba, 'hostssl all all 127.0.0.1/32 md5\n');
  for (const file of [key, certificate, hba]) {
    await chmod(file, 0o600);
    if (account !== undefined) await chown(file, account.uid, account.gid);
  }
  return { ssl: 'on', ssl_cert_file: certificate, ssl_key_file: key, hba_file: hba };
}

/** A PostgreSQL with that certificate, or without TLS where none is given. It takes encrypted connections alone. */
export async function startTlsServer(certificate: Certificate | undefined): Promise<TlsServer> {
  const parent = await mkdtemp(path.join(tmpdir(), 'tidemark-tls-'));
  await chmod(parent, 0o711);
  const folder = path.join(parent, 'cluster');
  const package_ = { package: testedPackage() };
  const [port, password] = [await freePort(), 'tide-secret-of-the-server'];
  await createCluster({ folder, superuser: 'postgres', password, flags: ['--no-sync'], ...package_ });
  const settings: Record<string, string> = { ...FAST, listen_addresses: '127.0.0.1' };
  if (certificate !== undefined) Object.assign(settings, await tlsSettings(parent, certificate));
  await startCluster({ folder, port, settings, ...package_ });
  return {
    port,
    password,
    stop: async () => {
      await stopCluster(folder, 'immediate');
      await rm(parent, { recursive: true, force: true });
    },
  };
}
