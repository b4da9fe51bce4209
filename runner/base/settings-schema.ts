import { z } from 'zod';
import { ALIASES } from './env-file.js';

const text = (fallback: string) => z.string().min(1, 'any text but an empty one').default(fallback);

const wholeNumber = (least: number, most: number) => {
  const accepted = `a whole number from ${String(least)} to ${String(most)}`;
  return z
    .string()
    .regex(/^[0-9]{1,15}$/, accepted)
    .transform(Number)
    .refine((value) => value >= least && value <= most, accepted);
};

const integer = (fallback: number, least: number, most: number) => wholeNumber(least, most).default(fallback);

const optionalInteger = (least: number, most: number) => wholeNumber(least, most).optional();

/** A folder; it is named as it is, for a path that leads up again hides where it leads. */
const folder = (fallback: string) =>
  z
    .string()
    .refine(
      (value) => !value.split(/[\\/]/).includes('..') && !value.includes('\0'),
      'a folder whose path does not lead up again (..)',
    )
    .default(fallback);

const choice = <const T extends readonly [string, ...string[]]>(values: T, fallback: T[number]) =>
  z.enum(values, `one of ${values.join(', ')}`).default(fallback as never);

const SSL_MODES = ['disable', 'require', 'verify-ca', 'verify-full'] as const;
const DAY = 86_400;

/** Every setting with its default and what it accepts. */
export const environmentSchema = z.object({
  DB_HOST: text('localhost'),
  DB_PORT: integer(5434, 1, 65_535),
  DB_NAME: text('operational_db'),
  DB_USER: text('postgres'),
  DB_PASSWORD: z.string().optional(),
  DB_PASSWORD_FILE: z.string().optional(),
  DB_SSLMODE: choice(SSL_MODES, 'disable'),
  DB_SSLROOTCERT: z.string().optional(),
  WAREHOUSE_DB_HOST: text('localhost'),
  WAREHOUSE_DB_PORT: integer(5433, 1, 65_535),
  WAREHOUSE_DB_NAME: text('warehouse_db'),
  WAREHOUSE_DB_USER: text('postgres'),
  WAREHOUSE_DB_PASSWORD: z.string().optional(),
  WAREHOUSE_DB_PASSWORD_FILE: z.string().optional(),
  WAREHOUSE_DB_SSLMODE: choice(SSL_MODES, 'disable'),
  WAREHOUSE_DB_SSLROOTCERT: z.string().optional(),
  PGPASSFILE: z.string().optional(),
  MUTATION_INTERVAL_SECONDS: integer(5, 1, DAY),
  CDC_EXTRACTION_INTERVAL_SECONDS: integer(10, 1, DAY),
  LOG_LEVEL: choice(['DEBUG', 'INFO', 'WARNING', 'ERROR'], 'INFO'),
  BATCH_SIZE: integer(100, 1, 1_000_000),
  BATCH_SIZE_MIN: optionalInteger(1, 1_000_000),
  BATCH_SIZE_MAX: optionalInteger(1, 1_000_000),
  BATCH_TARGET_SECONDS: integer(10, 1, 3600),
  BATCH_MAX_BYTES: integer(8 * 1024 * 1024, 1024, 64 * 1024 * 1024),
  MAX_CONNECTIONS: integer(20, 1, 1000),
  CONNECTION_TIMEOUT_SECONDS: integer(15, 1, 600),
  STATEMENT_TIMEOUT_SECONDS: integer(0, 0, DAY),
  LOCK_TIMEOUT_SECONDS: integer(0, 0, DAY),
  IDLE_TIMEOUT_SECONDS: integer(300, 0, DAY),
  MAX_LIFETIME_SECONDS: integer(0, 0, 30 * DAY),
  WATERMARK_ADVANCE_SECONDS: integer(30, 0, 30 * DAY),
  HEARTBEAT_SECONDS: integer(300, 1, DAY),
  FULL_SWEEP_INTERVAL_SECONDS: integer(3600, 1, 30 * DAY),
  RECONCILE_INTERVAL_SECONDS: integer(3600, 1, 30 * DAY),
  MAX_DELETE_PERCENT: integer(5, 0, 100),
  CDC_LOG_DIR: folder('data/cdc_logs'),
  LOG_DIR: folder('logs'),
  LOG_ROTATE_BYTES: integer(10 * 1024 * 1024, 10_000, 10_000_000_000),
  LOG_ROTATE_FILES: integer(14, 1, 1000),
  SHUTDOWN_TIMEOUT_SECONDS: integer(30, 1, 3600),
  METRICS_HOST: text('127.0.0.1'),
  METRICS_PORT: integer(9464, 0, 65_535),
  TIDEMARK_RUN_DIR: folder('data/run'),
  CDC_LOG_RETENTION_DAYS: integer(0, 0, 36_500),
  ABSORBED_RETENTION_DAYS: integer(0, 0, 36_500),
  RUN_RETENTION_DAYS: integer(0, 0, 36_500),
  DIMENSIONS_DIR: text('migrations/dimensions'),
  TIDEMARK_DATA_DIR: folder('data/postgres'),
});

export type Environment = z.infer<typeof environmentSchema>;

/** Names of every setting, for documentation tests. */
export const SETTING_NAMES: readonly string[] = [
  ...Object.keys(environmentSchema.shape),
  'ENV_FILE',
  ...Object.keys(ALIASES),
];
