import type { Database } from '../base/database.js';
import { TidemarkError } from '../base/errors.js';

/** Which database the source is. Another identity means a restored or failed-over server, or another database. */
export interface SourceIdentity {
  readonly system_identifier: string;
  readonly database_oid: string;
  readonly timeline: number | null;
}

/** Reads the identity of the source server; the timeline is null on a standby. */
export async function readIdentity(source: Database): Promise<SourceIdentity> {
  const [row] = await source<SourceIdentity[]>`
    select system_identifier::text as system_identifier,
      (select d.oid::text from pg_database as d where d.datname = current_database()) as database_oid,
      case when not pg_is_in_recovery()
        then ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer end as timeline
    from pg_control_system()`;
  if (row === undefined) throw new TidemarkError('the source answered without a row');
  return row;
}

/** Whether a change log goes on with this database: a restored or failed-over server is another one. */
export function isSameServer(identity: SourceIdentity, newest: SourceIdentity): boolean {
  const sameTimeline = newest.timeline === null || identity.timeline === null || newest.timeline === identity.timeline;
  return newest.system_identifier === identity.system_identifier && newest.database_oid === identity.database_oid && sameTimeline;
}
