import { HeldError, TidemarkError, hasCode } from '../base/errors.js';
import type { DimensionMapping } from '../batch/mapping.js';
import type { BatchMetadata } from '../batch/metadata.js';
import { WAL_LEVEL, type Publication, type SlotState } from '../source/log.js';

/** The replication slot and the publication at the source: what they are, and what the server says when they do not serve. */

export const NO_SENDER = new TidemarkError('the source has no session free that would send its log', {
  hint: 'on the source: raise max_wal_senders and restart it, or end a reader that nobody needs',
});

const AGAIN = 'and hand each table over to it: npx tidemark table capture <name> log';
const ANEW =
  'hand each table over, which makes it anew; changes since then come by comparison: npx tidemark table capture <name> log';

/** @throws TidemarkError that says what is wrong with a slot, and what to do */
export function assertServes(slot: string, state: SlotState | undefined, database: string): asserts state is SlotState {
  const detail = `slot=${slot}`;
  if (state === undefined)
    throw new TidemarkError(`the source has no replication slot ${slot}`, {
      detail,
      hint: ANEW,
    });
  if (state.plugin !== 'pgoutput' || state.database !== database || state.has_two_phases)
    throw new TidemarkError(
      `the replication slot ${slot} is not one that Tidemark reads: plugin ${state.plugin}, database ${state.database}${state.has_two_phases ? ', two_phase' : ''}`,
      { detail, hint: 'set STREAM_SLOT to another name, then: npx tidemark stream setup --apply' },
    );
  if (state.wal_status === 'lost')
    throw new TidemarkError(`the replication slot ${slot} is lost: the server has given up the log that it needs`, {
      detail,
      hint: ANEW,
    });
}

/** The entry of a table that is followed, under its name or another one: of that the log speaks when it comes to it. */
export const entryOf = (
  { entries, byOid }: Publication,
  { source_schema, source_table }: DimensionMapping,
  { relation_oid }: BatchMetadata,
): string | undefined => entries.get(`${source_schema}.${source_table}`) ?? byOid.get(String(relation_oid));

/** Why not all that happens to a table is sent; null where it is. */
export function unsent(
  published: Publication | undefined,
  mapping: DimensionMapping,
  newest: BatchMetadata,
): string | null {
  const { dimension_name: name, source_schema: schema, source_table: table } = mapping;
  if (published === undefined || entryOf(published, mapping, newest) === undefined)
    return `${name} is not in the publication any more`;
  if (published.is_whole && !published.narrow.has(`${schema}.${table}`)) return null;
  return `the publication sends some kinds of changes, rows or columns of ${name} only`;
}

export const wasAltered = (table: string): string =>
  `${table} was taken out of the publication and put back, or that was altered: what was committed in between may not be in the log`;

export const noPublication = (publication: string): TidemarkError =>
  new TidemarkError(`the source has no publication ${publication}`, {
    hint: `what was committed without it is not in the log: npx tidemark stream drop, npx tidemark stream setup --apply, ${AGAIN}`,
  });

/**
 * What to do where the server refuses to send. Other errors pass through.
 * @param heldBy who reads from the slot, where that is known
 */
export function explainStartError(error: unknown, slot: string, publication: string, heldBy?: string | null): unknown {
  if (!(error instanceof Error)) return error;
  const known = (message: string, hint: string) =>
    new TidemarkError(message, { detail: `slot=${slot}: ${error.message}`, hint, cause: error });
  if (hasCode(error, '55006'))
    return new HeldError(`another reader holds the replication slot ${slot}`, {
      detail: heldBy ?? error.message,
      hint: 'let it finish, or stop it; of a reader that is gone the server notices within half a minute',
      cause: error,
    });
  if (hasCode(error, '42704')) return error.message.includes('publication') ? noPublication(publication) : error;
  if (hasCode(error, '53300') && error.message.includes('max_wal_senders')) return NO_SENDER;
  if (hasCode(error, '42501'))
    return known(
      'the source does not let this user read its log',
      'as a superuser there: alter role <DB_USER> replication (on managed servers the role that they name for it)',
    );
  // A pooler that was told to ignore "replication" takes the command for SQL.
  if (
    hasCode(error, '08P01') ||
    (hasCode(error, '42601') && /"(START_REPLICATION|IDENTIFY_SYSTEM|TIMELINE_HISTORY)"/.test(error.message))
  )
    return known(
      'what answers at the address of the source does not speak the replication protocol',
      'give DB_HOST and DB_PORT of the server itself, not of a pooler',
    );
  if (hasCode(error, '55000') && error.message.includes('wal_level'))
    return known('the source does not write what it takes to read its log', WAL_LEVEL);
  if (hasCode(error, '55000')) return known(`the replication slot ${slot} is lost`, ANEW);
  return error;
}
