import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import path from 'node:path';
import dotenv from 'dotenv';
import { replaceFile } from './durable-file.js';
import type { Named } from './env-file.js';
import { TidemarkError, UsageError, hasCode } from './errors.js';
import { SETTING_NAMES } from './settings.js';

/** What the environment says of source and warehouse: in Tidemark's own settings, else of the source as PostgreSQL's programs are told. */
export function databasesOfEnvironment(environment: Named = process.env): Named {
  const { PGHOST, PGPORT, PGDATABASE, PGUSER, PGPASSWORD, PGPASSFILE, PGSSLMODE } = environment;
  const passFile = PGPASSFILE ?? path.join(homedir(), '.pgpass');
  return {
    DB_HOST: PGHOST?.startsWith('/') === true ? 'localhost' : PGHOST,
    DB_PORT: PGPORT,
    DB_NAME: PGDATABASE,
    DB_USER: PGUSER,
    DB_PASSWORD: PGPASSWORD,
    DB_SSLMODE: /^(require|verify-ca|verify-full)$/.test(PGSSLMODE ?? '') ? PGSSLMODE : undefined,
    PGPASSFILE: existsSync(passFile) ? passFile : undefined,
    ...Object.fromEntries(
      SETTING_NAMES.filter((name) => /^(WAREHOUSE_)?DB_/.test(name) && environment[name]).map((name) => [
        name,
        environment[name],
      ]),
    ),
  };
}

/**
 * The settings of an end as a connection string gives them.
 * @throws UsageError for one that is none, or that holds a password: what is said on a command line others can read
 */
export function settingsOfUrl(option: string, prefix: string, text: string): Named {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !/^postgres(ql)?:$/.test(url.protocol))
    throw new UsageError(`--${option} is no connection string`, {
      hint: `give --${option} postgresql://user@host:port/database`,
    });
  if (url.password !== '')
    throw new UsageError(`--${option} holds a password, which others can read on a command line`, {
      hint: `leave it out, and give it as ${prefix}PASSWORD in the environment, in a .pgpass file, or when asked`,
    });
  const part = (value: string) => (value === '' ? undefined : decodeURIComponent(value));
  return {
    [`${prefix}HOST`]: part(url.hostname),
    [`${prefix}PORT`]: part(url.port) ?? '5432',
    [`${prefix}NAME`]: part(url.pathname.slice(1)),
    [`${prefix}USER`]: part(url.username),
    [`${prefix}SSLMODE`]: url.searchParams.get('sslmode') ?? undefined,
  };
}

/** A setting as a line of the file, in quotes where it needs them. @throws UsageError for a value that no line can hold */
function lineOf(name: string, value: string): string {
  const isPlain = /^[\w.,:/@%+-]*$/.test(value);
  const line = (isPlain ? [''] : ["'", '"', '`'])
    .map((quote) => `${name}=${quote}${value}${quote}`)
    .find((each) => dotenv.parse(each)[name] === value);
  if (line !== undefined) return line;
  throw new UsageError(`the value of ${name} cannot stand in a file of settings`, {
    hint: 'it has quotes of each kind: give it another one, or in the environment',
  });
}

const HEAD = `# Settings of this project: keep it to yourself, it may hold passwords. docs/settings.md of Tidemark has every setting.\n`;

/**
 * Writes the file of settings, for its owner alone. One that is there stays, unless it is to be changed: then what is named is changed, and nothing else.
 * @throws UsageError where it is there and not to be changed
 */
export async function writeEnvFile(
  file: string,
  settings: Readonly<Record<string, string>>,
  change: boolean,
): Promise<void> {
  const lines = Object.entries(settings).map(([name, value]) => [name, lineOf(name, value)] as const);
  try {
    const whole = [HEAD, ...lines.map(([, line]) => `${line}\n`)].join('');
    if (!change) return await writeFile(file, whole, { mode: 0o600, flag: 'wx' });
    let text = await readFile(file, 'utf8');
    for (const [name, line] of lines) {
      const present = new RegExp(`^[^\\S\\n]*(?:export[^\\S\\n]+)?${name}[^\\S\\n]*=.*$`, 'm');
      text = present.test(text) ? text.replace(present, () => line) : `${text.replace(/(?<!\n)$/, '\n')}${line}\n`;
    }
    await replaceFile(path.dirname(file), path.basename(file), text);
  } catch (error) {
    if (hasCode(error, 'EEXIST'))
      throw new UsageError(`the file of settings is there already: ${file}`, {
        hint: 'to change what you name in it, and nothing else: --force; to look at what it says: npx tidemark doctor',
      });
    throw new TidemarkError(`the file of settings cannot be written: ${file}`, {
      cause: error,
      hint: 'give this user the folder',
    });
  }
}
