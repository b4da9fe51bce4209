import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, chown, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { DatabaseSettings } from '../../runner/base/settings.js';
import { accountFor, runAs, type Account } from '../../runner/embedded/account.js';
import { freePort, settingsFor } from './servers.js';

/** A PostgreSQL that the machine has installed together with plpgsql_check. */
export interface Installation {
  readonly version: number;
  readonly bin: string;
}

export interface ScratchServer {
  /** Its database postgres, which is empty. */
  readonly settings: DatabaseSettings;
  readonly stop: () => Promise<void>;
}

const OLDEST = 15;

/** The newest installation, in the places where Debian and Ubuntu put them; undefined where there is none. */
export async function findInstallation(): Promise<Installation | undefined> {
  const versions = (await readdir('/usr/lib/postgresql').catch(() => []))
    .map(Number)
    .filter((version) => version >= OLDEST);
  return versions
    .sort((one, other) => other - one)
    .map((version) => ({ version, bin: `/usr/lib/postgresql/${String(version)}/bin` }))
    .find(
      ({ version, bin }) =>
        existsSync(path.join(bin, 'pg_ctl')) &&
        existsSync(`/usr/share/postgresql/${String(version)}/extension/plpgsql_check.control`),
    );
}

/** Starts a server of that installation in a temporary folder, on a port of its own. */
export async function startScratchServer({ bin }: Installation): Promise<ScratchServer> {
  const folder = await mkdtemp(path.join(tmpdir(), 'tidemark-check-'));
  const account = await accountFor(folder);
  const data = path.join(folder, 'data');
  const stop = async () => {
    await runAs(account, path.join(bin, 'pg_ctl'), ['stop', '-D', data, '-m', 'immediate', '-s']);
    await rm(folder, { recursive: true, force: true });
  };
  try {
    const password = randomBytes(16).toString('hex');
    await initialise(bin, folder, password, account);
    const port = await freePort();
    const options = `-c listen_addresses=127.0.0.1 -c port=${String(port)} -c unix_socket_directories='' -c fsync=off`;
    await mustRun(account, path.join(bin, 'pg_ctl'), [
      'start',
      '-D',
      data,
      '-l',
      path.join(folder, 'log'),
      '-w',
      '-t',
      '120',
      '-s',
      '-o',
      options,
    ]);
    return {
      settings: settingsFor({ host: '127.0.0.1', port, user: 'postgres', password }, 'warehouse', 'postgres'),
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function initialise(bin: string, folder: string, password: string, account: Account | undefined): Promise<void> {
  const passwordFile = path.join(folder, 'password');
  await writeFile(passwordFile, password, { mode: 0o600 });
  await chmod(folder, 0o700);
  if (account !== undefined) for (const each of [folder, passwordFile]) await chown(each, account.uid, account.gid);
  await mustRun(account, path.join(bin, 'initdb'), [
    `--pgdata=${path.join(folder, 'data')}`,
    '--username=postgres',
    `--pwfile=${passwordFile}`,
    '--auth=scram-sha-256',
    '--encoding=UTF8',
    '--locale=C.UTF-8',
    '--no-sync',
  ]);
}

async function mustRun(account: Account | undefined, program: string, args: readonly string[]): Promise<void> {
  const { code, stderr } = await runAs(account, program, args);
  if (code !== 0) throw new Error(`${program} failed: ${stderr}`);
}
