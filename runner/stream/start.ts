import type { Database } from '../base/database.js';
import { TidemarkError } from '../base/errors.js';
import { logger } from '../base/logger.js';
import { lsnOf, lsnText, readForks, type Forks, type Lsn, type ReplicationStart } from '../base/replication.js';
import type { Settings } from '../base/settings.js';
import type { DimensionMapping } from '../batch/mapping.js';
import { batchMetadataSchema, quietCheckpoint, type BatchMetadata, type LogPlace } from '../batch/metadata.js';
import { checkpointSequences, newestCheckpoint, openChangeLog, readCheckpoint } from '../change-log/chain.js';
import type { ChangeLog } from '../change-log/chain.js';
import { publishCheckpoint, removeUnpublished } from '../change-log/publish.js';
import { readPublication, readSlot, type Publication, type SlotState } from '../source/log.js';
import { isSameServer, readIdentity, sharedUpTo, type SourceIdentity } from '../source/server.js';
import { ensurePositionFolder, isoOf, microsOf, readPosition, slotOf, type Position } from './position.js';
import type { ReaderStart } from './reader.js';
import { assertServes, entryOf, noPublication, unsent, wasAltered } from './slot.js';
import { followTable, sayStopped, stopTable, type FollowedTable } from './table.js';

/** Where a reader goes on: from its own files, never from what the server thinks. */

/**
 * Notes that a table is followed in the log from a place on: what was committed before, its chain has. That is the end of a hand-off.
 * @param newest its newest checkpoint, of the sweep that is gone on from
 * @throws AlreadyPublishedError if somebody else has written to the chain
 */
export async function beginFollowing(
  log: ChangeLog,
  newest: BatchMetadata,
  start: Pick<LogPlace, 'slot' | 'to' | 'after' | 'gap'> & Partial<Pick<LogPlace, 'entry'>>,
): Promise<BatchMetadata> {
  const place = { ...start, from: start.to, last_commit_time: newest.extracted_at, inside: null };
  return notePlace(log, newest, { log: place });
}

/** A checkpoint that says where a chain stands, and of which server. */
async function notePlace(
  log: ChangeLog,
  newest: BatchMetadata,
  said: Partial<SourceIdentity> & { readonly log: Partial<LogPlace> },
): Promise<BatchMetadata> {
  const place = { ...said.log, commits: 0, unchanged: 0 };
  const metadata = batchMetadataSchema.parse({ ...quietCheckpoint(newest), ...said, log: place });
  await publishCheckpoint(log, metadata);
  return metadata;
}

/** Where a chain stands in the log. Where the table was polled since, sweeps have read what the log has from there on. */
export type PlaceInLog = LogPlace & Readonly<{ isPolled: boolean }>;

/** The place of the chain of a table in the log of a slot; undefined where it was never handed over to it. A repair in between says nothing of it. */
export async function placeInLog(log: ChangeLog, newest: BatchMetadata, slot: string): Promise<PlaceInLog | undefined> {
  if (newest.log != null) return newest.log.slot === slot ? { ...newest.log, isPolled: false } : undefined;
  let isPolled = false;
  for (const sequence of (await checkpointSequences(log)).reverse()) {
    const checkpoint = await readCheckpoint(log, sequence);
    if (checkpoint === undefined) continue;
    const { log: place } = checkpoint;
    if (place != null) return place.slot === slot ? { ...place, isPolled } : undefined;
    isPolled ||= place === undefined;
  }
  return undefined;
}

/** What is known of all tables before one is looked at. */
export interface KnownLog {
  readonly slot: string;
  readonly publication: string;
  readonly state: SlotState | undefined;
  readonly published: Publication | undefined;
  readonly identity: SourceIdentity;
  /** Where timelines of the past of this server were left. */
  readonly forks: Forks;
  /** How far the reader had come, on this server. */
  readonly position: Position | undefined;
  /** What the file of positions says, whichever server it is of. */
  readonly noted: Lsn;
}

export async function readKnownLog(source: Database, settings: Settings): Promise<KnownLog> {
  const { slot, publication } = slotOf(settings);
  const state = await readSlot(source, slot);
  const published = await readPublication(source, publication);
  const identity = await readIdentity(source);
  const noted = await readPosition(settings.cdc_log_dir, slot);
  const forks = await readForks(settings.source, identity.timeline ?? 1);
  const shared = noted === undefined ? 0n : sharedUpTo(identity, forks, noted);
  // What another server wrote after it was left is not in this log: of each table it is said.
  const position = noted && shared > 0n ? { ...noted, to: lsnText(least(lsnOf(noted.to), shared)) } : undefined;
  return { slot, publication, state, published, identity, forks, position, noted: lsnOf(noted?.to ?? '0/0') };
}

/**
 * Opens the chains of tables that are captured from the log, and finds where to go on. A table of which something is not in the log any more is
 * stopped, by name; the others go on.
 * @param ledger the newest batch of each table that was loaded: it counts where the change log is behind
 * @throws TidemarkError if the slot cannot serve, or is of another server
 */
export async function openTables(
  source: Database,
  settings: Settings,
  mappings: readonly DimensionMapping[],
  ledger: ReadonlyMap<string, BatchMetadata | undefined>,
): Promise<ReaderStart & ReplicationStart> {
  const known = await readKnownLog(source, settings);
  const { slot, publication, state, position, identity } = known;
  assertServes(slot, state, settings.source.database);
  if (known.published === undefined) throw noPublication(publication);
  await ensurePositionFolder(settings.cdc_log_dir, slot);
  const tables: FollowedTable[] = [];
  for (const mapping of mappings) {
    const table = await openTable(settings, known, mapping, ledger.get(mapping.dimension_name));
    if (table !== undefined) tables.push(table);
  }
  const following = tables.filter(({ stopped }) => stopped === null);
  const first = following.reduce<FollowedTable | undefined>(
    (least, each) => (least !== undefined && least.to <= each.to ? least : each),
    undefined,
  );
  const from = first?.to ?? lsnOf(position?.to ?? state.confirmed ?? '0/0');
  // Times follow from each other in the log: those of what is read once more come out as they were.
  const lastTime = microsOf(first?.lastCommitTime ?? position?.last_commit_time ?? isoOf(0n));
  return {
    ...{ settings, source, identity, slot, publication, encoding: state.encoding },
    ...{ tables, from, lastTime, known: known.noted },
  };
}

async function openTable(
  settings: Settings,
  known: KnownLog,
  mapping: DimensionMapping,
  inLedger: BatchMetadata | undefined,
): Promise<FollowedTable | undefined> {
  const { dimension_name: name } = mapping;
  const { slot } = known;
  const log = await openChangeLog(settings.cdc_log_dir, name);
  const checkpoint = await newestCheckpoint(log);
  await removeUnpublished(log, checkpoint);
  const newest = (inLedger?.sequence ?? 0) > (checkpoint?.sequence ?? 0) ? inLedger : checkpoint;
  const place = newest && (await placeInLog(log, newest, slot));
  const hint = `hand it over: npx tidemark table capture ${name} log`;
  if (newest === undefined || place === undefined) {
    sayStopped(
      name,
      new TidemarkError(`${name} was never handed over to the log`, { detail: `table=${name} slot=${slot}`, hint }),
    );
    return undefined;
  }
  const { fault, ...stand } = standOf(known, mapping, newest, place);
  const hasMoved = fault === null && !isSameServer(known.identity, newest);
  if (hasMoved) logger.info({ table: name }, 'the source was failed over: its log goes on where it was read to');
  const noted = hasMoved ? await notePlace(log, newest, { ...known.identity, log: place }) : newest;
  const table = followTable({ mapping, log, newest: noted, ...stand }, place);
  if (fault === null) return table;
  const { at, reason } = fault;
  stopTable(table, at, reason);
  sayStopped(name, new TidemarkError(reason, { detail: `table=${name} slot=${slot} since=${at}`, hint }));
  return table;
}

const least = (one: Lsn, other: Lsn): Lsn => (one < other ? one : other);

export interface Stand {
  readonly to: Lsn;
  readonly lastCommitTime: string;
  readonly publication: string;
  readonly fault: { readonly at: string; readonly reason: string } | null;
}

/** How far a table has come in the log, and where and why it cannot go on, if so. */
export function standOf(
  { slot, state, position, published, identity, forks }: KnownLog,
  mapping: DimensionMapping,
  newest: BatchMetadata,
  place: PlaceInLog,
): Stand {
  const { dimension_name: name } = mapping;
  const before = position?.tables[name];
  const covered = before?.stopped === null && before.sequence <= newest.sequence && position !== undefined;
  const last = covered && lsnOf(position.to) > lsnOf(place.to) ? position : place;
  const to = lsnOf(last.to);
  const entry = published && entryOf(published, mapping, newest);
  const isLost = state?.confirmed == null || state.wal_status === 'lost';
  const confirmed = isLost ? to : lsnOf(state.confirmed);
  const stopped = before?.stopped;
  // A part of a transaction, and a snapshot that leaves some out, must be of the past of this server too.
  const read = [to, lsnOf(place.after?.until ?? last.to), place.inside === null ? to : lsnOf(place.inside.commit) + 1n];
  const shared = sharedUpTo(identity, forks, newest);
  const isElsewhere = read.some((each) => each > shared);
  const reason = place.isPolled
    ? `${name} was polled since it was read from the log`
    : isElsewhere
      ? `the source is not the server that the log of ${name} was read from: it was failed over, or restored, or DB_HOST, DB_PORT or DB_NAME are wrong`
      : isLost
        ? `the replication slot ${slot} is lost`
        : (unsent(published, mapping, newest) ??
          (stopped == null && (place.entry ?? before?.publication ?? entry) !== entry
            ? wasAltered(name)
            : confirmed > to
              ? `changes of ${name} between ${lsnText(to)} and ${lsnText(confirmed)} are not in the log any more`
              : null));
  const isStopped = stopped != null && lsnOf(place.to) <= lsnOf(stopped.at);
  const fault = isStopped ? stopped : reason === null ? null : { at: lsnText(least(to, shared)), reason };
  return { to, lastCommitTime: last.last_commit_time, publication: entry ?? '', fault };
}
