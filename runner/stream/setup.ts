import { rm } from 'node:fs/promises';
import type { Database } from '../base/database.js';
import { HeldError, TidemarkError, hasCode } from '../base/errors.js';
import type { Settings } from '../base/settings.js';
import { quoteText, quoted } from '../base/sql-text.js';
import type { DimensionMapping } from '../batch/mapping.js';
import { positionFile, readPosition, slotOf } from './position.js';
import { WAL_LEVEL, publishedTables, readSlot, type SlotState } from './slot.js';

/** What the source needs before its log can be read, and what becomes of it again. */

interface WantedTable {
  readonly name: string;
  readonly only: string;
  /** Why it cannot be published, or must not; null where it can. */
  readonly fault: string | null;
  readonly remedy: string | null;
}

/** An update or delete of a table that is published without a replica identity fails, in the application. */
async function lookAtTables(source: Database, mappings: readonly DimensionMapping[]): Promise<WantedTable[]> {
  const wanted = mappings.map(({ source_schema: schema, source_table: name, columns }) => ({
    ...{ schema, name },
    keys: columns.filter(({ role }) => role === 'business key').map(({ source: key }) => key),
  }));
  return source<WantedTable[]>`
    with wanted as (
      select w.*, c.oid, c.relkind, c.relpersistence, format('%I.%I', w.schema, w.name) as shown
      from json_to_recordset(${JSON.stringify(wanted)}::text::json) as w (schema text, name text, keys json)
      left join pg_namespace as n on n.nspname = w.schema
      left join pg_class as c on c.relnamespace = n.oid and c.relname = w.name
    ),
    leaf as (
      select w.schema, w.name, l.oid::regclass as leaf, (
        select count(*) from json_array_elements_text(w.keys) as k (name)
        where k.name not in (
          select a.attname from pg_attribute as a
          left join pg_index as i on i.indrelid = l.oid
            and case l.relreplident when 'd' then i.indisprimary when 'i' then i.indisreplident else false end
          where a.attrelid = l.oid and (l.relreplident = 'f' or a.attnum = any (i.indkey))
        )
      ) as missing_keys,
        l.relreplident = 'f' or exists (
          select from pg_index as i
          where i.indrelid = l.oid and case l.relreplident when 'd' then i.indisprimary when 'i' then i.indisreplident else false end
        ) as has_identity
      from wanted as w
      join pg_class as l on l.relkind = 'r' and (l.oid = w.oid or l.oid in (select t.relid from pg_partition_tree(w.oid) as t))
    )
    select format('%s.%s', w.schema, w.name) as name, case when w.relkind = 'r' then 'only ' else '' end || w.shown as only,
      case
        when w.oid is null then 'does not exist'
        when w.relkind not in ('r', 'p') then 'is no table, so that the log does not know it'
        when w.relpersistence <> 'p' then 'is not in the log, because it is unlogged or temporary'
        when exists (select from leaf as l where (l.schema, l.name) = (w.schema, w.name) and not l.has_identity)
          then 'has no replica identity: once it is published, updates and deletes of the application would fail'
        when exists (select from leaf as l where (l.schema, l.name) = (w.schema, w.name) and l.missing_keys > 0)
          then 'has a replica identity without its business key, so that the log does not say which row was deleted'
      end as fault,
      (
        select string_agg(format('alter table %s replica identity full', l.leaf), '; ')
        from leaf as l where (l.schema, l.name) = (w.schema, w.name) and (not l.has_identity or l.missing_keys > 0)
      ) as remedy
    from wanted as w`;
}

/**
 * The statements that make the publication, then the slot, or what of them is missing: in this order, because changes that were committed
 * without the publication are never sent.
 * @param mappings the tables that are to be published
 * @throws TidemarkError if the server does not write such a log, or publishing a table would break its application
 */
export async function setupStatements(
  source: Database,
  settings: Settings,
  mappings: readonly DimensionMapping[],
): Promise<string[]> {
  const { slot, publication } = slotOf(settings);
  const [server] = await source<{ wal_level: string; version: number; is_via_root: boolean | null }[]>`
    select current_setting('wal_level') as wal_level, current_setting('server_version_num')::integer as version,
      (select p.pubviaroot from pg_publication as p where p.pubname = ${publication}) as is_via_root`;
  if (server?.wal_level !== 'logical')
    throw new TidemarkError('the source does not write what it takes to read its log', {
      detail: `wal_level=${String(server?.wal_level)}`,
      hint: WAL_LEVEL,
    });
  const tables = await lookAtTables(source, mappings);
  const [fault] = tables.filter((table) => table.fault !== null);
  if (fault !== undefined)
    throw new TidemarkError(`source table ${fault.name} ${String(fault.fault)}`, {
      hint: fault.remedy === null ? 'leave it to polling' : `on the source: ${fault.remedy}; or leave it to polling`,
    });
  const published = await publishedTables(source, publication);
  const state = await readSlot(source, slot);
  if (state !== undefined && published === undefined)
    throw new TidemarkError(`the source has the replication slot ${slot}, but not its publication ${publication}`, {
      detail: 'what was committed without the publication is never sent',
      hint: 'drop the slot, then set it up again: npx tidemark stream drop',
    });
  const missing = tables.filter(({ name }) => published?.has(name) !== true).map(({ only }) => only);
  const [name, list] = [quoted(publication), missing.join(', ')];
  const viaRoot = '(publish_via_partition_root = true)';
  const statements =
    published === undefined
      ? [`create publication ${name}${list === '' ? '' : ` for table ${list}`} with ${viaRoot}`]
      : [
          ...(server.is_via_root === true ? [] : [`alter publication ${name} set ${viaRoot}`]),
          ...(list === '' ? [] : [`alter publication ${name} add table ${list}`]),
        ];
  const failover = server.version >= 170_000 ? ', failover => true' : '';
  if (state === undefined)
    statements.push(`select lsn from pg_create_logical_replication_slot(${quoteText(slot)}, 'pgoutput'${failover})`);
  return statements;
}

/** Runs them. A slot waits for every transaction that is open when it is made. */
export async function applySetup(source: Database, statements: readonly string[]): Promise<void> {
  try {
    for (const statement of statements) await source.unsafe(statement);
  } catch (error) {
    if (!hasCode(error, '57014', '53400')) throw error;
    const open = await source<{ pid: number; application_name: string }[]>`
      select pid, application_name from pg_stat_activity where backend_xid is not null and pid <> pg_backend_pid() order by xact_start`;
    throw new TidemarkError((error as Error).message, {
      detail: `open transactions: ${open.map(({ pid, application_name: who }) => `process ${String(pid)} (${who})`).join(', ') || 'none'}`,
      hint: hasCode(error, '53400')
        ? 'on the source: raise max_replication_slots and restart it, or drop a slot that nobody reads'
        : 'a slot waits for the transactions that are open: let them end, then run it again',
      cause: error,
    });
  }
}

/** Drops the slot and the publication, so that the source keeps no log for it. @returns what was there */
export async function dropSlot(source: Database, settings: Settings): Promise<string[]> {
  const { slot, publication } = slotOf(settings);
  const state = await readSlot(source, slot);
  if (state?.active_pid != null)
    throw new HeldError(`a reader holds the replication slot ${slot}: process ${String(state.active_pid)}`, {
      hint: 'stop it first',
    });
  if (state !== undefined) await source`select pg_drop_replication_slot(${slot})`;
  const [found] = await source`select from pg_publication where pubname = ${publication}`;
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
  readonly tables: readonly {
    readonly table: string;
    readonly stopped_at: string | null;
    readonly reason: string | null;
  }[];
}

export async function streamStatus(source: Database, settings: Settings): Promise<StreamStatus> {
  const { slot, publication } = slotOf(settings);
  const state = await readSlot(source, slot);
  const published = await publishedTables(source, publication);
  const position = await readPosition(settings.cdc_log_dir, slot);
  return {
    ...state,
    slot,
    publication,
    is_there: state !== undefined,
    published: published === undefined ? null : [...published.keys()].filter((name) => name.includes('.')),
    position: position?.to ?? null,
    last_commit_time: position?.last_commit_time ?? null,
    tables: Object.entries(position?.tables ?? {}).map(([table, { stopped }]) => ({
      table,
      stopped_at: stopped?.at ?? null,
      reason: stopped?.reason ?? null,
    })),
  };
}
