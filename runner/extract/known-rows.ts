import type { Settings } from '../base/settings.js';
import type { BatchMetadata } from '../batch/metadata.js';
import { NO_KNOWN_ROWS, type SourceTable } from '../source/table.js';

/** What a chain has written and may read again, as the source keeps it for itself (sql/source/describe_table.sql): it only passes through here. */
export interface KnownRows {
  /** For the next page to leave out. */
  readonly now: () => string;
  /** Takes in what is known after a page, once the checkpoint that it counts by is there: the newest of the chain, undefined before the first. */
  readonly become: (newest: BatchMetadata | undefined, rows: string) => void;
}

/** For as long as the process lives: a watching extractor knows rows, one that begins knows none, and repeats. */
const knownByChain = new WeakMap<Settings, Map<string, { readonly mark: string; readonly rows: string }>>();

/**
 * Goes on with what this process last knew of a chain. It is forgotten where the newest checkpoint is not the one it was known with (another
 * writer, a rewind, a repair, a folder that was lost), and where rows are read in another way.
 * @param chain table, or table and shard
 * @param newest the newest checkpoint of the chain
 */
export function knownRows(
  settings: Settings,
  chain: string,
  described: SourceTable,
  newest: BatchMetadata | undefined,
): KnownRows {
  const chains = knownByChain.get(settings) ?? new Map<string, { mark: string; rows: string }>();
  knownByChain.set(settings, chains);
  // Equal marks stand at one place of one chain, which is of one server, and read rows alike: the query names table, columns, types and conditions.
  const markOf = ({ sequence, extracted_at }: BatchMetadata) =>
    JSON.stringify([sequence, extracted_at, described.first_page]);
  const before = chains.get(chain);
  let known = newest !== undefined && before?.mark === markOf(newest) ? before.rows : NO_KNOWN_ROWS;
  return {
    now: () => known,
    become: (checkpoint, rows) => {
      known = rows;
      if (checkpoint !== undefined) chains.set(chain, { mark: markOf(checkpoint), rows });
    },
  };
}
