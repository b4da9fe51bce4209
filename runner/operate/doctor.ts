import { statfs } from 'node:fs/promises';
import { changeLogOf } from '../change-log/chain.js';
import { inspectChains } from '../change-log/inspect.js';
import { readForgettings } from '../change-log/rewrite.js';
import { ensurePrivateFolder } from '../base/durable-file.js';
import type { DatabaseSettings, Settings } from '../base/settings.js';
import { explainDatabaseError, withDatabase, type Database } from '../base/database.js';
import { failure, notesOn, ok, type Finding } from './finding.js';
import { partitioningAt } from './partition.js';
import { examineStream, type TableLook } from './log-health.js';
import { migrationStatus } from '../warehouse/migrate.js';
import { tableHealth, untouchedRows, type TableHealth } from '../source/health.js';
import { missingRight, readHorizon } from '../source/horizon.js';
import { impatient, whileReading } from '../source/locked.js';
import { isSameServer, readIdentity } from '../source/server.js';
import { describeTable, type SourceTable } from '../source/table.js';
import { exportNotes, placeOfExport } from '../warehouse/exports.js';
import { openForgettings } from '../warehouse/forgetting.js';
import { browseIndexes, clusterFaults, dimensionMappings } from '../warehouse/functions.js';
import { openPartitionings } from '../warehouse/partitions.js';
import { isLogged, type DimensionMapping } from '../batch/mapping.js';

const OLDEST_VERSION = 150_000;
const LARGEST_CLOCK_DIFFERENCE_SECONDS = 1;
const OLD_TRANSACTION_SECONDS = 300;
const LEAST_FREE_BYTES = 1024 ** 3;

/** Looks at everything a run needs, and changes no data. What cannot be looked at because something else failed is left out. */
export async function examine(settings: Settings): Promise<Finding[]> {
  const mappings: DimensionMapping[] = [];
  return [
    ...(await examineDatabase(settings.warehouse, async (warehouse) => {
      const found = await examineMigrations(settings);
      if (found.every(({ status }) => status !== 'error')) mappings.push(...(await dimensionMappings(warehouse)));
      if (mappings.length === 0) return found;
      return [
        ...found,
        ...(await examineHistories(warehouse)),
        ...(await examinePartitionings(warehouse)),
        ...(await examineCluster(warehouse)),
        ...(await examineForgotten(warehouse, settings, mappings)),
      ];
    })),
    ...(await examineDatabase(settings.source, async (source) => {
      const { findings, lookAt } = await examineStream(source, settings, mappings);
      return [
        ...(await examineRights(source, settings)),
        ...findings,
        ...(await examineTables(source, settings, mappings, lookAt)),
        ...sayDeletes(mappings),
      ];
    })),
    ...(await examineClocks(settings)),
    ...(await examineDisk(settings)),
  ];
}

async function examineDatabase(settings: DatabaseSettings, more: (database: Database) => Promise<Finding[]>) {
  const { role } = settings;
  try {
    return await withDatabase(impatient(settings), 'doctor', async (database) => {
      const [facts] = await database<[{ number: number; version: string; encoding: string }]>`
        select current_setting('server_version_num')::integer as number, current_setting('server_version') as version,
          current_setting('server_encoding') as encoding`;
      const { findings, warn, fail } = notesOn(role);
      fail(facts.number < OLDEST_VERSION, `PostgreSQL ${facts.version} is too old`, 'use 15 or newer');
      warn(
        facts.encoding !== 'UTF8',
        facts.encoding === 'SQL_ASCII' && role === 'source'
          ? 'the encoding is SQL_ASCII: a row that is no valid UTF-8 is set aside by the load ("npx tidemark rejected"), and reconcile shows it and cannot repair it'
          : `the encoding is ${facts.encoding}: reconcile compares bytes, and would find every text that is not ASCII to differ`,
        'use a database in UTF8',
      );
      const answer = `PostgreSQL ${facts.version} answers at ${settings.host}:${settings.port}`;
      return [ok(role, answer), ...findings, ...(await more(database))];
    });
  } catch (error) {
    return [failure(role, explainDatabaseError(error, settings))];
  }
}

async function examineMigrations(settings: Settings): Promise<Finding[]> {
  const all = await migrationStatus(settings.warehouse, settings.dimensions_dir);
  const pending = all.filter(({ state }) => state === 'pending').map(({ migration }) => migration);
  const { findings, fail } = notesOn('warehouse');
  fail(pending.length > 0, `migrations are pending: ${pending.join(', ')}`, 'run: npx tidemark migrate');
  return findings.length > 0 ? findings : [ok('warehouse', 'no migration is pending')];
}

/** From so many versions on, reading all of them for what happened between two moments takes seconds. */
const MANY_VERSIONS = 1_000_000;

async function examineHistories(warehouse: Database): Promise<Finding[]> {
  const large = (await browseIndexes(warehouse)).filter(
    ({ is_on, versions }) => !is_on && Number(versions) > MANY_VERSIONS,
  );
  return large.map(({ dimension_name: name, versions }) =>
    ok(
      `table ${name}`,
      `about ${versions} versions: where what happened between two moments is asked often, "npx tidemark table browse ${name} on" makes indexes for it`,
    ),
  );
}

/** Copies of histories that nobody is at any more: they take room, and each load notes for them what it writes. */
async function examinePartitionings(warehouse: Database): Promise<Finding[]> {
  return (await openPartitionings(warehouse)).flatMap((open) => {
    const { findings, warn } = notesOn(`table ${open.dimension_name}`);
    const { what, size, remedy } = partitioningAt(open);
    warn(!open.is_running, `the copy of its history with ${what} was cut off: ${size}`, remedy);
    return findings;
  });
}

/** The nodes that distributed histories live on; nothing where there are none. */
const examineCluster = async (warehouse: Database): Promise<Finding[]> =>
  (await clusterFaults(warehouse)).map(({ subject, fault: message, remedy }) => ({
    status: 'error',
    ...{ subject, message, remedy },
  }));

/** Whether keys that were forgotten are still, or again, in a table. */
async function examineForgotten(warehouse: Database, settings: Settings, mappings: readonly DimensionMapping[]) {
  const found = mappings.map(async (mapping) => {
    const { dimension_name: name } = mapping;
    // Notes that are closed to this user are left out, as all that is in the folder.
    const noted = await readForgettings(changeLogOf(settings.cdc_log_dir, name, '')).catch(() => '[]');
    const open = await openForgettings(warehouse, name, noted);
    const ticketsOf = (isKnown: boolean) =>
      open.flatMap(({ reference, is_known }) => (is_known === isKnown ? [reference] : [])).join(', ');
    const { findings, warn } = notesOn(subjectOf(mapping));
    warn(
      ticketsOf(false) !== '',
      `the warehouse does not know of keys that were forgotten, as it is from a backup: ${ticketsOf(false)}`,
      `before anything is loaded: npx tidemark forget --again ${name}`,
    );
    warn(
      ticketsOf(true) !== '',
      `a key was not forgotten to the end: ${ticketsOf(true)}`,
      `where nobody is at it, run the same command once more, or: npx tidemark forget --again ${name}`,
    );
    const behind = (await exportNotes(warehouse, name)).filter(({ behind_since }) => behind_since !== null);
    warn(
      behind.length > 0,
      `exports may still hold keys that were forgotten: ${behind.map(placeOfExport).join(', ')}`,
      `export there once more: npx tidemark export ${name} --format parquet --to <folder>; or, where one is no more, with --remove`,
    );
    return findings;
  });
  return (await Promise.all(found)).flat();
}

async function examineRights(source: Database, settings: Settings): Promise<Finding[]> {
  const horizon = await readHorizon(source, undefined);
  const right = await missingRight(source);
  const { user } = settings.source;
  const { findings, warn } = notesOn('source');
  const isSeeing = right === undefined && horizon.blind_sessions === 0;
  if (isSeeing) findings.push(ok('source', `user ${user} sees when the transactions of others began`));
  warn(
    !isSeeing,
    `user ${user} does not see when the transactions of others began: a row that commits more than WATERMARK_ADVANCE_SECONDS (${settings.watermark_advance_seconds}) after its stamp is missed until the next full sweep`,
    right === undefined
      ? 'set track_activities = on for the roles that turned it off'
      : `as a superuser of the source: ${right}`,
  );
  for (const { who, since, transaction } of horizon.open_transactions)
    warn(
      since === '-infinity' || Date.parse(horizon.clock) - Date.parse(since) > OLD_TRANSACTION_SECONDS * 1000,
      `a transaction is open since ${since === '-infinity' ? 'nobody knows when' : since} (${who}): nothing is lost, but each sweep looks back that far once it ends`,
      transaction === null
        ? 'see what its client waits for, or: select pg_terminate_backend(<process>)'
        : 'commit prepared or rollback prepared it (see pg_prepared_xacts)',
    );
  return findings;
}

async function examineTables(
  source: Database,
  settings: Settings,
  mappings: readonly DimensionMapping[],
  lookInLog: TableLook,
): Promise<Finding[]> {
  const findings: Finding[] = [];
  for (const mapping of mappings) {
    const subject = subjectOf(mapping);
    try {
      const looked = whileReading(source, mapping, async () => {
        const described = await describeTable(source, mapping);
        const health = await tableHealth(source, described, mapping);
        const found = [
          ...examineTable(mapping, described, health),
          ...(await examineLog(source, settings, mapping, health)),
          ...(await lookInLog(mapping)),
        ];
        return found.length === 0 ? [ok(subject, `${described.relation} can be extracted`)] : found;
      });
      findings.push(...(await looked));
    } catch (error) {
      findings.push(failure(subject, explainDatabaseError(error, settings.source)));
    }
  }
  return findings;
}

/** How deletes are found, and of which tables they are not. */
function sayDeletes(mappings: readonly DimensionMapping[]): Finding[] {
  const ways = {
    soft: 'by a mark, and by the reconciler',
    reconcile: 'by the reconciler',
    log: 'in the log',
    none: 'not at all',
  };
  const said = Object.entries(ways).flatMap(([way, words]) => {
    const names = mappings.filter(({ deletes }) => deletes === way).map(({ dimension_name }) => dimension_name);
    return names.length === 0 ? [] : `${words}: ${names.join(', ')}`;
  });
  return said.length === 0 ? [] : [ok('deletes', `found ${said.join('; ')}`)];
}

const subjectOf = ({ dimension_name }: DimensionMapping): string => `table ${dimension_name}`;

/** Whether its rows can be read, and found quickly, and what of them extraction cannot see or tell. */
function examineTable(mapping: DimensionMapping, { relation, ...table }: SourceTable, health?: TableHealth): Finding[] {
  const zone = mapping.source_time_zone;
  const effective = mapping.columns.find(({ role }) => role === 'effective time')?.source ?? '';
  const isPolled = !isLogged(mapping);
  const { findings, warn, fail } = notesOn(subjectOf(mapping));
  fail(
    health?.is_hidden === true,
    `a policy of row-level security of ${relation} applies to the role of DB_USER`,
    'rows that it hides cannot be extracted. As a superuser of the source: alter role <role> bypassrls',
  );
  warn(
    table.fallback !== null && isPolled,
    `${table.fallback ?? ''}: read ${table.is_timeless ? 'whole' : 'by times alone'}, with repeats`,
    'grant what it lacks, register the table behind it, or extract from the primary',
  );
  warn(
    table.fallback === null && !table.has_serving_index && isPolled,
    'no index serves extraction: each page reads the whole table',
    `on the source: ${table.index_statement}`,
  );
  warn(
    health?.is_local_time === true && zone !== 'UTC',
    `${effective} has no time zone and is read as ${zone}: an hour comes twice when clocks are set back`,
    'use timestamptz at the source',
  );
  warn(
    health?.is_partitioned === true,
    'rows that come by ATTACH PARTITION carry old transaction numbers: extraction does not see them',
    'after an ATTACH: npx tidemark reconcile --repair',
  );
  return findings;
}

/** What the change log tells of a table: whether its source is still the same, and whether updates touch their time. */
async function examineLog(
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
  const { findings, warn, fail } = notesOn(subjectOf(mapping));
  // Of those in the log it is asked where that was read to.
  if (isLogged(mapping)) return findings;
  const isSame = isSameServer(await readIdentity(source), newest);
  fail(
    !isSame,
    'the source is not the database this change log was extracted from',
    'after a restore or failover: npx tidemark reconcile --repair',
  );
  if (!isSame || newest.full_sweep === null || health === undefined) return findings;
  const untouched = await untouchedRows(source, health, newest.full_sweep);
  warn(
    untouched > 0,
    `${untouched} rows of a sample were written since ${newest.full_sweep.clock} and stamped long before: some updates do not touch their effective time, and are found by full sweeps only`,
    'let every update set the column (a trigger), or lower FULL_SWEEP_INTERVAL_SECONDS',
  );
  return findings;
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
        const apart = `${Math.abs(difference).toFixed(3)} s`;
        const { findings, warn } = notesOn('clocks');
        warn(
          Math.abs(difference) > LARGEST_CLOCK_DIFFERENCE_SECONDS,
          `the clock of the warehouse is ${apart} ${difference > 0 ? 'ahead of' : 'behind'} that of the source: lags are wrong by that much`,
          'synchronise both with NTP',
        );
        return findings.length > 0
          ? findings
          : [ok('clocks', `the clocks of source and warehouse agree (${apart} apart)`)];
      }),
    );
  } catch {
    return [];
  }
}

async function examineDisk(settings: Settings): Promise<Finding[]> {
  try {
    await ensurePrivateFolder(settings.cdc_log_dir);
    const { bavail, bsize } = await statfs(settings.cdc_log_dir);
    const free = bavail * bsize;
    const text = `${(free / 1024 ** 3).toFixed(1)} GiB are free for the change log in ${settings.cdc_log_dir}`;
    const { findings, warn } = notesOn('change log');
    warn(free < LEAST_FREE_BYTES, text, 'free some room, or set CDC_LOG_DIR to another disk');
    return findings.length > 0 ? findings : [ok('change log', text)];
  } catch (error) {
    return [failure('change log', error)];
  }
}
