import path from 'node:path';
import { fileURLToPath } from 'node:url';
import * as z from 'zod';
import { ALIASES, readEnvFile, settingsFrom } from './env-file.js';
import { UsageError } from './errors.js';
import { nearest } from './nearest.js';
import { passwordFor, passwordIn } from './passwords.js';

/** The folder that holds Tidemark's own package.json, sql/ and migrations/, whether run from runner/ or dist/. */
export const PACKAGE_ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..', '..');

/** The project folder, where .env, data, logs and DIMENSIONS_DIR are: the current one of an installed package; a clone is a project itself. */
export const PROJECT_ROOT = PACKAGE_ROOT.split(path.sep).includes('node_modules') ? process.cwd() : PACKAGE_ROOT;

/** A path as messages show it: from the project folder where it lies within, else whole. */
export function shownPath(file: string): string {
  const relative = path.relative(PROJECT_ROOT, file);
  return relative.startsWith('..') ? file : relative;
}

const text = (fallback: string) => z.string().min(1, 'any text but an empty one').default(fallback);

const wholeNumber = (least: number, most: number) => {
  const accepted = `a whole number from ${least} to ${most}`;
  return z
    .string()
    .regex(/^[0-9]{1,15}$/, accepted)
    .transform(Number)
    .refine((value) => value >= least && value <= most, accepted);
};

const integer = (fallback: number, least: number, most: number) => wholeNumber(least, most).default(fallback);

/** A folder; it is named as it is, for a path that leads up again hides where it leads. */
const folder = (fallback: string) => {
  const isStraight = (value: string) => !value.split(/[\\/]/).includes('..') && !value.includes('\0');
  return z.string().refine(isStraight, 'a folder whose path does not lead up again (..)').default(fallback);
};

const choice = <const T extends readonly [string, ...string[]]>(values: T, fallback: T[number]) =>
  z.enum(values, `one of ${values.join(', ')}`).default(fallback as never);

/** Of a replication slot, or a publication; of the database's name where it is not given. */
const nameOfSlot = () =>
  z
    .string()
    .regex(/^[a-z0-9_]{1,63}$/, 'up to 63 lower-case letters, digits and underscores')
    .optional();

/** How long to keep something; 0 is for ever. */
const days = () => integer(0, 0, 36_500).transform((value) => (value === 0 ? undefined : value));

const DAY = 86_400;

/** How one of the two databases is reached: the same settings for each, behind a prefix of its own. */
const endOf = <P extends Prefix>(prefix: P, port: number, database: string) => {
  const end = {
    HOST: text('localhost'),
    PORT: integer(port, 1, 65_535),
    NAME: text(database),
    USER: text('postgres'),
    PASSWORD: z.string().optional(),
    PASSWORD_FILE: z.string().optional(),
    SSLMODE: choice(['disable', 'require', 'verify-ca', 'verify-full'], 'disable'),
    SSLROOTCERT: z.string().optional(),
  };
  const named = Object.fromEntries(Object.entries(end).map(([name, schema]) => [`${prefix}${name}`, schema]));
  return named as { [K in keyof typeof end as `${P}${K}`]: (typeof end)[K] };
};

const ENDS = {
  ...endOf('DB_', 5434, 'operational_db'),
  ...endOf('WAREHOUSE_DB_', 5433, 'warehouse_db'),
  PGPASSFILE: z.string().optional(),
  /** Who the console reads the warehouse as. */
  CONSOLE_DB_USER: z.string().optional(),
  CONSOLE_DB_PASSWORD: z.string().optional(),
  CONSOLE_DB_PASSWORD_FILE: z.string().optional(),
  /** Who it takes actions as. */
  CONSOLE_ACTIONS_DB_USER: z.string().optional(),
  CONSOLE_ACTIONS_DB_PASSWORD: z.string().optional(),
  CONSOLE_ACTIONS_DB_PASSWORD_FILE: z.string().optional(),
  CONNECTION_TIMEOUT_SECONDS: integer(15, 1, 600),
  STATEMENT_TIMEOUT_SECONDS: integer(0, 0, DAY),
  LOCK_TIMEOUT_SECONDS: integer(0, 0, DAY),
  IDLE_TIMEOUT_SECONDS: integer(300, 0, DAY),
  MAX_LIFETIME_SECONDS: integer(0, 0, 30 * DAY),
};

/** What is a path; a relative one is taken from the folder of the project. */
const IS_PATH = /(_DIR|_FILE|PGPASSFILE|SSLROOTCERT)$/;

/** Fit for the demo only. */
const DEFAULT_PASSWORD = 'postgres';

/** Everything else: what each is for stands in .env.example. */
const PIPELINE = {
  MUTATION_INTERVAL_SECONDS: integer(5, 1, DAY),
  CDC_EXTRACTION_INTERVAL_SECONDS: integer(10, 1, DAY),
  LOG_LEVEL: choice(['DEBUG', 'INFO', 'WARNING', 'ERROR'], 'INFO'),
  /** Most changes in a batch; where sizes follow measured time, between the two that follow, the one to start with. */
  BATCH_SIZE: integer(100, 1, 1_000_000),
  BATCH_SIZE_MIN: wholeNumber(1, 1_000_000).optional(),
  BATCH_SIZE_MAX: wholeNumber(1, 1_000_000).optional(),
  /** A batch that takes less long, in seconds, may become larger. */
  BATCH_TARGET_SECONDS: integer(10, 1, 3600),
  /** A larger single row travels alone. */
  BATCH_MAX_BYTES: integer(8 * 1024 * 1024, 1024, 64 * 1024 * 1024),
  MAX_CONNECTIONS: integer(20, 1, 1000),
  WATERMARK_ADVANCE_SECONDS: integer(30, 0, 30 * DAY),
  HEARTBEAT_SECONDS: integer(300, 1, DAY),
  FULL_SWEEP_INTERVAL_SECONDS: integer(3600, 1, 30 * DAY),
  TABLE_SCAN_INTERVAL_SECONDS: integer(30, 0, 30 * DAY),
  RECONCILE_INTERVAL_SECONDS: integer(3600, 1, 30 * DAY),
  PROOF_INTERVAL_SECONDS: integer(DAY, 60, 30 * DAY),
  MAX_DELETE_PERCENT: integer(5, 0, 100),
  /** So many may be closed whatever part they are: in a small table one row is many percent. */
  MAX_DELETE_ROWS: integer(20, 0, 2_000_000_000),
  STREAM_SLOT: nameOfSlot(),
  STREAM_PUBLICATION: nameOfSlot(),
  /** In milliseconds. */
  STREAM_FLUSH_MS: integer(20, 0, 60_000),
  STREAM_HEARTBEAT_SECONDS: integer(60, 1, DAY),
  STREAM_ON_TRUNCATE: choice(['apply', 'stop'], 'apply'),
  /** Names, parted by commas. */
  STREAM_EXCLUDE_ORIGINS: z.string().default(''),
  CDC_LOG_DIR: folder('data/cdc_logs'),
  LOG_DIR: folder('logs'),
  LOG_ROTATE_BYTES: integer(10 * 1024 * 1024, 10_000, 10_000_000_000),
  LOG_ROTATE_FILES: integer(14, 1, 1000),
  SHUTDOWN_TIMEOUT_SECONDS: integer(30, 1, 3600),
  METRICS_HOST: text('127.0.0.1'),
  METRICS_PORT: integer(9464, 0, 65_535),
  CONSOLE_HOST: text('127.0.0.1'),
  CONSOLE_PORT: integer(9465, 0, 65_535),
  CONSOLE_TOKEN_FILE: z.string().optional(),
  /** Whether what is rejected, a batch or a table may be seen to in the console. */
  CONSOLE_ALLOW_ACTIONS: choice(['no', 'yes'], 'no'),
  /** Whether lines of batch files are shown to who asks from another machine. */
  CONSOLE_SHOW_LINES: choice(['local', 'all', 'none'], 'local'),
  CONSOLE_EXPORT_ROWS: integer(100_000, 1, 100_000_000),
  /** Where run events go; nowhere unless it is set. */
  OPENLINEAGE_URL: z
    .string()
    .regex(/^https?:\/\/[^\s@]+$/, 'an http or https address without a password')
    .optional(),
  OPENLINEAGE_NAMESPACE: text('tidemark'),
  OPENLINEAGE_API_KEY: z.string().optional(),
  OPENLINEAGE_API_KEY_FILE: z.string().optional(),
  EVENT_INTERVAL_SECONDS: integer(1, 1, DAY),
  /** Whether a webhook may go to an address that is not of the public internet. */
  EVENT_PRIVATE_ADDRESSES: choice(['refuse', 'allow'], 'refuse'),
  TIDEMARK_RUN_DIR: folder('data/run'),
  CDC_LOG_RETENTION_DAYS: days(),
  ABSORBED_RETENTION_DAYS: days(),
  RUN_RETENTION_DAYS: days(),
  EVENT_RETENTION_DAYS: days(),
  DIMENSIONS_DIR: text('migrations/dimensions'),
  TIDEMARK_DATA_DIR: folder('data/postgres'),
};

export const environmentSchema = z.object({ ...ENDS, ...PIPELINE });
type Environment = z.infer<typeof environmentSchema>;

/** Every setting there is, with its aliases. */
export const SETTING_NAMES: readonly string[] = [
  ...Object.keys(environmentSchema.shape),
  'ENV_FILE',
  ...Object.keys(ALIASES),
];

/** What docker-compose.yml, and Compose itself, take from the same file. */
const OF_COMPOSE = /^(GRAFANA_PASSWORD|POSTGRES_VERSION|TIDEMARK_VERSION|COMPOSE_[A-Z_]+)$/;

type Prefix = 'DB_' | 'WAREHOUSE_DB_';
/** Users of the warehouse that the console goes by. */
type ConsolePrefix = 'CONSOLE_DB_' | 'CONSOLE_ACTIONS_DB_';
export type SslMode = Environment['DB_SSLMODE'];

export interface DatabaseSettings {
  /** Which end of the pipeline; names the database in messages. */
  readonly role: 'source' | 'warehouse';
  /** How its settings begin: DB_ or WAREHOUSE_DB_. */
  readonly prefix: Prefix;
  readonly host: string;
  readonly port: number;
  readonly database: string;
  readonly user: string;
  readonly password: string;
  readonly sslmode: SslMode;
  readonly sslrootcert: string | undefined;
  /** What a session may take; the driver's and the server's own where it is not given. */
  readonly limits?: Partial<SessionLimits>;
}

/** All in seconds; 0 is without limit. */
export type SessionLimits = ReturnType<typeof limitsOf>;

const limitsOf = (env: Environment) => ({
  connect_seconds: env.CONNECTION_TIMEOUT_SECONDS,
  /** A statement, and its wait for a lock. */
  statement_seconds: env.STATEMENT_TIMEOUT_SECONDS,
  lock_seconds: env.LOCK_TIMEOUT_SECONDS,
  /** Idle within a transaction, as when the process was stopped: the server ends the session. */
  idle_seconds: env.IDLE_TIMEOUT_SECONDS,
  /** A session that outlives a round: that of a run. */
  lifetime_seconds: env.MAX_LIFETIME_SECONDS,
});

/** Settings go by their own names in lower case, those of Tidemark alone without that word. */
type NameOf<N extends string> = N extends `TIDEMARK_${infer Rest}` ? Lowercase<Rest> : Lowercase<N>;

export type Settings = { readonly [N in keyof typeof PIPELINE as NameOf<N>]: Environment[N] } & {
  readonly source: DatabaseSettings;
  readonly warehouse: DatabaseSettings;
  /** The warehouse as the console reads it, where CONSOLE_DB_USER says as whom. */
  readonly console: DatabaseSettings | undefined;
  /** The same as it acts on it, where CONSOLE_ACTIONS_DB_USER says as whom. */
  readonly console_actions: DatabaseSettings | undefined;
  /** False when data_dir is the default, which root may have to place elsewhere. */
  readonly data_dir_is_set: boolean;
};

/** The settings as a log may show them: without passwords. */
export function withoutSecrets(settings: Settings): Record<string, unknown> {
  const hide = (end: DatabaseSettings) => ({ ...end, password: end.password === '' ? '' : '***' });
  const { source, warehouse, console, console_actions, openlineage_api_key: key } = settings;
  const ends = { source: hide(source), warehouse: hide(warehouse), console: console && hide(console) };
  const secret = { openlineage_api_key: key && '***', console_actions: console_actions && hide(console_actions) };
  return { ...settings, ...ends, ...secret };
}

/**
 * Reads and validates every setting once: the environment first, then the file that ENV_FILE names (default .env, which need not exist).
 * An empty value counts as not set, but for passwords.
 * @throws UsageError naming each wrong variable, its value (never a password) and what is accepted.
 */
export function loadSettings(environment: NodeJS.ProcessEnv = process.env, folder: string = PROJECT_ROOT): Settings {
  const file = readEnvFile(environment, folder);
  assertKnownNames(file, environment);
  const given = settingsFrom(file, environment);
  const parsed = environmentSchema.safeParse(given);
  if (!parsed.success) throw wrongSettings(parsed.error.issues, given);
  const env = Object.fromEntries(
    Object.entries(parsed.data).map(([name, value]) => [
      name,
      IS_PATH.test(name) && typeof value === 'string' ? path.resolve(folder, value) : value,
    ]),
  ) as Environment;
  assertSizesFit(env);
  const pipeline = Object.keys(PIPELINE).map(
    (name) => [name.replace(/^TIDEMARK_/, '').toLowerCase(), env[name as keyof typeof PIPELINE]] as const,
  );
  const consoleAs = (as: ConsolePrefix) =>
    env[`${as}USER`] === undefined ? undefined : databaseSettings('warehouse', 'WAREHOUSE_DB_', env, as);
  return {
    ...(Object.fromEntries(pipeline) as { [N in keyof typeof PIPELINE as NameOf<N>]: Environment[N] }),
    source: databaseSettings('source', 'DB_', env),
    warehouse: databaseSettings('warehouse', 'WAREHOUSE_DB_', env),
    console: consoleAs('CONSOLE_DB_'),
    console_actions: consoleAs('CONSOLE_ACTIONS_DB_'),
    data_dir_is_set: given.TIDEMARK_DATA_DIR !== undefined,
  };
}

/**
 * What is misspelt would be passed over without a word. The file of settings is ours, and has no other name. The environment is everybody's: there
 * a name is wrong that is all but one of ours, where that one is not set; in a short name two letters may well make another word (DB_POOL, DB_PORT).
 */
function assertKnownNames(file: NodeJS.ProcessEnv, environment: NodeJS.ProcessEnv): void {
  const isUnknown = (name: string) => !SETTING_NAMES.includes(name) && !OF_COMPOSE.test(name);
  const inFile = Object.keys(file).filter(isUnknown);
  const wrong = inFile.map((name) => {
    const meant = nearest(name.toUpperCase(), SETTING_NAMES, Math.ceil(name.length / 3));
    return `${name} in the file of settings${meant === undefined ? '' : `, did you mean ${meant}?`}`;
  });
  for (const name of Object.keys(environment).filter(isUnknown)) {
    const meant = nearest(name, SETTING_NAMES, name.length > 8 ? 2 : 1);
    if (meant !== undefined && environment[meant] === undefined)
      wrong.push(`${name} in the environment, did you mean ${meant}?`);
  }
  if (wrong.length === 0) return;
  throw new UsageError(`there is no such setting: ${wrong.join('; ')}`, {
    hint:
      inFile.length === 0
        ? 'correct its name, or unset it for this command where it belongs to another program'
        : 'correct its name; what belongs to another program goes into a file of its own (ENV_FILE names the one of Tidemark)',
  });
}

function assertSizesFit({ BATCH_SIZE, BATCH_SIZE_MIN, BATCH_SIZE_MAX }: Environment): void {
  if (BATCH_SIZE_MIN !== undefined && BATCH_SIZE_MAX !== undefined && BATCH_SIZE_MIN > BATCH_SIZE_MAX)
    throw new UsageError(`BATCH_SIZE_MIN is ${BATCH_SIZE_MIN}, which is more than BATCH_SIZE_MAX (${BATCH_SIZE_MAX})`, {
      hint: 'set the least size no greater than the greatest',
    });
  if ((BATCH_SIZE_MIN ?? BATCH_SIZE) > BATCH_SIZE || BATCH_SIZE > (BATCH_SIZE_MAX ?? BATCH_SIZE))
    throw new UsageError(
      `BATCH_SIZE is ${BATCH_SIZE}, which is not between BATCH_SIZE_MIN (${BATCH_SIZE_MIN ?? 'not set'}) and BATCH_SIZE_MAX (${BATCH_SIZE_MAX ?? 'not set'})`,
      { hint: 'BATCH_SIZE is the size to start with: set it between the two' },
    );
}

/** @param as whose user and password it takes, where they are not those of the end itself */
function databaseSettings(
  role: DatabaseSettings['role'],
  prefix: Prefix,
  env: Environment,
  as: Prefix | ConsolePrefix = prefix,
): DatabaseSettings {
  const end = {
    host: env[`${prefix}HOST`],
    port: env[`${prefix}PORT`],
    database: env[`${prefix}NAME`],
    user: env[`${as}USER`] ?? '',
  };
  const [password, passwordFile] = [env[`${as}PASSWORD`], env[`${as}PASSWORD_FILE`]];
  if (password !== undefined && passwordFile !== undefined)
    throw new UsageError(`${as}PASSWORD and ${as}PASSWORD_FILE are both set`, {
      hint: 'leave out one of the two',
    });
  const inFile = () =>
    passwordFile === undefined
      ? env.PGPASSFILE && passwordFor(Object.values(end).map(String), env.PGPASSFILE)
      : passwordIn(`${as}PASSWORD_FILE`, passwordFile);
  return {
    ...end,
    role,
    prefix,
    sslmode: env[`${prefix}SSLMODE`],
    sslrootcert: env[`${prefix}SSLROOTCERT`],
    limits: limitsOf(env),
    password: password ?? inFile() ?? DEFAULT_PASSWORD,
  };
}

function wrongSettings(issues: readonly z.core.$ZodIssue[], given: Readonly<Record<string, string>>): UsageError {
  const lines = issues.map((issue) => {
    const name = String(issue.path[0]);
    const value = /_(PASSWORD|URL)$/.test(name) ? '' : ` is "${given[name] ?? ''}"`;
    return `${name}${value}, accepted is ${issue.message}`;
  });
  return new UsageError(`wrong settings: ${lines.join('; ')}`, {
    hint: 'correct it in the environment or in the .env file; docs/settings.md has every setting',
  });
}
