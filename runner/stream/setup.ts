import { rm } from 'node:fs/promises';
import type { Database } from '../base/database.js';
import { HeldError, TidemarkError } from '../base/errors.js';
import type { Settings } from '../base/settings.js';
import { quoteText, quoted } from '../base/sql-text.js';
import type { DimensionMapping } from '../batch/mapping.js';
import { WAL_LEVEL, assertPublishable, readPublication, readSlot, type SlotState } from '../source/log.js';
import { positionFile, readPosition, slotOf } from './position.js';

/** What the source needs before its log can be read, and what becomes of it again. */

const dropStatement = (slot: string) => `select pg_drop_replication_slot(${quoteText(slot)})`;

/**
 * The statements that make the publication, then the slot, or what of them is missing: in this order, because changes that were committed
 * without the publication are never sent. A slot that is lost serves nobody any more, and is made anew.
 * @param mappings the tables that are to be published
 * @throws TidemarkError if the server does not write such a log, or publishing a table would break its application
 */
export async function setupStatements(
  source: Database,
  settings: Settings,
  mappings: readonly DimensionMapping[],
): Promise<string[]> {
  const { slot, publication } = slotOf(settings);
  const [server] = await source<{ wal_level: string; version: number; is_standby: boolean }[]>`
    select current_setting('wal_level') as wal_level, current_setting('server_version_num')::integer as version,
      pg_is_in_recovery() as is_standby`;
  if (server?.is_standby === true)
    throw new TidemarkError('the source is a standby: publication and slot are made at its primary, and read there', {
      hint: 'set DB_HOST and DB_PORT to the primary; or leave its tables to polling',
    });
  if (server?.wal_level !== 'logical')
    throw new TidemarkError('the source does not write what it takes to read its log', {
      detail: `wal_level=${String(server?.wal_level)}`,
      hint: WAL_LEVEL,
    });
  const tables = await assertPublishable(source, mappings);
  const [found, state] = [await readPublication(source, publication), await readSlot(source, slot)];
  const isLost = state?.wal_status === 'lost';
  if (state !== undefined && !isLost && found === undefined)
    throw new TidemarkError(`the source has the replication slot ${slot}, but not its publication ${publication}`, {
      detail: 'what was committed without the publication is never sent',
      hint: 'drop the slot, then set it up again: npx tidemark stream drop',
    });
  const missing = tables.filter(({ name }) => found?.entries.has(name) !== true).map(({ only }) => only);
  const narrow = tables.filter(({ name }) => found?.narrow.has(name) === true).map(({ only }) => only);
  const [name, list] = [quoted(publication), missing.length === 0 ? '' : `table ${missing.join(', ')}`];
  const viaRoot = 'publish_via_partition_root = true';
  const failover = server.version >= 170_000 ? ', failover => true' : '';
  return [
    isLost && dropStatement(slot),
    found === undefined && `create publication ${name}${list && ` for ${list}`} with (${viaRoot})`,
    found !== undefined &&
      !(found.is_via_root && found.is_whole) &&
      `alter publication ${name} set (publish = 'insert, update, delete, truncate', ${viaRoot})`,
    ...narrow.flatMap((table) => ['drop', 'add'].map((verb) => `alter publication ${name} ${verb} table ${table}`)),
    found !== undefined && list !== '' && `alter publication ${name} add ${list}`,
    (state === undefined || isLost) &&
      `select lsn from pg_create_logical_replication_slot(${quoteText(slot)}, 'pgoutput'${failover})`,
  ].filter((statement) => statement !== false);
}

/** Takes a table out of the publication. */
export function unpublishStatement(settings: Settings, { source_schema, source_table }: DimensionMapping): string {
  const { publication } = slotOf(settings);
  return `alter publication ${quoted(publication)} drop table ${quoted(source_schema)}.${quoted(source_table)}`;
}

/** Takes a table out of the publication, where it is in it. */
export async function unpublish(source: Database, settings: Settings, mapping: DimensionMapping): Promise<void> {
  const found = await readPublication(source, slotOf(settings).publication);
  if (found?.entries.has(`${mapping.source_schema}.${mapping.source_table}`) === true)
    await source.unsafe(unpublishStatement(settings, mapping));
}

const HINTS: Readonly<Record<string, string>> = {
  '42501': 'as a superuser there: what "npx tidemark grants" and "npx tidemark stream setup" print',
  '53400': 'on the source: raise max_replication_slots and restart it, or drop a slot that nobody reads',
  '57014': 'a slot waits for the transactions that are open: let them end, then run it again',
};

/** Runs them. A slot waits for every transaction that is open when it is made. */
export async function applySetup(source: Database, statements: readonly string[]): Promise<void> {
  for (const statement of statements)
    try {
      await source.unsafe(statement);
    } catch (error) {
      const { code = '', message } = error as Error & { readonly code?: string };
      if (HINTS[code] === undefined) throw error;
      const open = await source<{ pid: number; application_name: string }[]>`
        select pid, application_name from pg_stat_activity where backend_xid is not null and pid <> pg_backend_pid() order by xact_start`;
      throw new TidemarkError(`what it takes to read the log cannot be made: ${message}`, {
        detail: `${statement}; open transactions: ${open.map(({ pid, application_name: who }) => `process ${pid} (${who})`).join(', ') || 'none'}`,
        hint: HINTS[code],
        cause: error,
      });
    }
}

/** Drops the slot and the publication, so that the source keeps no log for it. @returns what was there */
export async function dropSlot(source: Database, settings: Settings): Promise<string[]> {
  const { slot, publication } = slotOf(settings);
  const state = await readSlot(source, slot);
  if (state?.held_by != null)
    throw new HeldError(`a reader holds the replication slot ${slot}: ${state.held_by}`, {
      hint: 'stop it first',
    });
  if (state !== undefined) await source.unsafe(dropStatement(slot));
  const found = await readPublication(source, publication);
  if (found !== undefined) await source.unsafe(`drop publication ${quoted(publication)}`);
  await rm(positionFile(settings.cdc_log_dir, slot), { force: true });
  return [
    ...(state === undefined ? [] : [`replication slot ${slot}`]),
    ...(found === undefined ? [] : [`publication ${publication}`]),
  ];
}

export interface StreamStatus extends Partial<SlotState> {
  readonly slot: string;
  readonly publication: string;
  readonly is_there: boolean;
  /** Tables of the publication. */
  readonly published: readonly string[] | null;
  /** How far the change log has come, and since when nothing of a table is taken any more. */
  readonly position: string | null;
  readonly last_commit_time: string | null;
  readonly tables: readonly Readonly<{ table: string; stopped_at: string | null; reason: string | null }>[];
}

export async function streamStatus(source: Database, settings: Settings): Promise<StreamStatus> {
  const { slot, publication } = slotOf(settings);
  const state = await readSlot(source, slot);
  const found = await readPublication(source, publication);
  const position = await readPosition(settings.cdc_log_dir, slot);
  return {
    ...state,
    slot,
    publication,
    is_there: state !== undefined,
    published: found === undefined ? null : [...found.entries.keys()],
    position: position?.to ?? null,
    last_commit_time: position?.last_commit_time ?? null,
    tables: Object.entries(position?.tables ?? {}).map(([table, { stopped }]) => ({
      table,
      stopped_at: stopped?.at ?? null,
      reason: stopped?.reason ?? null,
    })),
  };
}
