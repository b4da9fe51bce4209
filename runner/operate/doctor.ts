import { inspectChains } from '../change-log/inspect.js';
import { freeBytes } from '../change-log/known-mappings.js';
import type { DatabaseSettings, Settings } from '../base/settings.js';
import { explainDatabaseError, withDatabase, type Database } from '../base/database.js';
import { TidemarkError } from '../base/errors.js';
import { migrationStatus } from '../warehouse/migrate.js';
import { tableHealth, untouchedRows, type TableHealth } from '../source/health.js';
import { missingRight, readHorizon } from '../source/horizon.js';
import { isSameServer, readIdentity } from '../source/server.js';
import { describeTable, type SourceTable } from '../source/table.js';
import { dimensionMappings } from '../warehouse/batches.js';
import type { DimensionMapping } from '../batch/mapping.js';

export interface Finding {
  readonly status: 'ok' | 'warning' | 'error';
  /** What was looked at: a database, a table, the change log. */
  readonly subject: string;
  readonly message: string;
  /** What to do; undefined where all is well. */
  readonly remedy?: string | undefined;
}

const OLDEST_VERSION = 150_000;
const LARGEST_CLOCK_DIFFERENCE_SECONDS = 1;
const OLD_TRANSACTION_SECONDS = 300;
const LEAST_FREE_BYTES = 1024 ** 3;

const ok = (subject: string, message: string): Finding => ({ status: 'ok', subject, message });
const warning = (subject: string, message: string, remedy: string): Finding => ({
  status: 'warning',
  subject,
  message,
  remedy,
});
const failure = (subject: string, error: unknown): Finding => {
  const known = error instanceof TidemarkError ? error : undefined;
  return {
    status: 'error',
    subject,
    message: error instanceof Error ? error.message : String(error),
    remedy: known?.hint,
  };
};

/** Looks at everything a run needs, and changes no data. What cannot be looked at because something else failed is left out. */
export async function examine(settings: Settings): Promise<Finding[]> {
  const mappings: DimensionMapping[] = [];
  const findings = [
    ...examineNames(settings),
    ...(await examineDatabase(settings.warehouse, async (warehouse) => {
      const found = await examineMigrations(settings);
      if (found.every(({ status }) => status !== 'error')) mappings.push(...(await dimensionMappings(warehouse)));
      return found;
    })),
    ...(await examineDatabase(settings.source, async (source) => [
      ...(await examineRights(source, settings)),
      ...(await examineTables(source, settings, mappings)),
    ])),
    ...(await examineClocks(settings)),
    await examineDisk(settings),
  ];
  return findings;
}

function examineNames({ unknown_names }: Settings): Finding[] {
  if (unknown_names.length === 0) return [];
  return [
    warning(
      'settings',
      `the file of settings has names that are no settings: ${unknown_names.join(', ')}`,
      'correct what is misspelt (.env.example has every setting); what is there for another program does no harm',
    ),
  ];
}

async function examineDatabase(
  settings: DatabaseSettings,
  more: (database: Database) => Promise<Finding[]>,
): Promise<Finding[]> {
  const { role } = settings;
  try {
    return await withDatabase(settings, 'doctor', async (database) => {
      const [facts] = await database<[{ number: number; version: string; encoding: string }]>`
        select current_setting('server_version_num')::integer as number, current_setting('server_version') as version,
          current_setting('server_encoding') as encoding`;
      const findings = [ok(role, `PostgreSQL ${facts.version} answers at ${settings.host}:${String(settings.port)}`)];
      if (facts.number < OLDEST_VERSION)
        findings.push({
          status: 'error',
          subject: role,
          message: `PostgreSQL ${facts.version} is too old`,
          remedy: 'use 15 or newer',
        });
      if (facts.encoding !== 'UTF8')
        findings.push(
          warning(
            role,
            `the encoding is ${facts.encoding}: reconcile compares bytes, and would find every text that is not ASCII to differ`,
            'use a database in UTF8',
          ),
        );
      return [...findings, ...(await more(database))];
    });
  } catch (error) {
    return [failure(role, explainDatabaseError(error, settings))];
  }
}

async function examineMigrations(settings: Settings): Promise<Finding[]> {
  const pending = (await migrationStatus(settings.warehouse, settings.dimensions_dir)).filter(
    ({ state }) => state === 'pending',
  );
  if (pending.length === 0) return [ok('warehouse', 'no migration is pending')];
  return [
    {
      status: 'error',
      subject: 'warehouse',
      message: `migrations are pending: ${pending.map(({ migration }) => migration).join(', ')}`,
      remedy: 'run: npm run migrate',
    },
  ];
}

async function examineRights(source: Database, settings: Settings): Promise<Finding[]> {
  const horizon = await readHorizon(source, undefined);
  const right = await missingRight(source);
  const margin = `WATERMARK_ADVANCE_SECONDS (${String(settings.watermark_advance_seconds)})`;
  const findings =
    right === undefined && horizon.blind_sessions === 0
      ? [ok('source', `user ${settings.source.user} sees when the transactions of others began`)]
      : [
          warning(
            'source',
            `user ${settings.source.user} does not see when the transactions of others began: a row that commits more than ${margin} after its stamp is missed until the next full sweep`,
            right === undefined
              ? 'set track_activities = on for the roles that turned it off'
              : `as a superuser of the source: ${right}`,
          ),
        ];
  const old = horizon.open_transactions.filter(
    ({ since }) =>
      since === '-infinity' || Date.parse(horizon.clock) - Date.parse(since) > OLD_TRANSACTION_SECONDS * 1000,
  );
  for (const { who, since, transaction } of old)
    findings.push(
      warning(
        'source',
        `a transaction is open since ${since === '-infinity' ? 'nobody knows when' : since} (${who}): nothing is lost, but each sweep looks back that far once it ends`,
        transaction === null
          ? 'see what its client waits for, or: select pg_terminate_backend(<process>)'
          : 'commit prepared or rollback prepared it (see pg_prepared_xacts)',
      ),
    );
  return findings;
}

async function examineTables(
  source: Database,
  settings: Settings,
  mappings: readonly DimensionMapping[],
): Promise<Finding[]> {
  const findings: Finding[] = [];
  for (const mapping of mappings) {
    const subject = `table ${mapping.dimension_name}`;
    try {
      const described = await describeTable(source, mapping);
      const health = await tableHealth(source, described, mapping);
      const found = [
        ...describeFindings(subject, mapping, described, health),
        ...(await examineLog(subject, source, settings, mapping, health)),
      ];
      findings.push(...(found.length === 0 ? [ok(subject, `${described.relation} can be extracted`)] : found));
    } catch (error) {
      findings.push(failure(subject, explainDatabaseError(error, settings.source)));
    }
  }
  return findings;
}

function describeFindings(
  subject: string,
  mapping: DimensionMapping,
  described: SourceTable,
  health: TableHealth | undefined,
): Finding[] {
  const findings: Finding[] = [];
  const effective = mapping.columns.find(({ role }) => role === 'effective time')?.source ?? '';
  if (health?.is_readable === false)
    findings.push({
      status: 'error',
      subject,
      message: `${described.relation} may not be read`,
      remedy: `as its owner: grant select on ${described.relation} to the role of DB_USER`,
    });
  if (health?.is_hidden === true)
    findings.push({
      status: 'error',
      subject,
      message: `a policy of row-level security of ${described.relation} applies to the role of DB_USER`,
      remedy: 'rows that it hides cannot be extracted. As a superuser of the source: alter role <role> bypassrls',
    });
  if (described.fallback !== null)
    findings.push(
      warning(
        subject,
        `${described.fallback}: read by times alone, with repeats`,
        'register the table behind it, or extract from the primary',
      ),
    );
  else if (!described.has_serving_index)
    findings.push(
      warning(
        subject,
        'no index serves extraction: each page reads the whole table',
        `on the source: ${described.index_statement}`,
      ),
    );
  if (described.may_be_undated)
    findings.push(
      warning(
        subject,
        `${effective} may be null: such rows are rejected`,
        `on the source: alter table ${described.relation} alter column ${effective} set not null`,
      ),
    );
  if (health?.is_local_time === true && mapping.source_time_zone !== 'UTC')
    findings.push(
      warning(
        subject,
        `${effective} has no time zone and is read as ${mapping.source_time_zone}: an hour comes twice when clocks are set back`,
        'use timestamptz at the source',
      ),
    );
  if (health?.is_partitioned === true)
    findings.push(
      warning(
        subject,
        'rows that come by ATTACH PARTITION carry old transaction numbers: extraction does not see them',
        'after an ATTACH: npx tidemark reconcile --repair',
      ),
    );
  return findings;
}

/** What the change log tells of a table: whether its source is still the same, and whether updates touch their time. */
async function examineLog(
  subject: string,
  source: Database,
  settings: Settings,
  mapping: DimensionMapping,
  health: TableHealth | undefined,
): Promise<Finding[]> {
  const known = (await inspectChains(settings.cdc_log_dir, mapping.dimension_name)).flatMap(
    (chain) => chain.newest ?? [],
  );
  const newest = known.sort((one, other) => (one.extracted_at < other.extracted_at ? -1 : 1)).at(-1);
  if (newest === undefined) return [];
  if (!isSameServer(await readIdentity(source), newest))
    return [
      {
        status: 'error',
        subject,
        message: 'the source is not the database this change log was extracted from',
        remedy: 'after a restore or failover: npx tidemark reconcile --repair',
      },
    ];
  if (newest.full_sweep === null || health === undefined) return [];
  const untouched = await untouchedRows(source, health, newest.full_sweep);
  if (untouched === 0) return [];
  return [
    warning(
      subject,
      `${String(untouched)} rows of a sample were written since ${newest.full_sweep.clock} and stamped long before: some updates do not touch their effective time, and are found by full sweeps only`,
      'let every update set the column (a trigger), or lower FULL_SWEEP_INTERVAL_SECONDS',
    ),
  ];
}

async function examineClocks(settings: Settings): Promise<Finding[]> {
  const clock = (database: Database) =>
    database<[{ seconds: string }]>`select extract(epoch from clock_timestamp())::text as seconds`.then(
      ([{ seconds }]) => Number(seconds),
    );
  try {
    return await withDatabase(settings.source, 'doctor', (source) =>
      withDatabase(settings.warehouse, 'doctor', async (warehouse) => {
        const before = await clock(source);
        const between = await clock(warehouse);
        const after = await clock(source);
        const difference = between < before ? between - before : Math.max(0, between - after);
        const text = `${Math.abs(difference).toFixed(3)} s`;
        if (Math.abs(difference) <= LARGEST_CLOCK_DIFFERENCE_SECONDS)
          return [ok('clocks', `the clocks of source and warehouse agree (${text} apart)`)];
        return [
          warning(
            'clocks',
            `the clock of the warehouse is ${text} ${difference > 0 ? 'ahead of' : 'behind'} that of the source: lags are wrong by that much`,
            'synchronise both with NTP',
          ),
        ];
      }),
    );
  } catch {
    return [];
  }
}

async function examineDisk(settings: Settings): Promise<Finding> {
  try {
    const free = await freeBytes(settings.cdc_log_dir);
    const text = `${(free / 1024 ** 3).toFixed(1)} GiB are free for the change log in ${settings.cdc_log_dir}`;
    return free >= LEAST_FREE_BYTES
      ? ok('change log', text)
      : warning('change log', text, 'free some room, or set CDC_LOG_DIR to another disk');
  } catch (error) {
    return failure('change log', error);
  }
}
