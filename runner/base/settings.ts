import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { z } from 'zod';
import { SETTING_NAMES, environmentSchema, type Environment } from './settings-schema.js';
import { readEnvFile, settingsFrom } from './env-file.js';
import { UsageError } from './errors.js';
import { findPassword } from './passwords.js';

/** The folder that holds package.json, sql/ and migrations/, whether run from runner/ or dist/. */
export const PROJECT_ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..', '..');

/** A path as messages show it: from the project folder where it lies within, else whole. */
export function shownPath(file: string): string {
  const relative = path.relative(PROJECT_ROOT, file);
  return relative.startsWith('..') ? file : relative;
}

export type SslMode = 'disable' | 'require' | 'verify-ca' | 'verify-full';

export interface DatabaseSettings {
  /** Which end of the pipeline; names the database in messages. */
  readonly role: 'source' | 'warehouse';
  /** How its settings begin: DB_ or WAREHOUSE_DB_. */
  readonly prefix: 'DB_' | 'WAREHOUSE_DB_';
  readonly host: string;
  readonly port: number;
  readonly database: string;
  readonly user: string;
  readonly password: string;
  readonly sslmode: SslMode;
  readonly sslrootcert: string | undefined;
  /** What a session may take; the driver's and the server's own where it is not given. */
  readonly limits?: SessionLimits;
}

/** All in seconds; 0 is without limit. */
export interface SessionLimits {
  /** To connect. */
  readonly connect_seconds: number;
  /** A statement, and its wait for a lock. */
  readonly statement_seconds: number;
  readonly lock_seconds: number;
  /** Idle within a transaction, as when the process was stopped: the server ends the session. */
  readonly idle_seconds: number;
  /** A session that outlives a round: that of a run. */
  readonly lifetime_seconds: number;
}

export type LogLevel = 'DEBUG' | 'INFO' | 'WARNING' | 'ERROR';

export interface Settings {
  readonly source: DatabaseSettings;
  readonly warehouse: DatabaseSettings;
  readonly mutation_interval_seconds: number;
  readonly extraction_interval_seconds: number;
  readonly log_level: LogLevel;
  /** Most changes in a batch; where sizes follow measured time, the one to start with. */
  readonly batch_size: number;
  /** Between these the size of a batch follows measured time; undefined: as batch_size. */
  readonly batch_size_min: number | undefined;
  readonly batch_size_max: number | undefined;
  /** A batch that takes less long, in seconds, may become larger. */
  readonly batch_target_seconds: number;
  /** Most bytes in a batch file; a larger single row travels alone. */
  readonly batch_max_bytes: number;
  readonly max_connections: number;
  /** How far behind the watermark extraction looks again, in seconds. */
  readonly watermark_advance_seconds: number;
  /** A quiet poll writes a checkpoint at most this often, in seconds. */
  readonly heartbeat_seconds: number;
  /** How often every row is looked at, whatever its effective time, in seconds. */
  readonly full_sweep_interval_seconds: number;
  /** Pause of "reconcile --watch", in seconds. */
  readonly reconcile_interval_seconds: number;
  /** Most of the current versions of a table that a repair may close, in percent. */
  readonly max_delete_percent: number;
  /** Absolute path of the change log. */
  readonly cdc_log_dir: string;
  /** Absolute path of the folder of the services' log files. */
  readonly log_dir: string;
  /** A log file is rotated at this size, in bytes, and each day. */
  readonly log_rotate_bytes: number;
  /** How many rotated log files are kept of each service. */
  readonly log_rotate_files: number;
  /** Absolute path of the folder that says which services run. */
  readonly run_dir: string;
  /** How long the work in hand may go on after a signal, in seconds. */
  readonly shutdown_timeout_seconds: number;
  /** Applied batches are kept for so many days; undefined: for ever. */
  readonly cdc_log_retention_days: number | undefined;
  /** What "prune" keeps of absorbed changes, and of reports of runs and comparisons, in days; undefined: for ever. */
  readonly absorbed_retention_days: number | undefined;
  readonly run_retention_days: number | undefined;
  /** Absolute path of the migrations that register dimensions. */
  readonly dimensions_dir: string;
  /** Where "serve" listens. */
  readonly metrics_host: string;
  readonly metrics_port: number;
  /** Absolute path of the embedded servers' data. */
  readonly data_dir: string;
  /** False when data_dir is the default, which root may have to place elsewhere. */
  readonly data_dir_is_set: boolean;
  /** Names in the file of settings that are none: misspelt ones, or those of another program. */
  readonly unknown_names: readonly string[];
}

/** What docker-compose.yml takes from the same file. */
const COMPOSE_NAMES: readonly string[] = ['GRAFANA_PASSWORD', 'POSTGRES_VERSION', 'TIDEMARK_VERSION'];

/** The settings as a log may show them: without passwords. */
export function withoutSecrets(settings: Settings): Record<string, unknown> {
  const hide = (end: DatabaseSettings) => ({ ...end, password: end.password === '' ? '' : '***' });
  return { ...settings, source: hide(settings.source), warehouse: hide(settings.warehouse) };
}

/**
 * Reads and validates every setting once: the environment first, then the file that ENV_FILE names (default .env, which need not exist).
 * An empty value counts as not set, but for passwords.
 * @throws UsageError naming each wrong variable, its value (never a password) and what is accepted.
 */
export function loadSettings(environment: NodeJS.ProcessEnv = process.env, folder: string = PROJECT_ROOT): Settings {
  const file = readEnvFile(environment.ENV_FILE, folder);
  const given = settingsFrom(file, environment);
  const parsed = environmentSchema.safeParse(given);
  if (!parsed.success) throw wrongSettings(parsed.error.issues, given);
  const env = parsed.data;
  return {
    source: endOf('source', 'DB_', env, folder),
    warehouse: endOf('warehouse', 'WAREHOUSE_DB_', env, folder),
    mutation_interval_seconds: env.MUTATION_INTERVAL_SECONDS,
    extraction_interval_seconds: env.CDC_EXTRACTION_INTERVAL_SECONDS,
    log_level: env.LOG_LEVEL,
    ...batchSizesOf(env),
    batch_max_bytes: env.BATCH_MAX_BYTES,
    max_connections: env.MAX_CONNECTIONS,
    watermark_advance_seconds: env.WATERMARK_ADVANCE_SECONDS,
    heartbeat_seconds: env.HEARTBEAT_SECONDS,
    full_sweep_interval_seconds: env.FULL_SWEEP_INTERVAL_SECONDS,
    reconcile_interval_seconds: env.RECONCILE_INTERVAL_SECONDS,
    max_delete_percent: env.MAX_DELETE_PERCENT,
    cdc_log_dir: path.resolve(folder, env.CDC_LOG_DIR),
    log_dir: path.resolve(folder, env.LOG_DIR),
    log_rotate_bytes: env.LOG_ROTATE_BYTES,
    log_rotate_files: env.LOG_ROTATE_FILES,
    run_dir: path.resolve(folder, env.TIDEMARK_RUN_DIR),
    shutdown_timeout_seconds: env.SHUTDOWN_TIMEOUT_SECONDS,
    cdc_log_retention_days: daysOf(env.CDC_LOG_RETENTION_DAYS),
    absorbed_retention_days: daysOf(env.ABSORBED_RETENTION_DAYS),
    run_retention_days: daysOf(env.RUN_RETENTION_DAYS),
    dimensions_dir: path.resolve(folder, env.DIMENSIONS_DIR),
    metrics_host: env.METRICS_HOST,
    metrics_port: env.METRICS_PORT,
    data_dir: path.resolve(folder, env.TIDEMARK_DATA_DIR),
    data_dir_is_set: given.TIDEMARK_DATA_DIR !== undefined,
    unknown_names: Object.keys(file).filter((name) => !SETTING_NAMES.includes(name) && !COMPOSE_NAMES.includes(name)),
  };
}

/** How long to keep something; 0 is for ever. */
const daysOf = (days: number): number | undefined => (days === 0 ? undefined : days);

const limitsOf = (env: Environment): SessionLimits => ({
  connect_seconds: env.CONNECTION_TIMEOUT_SECONDS,
  statement_seconds: env.STATEMENT_TIMEOUT_SECONDS,
  lock_seconds: env.LOCK_TIMEOUT_SECONDS,
  idle_seconds: env.IDLE_TIMEOUT_SECONDS,
  lifetime_seconds: env.MAX_LIFETIME_SECONDS,
});

function batchSizesOf({ BATCH_SIZE, BATCH_SIZE_MIN, BATCH_SIZE_MAX, BATCH_TARGET_SECONDS }: Environment) {
  if (BATCH_SIZE_MIN !== undefined && BATCH_SIZE_MAX !== undefined && BATCH_SIZE_MIN > BATCH_SIZE_MAX)
    throw new UsageError(
      `BATCH_SIZE_MIN is ${String(BATCH_SIZE_MIN)}, which is more than BATCH_SIZE_MAX (${String(BATCH_SIZE_MAX)})`,
      { hint: 'set the least size no greater than the greatest' },
    );
  if ((BATCH_SIZE_MIN ?? BATCH_SIZE) > BATCH_SIZE || BATCH_SIZE > (BATCH_SIZE_MAX ?? BATCH_SIZE))
    throw new UsageError(
      `BATCH_SIZE is ${String(BATCH_SIZE)}, which is not between BATCH_SIZE_MIN (${String(BATCH_SIZE_MIN ?? 'not set')}) and BATCH_SIZE_MAX (${String(BATCH_SIZE_MAX ?? 'not set')})`,
      {
        hint: 'BATCH_SIZE is the size to start with: set it between the two',
      },
    );
  return {
    batch_size: BATCH_SIZE,
    batch_size_min: BATCH_SIZE_MIN,
    batch_size_max: BATCH_SIZE_MAX,
    batch_target_seconds: BATCH_TARGET_SECONDS,
  };
}

function endOf(
  role: DatabaseSettings['role'],
  prefix: DatabaseSettings['prefix'],
  env: Environment,
  folder: string,
): DatabaseSettings {
  const end = {
    prefix,
    host: env[`${prefix}HOST`],
    port: env[`${prefix}PORT`],
    database: env[`${prefix}NAME`],
    user: env[`${prefix}USER`],
  };
  const [password, passwordFile, authority] = [
    env[`${prefix}PASSWORD`],
    env[`${prefix}PASSWORD_FILE`],
    env[`${prefix}SSLROOTCERT`],
  ];
  if (password !== undefined && passwordFile !== undefined)
    throw new UsageError(`${prefix}PASSWORD and ${prefix}PASSWORD_FILE are both set`, {
      hint: 'leave out one of the two',
    });
  return {
    role,
    ...end,
    sslmode: env[`${prefix}SSLMODE`],
    sslrootcert: authority === undefined ? undefined : path.resolve(folder, authority),
    limits: limitsOf(env),
    password: findPassword({ ...end, password, passwordFile, passFile: env.PGPASSFILE, folder }),
  };
}

function wrongSettings(issues: readonly z.core.$ZodIssue[], given: Readonly<Record<string, string>>): UsageError {
  const lines = issues.map((issue) => {
    const name = String(issue.path[0]);
    const value = name.endsWith('_PASSWORD') ? '' : ` is "${given[name] ?? ''}"`;
    return `${name}${value}, accepted is ${issue.message}`;
  });
  return new UsageError(`wrong settings: ${lines.join('; ')}`, {
    hint: 'correct it in the environment or in the .env file; .env.example documents every setting',
  });
}
