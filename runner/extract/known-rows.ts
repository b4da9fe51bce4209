import type { Settings } from '../base/settings.js';
import type { BatchMetadata } from '../batch/metadata.js';
import { NOTHING_KNOWN, type SourceTable } from '../source/table.js';

/** What a chain has written and may read again, as the source keeps it for itself (sql/source/describe_table.sql): it only passes through here. */
export interface Memory {
  /** For the next page to leave out. */
  readonly known: () => string;
  /** Takes in the memory of a page once the checkpoint that it counts by is there: the newest of the chain, undefined before the first. */
  readonly keep: (newest: BatchMetadata | undefined, memory: string) => void;
}

/** Whose memory it is. */
export interface MemoryOwner {
  readonly settings: Settings;
  /** Table, or table and shard. */
  readonly chain: string;
  readonly described: SourceTable;
}

interface Kept {
  readonly mark: string;
  readonly memory: string;
}

/** For as long as the process lives: a watching extractor has a memory, one that begins has none, and repeats. */
const memories = new WeakMap<Settings, Map<string, Kept>>();

/**
 * Goes on with what this process last kept of a chain. It is forgotten where the newest checkpoint is not the one it was kept with (another
 * writer, a rewind, a repair, a folder that was lost), and where rows are read in another way.
 * @param newest the newest checkpoint of the chain
 * @param isForgotten true to begin with nothing: every row is to be written again
 */
export function recallMemory(owner: MemoryOwner, newest: BatchMetadata | undefined, isForgotten: boolean): Memory {
  const chains = memories.get(owner.settings) ?? new Map<string, Kept>();
  memories.set(owner.settings, chains);
  const kept = chains.get(owner.chain);
  let known =
    !isForgotten && newest !== undefined && kept?.mark === markOf(owner, newest) ? kept.memory : NOTHING_KNOWN;
  return {
    known: () => known,
    keep: (checkpoint, memory) => {
      known = memory;
      if (checkpoint !== undefined) chains.set(owner.chain, { mark: markOf(owner, checkpoint), memory });
    },
  };
}

/** Equal marks stand at one place of one chain, which is of one server, and read rows alike: the query names table, columns, types and conditions. */
const markOf = ({ described }: MemoryOwner, { sequence, extracted_at }: BatchMetadata): string =>
  JSON.stringify([sequence, extracted_at, described.first_page]);
