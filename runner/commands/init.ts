import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { connect as knock } from 'node:net';
import { userInfo } from 'node:os';
import { createInterface } from 'node:readline/promises';
import { Writable } from 'node:stream';
import { envFilePath, type Named } from '../base/env-file.js';
import { EXIT, UsageError } from '../base/errors.js';
import { databasesOfEnvironment, settingsOfUrl, writeEnvFile } from '../base/new-env-file.js';
import { PROJECT_ROOT, shownPath, type Settings } from '../base/settings.js';
import { examine } from '../operate/doctor.js';
import type { Finding } from '../operate/finding.js';
import { addTables, describeTables, type AddedTables } from '../registration/many.js';
import { NOTHING_SAID } from '../registration/options.js';
import { defineCommand, flag, text } from './command.js';
import { lineOfFinding } from './doctor.js';

const isGiven = (entry: [string, string | undefined]): entry is [string, string] =>
  entry[1] !== undefined && entry[1] !== '';
const given = (...named: readonly Named[]): Record<string, string> =>
  Object.fromEntries(named.flatMap((each) => Object.entries(each).filter(isGiven)));

/** Whether something listens on a port of this machine. */
const answers = async (port: number): Promise<boolean> => {
  const socket = knock({ port, host: 'localhost' });
  const connected = once(socket, 'connect', { signal: AbortSignal.timeout(500) });
  return connected
    .then(
      () => true,
      () => false,
    )
    .finally(() => socket.destroy());
};

/** Asks for each setting, with what is known as the answer to an empty line; for passwords last, unseen. */
async function askFor(known: Readonly<Record<string, string>>): Promise<Record<string, string>> {
  let isSecret = false;
  const output = new Writable({
    write: (chunk: Buffer, _, done) => {
      if (!isSecret) process.stderr.write(chunk);
      done();
    },
  });
  const lines = createInterface({ input: process.stdin, output, terminal: true });
  const answered: Record<string, string> = {};
  for (const [prefix, end] of [['DB_', 'source'] as const, ['WAREHOUSE_DB_', 'warehouse'] as const])
    for (const part of ['HOST', 'PORT', 'NAME', 'USER', 'PASSWORD'])
      if (known[`${prefix}${part}`] === undefined || part !== 'PASSWORD') {
        const usual = known[`${prefix}${part}`];
        process.stderr.write(`${end} ${part.toLowerCase()}${usual === undefined ? '' : ` [${usual}]`}: `);
        isSecret = part === 'PASSWORD';
        const answer = await lines.question('');
        if (isSecret) process.stderr.write('\n');
        isSecret = false;
        if (answer !== '') answered[`${prefix}${part}`] = answer;
      }
  lines.close();
  return answered;
}

const EMBEDDED = {
  ...{ DB_HOST: 'localhost', DB_PORT: '5434', DB_NAME: 'operational_db', DB_USER: 'postgres' },
  ...{ WAREHOUSE_DB_HOST: 'localhost', WAREHOUSE_DB_PORT: '5433' },
  ...{ WAREHOUSE_DB_NAME: 'warehouse_db', WAREHOUSE_DB_USER: 'postgres' },
};

/** A database for the history on the server of the source. */
const besideSource = (source: Named): Named => ({
  ...Object.fromEntries(
    ['HOST', 'PORT', 'USER', 'PASSWORD', 'SSLMODE'].map((part) => [`WAREHOUSE_DB_${part}`, source[`DB_${part}`]]),
  ),
  WAREHOUSE_DB_NAME: EMBEDDED.WAREHOUSE_DB_NAME,
});

/** What a project's settings are to be: what was said, else found, else those of the embedded servers. */
async function findSettings(said: Named): Promise<Record<string, string>> {
  const told = given(databasesOfEnvironment(), said);
  const isTold = told.DB_HOST !== undefined || told.DB_NAME !== undefined;
  const user = userInfo().username;
  const local = { DB_HOST: 'localhost', DB_PORT: '5432', DB_NAME: told.DB_USER ?? user, DB_USER: user };
  const hasServer = isTold || (await answers(5432));
  const source = given(hasServer ? local : EMBEDDED, told);
  const beside = told.WAREHOUSE_DB_HOST === undefined && hasServer ? besideSource(source) : EMBEDDED;
  const known = given(beside, source);
  return process.stdin.isTTY && process.stderr.isTTY ? given(known, await askFor(known)) : known;
}

function nextCommands({ warehouse }: Settings, findings: readonly Finding[], { tables }: AddedTables): string[] {
  const isAway = (role: string) => findings.some(({ subject, status }) => subject === role && status === 'error');
  const schemas = [...new Set(tables.filter(({ state }) => state === 'new').map(({ table }) => table.split('.')[0]))];
  const isEmbedded = warehouse.host === 'localhost' && warehouse.port === 5433;
  return [
    ...(isEmbedded && isAway('warehouse') ? ['npx tidemark db start'] : []),
    ...(!isEmbedded &&
    findings.some(({ message }) => message === `the warehouse server has no database ${warehouse.database}`)
      ? [`createdb -h ${warehouse.host} -p ${warehouse.port} -U ${warehouse.user} ${warehouse.database}`]
      : []),
    'npx tidemark migrate',
    `npx tidemark add --schema ${schemas.length === 0 ? 'public' : schemas.join(' ')}`,
    'npx tidemark migrate',
    'npx tidemark start',
  ];
}

export const command = defineCommand(
  {
    examples: {
      'init --source postgresql://app@db/shop': 'Its history goes beside it, into warehouse_db',
    },
    options: {
      source: text('The database to read: postgresql://user@host:port/database'),
      warehouse: text('The database for the history; beside the source by default'),
      force: flag('Where the file is there: change what is named in it, and nothing else'),
    },
    epilogue:
      'Passwords come from the environment (DB_PASSWORD, WAREHOUSE_DB_PASSWORD, PGPASSWORD), from a .pgpass file, or are asked for on a terminal.\n' +
      'What is not said is taken from PGHOST, PGPORT, PGDATABASE and PGUSER, or from a server on port 5432 of this machine.',
  },
  async ({ source, warehouse, force = false }, context) => {
    const file = envFilePath(PROJECT_ROOT);
    const said = {
      ...(source === undefined ? {} : settingsOfUrl('source', 'DB_', source)),
      ...(warehouse === undefined ? {} : settingsOfUrl('warehouse', 'WAREHOUSE_DB_', warehouse)),
    };
    const isThere = existsSync(file);
    const named = given(said);
    if (isThere && force && Object.keys(named).length === 0)
      throw new UsageError('--force changes what is named, and nothing is', { hint: 'name --source or --warehouse' });
    const settings = isThere ? named : await findSettings(said);
    await writeEnvFile(file, settings, isThere && force);
    const { settings: loaded, print } = context;
    const findings = await examine(loaded);
    const isReadable = findings.every(({ subject, status }) => subject !== 'source' || status !== 'error');
    const everything = { names: [], schemas: [], exclude: [] };
    const proposed: AddedTables = isReadable
      ? await addTables(loaded, everything, NOTHING_SAID, { isDry: true, replace: false })
      : { tables: [], left_out: [], writes_log: false };
    const next = nextCommands(loaded, findings, proposed);
    const written = Object.keys(settings);
    const words = [
      `wrote ${shownPath(file)}: ${written.join(', ')}`,
      findings.map(lineOfFinding).join('\n'),
      ...(isReadable ? [describeTables(proposed, true)] : []),
      `next:\n${next.map((each) => `  ${each}`).join('\n')}`,
    ];
    const tables = proposed.tables.map(({ error, ...table }) => ({ ...table, error: error?.message ?? null }));
    print({ file, settings: written, findings, ...proposed, tables, next }, words.join('\n\n'));
    if (!isReadable) process.exitCode = EXIT.failed;
  },
);
