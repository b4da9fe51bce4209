import type { Settings } from '../base/settings.js';
import { logger } from '../base/logger.js';
import { noteNumber } from '../run/measurements.js';
import { sizeLimits, type SizeLimits } from '../run/size-limits.js';

/** How many changes the batches of one table hold, as measured time has it. */
export interface BatchSize {
  /** Most rows to read for the next batch. */
  readonly rows: () => number;
  /** Takes in a page, whether it was published or not: one that BATCH_MAX_BYTES cut short says how many rows fit. */
  readonly read: (page: { readonly rows_read: number; readonly has_more: boolean }) => void;
  /** Takes in how many changes a page held and how long it took from its reading to its being published. */
  readonly measured: (page: { readonly changes: number; readonly seconds: number }) => void;
}

/** A batch that takes so many times the target is slow. The rule and its figures (10 and 60 seconds) are the original's. */
const SLOW = 6;

/** After a page that was cut short, so many times its rows are asked for: the source prints every row it is asked for before it counts bytes. */
const ROOM = 2;
const LEAST_ASKED = 20;

/** The next size after a batch of `size` took `seconds`: twice while quick, half when slow, within the limits. */
export function nextBatchSize(size: number, seconds: number, { least, most, target_seconds }: SizeLimits): number {
  const factor = seconds < target_seconds ? 2 : seconds < SLOW * target_seconds ? 1 : 0.5;
  return Math.max(least, Math.min(most, Math.floor(size * factor)));
}

/** `fitting`: most rows to ask for, as rows of this table are large; no limit where none was met. */
type Standing = Record<'size' | 'ceiling' | 'fitting', number>;

/** Where the sizes stand, for as long as the process lives: a watching extractor goes on from the size it had. */
const standings = new WeakMap<Settings, Map<string, Standing>>();

/**
 * Follows the size of a table's batches through a sweep: it begins with BATCH_SIZE, and a page that is full says that more waits.
 * @param ceiling the greatest size that the ledger says is loaded well (tidemark.suggested_batch_size); undefined while the warehouse is away:
 * then the last one stands
 */
export function startSizing(settings: Settings, table: string, ceiling: number | undefined): BatchSize {
  const limits = sizeLimits(settings);
  const tables = standings.get(settings) ?? new Map<string, Standing>();
  standings.set(settings, tables);
  const standing = tables.get(table) ?? { size: settings.batch_size, ceiling: limits.most, fitting: Infinity };
  tables.set(table, standing);
  standing.ceiling = ceiling ?? standing.ceiling;
  const become = (size: number, why: string) => {
    if (size !== standing.size) logger.debug({ table, from: standing.size, to: size }, `batch size: ${why}`);
    standing.size = size;
    noteNumber('batch_size', table, size);
  };
  become(Math.max(limits.least, Math.min(standing.size, standing.ceiling)), 'as the ledger says batches are loaded');
  const rows = () => Math.min(standing.size, standing.fitting);
  return {
    rows,
    read: ({ rows_read, has_more }) => {
      if (rows_read >= rows()) standing.fitting *= ROOM;
      else if (has_more) standing.fitting = Math.max(LEAST_ASKED, ROOM * rows_read);
    },
    measured: ({ changes, seconds }) => {
      const most = Math.max(limits.least, standing.ceiling);
      const next = nextBatchSize(standing.size, seconds, { ...limits, most });
      // A page that was not full leaves nothing waiting, and its time says nothing of larger ones.
      if (next < standing.size || changes >= standing.size) become(next, 'as pages take');
    },
  };
}
