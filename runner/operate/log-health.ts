import type { Database } from '../base/database.js';
import { lsnText, tryReplication } from '../base/replication.js';
import type { Settings } from '../base/settings.js';
import { quoted } from '../base/sql-text.js';
import { isLogged, type DimensionMapping } from '../batch/mapping.js';
import { changeLogOf } from '../change-log/chain.js';
import { inspectChains } from '../change-log/inspect.js';
import { logHealth, type LogHealth } from '../source/health.js';
import { WAL_LEVEL, assertPublishable, type SlotState } from '../source/log.js';
import { readHolds, slotOf } from '../stream/position.js';
import { assertServes, explainStartError, noPublication } from '../stream/slot.js';
import { placeInLog, readKnownLog, standOf, type KnownLog } from '../stream/start.js';
import { failure, notesOn, ok, type Finding } from './finding.js';

/** What "doctor" finds where a table is captured from the write-ahead log of the source. */

/** What there is to say of a table that is captured so; nothing of others. */
export type TableLook = (mapping: DimensionMapping) => Promise<Finding[]>;

type SourceLog = KnownLog & Readonly<{ health: LogHealth }>;

const LARGEST_SHARE = 0.5;
const FIRST_NAMES = 5;

/** Looks at the server, the slot and the publication; tables are looked at one by one. */
export async function examineStream(
  source: Database,
  settings: Settings,
  mappings: readonly DimensionMapping[],
): Promise<{ readonly findings: Finding[]; readonly lookAt: TableLook }> {
  const logged = mappings.filter(isLogged);
  const nothing = { lookAt: () => Promise.resolve([]) };
  if (logged.length === 0) return { ...nothing, findings: [] };
  const { slot, publication } = slotOf(settings);
  const health = await logHealth(source, slot);
  const { findings, warn, fail } = notesOn('log');
  fail(
    health.wal_level !== 'logical',
    `the source does not write what it takes to read its log: wal_level is ${health.wal_level}`,
    WAL_LEVEL,
  );
  if (health.wal_level !== 'logical') return { ...nothing, findings };
  try {
    await tryReplication(settings.source);
  } catch (error) {
    return { ...nothing, findings: [...findings, failure('log', explainStartError(error, slot, publication))] };
  }
  warn(
    !health.is_limited,
    'nothing limits how much log the source keeps for a slot: while no reader confirms, its disk fills up',
    "on the source: alter system set max_slot_wal_keep_size = '<size>', then select pg_reload_conf(); a slot that is lost for it is handed over anew",
  );
  const log = { ...(await readKnownLog(source, settings)), health };
  findings.push(...(await examineSlot(settings, log)), ...examinePublication(log, logged));
  return {
    findings: findings.length > 0 ? findings : [ok('log', `slot ${slot} serves, ${sizesOf(log.state)}`)],
    lookAt: async (mapping) => (isLogged(mapping) ? examineLogged(source, settings, log, mapping) : []),
  };
}

const megabytes = (bytes: string | null | undefined) => `${(Number(bytes ?? 0) / 1024 ** 2).toFixed(1)} MiB`;

const sizesOf = (state: SlotState | undefined): string =>
  `${megabytes(state?.retained_bytes)} are kept for it, ${megabytes(state?.unconfirmed_bytes)} are not confirmed`;

async function examineSlot(settings: Settings, { slot, health, state }: SourceLog): Promise<Finding[]> {
  const { findings, warn, fail } = notesOn('log');
  const hasRoom = state !== undefined || health.has_free_slot;
  fail(
    !hasRoom,
    `the source has no replication slot ${slot}, and none is free: max_replication_slots is ${health.most_slots}`,
    'on the source: raise max_replication_slots and restart it, or drop a slot that nobody reads',
  );
  try {
    if (hasRoom) assertServes(slot, state, settings.source.database);
  } catch (error) {
    return [failure('log', error)];
  }
  const { tables: held } = await readHolds(settings.cdc_log_dir, slot);
  warn(
    held.length > 0,
    `nothing is confirmed to the source while a table is handed over: ${held.join(', ')}`,
    `if no hand-over is at work it was killed: npx tidemark table capture ${held[0] ?? ''} log`,
  );
  const [retained, safe] = [Number(state?.retained_bytes ?? 0), state?.safe_bytes ?? null];
  warn(
    safe !== null && retained / (retained + Math.max(0, Number(safe))) >= LARGEST_SHARE,
    `slot ${slot} may be lost: ${sizesOf(state)}, and ${megabytes(safe)} more are all that the source allows`,
    state?.active_pid == null
      ? 'no reader is at work: npx tidemark start, or npx tidemark stream --watch --load; or raise max_slot_wal_keep_size on the source'
      : 'see why its reader does not come on: npx tidemark logs streamer; or raise max_slot_wal_keep_size on the source',
  );
  return findings;
}

function examinePublication({ publication, state, published }: SourceLog, logged: readonly DimensionMapping[]) {
  // Without a slot both are to be made.
  if (published === undefined) return state === undefined ? [] : [failure('log', noPublication(publication))];
  const { findings, warn, fail } = notesOn('log');
  const known = new Set(logged.map(({ source_schema: schema, source_table: table }) => `${schema}.${table}`));
  const strange = [...published.entries.keys()].filter((name) => !known.has(name));
  const named = strange.slice(0, FIRST_NAMES).map((name) => name.split('.').map(quoted).join('.'));
  fail(
    !published.is_via_root,
    `publication ${publication} sends partitions by their own names`,
    `on the source: alter publication ${quoted(publication)} set (publish_via_partition_root = true)`,
  );
  warn(
    strange.length > 0,
    `publication ${publication} has tables that are not captured from the log: ${named.join(', ')}${strange.length > named.length ? `, and ${strange.length - named.length} more` : ''}`,
    `the source sends them for nothing, and one without a replica identity refuses updates: alter publication ${quoted(publication)} drop table <table>`,
  );
  return findings;
}

/** Whether a table can be published, and its chain goes on in what the slot still has. */
async function examineLogged(source: Database, settings: Settings, log: SourceLog, mapping: DimensionMapping) {
  const { dimension_name: name } = mapping;
  const subject = `table ${name}`;
  const { findings, fail } = notesOn(subject);
  await assertPublishable(source, [mapping]).catch((error: unknown) => findings.push(failure(subject, error)));
  // That is said once.
  if (log.published === undefined || log.state === undefined) return findings;
  const remedy = `hand it over: npx tidemark table capture ${name} log`;
  const newest = (await inspectChains(settings.cdc_log_dir, name)).find(({ shard }) => shard === '')?.newest;
  const place = newest && (await placeInLog(changeLogOf(settings.cdc_log_dir, name), newest, log.slot));
  fail(place === undefined, `${name} was never handed over to the log`, remedy);
  if (newest === undefined || place === undefined) return findings;
  const { to, lastCommitTime, fault } = standOf(log, mapping, newest, place);
  fail(fault !== null, `nothing of it is read from ${fault?.at ?? ''} on: ${fault?.reason ?? ''}`, remedy);
  return findings.length > 0
    ? findings
    : [ok(subject, `it is read from the log, up to ${lsnText(to)}, committed by ${lastCommitTime}`)];
}
